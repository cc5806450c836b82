#ifndef SCONCE_TESTS_SUPPORT_RANDOM_MANIFEST_H_
#define SCONCE_TESTS_SUPPORT_RANDOM_MANIFEST_H_

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/support/manifest_builder.h"

namespace sconce::format {

// Valid manifests of every node kind, with shared nodes and storages, odd keys and odd views: for property tests. The
// same seed gives the same manifest. Storages have no chunks; GiveChunks adds some.
class RandomManifest {
 public:
  explicit RandomManifest(uint32_t seed) : random_(seed) {}

  // From now on without arrays and tensors of special kinds, nor bits that a meta tensor cannot carry in a torch file.
  void OnlyPlainKinds() { plain_ = true; }

  Manifest Make(int depth = 4) {
    b_ = ManifestBuilder();
    made_.clear();
    std::vector<std::pair<NodeIndex, NodeIndex>> items;
    const int count = 1 + Below(20);
    for (int i = 0; i < count; ++i) {
      const NodeIndex key = b_.Str("top" + std::to_string(i));
      items.emplace_back(key, Any(depth));
    }
    b_.Dict(items);
    return b_.Build();
  }

  // Made-up digests for every bulk storage.
  void GiveChunks(Manifest& manifest) {
    for (Storage& storage : manifest.storages) {
      if (!IsBulk(storage)) continue;
      storage.chunks.resize(static_cast<size_t>(ChunkCount(storage.size_bytes)));
      for (Chunk& chunk : storage.chunks) {
        for (uint8_t& byte : chunk.sha256.bytes) byte = static_cast<uint8_t>(Below(256));
        for (uint8_t& byte : chunk.xxh3.bytes) byte = static_cast<uint8_t>(Below(256));
      }
    }
  }

  int Below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }

 private:
  NodeIndex Any(int depth) {
    if (!made_.empty() && Below(6) == 0) return made_[static_cast<size_t>(Below(static_cast<int>(made_.size())))];
    const NodeIndex node = depth > 0 && Below(3) == 0 ? Container(depth) : Below(2) == 0 ? Scalar() : AnyTensor();
    made_.push_back(node);
    return node;
  }

  NodeIndex Scalar() {
    switch (Below(plain_ ? 11 : 16)) {
      case 0:
        return b_.None();
      case 1:
        return b_.Bool(Below(2) == 1);
      case 2:
        return b_.Int(static_cast<int64_t>(std::uniform_int_distribution<uint64_t>()(random_)) >> Below(64));
      case 3:
        return b_.BigInt(std::string("\x01\x02\x03\x04\x05\x06\x07\x08\x7f", 9));
      case 4:
        return b_.Float(std::normal_distribution<double>()(random_));
      case 5:
        return b_.Complex(Below(5), -0.0);
      case 6:
        return b_.Str(std::string(static_cast<size_t>(Below(40)), 'x') + "/~\xC3\xA9\xED\xA0\x80");
      case 7:
        return b_.Bytes(std::string(static_cast<size_t>(Below(300)), '\xFF'));
      case 8:
        return b_.Text(NodeKind::kByteArray, "abc");
      case 9:
        return b_.Text(NodeKind::kDtype, "bfloat16");
      case 10:
        return b_.Text(NodeKind::kDevice, "cuda:1");
      case 11:
        return b_.NumpyScalar("<f8", std::string(8, 'n'));
      case 12:
        return b_.NumpyArray("<i2", {2, 3}, std::string(12, 'a'));
      case 13:
        return b_.Text(NodeKind::kGlobal, "torch.Tensor");
      case 14: {
        Node node;
        node.kind = NodeKind::kObject;
        node.text = "builtins.ValueError";
        node.children = {b_.Tuple({b_.Int(Below(9)), b_.Str("bad")}), b_.Bool(true), b_.None()};
        return b_.Add(node);
      }
      default:
        return b_.Set({b_.Int(Below(9)), b_.Str("s"), b_.Tuple({b_.Int(Below(3)), b_.None()})});
    }
  }

  NodeIndex Container(int depth) {
    std::vector<NodeIndex> children;
    std::vector<std::pair<NodeIndex, NodeIndex>> items;
    const int count = Below(8);
    const int kind = Below(6);
    if (kind < 2) {
      for (int i = 0; i < count; ++i) children.push_back(Any(depth - 1));
      return kind == 0 ? b_.List(children) : b_.Tuple(children);
    }
    for (int i = 0; i < count; ++i) {
      NodeIndex key = 0;
      switch (Below(4)) {
        case 0:
          key = b_.Int(i);
          break;
        case 1:
          key = b_.Str(std::to_string(i));  // beside an int of the same look, now and then
          break;
        case 2:
          key = b_.Tuple({b_.Int(i), b_.Str("~/")});
          break;
        default:
          key = b_.Str("layer." + std::to_string(i) + ".weight");
      }
      items.emplace_back(key, Any(depth - 1));
    }
    if (kind == 2) return b_.Dict(items, NodeKind::kCounter);
    if (kind == 3) return b_.OrderedDict(items);
    if (kind == 4) return b_.OrderedDict(items, b_.Dict({{b_.Str("_metadata"), b_.OrderedDict({})}}));
    return b_.Dict(items);
  }

  StorageIndex AnyStorage(int64_t at_least) {
    static constexpr const char* kDevices[] = {"cpu", "cpu", "cuda:0", "cuda:1", "mps", "meta"};
    auto& storages = b_.manifest().storages;
    if (!storages.empty() && Below(4) == 0 && storages.back().size_bytes >= at_least) {
      return static_cast<StorageIndex>(storages.size() - 1);
    }
    const int64_t extra = Below(3) == 0 ? Below(20'000'000) : 0;
    return b_.Storage(at_least + extra, kDevices[Below(6)], static_cast<char>(Below(256)));
  }

  NodeIndex Strided(DType dtype, const Dims& shape) {
    return b_.Tensor(AnyStorage(ElementCount(shape) * ElementBytes(dtype)), dtype, shape);
  }

  NodeIndex AnyView() {
    TensorView view;
    view.dtype = *DTypeFromNumber(static_cast<uint8_t>(1 + Below(47)));
    view.requires_grad = Below(2) == 1;
    view.negative = Below(8) == 0;
    view.conjugate = IsComplex(view.dtype) && Below(2) == 1;
    const int rank = Below(5);
    for (int i = 0; i < rank; ++i) view.shape.push_back(Below(20));
    if (Below(2) == 0) {
      ContiguousStride(view.shape, view.stride);
    } else {
      for (int i = 0; i < rank; ++i) view.stride.push_back(Below(30));
    }
    view.offset = Below(2) == 0 ? 0 : Below(1000);
    if (IsQuantized(view.dtype)) view.dtype = DType::kInt32;  // only with its scale
    if (Below(10) != 0) view.storage = AnyStorage(ViewEndBytes(view));
    if (plain_ && (view.storage == kNoIndex || IsMetaDevice(b_.manifest().storages[view.storage].device))) {
      view.negative = view.conjugate = false;
    }
    return b_.View(view);
  }

  NodeIndex AnyTensor() {
    static constexpr int kPlain[] = {0, 5, 8};
    switch (plain_ ? kPlain[Below(3)] : Below(9)) {
      case 0:
        return b_.Parameter(AnyView(), Below(2) == 1);
      case 1:
        return b_.SparseCoo({4, 4}, Strided(DType::kInt64, {2, 3}), Strided(DType::kFloat32, {3}));
      case 2: {
        Node node;
        node.kind = NodeKind::kQuantizedTensor;
        node.children = {b_.Text(NodeKind::kQScheme, "per_tensor_affine"), b_.Float(0.5), b_.Int(3)};
        TensorView view;
        view.dtype = DType::kQInt8;
        view.shape = {5};
        view.stride = {1};
        view.storage = AnyStorage(5);
        node.tensor = b_.AddTensor(view);
        return b_.Add(node);
      }
      case 3: {
        std::vector<NodeIndex> parts;
        for (int i = 0; i < 4; ++i) parts.push_back(Strided(DType::kInt64, {2}));
        return b_.Container(NodeKind::kNestedTensor, parts);
      }
      case 4: {
        Node node;
        node.kind = NodeKind::kTensorSubclass;
        node.text = "my.Tensor";
        node.children = {b_.Tuple({AnyView()}), b_.Dict({})};
        return b_.Add(node);
      }
      case 5: {
        Node node;
        node.kind = NodeKind::kStorage;
        node.text = Below(2) == 0 ? "untyped" : "float16";
        node.integer = AnyStorage(Below(5000));
        return b_.Add(node);
      }
      case 6:
        return b_.Container(NodeKind::kShardedTensor, {b_.Size({4, 2}), b_.IntTuple({0, 0}), b_.IntTuple({2, 2}),
                                                       Strided(DType::kFloat64, {2, 2}), b_.IntTuple({2, 0}),
                                                       b_.IntTuple({2, 2}), Strided(DType::kFloat64, {2, 2})});
      default:
        return AnyView();
    }
  }

  bool plain_ = false;
  std::mt19937 random_;
  ManifestBuilder b_;
  std::vector<NodeIndex> made_;
};

}  // namespace sconce::format

#endif  // SCONCE_TESTS_SUPPORT_RANDOM_MANIFEST_H_
