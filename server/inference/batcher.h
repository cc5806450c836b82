#ifndef SCONCE_SERVER_INFERENCE_BATCHER_H_
#define SCONCE_SERVER_INFERENCE_BATCHER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/inference/batch_policy.h"
#include "server/inference/batch_tensors.h"
#include "server/inference/batch_timer.h"
#include "server/inference/infer_statistics.h"
#include "server/inference/runtime.h"

namespace sconce::inference {

struct BatcherOptions {
  std::string model;  // for sentences
  BatchPolicy policy;
  std::shared_ptr<BatchTimer> timer;  // null: whoever made it calls Tick, as tests do
  const Clock* clock = nullptr;       // null: the system's; outlives the batcher
  std::string unbatched_reason;       // why requests are not joined from the beginning; "": they are
};

// A request with all that the queue needs to know.
struct QueuedRequest {
  std::vector<HostTensor> inputs;                      // what they refer to stays until `done` is called
  absl::Time deadline = absl::InfiniteFuture();        // of the call
  absl::Time queue_deadline = absl::InfiniteFuture();  // how long it wants to wait for its turn
  std::function<bool()> cancelled;                     // nobody waits for the answer any more; may be empty
  absl::Duration patience;  // how long the thread that brings it may be lent (LoadedModel::LendThread)
  InferDone done;
};

// The instances of one version of a model, and the queue before them.
//
// A request runs when an instance is free, joined with others along the first dimension as `policy` says; while all
// instances are busy, the batch that runs next grows. The answer to a request does not depend on its companions: when a
// batch fails because of what the model makes of it, its requests are run again, one by one, so that one bad request
// fails alone; and a model whose outputs cannot be divided by rows is from then on served without batching, which
// unbatched_reason() tells.
//
// Thread-safe. Made by Make only: requests under way keep it.
class Batcher final : public LoadedModel, public Ticked, public std::enable_shared_from_this<Batcher> {
 public:
  // `instances` are alike, and at least one.
  static std::shared_ptr<Batcher> Make(const BatcherOptions& options,
                                       std::vector<std::shared_ptr<LoadedModel>> instances);
  ~Batcher() override;

  const ModelSignature& signature() const override { return instances_[0]->signature(); }
  // OK when any instance would answer.
  absl::Status Health() const override;

  // As LoadedModel::Infer says; besides, MODEL_INPUT_INVALID for more rows than a batch may have, CALL_CANCELLED, and
  // MODEL_OVERLOADED: at once when the queue is full, later when `queue_deadline` came before its turn.
  void Infer(QueuedRequest request) ABSL_LOCKS_EXCLUDED(mu_);
  void Infer(const std::vector<HostTensor>& inputs, absl::Time deadline, InferDone done) override {
    Infer(QueuedRequest{inputs, deadline, absl::InfiniteFuture(), nullptr, absl::ZeroDuration(), std::move(done)});
  }

  const BatchPolicy& policy() const { return options_.policy; }
  size_t instance_count() const { return instances_.size(); }
  InferStatistics statistics() const ABSL_LOCKS_EXCLUDED(mu_);
  int64_t memory_bytes() const override;  // of all instances
  // Why requests are not joined although the policy says so. "": they are.
  std::string unbatched_reason() const ABSL_LOCKS_EXCLUDED(mu_);

  void Tick() override ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Rider {
    QueuedRequest request;
    BatchShape shape;
    int64_t bytes = 0;
    absl::Time since;
    bool alone = false;  // it was in a batch that failed
  };
  struct Flight;
  struct Dropped;

  Batcher(const BatcherOptions& options, std::vector<std::shared_ptr<LoadedModel>> instances);

  absl::Time Now() const { return options_.clock != nullptr ? options_.clock->Now() : absl::Now(); }
  absl::Status CheckSize(const BatchShape& shape) const;
  // Starts all that can start and answers those whose time is up. The calling thread may be lent for `patience`.
  void Pump(absl::Duration patience = absl::ZeroDuration()) ABSL_LOCKS_EXCLUDED(mu_);
  void DropLate(absl::Time now, std::vector<Dropped>& dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckRoom(int64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::optional<size_t> FreeInstance() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The next batch; null when none is due or no instance is free. Sets when to look again.
  std::shared_ptr<Flight> TakeBatch(absl::Time now, absl::Time& look_again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run(const std::shared_ptr<Flight>& flight) ABSL_LOCKS_EXCLUDED(mu_);
  void Finish(const std::shared_ptr<Flight>& flight, InferResult result) ABSL_LOCKS_EXCLUDED(mu_);
  // The flight's requests go back to the head of the queue, to be run alone.
  void RunAgainAlone(Flight& flight) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StopJoining(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Count(const Flight& flight, const absl::Status& status, absl::Time answered, absl::Time divided)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const BatcherOptions options_;
  const std::vector<std::shared_ptr<LoadedModel>> instances_;

  mutable Mutex mu_;  // taken before an instance's own
  std::vector<bool> busy_ ABSL_GUARDED_BY(mu_);
  std::deque<Rider> queue_ ABSL_GUARDED_BY(mu_);
  int64_t queue_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Time next_tick_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();  // the timer is set for then
  std::string unbatched_reason_ ABSL_GUARDED_BY(mu_);
  InferStatistics statistics_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_BATCHER_H_
