#include "client/cli/tensor_values.h"

#include <cstring>

#include "tests/support/status_matchers.h"

namespace sconce::cli {
namespace {

using ::testing::ElementsAre;

template <typename T>
std::string Raw(std::initializer_list<T> values) {
  std::string out;
  for (const T value : values) out.append(reinterpret_cast<const char*>(&value), sizeof value);
  return out;
}

TEST(TensorValuesTest, ATransposedViewIsReadInRowMajorOrder) {
  format::TensorView view;
  view.dtype = format::DType::kInt16;
  view.shape = {3, 2};
  view.stride = {1, 3};
  view.offset = 1;
  const std::string storage = Raw<int16_t>({99, 0, 1, 2, 3, 4, 5});
  EXPECT_EQ(ContiguousBytes(view, AsBytes(storage)), Raw<int16_t>({0, 3, 1, 4, 2, 5}));
}

TEST(TensorValuesTest, ZeroDimensionalAndEmptyViews) {
  format::TensorView view;
  view.dtype = format::DType::kInt16;
  EXPECT_EQ(ContiguousBytes(view, AsBytes(Raw<int16_t>({7}))), Raw<int16_t>({7}));
  view.shape = {0, 4};
  view.stride = {4, 1};
  EXPECT_EQ(ContiguousBytes(view, {}), "");
}

TEST(TensorValuesTest, ElementsOfEveryWidthAreShown) {
  EXPECT_THAT(*ElementTexts("FP32", Raw<float>({0.1F, -2})), ElementsAre("0.100000001", "-2"));
  EXPECT_THAT(*ElementTexts("FP16", Raw<uint16_t>({0x3C00, 0xC000, 0x0001, 0x7C00})),
              ElementsAre("1", "-2", "5.9605e-08", "inf"));
  EXPECT_THAT(*ElementTexts("BF16", Raw<uint16_t>({0x3F80, 0x7FC0})), ElementsAre("1", "nan"));
  EXPECT_THAT(*ElementTexts("BOOL", std::string("\0\1", 2)), ElementsAre("false", "true"));
  EXPECT_THAT(*ElementTexts("INT8", "\xff"), ElementsAre("-1"));
  EXPECT_THAT(ElementTexts("FP32", "abc"), FailsWith(Reason::MODEL_INPUT_INVALID));
  EXPECT_THAT(ElementTexts("BYTES", "abc"), FailsWith(Reason::MODEL_INPUT_INVALID));
}

TEST(TensorValuesTest, NestedListsReadAsPythonPrintsThem) {
  EXPECT_EQ(RenderNested({}, {"7"}, 10), "7");
  EXPECT_EQ(RenderNested({3}, {"1", "2", "3"}, 10), "[1, 2, 3]");
  EXPECT_EQ(RenderNested({2, 1, 2}, {"1", "2", "3", "4"}, 10), "[[[1, 2]],\n [[3, 4]]]");
  EXPECT_EQ(RenderNested({3}, {"1", "2", "3"}, 2), "[1, 2, ...  (1 more)");
  EXPECT_EQ(RenderNested({0}, {}, 2), "[]");
}

}  // namespace
}  // namespace sconce::cli
