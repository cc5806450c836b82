#include "storage/format/pickle_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/format/pickle_machine.h"

// The meaning of the opcodes, over the stack machine of pickle_machine.h.
namespace sconce::format {
namespace {

constexpr PickleIndex kAbsent = PickleGraph::kAbsent;

// Whether class.__new__(class, *args) may be called.
bool MadeByNew(PickleTag tag, size_t args) {
  switch (tag) {
    case PickleTag::kScriptClass:
      return args == 0;
    case PickleTag::kOrderedDict:
    case PickleTag::kCounter:
    case PickleTag::kSet:
    case PickleTag::kComplex:
    case PickleTag::kByteArray:
    case PickleTag::kSize:
    case PickleTag::kDevice:
    case PickleTag::kTensorClass:
    case PickleTag::kOldTensorClass:
    case PickleTag::kStorageType:
    case PickleTag::kParameter:
    case PickleTag::kException:
    case PickleTag::kObjectClass:
    case PickleTag::kListClass:
    case PickleTag::kValueClass:
      return true;
    default:
      return false;
  }
}

// Whether BUILD may give it a state.
bool HasState(PickleTag tag) {
  switch (tag) {
    case PickleTag::kOrderedDict:
    case PickleTag::kParameter:
    case PickleTag::kTensorClass:
    case PickleTag::kOldTensorClass:
    case PickleTag::kNumpyReconstruct:
    case PickleTag::kNumpyDtype:
    case PickleTag::kScriptClass:
    case PickleTag::kException:
    case PickleTag::kObjectClass:
    case PickleTag::kListClass:
    case PickleTag::kValueClass:
      return true;
    default:
      return false;
  }
}

}  // namespace

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
  if (is_stream_) graph_.pickle_ = graph_.pickle_.subspan(0, at_);
  if (!stack_.empty() || !marks_.empty() || remaining() != 0) return Malformed("the pickle holds more than one value");
  return absl::OkStatus();
}

// None, or an empty container: as a state it changes nothing.
bool PickleMachine::IsNothing(PickleIndex index) const {
  switch (graph_[index].kind) {
    case Kind::kNone:
      return true;
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kDict:
      return graph_.Items(index).empty();
    default:
      return false;
  }
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
    case PickleOp::kFrozenSet:
      return Error(Reason::FILE_UNSUPPORTED, "a frozenset, which PyTorch does not load either; save a set");
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
    if (graph_[callee].kind != Kind::kGlobal || !IsCallable(global))
      return Malformed("something is called that is not a function");
    if (graph_[args].kind != Kind::kTuple) return Malformed("a function is called without a tuple of arguments");
    if (is_new && !MadeByNew(global.tag, graph_.Items(args).size()))
      return Malformed(
          absl::StrCat("an object of ", PickleGlobalName(global), " is made in a way PyTorch does not use"));
  }
  if (refused_.empty() && PythonCalls::Knows(global.tag)) {
    const absl::StatusOr<PickleIndex> made = calls_.Make(global, args, is_new, at_);
    if (!made.ok()) return Annotated(made.status());
    return PushIndex(*made);
  }
  return PushObject(Kind::kCall, IsRefused(callee) ? PickleGlobal{} : global, args, is_new);
}

absl::Status PickleMachine::Build() {
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex state, Pop());
  SCONCE_RETURN_IF_ERROR(Need(1));
  const PickleIndex target = stack_.back();
  if (IsRefused(target)) return absl::OkStatus();
  const PickleValue& value = graph_[target];
  if (value.kind != Kind::kCall || !HasState(value.global.tag)) {
    const bool is_instance =
        value.kind == Kind::kSet || (value.kind == Kind::kCall && MadeByNew(value.global.tag, /*args=*/0));
    if (is_instance && IsNothing(state)) return absl::OkStatus();
    if (value.kind == Kind::kCall && value.global.tag == PickleTag::kCounter)
      return Error(Reason::FILE_UNSUPPORTED, "a Counter with attributes, which torch.save would not keep either");
    if (value.kind == Kind::kCall && MakesTensor(value.global.tag))
      return Error(Reason::FILE_UNSUPPORTED, "a tensor that is set anew after it was made; save the tensor itself");
    return Malformed("attributes are set on something that has none");
  }
  const uint32_t number = value.count;
  if (value.global.tag == PickleTag::kOrderedDict) {
    const absl::StatusOr<PickleIndex> updated = calls_.Update(graph_.objects_[number].state, state, at_);
    if (updated.ok()) graph_.objects_[number].state = *updated;
    return Annotated(updated.status());
  }
  PickleGraph::Object& object = graph_.objects_[number];
  if (object.state != kAbsent) return Malformed("attributes are set twice");
  object.state = state;
  return absl::OkStatus();
}

absl::StatusOr<PickleGraph> ReadPickle(ByteSpan pickle, absl::string_view name) {
  return PickleMachine(pickle, name).Run();
}

absl::StatusOr<PickleGraph> ReadFirstPickle(ByteSpan stream, absl::string_view name) {
  return PickleMachine(stream.subspan(0, kMaxPickleBytes), name, /*is_stream=*/true).Run();
}

absl::StatusOr<PickleGraph> ReadArchivePickle(ByteSpan pickle, absl::string_view name) {
  return PickleMachine(pickle, name, /*is_stream=*/false, /*is_script=*/true).Run();
}

}  // namespace sconce::format
