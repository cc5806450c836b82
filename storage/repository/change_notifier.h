#ifndef SCONCE_STORAGE_REPOSITORY_CHANGE_NOTIFIER_H_
#define SCONCE_STORAGE_REPOSITORY_CHANGE_NOTIFIER_H_

#include <functional>
#include <set>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "storage/repository/types.h"

namespace sconce::repository {

// Tells one listener which runs changed, on a thread of its own; several changes of a run that wait become one call.
// Thread-safe.
class ChangeNotifier {
 public:
  ChangeNotifier() = default;
  ~ChangeNotifier() { Stop(); }

  // Once, before the first Notify.
  void Start(std::function<void(const RunName&)> listener);
  // For a change that is in the catalog already.
  void Notify(const RunName& run);
  // `listener` runs in every Notify, on the caller's thread: quick, and it must not call back. Null takes it away; it
  // is not running any more when this returns.
  void SetRevisionListener(std::function<void()> listener);
  // Returns when the listener will not be called any more.
  void Stop();

 private:
  void Work();

  std::function<void(const RunName&)> listener_;  // constant once the thread runs
  std::thread thread_;
  Mutex mu_;
  CondVar changed_;
  std::set<std::pair<std::string, std::string>> waiting_ ABSL_GUARDED_BY(mu_);
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  Mutex revision_mu_;  // held while the listener runs
  std::function<void()> revision_listener_ ABSL_GUARDED_BY(revision_mu_);
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CHANGE_NOTIFIER_H_
