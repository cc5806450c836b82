#ifndef SCONCE_STORAGE_FORMAT_PICKLE_MACHINE_H_
#define SCONCE_STORAGE_FORMAT_PICKLE_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/pickle_opcodes.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/python_calls.h"

namespace sconce::format {

// The stack machine. A refused global becomes a call of nothing (tag kNone) and the machine goes on, so that one
// message can name all of them; what it makes is never looked at.
class PickleMachine {
 public:
  // `is_stream`: other bytes may follow the pickle. `is_script`: it is one of a TorchScript archive.
  PickleMachine(ByteSpan pickle, absl::string_view name, bool is_stream = false, bool is_script = false)
      : name_(ToStd(name)), is_stream_(is_stream), is_script_(is_script) {
    graph_.pickle_ = pickle;
  }

  absl::StatusOr<PickleGraph> Run();

 private:
  using Kind = PickleValue::Kind;

  absl::Status Loop();
  absl::Status Step(PickleOp op);
  absl::Status StepContainer(PickleOp op);
  absl::Status StepObject(PickleOp op);

  absl::Status Refusal() const;
  absl::Status Error(Reason reason, absl::string_view what) const {
    return MakeError(reason, absl::StrCat(name_, ", byte ", op_start_, ": ", what));
  }
  absl::Status Annotated(const absl::Status& error) const {
    return Annotate(error, absl::StrCat(name_, ", byte ", op_start_));
  }
  absl::Status Malformed(absl::string_view what) const {
    return Error(Reason::FILE_MALFORMED, absl::StrCat(what, "; the file is damaged, write it again"));
  }

  // Input
  size_t remaining() const { return graph_.pickle_.size() - at_; }
  absl::StatusOr<uint64_t> TakeNumber(int bytes);
  // The start of the next `length` bytes.
  absl::StatusOr<uint64_t> TakeBytes(uint64_t length);
  absl::StatusOr<absl::string_view> TakeLine();

  // Values
  absl::Status PushIndex(PickleIndex index);
  absl::Status Push(PickleValue value) { return PushMade(graph_.Add(value)); }
  absl::Status PushMade(const absl::StatusOr<PickleIndex>& index) {
    return index.ok() ? PushIndex(*index) : Annotated(index.status());
  }
  absl::Status PushSimple(Kind kind, int64_t integer) {
    PickleValue value;
    value.kind = kind;
    value.integer = integer;
    return Push(value);
  }
  absl::Status PushText(Kind kind, int length_bytes);
  absl::Status PushLong(int length_bytes);
  absl::Status PushObject(Kind kind, PickleGlobal global, PickleIndex args, bool is_new = false);
  // The top `count` values become a tuple.
  absl::Status PushTuple(size_t count);
  absl::Status PushGlobal(absl::string_view module, absl::string_view name);

  // The stack
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  absl::Status Need(size_t count) const {
    if (stack_.size() - floor() < count) return Malformed("the pickle takes more from its stack than is there");
    return absl::OkStatus();
  }
  absl::StatusOr<PickleIndex> Pop();
  // How many values lie above the topmost mark, which goes.
  absl::StatusOr<size_t> PopMark();
  bool IsRefused(PickleIndex index) const {
    const PickleValue& value = graph_.values_[index];
    return (value.kind == Kind::kGlobal || value.kind == Kind::kCall) && value.global.tag == PickleTag::kNone;
  }
  // Moves the top `count` values into the object below them: one of `kind`, or a call whose result has elements.
  absl::Status Fill(size_t count, bool pairs, Kind kind);
  absl::Status Call(bool is_new);
  absl::Status Build();
  bool IsNothing(PickleIndex index) const;

  // The memo: dense as picklers number it; a map only for what jumps ahead.
  absl::Status Remember(uint64_t number);
  absl::Status PushRemembered(uint64_t key);

  const std::string name_;
  const bool is_stream_;
  const bool is_script_;
  PickleGraph graph_;
  PythonCalls calls_{graph_};
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

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PICKLE_MACHINE_H_
