#ifndef SCONCE_SERVER_WORKER_PROTOCOL_CHANNEL_H_
#define SCONCE_SERVER_WORKER_PROTOCOL_CHANNEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "server/worker_protocol/messages.h"

// Packets over a SOCK_SEQPACKET socket pair.
//
// A datagram is a 32-byte header, little-endian
//     u32 magic "SCW\1" | u16 protocol version | u16 type | u64 id | u64 body bytes | u32 descriptors | u32 flags
// and, when flags is 0, the body. Else the body lies in the last descriptor, a memfd:
//     flags 1   it is the content, sealed against shrinking, growing and writing, so a receiver can map it and trust it
//               to stay as it is;
//     flags 2   it is the beginning, until the sender is sent the next packet: the receiver copies it at once.
namespace sconce::worker {

inline constexpr size_t kHeaderBytes = 32;
// A longer body goes into a memfd; up to so many bytes into the sender's BodyBuffer, where that is free.
inline constexpr size_t kInlineBodyBytes = size_t{32} << 10;
inline constexpr size_t kBufferBytes = size_t{8} << 20;
// Descriptors one packet may carry, the body's among them.
inline constexpr size_t kMaxDescriptors = 128;

// A connected pair of close-on-exec sockets.
absl::StatusOr<std::pair<UniqueFd, UniqueFd>> SocketPair();

// The body of a received packet: memory aligned to kDataAlignment, private to this process (writing to it reaches
// nobody).
class Body {
 public:
  Body() = default;
  ByteSpan bytes() const { return bytes_; }
  // Keeps the memory, also when this is gone.
  std::shared_ptr<const void> owner() const { return memory_; }

 private:
  friend class PacketReader;
  std::shared_ptr<void> memory_;
  ByteSpan bytes_;
};

// Shared memory for one large body after the other. The pages of a new memfd for each would cost ten times what the
// copying does. Thread-safe.
class BodyBuffer {
 public:
  // Its memory is taken as bodies need it, and kept. IO_ERROR.
  static absl::StatusOr<std::unique_ptr<BodyBuffer>> Make();
  ~BodyBuffer();
  BodyBuffer(const BodyBuffer&) = delete;
  BodyBuffer& operator=(const BodyBuffer&) = delete;

  // The right to write to it, for one at a time; given back by the destructor. False: somebody else has it.
  class Lease {
   public:
    Lease() = default;
    explicit Lease(BodyBuffer& buffer) : buffer_(buffer.taken_.exchange(true) ? nullptr : &buffer) {}
    Lease(Lease&& other) noexcept : buffer_(std::exchange(other.buffer_, nullptr)) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(buffer_, other.buffer_);
      return *this;
    }
    ~Lease() {
      if (buffer_ != nullptr) buffer_->taken_ = false;
    }
    explicit operator bool() const { return buffer_ != nullptr; }

   private:
    friend class OutgoingPacket;
    BodyBuffer* buffer_ = nullptr;  // outlives this
  };

 private:
  friend class OutgoingPacket;
  BodyBuffer(UniqueFd memfd, uint8_t* bytes) : memfd_(std::move(memfd)), bytes_(bytes) {}

  const UniqueFd memfd_;  // fixed in size, so that nobody can take pages away from under bytes_
  uint8_t* const bytes_;
  std::atomic<bool> taken_{false};
};

// A packet ready to be sent, whenever; owns its bytes. Move-only.
class OutgoingPacket {
 public:
  // Copies the body: when it is large into `buffer`, else, or where that does not take it, into a memfd of its own.
  // MESSAGE_TOO_LARGE beyond kMaxBodyBytes; IO_ERROR.
  static absl::StatusOr<OutgoingPacket> Make(MessageType type, uint64_t id, const EncodedBody& body,
                                             BodyBuffer::Lease buffer = {});
  // A packet without a body that carries descriptors, borrowed until it is sent.
  static OutgoingPacket Files(absl::Span<const int> descriptors);

  // The packet is small, so this blocks only while the receiver has many unread. WORKER_DIED when the other side is
  // gone.
  absl::Status Send(int socket) const;

  int64_t body_bytes() const { return body_bytes_; }
  // What it has of a buffer; to be kept until the receiver has the body: when it answers, say.
  BodyBuffer::Lease TakeLease() { return std::move(lease_); }

 private:
  std::string datagram_;
  UniqueFd memfd_;
  BodyBuffer::Lease lease_;
  std::vector<int> descriptors_;
  int64_t body_bytes_ = 0;
};

struct Packet {
  MessageType type = MessageType::kHello;
  uint64_t id = 0;
  Body body;
  std::vector<UniqueFd> files;
};

// Takes the next packet; waits for one. WORKER_DIED when the other side closed; INTERNAL_ERROR when what came is no
// packet. Descriptors that came with a bad one are closed.
absl::StatusOr<Packet> ReceivePacket(int socket);
// The same without waiting; none when there is none.
absl::StatusOr<std::optional<Packet>> TryReceivePacket(int socket);
// Waits for a packet, or the end of the other side, or as long as that, without going to sleep: to be woken from there
// by another core takes longer than a small model does. Others that want the core get it.
void WaitForPacketAwake(int socket, absl::Duration patience);

}  // namespace sconce::worker

#endif  // SCONCE_SERVER_WORKER_PROTOCOL_CHANNEL_H_
