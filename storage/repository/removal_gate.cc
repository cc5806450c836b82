#include "storage/repository/removal_gate.h"

namespace sconce::repository {

bool RemovalGate::Enter() {
  MutexLock lock(&mu_);
  if (holders_ > 0) return false;
  inside_ = true;
  return true;
}

void RemovalGate::Leave() {
  MutexLock lock(&mu_);
  inside_ = false;
  left_.SignalAll();
}

bool RemovalGate::Wanted() const {
  MutexLock lock(&mu_);
  return holders_ > 0;
}

void RemovalGate::Hold() {
  MutexLock lock(&mu_);
  ++holders_;
  while (inside_) left_.Wait(&mu_);
}

void RemovalGate::Release() {
  MutexLock lock(&mu_);
  --holders_;
}

}  // namespace sconce::repository
