#ifndef SCONCE_TESTS_SUPPORT_EXPECTED_TREE_H_
#define SCONCE_TESTS_SUPPORT_EXPECTED_TREE_H_

#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "storage/format/torch_reader.h"

namespace sconce::format {

// Compares what was read with what PyTorch saw in the file: a tree of expected.json (tests/data/README.md).
class ExpectedTree {
 public:
  explicit ExpectedTree(const TorchFile& file) : file_(file) {}

  // "" when all is equal, else the first difference with its place.
  std::string Compare(const nlohmann::json& tree) { return Node(tree, file_.manifest.root(), ""); }

 private:
  using Json = nlohmann::json;

  std::string Node(const Json& expected, NodeIndex index, const std::string& path) {
    static const auto& kinds = *new std::map<std::string, NodeKind>{{"none", NodeKind::kNone},
                                                                    {"bool", NodeKind::kBool},
                                                                    {"int", NodeKind::kInt},
                                                                    {"float", NodeKind::kFloat},
                                                                    {"complex", NodeKind::kComplex},
                                                                    {"str", NodeKind::kStr},
                                                                    {"bytes", NodeKind::kBytes},
                                                                    {"list", NodeKind::kList},
                                                                    {"tuple", NodeKind::kTuple},
                                                                    {"set", NodeKind::kSet},
                                                                    {"dict", NodeKind::kDict},
                                                                    {"ordered_dict", NodeKind::kOrderedDict},
                                                                    {"counter", NodeKind::kCounter},
                                                                    {"size", NodeKind::kSize},
                                                                    {"dtype", NodeKind::kDtype},
                                                                    {"device", NodeKind::kDevice},
                                                                    {"layout", NodeKind::kLayout},
                                                                    {"qscheme", NodeKind::kQScheme},
                                                                    {"bytearray", NodeKind::kByteArray}};
    const format::Node& node = file_.manifest.nodes[index];
    const std::string kind = expected.at("kind");
    if (kind == "tensor") return Tensor(expected, node, path);
    if (kind == "numpy_scalar" || kind == "numpy_array") return Numpy(expected, node, path);
    if (kind == "tensor_subclass") return Subclass(expected, node, path);
    if (kind == "storage") return BareStorage(expected, node, path);
    if (kinds.count(kind) == 0) return absl::StrCat(path, ": the test does not know ", kind);
    if (node.kind != kinds.at(kind))
      return absl::StrCat(path, ": kind ", static_cast<int>(node.kind), ", expected ", kind);
    if (expected.contains("items")) return Items(expected.at("items"), node, path);
    const std::string value = Value(node);
    const std::string wanted =
        kind == "int" || kind == "str" || kind == "bytes" || kind == "bytearray" || kind == "device"
            ? expected.at("value").get<std::string>()
        : kind == "dtype" || kind == "layout" || kind == "qscheme" ? expected.at("value").get<std::string>().substr(6)
                                                                   : Spelled(expected.at("value"));
    return value == wanted ? "" : absl::StrCat(path, ": ", value, ", expected ", wanted);
  }

  // Floats as their bits, lists as comma-separated values.
  static std::string Spelled(const Json& value) {
    if (value.is_null()) return "None";
    if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
    if (value.is_number()) return absl::StrCat(value.get<int64_t>());
    if (value.is_string()) return Bits(std::strtod(value.get<std::string>().c_str(), nullptr));
    std::string all;
    for (const Json& one : value) absl::StrAppend(&all, Spelled(one), ",");
    return all;
  }
  static std::string Bits(double value) {
    char text[64];
    std::snprintf(text, sizeof text, "%a", value);
    return text;
  }
  std::string Value(const format::Node& node) const {
    switch (node.kind) {
      case NodeKind::kNone:
        return "None";
      case NodeKind::kBool:
        return absl::StrCat(node.integer);
      case NodeKind::kInt:
        return node.text.empty() ? absl::StrCat(node.integer) : BigInt(node.text);
      case NodeKind::kFloat:
        return Bits(node.real);
      case NodeKind::kComplex:
        return absl::StrCat(Bits(node.real), ",", Bits(node.imaginary), ",");
      case NodeKind::kBytes:
      case NodeKind::kByteArray:
        return ToHex(AsBytes(node.text));
      case NodeKind::kSize: {
        std::string all;
        for (const NodeIndex child : node.children) absl::StrAppend(&all, file_.manifest.nodes[child].integer, ",");
        return all;
      }
      default:
        return node.text;
    }
  }
  // Decimal, by long division.
  static std::string BigInt(std::string little_endian) {
    std::string digits;
    const bool negative = static_cast<uint8_t>(little_endian.back()) >= 0x80;
    bool carry = true;
    for (char& byte : little_endian) {
      if (!negative) break;
      byte = static_cast<char>(~byte + (carry ? 1 : 0));
      carry = carry && byte == 0;
    }
    while (!little_endian.empty()) {
      int remainder = 0;
      for (size_t i = little_endian.size(); i-- > 0;) {
        const int part = remainder * 256 + static_cast<uint8_t>(little_endian[i]);
        little_endian[i] = static_cast<char>(part / 10);
        remainder = part % 10;
      }
      digits.insert(digits.begin(), static_cast<char>('0' + remainder));
      while (!little_endian.empty() && little_endian.back() == 0) little_endian.pop_back();
    }
    return negative ? "-" + digits : digits;
  }

  std::string Items(const Json& items, const format::Node& node, const std::string& path) {
    const bool keyed =
        node.kind == NodeKind::kDict || node.kind == NodeKind::kOrderedDict || node.kind == NodeKind::kCounter;
    const size_t count = keyed ? node.children.size() / 2 : node.children.size();
    if (count != items.size()) return absl::StrCat(path, ": ", count, " items, expected ", items.size());
    for (size_t i = 0; i < count; ++i) {
      const std::string place = absl::StrCat(path, "/", i);
      std::string difference =
          keyed ? Node(items[i][0], node.children[2 * i], place + " key") : Node(items[i], node.children[i], place);
      if (difference.empty() && keyed) difference = Node(items[i][1], node.children[2 * i + 1], place);
      if (!difference.empty()) return difference;
    }
    return "";
  }

  // A tensor of any layout, or a Parameter of one.
  std::string Tensor(const Json& expected, const format::Node& node, const std::string& path) {
    const bool parameter = node.kind == NodeKind::kParameter;
    const format::Node& inner = parameter ? Child(node, 0) : node;
    if (expected.contains("state") != (parameter && node.children.size() == 2)) return path + ": state or none";
    if (expected.contains("state")) {
      if (std::string difference = Node(expected.at("state"), node.children[1], path + " state"); !difference.empty())
        return difference;
    }
    if (expected.contains("layout")) return Sparse(expected, inner, path);
    if (expected.contains("nested")) return Nested(expected, inner, path);
    const NodeKind kind = expected.contains("qscheme") ? NodeKind::kQuantizedTensor : NodeKind::kTensor;
    // The collection from outside says nothing of a quantized tensor's parameters.
    if (inner.kind != kind && inner.kind != NodeKind::kQuantizedTensor) return path + ": not a strided tensor";
    const TensorView& view = file_.manifest.tensors[inner.tensor];
    const bool requires_grad = parameter ? node.integer != 0 : view.requires_grad;
    const Json got = {{"dtype", std::string(ToStd(DTypeName(view.dtype)))},
                      {"shape", std::vector<int64_t>(view.shape.begin(), view.shape.end())},
                      {"stride", std::vector<int64_t>(view.stride.begin(), view.stride.end())},
                      {"storage_offset", view.offset},
                      {"requires_grad", requires_grad},
                      {"parameter", parameter},
                      {"device", view.storage == kNoIndex ? "meta" : file_.manifest.storages[view.storage].device}};
    for (const auto& [key, value] : got.items()) {
      if (expected.at(key) != value)
        return absl::StrCat(path, " ", key, ": ", value.dump(), ", expected ", expected.at(key).dump());
    }
    if (expected.value("conj", false) != view.conjugate || expected.value("neg", false) != view.negative)
      return path + ": other conjugate or negative bits";
    if (kind == NodeKind::kQuantizedTensor) {
      if (std::string difference = Quantizer(expected, inner, path); !difference.empty()) return difference;
    }
    if (!expected.contains("sha256")) return "";
    if (const std::string sha = Sha(view); sha != expected.at("sha256").get<std::string>())
      return path + ": other bytes";
    return expected.contains("storage") ? Sharing(expected.at("storage"), view.storage, path) : "";
  }

  std::string Sharing(int number, StorageIndex storage, const std::string& path) {
    if (storages_.emplace(number, storage).first->second != storage) return path + ": does not share its storage";
    if (numbers_.emplace(storage, number).first->second != number) return path + ": shares a storage";
    return "";
  }

  const format::Node& Child(const format::Node& node, size_t i) const {
    return file_.manifest.nodes[node.children.at(i)];
  }

  std::string Sparse(const Json& expected, const format::Node& node, const std::string& path) {
    if (node.kind != NodeKind::kSparseTensor) return path + ": not a sparse tensor";
    if (Child(node, 0).text != expected.at("layout").get<std::string>()) return path + ": other layout";
    if (Value(Child(node, 1)) != Spelled(expected.at("shape"))) return path + ": other shape";
    size_t at = 2;
    // The names of the components, in the order of all layouts.
    for (const char* part : {"indices", "crow", "ccol", "col", "row", "values"}) {
      if (!expected.contains(part)) continue;
      std::string difference = Node(expected.at(part), node.children.at(at++), absl::StrCat(path, " ", part));
      if (!difference.empty()) return difference;
    }
    if (at + 1 != node.children.size()) return path + ": other components";
    if (!expected.contains("coalesced")) return "";
    const std::string coalesced = Value(Child(node, at));
    return coalesced == Spelled(expected.at("coalesced")) ? "" : path + ": coalesced is " + coalesced;
  }

  std::string Nested(const Json& expected, const format::Node& node, const std::string& path) {
    if (node.kind != NodeKind::kNestedTensor) return path + ": not a nested tensor";
    return Items(expected.at("nested"), node, path);
  }

  std::string Quantizer(const Json& expected, const format::Node& node, const std::string& path) {
    size_t at = 0;
    for (const char* part : {"qscheme", "scale", "zero_point", "axis"}) {
      if (!expected.contains(part)) continue;
      std::string difference = Node(expected.at(part), node.children.at(at++), absl::StrCat(path, " ", part));
      if (!difference.empty()) return difference;
    }
    return at == node.children.size() ? "" : path + ": other quantizer";
  }

  std::string Numpy(const Json& expected, const format::Node& node, const std::string& path) {
    const bool scalar = expected.at("kind") == "numpy_scalar";
    if (node.kind != (scalar ? NodeKind::kNumpyScalar : NodeKind::kNumpyArray)) return path + ": not a numpy value";
    if (Child(node, 0).text != expected.at("dtype").get<std::string>())
      return absl::StrCat(path, ": numpy dtype ", Child(node, 0).text);
    const std::string data = Child(node, node.children.size() - 1).text;
    if (ToHex(AsBytes(data)) != expected.at("data").get<std::string>()) return path + ": other numpy data";
    if (scalar) return "";
    std::string shape;
    for (const NodeIndex extent : Child(node, 1).children)
      absl::StrAppend(&shape, file_.manifest.nodes[extent].integer, ",");
    if (shape != Spelled(expected.at("shape"))) return absl::StrCat(path, ": numpy shape ", shape);
    return Value(Child(node, 2)) == Spelled(expected.at("fortran")) ? "" : path + ": other order";
  }

  std::string Subclass(const Json& expected, const format::Node& node, const std::string& path) {
    if (node.kind != NodeKind::kTensorSubclass) return path + ": not a tensor subclass";
    if (node.text != expected.at("class").get<std::string>()) return path + ": class " + node.text;
    std::string difference = Items(expected.at("args"), Child(node, 0), path + " args");
    return difference.empty() ? Node(expected.at("state"), node.children.at(1), path + " state") : difference;
  }

  std::string BareStorage(const Json& expected, const format::Node& node, const std::string& path) {
    if (node.kind != NodeKind::kStorage) return path + ": not a storage";
    if (node.text != expected.at("dtype").get<std::string>()) return path + ": storage of " + node.text;
    const auto storage = static_cast<StorageIndex>(node.integer);
    if (ToHex(file_.bytes.at(storage)) != expected.at("data").get<std::string>()) return path + ": other bytes";
    return Sharing(expected.at("storage"), storage, path);
  }

  std::string Sha(const TensorView& view) const {
    const auto size = static_cast<size_t>(ElementBytes(view.dtype));
    const ByteSpan bytes = file_.bytes.at(view.storage);
    if (view.dtype == DType::kQUInt4x2) return Sha256(bytes).Hex();  // packed: all of it
    std::string contiguous;
    std::vector<int64_t> at(view.shape.size(), 0);
    for (int64_t i = 0; i < ElementCount(view.shape); ++i) {
      int64_t element = view.offset;
      for (size_t d = 0; d < at.size(); ++d) element += at[d] * view.stride[d];
      contiguous += std::string(ToStd(AsText(bytes.subspan(static_cast<size_t>(element) * size, size))));
      for (size_t d = at.size(); d-- > 0;) {
        if (++at[d] < view.shape[d]) break;
        at[d] = 0;
      }
    }
    return Sha256(AsBytes(contiguous)).Hex();
  }

  const TorchFile& file_;
  std::map<int, StorageIndex> storages_;
  std::map<StorageIndex, int> numbers_;
};

}  // namespace sconce::format

#endif  // SCONCE_TESTS_SUPPORT_EXPECTED_TREE_H_
