// Writes torch files of trees made by hand, for PyTorch to judge what the writer makes of every kind of value, whoever
// could have saved it:
//
//   write_kinds FOLDER        makes FOLDER/sparse.pt and so on; tests/python/judge_written.py says what each must hold
#include <fstream>
#include <iostream>
#include <string>

#include "base/error.h"
#include "base/strings.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

template <typename T>
std::string Raw(std::initializer_list<T> values) {
  std::string bytes;
  for (const T value : values) bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  return bytes;
}

// Bulk storages count up: byte i is i * 7 + storage.
class Counting : public StorageBytes {
 public:
  absl::Status Read(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(offset++ * 7 + storage);
    return absl::OkStatus();
  }
};

class Kinds : public ManifestBuilder {
 public:
  NodeIndex Filled(DType dtype, const Dims& shape, const std::string& bytes, const std::string& device = "cpu") {
    return Tensor(InlineStorage(bytes, device), dtype, shape);
  }
  NodeIndex Sparse(const std::string& layout, const Dims& shape, std::vector<NodeIndex> components,
                   NodeIndex coalesced) {
    std::vector<NodeIndex> children = {Text(NodeKind::kLayout, layout), Size(shape)};
    children.insert(children.end(), components.begin(), components.end());
    children.push_back(coalesced);
    return Container(NodeKind::kSparseTensor, std::move(children));
  }
  NodeIndex Quantized(DType dtype, const Dims& shape, const std::string& bytes, std::vector<NodeIndex> quantizer) {
    Node node;
    node.kind = NodeKind::kQuantizedTensor;
    TensorView view;
    view.dtype = dtype;
    view.storage = InlineStorage(bytes);
    view.shape = shape;
    SCONCE_CHECK(ContiguousStride(shape, view.stride));
    node.tensor = AddTensor(view);
    node.children = std::move(quantizer);
    return Add(node);
  }
  NodeIndex Bare(StorageIndex storage, const std::string& type) {
    Node node;
    node.kind = NodeKind::kStorage;
    node.integer = storage;
    node.text = type;
    return Add(node);
  }
  NodeIndex Subclass(const std::string& name, NodeIndex tensor, NodeIndex state) {
    Node node;
    node.kind = NodeKind::kTensorSubclass;
    node.text = name;
    node.children = {Tuple({tensor}), state};
    return Add(node);
  }
  NodeIndex ParameterWithState(NodeIndex tensor, NodeIndex state) {
    Node node;
    node.kind = NodeKind::kParameter;
    node.integer = 1;
    node.children = {tensor, state};
    return Add(node);
  }
  NodeIndex Array(const std::string& dtype, const Dims& shape, bool fortran, NodeIndex data) {
    return Container(NodeKind::kNumpyArray, {Str(dtype), IntTuple(shape), Bool(fortran), data});
  }
  NodeIndex Reshaped(NodeIndex tensor, bool conjugate, bool negative) {
    TensorView view = manifest().tensors[manifest().nodes[tensor].tensor];
    view.conjugate = conjugate;
    view.negative = negative;
    return View(view);
  }
};

void Coo(Kinds& k) {
  const NodeIndex values = k.Filled(DType::kFloat32, {3}, Raw<float>({1, 2, 3}));
  const NodeIndex indices = k.Filled(DType::kInt64, {2, 3}, Raw<int64_t>({0, 1, 1, 2, 0, 2}));
  const NodeIndex plain = k.Sparse("sparse_coo", {2, 3}, {indices, values}, k.None());
  k.List({plain, plain, values, k.Parameter(plain)});
}

void CooFlagged(Kinds& k) {
  const NodeIndex values = k.Filled(DType::kFloat32, {3}, Raw<float>({1, 2, 3}));
  const NodeIndex indices = k.Filled(DType::kInt64, {2, 3}, Raw<int64_t>({0, 1, 1, 2, 0, 2}));
  k.List({k.Sparse("sparse_coo", {2, 3}, {indices, values}, k.Bool(true)),
          k.Sparse("sparse_coo", {2, 3}, {indices, values}, k.Bool(false)), values});
}

void Compressed(Kinds& k) {
  std::vector<NodeIndex> all;
  for (const char* layout : {"sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"}) {
    const bool blocks = layout[7] == 'b';
    const NodeIndex compressed = k.Filled(DType::kInt64, {3}, Raw<int64_t>({0, 1, 2}));
    const NodeIndex indices = k.Filled(DType::kInt64, {2}, Raw<int64_t>({1, 0}));
    const NodeIndex values = blocks ? k.Filled(DType::kFloat64, {2, 1, 1}, Raw<double>({5, 6}))
                                    : k.Filled(DType::kFloat64, {2}, Raw<double>({5, 6}));
    all.push_back(k.Sparse(layout, {2, 2}, {compressed, indices, values}, k.None()));
  }
  k.List(all);
}

void Quantized(Kinds& k) {
  const NodeIndex per_tensor = k.Quantized(DType::kQUInt8, {2, 2}, Raw<uint8_t>({0, 1, 2, 255}),
                                           {k.Text(NodeKind::kQScheme, "per_tensor_affine"), k.Float(0.5), k.Int(3)});
  const NodeIndex scales = k.Filled(DType::kFloat64, {2}, Raw<double>({0.25, 2}));
  const NodeIndex points = k.Filled(DType::kInt64, {2}, Raw<int64_t>({1, -1}));
  const NodeIndex per_channel =
      k.Quantized(DType::kQInt8, {2, 2}, Raw<uint8_t>({0, 1, 2, 255}),
                  {k.Text(NodeKind::kQScheme, "per_channel_affine"), scales, points, k.Int(0)});
  const NodeIndex float_scales = k.Filled(DType::kFloat32, {2}, Raw<float>({0.25, 2}));
  const NodeIndex float_points = k.Filled(DType::kFloat32, {2}, Raw<float>({0.5, -1}));
  const NodeIndex float_qparams = k.Quantized(
      DType::kQUInt8, {2, 2}, Raw<uint8_t>({9, 8, 7, 6}),
      {k.Text(NodeKind::kQScheme, "per_channel_affine_float_qparams"), float_scales, float_points, k.Int(1)});
  const NodeIndex wide = k.Quantized(DType::kQInt32, {1}, Raw<int32_t>({-70000}),
                                     {k.Text(NodeKind::kQScheme, "per_tensor_affine"), k.Float(0.1), k.Int(0)});
  k.List({per_tensor, per_channel, float_qparams, wide, scales, per_tensor, k.Parameter(per_tensor, false)});
}

void Nested(Kinds& k) {
  const NodeIndex buffer = k.Filled(DType::kFloat32, {5}, Raw<float>({1, 2, 3, 4, 5}));
  k.List({k.Container(NodeKind::kNestedTensor, {buffer, k.Filled(DType::kInt64, {2, 1}, Raw<int64_t>({2, 3})),
                                                k.Filled(DType::kInt64, {2, 1}, Raw<int64_t>({1, 1})),
                                                k.Filled(DType::kInt64, {2}, Raw<int64_t>({0, 2}))}),
          buffer});
}

void Jagged(Kinds& k) {
  const NodeIndex values = k.Filled(DType::kFloat32, {3, 1}, Raw<float>({1, 2, 3}));
  const NodeIndex offsets = k.Filled(DType::kInt64, {3}, Raw<int64_t>({0, 2, 3}));
  const NodeIndex keywords = k.Dict({{k.Str("values"), values},
                                     {k.Str("offsets"), offsets},
                                     {k.Str("lengths"), k.None()},
                                     {k.Str("_ragged_idx"), k.Int(1)},
                                     {k.Str("_metadata_cache"), k.Dict({})},
                                     {k.Str("requires_grad"), k.Bool(false)}});
  const NodeIndex state = k.Dict({{k.Str("mark"), k.Int(1)}});
  const NodeIndex jagged = k.Subclass("torch.nested._internal.nested_tensor.NestedTensor", keywords, state);
  k.List({jagged, jagged, values});
}

void Attributes(Kinds& k) {
  const NodeIndex tensor = k.Filled(DType::kFloat32, {2}, Raw<float>({1, 2}));
  const NodeIndex note = k.List({k.Str("note")});
  const NodeIndex marked = k.Subclass("torch.Tensor", tensor, k.Dict({{k.Str("mark"), note}}));
  const NodeIndex two_part =
      k.Subclass("torch.Tensor", tensor, k.Tuple({k.None(), k.Dict({{k.Str("mark"), k.Int(2)}})}));
  const NodeIndex parameter = k.Subclass("torch.nn.parameter.Parameter", tensor, k.Dict({}));
  const NodeIndex sparse = k.Subclass(
      "torch.Tensor",
      k.Sparse("sparse_coo", {4},
               {k.Filled(DType::kInt64, {1, 1}, Raw<int64_t>({3})), k.Filled(DType::kFloat32, {1}, Raw<float>({7}))},
               k.None()),
      k.Dict({{k.Str("mark"), k.Int(3)}}));
  k.List({marked, marked, tensor, two_part, parameter, sparse, note});
}

void State(Kinds& k) {
  const NodeIndex tensor = k.Filled(DType::kFloat32, {2}, Raw<float>({1, 2}));
  k.List({k.ParameterWithState(tensor, k.Dict({{k.Str("mark"), k.Int(1)}})),
          k.ParameterWithState(tensor, k.Tuple({k.None(), k.Dict({{k.Str("mark"), k.Int(2)}})}))});
}

void Numpy(Kinds& k) {
  const NodeIndex scalar = k.NumpyScalar("<f8", Raw<double>({2.5}));
  const NodeIndex inline_data = k.Bare(k.InlineStorage(Raw<uint8_t>({0, 127, 128, 255})), "uint8");
  const NodeIndex bulk = k.Bare(k.Storage(300'000), "uint8");
  const NodeIndex array = k.Array("<f4", {2, 3}, true, k.Bytes(Raw<float>({1, 2, 3, 4, 5, 6})));
  k.Dict({{k.Str("scalars"),
           k.List({scalar, scalar, k.NumpyScalar("|b1", "\1"), k.NumpyScalar("<M8[D]", Raw<int64_t>({18262})),
                   k.NumpyScalar("<m8[25s]", Raw<int64_t>({4})), k.NumpyScalar("<U2", Raw<uint32_t>({'a', 0x4e2d})),
                   k.NumpyScalar("|S3", "xyz"), k.NumpyScalar("|V2", "\1\2"),
                   k.NumpyScalar(">i4", std::string("\0\0\1\0", 4)), k.NumpyScalar("<c16", Raw<double>({1, -2}))})},
          {k.Str("array"), array},
          {k.Str("again"), array},
          {k.Str("big-endian"), k.Array(">i2", {2}, false, k.Bytes(std::string("\0\1\1\0", 4)))},
          {k.Str("empty"), k.Array("<i8", {0, 4}, false, k.Bytes(""))},
          {k.Str("none"), k.Array("<i8", {}, false, k.Bytes(Raw<int64_t>({-5})))},
          {k.Str("text"), k.Array("<U1", {2}, false, k.Bytes(Raw<uint32_t>({'b', 'c'})))},
          {k.Str("dates"), k.Array("<M8[ns]", {2}, false, k.Bytes(Raw<int64_t>({0, INT64_MIN})))},
          {k.Str("inline"), k.Array("|u1", {4}, false, inline_data)},
          {k.Str("bulk"), k.Array("|u1", {300, 1000}, false, bulk)},
          {k.Str("bulk again"), k.Array("<u2", {150'000}, false, bulk)},
          {k.Str("bulk too"), k.Array("|u1", {70'000}, false, k.Bare(k.Storage(70'000), "uint8"))},
          {scalar, k.Str("a key")}});
}

void Storages(Kinds& k) {
  const StorageIndex floats = k.InlineStorage(Raw<float>({1, 2}));
  const StorageIndex raw = k.InlineStorage(std::string(7, 'x'));
  const StorageIndex halves = k.InlineStorage(Raw<uint16_t>({0x3c00, 0x4000}));
  k.List({k.Bare(floats, "float32"), k.Tensor(floats, DType::kInt32, {2}), k.Tensor(floats, DType::kFloat32, {2}),
          k.Tensor(floats, DType::kUInt16, {4}), k.Bare(raw, "untyped"), k.Tensor(raw, DType::kInt16, {3}),
          k.Bare(halves, "untyped"), k.Tensor(halves, DType::kFloat16, {2}), k.Tensor(halves, DType::kUInt16, {2})});
}

void Bits(Kinds& k) {
  const NodeIndex complexes = k.Filled(DType::kComplex64, {2}, Raw<float>({1, 2, 3, 4}));
  const NodeIndex halves = k.Filled(DType::kComplex32, {1}, Raw<uint16_t>({0x3c00, 0x4000}));
  const NodeIndex floats = k.Filled(DType::kFloat32, {2}, Raw<float>({1, 2}));
  const NodeIndex meta = k.Tensor(k.Storage(16, "meta"), DType::kComplex64, {2});
  k.List({complexes, k.Reshaped(complexes, true, false), k.Reshaped(complexes, true, true), halves,
          k.Reshaped(halves, true, false), floats, k.Reshaped(floats, false, true), meta,
          k.Reshaped(meta, true, false)});
}

// PyTorch keeps tensors of these devices as tensors on the CPU, each with the device it belongs to.
void DevicesWithoutStorages(Kinds& k) {
  const NodeIndex mtia = k.Filled(DType::kFloat32, {2}, Raw<float>({1, 2}), "mtia:0");
  k.List({mtia, k.Filled(DType::kInt16, {1, 2}, Raw<int16_t>({3, -4}), "xla:1"), k.Parameter(mtia)});
}

absl::Status WriteAll(const std::string& folder) {
  const std::pair<const char*, void (*)(Kinds&)> files[] = {{"coo", Coo},
                                                            {"coo_flagged", CooFlagged},
                                                            {"compressed", Compressed},
                                                            {"quantized", Quantized},
                                                            {"nested", Nested},
                                                            {"jagged", Jagged},
                                                            {"attributes", Attributes},
                                                            {"state", State},
                                                            {"numpy", Numpy},
                                                            {"storages", Storages},
                                                            {"bits", Bits},
                                                            {"devices", DevicesWithoutStorages}};
  for (const auto& [name, make] : files) {
    Kinds kinds;
    make(kinds);
    SCONCE_RETURN_IF_ERROR(Annotate(Validate(kinds.manifest()), name));
    Counting bytes;
    SCONCE_ASSIGN_OR_RETURN(const std::string file, WriteTorchFile(kinds.manifest(), bytes, 12345));
    std::ofstream out(folder + "/" + name + ".pt", std::ios::binary);
    out << file;
    out.close();
    if (!out) return absl::UnknownError("cannot write to " + folder);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace sconce::format

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: write_kinds FOLDER\n";
    return 2;
  }
  const absl::Status status = sconce::format::WriteAll(argv[1]);
  if (!status.ok()) std::cerr << sconce::ToStd(status.message()) << "\n";
  return status.ok() ? 0 : 1;
}
