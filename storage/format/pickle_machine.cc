#include "storage/format/pickle_machine.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/format/utf8.h"

// The machine's input, stack, memo and values. What each opcode does with them is in pickle_reader.cc.
namespace sconce::format {
namespace {

constexpr PickleIndex kAbsent = PickleGraph::kAbsent;
constexpr size_t kMaxNamedGlobals = 30;              // in a message
constexpr size_t kMaxRefusedGlobals = 1000;          // remembered
constexpr size_t kMaxPushes = 4 * kMaxPickleValues;  // of values that are shared, too

// "module.name" for a message, whatever the file put in it.
std::string GlobalForMessage(absl::string_view module, absl::string_view name) {
  const std::string full = absl::StrCat(module.substr(0, 100), ".", name.substr(0, 100));
  const bool printable = std::all_of(full.begin(), full.end(), [](char c) { return absl::ascii_isgraph(c); });
  return printable ? full : Quoted(full);
}

}  // namespace

absl::StatusOr<PickleGraph> PickleMachine::Run() {
  const absl::Status ran = Loop();
  // Even when what follows is broken: the names say best what this file is.
  if (!refused_.empty()) return Refusal();
  SCONCE_RETURN_IF_ERROR(ran);
  return std::move(graph_);
}

absl::Status PickleMachine::Refusal() const {
  std::vector<std::string> shown(refused_.begin(), refused_.begin() + std::min(refused_.size(), kMaxNamedGlobals));
  const std::string names = absl::StrJoin(shown, ", ");
  const std::string more =
      refused_.size() > shown.size() ? absl::StrCat(" and ", refused_.size() - shown.size(), " more") : "";
  return MakeError(
      Reason::PICKLE_GLOBAL_REFUSED,
      absl::StrCat(name_, " needs Python code, which is never run here: ", names, more,
                   "; save state_dict() instead of the whole module, or push with --opaque to store the file as it is"),
      {{"globals", names}});
}

absl::StatusOr<uint64_t> PickleMachine::TakeNumber(int bytes) {
  if (remaining() < static_cast<size_t>(bytes)) return Malformed("the pickle ends in the middle of an opcode");
  uint64_t number = 0;
  for (int i = bytes; i-- > 0;) number = number << 8 | graph_.pickle_[at_ + i];
  at_ += bytes;
  return number;
}

absl::StatusOr<uint64_t> PickleMachine::TakeBytes(uint64_t length) {
  if (length > remaining()) return Malformed("a length reaches past the end of the pickle");
  at_ += length;
  return at_ - length;
}

absl::StatusOr<absl::string_view> PickleMachine::TakeLine() {
  const auto* start = graph_.pickle_.data() + at_;
  const void* newline = remaining() == 0 ? nullptr : std::memchr(start, '\n', remaining());
  if (newline == nullptr) return Malformed("the pickle ends in the middle of a name");
  const size_t length = static_cast<const uint8_t*>(newline) - start;
  at_ += length + 1;
  return AsText(ByteSpan(start, length));
}

absl::Status PickleMachine::PushIndex(PickleIndex index) {
  if (++pushes_ > kMaxPushes)
    return Error(Reason::INPUT_LIMIT_EXCEEDED,
                 "too many references to Python objects; keep long lists of numbers in tensors");
  stack_.push_back(index);
  return absl::OkStatus();
}

absl::Status PickleMachine::PushText(Kind kind, int length_bytes) {
  SCONCE_ASSIGN_OR_RETURN(const uint64_t length, TakeNumber(length_bytes));
  SCONCE_ASSIGN_OR_RETURN(const uint64_t start, TakeBytes(length));
  PickleValue value;
  value.kind = kind;
  value.count = static_cast<uint32_t>(length);  // at most kMaxPickleBytes
  value.start = start;
  if (kind == Kind::kStr && !IsUtf8(AsText(graph_.pickle_.subspan(start, length)), /*allow_surrogates=*/true))
    return Malformed("a str is not UTF-8");
  return Push(value);
}

absl::Status PickleMachine::PushLong(int length_bytes) {
  SCONCE_ASSIGN_OR_RETURN(uint64_t length, TakeNumber(length_bytes));
  SCONCE_ASSIGN_OR_RETURN(const uint64_t start, TakeBytes(length));
  const uint8_t* p = graph_.pickle_.data() + start;
  // Bytes that only repeat the sign say nothing.
  while (length > 1 && (p[length - 1] == 0 || p[length - 1] == 0xff) && (p[length - 1] ^ p[length - 2]) < 0x80)
    --length;
  if (length <= 8) {
    uint64_t number = length > 0 && p[length - 1] >= 0x80 ? ~uint64_t{0} : 0;
    for (uint64_t i = length; i-- > 0;) number = number << 8 | p[i];
    return PushSimple(Kind::kInt, static_cast<int64_t>(number));
  }
  PickleValue value;
  value.kind = Kind::kLong;
  value.count = static_cast<uint32_t>(length);
  value.start = start;
  return Push(value);
}

absl::Status PickleMachine::PushObject(Kind kind, PickleGlobal global, PickleIndex args, bool is_new) {
  const absl::StatusOr<PickleIndex> object = graph_.AddObject(kind, global, args);
  if (object.ok()) graph_.values_[*object].integer = is_new ? 1 : 0;
  return PushMade(object);
}

absl::Status PickleMachine::PushTuple(size_t count) {
  const absl::StatusOr<PickleIndex> tuple = graph_.AddTuple(absl::MakeConstSpan(stack_).last(count));
  stack_.resize(stack_.size() - count);
  return PushMade(tuple);
}

absl::Status PickleMachine::PushGlobal(absl::string_view module, absl::string_view name) {
  PickleValue value;
  value.kind = Kind::kGlobal;
  std::optional<PickleGlobal> known = FindPickleGlobal(module, name);
  if (!known.has_value() && is_script_) known = FindScriptGlobal(module, name);
  if (known.has_value()) {
    value.global = *known;
  } else {
    std::string full = GlobalForMessage(module, name);
    if (refused_.size() < kMaxRefusedGlobals && seen_refused_.insert(full).second) refused_.push_back(std::move(full));
  }
  return Push(value);
}

absl::StatusOr<PickleIndex> PickleMachine::Pop() {
  SCONCE_RETURN_IF_ERROR(Need(1));
  const PickleIndex index = stack_.back();
  stack_.pop_back();
  return index;
}

absl::StatusOr<size_t> PickleMachine::PopMark() {
  if (marks_.empty()) return Malformed("the pickle ends a group it did not begin");
  const size_t count = stack_.size() - marks_.back();
  marks_.pop_back();
  return count;
}

absl::Status PickleMachine::Fill(size_t count, bool pairs, Kind kind) {
  SCONCE_RETURN_IF_ERROR(Need(count + 1));
  if (pairs && count % 2 != 0) return Malformed("a dict gets a key without a value");
  const PickleIndex target = stack_[stack_.size() - count - 1];
  const PickleValue& value = graph_.values_[target];
  const PickleTag tag = value.global.tag;
  const bool call_takes = value.kind == Kind::kCall &&
                          (IsRefused(target) || (pairs ? tag == PickleTag::kOrderedDict || tag == PickleTag::kCounter
                                                       : kind == Kind::kList && tag == PickleTag::kListClass));
  if (value.kind == kind || call_takes) {
    std::vector<PickleIndex>& items = graph_.objects_[value.count].items;
    items.insert(items.end(), stack_.end() - count, stack_.end());
  } else if (!IsRefused(target)) {
    return Malformed("elements are added to something that has none");
  }
  stack_.resize(stack_.size() - count);
  return absl::OkStatus();
}

absl::Status PickleMachine::Remember(uint64_t number) {
  SCONCE_RETURN_IF_ERROR(Need(1));
  const auto key = static_cast<uint32_t>(number);
  const PickleIndex index = stack_.back();
  if (memo_.size() + far_memo_.size() >= kMaxPickleValues)
    return Error(Reason::INPUT_LIMIT_EXCEEDED, "the pickle's memo is too long");
  if (key < memo_.size()) {
    memo_[key] = index;
  } else if (key == memo_.size()) {
    memo_.push_back(index);
  } else {
    far_memo_[key] = index;
  }
  return absl::OkStatus();
}

absl::Status PickleMachine::PushRemembered(uint64_t key) {
  PickleIndex index = kAbsent;
  if (key < memo_.size()) {
    index = memo_[key];
  } else if (const auto it = far_memo_.find(static_cast<uint32_t>(key)); it != far_memo_.end()) {
    index = it->second;
  }
  if (index == kAbsent) return Malformed("the pickle asks for an object it did not store");
  return PushIndex(index);
}

}  // namespace sconce::format
