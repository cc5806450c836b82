// Classes, and objects of the few classes that weights_only=True takes, as PyTorch 2.14 saved them
// (tests/data/objects).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "storage/format/device_map.h"
#include "storage/format/entries.h"
#include "storage/format/manifest_codec.h"
#include "storage/format/path.h"
#include "storage/format/python_repr.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"
#include "tests/support/torch_tree_fixture.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string FileOf(const std::string& name) {
  const char* source = std::getenv("SCONCE_SOURCE_DIR");
  return ReadWholeFile(std::string(source != nullptr ? source : ".") + "/tests/data/objects/" + name + ".pt");
}

// The manifest of a file, of which everything that can be made of it without PyTorch has been found to be the same:
// its encoding, and the file written from it.
Manifest Round(const std::string& name) {
  const std::string file = FileOf(name);
  EXPECT_FALSE(file.empty()) << name;
  const absl::StatusOr<TorchFile> read = ReadTorchFile(AsBytes(file));
  EXPECT_OK(read) << name;
  if (!read.ok()) return {};
  const std::string encoded = EncodeManifest(read->manifest);
  const absl::StatusOr<Manifest> decoded = DecodeManifest(AsBytes(encoded));
  EXPECT_OK(decoded) << name;
  FileBytes bytes(read->bytes);
  const absl::StatusOr<std::string> written = WriteTorchFile(read->manifest, bytes);
  EXPECT_OK(written) << name;
  if (!written.ok()) return {};
  const absl::StatusOr<TorchFile> again = ReadTorchFile(AsBytes(*written));
  EXPECT_OK(again) << name;
  if (again.ok()) {
    EXPECT_EQ(EncodeManifest(again->manifest), encoded) << name;
    EXPECT_EQ(again->bytes.size(), read->bytes.size());
  }
  return read->manifest;
}

std::string Repr(const Manifest& manifest, absl::string_view path) {
  const absl::StatusOr<NodeIndex> node = FindPath(manifest, path);
  EXPECT_OK(node);
  return node.ok() ? PythonRepr(manifest, *node, 500) : "";
}

TEST(TorchObjectsTest, ClassesAreNames) {
  const Manifest manifest = Round("classes");
  EXPECT_EQ(Repr(manifest, "/0"), "torch.Tensor");
  EXPECT_EQ(Repr(manifest, "/6"), "builtins.set");
  EXPECT_EQ(Repr(manifest, "/15"), "torch.cuda.HalfStorage");
  EXPECT_EQ(Repr(manifest, "/18"), "{torch.Tensor: 'a key', torch.float16: 1}");
  EXPECT_EQ(Repr(manifest, "/19"), "{builtins.set}");
}

TEST(TorchObjectsTest, ExceptionsAreTheirClassArgumentsAndState) {
  const Manifest manifest = Round("exceptions");
  EXPECT_EQ(Repr(manifest, "/0"), "<builtins.ValueError ('bad', 3)>");
  ASSERT_OK_AND_ASSIGN(const NodeIndex noted, FindPath(manifest, "/0"));
  const Node& node = manifest.nodes[noted];
  EXPECT_EQ(node.kind, NodeKind::kObject);
  ASSERT_EQ(node.children.size(), 3u);
  EXPECT_EQ(PythonRepr(manifest, node.children[1], 100), "True");
  EXPECT_EQ(PythonRepr(manifest, node.children[2], 100), "{'__notes__': ['a note']}");
}

TEST(TorchObjectsTest, StackTracesAreLists) {
  const Manifest manifest = Round("traces");
  ASSERT_OK_AND_ASSIGN(const NodeIndex trace, FindPath(manifest, "/0"));
  EXPECT_EQ(manifest.nodes[trace].children.size(), 5u);  // two frames
  ASSERT_OK_AND_ASSIGN(const NodeIndex empty, FindPath(manifest, "/2"));
  EXPECT_EQ(manifest.nodes[empty].children.size(), 3u);
}

TEST(TorchObjectsTest, MeshLayoutsAndRangesInSets) {
  Round("mesh_layouts");
  const Manifest jagged = Round("jagged_ranges");
  size_t ranges = 0;
  for (const Node& node : jagged.nodes) {
    if (node.kind != NodeKind::kSet || node.children.empty()) continue;
    ranges += jagged.nodes[node.children[0]].text == "torch._dynamo.decorators._DimRange" ? 1 : 0;
  }
  EXPECT_GT(ranges, 0u);
}

TEST(TorchObjectsTest, DistributedTensorsSayTheirWholeShapeAndFollowTheirParts) {
  Manifest manifest = Round("dtensors");
  const auto entry = [&](absl::string_view path) { return DescribeNode(manifest, *FindPath(manifest, path)); };
  Entry sharded = entry("/sharded");
  EXPECT_EQ(sharded.kind, NodeKind::kTensorSubclass);
  EXPECT_EQ(sharded.value, "torch.distributed.tensor.DTensor");
  EXPECT_EQ(sharded.dtype, "float32");
  EXPECT_THAT(sharded.shape, ElementsAre(2, 3));
  EXPECT_EQ(sharded.bytes, 24);
  EXPECT_EQ(*FindPath(manifest, "/sharded"), *FindPath(manifest, "/again"));
  EXPECT_EQ(entry("/parameter").type, "tensor_subclass") << "a Parameter by an attribute of its own";
  DeviceMapping mapping;
  mapping.device = "cuda:3";
  ASSERT_OK(MapDevices(mapping, manifest));
  ASSERT_OK(Validate(manifest));
  sharded = entry("/sharded");
  EXPECT_EQ(sharded.device, "cuda:3");
  EXPECT_EQ(manifest.storages[sharded.storage].device, "cuda:3");
}

using TorchObjectsPickleTest = TorchTreeTest;

TEST_F(TorchObjectsPickleTest, OnlyClassesOfTheListHaveObjects) {
  for (const char* name : {"Tensor", "Size", "FloatStorage"}) {
    ManifestBuilder b;
    Node node;
    node.kind = NodeKind::kObject;
    node.text = std::string("torch.") + name;
    node.children = {b.Tuple({}), b.Bool(false), b.None()};
    b.Add(node);
    EXPECT_THAT(Validate(b.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("may have objects of"))) << name;
  }
  for (const char* name :
       {"os.system", "torch.float32", "torch.UntypedStorage", "__builtin__.set", "exceptions.OSError", ""}) {
    ManifestBuilder b;
    b.Text(NodeKind::kGlobal, name);
    EXPECT_THAT(Validate(b.manifest()), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("may use"))) << name;
  }
}

TEST_F(TorchObjectsPickleTest, ElementsAreForListsOnly) {
  for (const char* name : {"FrameSummary", "StackSummary"}) {
    out_ = PickleWriter();
    out_.Global("traceback", name);
    out_.Tuple(0);
    out_.Op(PickleOp::kNewObj);
    out_.Int(1);
    out_.Op(PickleOp::kAppend);
    if (std::string(name) == "StackSummary") {
      EXPECT_OK(Read());
    } else {
      EXPECT_THAT(Read(), FailsWith(Reason::FILE_MALFORMED, HasSubstr("elements are added"))) << name;
    }
  }
}

TEST_F(TorchObjectsPickleTest, AnObjectInItselfIsACycle) {
  out_.Global("exceptions", "ValueError");
  out_.Tuple(0);
  out_.Op(PickleOp::kReduce);
  const PickleWriter::Memo error = out_.Put();
  out_.Op(PickleOp::kEmptyDict);
  out_.Str("cause");
  out_.Get(error);
  out_.Op(PickleOp::kSetItem);
  out_.Op(PickleOp::kBuild);
  EXPECT_THAT(Read(), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("contains itself")));
}

TEST_F(TorchObjectsPickleTest, OnlyObjectsThatAreComparedByWhatTheyHoldGoIntoSets) {
  const auto set_of = [&](const char* module, const char* name, bool twice) {
    out_ = PickleWriter();
    Mark("builtins", "set");
    out_.Op(PickleOp::kEmptyList);
    for (int i = 0; i < (twice ? 2 : 1); ++i) {
      out_.Global(module, name);
      out_.Tuple(0);
      out_.Op(PickleOp::kNewObj);
      out_.Op(PickleOp::kEmptyList);
      out_.Int(4);
      out_.Op(PickleOp::kAppend);
      out_.Op(PickleOp::kBuild);
      out_.Op(PickleOp::kAppend);
    }
    Call();
    return Read();
  };
  ASSERT_OK_AND_ASSIGN(const TorchFile ranges, set_of("torch._dynamo.decorators", "_DimRange", true));
  EXPECT_EQ(ranges.manifest.nodes.back().children.size(), 1u) << "the two are equal";
  EXPECT_THAT(set_of("exceptions", "ValueError", false), FailsWith(Reason::FILE_UNSUPPORTED));
}

TEST_F(TorchObjectsPickleTest, AWrapperIsMadeFromWhatItLooksLike) {
  const auto wrapper = [&](const char* function, const char* type, bool complete) {
    out_ = PickleWriter();
    Mark("torch._tensor", "_rebuild_from_type_v2");
    out_.Global("torch._utils", function);
    out_.Global("torch.distributed.tensor", "DTensor");
    out_.Op(PickleOp::kMark);
    out_.Global("torch.distributed.tensor", type);
    out_.Global("torch", "float32");
    Ints({2});
    Ints({1});
    out_.Int(0);
    Layout("strided");
    Mark("torch", "device");
    out_.Str("cpu");
    Call();
    if (complete) out_.Bool(false);
    out_.Op(PickleOp::kTuple);
    out_.Op(PickleOp::kNone);
    Call();
    return Read();
  };
  EXPECT_OK(wrapper("_rebuild_wrapper_subclass", "DTensor", true));
  EXPECT_THAT(wrapper("_rebuild_wrapper_subclass", "DTensor", false), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(wrapper("_rebuild_tensor_v2", "DTensor", true), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(wrapper("_rebuild_wrapper_subclass", "Nothing", true), FailsWith(Reason::PICKLE_GLOBAL_REFUSED));
}

TEST_F(TorchObjectsPickleTest, ScalesMayBeLists) {
  const auto quantized = [&](int points) {
    out_ = PickleWriter();
    Mark("torch._utils", "_rebuild_qtensor");
    StorageId("QInt8Storage", "small", "cpu", 4);
    out_.Int(0);
    Ints({2, 2});
    Ints({2, 1});
    out_.Op(PickleOp::kMark);
    out_.Global("torch", "per_channel_affine");
    out_.Op(PickleOp::kEmptyList);
    for (const double scale : {0.5, 2.0}) {
      out_.Float(scale);
      out_.Op(PickleOp::kAppend);
    }
    out_.Op(PickleOp::kEmptyList);
    for (int i = 0; i < points; ++i) {
      out_.Int(i);
      out_.Op(PickleOp::kAppend);
    }
    out_.Int(0);
    out_.Op(PickleOp::kTuple);
    out_.Bool(false);
    Hooks();
    Call();
    return Read();
  };
  ASSERT_OK_AND_ASSIGN(const TorchFile file, quantized(2));
  FileBytes bytes(file.bytes);
  ASSERT_OK_AND_ASSIGN(const std::string written, WriteTorchFile(file.manifest, bytes));
  ASSERT_OK_AND_ASSIGN(const TorchFile again, ReadTorchFile(AsBytes(written)));
  EXPECT_EQ(EncodeManifest(again.manifest), EncodeManifest(file.manifest));
  EXPECT_THAT(quantized(3), FailsWith(Reason::FILE_MALFORMED, HasSubstr("not one scale and zero point")));
}

TEST_F(TorchObjectsPickleTest, ParametersBefore04HaveAStateOfThree) {
  const auto parameter = [&](int parts) {
    out_ = PickleWriter();
    Mark("torch.nn.parameter", "Parameter");
    Tensor({2}, {1});
    Call();
    out_.Op(PickleOp::kMark);
    out_.Bool(false);  // requires_grad
    if (parts > 2) out_.Bool(false);
    Hooks();
    out_.Op(PickleOp::kTuple);
    out_.Op(PickleOp::kBuild);
    return Read();
  };
  ASSERT_OK_AND_ASSIGN(const TorchFile file, parameter(3));
  EXPECT_EQ(file.manifest.nodes.back().kind, NodeKind::kParameter);
  EXPECT_EQ(file.manifest.nodes.back().integer, 0);
  EXPECT_THAT(parameter(2), FailsWith(Reason::FILE_MALFORMED));
}

TEST_F(TorchObjectsPickleTest, TensorsOfDevicesWithoutStoragesAreWrittenAsPyTorchDoes) {
  ManifestBuilder b;
  const StorageIndex storage = b.InlineStorage(std::string(16, 'x'), "mtia:0");
  const NodeIndex first = b.Tensor(storage, DType::kFloat32, {4});
  b.List({first, b.Tensor(storage, DType::kFloat32, {2}), b.Tensor(DType::kInt16, {3}, "xla:1")});
  FileBytes bytes(std::vector<ByteSpan>{AsBytes(b.manifest().storages[0].inline_bytes),
                                        AsBytes(b.manifest().storages[1].inline_bytes)});
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteTorchFile(b.manifest(), bytes));
  EXPECT_THAT(file, HasSubstr("_rebuild_device_tensor_from_cpu_tensor"));
  ASSERT_OK_AND_ASSIGN(const TorchFile again, ReadTorchFile(AsBytes(file)));
  EXPECT_EQ(EncodeManifest(again.manifest), EncodeManifest(b.manifest()));
}

// Which the function for tensors does not take: their storage keeps its tag.
TEST_F(TorchObjectsPickleTest, QuantizedTensorsAndStoragesOfSuchDevicesStayAsTheyAre) {
  ManifestBuilder b;
  const StorageIndex storage = b.InlineStorage("abcd", "xla:0");
  const StorageIndex bare = b.InlineStorage("efgh", "xla:0");
  TensorView view;
  view.dtype = DType::kQInt8;
  view.shape = {4};
  view.stride = {1};
  view.storage = storage;
  Node quantized;
  quantized.kind = NodeKind::kQuantizedTensor;
  quantized.tensor = b.AddTensor(view);
  quantized.children = {b.Text(NodeKind::kQScheme, "per_tensor_affine"), b.Float(0.5), b.Int(3)};
  const NodeIndex made = b.Add(quantized);
  Node untyped;
  untyped.kind = NodeKind::kStorage;
  untyped.text = "uint8";
  untyped.integer = bare;
  const NodeIndex alone = b.Add(untyped);
  b.List({made, alone, b.Tensor(bare, DType::kUInt8, {4})});
  ASSERT_OK(Validate(b.manifest()));
  FileBytes bytes(std::vector<ByteSpan>{AsBytes("abcd"), AsBytes("efgh")});
  ASSERT_OK_AND_ASSIGN(const std::string file, WriteTorchFile(b.manifest(), bytes));
  ASSERT_OK_AND_ASSIGN(const TorchFile again, ReadTorchFile(AsBytes(file)));
  EXPECT_EQ(EncodeManifest(again.manifest), EncodeManifest(b.manifest()));
}

}  // namespace
}  // namespace sconce::format
