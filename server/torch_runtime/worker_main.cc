// sconce-torch-worker: loads LibTorch, and then, in a copy of itself for each worker that sconced asks for, runs one
// module. See server/worker_protocol/messages.h for what is said over the socket.
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/torch_runtime/sandbox.h"
#include "server/torch_runtime/torch_model.h"
#include "server/worker_protocol/channel.h"
#include "server/worker_protocol/fork_workers.h"

namespace {

using namespace sconce;          // NOLINT: a program of its own
using namespace sconce::worker;  // NOLINT

constexpr int kUsageExit = 2;
constexpr unsigned kStartSeconds = 300;  // many times of what LibTorch takes to start; SIGALRM ends it then
// A request that comes so soon after an answer is waited for awake, when the one before did too. A caller that asks
// again when it is answered is back within it.
constexpr absl::Duration kSoon = absl::Microseconds(300);

FailureKind KindOf(const absl::Status& status) {
  if (HasReason(status, Reason::MODEL_WEIGHTS_MISMATCH)) return FailureKind::kWeightsMismatch;
  if (HasReason(status, Reason::TRAINING_MODE_FROZEN)) return FailureKind::kTrainingModeFrozen;
  if (HasReason(status, Reason::DEVICE_UNAVAILABLE)) return FailureKind::kDeviceUnavailable;
  if (HasReason(status, Reason::MODULE_INVALID)) return FailureKind::kModuleInvalid;
  if (HasReason(status, Reason::TORCH_UNAVAILABLE)) return FailureKind::kTorchUnavailable;
  if (HasReason(status, Reason::MODEL_INPUT_INVALID)) return FailureKind::kInputInvalid;
  if (HasReason(status, Reason::WORKER_MEMORY_EXCEEDED)) return FailureKind::kOutOfMemory;
  return FailureKind::kModelFailed;
}

Failure FailureOf(const absl::Status& status) {
  Failure failure;
  failure.kind = KindOf(status);
  failure.message = std::string(status.message());
  if (const auto error = GetErrorDetail(status); error.has_value()) {
    for (const auto& [key, value] : error->metadata) {
      if (key == "detail") failure.detail = value;
    }
  }
  return failure;
}

template <typename Message>
absl::Status Send(MessageType type, uint64_t id, const Message& message) {
  SCONCE_ASSIGN_OR_RETURN(const OutgoingPacket packet, OutgoingPacket::Make(type, id, Encode(message)));
  return packet.Send(kWorkerSocketFd);
}

using torch_runtime::Sandbox;
using torch_runtime::TorchModel;

// What sconced wants loaded.
struct Order {
  std::vector<UniqueFd> files;
  Packet packet;
  worker::Load load;  // refers to the packet
};

absl::StatusOr<Order> ReceiveOrder() {
  Order order;
  for (;;) {
    SCONCE_ASSIGN_OR_RETURN(order.packet, ReceivePacket(kWorkerSocketFd));
    if (order.packet.type != MessageType::kFiles) break;
    std::move(order.packet.files.begin(), order.packet.files.end(), std::back_inserter(order.files));
  }
  if (order.packet.type != MessageType::kLoad) return MakeError(Reason::INTERNAL_ERROR, "expected Load");
  SCONCE_ASSIGN_OR_RETURN(order.load, DecodeLoad(order.packet.body.bytes(), static_cast<uint32_t>(order.files.size())));
  return order;
}

// The limit of memory counts what is mapped, since pages of it could be written to, and the module twice: once as it
// lies in its file, once as it was read.
int64_t MemoryFor(const worker::Load& load) {
  if (load.memory_bytes == 0) return 0;
  int64_t bytes = load.memory_bytes + 2 * load.module.size_bytes;
  for (const StoredBytes& storage : load.storages) bytes += storage.size_bytes;
  return bytes;
}

void Seal(Sandbox& sandbox, const worker::Load& load) {
  torch_runtime::SealOptions options;
  options.socket = kWorkerSocketFd;
  options.memory_bytes = MemoryFor(load);
  options.file_bytes = std::max(kMaxBodyBytes, load.module.size_bytes);  // a compiled module's library
  sandbox.Seal(options);
}

// Loads in a thread that gives way to workers that serve, and that is gone when it has loaded: only root could give it
// back the priority it had.
absl::StatusOr<std::unique_ptr<TorchModel>> LoadBehindOthers(Order& order, Sandbox& sandbox) {
  constexpr int kNice = 15;
  absl::StatusOr<std::unique_ptr<TorchModel>> model = MakeError(Reason::INTERNAL_ERROR, "not loaded");
  std::thread loader([&] {
    ::setpriority(PRIO_PROCESS, 0, kNice);  // of this thread; loading at full priority is no error
    model = TorchModel::Load(order.load, order.files, order.packet.body, sandbox);
  });
  loader.join();
  return model;
}

// Loads what sconced sends. OK and no model: it could not be loaded, and sconced knows.
absl::StatusOr<std::unique_ptr<TorchModel>> Load(uint32_t threads, Sandbox& sandbox) {
  SCONCE_ASSIGN_OR_RETURN(Order order, ReceiveOrder());
  Seal(sandbox, order.load);
  const int used = torch_runtime::UseThreads(threads);
  Log(sandbox.filtered() ? Severity::kInfo : Severity::kWarn, "worker_sealed",
      {{"dropped", sandbox.Describe()}, {"threads", used}});
  auto model = LoadBehindOthers(order, sandbox);
  if (!model.ok()) {
    SCONCE_RETURN_IF_ERROR(Send(MessageType::kFailure, order.packet.id, FailureOf(model.status())));
    return nullptr;
  }
  SCONCE_RETURN_IF_ERROR(Send(MessageType::kLoaded, order.packet.id, (*model)->Describe()));
  return model;
}

// A large answer lies in `buffer`; `sent` is that, until sconced sends something again.
absl::Status Answer(torch_runtime::TorchModel& model, const Packet& packet, BodyBuffer& buffer,
                    BodyBuffer::Lease& sent) {
  if (packet.type != MessageType::kInfer) return MakeError(Reason::INTERNAL_ERROR, "expected Infer");
  SCONCE_ASSIGN_OR_RETURN(const Infer infer, DecodeInfer(packet.body.bytes()));
  const auto outputs = model.Run(infer, packet.body.owner());
  if (!outputs.ok()) return Send(MessageType::kFailure, packet.id, FailureOf(outputs.status()));
  absl::StatusOr<OutgoingPacket> answer =
      OutgoingPacket::Make(MessageType::kResult, packet.id, Encode(outputs->message), BodyBuffer::Lease(buffer));
  if (HasReason(answer.status(), Reason::MESSAGE_TOO_LARGE)) {
    return Send(MessageType::kFailure, packet.id, FailureOf(answer.status()));
  }
  SCONCE_RETURN_IF_ERROR(answer.status());
  sent = answer->TakeLease();
  return answer->Send(kWorkerSocketFd);
}

absl::Status SayHello() {
  return Send(MessageType::kHello, 0, Hello{torch_runtime::TorchVersion()});
}

// What a worker does, from its first moment.
absl::Status Work(const Start& start) {
  Sandbox sandbox;                     // before there are threads, and before PR_SET_PDEATHSIG, which it would undo
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // never outlives sconced
  SCONCE_RETURN_IF_ERROR(SayHello());
  SCONCE_ASSIGN_OR_RETURN(const std::unique_ptr<BodyBuffer> buffer, BodyBuffer::Make());  // not later: it is sealed
  SCONCE_ASSIGN_OR_RETURN(const std::unique_ptr<TorchModel> model, Load(start.threads, sandbox));
  if (model == nullptr) return absl::OkStatus();
  BodyBuffer::Lease sent;
  bool comes_soon = false;
  for (;;) {
    const absl::Time since = absl::Now();
    if (comes_soon) WaitForPacketAwake(kWorkerSocketFd, kSoon);
    SCONCE_ASSIGN_OR_RETURN(const Packet packet, ReceivePacket(kWorkerSocketFd));
    comes_soon = absl::Now() - since < kSoon;
    sent = {};  // who asks the next has read the last answer
    SCONCE_RETURN_IF_ERROR(Answer(*model, packet, *buffer, sent));
  }
}

absl::Status Run() {
  SCONCE_RETURN_IF_ERROR(SayHello());
  SCONCE_ASSIGN_OR_RETURN(const Start start, ForkWorkers());  // the template stays in there
  return Work(start);
}

// As many descriptors as the system allows: weights may lie in many files.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main() {
  int type = 0;
  socklen_t size = sizeof(type);
  if (::getsockopt(kWorkerSocketFd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) {
    ::fputs("sconce-torch-worker: started by sconced to run a model; there is nothing to do by hand\n", stderr);
    return kUsageExit;
  }
  // It ends when sconced says so, not when a terminal or a service manager signals them both: then requests under way
  // could not be finished.
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGTERM, SIG_IGN);
  RaiseDescriptorLimit();
  // Before it reads its socket it would not see that sconced has ended.
  ::alarm(kStartSeconds);
  torch_runtime::Initialize();
  ::alarm(0);
  const absl::Status status = Run();
  if (status.ok() || HasReason(status, Reason::WORKER_DIED)) return 0;  // sconced closed the socket
  Log(Severity::kError, "worker_stopped", {{"reason", status.message()}});
  return 1;
}
