#ifndef SCONCE_STORAGE_REPOSITORY_UPLOAD_REAPER_H_
#define SCONCE_STORAGE_REPOSITORY_UPLOAD_REAPER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog/keys.h"
#include "storage/repository/collect_step.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/reference_dropper.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// The stage that ends uploads and gives their space back. An upload not touched for RepositoryOptions::upload_ttl, or
// whose run was deleted, is aborted. From the tombstone of one that has ended, whichever way, first the references to
// chunks it shared are dropped, with the journals that name them, a journal record a batch; then its files and part
// records go, but for the blobs a commit has made the version's own; then the tombstone. Records of uploads that ended
// 24 hours ago go too.
class UploadReaper {
 public:
  // `dropper` drops the references; the same pass.
  UploadReaper(Store& store, ReferenceDropper& dropper) : store_(store), dropper_(dropper) {}
  absl::Status Run(const StopSignal& stop, CollectReport& report);

 private:
  absl::Status Look(const std::string& key, const std::string& value, CollectReport& report);
  absl::Status Bury(const std::string& key, const std::string& value, const StopSignal& stop, CollectReport& report);
  // True when nothing is left of it.
  absl::StatusOr<bool> DropJournals(uint64_t project_uid, const catalog::Owner& owner, const StopSignal& stop,
                                    CollectReport& report);
  absl::Status DropPart(const std::string& key, const std::string& value);

  Store& store_;
  ReferenceDropper& dropper_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_UPLOAD_REAPER_H_
