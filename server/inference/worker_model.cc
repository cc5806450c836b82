#include "server/inference/worker_model.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/inference/load_packets.h"
#include "server/inference/memory_room.h"
#include "server/inference/priority.h"

// The life of a worker, as Supervise() lives it:
//
//   1. Start the process, await Hello, send Files and Load, await Loaded or Failure. Any failure of the first load ends
//      everything: the caller of Load hears it. A later one is tried again.
//   2. serving_ is set: requests queue, and one at a time is sent and answered. A process that dies, breaks the
//   protocol
//      or runs longer than run_timeout is ended.
//   3. serving_ is cleared first, then the running request and all that wait are answered, so that none is forgotten.
//   4. After a pause, which doubles with each death and starts over after a quiet minute, back to 1.
//
// Stop interrupts every wait. No callback runs with the lock held.
namespace sconce::inference {
namespace {

constexpr absl::Duration kQuietTime = absl::Minutes(1);

absl::Status Died(const std::string& how) {
  return MakeError(Reason::WORKER_DIED, absl::StrCat("the model's worker process ", how, "; retry, it is restarted"));
}

absl::Status Late() {
  return MakeError(Reason::CALL_DEADLINE_EXCEEDED, "the request's turn did not come before its deadline");
}

bool IsDeath(const absl::Status& status) {
  return HasReason(status, Reason::WORKER_DIED);
}

std::string Text(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

}  // namespace

WorkerModel::WorkerModel(const WorkerOptions& options, ModelSpec spec, std::shared_ptr<WorkerTemplate> workers)
    : options_(options),
      presence_(std::move(spec.presence)),
      workers_(std::move(workers)),
      spec_(std::move(spec)),
      interrupt_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  SCONCE_CHECK(interrupt_.valid());
  if (auto buffer = worker::BodyBuffer::Make(); buffer.ok()) buffer_ = *std::move(buffer);
}

void WorkerModel::Supervise() {
  Run();
  workers_.reset();
  presence_.reset();
}

void WorkerModel::Run() {
  absl::Duration pause = options_.restart_backoff;
  for (;;) {
    std::optional<WorkerProcess> process;
    absl::StatusOr<ModelSignature> loaded = StartAndLoad(process);
    absl::Status why = loaded.status();
    const absl::Time start_time = absl::Now();
    {
      MutexLock lock(&mu_);
      if (!stop_.ok()) why = stop_;
      serving_ = why.ok() ? &*process : nullptr;
      if (serving_ != nullptr && tried_out_) RaiseToOurPriority(serving_->pid());
      failure_ = absl::OkStatus();
      if (!first_load_.has_value()) {
        if (why.ok()) {
          first_load_ = *loaded;
        } else {
          first_load_ = why;
          if (stop_.ok()) stop_ = why;
        }
        changed_.SignalAll();
      }
    }
    if (why.ok()) why = Serve(*process);
    {
      MutexLock lock(&mu_);
      serving_ = nullptr;
      while (lent_) changed_.Wait(&mu_);  // not for long
    }
    const std::string how = process.has_value() ? process->End() : "is gone";
    FailAll(IsDeath(why) ? Died(how) : why, Died(how));
    if (!stop().ok()) return;
    if (absl::Now() - start_time > kQuietTime) pause = options_.restart_backoff;
    Log(Severity::kWarn, "worker_restart",
        {{"model", spec_.name}, {"reason", Text(why)}, {"ended", how}, {"pause_ms", absl::ToInt64Milliseconds(pause)}});
    MutexLock lock(&mu_);
    const absl::Time until = absl::Now() + pause;
    while (stop_.ok() && absl::Now() < until) changed_.WaitWithTimeout(&mu_, until - absl::Now());
    if (!stop_.ok()) return;
    pause = std::min(pause * 2, options_.max_restart_backoff);
  }
}

absl::StatusOr<WorkerProcess> WorkerModel::StartProcess(absl::Time deadline) {
  for (;;) {
    SCONCE_ASSIGN_OR_RETURN(std::optional<WorkerProcess> started,
                            workers_->Start(interrupt_.get(), spec_.threads, deadline));
    if (started.has_value()) return *std::move(started);
    ClearInterrupt();
    SCONCE_RETURN_IF_ERROR(stop());
  }
}

absl::StatusOr<ModelSignature> WorkerModel::StartAndLoad(std::optional<WorkerProcess>& process) {
  const absl::Time deadline = absl::Now() + options_.load_timeout;
  SCONCE_ASSIGN_OR_RETURN(WorkerProcess started, StartProcess(deadline));
  process.emplace(std::move(started));
  {
    MutexLock lock(&mu_);
    hurry_at_ = absl::Now() + (tried_out_ ? absl::ZeroDuration() : options_.gives_way_for);  // its requests are refused
  }
  const absl::StatusOr<worker::Packet> hello = AwaitPacket(*process, worker::MessageType::kHello, deadline);
  if (IsDeath(hello.status())) {
    const std::string how = process->End();
    process.reset();
    return Died(how);
  }
  SCONCE_RETURN_IF_ERROR(hello.status());
  SCONCE_RETURN_IF_ERROR(worker::DecodeHello(hello->body.bytes()).status());

  SCONCE_ASSIGN_OR_RETURN(const std::vector<worker::OutgoingPacket> packets,
                          MakeLoadPackets(spec_, options_.memory_bytes));
  for (const worker::OutgoingPacket& packet : packets) SCONCE_RETURN_IF_ERROR(process->Send(packet));
  const absl::StatusOr<worker::Packet> answer = AwaitPacket(*process, worker::MessageType::kLoaded, deadline);
  if (IsDeath(answer.status())) {
    const std::string how = process->End();
    process.reset();
    return Died(absl::StrCat(how, " while it loaded the model"));
  }
  SCONCE_RETURN_IF_ERROR(answer.status());
  SCONCE_ASSIGN_OR_RETURN(worker::Loaded loaded, worker::DecodeLoaded(answer->body.bytes()));
  ModelSignature signature;
  for (worker::Argument& argument : loaded.arguments) {
    signature.inputs.push_back({std::move(argument.name), std::move(argument.type), argument.required});
  }
  signature.outputs = std::move(loaded.outputs);
  return signature;
}

void WorkerModel::HurryWhenDue(const WorkerProcess& process) {
  if (absl::Now() < hurry_at_) return;
  hurry_at_ = absl::InfiniteFuture();
  MutexLock lock(&mu_);
  if (serving_ == nullptr || !tried_out_) GiveWayLess(process.pid());  // else it has our priority
}

absl::StatusOr<worker::Packet> WorkerModel::AwaitPacket(WorkerProcess& process, worker::MessageType expected,
                                                        absl::Time deadline) {
  for (;;) {
    SCONCE_ASSIGN_OR_RETURN(const Wake wake, process.Wait(std::min(deadline, hurry_at_)));
    HurryWhenDue(process);
    if (wake == Wake::kTimeout) {
      if (absl::Now() < deadline) continue;
      return MakeError(Reason::WORKER_DEADLINE_EXCEEDED,
                       absl::StrCat("the model was not loaded within ", absl::FormatDuration(options_.load_timeout),
                                    ", so its worker was ended"));
    }
    if (wake == Wake::kInterrupted) {
      ClearInterrupt();
      SCONCE_RETURN_IF_ERROR(stop());
      continue;
    }
    SCONCE_ASSIGN_OR_RETURN(std::optional<worker::Packet> packet, process.Receive());
    if (!packet.has_value()) continue;
    if (packet->type == worker::MessageType::kFailure) {
      SCONCE_ASSIGN_OR_RETURN(const worker::Failure failure, worker::DecodeFailure(packet->body.bytes()));
      if (!failure.detail.empty()) {
        Log(Severity::kWarn, "model_load_failed", {{"model", spec_.name}, {"detail", failure.detail}});
      }
      return worker::ToStatus(failure);
    }
    if (packet->type != expected) {
      return MakeError(Reason::INTERNAL_ERROR, "a worker process sent a packet out of turn, so it was ended");
    }
    return *std::move(packet);
  }
}

absl::Status WorkerModel::Serve(WorkerProcess& process) {
  for (;;) {
    SCONCE_ASSIGN_OR_RETURN(const absl::Time deadline, Advance());
    SCONCE_ASSIGN_OR_RETURN(const Wake wake, process.Wait(std::min(deadline, hurry_at_)));
    HurryWhenDue(process);
    if (wake == Wake::kInterrupted) ClearInterrupt();
    if (wake != Wake::kPacket) continue;
    SCONCE_ASSIGN_OR_RETURN(std::optional<Answered> answered, ReceiveAnswer(process));
    if (!answered.has_value()) continue;  // the thread that was lent has it
    absl::StatusOr<InferDone> done;
    {
      MutexLock lock(&mu_);
      done = Finish(answered->id);
    }
    SCONCE_RETURN_IF_ERROR(done.status());
    const absl::Status advanced = Advance().status();
    (*done)(std::move(answered->result));
    SCONCE_RETURN_IF_ERROR(advanced);
  }
}

absl::StatusOr<absl::Time> WorkerModel::Advance() {
  std::vector<Request> expired;
  absl::Time next;
  {
    MutexLock lock(&mu_);
    SCONCE_RETURN_IF_ERROR(stop_);
    SCONCE_RETURN_IF_ERROR(failure_);
    if (serving_ == nullptr) return Died("has ended");  // since the thread that was lent took the answer
    const absl::Time now = absl::Now();
    if (running_.has_value() && now >= running_->run_deadline) {
      return MakeError(Reason::WORKER_DEADLINE_EXCEEDED,
                       absl::StrCat("the model did not answer within ", absl::FormatDuration(options_.run_timeout),
                                    ", so its worker was ended"));
    }
    if (!queue_.empty()) expired = TakeExpired(now);
    if (!running_.has_value() && !queue_.empty()) {
      Request first = std::move(queue_.front());
      queue_.pop_front();
      queue_bytes_ -= first.packet.body_bytes();
      Start(std::move(first));
    }
    // A request that is started while we wait does not wake us, so we look by ourselves now and then.
    next = running_.has_value() ? running_->run_deadline : now + options_.run_timeout / 4;
    for (const Request& request : queue_) next = std::min(next, request.deadline);
  }
  for (Request& request : expired) request.done(Late());
  return next;
}

std::vector<WorkerModel::Request> WorkerModel::TakeExpired(absl::Time now) {
  std::vector<Request> expired;
  const auto first = std::stable_partition(queue_.begin(), queue_.end(),
                                           [now](const Request& request) { return request.deadline > now; });
  for (auto request = first; request != queue_.end(); ++request) {
    queue_bytes_ -= request->packet.body_bytes();
    expired.push_back(std::move(*request));
  }
  queue_.erase(first, queue_.end());
  return expired;
}

void WorkerModel::Start(Request request) {
  request.start = absl::Now();
  request.run_deadline = request.start + options_.run_timeout;
  worker::OutgoingPacket packet = std::move(request.packet);  // its memory goes when it is sent
  request.sent_in = packet.TakeLease();
  running_ = std::move(request);
  // The worker reads, since it has nothing else to do: this does not block.
  const absl::Status sent = serving_->Send(packet);
  if (!sent.ok()) Report(sent);
}

void WorkerModel::Report(const absl::Status& failure) {
  failure_ = failure;
  Interrupt();
}

void WorkerModel::LendThread(absl::Duration patience) {
  WorkerProcess* process = nullptr;
  {
    MutexLock lock(&mu_);
    const bool soon = usual_run_ > absl::ZeroDuration() && usual_run_ < patience;
    if (serving_ == nullptr || !running_.has_value() || lent_ || !soon) return;
    lent_ = true;
    process = serving_;
    process->LeavePackets(true);
  }
  process->WaitAwake(patience);
  absl::StatusOr<std::optional<Answered>> answered = ReceiveAnswer(*process);
  InferDone done;
  {
    MutexLock lock(&mu_);
    process->LeavePackets(false);  // one that comes now wakes the supervising thread
    lent_ = false;
    changed_.SignalAll();
    if (!answered.ok()) return Report(answered.status());
    if (!answered->has_value()) return;
    absl::StatusOr<InferDone> finished = Finish((*answered)->id);
    if (!finished.ok()) return Report(finished.status());
    done = *std::move(finished);
  }
  (void)Advance();  // what is wrong, the supervising thread sees as well
  done(std::move((*answered)->result));
}

absl::StatusOr<std::optional<WorkerModel::Answered>> WorkerModel::ReceiveAnswer(WorkerProcess& process) {
  SCONCE_ASSIGN_OR_RETURN(const std::optional<worker::Packet> packet, process.Receive());
  if (!packet.has_value()) return std::nullopt;
  SCONCE_ASSIGN_OR_RETURN(InferResult result, Decode(*packet));
  return Answered{packet->id, std::move(result)};
}

absl::StatusOr<InferDone> WorkerModel::Finish(uint64_t id) {
  if (!running_.has_value() || id != running_->id) {
    return MakeError(Reason::INTERNAL_ERROR, "a worker process answered what it was not asked, so it was ended");
  }
  const absl::Duration took = absl::Now() - running_->start;
  usual_run_ = usual_run_ == absl::ZeroDuration() ? took : usual_run_ + (took - usual_run_) / 8;
  InferDone done = std::move(running_->done);
  running_.reset();
  return done;
}

absl::StatusOr<InferResult> WorkerModel::Decode(const worker::Packet& packet) {
  if (packet.type == worker::MessageType::kResult) {
    SCONCE_ASSIGN_OR_RETURN(worker::Result decoded, worker::DecodeResult(packet.body.bytes()));
    std::vector<HostTensor> outputs;
    outputs.reserve(decoded.outputs.size());
    for (worker::Tensor& output : decoded.outputs) {
      outputs.push_back({std::move(output.name), output.dtype, output.shape, output.bytes, packet.body.owner()});
    }
    return InferResult(std::move(outputs));
  }
  if (packet.type == worker::MessageType::kFailure) {
    SCONCE_ASSIGN_OR_RETURN(const worker::Failure failure, worker::DecodeFailure(packet.body.bytes()));
    if (!failure.detail.empty()) {
      Log(Severity::kWarn, "model_failed", {{"model", spec_.name}, {"detail", failure.detail}});
    }
    return InferResult(worker::ToStatus(failure));
  }
  return MakeError(Reason::INTERNAL_ERROR, "a worker process sent a packet out of turn, so it was ended");
}

void WorkerModel::Infer(const std::vector<HostTensor>& inputs, absl::Time deadline, InferDone done) {
  worker::Infer message;
  int64_t bytes = 0;
  for (const HostTensor& input : inputs) {
    // What the worker would take for a breach of the protocol, and end itself.
    if (input.shape.size() > worker::kMaxDims || input.name.size() > worker::kMaxNameBytes) {
      return done(
          MakeError(Reason::MODEL_INPUT_INVALID,
                    absl::StrCat("an input has ", input.shape.size(), " dimensions and a name of ", input.name.size(),
                                 " bytes; the most are ", worker::kMaxDims, " and ", worker::kMaxNameBytes)));
    }
    message.inputs.push_back({input.name, input.dtype, input.shape, input.bytes});
    bytes += static_cast<int64_t>(input.bytes.size());
  }
  if (deadline <= absl::Now()) return done(Late());
  absl::Status status;
  uint64_t id = 0;
  {
    MutexLock lock(&mu_);
    status = CheckRoom(bytes);  // before the bytes are copied; and again when they are
    id = next_id_++;
  }
  if (!status.ok()) return done(status);
  absl::StatusOr<worker::OutgoingPacket> packet =
      worker::OutgoingPacket::Make(worker::MessageType::kInfer, id, worker::Encode(message), Buffer());
  if (!packet.ok()) return done(packet.status());
  {
    MutexLock lock(&mu_);
    status = CheckRoom(packet->body_bytes());
    if (status.ok()) {
      Request request{id, *std::move(packet), deadline, std::move(done)};
      if (!running_.has_value() && queue_.empty()) {
        Start(std::move(request));
      } else {
        queue_bytes_ += request.packet.body_bytes();
        queue_.push_back(std::move(request));
        Interrupt();  // it may have the nearest deadline
      }
      return;
    }
  }
  done(status);
}

worker::BodyBuffer::Lease WorkerModel::Buffer() {
  return buffer_ != nullptr ? worker::BodyBuffer::Lease(*buffer_) : worker::BodyBuffer::Lease();
}

absl::Status WorkerModel::CheckRoom(int64_t bytes) const {
  if (!stop_.ok()) return stop_;
  if (serving_ == nullptr) return Died("has ended");
  if (queue_.size() >= options_.max_queue || queue_bytes_ + bytes > options_.max_queue_bytes) {
    return MakeError(Reason::MODEL_OVERLOADED, absl::StrCat("model '", spec_.name, "' has ", queue_.size(),
                                                            " requests waiting; retry with back-off"));
  }
  return absl::OkStatus();
}

void WorkerModel::FailAll(const absl::Status& running, const absl::Status& waiting) {
  std::optional<Request> first;
  std::deque<Request> others;
  {
    MutexLock lock(&mu_);
    first.swap(running_);
    others.swap(queue_);
    queue_bytes_ = 0;
  }
  if (first.has_value()) first->done(running);
  for (Request& request : others) request.done(waiting);
}

absl::StatusOr<ModelSignature> WorkerModel::WaitLoaded() {
  MutexLock lock(&mu_);
  while (!first_load_.has_value()) changed_.Wait(&mu_);
  return *first_load_;
}

void WorkerModel::Stop(const absl::Status& why) {
  MutexLock lock(&mu_);
  if (stop_.ok()) stop_ = why;
  changed_.SignalAll();
  Interrupt();
}

void WorkerModel::CancelLoad(const absl::Status& why) {
  MutexLock lock(&mu_);
  if (first_load_.has_value()) return;
  if (stop_.ok()) stop_ = why;
  Interrupt();
}

absl::Status WorkerModel::Health() const {
  MutexLock lock(&mu_);
  if (!stop_.ok()) return stop_;
  return serving_ != nullptr ? absl::OkStatus() : Died("has ended");
}

int64_t WorkerModel::memory_bytes() const {
  MutexLock lock(&mu_);  // while it serves, the process is not reaped, so its number is not another's
  return serving_ != nullptr ? OwnMemoryBytes(serving_->pid()) : 0;
}

void WorkerModel::BeginServing() {
  MutexLock lock(&mu_);
  tried_out_ = true;
  if (serving_ != nullptr) RaiseToOurPriority(serving_->pid());
}

absl::Status WorkerModel::stop() const {
  MutexLock lock(&mu_);
  return stop_;
}

void WorkerModel::Interrupt() {
  const uint64_t one = 1;
  (void)!::write(interrupt_.get(), &one, sizeof(one));  // a full counter interrupts as well
}

void WorkerModel::ClearInterrupt() {
  uint64_t count;
  (void)!::read(interrupt_.get(), &count, sizeof(count));  // an empty one is clear already
}

}  // namespace sconce::inference
