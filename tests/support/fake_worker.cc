// A worker without torch, for tests of what sconced does with workers. Its "module" is text that says how it behaves:
//   scale, throws, frozen   as tests/support/fake_runtime.h
//   dies_loading            ends instead of loading
//   hangs_loading           never answers Load
// and to a request whose first value is not 0
//   dies                    ends
//   hangs                   never answers
//   wrong_id, garbage, unsealed, lies   break the protocol in their answer
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "server/worker_protocol/byte_codec.h"
#include "server/worker_protocol/channel.h"
#include "server/worker_protocol/fork_workers.h"

namespace {

using namespace sconce;          // NOLINT: a program of its own
using namespace sconce::worker;  // NOLINT

template <typename Message>
void Send(MessageType type, uint64_t id, const Message& message) {
  const auto packet = OutgoingPacket::Make(type, id, Encode(message));
  SCONCE_CHECK(packet.ok());
  if (!packet->Send(kWorkerSocketFd).ok()) ::_exit(0);
}

[[noreturn]] void Hang() {
  for (;;) ::pause();
}

void SendUnsealedBody(uint64_t id) {
  const int memfd = ::memfd_create("unsealed", MFD_ALLOW_SEALING);
  SCONCE_CHECK(::ftruncate(memfd, 4096) == 0);
  ByteWriter header;
  header.U32(0x01574353);
  header.U16(kProtocolVersion);
  header.U16(static_cast<uint16_t>(MessageType::kResult));
  header.U64(id);
  header.U64(4096);
  header.U32(1);
  header.U32(1);
  std::string bytes = header.Take();
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(rights), &memfd, sizeof(int));
  ::sendmsg(kWorkerSocketFd, &message, 0);
}

class Worker {
 public:
  int Run() {
    Send(MessageType::kHello, 0, Hello{"fake"});
    const auto buffer = BodyBuffer::Make();
    SCONCE_CHECK(buffer.ok());
    buffer_ = buffer->get();
    for (;;) {
      auto packet = ReceivePacket(kWorkerSocketFd);
      if (!packet.ok()) return 0;
      sent_ = {};
      if (packet->type == MessageType::kLoad && !LoadModule(*packet)) return 0;
      if (packet->type == MessageType::kInfer) Answer(*packet);
    }
  }

 private:
  bool Fail(FailureKind kind, const std::string& message) {
    Send(MessageType::kFailure, 0, Failure{kind, message, "all of it"});
    return false;
  }

  bool LoadModule(const Packet& packet) {
    const auto load = DecodeLoad(packet.body.bytes(), 0);
    SCONCE_CHECK(load.ok());
    module_ = std::string(AsText(load->module.inline_bytes));
    if (load->device != "cpu") return Fail(FailureKind::kDeviceUnavailable, "only cpu; deploy to cpu");
    if (module_ == "not an archive") return Fail(FailureKind::kModuleInvalid, "no archive");
    if (module_ == "frozen") return Fail(FailureKind::kTrainingModeFrozen, "aten::dropout has train=True");
    if (module_ == "dies_loading") ::raise(SIGSEGV);
    if (module_ == "hangs_loading") Hang();
    for (const StateEntry& entry : load->entries) {
      if (entry.name == "w") continue;
      return Fail(FailureKind::kWeightsMismatch,
                  "Error(s) in loading state_dict for RecursiveScriptModule:\n\tUnexpected key(s) in state_dict: \"" +
                      entry.name + "\". ");
    }
    if (load->has_weights) memcpy(&scale_, load->storages[0].inline_bytes.data(), sizeof(scale_));
    Send(MessageType::kLoaded, packet.id, Loaded{{{"x", "Tensor", true}}, {"OUTPUT__0"}});
    return true;
  }

  void Answer(const Packet& packet) {
    const auto infer = DecodeInfer(packet.body.bytes());
    SCONCE_CHECK(infer.ok() && infer->inputs.size() == 1);
    const Tensor& input = infer->inputs[0];
    std::vector<float> values(input.bytes.size() / sizeof(float));
    if (!values.empty()) memcpy(values.data(), input.bytes.data(), input.bytes.size());
    Tensor output{"OUTPUT__0", format::DType::kFloat32, input.shape, {}};
    const bool provoked = !values.empty() && values[0] != 0;
    for (float& value : values) value *= scale_;
    output.bytes = ByteSpan(reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float));
    if (module_ == "throws") {
      Send(MessageType::kFailure, packet.id, Failure{FailureKind::kModelFailed, "it throws", "all of it"});
    } else if (module_ == "dies" && provoked) {
      ::raise(SIGABRT);
    } else if (module_ == "hangs" && provoked) {
      Hang();
    } else if (module_ == "wrong_id" && provoked) {
      Send(MessageType::kResult, packet.id + 1, Result{{output}});
    } else if (module_ == "garbage" && provoked) {
      ::send(kWorkerSocketFd, "garbage", 7, 0);
    } else if (module_ == "unsealed" && provoked) {
      SendUnsealedBody(packet.id);
    } else if (module_ == "lies" && provoked) {
      output.shape = {1, 1 << 30};
      Send(MessageType::kResult, packet.id, Result{{output}});
    } else {
      auto answer =
          OutgoingPacket::Make(MessageType::kResult, packet.id, Encode(Result{{output}}), BodyBuffer::Lease(*buffer_));
      SCONCE_CHECK(answer.ok());
      sent_ = answer->TakeLease();
      if (!answer->Send(kWorkerSocketFd).ok()) ::_exit(0);
    }
  }

  BodyBuffer* buffer_ = nullptr;
  BodyBuffer::Lease sent_;
  std::string module_;
  float scale_ = 1;
};

}  // namespace

int main() {
  Send(MessageType::kHello, 0, Hello{"fake"});
  if (!ForkWorkers().ok()) return 0;
  return Worker().Run();
}
