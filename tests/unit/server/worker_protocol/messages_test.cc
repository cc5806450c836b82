#include "server/worker_protocol/messages.h"

#include <cstring>
#include <random>
#include <string>

#include "server/worker_protocol/channel.h"
#include "tests/support/status_matchers.h"

namespace sconce::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// The body as it arrives: pieces laid out as channel.cc does.
std::string Laid(const EncodedBody& body) {
  std::string out = body.table;
  for (const ByteSpan part : body.data) {
    if (part.empty()) continue;
    out.append((kDataAlignment - out.size() % kDataAlignment) % kDataAlignment, '\0');
    out.append(AsText(part).data(), part.size());
  }
  return out;
}

Tensor MakeTensor(const std::string& name, const std::string& bytes) {
  Tensor tensor;
  tensor.name = name;
  tensor.dtype = format::DType::kInt8;
  tensor.shape = {static_cast<int64_t>(bytes.size())};
  tensor.bytes = AsBytes(bytes);
  return tensor;
}

Load MakeLoad() {
  Load load;
  load.device = "cpu";
  load.memory_bytes = int64_t{5} << 30;
  load.module = {30, {{0, 64, 10}, {1, 4096, 20}}, {}};
  load.has_weights = true;
  load.lenient = true;
  load.min_match = 0.75;
  load.take_dtype = true;
  static const std::string bytes(40, 'x');
  load.storages.push_back({40, {}, AsBytes(bytes)});
  format::TensorView view;
  view.storage = 0;
  view.offset = 1;
  view.shape = {3, 3};
  view.stride = {3, 1};
  load.entries.push_back({"fc.weight", view});
  return load;
}

TEST(MessagesTest, LoadComesBackAsItWas) {
  const std::string body = Laid(Encode(MakeLoad()));
  ASSERT_OK_AND_ASSIGN(const Load load, DecodeLoad(AsBytes(body), 2));
  EXPECT_EQ(load.device, "cpu");
  EXPECT_EQ(load.memory_bytes, int64_t{5} << 30);
  EXPECT_TRUE(load.lenient);
  EXPECT_EQ(load.min_match, 0.75);
  EXPECT_TRUE(load.take_dtype);
  ASSERT_THAT(load.module.extents, SizeIs(2));
  EXPECT_EQ(load.module.extents[1].file, 1u);
  EXPECT_EQ(load.module.extents[1].offset, 4096);
  EXPECT_EQ(load.module.extents[1].size_bytes, 20);
  ASSERT_THAT(load.storages, SizeIs(1));
  EXPECT_EQ(AsText(load.storages[0].inline_bytes), std::string(40, 'x'));
  ASSERT_THAT(load.entries, SizeIs(1));
  EXPECT_EQ(load.entries[0].name, "fc.weight");
  EXPECT_THAT(load.entries[0].view.shape, ElementsAre(3, 3));
  EXPECT_EQ(load.entries[0].view.offset, 1);
}

TEST(MessagesTest, TensorsComeBackAligned) {
  const std::string a = "abc", b(100, 'b'), empty;
  const std::string body = Laid(Encode(Infer{{MakeTensor("x", a), MakeTensor("none", empty), MakeTensor("y", b)}}));
  ASSERT_OK_AND_ASSIGN(const Infer infer, DecodeInfer(AsBytes(body)));
  ASSERT_THAT(infer.inputs, SizeIs(3));
  EXPECT_EQ(AsText(infer.inputs[0].bytes), a);
  EXPECT_TRUE(infer.inputs[1].bytes.empty());
  EXPECT_EQ(AsText(infer.inputs[2].bytes), b);
  EXPECT_EQ((infer.inputs[2].bytes.data() - AsBytes(body).data()) % static_cast<ptrdiff_t>(kDataAlignment), 0);
}

TEST(MessagesTest, StartAndStartedComeBack) {
  ASSERT_OK_AND_ASSIGN(const Start start, DecodeStart(AsBytes(Laid(Encode(Start{3})))));
  EXPECT_EQ(start.threads, 3u);
  EXPECT_FALSE(DecodeStart(AsBytes(Laid(Encode(Start{kMaxThreads + 1})))).ok());
  EXPECT_FALSE(DecodeStart({}).ok());
  ASSERT_OK_AND_ASSIGN(const Started started, DecodeStarted(AsBytes(Laid(Encode(Started{4711})))));
  EXPECT_EQ(started.pid, 4711);
  for (const int64_t pid : {int64_t{-1}, int64_t{0}, int64_t{1} << 32}) {
    EXPECT_FALSE(DecodeStarted(AsBytes(Laid(Encode(Started{pid})))).ok()) << pid;
  }
}

TEST(MessagesTest, LoadedAndFailureAndHelloComeBack) {
  ASSERT_OK_AND_ASSIGN(const Hello hello, DecodeHello(AsBytes(Laid(Encode(Hello{"1.13.1"})))));
  EXPECT_EQ(hello.torch_version, "1.13.1");
  ASSERT_OK_AND_ASSIGN(
      const Loaded loaded,
      DecodeLoaded(AsBytes(Laid(Encode(Loaded{{{"x", "Tensor", true}, {"n", "int", false}}, {"OUTPUT__0"}})))));
  ASSERT_THAT(loaded.arguments, SizeIs(2));
  EXPECT_EQ(loaded.arguments[1].type, "int");
  EXPECT_FALSE(loaded.arguments[1].required);
  EXPECT_THAT(loaded.outputs, ElementsAre("OUTPUT__0"));
  ASSERT_OK_AND_ASSIGN(const Failure failure,
                       DecodeFailure(AsBytes(Laid(Encode(Failure{FailureKind::kWeightsMismatch, "no \xff", "all"})))));
  EXPECT_EQ(failure.message, "no ?");
  EXPECT_THAT(ToStatus(failure), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("no ?")));
}

TEST(MessagesTest, AViewOutsideItsStorageIsRefused) {
  Load load = MakeLoad();
  load.entries[0].view.offset = 2;
  const std::string body = Laid(Encode(load));
  EXPECT_THAT(DecodeLoad(AsBytes(body), 2), FailsWith(Reason::INTERNAL_ERROR));
}

TEST(MessagesTest, AStorageThatDoesNotExistIsRefused) {
  Load load = MakeLoad();
  load.entries[0].view.storage = 1;
  const std::string body = Laid(Encode(load));
  EXPECT_THAT(DecodeLoad(AsBytes(body), 2), FailsWith(Reason::INTERNAL_ERROR));
}

TEST(MessagesTest, AFileThatWasNotSentIsRefused) {
  const std::string body = Laid(Encode(MakeLoad()));
  EXPECT_THAT(DecodeLoad(AsBytes(body), 1), FailsWith(Reason::INTERNAL_ERROR));
}

TEST(MessagesTest, ExtentsThatDoNotAddUpAreRefused) {
  Load load = MakeLoad();
  load.module.size_bytes = 31;
  const std::string body = Laid(Encode(load));
  EXPECT_THAT(DecodeLoad(AsBytes(body), 2), FailsWith(Reason::INTERNAL_ERROR));
}

TEST(MessagesTest, AnExtentThatOverflowsIsRefused) {
  Load load = MakeLoad();
  load.module.extents[0].offset = INT64_MAX - 5;
  const std::string body = Laid(Encode(load));
  EXPECT_THAT(DecodeLoad(AsBytes(body), 2), FailsWith(Reason::INTERNAL_ERROR));
}

TEST(MessagesTest, ATensorWithTooFewBytesIsRefused) {
  const std::string bytes = "abc";
  Tensor tensor = MakeTensor("x", bytes);
  tensor.shape = {4};
  const std::string body = Laid(Encode(Result{{tensor}}));
  EXPECT_THAT(DecodeResult(AsBytes(body)), FailsWith(Reason::INTERNAL_ERROR));
}

TEST(MessagesTest, AShapeThatOverflowsIsRefused) {
  Tensor tensor = MakeTensor("x", "");
  tensor.shape = {INT64_MAX, 8, 3};
  const std::string body = Laid(Encode(Result{{tensor}}));
  EXPECT_THAT(DecodeResult(AsBytes(body)), FailsWith(Reason::INTERNAL_ERROR));
}

TEST(MessagesTest, ANameThatIsNoUtf8IsRefused) {
  const std::string bytes = "abc";
  const std::string body = Laid(Encode(Result{{MakeTensor("\xc3(", bytes)}}));
  EXPECT_THAT(DecodeResult(AsBytes(body)), FailsWith(Reason::INTERNAL_ERROR));
}

TEST(MessagesTest, AHugeCountIsRefusedBeforeAnythingIsAllocated) {
  std::string body(24, '\0');
  const uint64_t table_bytes = 24;
  std::memcpy(body.data(), &table_bytes, 8);
  std::memset(body.data() + 8, 0xff, 4);
  EXPECT_THAT(DecodeResult(AsBytes(body)), FailsWith(Reason::INTERNAL_ERROR));
  EXPECT_THAT(DecodeInfer(AsBytes(body)), FailsWith(Reason::INTERNAL_ERROR));
}

// Whatever comes, decoding ends with a status and reads nothing outside: run under ASan this is the proof.
TEST(MessagesTest, DamagedBodiesNeverDecodeOutsideThem) {
  const std::string a = "abc", b(100, 'b');
  const std::vector<std::string> bodies = {Laid(Encode(MakeLoad())),
                                           Laid(Encode(Result{{MakeTensor("x", a), MakeTensor("y", b)}})),
                                           Laid(Encode(Loaded{{{"x", "Tensor", true}}, {"OUTPUT__0"}})),
                                           Laid(Encode(Failure{FailureKind::kModelFailed, "message", "detail"}))};
  std::mt19937 random(7);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string body = bodies[random() % bodies.size()];
    for (uint32_t i = random() % 4; i > 0; --i) body[random() % body.size()] = static_cast<char>(random());
    if (random() % 3 == 0) body.resize(random() % (body.size() + 1));
    const std::string exact(body);  // its own allocation, so that one byte too far is seen
    const ByteSpan bytes = AsBytes(exact);
    const absl::StatusOr<Result> result = DecodeResult(bytes);
    if (result.ok()) {
      for (const Tensor& tensor : result->outputs) {
        for (const uint8_t& byte : tensor.bytes)
          ASSERT_TRUE(&byte >= bytes.data() && &byte < bytes.data() + bytes.size());
      }
    }
    const absl::StatusOr<Load> load = DecodeLoad(bytes, 2);
    if (load.ok()) {
      for (const StateEntry& entry : load->entries) {
        ASSERT_LE(format::ViewEndBytes(entry.view), load->storages[entry.view.storage].size_bytes);
      }
    }
    if (!result.ok() && !load.ok() && !DecodeLoaded(bytes).ok() && !DecodeFailure(bytes).ok()) ++refused;
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace sconce::worker
