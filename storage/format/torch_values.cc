#include "storage/format/torch_values.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/latin1.h"

namespace sconce::format {
namespace {

using Kind = PickleValue::Kind;

}  // namespace

bool IsDeviceTag(absl::string_view tag) {
  const size_t colon = std::min(tag.find(':'), tag.size());
  const absl::string_view type = tag.substr(0, colon);
  if (type.empty() || type.size() > 32 || !absl::ascii_islower(type[0])) return false;
  for (const char c : type) {
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && c != '_') return false;
  }
  if (colon == tag.size()) return true;
  const absl::string_view index = tag.substr(colon + 1);
  if (index.size() > 1 && index[0] == '0') return false;  // PyTorch does not take 01 for 1 either
  return !index.empty() && index.size() <= 5 &&
         std::all_of(index.begin(), index.end(), [](char c) { return absl::ascii_isdigit(c); });
}

bool TorchValues::IsScalar(PickleIndex index) const {
  const PickleValue& value = graph_[index];
  switch (value.kind) {
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kSet:
    case Kind::kDict:
    case Kind::kPersistent:
      return false;
    case Kind::kCall:
      break;
    default:
      return true;
  }
  switch (value.global.tag) {
    case PickleTag::kEncode:
    case PickleTag::kBytes:
    case PickleTag::kByteArray:
    case PickleTag::kComplex:
    case PickleTag::kDevice:
    case PickleTag::kGetLayout:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<Node> TorchValues::Read(PickleIndex index) {
  const PickleValue& value = graph_[index];
  Node node;
  switch (value.kind) {
    case Kind::kNone:
      return node;
    case Kind::kBool:
      node.kind = NodeKind::kBool;
      node.integer = value.integer;
      return node;
    case Kind::kInt:
      node.kind = NodeKind::kInt;
      node.integer = value.integer;
      return node;
    case Kind::kLong:
      node.kind = NodeKind::kInt;
      node.text = ToStd(graph_.Text(index));
      return node;
    case Kind::kFloat:
      node.kind = NodeKind::kFloat;
      node.real = value.real;
      return node;
    case Kind::kStr:
    case Kind::kBytes:
    case Kind::kByteArray:
      node.kind = value.kind == Kind::kStr     ? NodeKind::kStr
                  : value.kind == Kind::kBytes ? NodeKind::kBytes
                                               : NodeKind::kByteArray;
      node.text = ToStd(graph_.Text(index));
      return node;
    case Kind::kGlobal:
      return ReadGlobal(index);
    default:
      return ReadCall(index);
  }
}

absl::StatusOr<Node> TorchValues::ReadGlobal(PickleIndex index) const {
  const PickleGlobal global = graph_[index].global;
  const std::string name = PickleGlobalName(global);
  Node node;
  node.text = ToStd(absl::StripPrefix(name, "torch."));
  if (global.tag == PickleTag::kDtype) {
    node.kind = NodeKind::kDtype;
  } else if (global.tag == PickleTag::kQScheme) {
    node.kind = NodeKind::kQScheme;
  } else if (IsGlobalNode(name)) {
    node.kind = NodeKind::kGlobal;
    node.text = name;
  } else {
    return UnsupportedValue(absl::StrCat("it holds ", name, " itself; remove it before saving"));
  }
  return node;
}

absl::StatusOr<Node> TorchValues::ReadCall(PickleIndex index) {
  const PickleGlobal global = graph_[index].global;
  const absl::Span<const PickleIndex> args = graph_.Items(graph_.Args(index));
  switch (global.tag) {
    case PickleTag::kEncode:
    case PickleTag::kBytes:
      return ReadText(NodeKind::kBytes, args);
    case PickleTag::kByteArray:
      return ReadText(NodeKind::kByteArray, args);
    case PickleTag::kComplex:
      return ReadComplex(args);
    case PickleTag::kDevice:
      return ReadDevice(args);
    case PickleTag::kGetLayout:
      return ReadLayout(args);
    default:
      return MalformedValue(absl::StrCat(PickleGlobalName(global), " makes no scalar"));
  }
}

// bytes and bytearray as the protocols write them: from nothing, from a bytes object (which may itself be such a call),
// or from a str and "latin1".
absl::StatusOr<Node> TorchValues::ReadText(NodeKind kind, absl::Span<const PickleIndex> args) {
  Node node;
  node.kind = kind;
  if (args.size() == 1 && kind == NodeKind::kByteArray && graph_[args[0]].kind == Kind::kCall &&
      graph_[args[0]].global.tag == PickleTag::kEncode) {
    args = graph_.Items(graph_.Args(args[0]));
  }
  if (args.empty()) return node;
  const absl::string_view text = graph_[args[0]].kind == Kind::kBytes || IsStr(args[0]) ? graph_.Text(args[0]) : "";
  SCONCE_RETURN_IF_ERROR(Charge(text.size()));
  if (args.size() == 1 && graph_[args[0]].kind == Kind::kBytes) {
    node.text = ToStd(text);
    return node;
  }
  if (args.size() == 2 && IsStr(args[0]) && IsStr(args[1]) &&
      (graph_.Text(args[1]) == "latin1" || graph_.Text(args[1]) == "latin-1")) {
    std::optional<std::string> bytes = Latin1FromUtf8(text);
    if (!bytes.has_value()) return MalformedValue("a bytes object has a character above 255");
    node.text = *std::move(bytes);
    return node;
  }
  return MalformedValue("a bytes object is made from something else than bytes");
}

absl::StatusOr<Node> TorchValues::ReadComplex(absl::Span<const PickleIndex> args) const {
  Node node;
  node.kind = NodeKind::kComplex;
  if (args.size() != 2) return MalformedValue("a complex number has no two parts");
  for (size_t i = 0; i < 2; ++i) {
    const PickleValue& part = graph_[args[i]];
    if (part.kind != Kind::kFloat && part.kind != Kind::kInt)
      return MalformedValue("a part of a complex number is not a number");
    (i == 0 ? node.real : node.imaginary) = part.kind == Kind::kFloat ? part.real : static_cast<double>(part.integer);
  }
  return node;
}

absl::StatusOr<Node> TorchValues::ReadDevice(absl::Span<const PickleIndex> args) const {
  Node node;
  node.kind = NodeKind::kDevice;
  if (args.empty() || args.size() > 2 || !IsStr(args[0])) return MalformedValue("a torch.device without a name");
  node.text = ToStd(graph_.Text(args[0]));
  if (args.size() == 2) {
    SCONCE_ASSIGN_OR_RETURN(const int64_t ordinal, ReadCount(args[1]));
    node.text += absl::StrCat(":", ordinal);
  }
  if (!IsDeviceTag(node.text)) return MalformedValue(absl::StrCat(Quoted(node.text), " is not a device"));
  return node;
}

absl::StatusOr<Node> TorchValues::ReadLayout(absl::Span<const PickleIndex> args) const {
  constexpr absl::string_view kLayouts[] = {"strided",    "sparse_coo", "sparse_csr", "sparse_csc",
                                            "sparse_bsr", "sparse_bsc", "_mkldnn",    "jagged"};
  Node node;
  node.kind = NodeKind::kLayout;
  if (args.size() != 1 || !IsStr(args[0])) return MalformedValue("a torch.layout without a name");
  absl::string_view name = graph_.Text(args[0]);
  absl::ConsumePrefix(&name, "torch.");
  if (std::find(std::begin(kLayouts), std::end(kLayouts), name) == std::end(kLayouts)) {
    return MalformedValue(absl::StrCat(Quoted(name), " is not a layout"));
  }
  node.text = ToStd(name);
  return node;
}

absl::Status TorchValues::CheckHooks(PickleIndex index) const {
  const Kind kind = graph_[index].kind;
  if (kind == Kind::kNone || kind == Kind::kDict || IsCall(index, PickleTag::kOrderedDict)) return absl::OkStatus();
  return MalformedValue("a tensor's backward hooks are not a dict");
}

absl::StatusOr<bool> TorchValues::ReadBool(PickleIndex value) const {
  if (graph_[value].kind != Kind::kBool) return MalformedValue("True or False is missing");
  return graph_[value].integer != 0;
}

absl::Status TorchValues::Charge(size_t n) {
  charged_ += n;
  if (charged_ <= graph_.pickle_bytes()) return absl::OkStatus();
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                   "the pickle names the same data over and over, so that its tree is larger than the pickle");
}

absl::StatusOr<int64_t> TorchValues::ReadCount(PickleIndex value) const {
  if (graph_[value].kind != Kind::kInt) return MalformedValue("an int is missing, or is beyond 64 bits");
  if (graph_[value].integer < 0)
    return MalformedValue(absl::StrCat(graph_[value].integer, " where only 0 or more can be"));
  return graph_[value].integer;
}

absl::StatusOr<DType> TorchValues::ReadDType(PickleIndex value) const {
  if (graph_[value].kind != Kind::kGlobal || graph_[value].global.tag != PickleTag::kDtype)
    return MalformedValue("a tensor's dtype is missing");
  return static_cast<DType>(graph_[value].global.number);
}

absl::StatusOr<Dims> TorchValues::ReadDims(PickleIndex value) {
  PickleIndex tuple = value;
  if (graph_[value].kind == Kind::kCall && graph_[value].global.tag == PickleTag::kSize &&
      graph_.Items(graph_.Args(value)).size() == 1) {
    tuple = graph_.Items(graph_.Args(value))[0];
  }
  if (graph_[tuple].kind != Kind::kTuple && graph_[tuple].kind != Kind::kList)
    return MalformedValue("a tensor's size or stride is not a tuple");
  const absl::Span<const PickleIndex> items = graph_.Items(tuple);
  SCONCE_RETURN_IF_ERROR(Charge(items.size()));
  Dims dims;
  for (const PickleIndex item : items) {
    SCONCE_ASSIGN_OR_RETURN(const int64_t extent, ReadCount(item));
    dims.push_back(extent);
  }
  return dims;
}

}  // namespace sconce::format
