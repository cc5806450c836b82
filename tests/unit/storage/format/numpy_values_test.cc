#include "storage/format/numpy_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/pickle_writer.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

// numpy.dtype(name, False, True) with numpy's state.
absl::StatusOr<std::string> Read(const std::string& name, const std::string& order, int64_t size = -1,
                                 bool structured = false) {
  PickleWriter out;
  out.Global("numpy", "dtype");
  out.Str(name);
  out.Bool(false);
  out.Bool(true);
  out.Tuple(3);
  out.Op(PickleOp::kReduce);
  out.Op(PickleOp::kMark);
  out.Int(3);
  out.Str(order);
  out.Op(PickleOp::kNone);
  if (structured) {
    out.Str("a");
    out.Tuple(1);
    out.Op(PickleOp::kEmptyDict);
  } else {
    out.Op(PickleOp::kNone);
    out.Op(PickleOp::kNone);
  }
  out.Int(size);
  out.Int(-1);
  out.Int(0);
  out.Op(PickleOp::kTuple);
  out.Op(PickleOp::kBuild);
  const std::string pickle = out.Finish();
  SCONCE_ASSIGN_OR_RETURN(const PickleGraph graph, ReadPickle(AsBytes(pickle), "data.pkl"));
  return ReadNumpyDtype(graph, graph.root());
}

TEST(NumpyValuesTest, DtypesAreSpelledAsNumpyDoes) {
  EXPECT_EQ(*Read("f8", "<"), "<f8");
  EXPECT_EQ(*Read("i4", ">"), ">i4");
  EXPECT_EQ(*Read("c16", "="), "<c16");
  EXPECT_EQ(*Read("b1", "|"), "|b1");
  EXPECT_EQ(*Read("u1", "<"), "|u1");
  EXPECT_EQ(*Read("S7", "|", 7), "|S7");
  EXPECT_EQ(*Read("V3", "|", 3), "|V3");
  EXPECT_EQ(*Read("U1", "<", 4), "<U1");
  EXPECT_EQ(*Read("U5", ">", 20), ">U5");
}

TEST(NumpyValuesTest, WhatHasNoPlainBytesIsRefusedWithASentence) {
  EXPECT_THAT(Read("O8", "|"), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("Python objects")));
  EXPECT_THAT(Read("M8", "<"), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("dates")));
  EXPECT_THAT(Read("m8", "<"), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("dates")));
  EXPECT_THAT(Read("V12", "|", 12, true), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("structured")));
  EXPECT_THAT(Read("f3", "<"), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("f3")));
  EXPECT_THAT(Read("<f8", "<"), FailsWith(Reason::FILE_UNSUPPORTED));
}

TEST(NumpyValuesTest, DtypesThatNumpyDoesNotWriteAreMalformed) {
  EXPECT_THAT(Read("f8", "|"), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(Read("f8", "<<"), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(Read("f8", ""), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(Read("f", "<"), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(Read("S7", "|", 8), FailsWith(Reason::FILE_MALFORMED, HasSubstr("two sizes")));
}

TEST(NumpyValuesTest, OtherValuesAreNoDtypes) {
  const std::string pickle = std::string("\x80\x02N.", 4);
  ASSERT_OK_AND_ASSIGN(const PickleGraph graph, ReadPickle(AsBytes(pickle), "data.pkl"));
  EXPECT_THAT(ReadNumpyDtype(graph, graph.root()), FailsWith(Reason::FILE_MALFORMED));
}

}  // namespace
}  // namespace sconce::format
