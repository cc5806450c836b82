#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/latin1.h"
#include "storage/format/python_calls.h"
#include "storage/format/torch_values.h"
#include "storage/format/utf8.h"

// The part of PythonCalls that takes arguments apart.
namespace sconce::format {

// Of a mapping, or of pairs: iterables of two.
absl::StatusOr<PythonCalls::Items> PythonCalls::DictItems(PickleIndex value) {
  if (IsMapping(value)) {
    SCONCE_RETURN_IF_ERROR(Charge(graph_.Items(value).size() * sizeof(PickleIndex)));
    return Items(graph_.Items(value).begin(), graph_.Items(value).end());
  }
  Items items;
  SCONCE_ASSIGN_OR_RETURN(const Items pairs, Elements(value));
  for (const PickleIndex pair : pairs) {
    SCONCE_ASSIGN_OR_RETURN(const Items parts, Elements(pair));
    if (parts.size() != 2) return MalformedValue("a dict is made from something else than pairs");
    items.insert(items.end(), parts.begin(), parts.end());
  }
  return items;
}

absl::StatusOr<PythonCalls::Items> PythonCalls::Elements(PickleIndex value, bool any_order) {
  const Kind kind = graph_[value].kind;
  if (kind == Kind::kStr) return Characters(value);
  Items elements;
  if (IsMapping(value)) {
    SCONCE_RETURN_IF_ERROR(Charge(graph_.Items(value).size() * sizeof(PickleIndex)));
    Items items;
    if (!keys_.Deduplicate(graph_.Items(value), items)) return UnsupportedValue("a dict has a key that cannot be one");
    for (size_t i = 0; i < items.size(); i += 2) elements.push_back(items[i]);
    return elements;
  }
  SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> bytes, BytesOf(value));
  if (bytes.has_value()) {
    for (const char byte : *bytes) {
      SCONCE_ASSIGN_OR_RETURN(const PickleIndex number, AddInt(static_cast<uint8_t>(byte)));
      elements.push_back(number);
    }
    return elements;
  }
  const bool is_size = IsCall(value, PickleTag::kSize);
  if (is_size || kind == Kind::kTuple || kind == Kind::kList || kind == Kind::kSet) {
    const Args items = graph_.Items(is_size ? graph_.Items(graph_.Args(value))[0] : value);
    if (kind == Kind::kSet && !any_order && !items.empty())
      return UnsupportedValue("something is made of a set's elements in their order, which is another in each process");
    SCONCE_RETURN_IF_ERROR(Charge(items.size() * sizeof(PickleIndex)));
    elements.assign(items.begin(), items.end());
    return elements;
  }
  return NotNumbers(value);
}

absl::Status PythonCalls::NotNumbers(PickleIndex value) const {
  const Kind kind = graph_[value].kind;
  if (kind == Kind::kCall || kind == Kind::kPersistent)
    return UnsupportedValue("something is made of the elements of a tensor or another object; save those");
  return MalformedValue("something is made of elements or numbers that are none, or do not fit");
}

absl::StatusOr<PythonCalls::Items> PythonCalls::Characters(PickleIndex text) {
  PickleValue value = graph_[text];
  const absl::string_view bytes = graph_.Text(text);
  const uint64_t start = value.start;
  std::vector<std::pair<size_t, uint32_t>> places;
  for (size_t at = 0; at < bytes.size();) {
    SCONCE_RETURN_IF_ERROR(Charge(sizeof(PickleValue) + sizeof(PickleIndex)));
    const size_t before = at;
    uint32_t code_point = 0;
    if (!NextCodePoint(bytes, at, code_point)) return MalformedValue("a str is not UTF-8");
    places.emplace_back(before, static_cast<uint32_t>(at - before));
  }
  Items characters;
  for (const auto& [offset, size] : places) {
    value.start = start + offset;
    value.count = size;
    SCONCE_ASSIGN_OR_RETURN(const PickleIndex character, graph_.Add(value));
    characters.push_back(character);
  }
  return characters;
}

bool PythonCalls::IsMapping(PickleIndex value) const {
  return graph_[value].kind == Kind::kDict || IsCall(value, PickleTag::kOrderedDict) ||
         IsCall(value, PickleTag::kCounter);
}

bool PythonCalls::IsCall(PickleIndex value, PickleTag tag) const {
  return graph_[value].kind == Kind::kCall && graph_[value].global.tag == tag;
}

absl::StatusOr<std::optional<std::string>> PythonCalls::BytesOf(PickleIndex value) {
  // bytearray(encode(text, "latin1")) is as deep as it goes.
  if (IsCall(value, PickleTag::kByteArray) && graph_.Items(graph_.Args(value)).size() == 1)
    value = graph_.Items(graph_.Args(value))[0];
  if (graph_[value].kind == Kind::kBytes || graph_[value].kind == Kind::kByteArray) {
    SCONCE_RETURN_IF_ERROR(Charge(graph_.Text(value).size()));
    return std::optional<std::string>(graph_.Text(value));
  }
  const bool is_call =
      IsCall(value, PickleTag::kByteArray) || IsCall(value, PickleTag::kEncode) || IsCall(value, PickleTag::kBytes);
  if (!is_call) return std::optional<std::string>();
  const Args args = graph_.Items(graph_.Args(value));
  if (args.empty()) return std::optional<std::string>("");
  if (graph_[args[0]].kind != Kind::kStr && graph_[args[0]].kind != Kind::kBytes) return std::optional<std::string>();
  const absl::string_view text = graph_.Text(args[0]);
  SCONCE_RETURN_IF_ERROR(Charge(text.size()));
  if (graph_[args[0]].kind == Kind::kBytes) return std::optional<std::string>(text);
  std::optional<std::string> bytes = Latin1FromUtf8(text);
  if (!bytes.has_value()) return MalformedValue("a bytes object has a character above 255");
  return bytes;
}

size_t PythonCalls::LimitAt(size_t bytes_read) const {
  return std::max(made_, std::min(kMaxMadeBytes, kMadeBytesAlways + kMadeBytesRatio * bytes_read));
}

absl::Status PythonCalls::Charge(size_t bytes) {
  if (bytes <= Left()) {
    made_ += bytes;
    return absl::OkStatus();
  }
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                   absl::StrCat("the calls of a pickle make more than a pickle of its size may (", kMadeBytesRatio,
                                " times its bytes, and ", HumanBytes(int64_t{kMaxMadeBytes}), " at most)"));
}

}  // namespace sconce::format
