#ifndef SCONCE_SERVER_SERVICES_PREPARED_VIEW_H_
#define SCONCE_SERVER_SERVICES_PREPARED_VIEW_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "sconce/v1/manifest.pb.h"
#include "server/services/storage_stream.h"
#include "storage/format/cast.h"
#include "storage/format/device_map.h"
#include "storage/format/selection.h"
#include "storage/repository/repository.h"

namespace sconce::services {

// What a reader asks of a version.
struct ViewRequest {
  std::string name;  // projects/.../checkpoints/{selector}
  format::Selection selection;
  format::DeviceMapping mapping;
  v1::LoadPlan load_plan;  // its state_dict is the selection's root; devices are mapped by the new names
  format::DtypeCast cast;  // by the new names too
};

// A version as its reader wants it: opened, the selected part of its tree, warm start planned, devices mapped, dtypes
// cast. What fetch and export share. Keeps the version's bytes, also when it is deleted meanwhile. Immutable.
class PreparedView : public std::enable_shared_from_this<PreparedView> {
 public:
  // An opaque version can be opened when nothing is selected, mapped or cast; else CHECKPOINT_OPAQUE. NAME_INVALID, and
  // the errors of Repository::OpenRead, format::Select, ReadLoadPlan, ApplyWarmStart, format::MapDevices and
  // format::PlanCast. May block.
  static absl::StatusOr<std::shared_ptr<const PreparedView>> Open(repository::Repository& repository,
                                                                  const ViewRequest& request);

  const repository::Checkpoint& info() const { return object_->info(); }
  bool opaque() const { return info().kind == repository::CheckpointKind::kOpaque; }
  // As selected, mapped and cast; with chunk digests unless a cast changes bytes.
  const format::Manifest& manifest() const { return changed_ ? plan_.manifest : object_->manifest(); }
  const std::vector<format::MappedDevice>& mapped_devices() const { return mapped_; }
  // The encoding of manifest(); that of an unchanged one is exactly what is stored.
  wire::SharedBytes EncodeManifest() const;

  const std::vector<format::CastDtype>& cast_dtypes() const { return plan_.changes; }

  // The bulk storages of manifest(), one by one; keeps the view.
  std::unique_ptr<format::StorageBytes> OpenBytes() const;
  // All of them, as ADR 4 puts them in one stream.
  std::unique_ptr<BulkStream> OpenBulk() const;
  std::shared_ptr<const repository::OpenCheckpoint> object() const { return object_; }

  // Stands for what the chunk digests do not say of the bytes of manifest(); "" when they are there.
  std::string Identity() const;
  // Names exactly the bytes that `what` ("fetch", "export") of this view gives: changes with the version, the
  // selection, the load plan, the mapping, the cast and the formats written.
  std::string Plan(absl::string_view what) const;
  // OK for an empty plan or this view's; PLAN_CHANGED otherwise.
  absl::Status CheckPlan(absl::string_view what, absl::string_view plan) const;

 private:
  PreparedView() = default;

  std::shared_ptr<const repository::OpenCheckpoint> object_;
  std::string request_;    // selection, load plan, mapping and cast, for the plan
  bool changed_ = false;   // false: plan_ and source_ are empty, for they would only repeat the object's
  format::CastPlan plan_;  // without a cast only its manifest counts
  bool cast_ = false;
  std::vector<format::StorageIndex> source_;  // for each storage of manifest(), its index in the stored version
  std::vector<format::MappedDevice> mapped_;
};

// What a header says of mapped devices: all rows, or the first ones where all would not fit in a message.
void AddMappedDevices(const std::vector<format::MappedDevice>& mapped,
                      google::protobuf::RepeatedPtrField<v1::MappedDevice>* rows);

// All rows: there are few.
void AddCastDtypes(const std::vector<format::CastDtype>& changes,
                   google::protobuf::RepeatedPtrField<v1::CastDtype>* rows);

// CAST_INVALID for patterns without a dtype; what the dtypes are is PlanCast's to check.
absl::StatusOr<format::DtypeCast> ReadCast(const v1::DtypeCast& cast);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_PREPARED_VIEW_H_
