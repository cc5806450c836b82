#include "storage/repository/deletion_trimmer.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/blob/blob_path.h"
#include "storage/catalog/keys.h"
#include "storage/repository/deletion_log.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {
namespace {

constexpr int64_t kWorthTrimming = 256;                       // records
constexpr absl::Duration kKeepRecords = absl::Hours(3 * 24);  // longer than orphans are at hand

using Named = std::pair<uint64_t, uint64_t>;  // run, number

// Who still has a footer somewhere.
struct Footers {
  absl::flat_hash_set<Named> versions, modules;
  absl::flat_hash_set<uint64_t> runs;
};

// Of the objects in the log alone, so that memory is that of the log.
absl::StatusOr<Footers> FootersOf(const catalog::CatalogReader& reader, const std::vector<Deletion>& deletions) {
  Footers logged, found;
  for (const Deletion& deletion : deletions) {
    logged.runs.insert(deletion.run_uid);
    if (deletion.kind == Deletion::Kind::kVersion) logged.versions.insert({deletion.run_uid, deletion.number});
    if (deletion.kind == Deletion::Kind::kModule) logged.modules.insert({deletion.run_uid, deletion.number});
  }
  absl::Status parsed;
  const std::string prefix = catalog::BlobPrefix();
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view, absl::string_view value) {
        const auto record = ParseRecord<records::BlobRecord>(value);
        parsed = record.status();
        if (!parsed.ok()) return false;
        const auto owner = catalog::Owner::Decode(record->owner());
        if (!owner || !logged.runs.contains(owner->run_uid)) return true;
        found.runs.insert(owner->run_uid);
        const Named named{owner->run_uid, owner->number};
        if (owner->kind == catalog::Owner::Kind::kVersion && logged.versions.contains(named)) {
          found.versions.insert(named);
        }
        if (owner->kind == catalog::Owner::Kind::kModule && logged.modules.contains(named)) found.modules.insert(named);
        return true;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return found;
}

// Blobs are unlinked without a sync: one that came back after power loss must still find its record.
absl::Status MakeRemovalsDurable(FileSystem& file_system, const std::string& data_dir) {
  const blob::BlobPaths paths(data_dir);
  const auto projects = file_system.List(paths.BlobsDir());
  if (IsAbsent(projects.status())) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(projects.status());
  for (const std::string& project : *projects) {
    const std::optional<uint64_t> uid = blob::ParseProjectDirName(project);
    if (!uid) continue;
    SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> shards, file_system.List(paths.ProjectDir(*uid)));
    for (const std::string& shard : shards) {
      if (shard.size() != 2) continue;
      SCONCE_RETURN_IF_ERROR(file_system.SyncDirectory(absl::StrCat(paths.ProjectDir(*uid), "/", shard)));
    }
  }
  return absl::OkStatus();
}

uint64_t HighestUid(const Deletion& deletion) {
  return deletion.kind == Deletion::Kind::kModule ? std::max(deletion.run_uid, deletion.number) : deletion.run_uid;
}

}  // namespace

absl::Status DeletionTrimmer::Run(const StopSignal&, CollectReport&) {
  const int64_t now = store_.NowNanos();
  if (store_.deletions->records() < kWorthTrimming ||
      (store_.deletions->records() < next_at_records_ && now < next_ns_)) {
    return absl::OkStatus();
  }
  SCONCE_ASSIGN_OR_RETURN(const DeletionLogContents contents,
                          ReadDeletionLog(*store_.options.file_system, store_.options.data_dir));
  const auto snapshot = store_.catalog->Snapshot();
  SCONCE_ASSIGN_OR_RETURN(const Footers footers, FootersOf(*snapshot, contents.deletions));
  absl::flat_hash_map<uint64_t, uint64_t> last_version;  // by run
  Deletion highest;                                      // of all uids; of equal ones the first
  for (const Deletion& deletion : contents.deletions) {
    if (HighestUid(deletion) > HighestUid(highest)) highest = deletion;
    if (deletion.kind != Deletion::Kind::kVersion) continue;
    uint64_t& last = last_version[deletion.run_uid];
    last = std::max(last, deletion.number);
  }
  const int64_t old = now - absl::ToInt64Nanoseconds(kKeepRecords);
  absl::flat_hash_set<std::pair<char, Named>> kept;
  absl::flat_hash_map<uint64_t, bool> lives;
  absl::Status status;
  const auto run_lives = [&](uint64_t run_uid) {
    const auto [at, fresh] = lives.emplace(run_uid, true);
    if (!fresh) return at->second;
    const auto record = snapshot->Get(catalog::RunKey(run_uid));
    status.Update(record.status());
    return at->second = !record.ok() || record->has_value();
  };
  const auto needed = [&](const Deletion& deletion) {
    const Named named{deletion.run_uid, deletion.number};
    const bool needs = deletion.time_ns > old || deletion == highest ||
                       (deletion.kind == Deletion::Kind::kRun && footers.runs.contains(deletion.run_uid)) ||
                       (deletion.kind == Deletion::Kind::kModule && footers.modules.contains(named)) ||
                       (deletion.kind == Deletion::Kind::kVersion &&
                        (footers.versions.contains(named) ||
                         (deletion.number == last_version[deletion.run_uid] && run_lives(deletion.run_uid))));
    return needs && kept.insert({static_cast<char>(deletion.kind), named}).second;
  };
  const auto keep = std::count_if(contents.deletions.begin(), contents.deletions.end(), needed);
  SCONCE_RETURN_IF_ERROR(status);
  next_at_records_ = 2 * keep;
  next_ns_ = now + absl::ToInt64Nanoseconds(absl::Hours(24));
  if (2 * keep > store_.deletions->records()) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(MakeRemovalsDurable(*store_.options.file_system, store_.options.data_dir));
  kept.clear();
  SCONCE_RETURN_IF_ERROR(store_.deletions->Rewrite(needed));
  Log(Severity::kInfo, "deletion_log_trimmed", {{"kept", static_cast<int64_t>(keep)}});
  return absl::OkStatus();
}

}  // namespace sconce::repository
