#ifndef SCONCE_SERVER_INFERENCE_WORKER_PROCESS_H_
#define SCONCE_SERVER_INFERENCE_WORKER_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "server/worker_protocol/channel.h"

namespace sconce::inference {

// Why a wait for a worker ended.
enum class Wake { kPacket, kInterrupted, kTimeout };

inline constexpr int kNoInterrupt = -1;

// A process of sconce-torch-worker, a worker or the template of workers, and the socket to it. Used by one thread, but
// for what is said to be for others. Destroying kills and reaps the process, so none is left behind.
class WorkerProcess {
 public:
  // Starts the program with nothing open but the standard streams (standard output goes where standard error goes) and
  // its socket, and only those environment variables that concern libraries, locale and threads. It starts at a low
  // priority where it can be raised (priority.h). TORCH_UNAVAILABLE when there is no such program; IO_ERROR.
  static absl::StatusOr<WorkerProcess> Start(const std::string& program);
  // Of a child of ours that is there already and has the other end of the socket.
  WorkerProcess(pid_t pid, UniqueFd socket) : pid_(pid), socket_(std::move(socket)) {}

  WorkerProcess(WorkerProcess&& other) noexcept;
  WorkerProcess& operator=(WorkerProcess&&) = delete;
  ~WorkerProcess();

  // For any thread. WORKER_DIED when the process is gone.
  absl::Status Send(const worker::OutgoingPacket& packet) { return packet.Send(socket_.get()); }
  // Before Wait: `interrupt` is an eventfd that ends one, or kNoInterrupt; it outlives this, or the next Watch.
  // IO_ERROR.
  absl::Status Watch(int interrupt);
  // Waits for a packet, for the interrupt (left as it is) to become readable, or for `deadline`. A dead worker is a
  // packet that cannot be received.
  absl::StatusOr<Wake> Wait(absl::Time deadline);
  // For any thread. None: another took it. WORKER_DIED, or INTERNAL_ERROR for one that broke the protocol.
  absl::StatusOr<std::optional<worker::Packet>> Receive() { return worker::TryReceivePacket(socket_.get()); }

  // For another thread that takes the next packet: meanwhile Wait ends for a packet only when the worker is dead.
  void LeavePackets(bool to_another);
  // For that thread: worker::WaitForPacketAwake.
  void WaitAwake(absl::Duration patience) const;

  // Kills the process unless it ended by itself, waits for it, and says how it ended: "exited with status 127", "was
  // killed by signal 11 (Segmentation fault)". Once.
  std::string End();
  // After End: its exit status, or -1 when a signal ended it.
  int exit_status() const { return exit_status_; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;  // -1: reaped
  UniqueFd socket_;
  UniqueFd watched_;  // epoll, of the socket and the interrupt
  int exit_status_ = -1;
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_WORKER_PROCESS_H_
