#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/pickle_reader.h"

namespace sconce::format {

absl::string_view PickleGraph::Text(PickleIndex index) const {
  const PickleValue& value = values_[index];
  if ((value.start & kMade) != 0) return absl::string_view(made_).substr(value.start & ~kMade, value.count);
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

absl::StatusOr<PickleIndex> PickleGraph::Add(PickleValue value) {
  if (values_.size() >= kMaxPickleValues) {
    return MakeError(
        Reason::INPUT_LIMIT_EXCEEDED,
        absl::StrCat("more than ", kMaxPickleValues, " Python objects; keep long lists of numbers in tensors"));
  }
  values_.push_back(value);
  return static_cast<PickleIndex>(values_.size() - 1);
}

absl::StatusOr<PickleIndex> PickleGraph::AddTuple(absl::Span<const PickleIndex> items) {
  PickleValue value;
  value.kind = PickleValue::Kind::kTuple;
  value.count = static_cast<uint32_t>(items.size());
  value.start = tuple_items_.size();
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex tuple, Add(value));
  tuple_items_.insert(tuple_items_.end(), items.begin(), items.end());
  return tuple;
}

absl::StatusOr<PickleIndex> PickleGraph::AddObject(PickleValue::Kind kind, PickleGlobal global, PickleIndex args) {
  PickleValue value;
  value.kind = kind;
  value.global = global;
  value.count = static_cast<uint32_t>(objects_.size());  // fewer objects than values
  SCONCE_ASSIGN_OR_RETURN(const PickleIndex object, Add(value));
  objects_.emplace_back();
  objects_.back().args = args;
  return object;
}

absl::StatusOr<PickleIndex> PickleGraph::AddText(PickleValue::Kind kind, absl::string_view text) {
  PickleValue value;
  value.kind = kind;
  value.count = static_cast<uint32_t>(text.size());  // at most kMaxMadeBytes
  value.start = kMade | made_.size();
  made_.append(text.data(), text.size());
  return Add(value);
}

void PickleGraph::AppendItems(PickleIndex object, absl::Span<const PickleIndex> items) {
  std::vector<PickleIndex>& own = objects_[values_[object].count].items;
  own.insert(own.end(), items.begin(), items.end());
}

}  // namespace sconce::format
