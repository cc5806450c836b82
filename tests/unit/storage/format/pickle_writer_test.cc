#include "storage/format/pickle_writer.h"

#include <gtest/gtest.h>

#include <string>

namespace sconce::format {
namespace {

using namespace std::string_literals;

// What is between the protocol and the stop.
template <typename Write>
std::string Written(const Write& write) {
  PickleWriter writer;
  write(writer);
  const std::string pickle = writer.Finish();
  EXPECT_EQ(pickle.substr(0, 2), "\x80\2");
  EXPECT_EQ(pickle.back(), '.');
  return pickle.substr(2, pickle.size() - 3);
}

std::string Int(int64_t number) {
  return Written([&](PickleWriter& out) { out.Int(number); });
}

TEST(PickleWriterTest, IntsTakeTheShortestOpcode) {
  EXPECT_EQ(Int(0), "K\0"s);
  EXPECT_EQ(Int(255), "K\xff");
  EXPECT_EQ(Int(256), "M\0\1"s);
  EXPECT_EQ(Int(65535), "M\xff\xff");
  EXPECT_EQ(Int(65536), "J\0\0\1\0"s);
  EXPECT_EQ(Int(-1), "J\xff\xff\xff\xff");
  EXPECT_EQ(Int(int64_t{1} << 31), "\x8a\5\0\0\0\x80\0"s);
  EXPECT_EQ(Int(-(int64_t{1} << 31) - 1), "\x8a\5\xff\xff\xff\x7f\xff");
  EXPECT_EQ(Int(INT64_MIN), "\x8a\x08\0\0\0\0\0\0\0\x80"s);
}

TEST(PickleWriterTest, GlobalsAndSharedStringsAreWrittenOnce) {
  EXPECT_EQ(Written([](PickleWriter& out) {
              out.Global("a", "b");
              out.SharedStr("a");
              out.Global("a", "b");
              out.SharedStr("a");
            }),
            "ca\nb\nq\0X\1\0\0\0aq\1h\0h\1"s);
}

TEST(PickleWriterTest, NamesAreASpaceOfTheirOwn) {
  EXPECT_EQ(Written([](PickleWriter& out) {
              out.SharedStr("a");
              EXPECT_FALSE(out.GetNamed("a"));
              out.Op(PickleOp::kNone);
              out.NameAs("a");
              EXPECT_TRUE(out.GetNamed("a"));
            }),
            "X\1\0\0\0aq\0Nq\1h\1"s);
}

TEST(PickleWriterTest, BytesAreTextThatIsEncoded) {
  const std::string whole = Written([](PickleWriter& out) { out.Bytes("\1\xff"); });
  EXPECT_EQ(whole, "c_codecs\nencode\nq\0X\3\0\0\0\1\u00ffX\6\0\0\0latin1q\1\x86R"s);
  size_t at = 0;
  std::string without = Written([&](PickleWriter& out) { at = out.BytesWithoutText(3); });
  EXPECT_EQ(without.insert(at - 2, "\1\u00ff"), whole);
}

TEST(PickleWriterTest, ALongTextHasALongLength) {
  EXPECT_EQ(Written([](PickleWriter& out) { out.BytesWithoutText(0xffffffff); }).substr(18, 5), "X\xff\xff\xff\xff");
  EXPECT_EQ(Written([](PickleWriter& out) { out.BytesWithoutText(0x100000000); }).substr(18, 9),
            "\x8d\0\0\0\0\1\0\0\0"s);
}

TEST(PickleWriterTest, MemoNumbersGrowLong) {
  const std::string written = Written([](PickleWriter& out) {
    PickleWriter::Memo last = 0;
    for (int i = 0; i < 257; ++i) last = out.Put();
    out.Get(last);
    out.Get(255);
  });
  EXPECT_EQ(written.substr(256 * 2), "r\0\1\0\0j\0\1\0\0h\xff"s);
}

}  // namespace
}  // namespace sconce::format
