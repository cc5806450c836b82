#include "storage/repository/deletion_recorder.h"

#include <string>
#include <vector>

#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/deletion_log.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {
namespace {

// Uploads leave tombstones too, but nothing that a rebuild could bring back.
bool IsLogged(const catalog::Owner& owner) {
  return owner.kind == catalog::Owner::Kind::kVersion || owner.kind == catalog::Owner::Kind::kModule;
}

}  // namespace

absl::Status DeletionRecorder::Run(const StopSignal&, CollectReport&) {
  std::vector<Deletion> batch;
  absl::Status status;
  const int64_t now = store_.NowNanos();
  const auto add = [&](const Deletion& deletion) {
    batch.push_back(deletion);
    if (batch.size() < kStep) return true;
    status = store_.deletions->Record(batch);
    batch.clear();
    return status.ok();
  };
  const auto snapshot = store_.catalog->Snapshot();
  const std::string runs = catalog::RunTombstonePrefix(), objects = catalog::TombstonePrefix();
  SCONCE_RETURN_IF_ERROR(
      snapshot->Scan(runs, catalog::PrefixEnd(runs), false, [&](absl::string_view key, absl::string_view value) {
        const auto record = ParseRecord<records::RunTombstoneRecord>(value);
        status = record.status();
        const auto run_uid = catalog::ParseRunTombstoneKey(key);
        return status.ok() && (!run_uid || add(DeletionOfRun(record->project_uid(), *run_uid, now)));
      }));
  SCONCE_RETURN_IF_ERROR(status);
  SCONCE_RETURN_IF_ERROR(
      snapshot->Scan(objects, catalog::PrefixEnd(objects), false, [&](absl::string_view key, absl::string_view value) {
        const auto record = ParseRecord<records::TombstoneRecord>(value);
        status = record.status();
        const auto owner = catalog::ParseTombstoneKey(key);
        return status.ok() && (!owner || !IsLogged(*owner) || add(DeletionOf(record->project_uid(), *owner, now)));
      }));
  SCONCE_RETURN_IF_ERROR(status);
  return store_.deletions->Record(batch);
}

}  // namespace sconce::repository
