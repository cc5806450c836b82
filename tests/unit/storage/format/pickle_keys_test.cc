#include "storage/format/pickle_keys.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "storage/format/pickle_writer.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

// The ids of the elements of a tuple that `write` puts on the stack.
class PickleKeysTest : public ::testing::Test {
 protected:
  template <typename Write>
  std::vector<std::optional<uint32_t>> Ids(Write write) {
    PickleWriter out;
    out.Op(PickleOp::kMark);
    write(out);
    out.Op(PickleOp::kTuple);
    pickle_ = out.Finish();
    auto graph = ReadPickle(AsBytes(pickle_), "data.pkl");
    EXPECT_OK(graph);
    PickleKeys keys(*graph);
    std::vector<std::optional<uint32_t>> ids;
    for (const PickleIndex item : graph->Items(graph->root())) ids.push_back(keys.Id(item));
    return ids;
  }
  std::string pickle_;
};

void SizeOf(PickleWriter& out, int64_t a, int64_t b) {
  out.Global("torch", "Size");
  out.Int(a);
  out.Int(b);
  out.Tuple(2);
  out.Tuple(1);
  out.Op(PickleOp::kReduce);
}

TEST_F(PickleKeysTest, NumbersThatPythonTakesForEqualAreOneKey) {
  const auto ids = Ids([](PickleWriter& out) {
    out.Int(1);
    out.Bool(true);
    out.Float(1.0);
    out.Str("1");
    out.Float(1.5);
    out.Int(0);
    out.Float(-0.0);
    out.Op(PickleOp::kNone);
  });
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(ids[0], ids[2]);
  EXPECT_NE(ids[0], ids[3]);
  EXPECT_NE(ids[0], ids[4]);
  EXPECT_EQ(ids[5], ids[6]);
  EXPECT_NE(ids[5], ids[7]);
}

TEST_F(PickleKeysTest, NanEqualsOnlyItself) {
  const auto ids = Ids([](PickleWriter& out) {
    out.Float(std::nan(""));
    const PickleWriter::Memo memo = out.Put();
    out.Float(std::nan(""));
    out.Get(memo);
  });
  EXPECT_NE(ids[0], ids[1]);
  EXPECT_EQ(ids[0], ids[2]);
}

TEST_F(PickleKeysTest, TuplesAreEqualByTheirElements) {
  const auto ids = Ids([](PickleWriter& out) {
    for (int i = 0; i < 2; ++i) {
      out.Int(1);
      out.Str("a");
      out.Tuple(2);
      out.Tuple(1);
    }
    out.Bytes("x");
    out.Bytes("x");
    out.Str("x");
    SizeOf(out, 1, 2);
    SizeOf(out, 1, 2);
    SizeOf(out, 2, 2);
  });
  EXPECT_TRUE(ids[0].has_value());
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_EQ(ids[2], ids[3]);
  EXPECT_NE(ids[2], ids[4]);
  EXPECT_EQ(ids[5], ids[6]);
  EXPECT_NE(ids[5], ids[7]);
}

void NumpyInt(PickleWriter& out, const std::string& type, const std::string& bytes) {
  out.Global("numpy._core.multiarray", "scalar");
  out.Global("numpy", "dtype");
  out.Str(type);
  out.Tuple(1);
  out.Op(PickleOp::kReduce);
  out.Bytes(bytes);
  out.Tuple(2);
  out.Op(PickleOp::kReduce);
}

TEST_F(PickleKeysTest, NumpyScalarsAreEqualByDtypeAndBytes) {
  const auto ids = Ids([](PickleWriter& out) {
    NumpyInt(out, "i2", "ab");
    NumpyInt(out, "i2", "ab");
    NumpyInt(out, "i2", "ac");
    NumpyInt(out, "u2", "ab");
    NumpyInt(out, "O8", "ab");
    NumpyInt(out, "S2000", std::string(2000, 'x'));
  });
  EXPECT_TRUE(ids[0].has_value());
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_NE(ids[0], ids[2]);
  EXPECT_NE(ids[0], ids[3]);
  EXPECT_FALSE(ids[4].has_value());
  EXPECT_FALSE(ids[5].has_value());
}

TEST_F(PickleKeysTest, ContainersAreNoKeys) {
  const auto ids = Ids([](PickleWriter& out) {
    out.Op(PickleOp::kEmptyList);
    out.Op(PickleOp::kEmptyDict);
    out.Tuple(1);
    out.Global("collections", "OrderedDict");
    out.Tuple(0);
    out.Op(PickleOp::kReduce);
    out.Global("collections", "OrderedDict");
    out.Global("torch", "float32");
  });
  EXPECT_FALSE(ids[0].has_value());
  EXPECT_FALSE(ids[1].has_value());
  EXPECT_FALSE(ids[2].has_value());
  EXPECT_TRUE(ids[3].has_value()) << "a class is a key";
  EXPECT_TRUE(ids[4].has_value());
  EXPECT_NE(ids[3], ids[4]);
}

TEST_F(PickleKeysTest, SharedTuplesAreLookedAtOnce) {
  // 200 levels of (x, x): 2^200 leaves if they were copied.
  const auto ids = Ids([](PickleWriter& out) {
    out.Int(7);
    for (int i = 0; i < 200; ++i) {
      out.Op(PickleOp::kDup);
      out.Tuple(2);
    }
  });
  EXPECT_TRUE(ids[0].has_value());
}

TEST_F(PickleKeysTest, LastOfEqualKeysWinsInTheFirstOnesPlace) {
  PickleWriter out;
  out.Op(PickleOp::kEmptyDict);
  out.Op(PickleOp::kMark);
  for (const auto& [key, value] : {std::pair{"a", 1}, {"b", 2}, {"a", 3}}) {
    out.Str(key);
    out.Int(value);
  }
  out.Op(PickleOp::kSetItems);
  const std::string pickle = out.Finish();
  ASSERT_OK_AND_ASSIGN(const PickleGraph graph, ReadPickle(AsBytes(pickle), "data.pkl"));
  PickleKeys keys(graph);
  std::vector<PickleIndex> items;
  ASSERT_TRUE(keys.Deduplicate(graph.Items(graph.root()), items));
  ASSERT_EQ(items.size(), 4u);
  EXPECT_EQ(ToStd(graph.Text(items[0])), "a");
  EXPECT_EQ(graph[items[1]].integer, 3);
  EXPECT_EQ(ToStd(graph.Text(items[2])), "b");
}

}  // namespace
}  // namespace sconce::format
