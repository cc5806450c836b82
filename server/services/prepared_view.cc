#include "server/services/prepared_view.h"

#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "proto/wire/tree_codec.h"
#include "server/services/convert.h"
#include "server/services/warm_start.h"
#include "storage/format/manifest_codec.h"

namespace sconce::services {
namespace {

// Raised whenever the same request would give other bytes than an earlier release gave.
constexpr int kPlanFormat = 1;
constexpr size_t kPlanHexDigits = 32;
constexpr size_t kMaxMappedBytes = size_t{1} << 20;

// Strings one after the other, each with its length, so that no two lists give the same text.
class Canonical {
 public:
  void Add(absl::string_view s) { absl::StrAppend(&text_, s.size(), ":", s); }
  void Add(const std::string& s) { Add(ToAbsl(s)); }
  void Add(const std::vector<std::string>& list) {
    absl::StrAppend(&text_, list.size(), "[");
    for (const std::string& s : list) Add(s);
  }
  std::string& text() { return text_; }

 private:
  std::string text_;
};

std::string Describe(const ViewRequest& request) {
  Canonical text;
  text.Add(request.selection.root);
  text.Add(request.selection.include);
  text.Add(request.selection.exclude);
  const format::DeviceMapping& mapping = request.mapping;
  text.Add(mapping.device);
  std::vector<std::string> pairs;
  for (const auto& [from, to] : mapping.remap) {
    pairs.push_back(from);
    pairs.push_back(to);
  }
  text.Add(pairs);
  pairs.clear();
  for (const format::DeviceRule& rule : mapping.rules) {
    pairs.push_back(rule.pattern);
    pairs.push_back(rule.device);
  }
  text.Add(pairs);
  text.Add(mapping.available);
  text.Add(mapping.fallback);
  text.Add(request.load_plan.SerializeAsString());  // it has no maps, so that equal plans give equal bytes
  if (request.cast.empty()) return std::move(text.text());
  text.Add(request.cast.dtype);
  pairs.clear();
  for (const format::DtypeRule& rule : request.cast.rules) {
    pairs.push_back(rule.pattern);
    pairs.push_back(rule.dtype);
  }
  text.Add(pairs);
  return std::move(text.text());
}

// Storages of a part of a stored version, by their number in that part.
class SelectedBytes final : public format::StorageBytes {
 public:
  // `source` is borrowed; null: the part is the whole.
  SelectedBytes(std::shared_ptr<const repository::StoredObject> object, const std::vector<format::StorageIndex>* source)
      : reader_(std::move(object)), source_(source) {}

  absl::Status Read(format::StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    if (source_ != nullptr) storage = (*source_)[storage];
    while (!out.empty()) {
      SCONCE_ASSIGN_OR_RETURN(const repository::MappedBytes mapped, reader_.ReadAt(storage, offset));
      const ByteSpan part = mapped.bytes.subspan(0, out.size());
      std::memcpy(out.data(), part.data(), part.size());
      out.remove_prefix(part.size());
      offset += static_cast<int64_t>(part.size());
    }
    return absl::OkStatus();
  }

 private:
  ChunkReader reader_;
  const std::vector<format::StorageIndex>* source_;
};

// The same converted, and what it needs for that.
class ViewBytes final : public format::StorageBytes {
 public:
  ViewBytes(std::shared_ptr<const PreparedView> view, const format::CastPlan* plan, SelectedBytes selected)
      : view_(std::move(view)), selected_(std::move(selected)) {
    if (plan != nullptr) cast_.emplace(*plan, selected_);
  }

  absl::Status Read(format::StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    return cast_.has_value() ? cast_->Read(storage, offset, out) : selected_.Read(storage, offset, out);
  }

 private:
  const std::shared_ptr<const PreparedView> view_;
  SelectedBytes selected_;
  std::optional<format::CastBytes> cast_;
};

std::string NameOf(const repository::Checkpoint& info) {
  return wire::FormatCheckpoint(ToAbsl(info.run.project), ToAbsl(info.run.run), absl::StrCat(info.version));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const PreparedView>> PreparedView::Open(repository::Repository& repository,
                                                                       const ViewRequest& request) {
  SCONCE_ASSIGN_OR_RETURN(const repository::CheckpointRef ref, CheckpointRefFromName(ToAbsl(request.name)));
  const std::shared_ptr<PreparedView> view(new PreparedView());
  SCONCE_ASSIGN_OR_RETURN(view->object_, repository.OpenRead(ref));
  const bool warm_start = !IsEmpty(request.load_plan);
  if (request.selection.empty() && request.mapping.empty() && request.cast.empty() && !warm_start) return view;
  if (view->opaque()) {
    return MakeError(Reason::CHECKPOINT_OPAQUE,
                     absl::StrCat(NameOf(view->info()),
                                  " is opaque: nothing in it can be selected, mapped or cast; "
                                  "export it without selection, device mapping and cast"),
                     {{"checkpoint", NameOf(view->info())}});
  }
  SCONCE_ASSIGN_OR_RETURN(format::Selected selected, format::Select(view->object_->manifest(), request.selection));
  view->request_ = Describe(request);
  if (warm_start) {
    SCONCE_ASSIGN_OR_RETURN(const WarmStart wanted, ReadLoadPlan(repository, request.load_plan));
    SCONCE_ASSIGN_OR_RETURN(format::Selected kept,
                            ApplyWarmStart(wanted, selected.manifest, ToAbsl(request.selection.root)));
    for (format::StorageIndex& source : kept.source) source = selected.source[source];
    selected = std::move(kept);
    // The module that it names may be another one tomorrow.
    if (wanted.target.has_value()) {
      view->request_ += Sha256(AsBytes(ToAbsl(format::EncodeManifest(selected.manifest)))).Hex();
    }
  }
  SCONCE_ASSIGN_OR_RETURN(view->mapped_, format::MapDevices(request.mapping, selected.manifest));
  view->source_ = std::move(selected.source);
  view->changed_ = true;
  view->cast_ = !request.cast.empty();
  SelectedBytes bytes(view->object_, &view->source_);
  SCONCE_ASSIGN_OR_RETURN(view->plan_, format::PlanCast(std::move(selected.manifest), request.cast, bytes));
  return view;
}

wire::SharedBytes PreparedView::EncodeManifest() const {
  if (!changed_) return {object_->manifest_bytes(), object_};
  return wire::Share(format::EncodeManifest(plan_.manifest));
}

std::unique_ptr<format::StorageBytes> PreparedView::OpenBytes() const {
  return std::make_unique<ViewBytes>(shared_from_this(), cast_ ? &plan_ : nullptr,
                                     SelectedBytes(object_, changed_ ? &source_ : nullptr));
}

std::unique_ptr<BulkStream> PreparedView::OpenBulk() const {
  std::vector<format::StorageIndex> storages;
  for (format::StorageIndex i = 0; i < manifest().storages.size(); ++i) {
    if (format::IsBulk(manifest().storages[i])) storages.push_back(i);
  }
  if (cast_) return std::make_unique<MadeStream>(std::move(storages), manifest(), OpenBytes());
  if (changed_) {
    for (format::StorageIndex& storage : storages) storage = source_[storage];
  }
  return std::make_unique<StorageStream>(object_, std::move(storages));
}

std::string PreparedView::Identity() const {
  return format::HasChunkTable(manifest()) ? "" : absl::StrCat(info().manifest_digest.Hex(), request_);
}

std::string PreparedView::Plan(absl::string_view what) const {
  Canonical text;
  text.Add(what);
  text.Add(absl::StrCat(kPlanFormat));
  text.Add(NameOf(info()));
  text.Add(info().manifest_digest.Hex());
  text.Add(request_);
  return Sha256(AsBytes(ToAbsl(text.text()))).Hex().substr(0, kPlanHexDigits);
}

absl::Status PreparedView::CheckPlan(absl::string_view what, absl::string_view plan) const {
  const std::string current = Plan(what);
  if (plan.empty() || plan == ToAbsl(current)) return absl::OkStatus();
  return MakeError(
      Reason::PLAN_CHANGED,
      absl::StrCat("the answer to this request is no longer the one of plan ", Quoted(plan, 64),
                   "; ask with the version number and the selection, load plan, mapping and cast of the first "
                   "request, or "
                   "start over without a plan"),
      {{"plan", current}});
}

void AddMappedDevices(const std::vector<format::MappedDevice>& mapped,
                      google::protobuf::RepeatedPtrField<v1::MappedDevice>* rows) {
  size_t total_bytes = 0;
  for (const format::MappedDevice& row : mapped) {
    v1::MappedDevice proto = wire::ToProto(row);
    total_bytes += proto.ByteSizeLong();
    if (total_bytes > kMaxMappedBytes) return;
    rows->Add(std::move(proto));
  }
}

void AddCastDtypes(const std::vector<format::CastDtype>& changes,
                   google::protobuf::RepeatedPtrField<v1::CastDtype>* rows) {
  for (const format::CastDtype& change : changes) *rows->Add() = wire::ToProto(change);
}

absl::StatusOr<format::DtypeCast> ReadCast(const v1::DtypeCast& cast) {
  if (!cast.patterns().empty() && cast.dtype().empty()) {
    return MakeError(Reason::CAST_INVALID,
                     absl::StrCat("cast.patterns says which tensors, and no cast.dtype what they become; give one of ",
                                  format::CastTargets()),
                     {{"field", "cast.dtype"}});
  }
  return wire::FromProto(cast);
}

}  // namespace sconce::services
