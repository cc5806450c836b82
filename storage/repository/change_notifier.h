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
  // Does nothing without a listener.
  void Notify(const RunName& run);
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
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CHANGE_NOTIFIER_H_
