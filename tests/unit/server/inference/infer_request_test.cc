#include "server/inference/infer_request.h"

#include <cstring>

#include "server/inference/datatype.h"
#include "tests/support/status_matchers.h"

namespace sconce::inference {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

ModelSignature TwoInputs() {
  ModelSignature signature;
  signature.inputs = {{"a", "Tensor", true}, {"b", "Tensor", true}, {"mask", "Optional[Tensor]", false}};
  return signature;
}

RequestedInput Input(const std::string& name, const std::string& datatype, std::vector<int64_t> shape) {
  RequestedInput input;
  input.name = name;
  input.datatype = datatype;
  input.shape = std::move(shape);
  return input;
}

class BindInputsTest : public ::testing::Test {
 protected:
  BindInputsTest() {
    request_.model = "m";
    request_.inputs = {Input("a", "FP32", {2}), Input("b", "INT8", {1, 3})};
    request_.raw = {AsBytes(eight_), AsBytes(three_)};
  }
  void ExpectRefused(const std::string& sentence) {
    EXPECT_THAT(BindInputs(request_, TwoInputs()), FailsWith(Reason::MODEL_INPUT_INVALID, HasSubstr(sentence)));
  }

  const std::string eight_ = std::string(8, 'x');
  const std::string three_ = "abc";
  InferRequest request_;
};

TEST_F(BindInputsTest, NamesBind) {
  ASSERT_OK_AND_ASSIGN(const auto inputs, BindInputs(request_, TwoInputs()));
  ASSERT_THAT(inputs, SizeIs(2));
  EXPECT_EQ(inputs[0].name, "a");
  EXPECT_EQ(inputs[0].dtype, format::DType::kFloat32);
  EXPECT_THAT(inputs[1].shape, ElementsAre(1, 3));
  EXPECT_EQ(AsText(inputs[1].bytes), "abc");
}

TEST_F(BindInputsTest, PositionsBindInAnyOrder) {
  request_.inputs[0].name = "INPUT__1";
  request_.inputs[1].name = "INPUT__0";
  ASSERT_OK_AND_ASSIGN(const auto inputs, BindInputs(request_, TwoInputs()));
  EXPECT_EQ(inputs[0].name, "a");
  EXPECT_EQ(AsText(inputs[0].bytes), "abc");
}

TEST_F(BindInputsTest, AnOptionalArgumentMayBeGiven) {
  request_.inputs.push_back(Input("mask", "BOOL", {3}));
  request_.raw.push_back(AsBytes(three_));
  ASSERT_OK_AND_ASSIGN(const auto inputs, BindInputs(request_, TwoInputs()));
  EXPECT_THAT(inputs, SizeIs(3));
}

TEST_F(BindInputsTest, MissingInputs) {
  request_.inputs.pop_back();
  request_.raw.pop_back();
  ExpectRefused(
      "expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['a'], but missing required input(s) ['b']. "
      "Please provide all required input(s).");
}

TEST_F(BindInputsTest, UnknownAndRepeatedInputs) {
  request_.inputs[1].name = "c";
  ExpectRefused("unexpected inference input \"c\" for model 'm'");
  request_.inputs[1].name = "INPUT__3";
  ExpectRefused("unexpected inference input");
  request_.inputs[1].name = "INPUT__0";
  ExpectRefused("given twice");
}

TEST_F(BindInputsTest, RawBytesOfTheWrongSize) {
  request_.raw[0] = AsBytes(three_);
  ExpectRefused("input byte size mismatch for input 'a' for model 'm'. Expected 8, got 3");
}

TEST_F(BindInputsTest, RawAndContentsTogether) {
  request_.inputs[0].contents = TypedContents{};
  ExpectRefused("contents field must not be specified when using raw_input_contents for 'a' for model 'm'");
}

TEST_F(BindInputsTest, ARawEntryForEachInput) {
  request_.raw.pop_back();
  ExpectRefused("raw_input_contents has 1 entries for 2 inputs");
}

TEST_F(BindInputsTest, NoDataAtAll) {
  request_.raw.clear();
  ExpectRefused("unable to find data for input tensor 'a' for model 'm' in request.");
}

TEST_F(BindInputsTest, DatatypesWithoutATensor) {
  for (const char* datatype : {"UINT16", "UINT32", "UINT64", "BYTES", "", "fp32"}) {
    request_.inputs[0].datatype = datatype;
    ExpectRefused("has no torch tensor");
  }
}

TEST_F(BindInputsTest, ShapesThatAreNone) {
  request_.inputs[0].shape = {-1};
  ExpectRefused("unexpected shape for input 'a' for model 'm'");
  request_.inputs[0].shape = {INT64_MAX, INT64_MAX};
  ExpectRefused("unexpected shape");
  request_.inputs[0].shape = {INT64_MAX};
  ExpectRefused("unexpected shape");
}

TEST_F(BindInputsTest, AnEmptyTensorNeedsNoData) {
  request_.raw.clear();
  request_.inputs = {Input("a", "FP32", {0, 4}), Input("b", "INT64", {0})};
  ASSERT_OK_AND_ASSIGN(const auto inputs, BindInputs(request_, TwoInputs()));
  EXPECT_TRUE(inputs[0].bytes.empty());
}

TEST_F(BindInputsTest, SharedMemoryIsNotImplemented) {
  request_.inputs[0].shared_memory = true;
  EXPECT_THAT(BindInputs(request_, TwoInputs()), FailsWith(Reason::NOT_IMPLEMENTED));
}

class TypedContentsTest : public BindInputsTest {
 protected:
  TypedContentsTest() {
    request_.raw.clear();
    request_.inputs = {Input("a", "INT8", {2}), Input("b", "FP32", {2})};
    TypedContents a, b;
    a.ints = ints_;
    b.floats = floats_;
    request_.inputs[0].contents = a;
    request_.inputs[1].contents = b;
  }
  std::vector<int32_t> ints_ = {-128, 127};
  std::vector<float> floats_ = {0.5F, -2.0F};
};

TEST_F(TypedContentsTest, ArePackedAsTheirDatatype) {
  ASSERT_OK_AND_ASSIGN(const auto inputs, BindInputs(request_, TwoInputs()));
  EXPECT_THAT(inputs[0].bytes, ElementsAre(0x80, 0x7f));
  float values[2];
  ASSERT_EQ(inputs[1].bytes.size(), sizeof(values));
  std::memcpy(values, inputs[1].bytes.data(), sizeof(values));
  EXPECT_THAT(values, ElementsAre(0.5F, -2.0F));
}

TEST_F(TypedContentsTest, AValueThatDoesNotFitIsRefused) {
  ints_[0] = -129;
  ExpectRefused("a value that INT8 cannot hold");
}

TEST_F(TypedContentsTest, AFieldOfAnotherDatatypeIsRefused) {
  request_.inputs[0].datatype = "INT64";
  ExpectRefused("a field that does not belong to INT64");
}

TEST_F(TypedContentsTest, TooFewValuesAreRefused) {
  request_.inputs[1].shape = {3};
  ExpectRefused("Expected 12, got 8");
}

TEST_F(TypedContentsTest, HalfFloatsTravelRawOnly) {
  request_.inputs[1].datatype = "FP16";
  ExpectRefused("raw_input_contents only");
}

TEST(SelectOutputsTest, GivesThoseAskedForInTheirOrder) {
  std::vector<HostTensor> outputs(2);
  outputs[0].name = "OUTPUT__0";
  outputs[1].name = "OUTPUT__1";
  ASSERT_OK_AND_ASSIGN(const auto all, SelectOutputs("m", {}, outputs));
  EXPECT_THAT(all, SizeIs(2));
  ASSERT_OK_AND_ASSIGN(const auto one, SelectOutputs("m", {"OUTPUT__1"}, outputs));
  ASSERT_THAT(one, SizeIs(1));
  EXPECT_EQ(one[0].name, "OUTPUT__1");
  EXPECT_THAT(SelectOutputs("m", {"y"}, outputs),
              FailsWith(Reason::MODEL_INPUT_INVALID, HasSubstr("unexpected inference output \"y\" for model 'm'")));
}

TEST(DatatypeTest, NamesAndDtypesAreOneToOne) {
  for (const char* name : {"BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64"}) {
    ASSERT_TRUE(DTypeOfDatatype(name).has_value()) << name;
    EXPECT_EQ(DatatypeOfDType(*DTypeOfDatatype(name)), name);
  }
  EXPECT_EQ(DatatypeOfDType(format::DType::kComplex64), "");
}

}  // namespace
}  // namespace sconce::inference
