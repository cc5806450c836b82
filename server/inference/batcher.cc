#include "server/inference/batcher.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"

// The way of a request:
//
//   1. Infer puts it at the end of the queue, or turns it away when the queue is full. Nothing is copied.
//   2. Pump, called whenever a request came, an instance became free or a time is up, answers those that came too late
//      and hands batches to free instances until there is none of either. One batch at a time for an instance: what
//      comes meanwhile makes the next batch larger.
//   3. Finish, on the instance's thread, divides the outputs and answers, or puts the requests back to run alone.
//
// No callback runs with the lock held. An instance that answers within its Infer (one whose worker has died does) is
// taken up by the loop of the Pump that called it, not by another one inside it.
namespace sconce::inference {

struct Batcher::Flight {
  std::vector<Rider> riders;
  size_t instance = 0;
  std::vector<HostTensor> joined;  // when there are several riders
  absl::Time taken, handed;
  std::atomic<bool> returned_or_done{false};  // set by whichever of the two comes first

  int64_t rows() const {
    int64_t sum = 0;
    for (const Rider& rider : riders) sum += std::max<int64_t>(rider.shape.rows, 1);
    return sum;
  }
};

struct Batcher::Dropped {
  InferDone done;
  absl::Status why;
};

namespace {

// Whether a batch failed for what one of its requests may be alone in: the others deserve another try.
bool MayConcernOneRequest(const absl::Status& status) {
  return HasReason(status, Reason::MODEL_FAILED) || HasReason(status, Reason::MODEL_INPUT_INVALID) ||
         HasReason(status, Reason::MESSAGE_TOO_LARGE) || HasReason(status, Reason::WORKER_MEMORY_EXCEEDED) ||
         HasReason(status, Reason::MODEL_OVERLOADED);
}

int64_t BytesOf(const std::vector<HostTensor>& inputs) {
  int64_t bytes = 0;
  for (const HostTensor& input : inputs) bytes += static_cast<int64_t>(input.bytes.size());
  return bytes;
}

}  // namespace

std::shared_ptr<Batcher> Batcher::Make(const BatcherOptions& options,
                                       std::vector<std::shared_ptr<LoadedModel>> instances) {
  SCONCE_CHECK(!instances.empty());
  return std::shared_ptr<Batcher>(new Batcher(options, std::move(instances)));
}

Batcher::Batcher(const BatcherOptions& options, std::vector<std::shared_ptr<LoadedModel>> instances)
    : options_(options), instances_(std::move(instances)), busy_(instances_.size(), false) {
  if (!options.unbatched_reason.empty()) StopJoining(options.unbatched_reason);
}

Batcher::~Batcher() = default;

absl::Status Batcher::Health() const {
  absl::Status first;
  for (const std::shared_ptr<LoadedModel>& instance : instances_) {
    absl::Status health = instance->Health();
    if (health.ok()) return health;
    if (first.ok()) first = std::move(health);
  }
  return first;
}

absl::Status Batcher::CheckSize(const BatchShape& shape) const {
  const int64_t most = options_.policy.max_batch_size;
  if (most <= 0 || shape.rows <= most) return absl::OkStatus();
  return MakeError(Reason::MODEL_INPUT_INVALID, absl::StrCat("inference request batch-size must be <= ", most, " for '",
                                                             options_.model, "'; it is ", shape.rows));
}

absl::Status Batcher::CheckRoom(int64_t bytes) const {
  const auto waiting = static_cast<int64_t>(queue_.size());
  const BatchPolicy& policy = options_.policy;
  const bool too_many_bytes = waiting > 0 && queue_bytes_ + bytes > policy.max_queue_bytes;
  if (waiting < policy.max_queue_size && !too_many_bytes) return absl::OkStatus();
  return MakeError(Reason::MODEL_OVERLOADED, absl::StrCat("model '", options_.model, "' has ", waiting,
                                                          " requests waiting; retry with back-off"));
}

void Batcher::Infer(QueuedRequest request) {
  Rider rider;
  rider.shape = ShapeOf(request.inputs, signature());
  rider.bytes = BytesOf(request.inputs);
  rider.since = Now();
  const absl::Duration patience = request.patience;
  rider.request = std::move(request);
  absl::Status status = CheckSize(rider.shape);
  std::vector<Dropped> dropped;
  {
    MutexLock lock(&mu_);
    if (status.ok() && !CheckRoom(rider.bytes).ok()) DropLate(rider.since, dropped);  // may make room
    if (status.ok()) status = CheckRoom(rider.bytes);
    if (status.ok()) {
      queue_bytes_ += rider.bytes;
      queue_.push_back(std::move(rider));
    } else {
      statistics_.overloaded += HasReason(status, Reason::MODEL_OVERLOADED) ? 1 : 0;
      statistics_.fail.Add(absl::ZeroDuration());
    }
  }
  for (Dropped& one : dropped) one.done(std::move(one.why));
  if (!status.ok()) return rider.request.done(std::move(status));
  Pump(patience);
}

void Batcher::Tick() {
  {
    MutexLock lock(&mu_);
    next_tick_ = absl::InfiniteFuture();
  }
  Pump();
}

void Batcher::Pump(absl::Duration patience) {
  for (;;) {
    std::vector<Dropped> dropped;
    std::shared_ptr<Flight> flight;
    absl::Time set_for = absl::InfiniteFuture();
    {
      MutexLock lock(&mu_);
      const absl::Time now = Now();
      DropLate(now, dropped);
      absl::Time look_again = absl::InfiniteFuture();
      flight = TakeBatch(now, look_again);
      for (const Rider& rider : queue_) {
        look_again = std::min({look_again, rider.request.deadline, rider.request.queue_deadline});
      }
      if (flight == nullptr && look_again < next_tick_) set_for = next_tick_ = look_again;
    }
    for (Dropped& one : dropped) one.done(std::move(one.why));
    if (set_for != absl::InfiniteFuture() && options_.timer != nullptr) {
      options_.timer->Set(set_for, std::weak_ptr<Ticked>(shared_from_this()));
    }
    if (flight == nullptr) return;
    const size_t instance = flight->instance;
    Run(flight);
    if (patience > absl::ZeroDuration()) instances_[instance]->LendThread(patience);
    patience = absl::ZeroDuration();
  }
}

void Batcher::DropLate(absl::Time now, std::vector<Dropped>& dropped) {
  for (auto rider = queue_.begin(); rider != queue_.end();) {
    QueuedRequest& request = rider->request;
    absl::Status why;
    if (request.cancelled && request.cancelled()) {
      why = MakeError(Reason::CALL_CANCELLED, "the caller has gone");
    } else if (request.deadline <= now) {
      why = MakeError(Reason::CALL_DEADLINE_EXCEEDED, "the request's turn did not come before its deadline");
    } else if (request.queue_deadline <= now) {
      why = MakeError(Reason::MODEL_OVERLOADED,
                      absl::StrCat("the request's turn at model '", options_.model,
                                   "' did not come within its timeout; retry with back-off, or wait longer"));
    } else {
      ++rider;
      continue;
    }
    queue_bytes_ -= rider->bytes;
    statistics_.fail.Add(now - rider->since);
    dropped.push_back({std::move(request.done), std::move(why)});
    rider = queue_.erase(rider);
  }
}

std::optional<size_t> Batcher::FreeInstance() const {
  bool any_healthy = false;
  std::optional<size_t> unhealthy;
  for (size_t i = 0; i < instances_.size(); ++i) {
    const bool healthy = instances_[i]->Health().ok();
    any_healthy = any_healthy || healthy;
    if (busy_[i]) continue;
    if (healthy) return i;
    if (!unhealthy.has_value()) unhealthy = i;
  }
  // With all of them down, one says why; else the next that is free takes it.
  return any_healthy ? std::nullopt : unhealthy;
}

std::shared_ptr<Batcher::Flight> Batcher::TakeBatch(absl::Time now, absl::Time& look_again) {
  if (queue_.empty()) return nullptr;
  const std::optional<size_t> instance = FreeInstance();
  if (!instance.has_value()) return nullptr;
  std::vector<Waiting> waiting;
  waiting.reserve(queue_.size());
  for (const Rider& rider : queue_) {
    const bool joins = !rider.alone && unbatched_reason_.empty();
    waiting.push_back({joins ? absl::string_view(rider.shape.key) : "", rider.shape.rows, rider.since});
  }
  const BatchDecision decision = DecideBatch(waiting, options_.policy, now);
  look_again = decision.look_again;
  if (decision.members.empty()) return nullptr;
  auto flight = std::make_shared<Flight>();
  flight->instance = *instance;
  flight->taken = now;
  for (const size_t member : decision.members) {
    queue_bytes_ -= queue_[member].bytes;
    flight->riders.push_back(std::move(queue_[member]));
  }
  for (size_t i = decision.members.size(); i-- > 0;) {
    queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(decision.members[i]));
  }
  busy_[*instance] = true;
  return flight;
}

void Batcher::Run(const std::shared_ptr<Flight>& flight) {
  if (flight->riders.size() > 1) {
    std::vector<const std::vector<HostTensor>*> requests;
    for (const Rider& rider : flight->riders) requests.push_back(&rider.request.inputs);
    flight->joined = Join(requests, signature());
  }
  flight->handed = Now();
  const std::vector<HostTensor>& inputs = flight->riders.size() > 1 ? flight->joined : flight->riders[0].request.inputs;
  // The flight has its instance to itself, so it is not late any more.
  instances_[flight->instance]->Infer(inputs, absl::InfiniteFuture(),
                                      [self = shared_from_this(), flight](InferResult result) {
                                        self->Finish(flight, std::move(result));
                                        if (flight->returned_or_done.exchange(true)) self->Pump();
                                      });
  flight->returned_or_done.exchange(true);
}

void Batcher::Finish(const std::shared_ptr<Flight>& flight, InferResult result) {
  const absl::Time answered = Now();
  std::vector<Rider>& riders = flight->riders;
  std::vector<std::vector<HostTensor>> parts;
  absl::Status status = result.status();
  bool again = riders.size() > 1 && MayConcernOneRequest(status);
  absl::Status indivisible;
  if (status.ok() && riders.size() > 1) {
    std::vector<int64_t> rows;
    for (const Rider& rider : riders) rows.push_back(rider.shape.rows);
    auto divided = Divide(*result, rows);
    indivisible = divided.status();
    if (divided.ok()) parts = *std::move(divided);
  } else if (status.ok()) {
    const BatchShape& shape = riders[0].shape;
    const bool could_join = options_.policy.max_batch_size > 0 && !shape.key.empty();
    if (could_join) indivisible = CheckRows(*result, shape.rows);
    parts.push_back(*std::move(result));
  }
  again = again || (riders.size() > 1 && !indivisible.ok());
  const absl::Time divided = Now();
  {
    MutexLock lock(&mu_);
    busy_[flight->instance] = false;
    if (!indivisible.ok()) StopJoining(std::string(indivisible.message()));
    if (again) {
      RunAgainAlone(*flight);
    } else {
      Count(*flight, status, answered, divided);
    }
  }
  flight->joined.clear();
  for (size_t i = 0; i < riders.size(); ++i) {
    riders[i].request.done(status.ok() ? InferResult(std::move(parts[i])) : InferResult(status));
  }
  riders.clear();
}

void Batcher::RunAgainAlone(Flight& flight) {
  for (size_t i = flight.riders.size(); i-- > 0;) {
    Rider& rider = flight.riders[i];
    rider.alone = true;
    queue_bytes_ += rider.bytes;
    queue_.push_front(std::move(rider));
  }
  flight.riders.clear();
}

void Batcher::StopJoining(const std::string& why) {
  if (!unbatched_reason_.empty()) return;
  unbatched_reason_ = why;
  Log(Severity::kWarn, "model_not_batched", {{"model", options_.model}, {"reason", unbatched_reason_}});
}

void Batcher::Count(const Flight& flight, const absl::Status& status, absl::Time answered, absl::Time divided) {
  for (const Rider& rider : flight.riders) {
    (status.ok() ? statistics_.success : statistics_.fail).Add(divided - rider.since);
    if (!status.ok()) continue;
    statistics_.queue.Add(flight.taken - rider.since);
    statistics_.compute.input.Add(flight.handed - flight.taken);
    statistics_.compute.infer.Add(answered - flight.handed);
    statistics_.compute.output.Add(divided - answered);
  }
  if (!status.ok()) return;
  statistics_.last_inference = divided;
  statistics_.inference_count += static_cast<uint64_t>(flight.rows());
  ++statistics_.execution_count;
  RunDurations& run = statistics_.by_batch_size[flight.rows()];
  run.input.Add(flight.handed - flight.taken);
  run.infer.Add(answered - flight.handed);
  run.output.Add(divided - answered);
}

InferStatistics Batcher::statistics() const {
  MutexLock lock(&mu_);
  return statistics_;
}

int64_t Batcher::memory_bytes() const {
  int64_t sum = 0;
  for (const std::shared_ptr<LoadedModel>& instance : instances_) sum += instance->memory_bytes();
  return sum;
}

std::string Batcher::unbatched_reason() const {
  MutexLock lock(&mu_);
  return unbatched_reason_;
}

}  // namespace sconce::inference
