#include "storage/repository/upload_reaper.h"

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/repository/lookup.h"
#include "storage/repository/upload_records.h"

namespace sconce::repository {

absl::Status UploadReaper::Run(const StopSignal& stop, CollectReport& report) {
  SCONCE_RETURN_IF_ERROR(
      VisitInSteps(*store_.catalog, catalog::UploadPrefix(), stop,
                   [&](const std::string& key, const std::string& value) { return Look(key, value, report); }));
  return VisitInSteps(*store_.catalog, catalog::TombstonePrefix(catalog::Owner::Kind::kUpload), stop,
                      [&](const std::string& key, const std::string& value) { return Bury(key, value, stop, report); });
}

absl::Status UploadReaper::Look(const std::string& key, const std::string& value, CollectReport& report) {
  const auto fields = catalog::ParseUploadKey(key);
  if (!fields) return MakeError(Reason::CATALOG_CORRUPT, "an upload's key does not parse");
  SCONCE_ASSIGN_OR_RETURN(auto record, ParseRecord<records::UploadRecord>(value));
  const int64_t now = store_.NowNanos();
  catalog::ChangeSet change;
  change.conditions.push_back({key, value});  // not touched in between
  const bool ended =
      record.state() == records::UPLOAD_STATE_COMMITTED || record.state() == records::UPLOAD_STATE_ABORTED;
  if (ended) {
    if (!IsForgotten(record, now)) return absl::OkStatus();
    change.deletes.push_back(key);
  } else {
    SCONCE_ASSIGN_OR_RETURN(const auto run, store_.catalog->Get(catalog::RunKey(fields->run_uid)));
    const bool expired = now - record.touch_time_ns() >= absl::ToInt64Nanoseconds(store_.options.upload_ttl);
    if (run && !expired) return absl::OkStatus();
    Log(Severity::kInfo, "upload_dropped",
        {{"upload", fields->upload}, {"project", record.project()}, {"run", record.run()}});
    const FoundUpload found{fields->run_uid, {key, value, std::move(record)}};
    EndUpload(found, records::UPLOAD_STATE_ABORTED, 0, now, change);
    ++report.expired_uploads;
  }
  const absl::Status applied = store_.catalog->Apply(change).status();
  return catalog::FailedConditionKey(applied) ? absl::OkStatus() : applied;
}

absl::Status UploadReaper::Bury(const std::string& key, const std::string& value, const StopSignal& stop,
                                CollectReport& report) {
  const std::optional<catalog::Owner> owner = catalog::ParseTombstoneKey(key);
  if (!owner) return MakeError(Reason::CATALOG_CORRUPT, "a tombstone's key does not parse");
  SCONCE_ASSIGN_OR_RETURN(const auto tombstone, ParseRecord<records::TombstoneRecord>(value));
  SCONCE_ASSIGN_OR_RETURN(const bool dropped, DropJournals(tombstone.project_uid(), *owner, stop, report));
  if (!dropped) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(
      VisitInSteps(*store_.catalog, catalog::PartPrefix(owner->number), stop,
                   [&](const std::string& part, const std::string& record) { return DropPart(part, record); }));
  if (stop.Requested()) return absl::OkStatus();
  catalog::ChangeSet change;
  change.deletes.push_back(key);
  return store_.catalog->Apply(change).status();
}

absl::StatusOr<bool> UploadReaper::DropJournals(uint64_t project_uid, const catalog::Owner& owner,
                                                const StopSignal& stop, CollectReport& report) {
  bool all = true;
  const auto drop = [&](const std::string& key, const std::string& value) -> absl::Status {
    SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::JournalRecord>(value));
    std::set<Digest> distinct;
    for (const records::JournalEntry& entry : record.entries()) {
      Digest chunk;
      if (entry.shared() && Digest::FromBytes(entry.sha256(), chunk)) distinct.insert(chunk);
    }
    const std::vector<Digest> chunks(distinct.begin(), distinct.end());
    for (size_t begin = 0; begin < chunks.size(); begin += kStep) {
      SCONCE_ASSIGN_OR_RETURN(
          const bool dropped,
          dropper_.Drop(project_uid, owner, absl::MakeConstSpan(chunks).subspan(begin, kStep), report));
      if (!dropped) {  // a push has pinned one: its reference stays, so what names it must stay too
        all = false;
        return absl::OkStatus();
      }
    }
    catalog::ChangeSet change;
    change.deletes.push_back(key);
    return store_.catalog->Apply(change).status();
  };
  SCONCE_RETURN_IF_ERROR(VisitInSteps(*store_.catalog, catalog::JournalPrefix(owner.number), stop, drop));
  if (!all) ++report.postponed;
  return all && !stop.Requested();
}

absl::Status UploadReaper::DropPart(const std::string& key, const std::string& value) {
  SCONCE_ASSIGN_OR_RETURN(const auto part, ParseRecord<records::PartRecord>(value));
  const blob::BlobId blob = ToBlobId(part.project_uid(), part.blob_id());
  SCONCE_ASSIGN_OR_RETURN(const auto committed, store_.catalog->Get(catalog::BlobKey(blob.project_uid, blob.id)));
  if (!committed) SCONCE_RETURN_IF_ERROR(store_.blobs->Remove(blob));
  SCONCE_RETURN_IF_ERROR(store_.blobs->Remove(ToBlobId(part.project_uid(), part.manifest_blob_id())));
  catalog::ChangeSet change;
  change.deletes.push_back(key);
  return store_.catalog->Apply(change).status();
}

}  // namespace sconce::repository
