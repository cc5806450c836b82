#include "server/worker_protocol/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/worker_protocol/byte_codec.h"

namespace sconce::worker {
namespace {

constexpr uint32_t kMagic = 0x01574353;  // "SCW\1"
constexpr uint32_t kFlagMemfd = 1, kFlagBuffer = 2;
constexpr int kBodySeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

absl::Status Broken(absl::string_view what) {
  return MakeError(Reason::INTERNAL_ERROR, absl::StrCat("worker protocol: bad packet: ", what,
                                                        "; sconced and sconce-torch-worker must be of one release"));
}

absl::Status Gone() {
  return MakeError(Reason::WORKER_DIED, "the worker process is gone; retry, it is restarted");
}

std::string Header(MessageType type, uint64_t id, int64_t body_bytes, size_t descriptors, uint32_t flags) {
  ByteWriter writer;
  writer.U32(kMagic);
  writer.U16(kProtocolVersion);
  writer.U16(static_cast<uint16_t>(type));
  writer.U64(id);
  writer.U64(static_cast<uint64_t>(body_bytes));
  writer.U32(static_cast<uint32_t>(descriptors));
  writer.U32(flags);
  return writer.Take();
}

// The pieces of a body in order, with the padding between them.
std::vector<ByteSpan> Pieces(const EncodedBody& body, int64_t& total) {
  static constexpr std::array<uint8_t, kDataAlignment> kPadding{};
  std::vector<ByteSpan> pieces;
  size_t position = 0;
  const auto add = [&](ByteSpan piece) {
    if (piece.empty()) return;
    pieces.push_back(piece);
    position += piece.size();
  };
  add(AsBytes(body.table));
  if (body.sectioned) {
    for (const ByteSpan part : body.data) {
      if (part.empty()) continue;
      add(ByteSpan(kPadding).subspan(0, (kDataAlignment - position % kDataAlignment) % kDataAlignment));
      add(part);
    }
  }
  total = static_cast<int64_t>(position);
  return pieces;
}

absl::Status WriteAll(int fd, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return ErrnoToStatus(written < 0 ? errno : EIO, "writing a tensor to shared memory");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> SealedMemfd(const std::vector<ByteSpan>& pieces) {
  UniqueFd memfd(::memfd_create("sconce-body", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid()) return ErrnoToStatus(errno, "making shared memory for a tensor");
  for (const ByteSpan piece : pieces) SCONCE_RETURN_IF_ERROR(WriteAll(memfd.get(), piece));
  if (::fcntl(memfd.get(), F_ADD_SEALS, kBodySeals) != 0) return ErrnoToStatus(errno, "sealing shared memory");
  return memfd;
}

struct DecodedHeader {
  MessageType type = MessageType::kHello;
  uint64_t id = 0;
  uint64_t body_bytes = 0;
  uint32_t descriptors = 0;
  uint32_t flags = 0;
};

absl::StatusOr<DecodedHeader> DecodeHeader(ByteSpan datagram) {
  ByteReader reader(datagram);
  const uint32_t magic = reader.U32();
  const uint16_t version = reader.U16();
  DecodedHeader header;
  const uint16_t type = reader.U16();
  header.type = static_cast<MessageType>(type);
  header.id = reader.U64();
  header.body_bytes = reader.U64();
  header.descriptors = reader.U32();
  header.flags = reader.U32();
  if (!reader.ok()) return Broken("shorter than its header");
  if (magic != kMagic) return Broken("wrong magic");
  if (version != kProtocolVersion) return Broken(absl::StrCat("protocol ", version, ", expected ", kProtocolVersion));
  if (type < static_cast<uint16_t>(MessageType::kHello) || type > static_cast<uint16_t>(MessageType::kStarted)) {
    return Broken(absl::StrCat("unknown type ", type));
  }
  if (header.flags > kFlagBuffer) return Broken("unknown flags");
  if (header.body_bytes > static_cast<uint64_t>(kMaxBodyBytes)) return Broken("body too large");
  return header;
}

}  // namespace

// Makes a Body; a friend of it so that nobody else can.
class PacketReader {
 public:
  // The body as it was received into `memory`.
  static Body Inline(std::shared_ptr<void> memory, size_t size) {
    Body body;
    if (size == 0) return body;
    body.bytes_ = ByteSpan(static_cast<const uint8_t*>(memory.get()), size);
    body.memory_ = std::move(memory);
    return body;
  }

  static absl::StatusOr<Body> FromBuffer(int fd, size_t size) {
    if (size > kBufferBytes) return Broken("its body is too large for a buffer");
    // Only memory has seals: reading from anything else could take for ever.
    if (::fcntl(fd, F_GET_SEALS) < 0) return Broken("its body is not in memory");
    const size_t rounded = (size + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
    std::shared_ptr<void> memory(::aligned_alloc(kDataAlignment, rounded), ::free);
    if (memory == nullptr) return ErrnoToStatus(ENOMEM, "receiving a tensor");
    for (size_t done = 0; done < size;) {
      const ssize_t n = ::pread(fd, static_cast<uint8_t*>(memory.get()) + done, size - done, static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Broken("its body is shorter than it says");
      done += static_cast<size_t>(n);
    }
    return Inline(std::move(memory), size);
  }

  static absl::StatusOr<Body> FromMemfd(int fd, size_t size) {
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & kBodySeals) != kBodySeals) return Broken("its body could change while it is read");
    struct stat info {};
    if (::fstat(fd, &info) != 0) return ErrnoToStatus(errno, "looking at shared memory");
    if (size == 0 || info.st_size != static_cast<off_t>(size)) return Broken("its body has another size than it says");
    void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) return ErrnoToStatus(errno, "mapping shared memory");
    Body body;
    body.memory_ = std::shared_ptr<void>(address, [size](void* mapped) { ::munmap(mapped, size); });
    body.bytes_ = ByteSpan(static_cast<const uint8_t*>(address), size);
    return body;
  }
};

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> SocketPair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoToStatus(errno, "making a socket pair");
  }
  return std::make_pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

absl::StatusOr<std::unique_ptr<BodyBuffer>> BodyBuffer::Make() {
  UniqueFd memfd(::memfd_create("sconce-buffer", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid() || ::ftruncate(memfd.get(), kBufferBytes) != 0 ||
      ::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return ErrnoToStatus(errno, "making shared memory for tensors");
  }
  void* bytes = ::mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (bytes == MAP_FAILED) return ErrnoToStatus(errno, "mapping shared memory");
  return std::unique_ptr<BodyBuffer>(new BodyBuffer(std::move(memfd), static_cast<uint8_t*>(bytes)));
}

BodyBuffer::~BodyBuffer() {
  ::munmap(bytes_, kBufferBytes);
}

absl::StatusOr<OutgoingPacket> OutgoingPacket::Make(MessageType type, uint64_t id, const EncodedBody& body,
                                                    BodyBuffer::Lease buffer) {
  OutgoingPacket packet;
  const std::vector<ByteSpan> pieces = Pieces(body, packet.body_bytes_);
  if (packet.body_bytes_ > kMaxBodyBytes) {
    return MakeError(Reason::MESSAGE_TOO_LARGE, absl::StrCat("a message to or from a model has ", packet.body_bytes_,
                                                             " bytes; the limit is ", kMaxBodyBytes));
  }
  const bool large = packet.body_bytes_ > static_cast<int64_t>(kInlineBodyBytes);
  const bool buffered = large && buffer && packet.body_bytes_ <= static_cast<int64_t>(kBufferBytes);
  packet.datagram_ = Header(type, id, packet.body_bytes_, large ? 1 : 0,
                            buffered ? kFlagBuffer
                            : large  ? kFlagMemfd
                                     : 0);
  if (buffered) {
    uint8_t* to = buffer.buffer_->bytes_;
    for (const ByteSpan piece : pieces) to = std::copy(piece.begin(), piece.end(), to);
    packet.descriptors_.push_back(buffer.buffer_->memfd_.get());
    packet.lease_ = std::move(buffer);
  } else if (large) {
    SCONCE_ASSIGN_OR_RETURN(packet.memfd_, SealedMemfd(pieces));
  } else {
    for (const ByteSpan piece : pieces) packet.datagram_.append(AsText(piece).data(), piece.size());
  }
  return packet;
}

OutgoingPacket OutgoingPacket::Files(absl::Span<const int> descriptors) {
  OutgoingPacket packet;
  packet.descriptors_.assign(descriptors.begin(), descriptors.end());
  packet.datagram_ = Header(MessageType::kFiles, 0, 0, descriptors.size(), 0);
  return packet;
}

absl::Status OutgoingPacket::Send(int socket) const {
  std::vector<int> descriptors = descriptors_;
  if (memfd_.valid()) descriptors.push_back(memfd_.get());
  iovec part{const_cast<char*>(datagram_.data()), datagram_.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(descriptors.size() * sizeof(int)));
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    ::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
  }
  for (;;) {
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(datagram_.size())) return absl::OkStatus();
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)) return Gone();
    return ErrnoToStatus(sent < 0 ? errno : EIO, "sending to a worker process");
  }
}

namespace {

absl::StatusOr<std::optional<Packet>> Receive(int socket, int flags) {
  // Into the memory that it stays in, which nobody has to clear first.
  std::array<uint8_t, kHeaderBytes> head;
  const std::shared_ptr<void> memory(::aligned_alloc(kDataAlignment, kInlineBodyBytes), ::free);
  if (memory == nullptr) return ErrnoToStatus(ENOMEM, "receiving a packet");
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxDescriptors * sizeof(int))> control;
  iovec parts[] = {{head.data(), head.size()}, {memory.get(), kInlineBodyBytes}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t received;
  do {
    received = ::recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0 && errno == EAGAIN) return std::nullopt;
  if (received < 0 && errno == ECONNRESET) return Gone();
  if (received < 0) return ErrnoToStatus(errno, "receiving from a worker process");

  // First of all the descriptors become owned, so that no way out leaks one.
  Packet packet;
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr; item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      ::memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
      packet.files.emplace_back(fd);
    }
  }
  if (received == 0) return Gone();
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return Broken("longer than any packet");

  const auto total = static_cast<size_t>(received);
  SCONCE_ASSIGN_OR_RETURN(const DecodedHeader header,
                          DecodeHeader(ByteSpan(head.data(), std::min(total, kHeaderBytes))));
  packet.type = header.type;
  packet.id = header.id;
  if (packet.files.size() != header.descriptors) return Broken("other descriptors than it says");
  const size_t rest = total - kHeaderBytes;
  if (header.flags == 0) {
    if (rest != header.body_bytes) return Broken("its body has another size than it says");
    packet.body = PacketReader::Inline(memory, rest);
  } else {
    if (rest != 0 || packet.files.empty()) return Broken("its body is missing");
    const auto from = header.flags == kFlagBuffer ? PacketReader::FromBuffer : PacketReader::FromMemfd;
    SCONCE_ASSIGN_OR_RETURN(packet.body, from(packet.files.back().get(), static_cast<size_t>(header.body_bytes)));
    packet.files.pop_back();
  }
  // Only Files carries descriptors: others would pile up.
  if (packet.type != MessageType::kFiles && !packet.files.empty()) return Broken("descriptors where none belong");
  return packet;
}

}  // namespace

absl::StatusOr<Packet> ReceivePacket(int socket) {
  SCONCE_ASSIGN_OR_RETURN(std::optional<Packet> packet, Receive(socket, 0));
  if (!packet.has_value()) return ErrnoToStatus(EAGAIN, "receiving from a worker process");
  return *std::move(packet);
}

absl::StatusOr<std::optional<Packet>> TryReceivePacket(int socket) {
  return Receive(socket, MSG_DONTWAIT);
}

void WaitForPacketAwake(int socket, absl::Duration patience) {
  pollfd packet{socket, POLLIN, 0};
  const absl::Time until = absl::Now() + patience;
  do {
    if (::poll(&packet, 1, 0) != 0) return;
    ::sched_yield();
  } while (absl::Now() < until);
}

}  // namespace sconce::worker
