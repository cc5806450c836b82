#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/float_convert.h"
#include "storage/format/manifest.h"
#include "storage/format/python_calls.h"
#include "storage/format/python_text.h"
#include "storage/format/torch_values.h"
#include "storage/format/zip_format.h"

// The part of PythonCalls that makes tensors and storages, as torch/csrc/utils/tensor_new.cpp does.
namespace sconce::format {
namespace {

absl::Status Uninitialised() {
  return UnsupportedValue(
      "a tensor or storage that is given only its size, and so holds whatever was in memory; save one with values");
}

// An int64 as c10::checked_convert takes it: a negative one wraps where the dtype has no sign.
bool FitsInteger(DType dtype, int64_t value) {
  const int bits = static_cast<int>(8 * ElementBytes(dtype));
  if (dtype == DType::kUInt8) return value <= 255 && value >= -255;
  return bits == 64 || (value >= -(int64_t{1} << (bits - 1)) && value < int64_t{1} << (bits - 1));
}

bool FitsInteger(DType dtype, double value) {
  const int bits = static_cast<int>(8 * ElementBytes(dtype));
  if (dtype == DType::kUInt8) return value >= 0 && value <= 255;
  const double end = std::ldexp(1.0, bits - 1);
  return value >= -end && (bits == 64 ? value < end : value <= end - 1);
}

}  // namespace

bool PythonCalls::IsSequence(PickleIndex value) const {
  switch (graph_[value].kind) {
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kStr:
    case Kind::kBytes:
    case Kind::kByteArray:
      return true;
    default:
      return IsCall(value, PickleTag::kSize) || IsCall(value, PickleTag::kEncode) ||
             IsCall(value, PickleTag::kByteArray) || IsCall(value, PickleTag::kBytes);
  }
}

bool PythonCalls::IsStorage(PickleIndex value) const {
  return graph_[value].kind == Kind::kPersistent || IsCall(value, PickleTag::kStorageType) ||
         IsCall(value, PickleTag::kTypedStorage);
}

// torch.FloatTensor(): empty. (tensor), (storage): a view of it. (1, 2) or (torch.Size): of that size. ([1, 2]): of
// these numbers.
absl::StatusOr<PickleIndex> PythonCalls::MakeTensor(PickleGlobal callee, const Items& args) {
  if (callee.tag == PickleTag::kOldTensorClass && !IsPlainTensorClass(callee)) {
    if (args.empty()) return AddCall(callee, args);  // BUILD may say what it is
    return UnsupportedValue(
        absl::StrCat(PickleGlobalName(callee), " is called with arguments; save the tensor itself"));
  }
  if (args.empty()) return AddElements(callee, "", {0});
  const DType dtype = callee.tag == PickleTag::kTensorClass ? DType::kFloat32 : OldTensorDType(callee);
  const PickleIndex first = args[0];
  if (graph_[first].kind == Kind::kInt) return OfSize(callee, args);
  if (args.size() > 1) return NotNumbers(args[1]);
  if (IsStorage(first)) return AddCall(callee, args);
  if (graph_[first].kind == Kind::kCall && MakesTensor(graph_[first].global.tag)) return OfTensor(callee, first);
  if (IsCall(first, PickleTag::kSize)) {
    SCONCE_ASSIGN_OR_RETURN(const Items extents, Elements(first));
    return OfSize(callee, extents);
  }
  const Kind kind = graph_[first].kind;
  const bool has_numbers =
      kind == Kind::kList || kind == Kind::kTuple || kind == Kind::kByteArray || IsCall(first, PickleTag::kByteArray);
  return has_numbers ? OfNumbers(callee, dtype, first) : NotNumbers(first);
}

// _rebuild_from_type_v2(torch.FloatTensor, class, ([1, 2],), state): the call inside is one of these.
absl::StatusOr<PickleIndex> PythonCalls::MakeSubclass(PickleGlobal callee, const Items& args, PickleIndex tuple) {
  const bool has_class = args.size() == 4 && graph_[args[0]].kind == Kind::kGlobal &&
                         (graph_[args[0]].global.tag == PickleTag::kTensorClass ||
                          graph_[args[0]].global.tag == PickleTag::kOldTensorClass) &&
                         graph_[args[2]].kind == Kind::kTuple;
  if (!has_class) return SameCall(callee, tuple);
  if (graph_.Items(args[2]).size() > kMaxRank) return NotNumbers(args[2]);
  const Items inner(graph_.Items(args[2]).begin(), graph_.Items(args[2]).end());
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex made, MakeTensor(graph_[args[0]].global, inner));
  return AddCall(callee, {args[0], args[1], graph_.Args(made), args[3]});
}

absl::StatusOr<PickleIndex> PythonCalls::MakeStorage(PickleGlobal callee, const Items& args) {
  const bool is_untyped = callee.tag == PickleTag::kStorageType;
  if (args.size() > 1) return NotNumbers(args[1]);
  if (args.empty()) return AddElements(callee, "", {0});
  if (graph_[args[0]].kind == Kind::kInt) return OfSize(callee, args);
  if (!IsSequence(args[0])) return NotNumbers(args[0]);
  if (!is_untyped) return OfNumbers(callee, DType::kFloat32, args[0]);
  SCONCE_ASSIGN_OR_RETURN(const Items elements, Elements(args[0]));
  std::string bytes;
  for (const PickleIndex element : elements) {
    if (graph_[element].kind != Kind::kInt && graph_[element].kind != Kind::kBool) return NotNumbers(element);
    bytes.push_back(static_cast<char>(graph_[element].integer));  // as PyTorch, which keeps the last byte
  }
  return AddElements(callee, bytes, {static_cast<int64_t>(bytes.size())});
}

absl::StatusOr<PickleIndex> PythonCalls::OfSize(PickleGlobal callee, const Items& extents) {
  std::vector<int64_t> shape;
  for (const PickleIndex extent : extents) {
    const Kind kind = graph_[extent].kind;
    if ((kind != Kind::kInt && kind != Kind::kBool) || graph_[extent].integer < 0) return NotNumbers(extent);
    shape.push_back(graph_[extent].integer);
  }
  if (shape.size() > kMaxRank) return UnsupportedValue("a tensor of more than 64 dimensions");
  if (std::find(shape.begin(), shape.end(), 0) == shape.end()) return Uninitialised();
  return AddElements(callee, "", shape);
}

// A tensor of its own that sees the same: a copy of the call, as it is now.
absl::StatusOr<PickleIndex> PythonCalls::OfTensor(PickleGlobal callee, PickleIndex tensor) {
  const bool is_view = (IsCall(tensor, PickleTag::kTensorClass) || IsCall(tensor, PickleTag::kOldTensorClass)) &&
                       graph_.State(tensor) == PickleGraph::kAbsent && graph_.Items(graph_.Args(tensor)).size() == 1 &&
                       graph_[graph_.Items(graph_.Args(tensor))[0]].kind == Kind::kCall &&
                       !IsStorage(graph_.Items(graph_.Args(tensor))[0]);
  if (is_view) return SameCall(callee, graph_.Args(tensor));  // of a copy already, so that none nests in another
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex copy, SameCall(graph_[tensor].global, graph_.Args(tensor)));
  graph_.SetState(copy, graph_.State(tensor));
  return AddCall(callee, {copy});
}

absl::StatusOr<PickleIndex> PythonCalls::OfNumbers(PickleGlobal callee, DType dtype, PickleIndex sequence) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<int64_t> shape, ShapeOf(sequence));
  // PyTorch, too, looks no further where there are no elements.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return AddElements(callee, "", shape);
  SCONCE_ASSIGN_OR_RETURN(const Items numbers, Flattened(sequence, shape));
  SCONCE_ASSIGN_OR_RETURN(const std::string bytes, NumberBytes(dtype, numbers));
  return AddElements(callee, bytes, shape);
}

// By the first elements of the first elements, down to what is no sequence.
absl::StatusOr<std::vector<int64_t>> PythonCalls::ShapeOf(PickleIndex sequence) {
  std::vector<int64_t> shape;
  while (IsSequence(sequence)) {
    if (shape.size() == kMaxRank) return UnsupportedValue("a tensor of more than 64 dimensions");
    if (graph_[sequence].kind == Kind::kStr && !graph_.Text(sequence).empty()) return NotNumbers(sequence);
    SCONCE_ASSIGN_OR_RETURN(const Items elements, Elements(sequence));
    shape.push_back(static_cast<int64_t>(elements.size()));
    if (elements.empty()) break;
    sequence = elements[0];
  }
  return shape;
}

absl::StatusOr<PythonCalls::Items> PythonCalls::Flattened(PickleIndex sequence, const std::vector<int64_t>& shape) {
  Items level = {sequence};
  for (const int64_t extent : shape) {
    Items next;
    for (const PickleIndex inner : level) {
      SCONCE_ASSIGN_OR_RETURN(const Items elements, Elements(inner));
      if (static_cast<int64_t>(elements.size()) != extent)
        return MalformedValue("a tensor is made of sequences of different lengths");
      next.insert(next.end(), elements.begin(), elements.end());
    }
    level = std::move(next);
  }
  return level;
}

absl::StatusOr<std::string> PythonCalls::NumberBytes(DType dtype, const Items& numbers) {
  std::string bytes;
  for (const PickleIndex number : numbers) {
    const PickleValue& value = graph_[number];
    const bool is_integer = value.kind == Kind::kInt || value.kind == Kind::kBool;
    const bool is_float = value.kind == Kind::kFloat;
    if (!is_integer && !is_float && value.kind != Kind::kLong) return NotNumbers(number);
    if (dtype == DType::kBool) {
      bytes.push_back(is_integer ? value.integer != 0 : is_float ? value.real != 0 : true);
    } else if (CanConvertTo(dtype)) {
      const double real = is_float     ? value.real
                          : is_integer ? static_cast<double>(value.integer)
                                       : LongToDouble(graph_.Text(number));
      if (!is_float && std::isinf(real)) return MalformedValue("an int is too large for a float");
      uint64_t bits = 0;
      std::memcpy(&bits, &real, sizeof bits);
      AppendLittle(bytes, bits, sizeof bits);
    } else {
      const bool fits = is_integer ? FitsInteger(dtype, value.integer) : is_float && FitsInteger(dtype, value.real);
      if (!fits) return NotNumbers(number);
      const int64_t integer = is_integer ? value.integer : static_cast<int64_t>(value.real);
      AppendLittle(bytes, static_cast<uint64_t>(integer), static_cast<int>(ElementBytes(dtype)));
    }
  }
  if (dtype == DType::kBool || !CanConvertTo(dtype)) return bytes;
  std::string converted(numbers.size() * static_cast<size_t>(ElementBytes(dtype)), '\0');
  ConvertFloats(DType::kFloat64, dtype, AsBytes(bytes).data(), numbers.size(),
                reinterpret_cast<uint8_t*>(&converted[0]));
  return converted;
}

absl::StatusOr<PickleIndex> PythonCalls::AddElements(PickleGlobal callee, absl::string_view bytes,
                                                     const std::vector<int64_t>& shape) {
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex elements, AddMade(Kind::kElements, bytes));
  Items extents;
  for (const int64_t extent : shape) {
    SCONCE_ASSIGN_OR_RETURN(const PickleIndex index, AddInt(extent));
    extents.push_back(index);
  }
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex tuple, graph_.AddTuple(extents));
  return AddCall(callee, {elements, tuple});
}

}  // namespace sconce::format
