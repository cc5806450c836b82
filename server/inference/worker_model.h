#ifndef SCONCE_SERVER_INFERENCE_WORKER_MODEL_H_
#define SCONCE_SERVER_INFERENCE_WORKER_MODEL_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "server/inference/runtime.h"
#include "server/inference/worker_process.h"
#include "server/worker_protocol/channel.h"

namespace sconce::inference {

struct WorkerOptions {
  std::string program;  // path of sconce-torch-worker; "": beside the running program
  absl::Duration load_timeout = absl::Seconds(120);
  absl::Duration run_timeout = absl::Seconds(60);  // of one request, once it runs
  int64_t memory_bytes = 0;  // that a worker may allocate beside its module and weights; 0: half of the machine's
  size_t max_queue = 128;                          // requests that wait
  int64_t max_queue_bytes = int64_t{256} << 20;
  absl::Duration restart_backoff = absl::Milliseconds(100);  // doubles with each death
  absl::Duration max_restart_backoff = absl::Seconds(10);
};

// One model in one worker process, kept alive. A thread of its own runs Supervise(), which starts the process, loads
// the model, hands it one request at a time, and, when it dies, starts it again after a pause. Requests that were
// running or waiting then fail with WORKER_DIED; so do those that come before it is ready again.
//
// Thread-safe. Shared by the supervising thread and the handle that callers hold.
class WorkerModel {
 public:
  WorkerModel(const WorkerOptions& options, ModelSpec spec);

  // Ends when Stop was called or the first load failed. Calls the callbacks of requests.
  void Supervise() ABSL_LOCKS_EXCLUDED(mu_);
  // The outcome of the first load; waits for it.
  absl::StatusOr<ModelSignature> WaitLoaded() ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the process soon, whatever it does. `why` is what a load under way fails with.
  void Stop(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);
  // As Stop, for a model that is not loaded yet only.
  void CancelLoad(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);

  absl::Status Health() const ABSL_LOCKS_EXCLUDED(mu_);
  void Infer(const std::vector<HostTensor>& inputs, absl::Time deadline, InferDone done) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Request {
    uint64_t id = 0;
    worker::OutgoingPacket packet;
    absl::Time deadline;
    InferDone done;
  };

  // Starts a process and loads the model into it. The process is in `process` as soon as there is one.
  absl::StatusOr<ModelSignature> StartAndLoad(std::optional<WorkerProcess>& process);
  absl::StatusOr<worker::Packet> AwaitPacket(WorkerProcess& process, worker::MessageType expected, absl::Time deadline);
  // Serves requests until the process fails or Stop. What it returns says why the running request failed.
  absl::Status Serve(WorkerProcess& process, std::optional<Request>& running) ABSL_LOCKS_EXCLUDED(mu_);
  // Gives a packet to the request it answers, and that to its caller.
  absl::Status Answer(worker::Packet packet, std::optional<Request>& running);
  std::optional<Request> TakeRequest() ABSL_LOCKS_EXCLUDED(mu_);
  // Answers those whose deadline has passed; returns the next deadline.
  absl::Time ExpireWaiting() ABSL_LOCKS_EXCLUDED(mu_);
  void FailWaiting(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status stop() const ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CheckRoom(int64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Interrupt();
  void ClearInterrupt();

  const WorkerOptions options_;
  const ModelSpec spec_;
  UniqueFd interrupt_;  // eventfd: there is a request, or Stop; constant after construction

  mutable Mutex mu_;
  CondVar changed_;  // first_load_, stop_
  std::optional<absl::StatusOr<ModelSignature>> first_load_ ABSL_GUARDED_BY(mu_);
  bool ready_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status stop_ ABSL_GUARDED_BY(mu_);  // OK: go on
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::deque<Request> queue_ ABSL_GUARDED_BY(mu_);
  int64_t queue_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_WORKER_MODEL_H_
