#include "storage/format/pickle_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "storage/format/pickle_writer.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Kind = PickleValue::Kind;

// A pickle of protocol 2 around these opcodes.
std::string Pickle(const std::string& opcodes) {
  return "\x80\x02" + opcodes + ".";
}
absl::StatusOr<PickleGraph> Read(const std::string& pickle) {
  return ReadPickle(AsBytes(pickle), "data.pkl");
}

std::string Raw(std::initializer_list<int> bytes) {
  std::string raw;
  for (const int byte : bytes) raw.push_back(static_cast<char>(byte));
  return raw;
}

TEST(PickleReaderTest, RoundTrip) {
  PickleWriter out;
  out.Op(PickleOp::kEmptyList);
  out.Op(PickleOp::kMark);
  const std::vector<int64_t> numbers = {
      0,         1,         255, 256, 65535, 65536, -1, INT32_MAX, INT32_MIN, int64_t{1} << 31, -(int64_t{1} << 31) - 1,
      INT64_MAX, INT64_MIN, 127, 128, -128,  -129};
  for (const int64_t number : numbers) out.Int(number);
  out.Float(1.5);
  out.Bool(true);
  out.Str("h\xc3\xa9");
  out.Op(PickleOp::kNone);
  out.Op(PickleOp::kAppends);
  const std::string pickle = out.Finish();
  ASSERT_OK_AND_ASSIGN(const PickleGraph graph, Read(pickle));
  ASSERT_EQ(graph[graph.root()].kind, Kind::kList);
  const auto items = graph.Items(graph.root());
  ASSERT_EQ(items.size(), numbers.size() + 4);
  for (size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(graph[items[i]].kind, Kind::kInt);
    EXPECT_EQ(graph[items[i]].integer, numbers[i]);
  }
  EXPECT_EQ(graph[items[numbers.size()]].real, 1.5);
  EXPECT_EQ(graph[items[numbers.size() + 1]].integer, 1);
  EXPECT_EQ(ToStd(graph.Text(items[numbers.size() + 2])), "h\xc3\xa9");
  EXPECT_EQ(graph[items[numbers.size() + 3]].kind, Kind::kNone);
}

TEST(PickleReaderTest, CorruptMagicIsRefused) {
  EXPECT_THAT(Read(""), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(Read("}."), FailsWith(Reason::FILE_MALFORMED, HasSubstr("protocol")));
  EXPECT_THAT(Read("garbage"), FailsWith(Reason::FILE_MALFORMED));
}

TEST(PickleReaderTest, CorruptLengthIsRefused) {
  EXPECT_THAT(Read(Pickle(Raw({'X', 0xff, 0xff, 0xff, 0xff, 'a'}))),
              FailsWith(Reason::FILE_MALFORMED, HasSubstr("byte 2")));
  EXPECT_THAT(Read(Pickle(Raw({0x8b, 0xff, 0xff, 0xff, 0x7f, 1}))), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(Read(Pickle(Raw({0x8d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}))),
              FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(Read(Pickle(Raw({0x95, 100, 0, 0, 0, 0, 0, 0, 0, 'N'}))),
              FailsWith(Reason::FILE_MALFORMED, HasSubstr("frame")));
}

TEST(PickleReaderTest, UnsupportedVersionIsNamed) {
  for (const int protocol : {0, 1, 6, 99}) {
    EXPECT_THAT(Read(Raw({0x80, protocol, 'N', '.'})),
                FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr(std::to_string(protocol))));
  }
  for (const int protocol : {2, 3, 4, 5}) EXPECT_OK(Read(Raw({0x80, protocol, 'N', '.'})));
}

TEST(PickleReaderTest, BigIntegersAreAsShortAsCanBe) {
  // 2^64 with two bytes that only repeat the sign, and a long that fits 64 bits after all.
  std::string pickle = Pickle(Raw({0x8a, 11, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}));
  ASSERT_OK_AND_ASSIGN(const PickleGraph big, Read(pickle));
  EXPECT_EQ(big[big.root()].kind, Kind::kLong);
  EXPECT_EQ(std::string(ToStd(big.Text(big.root()))), Raw({0, 0, 0, 0, 0, 0, 0, 0, 1}));
  pickle = Pickle(Raw({0x8a, 9, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}));
  ASSERT_OK_AND_ASSIGN(const PickleGraph small, Read(pickle));
  EXPECT_EQ(small[small.root()].kind, Kind::kInt);
  EXPECT_EQ(small[small.root()].integer, -2);
  // 2^63 does not fit, and needs its ninth byte.
  pickle = Pickle(Raw({0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0x80, 0}));
  ASSERT_OK_AND_ASSIGN(const PickleGraph edge, Read(pickle));
  EXPECT_EQ(edge[edge.root()].kind, Kind::kLong);
  EXPECT_EQ(edge.Text(edge.root()).size(), 9u);
  ASSERT_OK_AND_ASSIGN(const PickleGraph zero, Read(Pickle(Raw({0x8a, 0}))));
  EXPECT_EQ(zero[zero.root()].integer, 0);
}

TEST(PickleReaderTest, SharedObjectsAreOneValue) {
  const std::string pickle = Pickle(Raw({']', 'q', 0, 'h', 0, 0x86}));  // l = []; (l, l)
  ASSERT_OK_AND_ASSIGN(const PickleGraph graph, Read(pickle));
  const auto items = graph.Items(graph.root());
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0], items[1]);
}

TEST(PickleReaderTest, OpcodesOfProtocol4And5) {
  const std::string pickle = Raw({0x80, 5,    0x95, 30,  0,    0,   0, 0,   0, 0, 0,    '(',  0x8f, 0x94, '(', 'K', 1,
                                  0x90, 0x8c, 1,    'a', 0x94, 'h', 1, 'C', 2, 0, 0xff, 0x96, 1,    0,    0,   0,   0,
                                  0,    0,    0,    'z', 0x8e, 1,   0, 0,   0, 0, 0,    0,    0,    'y',  't', '.'});
  ASSERT_OK_AND_ASSIGN(const PickleGraph graph, Read(pickle));
  const auto items = graph.Items(graph.root());
  ASSERT_EQ(items.size(), 6u);
  EXPECT_EQ(graph[items[0]].kind, Kind::kSet);
  EXPECT_EQ(graph.Items(items[0]).size(), 1u);
  EXPECT_EQ(items[1], items[2]);
  EXPECT_EQ(graph[items[3]].kind, Kind::kBytes);
  EXPECT_EQ(graph[items[4]].kind, Kind::kByteArray);
  EXPECT_EQ(ToStd(graph.Text(items[5])), "y");
}

TEST(PickleReaderTest, AllRefusedGlobalsAreNamedAtOnce) {
  const std::string pickle = Pickle("(cos\nsystem\nX\x02" + std::string("\0\0\0ls\x85R", 7) +
                                    "cmy.module\nMyClass\n)\x81}bcos\nsystem\ncbad name\n\x01\nt");
  const auto read = Read(pickle);
  EXPECT_THAT(read, FailsWith(Reason::PICKLE_GLOBAL_REFUSED, HasSubstr("state_dict()")));
  const auto detail = GetErrorDetail(read.status());
  ASSERT_TRUE(detail.has_value());
  ASSERT_EQ(detail->metadata.size(), 1u);
  EXPECT_EQ(detail->metadata[0].first, "globals");
  EXPECT_EQ(detail->metadata[0].second, "os.system, my.module.MyClass, \"bad name.\\x01\"");
}

TEST(PickleReaderTest, ManyRefusedGlobalsAreCounted) {
  std::string opcodes = "(";
  for (int i = 0; i < 500; ++i) opcodes += "cm\nn" + std::to_string(i) + "\n";
  EXPECT_THAT(Read(Pickle(opcodes + "t")), FailsWith(Reason::PICKLE_GLOBAL_REFUSED, HasSubstr("and 470 more")));
}

TEST(PickleReaderTest, RefusedGlobalsAreNamedEvenWhenTheRestIsBroken) {
  EXPECT_THAT(Read("\x80\x02"
                   "cos\nsystem\n\xff"),
              FailsWith(Reason::PICKLE_GLOBAL_REFUSED));
}

TEST(PickleReaderTest, BrokenStacksAreRefused) {
  const std::string ordered = "ccollections\nOrderedDict\n";
  const std::vector<std::string> broken = {"0",
                                           "2",
                                           "t",
                                           "\x85",
                                           "u",
                                           "](",
                                           "NN",
                                           "Na",
                                           "]Na..",
                                           "}Ns",
                                           "}(Nu",
                                           "}(NNNu",
                                           Raw({'h', 0}),
                                           Raw({'j', 1, 0, 0, 0}),
                                           "NR",
                                           "N)R",
                                           ordered + "NR",
                                           ordered + ")RNNb",
                                           "}}b",
                                           "]}b",
                                           "ctorch\nfloat32\n)R",
                                           "(N",
                                           "Q",
                                           "q",
                                           std::string(1, '\x93'),
                                           "NN\x93",
                                           "(1",
                                           ""};
  for (const std::string& opcodes : broken) {
    EXPECT_THAT(Read(Pickle(opcodes)), FailsWith(Reason::FILE_MALFORMED)) << opcodes;
  }
  EXPECT_THAT(Read("\x80\x02N"), FailsWith(Reason::FILE_MALFORMED, HasSubstr("STOP")));
  EXPECT_THAT(Read(Pickle("N") + "N"), FailsWith(Reason::FILE_MALFORMED));
}

TEST(PickleReaderTest, ForeignOpcodesAreRefused) {
  for (const std::string& opcodes : {std::string("I1\n"), std::string("F1\n"), std::string("S'a'\n"),
                                     std::string("Pid\n"), std::string("(ios\nsystem\n"), std::string("\x82\x01"),
                                     std::string("\xfe"), std::string("\x97"), std::string("\x91")}) {
    EXPECT_THAT(Read(Pickle(opcodes)), FailsWith(Reason::FILE_UNSUPPORTED)) << opcodes;
  }
}

TEST(PickleReaderTest, NewObjectsAreOnlyWhatTheirClassMakesWithoutInit) {
  EXPECT_OK(ReadPickle(AsBytes("\x80\x02"
                               "ccollections\nOrderedDict\n)\x81."),
                       "p"));
  EXPECT_THAT(ReadPickle(AsBytes("\x80\x02"
                                 "cnumpy\ndtype\nU\x02"
                                 "f8\x85\x81."),
                         "p"),
              FailsWith(Reason::FILE_MALFORMED));
}

TEST(PickleReaderTest, FrozenSetsAreRefusedWithASentence) {
  EXPECT_THAT(ReadPickle(AsBytes("\x80\x04(K\x01\x91."), "p"),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("frozenset")));
}

TEST(PickleReaderTest, TextMustBeUtf8WithLoneSurrogatesAllowed) {
  EXPECT_THAT(Read(Pickle(Raw({'X', 1, 0, 0, 0, 0xff}))), FailsWith(Reason::FILE_MALFORMED, HasSubstr("UTF-8")));
  EXPECT_THAT(Read(Pickle(Raw({'X', 2, 0, 0, 0, 0xc0, 0x80}))), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_OK(Read(Pickle(Raw({'X', 3, 0, 0, 0, 0xed, 0xa0, 0x80}))));
}

TEST(PickleReaderTest, FarMemoKeysCostNothing) {
  ASSERT_OK_AND_ASSIGN(const PickleGraph graph,
                       Read(Pickle(Raw({']', 'r', 0xff, 0xff, 0xff, 0x7f, '0', 'j', 0xff, 0xff, 0xff, 0x7f}))));
  EXPECT_EQ(graph[graph.root()].kind, Kind::kList);
}

TEST(PickleReaderTest, LimitsBoundWhatAPickleCanMake) {
  EXPECT_THAT(Read(Pickle("(" + std::string(kMaxPickleValues + 1, 'N') + "t")),
              FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  EXPECT_THAT(Read(Pickle(std::string(kMaxPickleValues + 1, '('))), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  EXPECT_THAT(Read(Pickle("N" + std::string(kMaxPickleValues + 1, '\x94'))), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  EXPECT_THAT(Read(Pickle("N(" + std::string(4 * kMaxPickleValues + 1, '2') + "t")), Not(IsOk()));
}

TEST(PickleReaderTest, EveryTruncationIsAnErrorAndEveryFlipHarmless) {
  PickleWriter out;
  out.Op(PickleOp::kEmptyDict);
  out.Op(PickleOp::kMark);
  out.Str("a");
  out.Bytes(std::string("\0\xff", 2));
  out.SharedStr("b");
  out.Global("collections", "OrderedDict");
  out.Tuple(0);
  out.Op(PickleOp::kReduce);
  out.SharedStr("b");
  out.Long(std::string(9, '\x01'));
  out.Op(PickleOp::kSetItems);
  const std::string pickle = out.Finish();
  ASSERT_OK(Read(pickle));
  for (size_t length = 0; length < pickle.size(); ++length) EXPECT_THAT(Read(pickle.substr(0, length)), Not(IsOk()));
  for (size_t at = 0; at < pickle.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string damaged = pickle;
      damaged[at] = static_cast<char>(value);
      (void)Read(damaged);
    }
  }
}

}  // namespace
}  // namespace sconce::format
