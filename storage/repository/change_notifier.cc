#include "storage/repository/change_notifier.h"

namespace sconce::repository {

void ChangeNotifier::Start(std::function<void(const RunName&)> listener) {
  listener_ = std::move(listener);
  {
    MutexLock lock(&mu_);
    running_ = true;
  }
  thread_ = std::thread([this] { Work(); });
}

void ChangeNotifier::SetRevisionListener(std::function<void()> listener) {
  MutexLock lock(&revision_mu_);
  revision_listener_ = std::move(listener);
}

void ChangeNotifier::Notify(const RunName& run) {
  {
    MutexLock lock(&revision_mu_);
    if (revision_listener_) revision_listener_();
  }
  MutexLock lock(&mu_);
  if (!running_) return;
  waiting_.emplace(run.project, run.run);
  changed_.Signal();
}

void ChangeNotifier::Stop() {
  {
    MutexLock lock(&mu_);
    running_ = false;
    changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

void ChangeNotifier::Work() {
  while (true) {
    RunName run;
    {
      MutexLock lock(&mu_);
      while (running_ && waiting_.empty()) changed_.Wait(&mu_);
      if (!running_) return;
      run = {waiting_.begin()->first, waiting_.begin()->second};
      waiting_.erase(waiting_.begin());
    }
    listener_(run);
  }
}

}  // namespace sconce::repository
