// A backup is a data directory like any other, taken while the store is written:
//
//   1. Partial copies of backups that died are removed from the backup directory. A new one is made there, as
//      .partial-{random}: locked, with VERSION and empty parts, synced (DataDir::Open).
//   2. The removal gate is held: no pass of the collector is under way, and none begins until step 6. So from here on
//   no
//      blob of the catalog is unlinked, no reference is dropped, and nothing is added to deletions.log.
//   3. The catalog is copied as of one moment. Commits go on; what they add later is not in the copy.
//   4. deletions.log is copied. It says of everything in the copy that is gone that it is gone, and names nothing that
//      lives there: objects enter it from tombstones, and the collector stands still.
//   5. Every blob that the *copied* catalog names gets a second name in the copy (or is copied, where the two are on
//      different disks). It is there: it was sealed before the batch that named it, and nothing removes it. A blob is
//      never changed, and a data directory only ever unlinks names, so neither of the two can harm the other.
//   6. The gate is released.
//   7. Every directory of the copy is synced. It is renamed to its name, and the backup directory synced.
//
// After an error nothing of it stays; after a crash a .partial- directory does, until the next backup.
#include "storage/repository/backup.h"

#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/blob/blob_path.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "storage/repository/data_dir.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {
namespace {

constexpr char kPartialPrefix[] = ".partial-";
constexpr size_t kCopyBytes = size_t{1} << 20;
constexpr int64_t kReportEvery = int64_t{1} << 30;

absl::Status PathInvalid(absl::string_view directory, absl::string_view why) {
  return MakeError(Reason::BACKUP_PATH_INVALID,
                   absl::StrCat("cannot back up to ", Quoted(directory), ": ", why,
                                "; name a new directory below the server's --backup-dir"),
                   {{"directory", std::string(directory)}});
}

absl::Status CopyFile(FileSystem& fs, const std::string& from, const std::string& to, uint32_t mode) {
  SCONCE_ASSIGN_OR_RETURN(const auto source, fs.OpenRead(from));
  SCONCE_ASSIGN_OR_RETURN(const auto copy, fs.Create(to, {}));
  std::vector<uint8_t> buffer(static_cast<size_t>(std::min<int64_t>(kCopyBytes, source->size_bytes())));
  for (int64_t done = 0; done < source->size_bytes();) {
    const auto n = static_cast<size_t>(std::min<int64_t>(kCopyBytes, source->size_bytes() - done));
    SCONCE_RETURN_IF_ERROR(source->ReadAt(done, absl::MakeSpan(buffer.data(), n)));
    SCONCE_RETURN_IF_ERROR(copy->WriteAt(done, ByteSpan(buffer.data(), n)));
    done += static_cast<int64_t>(n);
  }
  SCONCE_RETURN_IF_ERROR(copy->SetMode(mode));
  return copy->Sync();
}

// The blobs of one copy.
class BlobCopier {
 public:
  BlobCopier(FileSystem& fs, const std::string& from, const std::string& to, BackupReport& report)
      : fs_(fs), from_(from), to_(to), report_(report) {}

  absl::Status Add(const blob::BlobId& id) {
    const std::string source = from_.SealedPath(id), target = to_.SealedPath(id), shard = to_.ShardDir(id);
    const auto file = fs_.OpenRead(source);
    if (IsAbsent(file.status())) {  // as damaged as the original: its versions are quarantined when they are read
      Log(Severity::kWarn, "backup_blob_missing", {{"blob", id.Hex()}});
      ++report_.missing_blobs;
      return absl::OkStatus();
    }
    SCONCE_RETURN_IF_ERROR(file.status());
    if (directories_.insert(shard).second) {
      SCONCE_RETURN_IF_ERROR(fs_.CreateDirectories(shard));
      directories_.insert(to_.ProjectDir(id.project_uid));
    }
    const int64_t size = (*file)->size_bytes();
    ++report_.blobs;
    const absl::Status linked = fs_.Link(source, target);
    if (linked.ok()) {
      report_.linked_bytes += size;
      return absl::OkStatus();
    }
    if (!IsOtherDevice(linked)) return linked;
    SCONCE_RETURN_IF_ERROR(CopyFile(fs_, source, target, 0440));
    report_.copied_bytes += size;
    if (report_.copied_bytes / kReportEvery != (report_.copied_bytes - size) / kReportEvery) {
      Log(Severity::kInfo, "backup_progress", {{"blobs", report_.blobs}, {"copied_bytes", report_.copied_bytes}});
    }
    return absl::OkStatus();
  }

  absl::Status SyncDirectories() {
    for (const std::string& directory : directories_) SCONCE_RETURN_IF_ERROR(fs_.SyncDirectory(directory));
    return fs_.SyncDirectory(to_.BlobsDir());
  }

 private:
  FileSystem& fs_;
  const blob::BlobPaths from_, to_;
  BackupReport& report_;
  std::set<std::string> directories_;
};

// Step 1: a partial copy whose lock is free belongs to nobody.
void RemoveDeadOnes(FileSystem& fs, const std::string& backup_dir) {
  const auto names = fs.List(backup_dir);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (!absl::StartsWith(name, kPartialPrefix)) continue;
    const std::string path = absl::StrCat(backup_dir, "/", name);
    const auto mine = DataDir::Open(path, fs);
    if (!HasReason(mine.status(), Reason::DATA_DIR_LOCKED)) RemoveTree(fs, path).IgnoreError();
  }
}

// Steps 3 to 5.
absl::Status Copy(Store& store, const std::string& partial, BlobCopier& blobs, BackupReport& report) {
  FileSystem& fs = *store.options.file_system;
  SCONCE_RETURN_IF_ERROR(fs.RemoveDirectory(partial + "/catalog"));
  SCONCE_RETURN_IF_ERROR(store.catalog->Checkpoint(partial + "/catalog"));
  const std::string log = "/deletions.log";
  const absl::Status copied = CopyFile(fs, store.options.data_dir + log, partial + log, 0640);
  if (!copied.ok() && !IsAbsent(copied)) return copied;
  catalog::RocksDbOptions options;
  options.file_system = &fs;
  SCONCE_ASSIGN_OR_RETURN(const auto catalog, catalog::RocksDbCatalog::OpenReadOnly(partial + "/catalog", options));
  SCONCE_RETURN_IF_ERROR(catalog->Scan(catalog::LogPrefix(), catalog::PrefixEnd(catalog::LogPrefix()), true,
                                       [&](absl::string_view key, absl::string_view) {
                                         report.revision = catalog::ParseLogKey(key).value_or(0);
                                         return false;
                                       }));
  absl::Status status;
  const std::string prefix = catalog::BlobPrefix();
  SCONCE_RETURN_IF_ERROR(
      catalog->Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
        const auto fields = catalog::ParseBlobKey(key);
        if (fields) status = blobs.Add({fields->project_uid, fields->id});
        return status.ok();
      }));
  return status;
}

}  // namespace

absl::StatusOr<std::string> BackupPath(const std::string& backup_dir, absl::string_view directory) {
  if (backup_dir.empty()) {
    return MakeError(Reason::BACKUP_DISABLED,
                     "this server takes no backups: it was started without --backup-dir; give it one");
  }
  absl::string_view rest = directory;
  if (absl::StartsWith(rest, "/")) {
    if (!absl::StartsWith(rest, absl::StrCat(backup_dir, "/"))) return PathInvalid(directory, "it lies elsewhere");
    rest.remove_prefix(backup_dir.size() + 1);
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(rest, '/');
  std::string path = backup_dir;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].empty() || parts[i] == "." || parts[i] == "..") {
      return PathInvalid(directory, "it has an empty name, \".\" or \"..\" in it");
    }
    if (parts[i].find('\0') != absl::string_view::npos || absl::StartsWith(parts[i], kPartialPrefix)) {
      return PathInvalid(directory, "a name in it is reserved");
    }
    absl::StrAppend(&path, "/", parts[i]);
    struct stat info;
    const bool there = ::lstat(path.c_str(), &info) == 0;
    const bool last = i + 1 == parts.size();
    if (last && there) return PathInvalid(directory, "it exists");
    if (!last && (!there || !S_ISDIR(info.st_mode))) return PathInvalid(directory, "its parent is not a directory");
  }
  return path;
}

absl::StatusOr<BackupReport> TakeBackup(Store& store, const std::string& directory) {
  FileSystem& fs = *store.options.file_system;
  const std::string& backup_dir = store.options.backup_dir;
  SCONCE_ASSIGN_OR_RETURN(const std::string path, BackupPath(backup_dir, directory));
  RemoveDeadOnes(fs, backup_dir);
  const std::string partial = absl::StrCat(backup_dir, "/", kPartialPrefix, blob::RandomBlobId(0).Hex());
  BackupReport report;
  report.directory = path;
  const auto take = [&]() -> absl::Status {
    SCONCE_ASSIGN_OR_RETURN(const DataDir lock, DataDir::Open(partial, fs));
    BlobCopier blobs(fs, store.options.data_dir, partial, report);
    {
      store.removals.Hold();
      const absl::Cleanup release = [&] { store.removals.Release(); };
      SCONCE_RETURN_IF_ERROR(Copy(store, partial, blobs, report));
    }
    SCONCE_RETURN_IF_ERROR(blobs.SyncDirectories());
    SCONCE_RETURN_IF_ERROR(fs.SyncDirectory(partial));
    SCONCE_RETURN_IF_ERROR(BackupPath(backup_dir, directory).status());  // nobody took the name meanwhile
    SCONCE_RETURN_IF_ERROR(fs.Rename(partial, path));
    absl::Status synced = fs.SyncDirectory(path.substr(0, path.rfind('/')));
    if (!synced.ok()) RemoveTree(fs, path).IgnoreError();
    return synced;
  };
  if (absl::Status taken = take(); !taken.ok()) {
    if (absl::Status removed = RemoveTree(fs, partial); !removed.ok()) {
      Log(Severity::kWarn, "backup_not_removed", {{"reason", removed.ToString()}});
    }
    return taken;
  }
  Log(Severity::kInfo, "backup_taken",
      {{"directory", path},
       {"revision", report.revision},
       {"blobs", report.blobs},
       {"copied_bytes", report.copied_bytes}});
  return report;
}

}  // namespace sconce::repository
