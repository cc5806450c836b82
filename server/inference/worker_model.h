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
#include "server/inference/worker_template.h"
#include "server/worker_protocol/channel.h"

namespace sconce::inference {

struct WorkerOptions {
  std::string program;  // path of sconce-torch-worker; "": beside the running program
  absl::Duration load_timeout = absl::Seconds(120);
  absl::Duration run_timeout = absl::Seconds(60);  // of one request, once it runs
  int64_t memory_bytes = 0;  // that a worker may allocate beside its module and weights; 0: half of the machine's
  size_t max_queue = 128;    // requests that wait
  int64_t max_queue_bytes = int64_t{256} << 20;
  absl::Duration restart_backoff = absl::Milliseconds(100);  // doubles with each death
  absl::Duration max_restart_backoff = absl::Seconds(10);
  // That what is loaded and tried out gives way to everything (priority.h); then less, and what takes the place of one
  // that served from the beginning.
  absl::Duration gives_way_for = absl::Seconds(2);
};

// One model in one worker process, kept alive. A thread of its own runs Supervise(), which starts the process, loads
// the model, takes its answers, and, when it dies, starts it again after a pause. Requests that were running or waiting
// then fail with WORKER_DIED; so do those that come before it is ready again. The process has one request at a time;
// one that comes while it is idle is sent to it by the thread that brings it, which may also take the answer: either
// saves a switch between threads.
//
// Thread-safe. Shared by the supervising thread and the handle that callers hold.
class WorkerModel {
 public:
  WorkerModel(const WorkerOptions& options, ModelSpec spec, std::shared_ptr<WorkerTemplate> workers);

  // Ends when Stop was called or the first load failed. Calls the callbacks of requests.
  void Supervise() ABSL_LOCKS_EXCLUDED(mu_);
  // The outcome of the first load; waits for it.
  absl::StatusOr<ModelSignature> WaitLoaded() ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the process soon, whatever it does. `why` is what a load under way fails with.
  void Stop(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);
  // As Stop, for a model that is not loaded yet only.
  void CancelLoad(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);

  absl::Status Health() const ABSL_LOCKS_EXCLUDED(mu_);
  int64_t memory_bytes() const ABSL_LOCKS_EXCLUDED(mu_);
  // The process gets the priority of ours, and so does each that takes its place, when it has loaded.
  void BeginServing() ABSL_LOCKS_EXCLUDED(mu_);
  void Infer(const std::vector<HostTensor>& inputs, absl::Time deadline, InferDone done) ABSL_LOCKS_EXCLUDED(mu_);
  void LendThread(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Request {
    uint64_t id = 0;
    worker::OutgoingPacket packet;
    absl::Time deadline;  // for its turn to come
    InferDone done;
    absl::Time start = absl::InfinitePast();           // when it was sent
    absl::Time run_deadline = absl::InfiniteFuture();  // once it was sent
    worker::BodyBuffer::Lease sent_in{};               // likewise, until it is answered
  };

  struct Answered {
    uint64_t id = 0;  // of the request
    InferResult result;
  };

  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<WorkerProcess> StartProcess(absl::Time deadline);
  // Starts a process and loads the model into it. The process is in `process` as soon as there is one.
  absl::StatusOr<ModelSignature> StartAndLoad(std::optional<WorkerProcess>& process);
  // Has a process that was not tried out for long give way less.
  void HurryWhenDue(const WorkerProcess& process) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<worker::Packet> AwaitPacket(WorkerProcess& process, worker::MessageType expected, absl::Time deadline);
  // Serves requests until the process fails or Stop. What it returns says why the running request failed.
  absl::Status Serve(WorkerProcess& process) ABSL_LOCKS_EXCLUDED(mu_);
  // Sends `request`, which is running from now on.
  void Start(Request request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Answers those that waited too long, and starts the next when none runs. Returns when to look again at the latest;
  // an error when serving is over.
  absl::StatusOr<absl::Time> Advance() ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<Request> TakeExpired(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The next answer of the process; none when there is no packet.
  absl::StatusOr<std::optional<Answered>> ReceiveAnswer(WorkerProcess& process);
  absl::StatusOr<InferResult> Decode(const worker::Packet& packet);
  // The running request is over; gives its callback, to be called when the next is on its way.
  absl::StatusOr<InferDone> Finish(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Another thread than the supervising one has seen that serving is over.
  void Report(const absl::Status& failure) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Fails all requests: the running one with `running`.
  void FailAll(const absl::Status& running, const absl::Status& waiting) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status stop() const ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CheckRoom(int64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  worker::BodyBuffer::Lease Buffer();
  void Interrupt();
  void ClearInterrupt();

  const WorkerOptions options_;
  std::shared_ptr<void> presence_;           // until Supervise is over, which alone touches it
  std::shared_ptr<WorkerTemplate> workers_;  // likewise
  const ModelSpec spec_;
  absl::Time hurry_at_ = absl::InfiniteFuture();  // of the supervising thread
  UniqueFd interrupt_;                            // eventfd: there is a request, or Stop; constant after construction
  std::unique_ptr<worker::BodyBuffer> buffer_;    // of large requests; null: there is no memory for one

  mutable Mutex mu_;
  CondVar changed_;  // first_load_, stop_, lent_
  std::optional<absl::StatusOr<ModelSignature>> first_load_ ABSL_GUARDED_BY(mu_);
  WorkerProcess* serving_ ABSL_GUARDED_BY(mu_) = nullptr;  // null: not ready
  bool tried_out_ ABSL_GUARDED_BY(mu_) = false;            // BeginServing was called
  std::optional<Request> running_ ABSL_GUARDED_BY(mu_);
  bool lent_ ABSL_GUARDED_BY(mu_) = false;         // a thread waits for the answer, at serving_
  absl::Duration usual_run_ ABSL_GUARDED_BY(mu_);  // of late; 0: none so far
  absl::Status failure_ ABSL_GUARDED_BY(mu_);      // why serving is over, as far as another thread knows
  absl::Status stop_ ABSL_GUARDED_BY(mu_);         // OK: go on
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::deque<Request> queue_ ABSL_GUARDED_BY(mu_);
  int64_t queue_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_WORKER_MODEL_H_
