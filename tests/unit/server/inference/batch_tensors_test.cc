#include "server/inference/batch_tensors.h"

#include "tests/support/manual_model.h"
#include "tests/support/status_matchers.h"

namespace sconce::inference {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(BatchTensorsTest, KeysTellWhatMayRideTogether) {
  const ModelSignature signature = ManualSignature();
  const auto key = [&](std::vector<HostTensor> inputs) { return ShapeOf(inputs, signature).key; };
  const std::string base = key({FloatTensor({2, 3}, std::vector<float>(6))});
  EXPECT_NE(base, "");
  EXPECT_EQ(base, key({FloatTensor({5, 3}, std::vector<float>(15))}));
  EXPECT_NE(base, key({FloatTensor({2, 4}, std::vector<float>(8))}));
  EXPECT_NE(base, key({FloatTensor({2, 3, 1}, std::vector<float>(6))}));
  HostTensor doubles = FloatTensor({1, 3}, std::vector<float>(6));
  doubles.dtype = format::DType::kFloat64;
  EXPECT_NE(base, key({doubles}));
  EXPECT_NE(base, key({FloatTensor({2, 3}, std::vector<float>(6)), FloatTensor({1}, {1}, "k")}));
}

TEST(BatchTensorsTest, ANumberForForwardMustBeTheSame) {
  const ModelSignature signature = ManualSignature();
  const auto with = [&](float k) { return ShapeOf({FloatTensor({2}, {1, 2}), FloatTensor({1}, {k}, "k")}, signature); };
  EXPECT_EQ(with(1).key, with(1).key);
  EXPECT_NE(with(1).key, with(2).key);
  EXPECT_EQ(with(1).rows, 2);  // k has no rows
}

TEST(BatchTensorsTest, WhatHasNoCommonRowsRunsAlone) {
  ModelSignature signature = ManualSignature();
  signature.inputs.push_back({"y", "Optional[Tensor]", false});
  EXPECT_EQ(ShapeOf({FloatTensor({}, {1})}, signature).key, "");
  EXPECT_EQ(ShapeOf({FloatTensor({0, 3}, {})}, signature).key, "");
  EXPECT_EQ(ShapeOf({}, signature).key, "");
  const BatchShape unequal = ShapeOf({FloatTensor({1}, {1}), FloatTensor({2}, {1, 2}, "y")}, signature);
  EXPECT_EQ(unequal.key, "");
  EXPECT_EQ(unequal.rows, -1);
}

TEST(BatchTensorsTest, JoinedAndDividedIsWhatItWas) {
  const std::vector<HostTensor> first = {FloatTensor({1, 2}, {1, 2}), FloatTensor({1}, {7}, "k")};
  const std::vector<HostTensor> second = {FloatTensor({2, 2}, {3, 4, 5, 6}), FloatTensor({1}, {7}, "k")};
  const std::vector<HostTensor> joined = Join({&first, &second}, ManualSignature());
  ASSERT_EQ(joined.size(), 2u);
  EXPECT_THAT(joined[0].shape, ElementsAre(3, 2));
  EXPECT_THAT(FloatsOf(joined[0]), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(joined[1].shape, ElementsAre(1));
  ASSERT_OK_AND_ASSIGN(auto divided, Divide({joined[0]}, {1, 2}));
  ASSERT_EQ(divided.size(), 2u);
  EXPECT_THAT(divided[0][0].shape, ElementsAre(1, 2));
  EXPECT_THAT(FloatsOf(divided[0][0]), ElementsAre(1, 2));
  EXPECT_THAT(FloatsOf(divided[1][0]), ElementsAre(3, 4, 5, 6));
}

TEST(BatchTensorsTest, OutputsWithoutARowForEachAreSaidToBe) {
  EXPECT_THAT(Divide({FloatTensor({3}, {1, 2, 3}, "a"), FloatTensor({1, 2}, {1, 2}, "b")}, {1, 2}),
              FailsWith(Reason::MODEL_FAILED, HasSubstr("output 'b' has shape [1,2] for 3 rows")));
  EXPECT_THAT(CheckRows({FloatTensor({}, {1}, "c")}, 1), FailsWith(Reason::MODEL_FAILED));
  EXPECT_OK(CheckRows({FloatTensor({1}, {1}, "c")}, 1));
}

}  // namespace
}  // namespace sconce::inference
