#include "storage/format/tree_nodes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/torch_tree_fixture.h"

// What each call in a pickle becomes: tensors that are not plain, and numpy's values.
namespace sconce::format {
namespace {

using ::testing::HasSubstr;

using TreeNodesTest = TorchTreeTest;

TEST_F(TreeNodesTest, SparseTensorsAreLayoutSizeAndComponents) {
  out_.Op(PickleOp::kMark);
  for (const std::string layout : {"sparse_coo", "sparse_csc"}) {
    Mark("torch._utils", "_rebuild_sparse_tensor");
    Layout(layout);
    out_.Op(PickleOp::kMark);
    for (int i = 0; i < (layout == "sparse_coo" ? 2 : 3); ++i) Tensor({3}, {1}, i);
    Ints({4, 5});  // a plain tuple serves too
    if (layout == "sparse_coo") out_.Bool(true);
    out_.Op(PickleOp::kTuple);
    Call();
  }
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  const Node& root = file.manifest.nodes.back();
  const auto part = [&](size_t tensor, size_t i) -> const Node& {
    return file.manifest.nodes[file.manifest.nodes[root.children[tensor]].children.at(i)];
  };
  EXPECT_EQ(part(0, 0).text, "sparse_coo");
  EXPECT_EQ(part(0, 1).kind, NodeKind::kSize);
  EXPECT_EQ(part(0, 1).children.size(), 2u);
  EXPECT_EQ(file.manifest.tensors[part(0, 3).tensor].offset, 1);
  EXPECT_EQ(part(0, 4).kind, NodeKind::kBool);
  EXPECT_EQ(part(1, 0).text, "sparse_csc");
  EXPECT_EQ(file.manifest.tensors[part(1, 4).tensor].offset, 2);
  EXPECT_EQ(part(1, 5).kind, NodeKind::kNone);
}

TEST_F(TreeNodesTest, SparseTensorsOfAnotherFormAreRefusedWithTheirPlace) {
  for (const auto& [layout, components] :
       {std::pair<const char*, int>{"sparse_coo", 4}, {"sparse_csr", 2}, {"sparse_bsr", 4}, {"strided", 3}}) {
    out_ = PickleWriter();
    out_.Op(PickleOp::kEmptyDict);
    out_.Str("layer");
    Mark("torch._utils", "_rebuild_sparse_tensor");
    Layout(layout);
    out_.Op(PickleOp::kMark);
    for (int i = 0; i < components; ++i) Tensor({3}, {1});
    Ints({4, 5});
    out_.Op(PickleOp::kTuple);
    Call();
    out_.Op(PickleOp::kSetItem);
    EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED, HasSubstr("at /layer: "))) << layout;
  }
}

TEST_F(TreeNodesTest, QuantizedTensorsKeepSchemeScaleAndZeroPoint) {
  Quantized("QInt8Storage", {4}, {1}, [&] {
    out_.Global("torch", "per_tensor_affine");
    out_.Float(0.25);
    out_.Int(-3);
  });
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  const Node& node = file.manifest.nodes.back();
  ASSERT_EQ(node.kind, NodeKind::kQuantizedTensor);
  EXPECT_EQ(file.manifest.tensors[node.tensor].dtype, DType::kQInt8);
  EXPECT_EQ(file.manifest.nodes[node.children[0]].text, "per_tensor_affine");
  EXPECT_EQ(file.manifest.nodes[node.children[1]].real, 0.25);
  EXPECT_EQ(file.manifest.nodes[node.children[2]].integer, -3);
}

TEST_F(TreeNodesTest, PackedElementsNeedOnlyTheirBytes) {
  // 7 elements a row: 4 bytes in quint4x2, 2 in quint2x4.
  for (const auto& [type, rows, fits] : {std::tuple<const char*, int64_t, bool>{"QUInt4x2Storage", 1, true},
                                         {"QUInt4x2Storage", 2, false},
                                         {"QUInt2x4Storage", 2, true},
                                         {"QUInt2x4Storage", 3, false}}) {
    out_ = PickleWriter();
    Quantized(type, {rows, 7}, {7, 1}, [&] {
      out_.Global("torch", "per_tensor_affine");
      out_.Float(1);
      out_.Int(0);
    });
    EXPECT_EQ(Read().ok(), fits) << type << " " << rows;
  }
  out_ = PickleWriter();
  Quantized("QUInt4x2Storage", {2, 2}, {1, 2}, [&] {
    out_.Global("torch", "per_tensor_affine");
    out_.Float(1);
    out_.Int(0);
  });
  EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED));  // rows that are no rows
}

TEST_F(TreeNodesTest, QuantizersThatDoNotFitAreRefused) {
  const auto per_channel = [&](int64_t channels, int64_t axis) {
    out_ = PickleWriter();
    Quantized("QInt8Storage", {2, 2}, {2, 1}, [&] {
      out_.Global("torch", "per_channel_affine");
      Tensor({channels}, {1});
      Tensor({channels}, {1});
      out_.Int(axis);
    });
    return Read();
  };
  EXPECT_OK(per_channel(2, 1));
  EXPECT_THAT(per_channel(1, 1), FailsWith(Reason::FILE_MALFORMED, HasSubstr("along the axis")));
  EXPECT_THAT(per_channel(2, 2), FailsWith(Reason::FILE_MALFORMED, HasSubstr("no such axis")));
  EXPECT_THAT(per_channel(2, -1), FailsWith(Reason::FILE_MALFORMED, HasSubstr("no such axis")));
  out_ = PickleWriter();
  Quantized("ByteStorage", {4}, {1}, [&] {
    out_.Global("torch", "per_tensor_affine");
    out_.Float(1);
    out_.Int(0);
  });
  EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED));
}

TEST_F(TreeNodesTest, NestedTensorsAreFourTensors) {
  Mark("torch._utils", "_rebuild_nested_tensor");
  for (int i = 0; i < 4; ++i) Tensor({i + 1}, {1});
  Call();
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(file.manifest.nodes.back().kind, NodeKind::kNestedTensor);
  EXPECT_EQ(file.manifest.nodes.back().children.size(), 4u);
}

TEST_F(TreeNodesTest, TensorsOfDevicesWithoutStoragesKeepTheirDevice) {
  Mark("torch._utils", "_rebuild_device_tensor_from_cpu_tensor");
  Tensor({2, 3}, {3, 1});
  out_.Global("torch", "float32");
  out_.Str("xla:1");
  out_.Bool(true);
  Call();
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(file.manifest.nodes.back().kind, NodeKind::kTensor);
  EXPECT_EQ(file.manifest.storages.at(0).device, "xla:1");
  EXPECT_TRUE(file.manifest.tensors.at(0).requires_grad);
}

TEST_F(TreeNodesTest, TensorsOfTheFirstReleases) {
  out_.Global("torch", "FloatTensor");
  out_.Tuple(0);
  out_.Op(PickleOp::kReduce);
  out_.Op(PickleOp::kMark);
  StorageId("FloatStorage", "0", "cpu", 16);
  out_.Int(2);
  Ints({3});
  Ints({1});
  out_.Op(PickleOp::kTuple);
  out_.Op(PickleOp::kBuild);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(file.manifest.tensors.at(0).offset, 2);
}

TEST_F(TreeNodesTest, AttributesOfTensorsMakeASubclass) {
  Mark("torch._tensor", "_rebuild_from_type_v2");
  out_.Global("torch._utils", "_rebuild_nested_tensor");
  out_.Global("torch", "Tensor");
  out_.Op(PickleOp::kMark);
  for (int i = 0; i < 4; ++i) Tensor({1}, {1});
  out_.Op(PickleOp::kTuple);
  out_.Op(PickleOp::kEmptyDict);
  out_.Str("note");
  out_.Int(1);
  out_.Op(PickleOp::kSetItem);
  Call();
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  const Node& node = file.manifest.nodes.back();
  ASSERT_EQ(node.kind, NodeKind::kTensorSubclass);
  EXPECT_EQ(node.text, "torch.Tensor");
  const Node& args = file.manifest.nodes[node.children[0]];
  ASSERT_EQ(args.children.size(), 1u);
  EXPECT_EQ(file.manifest.nodes[args.children[0]].kind, NodeKind::kNestedTensor);
  EXPECT_EQ(file.manifest.nodes[node.children[1]].kind, NodeKind::kDict);
}

TEST_F(TreeNodesTest, SubclassesOfWhatIsNoTensorAreRefused) {
  for (const auto& [module, name] :
       {std::pair{"torch", "Size"}, {"__builtin__", "set"}, {"__builtin__", "complex"}, {"torch", "float32"}}) {
    out_ = PickleWriter();
    Mark("torch._tensor", "_rebuild_from_type_v2");
    out_.Global(module, name);
    out_.Global("torch", "Tensor");
    out_.Op(PickleOp::kMark);
    if (std::string(name) == "Size") Ints({1, 2});
    out_.Op(PickleOp::kTuple);
    out_.Op(PickleOp::kNone);
    Call();
    EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED)) << name;
  }
}

TEST_F(TreeNodesTest, ASubclassInItselfIsACycle) {
  out_.Op(PickleOp::kEmptyDict);
  const PickleWriter::Memo state = out_.Put();
  out_.Str("me");
  Mark("torch._tensor", "_rebuild_from_type_v2");
  out_.Global("torch._utils", "_rebuild_meta_tensor_no_storage");
  out_.Global("torch", "Tensor");
  out_.Op(PickleOp::kMark);
  out_.Global("torch", "float32");
  Ints({});
  Ints({});
  out_.Bool(false);
  out_.Op(PickleOp::kTuple);
  out_.Get(state);
  Call();
  out_.Op(PickleOp::kSetItem);
  EXPECT_THAT(Read(), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("contains itself")));
}

TEST_F(TreeNodesTest, WrappersWithoutClassAndNumpyDevicesAreRefusedWithWhatToDo) {
  for (const auto& [function, advice] : {std::pair{"_rebuild_wrapper_subclass", "save the tensors that it wraps"},
                                         {"_rebuild_device_tensor_from_numpy", "to the CPU before saving"}}) {
    out_ = PickleWriter();
    Mark("torch._utils", function);
    Call();
    EXPECT_THAT(Read(), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr(advice)));
  }
}

TEST_F(TreeNodesTest, HooksAreDropped) {
  Mark("torch._utils", "_rebuild_tensor_v2");
  StorageId("FloatStorage", "0", "cpu", 16);
  out_.Int(0);
  Ints({1});
  Ints({1});
  out_.Bool(false);
  out_.Op(PickleOp::kNone);  // as PyTorch before 1.0 writes none
  Call();
  EXPECT_OK(Read());
}

TEST_F(TreeNodesTest, OrderedDictsByPython2AreMadeFromPairs) {
  Mark("collections", "OrderedDict");
  out_.Op(PickleOp::kEmptyList);
  for (const char* key : {"b", "a", "b"}) {
    out_.Op(PickleOp::kEmptyList);
    out_.Op(PickleOp::kMark);
    out_.Str(key);
    out_.Int(1);
    out_.Op(PickleOp::kAppends);
    out_.Op(PickleOp::kAppend);
  }
  Call();
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  const Node& node = file.manifest.nodes.back();
  EXPECT_EQ(node.kind, NodeKind::kOrderedDict);
  ASSERT_EQ(node.children.size(), 4u);
  EXPECT_EQ(file.manifest.nodes[node.children[0]].text, "b");
}

TEST_F(TreeNodesTest, NumpyScalarsOfOneDtypeShareItsNode) {
  out_.Op(PickleOp::kMark);
  for (int i = 0; i < 2; ++i) {
    Mark("numpy._core.multiarray", "scalar");
    NumpyDtype("f8", ">");
    out_.Bytes("12345678");
    Call();
  }
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  const Node& root = file.manifest.nodes.back();
  const Node& first = file.manifest.nodes[root.children[0]];
  const Node& second = file.manifest.nodes[root.children[1]];
  EXPECT_EQ(first.kind, NodeKind::kNumpyScalar);
  EXPECT_EQ(file.manifest.nodes[first.children[0]].text, ">f8");
  EXPECT_EQ(first.children[0], second.children[0]);
}

TEST_F(TreeNodesTest, NumpyDataMustFitItsShape) {
  for (const auto& [shape, bytes, fits] : {std::tuple<std::vector<int64_t>, size_t, bool>{{2, 3}, 24, true},
                                           {{2, 3}, 23, false},
                                           {{0, 1000}, 0, true},
                                           {{}, 4, true},
                                           {{-1, 2}, 8, false},
                                           {{INT64_MAX, INT64_MAX}, 4, false}}) {
    out_ = PickleWriter();
    Mark("numpy._core.numeric", "_frombuffer");
    out_.ByteArray(std::string(bytes, 'x'));
    NumpyDtype("i4", "<");
    Ints(shape);
    out_.Str("F");
    Call();
    const auto read = Read();
    EXPECT_EQ(read.ok(), fits) << ::testing::PrintToString(shape);
    if (fits) {
      EXPECT_EQ(read->manifest.nodes.back().kind, NodeKind::kNumpyArray);
    } else {
      EXPECT_THAT(read, FailsWith(Reason::FILE_MALFORMED));
    }
  }
}

TEST_F(TreeNodesTest, NumpyArraysThatShareTheirBytesDoNotBlowUpTheTree) {
  out_.Bytes(std::string(4000, 'x'));
  const PickleWriter::Memo bytes = out_.Put();
  out_.Op(PickleOp::kPop);
  out_.Op(PickleOp::kMark);
  for (int i = 0; i < 1000; ++i) {
    Mark("numpy._core.numeric", "_frombuffer");
    out_.Get(bytes);
    NumpyDtype("u1", "|");
    Ints({4000});
    out_.Str("C");
    Call();
  }
  out_.Op(PickleOp::kTuple);
  EXPECT_THAT(Read(), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

}  // namespace
}  // namespace sconce::format
