#include "storage/format/python_calls.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/latin1.h"
#include "storage/format/manifest.h"
#include "storage/format/python_text.h"
#include "storage/format/torch_values.h"
#include "storage/format/utf8.h"

// Containers, bytes, numbers, sizes and devices. Tensors and storages are in python_tensor_calls.cc, iterables in
// python_elements.cc.
namespace sconce::format {
namespace {

absl::Status WrongArguments(PickleGlobal callee) {
  return MalformedValue(absl::StrCat(PickleGlobalName(callee), " is called with arguments that it does not take"));
}

constexpr int64_t kMostDevices = 99'999;  // as IsDeviceTag

bool IsLatin1(absl::string_view codec) {
  return codec == "latin1" || codec == "latin-1";
}

}  // namespace

bool PythonCalls::Knows(PickleTag tag) {
  switch (tag) {
    case PickleTag::kSet:
    case PickleTag::kOrderedDict:
    case PickleTag::kCounter:
    case PickleTag::kComplex:
    case PickleTag::kByteArray:
    case PickleTag::kEncode:
    case PickleTag::kSize:
    case PickleTag::kDevice:
    case PickleTag::kTensorClass:
    case PickleTag::kOldTensorClass:
    case PickleTag::kStorageType:
    case PickleTag::kTypedStorage:
    case PickleTag::kRebuildFromType:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<PickleIndex> PythonCalls::Make(PickleGlobal callee, PickleIndex tuple, bool is_new, size_t bytes_read) {
  limit_ = LimitAt(bytes_read);
  if (graph_.Items(tuple).size() > kMaxRank) return WrongArguments(callee);  // before they are copied
  Items args(graph_.Items(tuple).begin(), graph_.Items(tuple).end());
  const bool has_init = callee.tag == PickleTag::kSet || callee.tag == PickleTag::kOrderedDict ||
                        callee.tag == PickleTag::kCounter || callee.tag == PickleTag::kByteArray;
  if (is_new && has_init) {  // it is __init__ that would look at the arguments
    if (callee.tag == PickleTag::kByteArray) return AddCall(callee, {});
    args.clear();
  }
  switch (callee.tag) {
    case PickleTag::kSet:
      return MakeSet(callee, args);
    case PickleTag::kOrderedDict:
      return MakeOrderedDict(callee, args, tuple);
    case PickleTag::kCounter:
      return MakeCounter(callee, args, tuple);
    case PickleTag::kSize:
      return MakeSize(callee, args, tuple);
    case PickleTag::kDevice:
      return MakeDevice(callee, args, tuple);
    case PickleTag::kComplex:
      return MakeComplex(callee, args, tuple);
    case PickleTag::kEncode:
      return MakeBytes(callee, args, tuple);
    case PickleTag::kByteArray:
      return MakeByteArray(callee, args, tuple);
    case PickleTag::kStorageType:
    case PickleTag::kTypedStorage:
      return MakeStorage(callee, args);
    case PickleTag::kRebuildFromType:
      return MakeSubclass(callee, args, tuple);
    default:
      return MakeTensor(callee, args);
  }
}

absl::StatusOr<PickleIndex> PythonCalls::MakeSet(PickleGlobal callee, const Items& args) {
  if (args.size() > 1) return WrongArguments(callee);
  Items elements;
  if (!args.empty()) {
    SCONCE_ASSIGN_OR_RETURN(elements, Elements(args[0], /*any_order=*/true));
  }
  return AddFilled(Kind::kSet, {}, PickleGraph::kAbsent, elements);
}

// From nothing, from a mapping, or from pairs: iterables of two.
absl::StatusOr<PickleIndex> PythonCalls::MakeOrderedDict(PickleGlobal callee, const Items& args, PickleIndex tuple) {
  if (args.size() > 1) return WrongArguments(callee);
  Items items;
  if (!args.empty()) {
    SCONCE_ASSIGN_OR_RETURN(items, DictItems(args[0]));
  }
  return AddFilled(Kind::kCall, callee, tuple, items);
}

absl::StatusOr<PickleIndex> PythonCalls::Update(PickleIndex old, PickleIndex update, size_t bytes_read) {
  if (old == PickleGraph::kAbsent && graph_[update].kind == Kind::kDict) return update;
  limit_ = LimitAt(bytes_read);
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex dict, graph_.AddObject(Kind::kDict, {}, PickleGraph::kAbsent));
  for (const PickleIndex from : {old, update}) {
    if (from == PickleGraph::kAbsent) continue;
    SCONCE_ASSIGN_OR_RETURN(const Items items, DictItems(from));
    graph_.AppendItems(dict, items);
  }
  return dict;
}

// From nothing, from a mapping to counts, or from what is to be counted.
absl::StatusOr<PickleIndex> PythonCalls::MakeCounter(PickleGlobal callee, const Items& args, PickleIndex tuple) {
  if (args.size() > 1) return WrongArguments(callee);
  Items items;
  if (args.empty() || graph_[args[0]].kind == Kind::kNone) return AddFilled(Kind::kCall, callee, tuple, items);
  if (IsMapping(args[0])) {
    SCONCE_ASSIGN_OR_RETURN(items, DictItems(args[0]));
    return AddFilled(Kind::kCall, callee, tuple, items);
  }
  SCONCE_ASSIGN_OR_RETURN(const Items elements, Elements(args[0]));
  absl::flat_hash_map<uint32_t, size_t> place;  // of each key in `counts`
  std::vector<std::pair<PickleIndex, int64_t>> counts;
  for (const PickleIndex element : elements) {
    const std::optional<uint32_t> id = keys_.Id(element);
    if (!id.has_value()) return UnsupportedValue("a Counter of something else than strs, numbers and the like");
    const auto [it, is_first] = place.emplace(*id, counts.size());
    if (is_first) counts.emplace_back(element, 0);
    ++counts[it->second].second;
  }
  for (const auto& [element, count] : counts) {
    SCONCE_ASSIGN_OR_RETURN(const PickleIndex number, AddInt(count));
    items.push_back(element);
    items.push_back(number);
  }
  return AddFilled(Kind::kCall, callee, tuple, items);
}

absl::StatusOr<PickleIndex> PythonCalls::MakeSize(PickleGlobal callee, const Items& args, PickleIndex tuple) {
  if (args.size() > 1) return WrongArguments(callee);
  Items extents;
  if (!args.empty()) {
    SCONCE_ASSIGN_OR_RETURN(extents, Elements(args[0]));
  }
  bool as_it_is = !args.empty() && graph_[args[0]].kind == Kind::kTuple;
  for (PickleIndex& extent : extents) {
    if (graph_[extent].kind == Kind::kBool) {
      as_it_is = false;
      SCONCE_ASSIGN_OR_RETURN(extent, AddInt(graph_[extent].integer));
    } else if (!IsInt(extent)) {
      return NotNumbers(extent);
    }
    if (graph_[extent].kind == Kind::kLong || graph_[extent].integer < 0)
      return UnsupportedValue("a torch.Size that no tensor has");
  }
  if (as_it_is) return SameCall(callee, tuple);
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex as_tuple, graph_.AddTuple(extents));
  return AddCall(callee, {as_tuple});
}

absl::StatusOr<PickleIndex> PythonCalls::MakeDevice(PickleGlobal callee, const Items& args, PickleIndex tuple) {
  if (args.empty() || args.size() > 2) return WrongArguments(callee);
  if (args.size() == 1 && IsCall(args[0], PickleTag::kDevice)) return SameCall(callee, graph_.Args(args[0]));
  if (args.size() == 1 && IsInt(args[0])) {
    return UnsupportedValue(
        "a torch.device that is only a number, which is another one on each machine; save it with its type");
  }
  Items parts = args;
  if (graph_[args[0]].kind != Kind::kStr) {
    SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> name, BytesOf(args[0]));
    const bool is_bytes = graph_[args[0]].kind != Kind::kByteArray && !IsCall(args[0], PickleTag::kByteArray);
    if (!name.has_value() || !is_bytes || !IsUtf8(*name, /*allow_surrogates=*/false)) return WrongArguments(callee);
    SCONCE_ASSIGN_OR_RETURN(parts[0], AddMade(Kind::kStr, *name));
  }
  if (args.size() == 2 && graph_[args[1]].kind == Kind::kNone) {
    parts.pop_back();
  } else if (args.size() == 2 && graph_[args[1]].kind != Kind::kInt) {
    return WrongArguments(callee);
  }
  if (parts.size() == 2 && (graph_[parts[1]].integer < 0 || graph_[parts[1]].integer > kMostDevices))
    return UnsupportedValue("a torch.device of an index that no device has");
  return parts == args ? SameCall(callee, tuple) : AddCall(callee, parts);
}

absl::StatusOr<PickleIndex> PythonCalls::MakeComplex(PickleGlobal callee, const Items& args, PickleIndex tuple) {
  if (args.size() > 2) return WrongArguments(callee);
  const auto is_float = [&](PickleIndex i) { return graph_[i].kind == Kind::kFloat; };
  if (args.size() == 2 && is_float(args[0]) && is_float(args[1])) return SameCall(callee, tuple);
  std::complex<double> parts[2];
  bool is_complex[2] = {false, false};
  for (size_t i = 0; i < args.size(); ++i) {
    const PickleValue& value = graph_[args[i]];
    if (value.kind == Kind::kFloat) {
      parts[i] = value.real;
    } else if (value.kind == Kind::kInt || value.kind == Kind::kBool) {
      parts[i] = static_cast<double>(value.integer);
    } else if (value.kind == Kind::kLong) {
      parts[i] = LongToDouble(graph_.Text(args[i]));
      if (std::isinf(parts[i].real())) return MalformedValue("an int is too large for a float");
    } else if (IsCall(args[i], PickleTag::kComplex)) {
      const Args its = graph_.Items(graph_.Args(args[i]));
      parts[i] = {graph_[its[0]].real, graph_[its[1]].real};
      is_complex[i] = true;
    } else if (value.kind == Kind::kStr && args.size() == 1) {
      SCONCE_RETURN_IF_ERROR(Charge(graph_.Text(args[i]).size()));  // for the time it takes: it may be read often
      const std::optional<std::complex<double>> parsed = ParseComplex(graph_.Text(args[i]));
      if (!parsed.has_value())
        return UnsupportedValue("a str is no complex number, or is written in the digits of another script");
      parts[i] = *parsed;
      is_complex[i] = true;
    } else {
      return NotNumbers(args[i]);
    }
  }
  // complex(a, b) is a + b * 1j, without the arithmetic where b is real.
  double real = parts[0].real();
  double imaginary = args.size() == 2 ? parts[1].real() : parts[0].imag();
  if (is_complex[1]) real -= parts[1].imag();
  if (is_complex[0] && args.size() == 2) imaginary += parts[0].imag();
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex first, AddFloat(real));
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex second, AddFloat(imaginary));
  return AddCall(callee, {first, second});
}

// _codecs.encode(text, [codec, [errors]]). What protocol 2 writes stays as it is: it may be large, and is read once.
absl::StatusOr<PickleIndex> PythonCalls::MakeBytes(PickleGlobal callee, const Items& args, PickleIndex tuple) {
  const bool has_text = !args.empty() && graph_[args[0]].kind == Kind::kStr;
  if (has_text && args.size() == 2 && graph_[args[1]].kind == Kind::kStr && IsLatin1(graph_.Text(args[1])))
    return SameCall(callee, tuple);
  if (!args.empty() && !has_text) {
    SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> bytes, BytesOf(args[0]));
    if (bytes.has_value()) return UnsupportedValue("bytes are encoded by a codec; save what they become");
  }
  SCONCE_ASSIGN_OR_RETURN(const std::string bytes, Encoded(args));
  return AddMade(Kind::kBytes, bytes);
}

absl::StatusOr<PickleIndex> PythonCalls::MakeByteArray(PickleGlobal callee, const Items& args, PickleIndex tuple) {
  if (args.empty()) return AddCall(callee, args);
  const PickleValue value = graph_[args[0]];
  if (args.size() > 1) {
    const bool has_texts = value.kind == Kind::kStr && graph_[args[1]].kind == Kind::kStr;
    if (has_texts && args.size() == 2 && IsLatin1(graph_.Text(args[1]))) return SameCall(callee, tuple);
    SCONCE_ASSIGN_OR_RETURN(const std::string bytes, Encoded(args));
    return AddMade(Kind::kByteArray, bytes);
  }
  if (value.kind == Kind::kBytes || IsCall(args[0], PickleTag::kEncode) || IsCall(args[0], PickleTag::kBytes))
    return SameCall(callee, tuple);
  if (value.kind == Kind::kByteArray) return graph_.Add(value);
  if (IsCall(args[0], PickleTag::kByteArray)) return SameCall(callee, graph_.Args(args[0]));
  if (value.kind == Kind::kInt || value.kind == Kind::kBool) {
    if (value.integer < 0) return WrongArguments(callee);
    SCONCE_RETURN_IF_ERROR(Charge(static_cast<size_t>(value.integer)));
    return graph_.AddText(Kind::kByteArray, std::string(static_cast<size_t>(value.integer), '\0'));
  }
  if (value.kind == Kind::kStr) return WrongArguments(callee);
  SCONCE_ASSIGN_OR_RETURN(const Items elements, Elements(args[0]));
  std::string bytes;
  for (const PickleIndex element : elements) {
    const PickleValue& number = graph_[element];
    const bool is_number = number.kind == Kind::kInt || number.kind == Kind::kBool;
    if (!is_number || number.integer < 0 || number.integer > 255) return NotNumbers(element);
    bytes.push_back(static_cast<char>(number.integer));
  }
  return AddMade(Kind::kByteArray, bytes);
}

// encode's arguments, and bytearray's beyond the first.
absl::StatusOr<std::string> PythonCalls::Encoded(const Items& args) {
  const bool texts = std::all_of(args.begin(), args.end(), [&](PickleIndex i) { return graph_[i].kind == Kind::kStr; });
  if (args.empty() || args.size() > 3 || !texts) return MalformedValue("something else than a str is encoded");
  SCONCE_RETURN_IF_ERROR(Charge(graph_.Text(args[0]).size()));  // for the time it takes: it may be read often
  return EncodeText(graph_.Text(args[0]), args.size() > 1 ? graph_.Text(args[1]) : "utf-8",
                    args.size() > 2 ? graph_.Text(args[2]) : "strict", Left());
}

absl::StatusOr<PickleIndex> PythonCalls::SameCall(PickleGlobal callee, PickleIndex tuple) {
  return graph_.AddObject(Kind::kCall, callee, tuple);
}

absl::StatusOr<PickleIndex> PythonCalls::AddCall(PickleGlobal callee, const Items& args) {
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex tuple, graph_.AddTuple(args));
  return SameCall(callee, tuple);
}

absl::StatusOr<PickleIndex> PythonCalls::AddFilled(Kind kind, PickleGlobal callee, PickleIndex tuple,
                                                   const Items& items) {
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex object, graph_.AddObject(kind, callee, tuple));
  graph_.AppendItems(object, items);
  return object;
}

absl::StatusOr<PickleIndex> PythonCalls::AddInt(int64_t integer) {
  SCONCE_RETURN_IF_ERROR(Charge(sizeof(PickleValue)));
  PickleValue value;
  value.kind = Kind::kInt;
  value.integer = integer;
  return graph_.Add(value);
}

absl::StatusOr<PickleIndex> PythonCalls::AddFloat(double real) {
  PickleValue value;
  value.kind = Kind::kFloat;
  value.real = real;
  return graph_.Add(value);
}

absl::StatusOr<PickleIndex> PythonCalls::AddMade(Kind kind, absl::string_view text) {
  SCONCE_RETURN_IF_ERROR(Charge(text.size()));
  return graph_.AddText(kind, text);
}

}  // namespace sconce::format
