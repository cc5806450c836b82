#include "storage/format/torch_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "storage/format/pickle_writer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_tree_fixture.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(TorchTreeTest, Tensor) {
  Tensor({2, 3}, {3, 1}, 4);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_OK(Validate(file.manifest));
  const TensorView& view = file.manifest.tensors.at(0);
  EXPECT_EQ(view.dtype, DType::kFloat32);
  EXPECT_EQ(view.offset, 4);
  EXPECT_THAT(view.shape, ElementsAre(2, 3));
  EXPECT_THAT(view.stride, ElementsAre(3, 1));
  EXPECT_EQ(file.manifest.storages.at(0).size_bytes, 64);
  EXPECT_EQ(file.manifest.storages.at(0).inline_bytes, records_["0"]);
  EXPECT_EQ(ToStd(AsText(file.bytes.at(0))), records_["0"]);
}

TEST_F(TorchTreeTest, AllRebuildFunctions) {
  out_.Op(PickleOp::kMark);
  Mark("torch._utils", "_rebuild_tensor");
  StorageId("ByteStorage", "small", "cuda:1", 4);
  out_.Int(0);
  Ints({4});
  Ints({1});
  Call();
  Mark("torch._utils", "_rebuild_tensor_v3");
  StorageId("UntypedStorage", "0", "cpu", 64);
  out_.Int(1);
  Ints({2});
  Ints({1});
  out_.Bool(true);
  Hooks();
  out_.Global("torch", "uint16");
  Call();
  Mark("torch._utils", "_rebuild_meta_tensor_no_storage");
  out_.Global("torch", "bfloat16");
  Ints({1000, 1000});
  Ints({1000, 1});
  out_.Bool(false);
  Call();
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_OK(Validate(file.manifest));
  ASSERT_EQ(file.manifest.tensors.size(), 3u);
  EXPECT_EQ(file.manifest.tensors[0].dtype, DType::kUInt8);
  EXPECT_EQ(file.manifest.storages[0].device, "cuda:1");
  EXPECT_EQ(file.manifest.tensors[1].dtype, DType::kUInt16);
  EXPECT_TRUE(file.manifest.tensors[1].requires_grad);
  EXPECT_EQ(file.manifest.tensors[2].storage, kNoIndex);
  EXPECT_EQ(file.manifest.tensors[2].dtype, DType::kBFloat16);
}

TEST_F(TorchTreeTest, ConjugateAndNegativeBits) {
  records_["0"] = std::string(128, 'c');
  Mark("torch._utils", "_rebuild_tensor_v2");
  StorageId("ComplexFloatStorage", "0", "cpu", 16);
  out_.Int(0);
  Ints({3});
  Ints({1});
  out_.Bool(false);
  Hooks();
  out_.Op(PickleOp::kEmptyDict);
  out_.Op(PickleOp::kMark);
  out_.Str("conj");
  out_.Bool(true);
  out_.Str("neg");
  out_.Bool(false);
  out_.Op(PickleOp::kSetItems);
  Call();
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_TRUE(file.manifest.tensors[0].conjugate);
  EXPECT_FALSE(file.manifest.tensors[0].negative);
}

TEST_F(TorchTreeTest, ParametersAndTheirState) {
  out_.Op(PickleOp::kMark);
  Mark("torch._utils", "_rebuild_parameter");
  Tensor({2}, {1});
  out_.Bool(false);
  Hooks();
  Call();
  Mark("torch._utils", "_rebuild_parameter_with_state");
  Tensor({2}, {1});
  out_.Bool(true);
  Hooks();
  out_.Op(PickleOp::kEmptyDict);
  out_.Str("tag");
  out_.Int(5);
  out_.Op(PickleOp::kSetItem);
  Call();
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_OK(Validate(file.manifest));
  const Node& root = file.manifest.nodes.back();
  const Node& plain = file.manifest.nodes[root.children[0]];
  const Node& with_state = file.manifest.nodes[root.children[1]];
  EXPECT_EQ(plain.kind, NodeKind::kParameter);
  EXPECT_EQ(plain.integer, 0);
  EXPECT_EQ(plain.children.size(), 1u);
  EXPECT_EQ(with_state.integer, 1);
  ASSERT_EQ(with_state.children.size(), 2u);
  EXPECT_EQ(file.manifest.nodes[with_state.children[1]].kind, NodeKind::kDict);
  EXPECT_EQ(file.manifest.storages.size(), 1u);  // both name one storage
}

TEST_F(TorchTreeTest, BareStorages) {
  out_.Op(PickleOp::kMark);
  StorageId("HalfStorage", "0", "cpu", 32);
  StorageId("UntypedStorage", "small", "cpu", 4);
  StorageId("ByteStorage", "small", "cpu", 4);  // torch.save takes bytes and untyped for the same type
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_OK(Validate(file.manifest));
  EXPECT_EQ(file.manifest.nodes[0].kind, NodeKind::kStorage);
  EXPECT_EQ(file.manifest.nodes[0].text, "float16");
  EXPECT_EQ(file.manifest.nodes[1].text, "untyped");
  EXPECT_EQ(file.manifest.nodes[2].text, "uint8");
  EXPECT_EQ(file.manifest.nodes[1].integer, file.manifest.nodes[2].integer);
}

TEST_F(TorchTreeTest, MetaStoragesNeedNoRecord) {
  Mark("torch._utils", "_rebuild_tensor_v2");
  StorageId("FloatStorage", "nowhere", "meta", 1'000'000);
  out_.Int(0);
  Ints({1'000'000});
  Ints({1});
  out_.Bool(false);
  Hooks();
  Call();
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_OK(Validate(file.manifest));
  EXPECT_EQ(file.manifest.storages[0].size_bytes, 4'000'000);
  EXPECT_TRUE(file.bytes[0].empty());
}

TEST_F(TorchTreeTest, PythonContainers) {
  out_.Op(PickleOp::kMark);
  Mark("collections", "Counter");
  out_.Op(PickleOp::kEmptyDict);
  out_.Str("a");
  out_.Int(2);
  out_.Op(PickleOp::kSetItem);
  Call();
  Mark("__builtin__", "set");
  out_.Op(PickleOp::kEmptyList);
  out_.Op(PickleOp::kMark);
  for (const int number : {3, 1, 2, 1}) out_.Int(number);
  out_.Op(PickleOp::kAppends);
  Call();
  Mark("torch", "Size");
  Ints({4, 5});
  Call();
  Mark("torch.serialization", "_get_layout");
  out_.Str("torch.sparse_csr");
  Call();
  Mark("__builtin__", "bytes");
  Call();
  out_.ByteArray(std::string("\xff\0", 2));
  out_.Global("torch", "per_channel_affine");
  Hooks();
  out_.Op(PickleOp::kEmptyDict);
  out_.Str("_metadata");
  Hooks();
  out_.Op(PickleOp::kSetItem);
  out_.Op(PickleOp::kBuild);
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_OK(Validate(file.manifest));
  const auto child = [&](size_t i) -> const Node& {
    return file.manifest.nodes[file.manifest.nodes.back().children[i]];
  };
  EXPECT_EQ(child(0).kind, NodeKind::kCounter);
  EXPECT_EQ(child(0).children.size(), 2u);
  EXPECT_EQ(child(1).kind, NodeKind::kSet);
  EXPECT_EQ(child(1).children.size(), 3u);  // sorted, without the second 1
  EXPECT_EQ(child(2).kind, NodeKind::kSize);
  EXPECT_EQ(child(3).text, "sparse_csr");
  EXPECT_EQ(child(4).kind, NodeKind::kBytes);
  EXPECT_EQ(child(5).text, std::string("\xff\0", 2));
  EXPECT_EQ(child(6).kind, NodeKind::kQScheme);
  EXPECT_EQ(child(7).kind, NodeKind::kOrderedDict);
  EXPECT_EQ(child(7).children.size(), 1u);
}

TEST_F(TorchTreeTest, ByteArraysMayBeMadeFromBytesThatAreThemselvesACall) {
  Mark("__builtin__", "bytearray");
  out_.Bytes(std::string("\xff\0", 2));
  Call();
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(file.manifest.nodes.back().kind, NodeKind::kByteArray);
  EXPECT_EQ(file.manifest.nodes.back().text, std::string("\xff\0", 2));
}

TEST_F(TorchTreeTest, SharedObjectsAreOneNodeAndCyclesAreRefused) {
  out_.Op(PickleOp::kMark);
  out_.Op(PickleOp::kEmptyList);
  const PickleWriter::Memo list = out_.Put();
  out_.Get(list);
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(file.manifest.nodes.size(), 2u);

  out_ = PickleWriter();
  out_.Op(PickleOp::kEmptyDict);
  const PickleWriter::Memo dict = out_.Put();
  out_.Str("me");
  out_.Tuple(0);
  out_.Op(PickleOp::kEmptyList);
  out_.Get(dict);
  out_.Op(PickleOp::kAppend);
  out_.Tuple(2);
  out_.Op(PickleOp::kSetItem);
  EXPECT_THAT(Read(), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("/me/1/0")));
}

TEST_F(TorchTreeTest, OnlyWhatTheRootReachesCounts) {
  out_.Op(PickleOp::kMark);
  StorageId("FloatStorage", "no such record", "cpu", 4);
  out_.Op(PickleOp::kPopMark);
  out_.Op(PickleOp::kNone);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(file.manifest.nodes.size(), 1u);
  EXPECT_TRUE(file.manifest.storages.empty());
}

TEST_F(TorchTreeTest, AClassIsAValue) {
  out_.Global("torch", "FloatStorage");
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(file.manifest.nodes.back().kind, NodeKind::kGlobal);
  EXPECT_EQ(file.manifest.nodes.back().text, "torch.FloatStorage");
}

TEST_F(TorchTreeTest, ViewsStayInsideTheirStorage) {
  for (const auto& [shape, stride, offset] :
       {std::tuple<std::vector<int64_t>, std::vector<int64_t>, int64_t>{{17}, {1}, 0},
        {{16}, {1}, 1},
        {{2}, {16}, 0},
        {{-1}, {1}, 0},
        {{2}, {-1}, 4},
        {{2}, {1}, -1},
        {{2, 2}, {1}, 0},
        {{INT64_MAX, INT64_MAX}, {1, 1}, 0},
        {{2}, {INT64_MAX}, 0}}) {
    out_ = PickleWriter();
    Tensor(shape, stride, offset);
    EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED)) << ::testing::PrintToString(shape);
  }
}

TEST_F(TorchTreeTest, StoragesFitTheirRecords) {
  for (const auto& [type, key, device, elements] :
       {std::tuple<const char*, const char*, const char*, int64_t>{"FloatStorage", "0", "cpu", 15},
        {"FloatStorage", "0", "cpu", 17},
        {"FloatStorage", "0", "cpu", -1},
        {"FloatStorage", "1", "cpu", 16},
        {"FloatStorage", "0", "", 16},
        {"FloatStorage", "0", "cuda:-1", 16},
        {"FloatStorage", "0", "cuda:01", 16},
        {"FloatStorage", "0", "CPU", 16},
        {"DoubleStorage", "0", "cpu", INT64_MAX / 4}}) {
    out_ = PickleWriter();
    StorageId(type, key, device, elements);
    EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED)) << type << " " << key << " " << device << " " << elements;
  }
}

TEST_F(TorchTreeTest, OneStorageHasOneTypeSizeAndDevice) {
  for (const auto& [type, device, elements] : {std::tuple<const char*, const char*, int64_t>{"IntStorage", "cpu", 16},
                                               {"FloatStorage", "cuda:0", 16},
                                               {"FloatStorage", "cpu", 8}}) {
    out_ = PickleWriter();
    out_.Op(PickleOp::kMark);
    StorageId("FloatStorage", "0", "cpu", 16);
    StorageId(type, "0", device, elements);
    out_.Op(PickleOp::kTuple);
    EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED, HasSubstr("storage \"0\""))) << type;
  }
}

TEST_F(TorchTreeTest, WrongArgumentsAreRefused) {
  for (const auto& [module, name] : {std::pair{"torch._utils", "_rebuild_tensor"},
                                     {"torch._utils", "_rebuild_tensor_v2"},
                                     {"torch._utils", "_rebuild_tensor_v3"},
                                     {"torch._utils", "_rebuild_meta_tensor_no_storage"},
                                     {"torch._utils", "_rebuild_parameter"},
                                     {"torch._utils", "_rebuild_parameter_with_state"},
                                     {"torch.nn.parameter", "Parameter"},
                                     {"torch", "Size"},
                                     {"torch", "device"},
                                     {"torch.serialization", "_get_layout"},
                                     {"__builtin__", "complex"},
                                     {"__builtin__", "set"},
                                     {"_codecs", "encode"},
                                     {"__builtin__", "bytearray"},
                                     {"torch._utils", "_rebuild_sparse_tensor"},
                                     {"torch._utils", "_rebuild_qtensor"},
                                     {"torch._utils", "_rebuild_nested_tensor"},
                                     {"torch._utils", "_rebuild_device_tensor_from_cpu_tensor"},
                                     {"torch._tensor", "_rebuild_from_type_v2"},
                                     {"torch", "Tensor"},
                                     {"torch", "FloatTensor"},
                                     {"torch.nested._internal.nested_tensor", "_rebuild_njt"},
                                     {"numpy.core.multiarray", "scalar"},
                                     {"numpy.core.multiarray", "_reconstruct"},
                                     {"numpy._core.numeric", "_frombuffer"},
                                     {"collections", "OrderedDict"},
                                     {"collections", "Counter"}}) {
    for (int count = 1; count < 10; ++count) {
      if (count == 1 && name == std::string("Counter")) continue;  // Counter(None) is an empty one
      out_ = PickleWriter();
      Mark(module, name);
      for (int i = 0; i < count; ++i) out_.Op(PickleOp::kNone);
      Call();
      EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED)) << name << " " << count;
    }
  }
}

TEST_F(TorchTreeTest, OneObjectNamedOverAndOverDoesNotBlowUpTheTree) {
  // A list of 1,000 elements from which 1,000 sets are made: a million elements from a few kilobytes.
  out_.Op(PickleOp::kEmptyList);
  const PickleWriter::Memo elements = out_.Put();
  out_.Op(PickleOp::kMark);
  for (int i = 0; i < 1000; ++i) out_.Int(i % 200);
  out_.Op(PickleOp::kAppends);
  out_.Op(PickleOp::kPop);
  out_.Op(PickleOp::kMark);
  for (int i = 0; i < 1000; ++i) {
    out_.Global("__builtin__", "set");
    out_.Get(elements);
    out_.Tuple(1);
    out_.Op(PickleOp::kReduce);
  }
  out_.Op(PickleOp::kTuple);
  EXPECT_THAT(Read(), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

TEST_F(TorchTreeTest, UnhashableKeysAndElementsAreRefused) {
  out_.Op(PickleOp::kEmptyDict);
  out_.Op(PickleOp::kEmptyList);
  out_.Op(PickleOp::kNone);
  out_.Op(PickleOp::kSetItem);
  EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED));
  out_ = PickleWriter();
  Mark("__builtin__", "set");
  out_.Op(PickleOp::kEmptyList);
  Tensor({1}, {1});
  out_.Op(PickleOp::kAppend);
  Call();
  EXPECT_THAT(Read(), FailsWith(Reason::FILE_UNSUPPORTED));
}

}  // namespace
}  // namespace sconce::format
