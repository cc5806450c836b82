#include "storage/format/dtype.h"

#include <set>
#include <string>

#include "base/strings.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

TEST(DTypeTest, EveryNumberOnDiskGoesBackToItsDtype) {
  int known = 0;
  std::set<std::string> names;
  for (int number = 0; number < 256; ++number) {
    const auto dtype = DTypeFromNumber(static_cast<uint8_t>(number));
    if (!dtype.has_value()) continue;
    ++known;
    EXPECT_EQ(static_cast<int>(*dtype), number);
    EXPECT_EQ(ParseDType(DTypeName(*dtype)), dtype);
    EXPECT_GE(ElementBytes(*dtype), 1);
    EXPECT_LE(ElementBytes(*dtype), 16);
    names.insert(std::string(DTypeName(*dtype)));
  }
  EXPECT_EQ(known, 47);
  EXPECT_EQ(names.size(), 47u);
}

TEST(DTypeTest, NumbersAreTheOnesOnDisk) {
  EXPECT_EQ(DTypeFromNumber(1), DType::kFloat32);
  EXPECT_EQ(DTypeFromNumber(5), DType::kInt64);
  EXPECT_EQ(DTypeFromNumber(17), DType::kFloat8E4M3FN);
  EXPECT_EQ(DTypeFromNumber(47), DType::kBComplex32);
  EXPECT_EQ(DTypeFromNumber(0), std::nullopt);
  EXPECT_EQ(DTypeFromNumber(48), std::nullopt);
}

TEST(DTypeTest, ParsesNamesWithAndWithoutTheModule) {
  EXPECT_EQ(ParseDType("bfloat16"), DType::kBFloat16);
  EXPECT_EQ(ParseDType("torch.bfloat16"), DType::kBFloat16);
  EXPECT_EQ(ParseDType("Float32"), std::nullopt);
  EXPECT_EQ(ParseDType(""), std::nullopt);
  EXPECT_EQ(ParseDType("torch."), std::nullopt);
}

TEST(DTypeTest, KnowsSizesAndFloats) {
  EXPECT_EQ(ElementBytes(DType::kComplex128), 16);
  EXPECT_EQ(ElementBytes(DType::kFloat16), 2);
  EXPECT_EQ(ElementBytes(DType::kQUInt4x2), 1);
  EXPECT_TRUE(IsFloating(DType::kFloat8E5M2));
  EXPECT_FALSE(IsFloating(DType::kComplex64));
  EXPECT_FALSE(IsFloating(DType::kInt64));
}

}  // namespace
}  // namespace sconce::format
