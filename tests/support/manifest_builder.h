#ifndef SCONCE_TESTS_SUPPORT_MANIFEST_BUILDER_H_
#define SCONCE_TESTS_SUPPORT_MANIFEST_BUILDER_H_

#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "storage/format/manifest.h"
#include "storage/format/value_key.h"

namespace sconce::format {

// Writes manifests down in tests: every method adds one node and returns its index; the node made last is the root.
//
//   ManifestBuilder b;
//   const auto weight = b.Tensor(b.Storage(4096), DType::kFloat32, {32, 32});
//   b.Dict({{b.Str("epoch"), b.Int(3)}, {b.Str("weight"), weight}});
//   Manifest manifest = b.Build();
//
// Arguments of one call are evaluated in any order, which is fine: children come before their parent either way.
class ManifestBuilder {
 public:
  using Items = std::vector<std::pair<NodeIndex, NodeIndex>>;

  NodeIndex Add(Node node) {
    manifest_.nodes.push_back(std::move(node));
    return manifest_.root();
  }
  NodeIndex None() { return Add({}); }
  NodeIndex Bool(bool value) { return Integer(NodeKind::kBool, value ? 1 : 0); }
  NodeIndex Int(int64_t value) { return Integer(NodeKind::kInt, value); }
  NodeIndex BigInt(const std::string& little_endian) { return Text(NodeKind::kInt, little_endian); }
  NodeIndex Float(double value) {
    Node node;
    node.kind = NodeKind::kFloat;
    node.real = value;
    return Add(node);
  }
  NodeIndex Complex(double real, double imaginary) {
    Node node;
    node.kind = NodeKind::kComplex;
    node.real = real;
    node.imaginary = imaginary;
    return Add(node);
  }
  NodeIndex Text(NodeKind kind, const std::string& text) {
    Node node;
    node.kind = kind;
    node.text = text;
    return Add(node);
  }
  NodeIndex Str(const std::string& text) { return Text(NodeKind::kStr, text); }
  NodeIndex Bytes(const std::string& text) { return Text(NodeKind::kBytes, text); }

  NodeIndex Container(NodeKind kind, std::vector<NodeIndex> children) {
    Node node;
    node.kind = kind;
    node.children = std::move(children);
    return Add(node);
  }
  NodeIndex List(std::vector<NodeIndex> children) { return Container(NodeKind::kList, std::move(children)); }
  NodeIndex Tuple(std::vector<NodeIndex> children) { return Container(NodeKind::kTuple, std::move(children)); }
  NodeIndex Set(std::vector<NodeIndex> children) {
    SCONCE_CHECK(SortSetElements(manifest_.nodes, children).ok());
    return Container(NodeKind::kSet, std::move(children));
  }
  NodeIndex Size(const Dims& shape) { return Container(NodeKind::kSize, Ints(shape)); }
  NodeIndex IntTuple(const Dims& values) { return Tuple(Ints(values)); }
  NodeIndex Dict(const Items& items, NodeKind kind = NodeKind::kDict) { return Container(kind, Flat(items)); }
  NodeIndex OrderedDict(const Items& items, NodeIndex attributes = kNoIndex) {
    std::vector<NodeIndex> children = Flat(items);
    if (attributes != kNoIndex) children.push_back(attributes);
    return Container(NodeKind::kOrderedDict, std::move(children));
  }

  // A storage of that many bytes; a small one is filled with `fill`, or is `bytes`.
  StorageIndex Storage(int64_t size_bytes, const std::string& device = "cpu", char fill = 0) {
    format::Storage storage;
    storage.size_bytes = size_bytes;
    storage.device = device;
    if (!IsBulk(storage) && !IsMetaDevice(device)) storage.inline_bytes.assign(static_cast<size_t>(size_bytes), fill);
    return AddStorage(std::move(storage));
  }
  StorageIndex InlineStorage(const std::string& bytes, const std::string& device = "cpu") {
    format::Storage storage;
    storage.size_bytes = static_cast<int64_t>(bytes.size());
    storage.device = device;
    storage.inline_bytes = bytes;
    return AddStorage(std::move(storage));
  }

  // A contiguous tensor at the start of `storage` (kNoIndex: a meta tensor).
  NodeIndex Tensor(StorageIndex storage, DType dtype, const Dims& shape) {
    TensorView view;
    view.dtype = dtype;
    view.storage = storage;
    view.shape = shape;
    SCONCE_CHECK(ContiguousStride(shape, view.stride));
    return View(view);
  }
  // A contiguous tensor with a storage of its own.
  NodeIndex Tensor(DType dtype, const Dims& shape, const std::string& device = "cpu") {
    return Tensor(Storage(ElementCount(shape) * ElementBytes(dtype), device), dtype, shape);
  }
  NodeIndex View(const TensorView& view) {
    Node node;
    node.kind = NodeKind::kTensor;
    node.tensor = AddTensor(view);
    return Add(node);
  }
  TensorIndex AddTensor(const TensorView& view) {
    manifest_.tensors.push_back(view);
    return static_cast<TensorIndex>(manifest_.tensors.size() - 1);
  }
  NodeIndex Parameter(NodeIndex tensor, bool requires_grad = true) {
    Node node;
    node.kind = NodeKind::kParameter;
    node.integer = requires_grad ? 1 : 0;
    node.children = {tensor};
    return Add(node);
  }
  NodeIndex SparseCoo(const Dims& shape, NodeIndex indices, NodeIndex values) {
    return Container(NodeKind::kSparseTensor,
                     {Text(NodeKind::kLayout, "sparse_coo"), Size(shape), indices, values, Bool(true)});
  }
  NodeIndex NumpyScalar(const std::string& dtype, const std::string& bytes) {
    return Container(NodeKind::kNumpyScalar, {Str(dtype), Bytes(bytes)});
  }
  NodeIndex NumpyArray(const std::string& dtype, const Dims& shape, const std::string& bytes) {
    return Container(NodeKind::kNumpyArray, {Str(dtype), IntTuple(shape), Bool(false), Bytes(bytes)});
  }

  Manifest& manifest() { return manifest_; }
  Manifest Build() const { return manifest_; }

 private:
  NodeIndex Integer(NodeKind kind, int64_t value) {
    Node node;
    node.kind = kind;
    node.integer = value;
    return Add(node);
  }
  std::vector<NodeIndex> Ints(const Dims& values) {
    std::vector<NodeIndex> nodes;
    for (const int64_t value : values) nodes.push_back(Int(value));
    return nodes;
  }
  static std::vector<NodeIndex> Flat(const Items& items) {
    std::vector<NodeIndex> children;
    for (const auto& [key, value] : items) {
      children.push_back(key);
      children.push_back(value);
    }
    return children;
  }
  StorageIndex AddStorage(format::Storage storage) {
    manifest_.storages.push_back(std::move(storage));
    return static_cast<StorageIndex>(manifest_.storages.size() - 1);
  }

  Manifest manifest_;
};

}  // namespace sconce::format

#endif  // SCONCE_TESTS_SUPPORT_MANIFEST_BUILDER_H_
