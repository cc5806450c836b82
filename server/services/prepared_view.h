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
};

// A version as its reader wants it: opened, the selected part of its tree, warm start planned, devices mapped. What
// fetch and export share. Keeps the version's bytes, also when it is deleted meanwhile. Immutable.
class PreparedView {
 public:
  // An opaque version can be opened when nothing is selected or mapped; else CHECKPOINT_OPAQUE. NAME_INVALID, and the
  // errors of Repository::OpenRead, format::Select, ReadLoadPlan, ApplyWarmStart and format::MapDevices.
  static absl::StatusOr<std::shared_ptr<const PreparedView>> Open(repository::Repository& repository,
                                                                  const ViewRequest& request);

  const repository::Checkpoint& info() const { return object_->info(); }
  bool opaque() const { return info().kind == repository::CheckpointKind::kOpaque; }
  // As selected and mapped, with chunk digests.
  const format::Manifest& manifest() const { return changed_ ? manifest_ : object_->manifest(); }
  const std::vector<format::MappedDevice>& mapped_devices() const { return mapped_; }
  // The encoding of manifest(); that of an unchanged one is exactly what is stored.
  wire::SharedBytes EncodeManifest() const;

  // Index in the stored version of a storage of manifest().
  format::StorageIndex Source(format::StorageIndex storage) const { return changed_ ? source_[storage] : storage; }
  // The bulk storages of manifest(), as ADR 1 puts them in one stream.
  StorageStream OpenBulk() const;
  std::shared_ptr<const repository::OpenCheckpoint> object() const { return object_; }

  // Names exactly the bytes that `what` ("fetch", "export") of this view gives: changes with the version, the
  // selection, the load plan, the mapping and the formats written.
  std::string Plan(absl::string_view what) const;
  // OK for an empty plan or this view's; PLAN_CHANGED otherwise.
  absl::Status CheckPlan(absl::string_view what, absl::string_view plan) const;

 private:
  PreparedView() = default;

  std::shared_ptr<const repository::OpenCheckpoint> object_;
  std::string request_;   // selection, load plan and mapping, for the plan
  bool changed_ = false;  // false: manifest_ and source_ are empty, for they would only repeat the object's
  format::Manifest manifest_;
  std::vector<format::StorageIndex> source_;
  std::vector<format::MappedDevice> mapped_;
};

// What a header says of mapped devices: all rows, or the first ones where all would not fit in a message.
void AddMappedDevices(const std::vector<format::MappedDevice>& mapped,
                      google::protobuf::RepeatedPtrField<v1::MappedDevice>* rows);

// NOT_IMPLEMENTED when a cast is asked for.
absl::Status RefuseCast(const v1::DtypeCast& cast);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_PREPARED_VIEW_H_
