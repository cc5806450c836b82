#include "server/services/prepared_view.h"

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
  return std::move(text.text());
}

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
  if (request.selection.empty() && request.mapping.empty() && !warm_start) return view;
  if (view->opaque()) {
    return MakeError(Reason::CHECKPOINT_OPAQUE,
                     absl::StrCat(NameOf(view->info()),
                                  " is opaque: nothing in it can be selected or mapped; "
                                  "export it without selection and device mapping"),
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
  view->manifest_ = std::move(selected.manifest);
  view->source_ = std::move(selected.source);
  view->changed_ = true;
  return view;
}

wire::SharedBytes PreparedView::EncodeManifest() const {
  if (!changed_) return {object_->manifest_bytes(), object_};
  return wire::Share(format::EncodeManifest(manifest_));
}

StorageStream PreparedView::OpenBulk() const {
  std::vector<format::StorageIndex> storages;
  for (format::StorageIndex i = 0; i < manifest().storages.size(); ++i) {
    if (format::IsBulk(manifest().storages[i])) storages.push_back(Source(i));
  }
  return StorageStream(object_, std::move(storages));
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
                   "; ask with the version number and the selection, load plan and mapping of the first request, "
                   "or "
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

absl::Status RefuseCast(const v1::DtypeCast& cast) {
  if (cast.dtype().empty()) return absl::OkStatus();
  return MakeError(
      Reason::NOT_IMPLEMENTED,
      "casting on the way out is not implemented in this release; leave `cast` unset and convert what you get",
      {{"field", "cast"}});
}

}  // namespace sconce::services
