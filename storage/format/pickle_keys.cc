#include "storage/format/pickle_keys.h"

#include <cmath>
#include <cstring>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "storage/format/latin1.h"
#include "storage/format/numpy_values.h"
#include "storage/format/zip_format.h"

namespace sconce::format {
namespace {

// A longer numpy str or bytes is no key: they may share their data, and each is looked at.
constexpr size_t kMaxScalarKeyBytes = 1024;

void AppendInt(std::string& out, int64_t integer) {
  out.push_back('i');
  AppendLittle(out, static_cast<uint64_t>(integer), 8);
}

// A float equals the int of the same value. (Beyond 64 bits the two are kept apart: no real dict mixes them there.)
void AppendFloat(std::string& out, double real, PickleIndex value) {
  if (real == std::trunc(real) && std::fabs(real) < 9.2e18) return AppendInt(out, static_cast<int64_t>(real));
  uint64_t bits = 0;
  std::memcpy(&bits, &real, sizeof bits);
  out.push_back('f');
  AppendLittle(out, bits, 8);
  if (std::isnan(real)) AppendLittle(out, value, 4);  // a NaN equals only itself
}

}  // namespace

std::optional<uint32_t> PickleKeys::Id(PickleIndex value) {
  std::vector<PickleIndex> todo = {value};  // tuples and, above them, their elements; tuples cannot be cyclic
  std::string bytes;
  std::vector<PickleIndex> missing;
  while (!todo.empty()) {
    const PickleIndex next = todo.back();
    if (ids_.contains(next)) {
      todo.pop_back();
      continue;
    }
    bytes.clear();
    missing.clear();
    if (Encode(next, bytes, missing)) {
      todo.pop_back();
      ids_[next] = id_of_bytes_.emplace(bytes, static_cast<uint32_t>(id_of_bytes_.size())).first->second;
    } else if (missing.empty()) {
      return std::nullopt;
    } else {
      todo.insert(todo.end(), missing.begin(), missing.end());
    }
  }
  return ids_[value];
}

bool PickleKeys::Encode(PickleIndex index, std::string& out, std::vector<PickleIndex>& missing) {
  using Kind = PickleValue::Kind;
  const PickleValue& value = graph_[index];
  switch (value.kind) {
    case Kind::kNone:
      out.push_back('n');
      return true;
    case Kind::kBool:
    case Kind::kInt:
      AppendInt(out, value.integer);
      return true;
    case Kind::kLong:
      absl::StrAppend(&out, "l", graph_.Text(index));
      return true;
    case Kind::kFloat:
      AppendFloat(out, value.real, index);
      return true;
    case Kind::kStr:
      absl::StrAppend(&out, "s", graph_.Text(index));
      return true;
    case Kind::kBytes:
      absl::StrAppend(&out, "b", graph_.Text(index));
      return true;
    case Kind::kTuple:
      out.push_back('t');
      for (const PickleIndex item : graph_.Items(index)) {
        const auto it = ids_.find(item);
        if (it == ids_.end()) {
          missing.push_back(item);
        } else {
          AppendLittle(out, it->second, 4);
        }
      }
      return missing.empty();
    case Kind::kGlobal:
      absl::StrAppend(&out, "g", PickleGlobalName(value.global));
      return true;
    case Kind::kCall:
      return EncodeCall(index, out, missing);
    default:
      return false;
  }
}

// Of the calls that make a key: bytes, complex, device, layout and torch.Size, in the forms that PythonCalls leaves.
bool PickleKeys::EncodeCall(PickleIndex index, std::string& out, std::vector<PickleIndex>& missing) {
  const PickleGlobal global = graph_[index].global;
  const absl::Span<const PickleIndex> args = graph_.Items(graph_.Args(index));
  switch (global.tag) {
    case PickleTag::kEncode:
    case PickleTag::kBytes:
      return EncodeBytes(args, out);
    case PickleTag::kComplex:
      return EncodeComplex(index, args, out);
    case PickleTag::kDevice:
    case PickleTag::kGetLayout:
      absl::StrAppend(&out, "c", PickleGlobalName(global));
      for (const PickleIndex arg : args) {
        const PickleValue::Kind kind = graph_[arg].kind;
        if (kind == PickleValue::Kind::kStr && graph_.Text(arg).size() <= kMaxScalarKeyBytes) {
          absl::StrAppend(&out, ":", graph_.Text(arg));
        } else if (kind == PickleValue::Kind::kInt) {
          absl::StrAppend(&out, ":", graph_[arg].integer);
        } else {
          return false;
        }
      }
      return true;
    case PickleTag::kSize:  // equal to the tuple of the same numbers
      return args.size() == 1 && graph_[args[0]].kind == PickleValue::Kind::kTuple && Encode(args[0], out, missing);
    case PickleTag::kValueClass:
      return EncodeObject(index, out);
    case PickleTag::kNumpyScalar:
      return EncodeNumpyScalar(index, out);
    default:
      return false;
  }
}

// encode(text, "latin1"), as protocol 2 has bytes. Long ones may share their text, and so are told apart by it.
bool PickleKeys::EncodeBytes(absl::Span<const PickleIndex> args, std::string& out) {
  if (args.empty()) {
    out.push_back('b');
    return true;
  }
  const PickleValue::Kind kind = graph_[args[0]].kind;
  if (kind != PickleValue::Kind::kStr && kind != PickleValue::Kind::kBytes) return false;
  if (graph_.Text(args[0]).size() > kMaxScalarKeyBytes) {
    const std::optional<uint32_t> id = Id(args[0]);  // of a scalar: goes no deeper
    out.push_back('B');
    AppendLittle(out, *id, 4);
    return true;
  }
  const std::optional<std::string> bytes = kind == PickleValue::Kind::kBytes
                                               ? std::optional<std::string>(graph_.Text(args[0]))
                                               : Latin1FromUtf8(graph_.Text(args[0]));
  if (!bytes.has_value()) return false;
  absl::StrAppend(&out, "b", *bytes);
  return true;
}

// One without an imaginary part equals the float.
bool PickleKeys::EncodeComplex(PickleIndex index, absl::Span<const PickleIndex> args, std::string& out) {
  double parts[2] = {0, 0};
  if (args.size() != 2) return false;
  for (size_t i = 0; i < 2; ++i) {
    const PickleValue& part = graph_[args[i]];
    if (part.kind != PickleValue::Kind::kFloat && part.kind != PickleValue::Kind::kInt) return false;
    parts[i] = part.kind == PickleValue::Kind::kFloat ? part.real : static_cast<double>(part.integer);
  }
  if (parts[1] != 0) out.push_back('c');
  AppendFloat(out, parts[0], index);
  if (parts[1] != 0) AppendFloat(out, parts[1], index);
  return true;
}

// An object without arguments, by its state: a list of scalars.
bool PickleKeys::EncodeObject(PickleIndex index, std::string& out) {
  const PickleIndex state = graph_.State(index);
  if (!graph_.Items(graph_.Args(index)).empty() || state == PickleGraph::kAbsent ||
      graph_[state].kind != PickleValue::Kind::kList) {
    return false;
  }
  absl::StrAppend(&out, "o", PickleGlobalName(graph_[index].global));
  for (const PickleIndex item : graph_.Items(state)) {
    const PickleValue::Kind kind = graph_[item].kind;
    const bool is_scalar = kind == PickleValue::Kind::kNone || kind == PickleValue::Kind::kBool ||
                           kind == PickleValue::Kind::kInt || kind == PickleValue::Kind::kFloat;
    if (!is_scalar) return false;
    AppendLittle(out, *Id(item), 4);
  }
  return true;
}

// By dtype and bytes. (Python takes numpy.int64(1) and 1 for one key, so no dict has both.)
bool PickleKeys::EncodeNumpyScalar(PickleIndex index, std::string& out) {
  const absl::Span<const PickleIndex> args = graph_.Items(graph_.Args(index));
  if (args.size() != 2) return false;
  const absl::StatusOr<std::string> dtype = ReadNumpyDtype(graph_, args[0]);
  PickleIndex data = args[1];
  const bool encoded = graph_[data].kind == PickleValue::Kind::kCall && graph_[data].global.tag == PickleTag::kEncode;
  if (encoded) {  // bytes in protocol 2: encode(str, 'latin1')
    const absl::Span<const PickleIndex> text = graph_.Items(graph_.Args(data));
    if (text.empty()) return false;
    data = text[0];
  }
  const bool has_text = graph_[data].kind == (encoded ? PickleValue::Kind::kStr : PickleValue::Kind::kBytes);
  if (!dtype.ok() || !has_text || graph_.Text(data).size() > kMaxScalarKeyBytes) return false;
  absl::StrAppend(&out, "N", *dtype, encoded ? "e" : "b", graph_.Text(data));
  return true;
}

bool PickleKeys::Deduplicate(absl::Span<const PickleIndex> items, std::vector<PickleIndex>& out) {
  out.clear();
  out.reserve(items.size());
  absl::flat_hash_map<uint32_t, size_t> place;  // of each key in `out`
  place.reserve(items.size() / 2);
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    const std::optional<uint32_t> id = Id(items[i]);
    if (!id.has_value()) return false;
    const auto [it, is_new] = place.emplace(*id, out.size());
    if (is_new) {
      out.push_back(items[i]);
      out.push_back(items[i + 1]);
    } else {
      out[it->second + 1] = items[i + 1];
    }
  }
  return true;
}

bool PickleKeys::DeduplicateSet(absl::Span<const PickleIndex> elements, std::vector<PickleIndex>& out) {
  out.clear();
  absl::flat_hash_set<uint32_t> seen;
  for (const PickleIndex element : elements) {
    const std::optional<uint32_t> id = Id(element);
    if (!id.has_value()) return false;
    if (seen.insert(*id).second) out.push_back(element);
  }
  return true;
}

}  // namespace sconce::format
