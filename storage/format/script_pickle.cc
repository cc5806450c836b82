#include "storage/format/script_pickle.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/pickle_opcodes.h"

namespace sconce::format {
namespace {

using Kind = ScriptValue::Kind;

constexpr size_t kMaxPickleBytes = size_t{64} << 20;
// A value takes some hundred bytes of memory. PyTorch writes one every seven bytes or so, and those that take fewest
// are made once (None, small integers, the empty tuple): more than one every three bytes is made to hurt.
constexpr size_t kBytesOfValue = 3;
constexpr size_t kFreeValues = 1024;

class Machine {
 public:
  explicit Machine(ByteSpan pickle) : pickle_(pickle) {}

  absl::StatusOr<ScriptPickle> Run() {
    if (pickle_.size() > kMaxPickleBytes) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       absl::StrCat("the module's data.pkl has ", pickle_.size(), " bytes, more than the ",
                                    kMaxPickleBytes, " that are read"));
    }
    while (true) {
      op_start_ = at_;
      SCONCE_ASSIGN_OR_RETURN(const uint64_t op, Number(1));
      if (static_cast<PickleOp>(op) == PickleOp::kStop) break;
      SCONCE_RETURN_IF_ERROR(Step(static_cast<PickleOp>(op)));
      if (result_.values.size() > kFreeValues + pickle_.size() / kBytesOfValue) {
        return Invalid("it has more values than PyTorch writes into so few bytes");
      }
    }
    SCONCE_ASSIGN_OR_RETURN(result_.root, Pop());
    return std::move(result_);
  }

 private:
  absl::Status Invalid(absl::string_view what) const {
    return MakeError(Reason::MODULE_INVALID, absl::StrCat("the module's data.pkl, byte ", op_start_, ": ", what,
                                                          "; write it again with torch.jit.save"));
  }

  absl::StatusOr<uint64_t> Number(size_t bytes) {
    if (pickle_.size() - at_ < bytes) return Invalid("it ends early");
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; ++i) number |= uint64_t{pickle_[at_ + i]} << (8 * i);
    at_ += bytes;
    return number;
  }
  absl::StatusOr<absl::string_view> Bytes(uint64_t count) {
    if (pickle_.size() - at_ < count) return Invalid("it ends early");
    const absl::string_view bytes = AsText(pickle_.subspan(at_, count));
    at_ += count;
    return bytes;
  }
  absl::StatusOr<absl::string_view> Line() {
    const absl::string_view rest = AsText(pickle_.subspan(at_));
    const size_t end = rest.find('\n');
    if (end == absl::string_view::npos) return Invalid("a line does not end");
    at_ += end + 1;
    return rest.substr(0, end);
  }

  void Push(ScriptValue value) {
    stack_.push_back(static_cast<uint32_t>(result_.values.size()));
    result_.values.push_back(std::move(value));
  }
  // What nobody changes later is made once.
  absl::Status PushShared(uint32_t& index, Kind kind, int64_t integer = 0) {
    if (index == ScriptValue::kAbsent) {
      index = static_cast<uint32_t>(result_.values.size());
      ScriptValue value;
      value.kind = kind;
      value.integer = integer;
      result_.values.push_back(std::move(value));
    }
    stack_.push_back(index);
    return absl::OkStatus();
  }
  absl::Status PushInt(int64_t integer) {
    if (integer >= 0 && integer < 256)
      return PushShared(small_ints_[static_cast<size_t>(integer)], Kind::kInt, integer);
    ScriptValue value;
    value.kind = Kind::kInt;
    value.integer = integer;
    Push(std::move(value));
    return absl::OkStatus();
  }
  absl::Status PushKind(Kind kind) {
    ScriptValue value;
    value.kind = kind;
    Push(std::move(value));
    return absl::OkStatus();
  }
  absl::Status PushText(Kind kind, absl::string_view text) {
    ScriptValue value;
    value.kind = kind;
    value.text = text;
    Push(std::move(value));
    return absl::OkStatus();
  }

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  absl::StatusOr<uint32_t> Pop() {
    if (stack_.size() <= floor()) return Invalid("it takes more from its stack than is there");
    const uint32_t top = stack_.back();
    stack_.pop_back();
    return top;
  }
  absl::StatusOr<uint32_t> Top() const {
    if (stack_.size() <= floor()) return Invalid("its stack is empty");
    return stack_.back();
  }
  // What lies above the topmost mark; both go.
  absl::StatusOr<std::vector<uint32_t>> PopMarked() {
    if (marks_.empty()) return Invalid("a mark is missing");
    std::vector<uint32_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  absl::Status PushTuple(std::vector<uint32_t> items) {
    ScriptValue value;
    value.kind = Kind::kTuple;
    value.items = std::move(items);
    Push(std::move(value));
    return absl::OkStatus();
  }
  absl::Status PushTuple(size_t count) {
    if (stack_.size() - floor() < count) return Invalid("it takes more from its stack than is there");
    std::vector<uint32_t> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return PushTuple(std::move(items));
  }
  absl::Status Extend(Kind kind, const std::vector<uint32_t>& items) {
    SCONCE_ASSIGN_OR_RETURN(const uint32_t container, Top());
    ScriptValue& value = result_.values[container];
    if (value.kind != kind) return Invalid("it puts elements into what is no list or dict");
    if (kind == Kind::kDict && items.size() % 2 != 0) return Invalid("a key has no value");
    value.items.insert(value.items.end(), items.begin(), items.end());
    return absl::OkStatus();
  }
  absl::Status Call(Kind kind) {
    SCONCE_ASSIGN_OR_RETURN(const uint32_t argument, Pop());
    SCONCE_ASSIGN_OR_RETURN(const uint32_t callee, Pop());
    ScriptValue value;
    value.kind = kind;
    value.callee = callee;
    if (kind == Kind::kCall) value.argument = argument;
    Push(std::move(value));
    return absl::OkStatus();
  }
  absl::Status Build() {
    SCONCE_ASSIGN_OR_RETURN(const uint32_t state, Pop());
    SCONCE_ASSIGN_OR_RETURN(const uint32_t object, Top());
    if (result_.values[object].kind != Kind::kObject) return Invalid("it gives a state to what is no object");
    result_.values[object].argument = state;
    return absl::OkStatus();
  }
  absl::Status Remember(absl::StatusOr<uint64_t> number) {
    SCONCE_RETURN_IF_ERROR(number.status());
    SCONCE_ASSIGN_OR_RETURN(const uint32_t top, Top());
    memo_[*number] = top;
    return absl::OkStatus();
  }
  absl::Status Recall(absl::StatusOr<uint64_t> number) {
    SCONCE_RETURN_IF_ERROR(number.status());
    const auto found = memo_.find(*number);
    if (found == memo_.end()) return Invalid("it remembers what it never saw");
    stack_.push_back(found->second);
    return absl::OkStatus();
  }

  absl::Status Step(PickleOp op) {
    switch (op) {
      case PickleOp::kProto:
        return Number(1).status();
      case PickleOp::kMark:
        marks_.push_back(stack_.size());
        return absl::OkStatus();
      case PickleOp::kPop:
        return Pop().status();
      case PickleOp::kNone:
        return PushShared(none_, Kind::kNone);
      case PickleOp::kNewTrue:
      case PickleOp::kNewFalse:
        return PushShared(other_, Kind::kOther);
      case PickleOp::kBinInt: {
        SCONCE_ASSIGN_OR_RETURN(const uint64_t bits, Number(4));
        return PushInt(static_cast<int32_t>(bits));
      }
      case PickleOp::kBinInt1: {
        SCONCE_ASSIGN_OR_RETURN(const uint64_t number, Number(1));
        return PushInt(static_cast<int64_t>(number));
      }
      case PickleOp::kBinInt2: {
        SCONCE_ASSIGN_OR_RETURN(const uint64_t number, Number(2));
        return PushInt(static_cast<int64_t>(number));
      }
      case PickleOp::kLong1: {  // PyTorch writes 8 bytes: an int64 that does not fit above
        SCONCE_ASSIGN_OR_RETURN(const uint64_t bytes, Number(1));
        if (bytes != 8) return Invalid("an integer is not of 8 bytes");
        SCONCE_ASSIGN_OR_RETURN(const uint64_t bits, Number(8));
        return PushInt(static_cast<int64_t>(bits));
      }
      case PickleOp::kBinFloat:
        SCONCE_RETURN_IF_ERROR(Number(8).status());
        return PushShared(other_, Kind::kOther);
      case PickleOp::kBinUnicode: {
        SCONCE_ASSIGN_OR_RETURN(const uint64_t bytes, Number(4));
        SCONCE_ASSIGN_OR_RETURN(const absl::string_view text, Bytes(bytes));
        return PushText(Kind::kStr, text);
      }
      case PickleOp::kGlobal: {
        const size_t start = at_;
        SCONCE_RETURN_IF_ERROR(Line().status());
        SCONCE_RETURN_IF_ERROR(Line().status());
        return PushText(Kind::kGlobal, AsText(pickle_.subspan(start, at_ - 1 - start)));
      }
      case PickleOp::kEmptyTuple:
        return PushShared(empty_tuple_, Kind::kTuple);
      case PickleOp::kTuple1:
        return PushTuple(size_t{1});
      case PickleOp::kTuple2:
        return PushTuple(size_t{2});
      case PickleOp::kTuple3:
        return PushTuple(size_t{3});
      default:
        return StepContainer(op);
    }
  }

  absl::Status StepContainer(PickleOp op) {
    switch (op) {
      case PickleOp::kTuple: {
        SCONCE_ASSIGN_OR_RETURN(std::vector<uint32_t> items, PopMarked());
        return PushTuple(std::move(items));
      }
      case PickleOp::kEmptyList:
        return PushKind(Kind::kList);
      case PickleOp::kEmptyDict:
        return PushKind(Kind::kDict);
      case PickleOp::kAppends: {
        SCONCE_ASSIGN_OR_RETURN(const std::vector<uint32_t> items, PopMarked());
        return Extend(Kind::kList, items);
      }
      case PickleOp::kAppend: {
        SCONCE_ASSIGN_OR_RETURN(const uint32_t item, Pop());
        return Extend(Kind::kList, {item});
      }
      case PickleOp::kSetItems: {
        SCONCE_ASSIGN_OR_RETURN(const std::vector<uint32_t> items, PopMarked());
        return Extend(Kind::kDict, items);
      }
      case PickleOp::kSetItem: {
        SCONCE_ASSIGN_OR_RETURN(const uint32_t item, Pop());
        SCONCE_ASSIGN_OR_RETURN(const uint32_t key, Pop());
        return Extend(Kind::kDict, {key, item});
      }
      case PickleOp::kReduce:
        return Call(Kind::kCall);
      case PickleOp::kNewObj:
        return Call(Kind::kObject);
      case PickleOp::kBuild:
        return Build();
      case PickleOp::kBinPersId: {
        SCONCE_ASSIGN_OR_RETURN(const uint32_t id, Pop());
        ScriptValue value;
        value.kind = Kind::kPersistent;
        value.argument = id;
        Push(std::move(value));
        return absl::OkStatus();
      }
      case PickleOp::kBinPut:
        return Remember(Number(1));
      case PickleOp::kLongBinPut:
        return Remember(Number(4));
      case PickleOp::kBinGet:
        return Recall(Number(1));
      case PickleOp::kLongBinGet:
        return Recall(Number(4));
      default:
        return Invalid("it has an opcode that PyTorch does not write");
    }
  }

  const ByteSpan pickle_;
  size_t at_ = 0;
  size_t op_start_ = 0;
  ScriptPickle result_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  // each at most stack_.size()
  absl::flat_hash_map<uint64_t, uint32_t> memo_;
  uint32_t none_ = ScriptValue::kAbsent, other_ = ScriptValue::kAbsent, empty_tuple_ = ScriptValue::kAbsent;
  std::vector<uint32_t> small_ints_ = std::vector<uint32_t>(256, ScriptValue::kAbsent);
};

}  // namespace

absl::StatusOr<ScriptPickle> ReadScriptPickle(ByteSpan pickle) {
  return Machine(pickle).Run();
}

}  // namespace sconce::format
