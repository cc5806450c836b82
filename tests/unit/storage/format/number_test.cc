#include "storage/format/number.h"

#include <cmath>

#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

double Real(DType dtype, const std::string& bytes) {
  const auto number = ElementNumber(dtype, bytes);
  EXPECT_TRUE(number.has_value());
  return number.has_value() ? number->real : -12345;
}

TEST(NumberTest, ReadsEveryPlainDtype) {
  EXPECT_EQ(Real(DType::kFloat32, std::string("\x00\x00\xC0\x3F", 4)), 1.5);
  EXPECT_EQ(Real(DType::kFloat64, std::string("\x00\x00\x00\x00\x00\x00\xF8\xBF", 8)), -1.5);
  EXPECT_EQ(Real(DType::kFloat16, std::string("\x00\x3E", 2)), 1.5);
  EXPECT_EQ(Real(DType::kFloat16, std::string("\x01\x00", 2)), std::ldexp(1.0, -24));
  EXPECT_EQ(Real(DType::kFloat16, std::string("\x00\xFC", 2)), -INFINITY);
  EXPECT_TRUE(std::isnan(Real(DType::kFloat16, std::string("\x01\x7C", 2))));
  EXPECT_EQ(Real(DType::kFloat16, std::string("\xFF\x7B", 2)), 65504);
  EXPECT_EQ(Real(DType::kBFloat16, std::string("\xC0\x3F", 2)), 1.5);
  EXPECT_EQ(ElementNumber(DType::kInt16, std::string("\xFE\xFF", 2))->integer, -2);
  EXPECT_EQ(ElementNumber(DType::kUInt8, "\xFE")->integer, 254);
  EXPECT_EQ(ElementNumber(DType::kInt64, std::string(8, '\xFF'))->integer, -1);
}

TEST(NumberTest, RefusesWhatIsNoNumber) {
  EXPECT_FALSE(ElementNumber(DType::kFloat32, "abc").has_value());
  EXPECT_FALSE(ElementNumber(DType::kUInt64, std::string(8, '\xFF')).has_value());
  EXPECT_FALSE(ElementNumber(DType::kBool, "\x01").has_value());
  EXPECT_FALSE(ElementNumber(DType::kComplex64, std::string(8, 'x')).has_value());
  EXPECT_FALSE(NumpyNumber("<f16", std::string(16, 'x')).has_value());
  EXPECT_FALSE(NumpyNumber("|S4", "1234").has_value());
}

TEST(NumberTest, ReadsNumpyInBothByteOrders) {
  EXPECT_EQ(NumpyNumber("<f4", std::string("\x00\x00\xC0\x3F", 4))->real, 1.5);
  EXPECT_EQ(NumpyNumber(">f4", std::string("\x3F\xC0\x00\x00", 4))->real, 1.5);
  EXPECT_EQ(NumpyNumber(">i2", std::string("\x01\x00", 2))->integer, 256);
  EXPECT_EQ(NumpyNumber("|u1", "\x80")->integer, 128);
}

TEST(NumberTest, ReadsTensorsOfOneElement) {
  ManifestBuilder b;
  const StorageIndex storage = b.InlineStorage(std::string("\0\0\0\0\0\0\x80\x3F", 8));
  TensorView view;
  view.storage = storage;
  view.offset = 1;
  view.negative = true;
  const NodeIndex negative = b.View(view);
  const NodeIndex first = b.Parameter(b.Tensor(storage, DType::kFloat32, {1, 1}));
  const NodeIndex two = b.Tensor(storage, DType::kFloat32, {2});
  const NodeIndex meta = b.Tensor(kNoIndex, DType::kFloat32, {});
  const NodeIndex bulk = b.Tensor(b.Storage(5000), DType::kFloat32, {});
  const NodeIndex flag = b.Bool(true);
  EXPECT_EQ(NumberOf(b.manifest(), negative)->real, -1);
  EXPECT_EQ(NumberOf(b.manifest(), first)->real, 0);
  for (const NodeIndex node : {two, meta, bulk, flag}) EXPECT_FALSE(NumberOf(b.manifest(), node).has_value());
}

}  // namespace
}  // namespace sconce::format
