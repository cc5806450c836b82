#include "storage/format/torch_pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "storage/format/manifest_codec.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

// All zero, however large.
class ZeroBytes : public StorageBytes {
 public:
  absl::Status Read(StorageIndex, int64_t, absl::Span<uint8_t> out) override {
    std::fill(out.begin(), out.end(), uint8_t{0});
    return absl::OkStatus();
  }
};

// Whether two manifests hold the same tree, whatever the numbering of nodes, tensors and storages.
class SameTree {
 public:
  SameTree(const Manifest& a, const Manifest& b) : a_(a), b_(b) {}

  std::string Difference() { return Nodes(a_.root(), b_.root()); }

 private:
  std::string Nodes(NodeIndex i, NodeIndex j) {
    // Constants of torch are one object each, however many nodes name them.
    const bool constant = a_.nodes[i].kind == NodeKind::kDtype || a_.nodes[i].kind == NodeKind::kQScheme;
    if (constant)
      return a_.nodes[i].kind == b_.nodes[j].kind && a_.nodes[i].text == b_.nodes[j].text ? "" : "a constant differs";
    const auto [it, is_new] = nodes_.emplace(i, j);
    if (it->second != j || !back_.emplace(j, i).second != !is_new)
      return absl::StrCat("node ", i, " is shared differently");
    if (!is_new) return "";
    const Node& a = a_.nodes[i];
    const Node& b = b_.nodes[j];
    const bool storage = a.kind == NodeKind::kStorage;
    if (a.kind != b.kind || a.text != b.text || (!storage && a.integer != b.integer) ||
        std::memcmp(&a.real, &b.real, 8) != 0 || std::memcmp(&a.imaginary, &b.imaginary, 8) != 0 ||
        a.children.size() != b.children.size()) {
      return absl::StrCat("node ", i, " of kind ", static_cast<int>(a.kind), " differs");
    }
    if (storage) return Storages(static_cast<StorageIndex>(a.integer), static_cast<StorageIndex>(b.integer));
    if (a.kind == NodeKind::kTensor) return Views(a_.tensors[a.tensor], b_.tensors[b.tensor]);
    for (size_t c = 0; c < a.children.size(); ++c) {
      if (std::string difference = Nodes(a.children[c], b.children[c]); !difference.empty()) return difference;
    }
    return "";
  }
  std::string Views(const TensorView& a, const TensorView& b) {
    const bool meta = a.storage == kNoIndex || IsMetaDevice(a_.storages[a.storage].device);
    if (a.dtype != b.dtype || a.shape != b.shape || a.stride != b.stride || a.requires_grad != b.requires_grad ||
        a.conjugate != b.conjugate || a.negative != b.negative)
      return "a view differs";
    if (meta) return b.storage == kNoIndex ? "" : "a meta tensor has a storage";
    return a.offset == b.offset ? Storages(a.storage, b.storage) : "an offset differs";
  }
  std::string Storages(StorageIndex i, StorageIndex j) {
    if (storages_.emplace(i, j).first->second != j) return "a storage is shared differently";
    const Storage& a = a_.storages[i];
    const Storage& b = b_.storages[j];
    return a.size_bytes == b.size_bytes && a.device == b.device && a.inline_bytes == b.inline_bytes
               ? ""
               : "a storage differs";
  }

  const Manifest& a_;
  const Manifest& b_;
  std::map<NodeIndex, NodeIndex> nodes_;
  std::map<NodeIndex, NodeIndex> back_;
  std::map<StorageIndex, StorageIndex> storages_;
};

std::string WriteAndCompare(const Manifest& manifest) {
  ZeroBytes zeros;
  const auto file = WriteTorchFile(manifest, zeros);
  if (!file.ok()) return std::string(ToStd(file.status().message()));
  const auto read = ReadTorchFile(AsBytes(*file));
  if (!read.ok()) return std::string(ToStd(read.status().message()));
  if (std::string difference = SameTree(manifest, read->manifest).Difference(); !difference.empty()) return difference;
  // What was read is in the reader's own numbering, and so comes back as exactly the same manifest.
  FileBytes bytes(read->bytes);
  const auto again = WriteTorchFile(read->manifest, bytes);
  if (!again.ok()) return std::string(ToStd(again.status().message()));
  const auto reread = ReadTorchFile(AsBytes(*again));
  if (!reread.ok()) return std::string(ToStd(reread.status().message()));
  return EncodeManifest(reread->manifest) == EncodeManifest(read->manifest) ? ""
                                                                            : "the second round trip changed something";
}

TEST(TorchPickleTest, EveryPlainKindComesBack) {
  ManifestBuilder b;
  const NodeIndex shared = b.List({b.Str("shared"), b.Float(-0.0)});
  const NodeIndex tensor = b.Tensor(DType::kFloat16, {3, 4}, "cuda:1");
  Node with_state;
  with_state.kind = NodeKind::kParameter;
  with_state.children = {b.Tensor(DType::kFloat32, {2}), b.Dict({{b.Str("mark"), b.Int(1)}})};
  const NodeIndex parameter = b.Add(with_state);
  const NodeIndex metadata =
      b.Dict({{b.Str("_metadata"), b.OrderedDict({{b.Str(""), b.Dict({{b.Str("version"), b.Int(2)}})}})}});
  Node bare;
  bare.kind = NodeKind::kStorage;
  bare.text = "int16";
  bare.integer = b.Storage(10);
  const NodeIndex storage = b.Add(bare);
  const NodeIndex root = b.Tuple({b.None(),
                                  b.Bool(true),
                                  b.Int(-5),
                                  b.Int(INT64_MIN),
                                  b.BigInt(std::string(300, '\x17')),
                                  b.Complex(1, -0.0),
                                  b.Bytes(std::string("\0\xff", 2)),
                                  b.Bytes(""),
                                  b.Text(NodeKind::kByteArray, "xyz"),
                                  b.Text(NodeKind::kDtype, "float8_e4m3fn"),
                                  b.Text(NodeKind::kDevice, "cuda:3"),
                                  b.Text(NodeKind::kDevice, "cpu"),
                                  b.Text(NodeKind::kLayout, "sparse_coo"),
                                  b.Text(NodeKind::kQScheme, "per_tensor_affine"),
                                  b.Size({}),
                                  b.Size({2, 3, 4, 5}),
                                  b.Set({b.Int(1), b.Str("a")}),
                                  b.Set({}),
                                  b.Dict({}, NodeKind::kCounter),
                                  b.Dict({{b.Str("x"), b.Int(3)}}, NodeKind::kCounter),
                                  b.OrderedDict({{b.Int(0), shared}, {b.Str("0"), shared}}, metadata),
                                  b.OrderedDict({}, metadata),
                                  tensor,
                                  tensor,
                                  parameter,
                                  storage,
                                  b.Tensor(kNoIndex, DType::kFloat64, {7}),
                                  b.Tensor(DType::kUInt64, {2}),
                                  b.Tuple({}),
                                  b.List({})});
  ASSERT_EQ(root, b.manifest().root());
  ASSERT_OK(Validate(b.manifest()));
  EXPECT_EQ(WriteAndCompare(b.Build()), "");
}

TEST(TorchPickleTest, LongContainersGoInBatches) {
  for (const int count : {999, 1000, 1001, 2000, 5000}) {
    ManifestBuilder b;
    std::vector<NodeIndex> list;
    ManifestBuilder::Items items;
    for (int i = 0; i < count; ++i) {
      list.push_back(b.Int(i));
      items.emplace_back(b.Int(i), b.None());
    }
    const NodeIndex attributes = b.Dict({{b.Str("a"), b.None()}});
    b.Tuple({b.List(list), b.Dict(items), b.OrderedDict(items, attributes), b.Set(list),
             b.Dict(items, NodeKind::kCounter)});
    EXPECT_EQ(WriteAndCompare(b.Build()), "") << count;
  }
}

TEST(TorchPickleTest, RandomTreesComeBack) {
  int written = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    RandomManifest random(seed);
    random.OnlyPlainKinds();
    Manifest manifest = random.Make(3);
    ASSERT_OK(Validate(manifest));
    if (BulkBytes(manifest) > 10'000'000) continue;
    const std::string difference = WriteAndCompare(manifest);
    if (difference.find("that is also of another type") != std::string::npos) continue;
    EXPECT_EQ(difference, "") << "seed " << seed;
    ++written;
  }
  EXPECT_GT(written, 50);
}

TEST(TorchPickleTest, StoragesOfSeveralTypesAreWrittenAsBytes) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(16);
  b.Tuple({b.Tensor(storage, DType::kFloat32, {4}), b.Tensor(storage, DType::kInt16, {8})});
  EXPECT_EQ(WriteAndCompare(b.Build()), "");
  ZeroBytes zeros;
  ASSERT_OK_AND_ASSIGN(const TorchPickle pickle, WriteTorchPickle(b.manifest(), zeros));
  EXPECT_THAT(pickle.pickle, HasSubstr("UntypedStorage"));
}

TEST(TorchPickleTest, RecordsAreNumberedAsThePickleNamesThem) {
  ManifestBuilder b;
  const StorageIndex first = b.Storage(8);
  const StorageIndex second = b.Storage(4);
  b.Tuple({b.Tensor(second, DType::kFloat32, {1}), b.Tensor(first, DType::kFloat32, {2})});
  ZeroBytes zeros;
  ASSERT_OK_AND_ASSIGN(const TorchPickle pickle, WriteTorchPickle(b.manifest(), zeros));
  EXPECT_THAT(pickle.storages, ::testing::ElementsAre(second, first));
}

NodeIndex Bare(ManifestBuilder& b, StorageIndex storage, const std::string& type) {
  Node node;
  node.kind = NodeKind::kStorage;
  node.integer = storage;
  node.text = type;
  return b.Add(node);
}

NodeIndex Subclass(ManifestBuilder& b, const std::string& name, std::vector<NodeIndex> arguments) {
  Node node;
  node.kind = NodeKind::kTensorSubclass;
  node.text = name;
  node.children = {b.Tuple(std::move(arguments)), b.None()};
  return b.Add(node);
}

NodeIndex Quantized(ManifestBuilder& b, StorageIndex storage, const std::string& scheme) {
  Node node;
  node.kind = NodeKind::kQuantizedTensor;
  TensorView view;
  view.dtype = DType::kQInt8;
  view.storage = storage;
  view.shape = {2};
  view.stride = {1};
  node.tensor = b.AddTensor(view);
  node.children = {b.Text(NodeKind::kQScheme, scheme), b.Float(1), b.Int(0)};
  return b.Add(node);
}

// The error of a list whose second element cannot be written, in a dict under "loss".
absl::Status Refusal(ManifestBuilder& b, NodeIndex bad) {
  b.Dict({{b.Str("loss"), b.List({b.None(), bad})}});
  const absl::Status valid = Validate(b.manifest());
  if (!valid.ok()) return valid;
  ZeroBytes zeros;
  return WriteTorchPickle(b.manifest(), zeros).status();
}

TEST(TorchPickleTest, ShardedTensorsAreRefusedWithTheirPlace) {
  ManifestBuilder b;
  const NodeIndex tensor = b.Tensor(DType::kFloat32, {2});
  Node node;
  node.kind = NodeKind::kShardedTensor;
  node.children = {b.Size({2}), b.IntTuple({0}), b.IntTuple({2}), tensor};
  const NodeIndex sharded = b.Add(node);
  EXPECT_THAT(Refusal(b, sharded),
              FailsWith(Reason::FILE_UNSUPPORTED, ::testing::AllOf(HasSubstr("at /loss/1: "), HasSubstr("sharded"))));
}

TEST(TorchPickleTest, NoManifestCanMakeAFileNameAModuleToImport) {
  for (const char* name : {"os.system", "torch.Tensor\nos", "numpy.ndarray", "Tensor", "torch.nn.parameter.Buffer."}) {
    ManifestBuilder b;
    const NodeIndex subclass = Subclass(b, name, {b.Tensor(DType::kFloat32, {2})});
    EXPECT_THAT(Refusal(b, subclass), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("/loss/1"))) << name;
  }
  ManifestBuilder b;
  const NodeIndex scheme = b.Text(NodeKind::kQScheme, "load");
  EXPECT_THAT(Refusal(b, scheme), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("/loss/1")));
}

TEST(TorchPickleTest, ASubclassIsMadeFromOneTensor) {
  for (const bool none : {false, true}) {
    ManifestBuilder b;
    const NodeIndex subclass =
        Subclass(b, "torch.Tensor", none ? std::vector<NodeIndex>{} : std::vector<NodeIndex>{b.Int(1)});
    EXPECT_THAT(Refusal(b, subclass), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("/loss/1")));
  }
}

TEST(TorchPickleTest, AProblemInAComponentIsNamedByTheTensorItIsPartOf) {
  ManifestBuilder b;
  TensorView view;
  view.dtype = DType::kComplex64;
  view.conjugate = true;
  view.shape = {1};
  view.stride = {1};
  const NodeIndex sparse = b.SparseCoo({4}, b.Tensor(DType::kInt64, {1, 1}), b.View(view));
  EXPECT_THAT(Refusal(b, sparse), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("at /loss/1: a meta tensor")));
}

TEST(TorchPickleTest, QuantizedTensorsNeedTheirStorageForThemselves) {
  {
    ManifestBuilder b;
    const StorageIndex storage = b.Storage(2);
    const NodeIndex pair = b.Tuple({Bare(b, storage, "int8"), Quantized(b, storage, "per_tensor_affine")});
    EXPECT_THAT(Refusal(b, pair), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("/loss/1/1")));
  }
  {
    ManifestBuilder b;
    const NodeIndex symmetric = Quantized(b, b.Storage(2), "per_tensor_symmetric");
    EXPECT_THAT(Refusal(b, symmetric), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("symmetric")));
  }
  {
    ManifestBuilder b;
    const NodeIndex unscaled = b.Tensor(DType::kQInt8, {2});
    EXPECT_THAT(Refusal(b, unscaled), FailsWith(Reason::MANIFEST_INVALID, HasSubstr("without its scale")));
  }
}

TEST(TorchPickleTest, BareStoragesAreOfOneTypeEach) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(8);
  const NodeIndex pair = b.Tuple({Bare(b, storage, "float32"), Bare(b, storage, "int32")});
  EXPECT_THAT(Refusal(b, pair), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("/loss/1/1")));
  ManifestBuilder c;
  const NodeIndex no_class = Bare(c, c.Storage(8), "float8_e5m2");
  EXPECT_THAT(Refusal(c, no_class), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("float8_e5m2 storage")));
}

TEST(TorchPickleTest, ADateOfAnUnknownUnitIsRefused) {
  for (const char* dtype : {"<M8[fortnight]", "<M8[9999999999s]", "<m8[s/2]"}) {
    ManifestBuilder b;
    const NodeIndex scalar = b.NumpyScalar(dtype, std::string(8, 'n'));
    const absl::Status refusal = Refusal(b, scalar);
    EXPECT_THAT(refusal, FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("/loss/1"))) << dtype;
  }
}

// Bytes of all values, so that some are one character of UTF-8 and some are two.
class CountingBytes : public StorageBytes {
 public:
  absl::Status Read(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    ++reads;
    largest = std::max(largest, out.size());
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(offset++ * 7 + storage);
    return absl::OkStatus();
  }
  int reads = 0;
  size_t largest = 0;
};

TEST(TorchPickleTest, ALargeNumpyArrayIsReadInPiecesAndNamedOnce) {
  ManifestBuilder b;
  const StorageIndex storage = b.Storage(5'120'000);
  const NodeIndex data = Bare(b, storage, "uint8");
  const auto array = [&](const Dims& shape) {
    return b.Container(NodeKind::kNumpyArray, {b.Str("|u1"), b.IntTuple(shape), b.Bool(false), data});
  };
  b.List({array({5'120'000}), array({1'000, 5'120})});
  ASSERT_OK(Validate(b.manifest()));
  CountingBytes bytes;
  ASSERT_OK_AND_ASSIGN(const TorchPickle pickle, WriteTorchPickle(b.manifest(), bytes));
  ASSERT_EQ(pickle.inserts.size(), 1);
  EXPECT_EQ(pickle.inserts[0].storage, storage);
  EXPECT_EQ(pickle.inserts[0].utf8_bytes, 7'680'000);  // every value equally often
  EXPECT_LT(pickle.pickle.size(), 1000);
  EXPECT_TRUE(pickle.storages.empty());  // no record of its own
  EXPECT_LE(bytes.largest, 1 << 20);
}

TEST(TorchPickleTest, AFailureToReadAnArrayIsPassedOn) {
  class Broken : public StorageBytes {
   public:
    absl::Status Read(StorageIndex, int64_t, absl::Span<uint8_t>) override {
      return MakeError(Reason::CHUNK_CORRUPT, "rotten");
    }
  };
  ManifestBuilder b;
  const NodeIndex data = Bare(b, b.Storage(5'000), "uint8");
  b.Container(NodeKind::kNumpyArray, {b.Str("|u1"), b.IntTuple({5'000}), b.Bool(false), data});
  Broken broken;
  EXPECT_THAT(WriteTorchPickle(b.manifest(), broken), FailsWith(Reason::CHUNK_CORRUPT, HasSubstr("rotten")));
}

}  // namespace
}  // namespace sconce::format
