#include "storage/format/pickle_reader.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/pickle_opcodes.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

constexpr PickleIndex kAbsent = PickleGraph::kAbsent;
constexpr size_t kMaxNamedGlobals = 30;              // in a message
constexpr size_t kMaxRefusedGlobals = 1000;          // remembered
constexpr size_t kMaxPushes = 4 * kMaxPickleValues;  // values of a pickle may be shared, yet not without end

// "module.name" for a message, whatever the file put in it.
std::string GlobalForMessage(absl::string_view module, absl::string_view name) {
  const std::string full = absl::StrCat(module.substr(0, 100), ".", name.substr(0, 100));
  const bool printable = std::all_of(full.begin(), full.end(), [](char c) { return absl::ascii_isgraph(c); });
  return printable ? full : Quoted(full);
}

}  // namespace

absl::string_view PickleGraph::Text(PickleIndex index) const {
  const PickleValue& value = values_[index];
  return AsText(pickle_.subspan(value.start, value.count));
}

absl::Span<const PickleIndex> PickleGraph::Items(PickleIndex index) const {
  const PickleValue& value = values_[index];
  if (value.kind == PickleValue::Kind::kTuple)
    return absl::MakeConstSpan(tuple_items_).subspan(value.start, value.count);
  return objects_[value.count].items;
}

PickleIndex PickleGraph::Args(PickleIndex index) const {
  return objects_[values_[index].count].args;
}
PickleIndex PickleGraph::State(PickleIndex index) const {
  return objects_[values_[index].count].state;
}

// The stack machine. A refused global becomes a call of nothing (tag kNone) and the machine goes on, so that one
// message can name all of them; what it makes is never looked at.
class PickleMachine {
 public:
  PickleMachine(ByteSpan pickle, absl::string_view name) : name_(ToStd(name)) { graph_.pickle_ = pickle; }

  absl::StatusOr<PickleGraph> Run() {
    const absl::Status ran = Loop();
    // Even when what follows is broken: the names say best what this file is.
    if (!refused_.empty()) return Refusal();
    SCONCE_RETURN_IF_ERROR(ran);
    return std::move(graph_);
  }

 private:
  using Kind = PickleValue::Kind;

  absl::Status Loop();
  absl::Status Step(PickleOp op);
  absl::Status StepContainer(PickleOp op);
  absl::Status StepObject(PickleOp op);

  absl::Status Refusal() const {
    std::vector<std::string> shown(refused_.begin(), refused_.begin() + std::min(refused_.size(), kMaxNamedGlobals));
    const std::string names = absl::StrJoin(shown, ", ");
    const std::string more =
        refused_.size() > shown.size() ? absl::StrCat(" and ", refused_.size() - shown.size(), " more") : "";
    return MakeError(
        Reason::PICKLE_GLOBAL_REFUSED,
        absl::StrCat(
            name_, " needs Python code, which is never run here: ", names, more,
            "; save state_dict() instead of the whole module, or push with --opaque to store the file as it is"),
        {{"globals", names}});
  }
  absl::Status Error(Reason reason, absl::string_view what) const {
    return MakeError(reason, absl::StrCat(name_, ", byte ", op_start_, ": ", what));
  }
  absl::Status Malformed(absl::string_view what) const {
    return Error(Reason::FILE_MALFORMED, absl::StrCat(what, "; the file is damaged, write it again"));
  }

  // Input
  size_t remaining() const { return graph_.pickle_.size() - at_; }
  absl::StatusOr<uint64_t> TakeNumber(int bytes) {
    if (remaining() < static_cast<size_t>(bytes)) return Malformed("the pickle ends in the middle of an opcode");
    uint64_t number = 0;
    for (int i = bytes; i-- > 0;) number = number << 8 | graph_.pickle_[at_ + i];
    at_ += bytes;
    return number;
  }
  // The start of the next `length` bytes.
  absl::StatusOr<uint64_t> TakeBytes(uint64_t length) {
    if (length > remaining()) return Malformed("a length reaches past the end of the pickle");
    at_ += length;
    return at_ - length;
  }
  absl::StatusOr<absl::string_view> TakeLine() {
    const auto* start = graph_.pickle_.data() + at_;
    const void* newline = remaining() == 0 ? nullptr : std::memchr(start, '\n', remaining());
    if (newline == nullptr) return Malformed("the pickle ends in the middle of a name");
    const size_t length = static_cast<const uint8_t*>(newline) - start;
    at_ += length + 1;
    return AsText(ByteSpan(start, length));
  }

  // Values
  absl::StatusOr<PickleIndex> Add(PickleValue value) {
    if (graph_.values_.size() >= kMaxPickleValues) {
      return Error(
          Reason::INPUT_LIMIT_EXCEEDED,
          absl::StrCat("more than ", kMaxPickleValues, " Python objects; keep long lists of numbers in tensors"));
    }
    graph_.values_.push_back(value);
    return static_cast<PickleIndex>(graph_.values_.size() - 1);
  }
  absl::Status PushIndex(PickleIndex index) {
    if (++pushes_ > kMaxPushes)
      return Error(Reason::INPUT_LIMIT_EXCEEDED,
                   "too many references to Python objects; keep long lists of numbers in tensors");
    stack_.push_back(index);
    return absl::OkStatus();
  }
  absl::Status Push(PickleValue value) {
    SCONCE_ASSIGN_OR_RETURN(const PickleIndex index, Add(value));
    return PushIndex(index);
  }
  absl::Status PushSimple(Kind kind, int64_t integer) {
    PickleValue value;
    value.kind = kind;
    value.integer = integer;
    return Push(value);
  }
  absl::Status PushText(Kind kind, int length_bytes) {
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
  absl::Status PushLong(int length_bytes) {
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
  absl::Status PushObject(Kind kind, PickleGlobal global, PickleIndex args) {
    PickleValue value;
    value.kind = kind;
    value.global = global;
    value.count = static_cast<uint32_t>(graph_.objects_.size());  // fewer objects than values
    SCONCE_RETURN_IF_ERROR(Push(value));
    graph_.objects_.emplace_back();
    graph_.objects_.back().args = args;
    return absl::OkStatus();
  }
  // The top `count` values become a tuple.
  absl::Status PushTuple(size_t count) {
    PickleValue value;
    value.kind = Kind::kTuple;
    value.count = static_cast<uint32_t>(count);
    value.start = graph_.tuple_items_.size();
    graph_.tuple_items_.insert(graph_.tuple_items_.end(), stack_.end() - count, stack_.end());
    stack_.resize(stack_.size() - count);
    return Push(value);
  }
  absl::Status PushGlobal(absl::string_view module, absl::string_view name) {
    PickleValue value;
    value.kind = Kind::kGlobal;
    const std::optional<PickleGlobal> known = FindPickleGlobal(module, name);
    if (known.has_value()) {
      value.global = *known;
    } else {
      std::string full = GlobalForMessage(module, name);
      if (refused_.size() < kMaxRefusedGlobals && seen_refused_.insert(full).second)
        refused_.push_back(std::move(full));
    }
    return Push(value);
  }

  // The stack
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  absl::Status Need(size_t count) const {
    if (stack_.size() - floor() < count) return Malformed("the pickle takes more from its stack than is there");
    return absl::OkStatus();
  }
  absl::StatusOr<PickleIndex> Pop() {
    SCONCE_RETURN_IF_ERROR(Need(1));
    const PickleIndex index = stack_.back();
    stack_.pop_back();
    return index;
  }
  // How many values lie above the topmost mark, which goes.
  absl::StatusOr<size_t> PopMark() {
    if (marks_.empty()) return Malformed("the pickle ends a group it did not begin");
    const size_t count = stack_.size() - marks_.back();
    marks_.pop_back();
    return count;
  }
  bool IsRefused(PickleIndex index) const {
    const PickleValue& value = graph_.values_[index];
    return (value.kind == Kind::kGlobal || value.kind == Kind::kCall) && value.global.tag == PickleTag::kNone;
  }
  // Moves the top `count` values into the object below them, which `takes` says may have them.
  absl::Status Fill(size_t count, bool pairs, Kind kind) {
    SCONCE_RETURN_IF_ERROR(Need(count + 1));
    if (pairs && count % 2 != 0) return Malformed("a dict gets a key without a value");
    const PickleIndex target = stack_[stack_.size() - count - 1];
    const PickleValue& value = graph_.values_[target];
    const PickleTag tag = value.global.tag;
    const bool call_takes =
        value.kind == Kind::kCall && (IsRefused(target) || tag == PickleTag::kLater ||
                                      (pairs && (tag == PickleTag::kOrderedDict || tag == PickleTag::kCounter)));
    if (value.kind == kind || call_takes) {
      std::vector<PickleIndex>& items = graph_.objects_[value.count].items;
      items.insert(items.end(), stack_.end() - count, stack_.end());
    } else if (!IsRefused(target)) {
      return Malformed("elements are added to something that has none");
    }
    stack_.resize(stack_.size() - count);
    return absl::OkStatus();
  }
  absl::Status Call(bool is_new);
  absl::Status Build();

  // The memo: dense as picklers number it; a map only for what jumps ahead.
  absl::Status Remember(uint64_t number) {
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
  absl::Status PushRemembered(uint64_t key) {
    PickleIndex index = kAbsent;
    if (key < memo_.size()) {
      index = memo_[key];
    } else if (const auto it = far_memo_.find(static_cast<uint32_t>(key)); it != far_memo_.end()) {
      index = it->second;
    }
    if (index == kAbsent) return Malformed("the pickle asks for an object it did not store");
    return PushIndex(index);
  }

  const std::string name_;
  PickleGraph graph_;
  size_t at_ = 0;
  size_t op_start_ = 0;
  bool stopped_ = false;
  std::vector<PickleIndex> stack_;
  std::vector<size_t> marks_;  // each at most stack_.size()
  std::vector<PickleIndex> memo_;
  absl::flat_hash_map<uint32_t, PickleIndex> far_memo_;
  size_t pushes_ = 0;
  std::vector<std::string> refused_;  // in the order of the file
  absl::flat_hash_set<std::string> seen_refused_;
};

absl::Status PickleMachine::Loop() {
  if (graph_.pickle_.size() > kMaxPickleBytes) {
    return Error(Reason::INPUT_LIMIT_EXCEEDED,
                 absl::StrCat("a pickle of ", HumanBytes(static_cast<int64_t>(graph_.pickle_.size())),
                              ", more than the limit of ", HumanBytes(static_cast<int64_t>(kMaxPickleBytes)),
                              "; keep large data in tensors"));
  }
  SCONCE_ASSIGN_OR_RETURN(const uint64_t first, TakeNumber(1));
  if (first != static_cast<uint64_t>(PickleOp::kProto)) {
    return Error(Reason::FILE_MALFORMED,
                 "not a pickle of protocol 2 or newer; write the file with torch.save and its default pickle_protocol");
  }
  SCONCE_ASSIGN_OR_RETURN(const uint64_t protocol, TakeNumber(1));
  if (protocol < 2 || protocol > 5) {
    return Error(Reason::FILE_UNSUPPORTED,
                 absl::StrCat("pickle protocol ", protocol, ", but only 2 to 5 are read; save with pickle_protocol=2"));
  }
  while (!stopped_) {
    op_start_ = at_;
    if (remaining() == 0) return Malformed("the pickle ends without STOP");
    SCONCE_RETURN_IF_ERROR(Step(static_cast<PickleOp>(graph_.pickle_[at_++])));
  }
  if (!stack_.empty() || !marks_.empty() || remaining() != 0) return Malformed("the pickle holds more than one value");
  return absl::OkStatus();
}

// Scalars, memo and stack. The rest is in StepContainer and StepObject.
absl::Status PickleMachine::Step(PickleOp op) {
  switch (op) {
    case PickleOp::kStop: {
      SCONCE_ASSIGN_OR_RETURN(graph_.root_, Pop());
      stopped_ = true;
      return absl::OkStatus();
    }
    case PickleOp::kProto:
      return TakeNumber(1).status();
    case PickleOp::kFrame: {
      SCONCE_ASSIGN_OR_RETURN(const uint64_t length, TakeNumber(8));
      return length <= remaining() ? absl::OkStatus() : Malformed("a frame reaches past the end of the pickle");
    }
    case PickleOp::kNone:
      return PushSimple(Kind::kNone, 0);
    case PickleOp::kNewTrue:
      return PushSimple(Kind::kBool, 1);
    case PickleOp::kNewFalse:
      return PushSimple(Kind::kBool, 0);
    case PickleOp::kBinInt1:
    case PickleOp::kBinInt2: {
      SCONCE_ASSIGN_OR_RETURN(const uint64_t number, TakeNumber(op == PickleOp::kBinInt1 ? 1 : 2));
      return PushSimple(Kind::kInt, static_cast<int64_t>(number));
    }
    case PickleOp::kBinInt: {
      SCONCE_ASSIGN_OR_RETURN(const uint64_t number, TakeNumber(4));
      return PushSimple(Kind::kInt, static_cast<int32_t>(static_cast<uint32_t>(number)));
    }
    case PickleOp::kLong1:
      return PushLong(1);
    case PickleOp::kLong4:
      return PushLong(4);
    case PickleOp::kBinFloat: {
      SCONCE_ASSIGN_OR_RETURN(const uint64_t bits, TakeNumber(8));
      PickleValue value;
      value.kind = Kind::kFloat;
      const uint64_t swapped = __builtin_bswap64(bits);
      std::memcpy(&value.real, &swapped, sizeof swapped);
      return Push(value);
    }
    case PickleOp::kShortBinUnicode:
    case PickleOp::kShortBinString:
      return PushText(Kind::kStr, 1);
    case PickleOp::kBinUnicode:
    case PickleOp::kBinString:
      return PushText(Kind::kStr, 4);
    case PickleOp::kBinUnicode8:
      return PushText(Kind::kStr, 8);
    case PickleOp::kShortBinBytes:
      return PushText(Kind::kBytes, 1);
    case PickleOp::kBinBytes:
      return PushText(Kind::kBytes, 4);
    case PickleOp::kBinBytes8:
      return PushText(Kind::kBytes, 8);
    case PickleOp::kByteArray8:
      return PushText(Kind::kByteArray, 8);
    case PickleOp::kMark:
      if (marks_.size() >= kMaxPickleValues) return Error(Reason::INPUT_LIMIT_EXCEEDED, "groups are nested too deep");
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case PickleOp::kPop:
      if (stack_.size() == floor() && !marks_.empty()) return PopMark().status();  // as Python's own machine does
      return Pop().status();
    case PickleOp::kPopMark: {
      SCONCE_ASSIGN_OR_RETURN(const size_t count, PopMark());
      stack_.resize(stack_.size() - count);
      return absl::OkStatus();
    }
    case PickleOp::kDup: {
      SCONCE_RETURN_IF_ERROR(Need(1));
      return PushIndex(stack_.back());
    }
    case PickleOp::kBinPut:
    case PickleOp::kLongBinPut: {
      SCONCE_ASSIGN_OR_RETURN(const uint64_t key, TakeNumber(op == PickleOp::kBinPut ? 1 : 4));
      return Remember(key);
    }
    case PickleOp::kMemoize:
      return Remember(memo_.size() + far_memo_.size());
    case PickleOp::kBinGet:
    case PickleOp::kLongBinGet: {
      SCONCE_ASSIGN_OR_RETURN(const uint64_t key, TakeNumber(op == PickleOp::kBinGet ? 1 : 4));
      return PushRemembered(key);
    }
    default:
      return StepContainer(op);
  }
}

absl::Status PickleMachine::StepContainer(PickleOp op) {
  switch (op) {
    case PickleOp::kEmptyTuple:
      return PushTuple(0);
    case PickleOp::kTuple1:
    case PickleOp::kTuple2:
    case PickleOp::kTuple3: {
      const size_t count = static_cast<size_t>(op) - static_cast<size_t>(PickleOp::kTuple1) + 1;
      SCONCE_RETURN_IF_ERROR(Need(count));
      return PushTuple(count);
    }
    case PickleOp::kTuple: {
      SCONCE_ASSIGN_OR_RETURN(const size_t count, PopMark());
      return PushTuple(count);
    }
    case PickleOp::kEmptyList:
      return PushObject(Kind::kList, {}, kAbsent);
    case PickleOp::kEmptyDict:
      return PushObject(Kind::kDict, {}, kAbsent);
    case PickleOp::kEmptySet:
      return PushObject(Kind::kSet, {}, kAbsent);
    case PickleOp::kList:
    case PickleOp::kDict: {
      SCONCE_ASSIGN_OR_RETURN(const size_t count, PopMark());
      const Kind kind = op == PickleOp::kList ? Kind::kList : Kind::kDict;
      SCONCE_RETURN_IF_ERROR(PushObject(kind, {}, kAbsent));
      std::rotate(stack_.end() - count - 1, stack_.end() - 1, stack_.end());  // below its elements
      return Fill(count, kind == Kind::kDict, kind);
    }
    case PickleOp::kAppend:
      return Fill(1, false, Kind::kList);
    case PickleOp::kSetItem:
      return Fill(2, true, Kind::kDict);
    case PickleOp::kAppends: {
      SCONCE_ASSIGN_OR_RETURN(const size_t count, PopMark());
      return Fill(count, false, Kind::kList);
    }
    case PickleOp::kSetItems: {
      SCONCE_ASSIGN_OR_RETURN(const size_t count, PopMark());
      return Fill(count, true, Kind::kDict);
    }
    case PickleOp::kAddItems: {
      SCONCE_ASSIGN_OR_RETURN(const size_t count, PopMark());
      return Fill(count, false, Kind::kSet);
    }
    default:
      return StepObject(op);
  }
}

absl::Status PickleMachine::StepObject(PickleOp op) {
  switch (op) {
    case PickleOp::kGlobal: {
      SCONCE_ASSIGN_OR_RETURN(const absl::string_view module, TakeLine());
      SCONCE_ASSIGN_OR_RETURN(const absl::string_view name, TakeLine());
      return PushGlobal(module, name);
    }
    case PickleOp::kStackGlobal: {
      SCONCE_ASSIGN_OR_RETURN(const PickleIndex name, Pop());
      SCONCE_ASSIGN_OR_RETURN(const PickleIndex module, Pop());
      if (graph_[name].kind != Kind::kStr || graph_[module].kind != Kind::kStr)
        return Malformed("a global is not named by text");
      return PushGlobal(graph_.Text(module), graph_.Text(name));
    }
    case PickleOp::kReduce:
      return Call(false);
    case PickleOp::kNewObj:
      return Call(true);
    case PickleOp::kNewObjEx: {
      SCONCE_RETURN_IF_ERROR(Pop().status());
      return Call(true);
    }
    case PickleOp::kBuild:
      return Build();
    case PickleOp::kBinPersId: {
      SCONCE_ASSIGN_OR_RETURN(const PickleIndex id, Pop());
      return PushObject(Kind::kPersistent, {}, id);
    }
    default:
      return Error(Reason::FILE_UNSUPPORTED,
                   absl::StrCat("opcode 0x", absl::Hex(static_cast<int>(op), absl::kZeroPad2),
                                " is none that torch.save writes; write the file with torch.save"));
  }
}

absl::Status PickleMachine::Call(bool is_new) {
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex args, Pop());
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex callee, Pop());
  const PickleGlobal global = graph_[callee].global;
  if (!IsRefused(callee)) {
    if (graph_[callee].kind != Kind::kGlobal || !IsCallable(global.tag))
      return Malformed("something is called that is not a function");
    if (graph_[args].kind != Kind::kTuple) return Malformed("a function is called without a tuple of arguments");
    const bool has_new = global.tag == PickleTag::kOrderedDict || global.tag == PickleTag::kCounter ||
                         global.tag == PickleTag::kSet || global.tag == PickleTag::kSize ||
                         global.tag == PickleTag::kLater;
    if (is_new && !has_new)
      return Malformed(
          absl::StrCat("an object of ", PickleGlobalName(global), " is made in a way PyTorch does not use"));
  }
  return PushObject(Kind::kCall, IsRefused(callee) ? PickleGlobal{} : global, args);
}

absl::Status PickleMachine::Build() {
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex state, Pop());
  SCONCE_RETURN_IF_ERROR(Need(1));
  const PickleIndex target = stack_.back();
  if (IsRefused(target)) return absl::OkStatus();
  const PickleValue& value = graph_[target];
  if (value.kind != Kind::kCall ||
      (value.global.tag != PickleTag::kOrderedDict && value.global.tag != PickleTag::kLater)) {
    return Malformed("attributes are set on something that has none");
  }
  PickleGraph::Object& object = graph_.objects_[value.count];
  if (object.state != kAbsent) return Malformed("attributes are set twice");
  object.state = state;
  return absl::OkStatus();
}

absl::StatusOr<PickleGraph> ReadPickle(ByteSpan pickle, absl::string_view name) {
  return PickleMachine(pickle, name).Run();
}

}  // namespace sconce::format
