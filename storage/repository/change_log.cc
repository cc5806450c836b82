#include "storage/repository/change_log.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/lookup.h"

namespace sconce::repository {
namespace {

constexpr int64_t kMaxLookedAt = 500;

// nullopt for entries that are not of interest here: of modules, and of runs' settings.
std::optional<ChangeKind> KindOf(const records::ChangeRecord& record) {
  switch (record.kind()) {
    case records::CHANGE_KIND_CHECKPOINT_COMMITTED:
      return ChangeKind::kCommitted;
    case records::CHANGE_KIND_CHECKPOINT_UPDATED:
      return ChangeKind::kUpdated;
    case records::CHANGE_KIND_CHECKPOINT_DELETED:
      return ChangeKind::kDeleted;
    case records::CHANGE_KIND_CHECKPOINT_QUARANTINED:
      return ChangeKind::kQuarantined;
    case records::CHANGE_KIND_CHECKPOINT_HEALED:
      return ChangeKind::kHealed;
    case records::CHANGE_KIND_ALIAS_SET:
      return ChangeKind::kAliasSet;
    case records::CHANGE_KIND_ALIAS_DELETED:
      return ChangeKind::kAliasDeleted;
    case records::CHANGE_KIND_BEST_MOVED:
      return ChangeKind::kBestMoved;
    case records::CHANGE_KIND_RUN_DELETED:
      return ChangeKind::kRunDeleted;
    default:
      return std::nullopt;
  }
}

DeletionCause CauseOf(const records::ChangeRecord& record) {
  if (record.cause() == records::DELETION_CAUSE_RETENTION) return DeletionCause::kRetention;
  return record.cause() == records::DELETION_CAUSE_EXPIRED ? DeletionCause::kExpired : DeletionCause::kRequested;
}

bool Takes(const ChangeFilter& filter, const records::ChangeRecord& record) {
  return (filter.project.empty() || filter.project == record.project()) &&
         (filter.run.empty() || filter.run == record.run());
}

// The revision at one end of the log; 0 when it is empty.
absl::StatusOr<int64_t> RevisionAtEnd(const catalog::CatalogReader& reader, bool newest) {
  int64_t revision = 0;
  const std::string prefix = catalog::LogPrefix();
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), newest, [&](absl::string_view key, absl::string_view) {
        revision = catalog::ParseLogKey(key).value_or(0);
        return false;
      }));
  return revision;
}

absl::Status NotKept(const catalog::CatalogReader& reader, int64_t after) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t oldest, RevisionAtEnd(reader, false));
  SCONCE_ASSIGN_OR_RETURN(const int64_t newest, RevisionAtEnd(reader, true));
  const std::string why =
      after > newest ? absl::StrCat("the store is only at revision ", newest, ": it was restored or rebuilt since")
                     : absl::StrCat("the oldest change still kept is revision ", oldest);
  return MakeError(Reason::REVISION_NOT_KEPT,
                   absl::StrCat("the changes after revision ", after, " are not kept: ", why,
                                "; list what is there and watch from now on"),
                   {{"after", absl::StrCat(after)},
                    {"oldest_revision", absl::StrCat(oldest)},
                    {"newest_revision", absl::StrCat(newest)}});
}

}  // namespace

absl::StatusOr<int64_t> NewestRevision(const catalog::CatalogReader& reader) {
  return RevisionAtEnd(reader, true);
}

absl::StatusOr<ChangePage> ReadChangeLog(const catalog::CatalogReader& reader, int64_t after,
                                         const ChangeFilter& filter, int64_t limit) {
  if (after < 0 || after == INT64_MAX) {
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("revision ", after, " is none; they are 1, 2, 3, ..."));
  }
  ChangePage page;
  page.next_after = after;
  absl::Status status;
  bool gap = false;
  int64_t looked_at = 0;
  std::vector<uint64_t> run_uids;
  SCONCE_RETURN_IF_ERROR(reader.Scan(catalog::LogKey(after + 1), catalog::PrefixEnd(catalog::LogPrefix()), false,
                                     [&](absl::string_view key, absl::string_view value) {
                                       const int64_t revision = catalog::ParseLogKey(key).value_or(0);
                                       gap = revision != page.next_after + 1;
                                       if (gap) return false;
                                       page.more = looked_at == kMaxLookedAt ||
                                                   static_cast<int64_t>(page.changes.size()) == limit;
                                       if (page.more) return false;
                                       ++looked_at;
                                       const auto record = ParseRecord<records::ChangeRecord>(value);
                                       status = record.status();
                                       if (!status.ok()) return false;
                                       page.next_after = revision;
                                       const std::optional<ChangeKind> kind = KindOf(*record);
                                       if (!kind || !Takes(filter, *record)) return true;
                                       page.changes.push_back({revision,
                                                               *kind,
                                                               {record->project(), record->run()},
                                                               record->version(),
                                                               record->name(),
                                                               absl::FromUnixNanos(record->time_ns()),
                                                               CauseOf(*record),
                                                               std::nullopt});
                                       run_uids.push_back(record->run_uid());
                                       return true;
                                     }));
  SCONCE_RETURN_IF_ERROR(status);
  if (gap) return NotKept(reader, after);
  if (looked_at == 0 && !page.more) {
    SCONCE_ASSIGN_OR_RETURN(const int64_t newest, NewestRevision(reader));
    if (after > newest) return NotKept(reader, after);
  }
  for (size_t i = 0; i < page.changes.size(); ++i) {
    Change& change = page.changes[i];
    if (change.version == 0 || change.kind == ChangeKind::kDeleted) continue;
    SCONCE_ASSIGN_OR_RETURN(const auto found, ReadRecord<records::CheckpointRecord>(
                                                  reader, catalog::CheckpointKey(run_uids[i], change.version)));
    if (found) change.checkpoint = ToCheckpoint(change.run, found->record);
  }
  return page;
}

absl::StatusOr<ChangePage> LocalRepository::ReadChanges(int64_t after, const ChangeFilter& filter, int64_t limit) {
  SCONCE_RETURN_IF_ERROR(CheckLimit(limit));
  return ReadChangeLog(*store_->catalog, after, filter, limit);
}

absl::StatusOr<int64_t> LocalRepository::GetRevision() {
  return NewestRevision(*store_->catalog);
}

void LocalRepository::SetRevisionListener(std::function<void()> listener) {
  store_->changes.SetRevisionListener(std::move(listener));
}

}  // namespace sconce::repository
