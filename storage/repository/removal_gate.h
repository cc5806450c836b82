#ifndef SCONCE_STORAGE_REPOSITORY_REMOVAL_GATE_H_
#define SCONCE_STORAGE_REPOSITORY_REMOVAL_GATE_H_

#include "base/mutex.h"

namespace sconce::repository {

// Keeps the collector from removing anything while a backup is taken. Thread-safe.
class RemovalGate {
 public:
  // For the collector, around a pass: false while the gate is held. After true, follow with Leave.
  bool Enter();
  void Leave();
  // A pass in progress should end soon: somebody wants to hold the gate.
  bool Wanted() const;

  // For a backup: returns when no pass is in progress; none begins before Release. May be held several times at once.
  void Hold();
  void Release();

 private:
  mutable Mutex mu_;
  CondVar left_;
  int holders_ ABSL_GUARDED_BY(mu_) = 0;
  bool inside_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_REMOVAL_GATE_H_
