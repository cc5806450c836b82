#ifndef SCONCE_SERVER_INFERENCE_WORKER_TEMPLATE_H_
#define SCONCE_SERVER_INFERENCE_WORKER_TEMPLATE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "server/inference/worker_process.h"

namespace sconce::inference {

// The process that workers are copies of (docs/adr/0014): loading LibTorch takes a third of a second of a core, copying
// a process that has it some milliseconds. It is started with the first worker and again when it has died; workers do
// not notice. Thread-safe; one worker is started at a time. Destroying it ends the process, not the workers.
class WorkerTemplate {
 public:
  // `gives_way_for` is how long the process may take to start before it gives way less (priority.h).
  WorkerTemplate(std::string program, absl::Duration gives_way_for)
      : program_(std::move(program)), gives_way_for_(gives_way_for) {}
  ~WorkerTemplate();

  // A new worker, which is going to say Hello and is watched with `interrupt` (worker_process.h). `threads` is for one
  // operation, unless OMP_NUM_THREADS is set; 0: one for each core. None: `interrupt` became readable first.
  // TORCH_UNAVAILABLE when there is no such program, or it lacks a library; WORKER_DIED; WORKER_DEADLINE_EXCEEDED;
  // IO_ERROR; INTERNAL_ERROR for a program of another release.
  absl::StatusOr<std::optional<WorkerProcess>> Start(int interrupt, int threads, absl::Time deadline)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Status StartProcess() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::optional<WorkerProcess>> Copy(int interrupt, int threads, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The next packet; none when it was interrupted.
  absl::StatusOr<std::optional<worker::Packet>> Await(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends workers that came when nobody waited for them any more. What the process says beside that is an error.
  absl::Status TakeLateAnswers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `why`, or, when it is the death of the process, how that came.
  absl::Status End(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string program_;
  const absl::Duration gives_way_for_;
  Mutex mu_;
  std::optional<WorkerProcess> process_ ABSL_GUARDED_BY(mu_);
  bool ready_ ABSL_GUARDED_BY(mu_) = false;  // it has said Hello
  absl::Time hurry_at_ ABSL_GUARDED_BY(mu_);
  uint64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  int unanswered_ ABSL_GUARDED_BY(mu_) = 0;  // workers that are asked for
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_WORKER_TEMPLATE_H_
