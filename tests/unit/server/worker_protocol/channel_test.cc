#include "server/worker_protocol/channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "server/worker_protocol/byte_codec.h"
#include "tests/support/status_matchers.h"

namespace sconce::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

int OpenDescriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

std::string RawHeader(uint32_t magic, uint16_t version, uint16_t type, uint64_t body_bytes, uint32_t descriptors,
                      uint32_t flags) {
  ByteWriter writer;
  writer.U32(magic);
  writer.U16(version);
  writer.U16(type);
  writer.U64(0);
  writer.U64(body_bytes);
  writer.U32(descriptors);
  writer.U32(flags);
  return writer.Take();
}
constexpr uint32_t kGoodMagic = 0x01574353;

void SendRaw(int socket, const std::string& datagram, int fd = -1) {
  iovec part{const_cast<char*>(datagram.data()), datagram.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &fd, sizeof(int));
  }
  ASSERT_EQ(::sendmsg(socket, &message, 0), static_cast<ssize_t>(datagram.size()));
}

class ChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pair = SocketPair();
    ASSERT_OK(pair);
    a_ = std::move(pair->first);
    b_ = std::move(pair->second);
  }
  UniqueFd a_, b_;
};

TEST_F(ChannelTest, SmallAndLargeBodiesArrive) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1000}, kInlineBodyBytes, size_t{5} << 20}) {
    Tensor tensor;
    tensor.name = "x";
    tensor.dtype = format::DType::kUInt8;
    tensor.shape = {static_cast<int64_t>(size)};
    const std::string bytes(size, 'q');
    tensor.bytes = AsBytes(bytes);
    ASSERT_OK_AND_ASSIGN(const OutgoingPacket out,
                         OutgoingPacket::Make(MessageType::kInfer, 7, Encode(Infer{{tensor}})));
    ASSERT_OK(out.Send(a_.get()));
    ASSERT_OK_AND_ASSIGN(const Packet packet, ReceivePacket(b_.get()));
    EXPECT_EQ(packet.type, MessageType::kInfer);
    EXPECT_EQ(packet.id, 7u);
    ASSERT_OK_AND_ASSIGN(const Infer infer, DecodeInfer(packet.body.bytes()));
    ASSERT_THAT(infer.inputs, SizeIs(1));
    EXPECT_EQ(AsText(infer.inputs[0].bytes), bytes);
    if (size > 0) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(infer.inputs[0].bytes.data()) % kDataAlignment, 0u);
    }
  }
}

TEST_F(ChannelTest, ABufferTakesOneBodyAfterTheOther) {
  ASSERT_OK_AND_ASSIGN(const auto buffer, BodyBuffer::Make());
  const auto make = [&](char c, size_t size) {
    const std::string bytes(size, c);
    Tensor tensor{"x", format::DType::kUInt8, {static_cast<int64_t>(size)}, AsBytes(bytes)};
    return OutgoingPacket::Make(MessageType::kInfer, 7, Encode(Infer{{tensor}}), BodyBuffer::Lease(*buffer)).value();
  };
  const auto arrives = [&](const OutgoingPacket& out, char c) -> Packet {
    EXPECT_OK(out.Send(a_.get()));
    Packet packet = ReceivePacket(b_.get()).value();
    const Infer infer = DecodeInfer(packet.body.bytes()).value();
    EXPECT_EQ(AsText(infer.inputs[0].bytes), std::string(infer.inputs[0].bytes.size(), c));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(infer.inputs[0].bytes.data()) % kDataAlignment, 0u);
    return packet;
  };
  OutgoingPacket first = make('1', 100'000);
  const OutgoingPacket second = make('2', 100'000);  // the buffer is taken: it has a memfd of its own
  const Packet received = arrives(first, '1');
  arrives(second, '2');
  BodyBuffer::Lease lease = first.TakeLease();
  EXPECT_TRUE(lease);
  EXPECT_FALSE(BodyBuffer::Lease(*buffer));
  lease = {};
  arrives(make('3', 200'000), '3');
  arrives(make('4', kBufferBytes), '4');  // with its header it is too large
  const Infer infer = DecodeInfer(received.body.bytes()).value();
  EXPECT_EQ(AsText(infer.inputs[0].bytes), std::string(100'000, '1'));  // a copy
}

TEST_F(ChannelTest, ABufferThatIsNoneIsRefused) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  const UniqueFd nobody_writes(pipe[0]), end(pipe[1]);
  SendRaw(a_.get(), RawHeader(kGoodMagic, kProtocolVersion, 6, 100, 1, 2), nobody_writes.get());
  EXPECT_THAT(ReceivePacket(b_.get()), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("not in memory")));
  const UniqueFd memfd(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memfd.get(), 99), 0);
  SendRaw(a_.get(), RawHeader(kGoodMagic, kProtocolVersion, 6, 100, 1, 2), memfd.get());
  EXPECT_THAT(ReceivePacket(b_.get()), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("shorter")));
  SendRaw(a_.get(), RawHeader(kGoodMagic, kProtocolVersion, 6, kBufferBytes + 1, 1, 2), memfd.get());
  EXPECT_THAT(ReceivePacket(b_.get()), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("too large for a buffer")));
}

TEST_F(ChannelTest, DescriptorsArrive) {
  UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::pwrite(file.get(), "hello", 5, 0), 5);
  ASSERT_OK(OutgoingPacket::Files({file.get(), file.get()}).Send(a_.get()));
  ASSERT_OK_AND_ASSIGN(const Packet packet, ReceivePacket(b_.get()));
  ASSERT_THAT(packet.files, SizeIs(2));
  char text[5];
  ASSERT_EQ(::pread(packet.files[1].get(), text, 5, 0), 5);
  EXPECT_EQ(std::string(text, 5), "hello");
  EXPECT_NE(::fcntl(packet.files[0].get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(ChannelTest, AClosedOtherSideIsAWorkerThatDied) {
  b_.Reset();
  EXPECT_THAT(ReceivePacket(a_.get()), FailsWith(Reason::WORKER_DIED));
  ASSERT_OK_AND_ASSIGN(const OutgoingPacket out, OutgoingPacket::Make(MessageType::kHello, 0, Encode(Hello{"1"})));
  EXPECT_THAT(out.Send(a_.get()), FailsWith(Reason::WORKER_DIED));
}

TEST_F(ChannelTest, ABodyThatCouldChangeOrShrinkIsRefused) {
  UniqueFd memfd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memfd.get(), 100), 0);
  const std::string header = RawHeader(kGoodMagic, kProtocolVersion, 6, 100, 1, 1);
  SendRaw(a_.get(), header, memfd.get());
  EXPECT_THAT(ReceivePacket(b_.get()), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("could change")));
  ASSERT_EQ(::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  SendRaw(a_.get(), header, memfd.get());
  EXPECT_THAT(ReceivePacket(b_.get()), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("could change")));
  ASSERT_EQ(::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  SendRaw(a_.get(), header, memfd.get());
  EXPECT_OK(ReceivePacket(b_.get()));
  SendRaw(a_.get(), RawHeader(kGoodMagic, kProtocolVersion, 6, 101, 1, 1), memfd.get());
  EXPECT_THAT(ReceivePacket(b_.get()), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("another size")));
}

TEST_F(ChannelTest, BrokenHeadersAreRefusedAndLeakNoDescriptor) {
  UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
  const int before = OpenDescriptors();
  const std::string headers[] = {
      "short",
      RawHeader(kGoodMagic + 1, kProtocolVersion, 1, 0, 1, 0),
      RawHeader(kGoodMagic, kProtocolVersion + 1, 1, 0, 1, 0),
      RawHeader(kGoodMagic, kProtocolVersion, 0, 0, 1, 0),
      RawHeader(kGoodMagic, kProtocolVersion, 99, 0, 1, 0),
      RawHeader(kGoodMagic, kProtocolVersion, 1, 0, 1, 3),
      RawHeader(kGoodMagic, kProtocolVersion, 1, UINT64_MAX, 1, 0),
      RawHeader(kGoodMagic, kProtocolVersion, 1, 5, 1, 0),
      RawHeader(kGoodMagic, kProtocolVersion, 1, 0, 2, 0),
      RawHeader(kGoodMagic, kProtocolVersion, 1, 0, 1, 0),  // a Hello that brings a descriptor
      RawHeader(kGoodMagic, kProtocolVersion, 1, 0, 1, 0) + std::string(kInlineBodyBytes + 1, 'x'),
  };
  for (const std::string& header : headers) {
    SendRaw(a_.get(), header, file.get());
    EXPECT_THAT(ReceivePacket(b_.get()), FailsWith(Reason::INTERNAL_ERROR)) << ToHex(AsBytes(header));
  }
  SendRaw(a_.get(), RawHeader(kGoodMagic, kProtocolVersion, 1, 8, 0, 1));
  EXPECT_THAT(ReceivePacket(b_.get()), FailsWith(Reason::INTERNAL_ERROR, HasSubstr("missing")));
  EXPECT_EQ(OpenDescriptors(), before);
}

}  // namespace
}  // namespace sconce::worker
