#include "storage/repository/local_repository.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/blob/blob_path.h"
#include "storage/blob/local_blob_store.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "storage/catalog/watched_catalog.h"
#include "storage/repository/backup.h"
#include "storage/repository/garbage_preview.h"
#include "storage/repository/push.h"
#include "storage/repository/spool.h"
#include "storage/repository/stored_object.h"
#include "storage/repository/verifier.h"

namespace sconce::repository {

absl::Status CheckLimit(int64_t limit) {
  if (limit > 0) return absl::OkStatus();
  return MakeError(Reason::ARGUMENT_INVALID,
                   absl::StrCat("a page of ", limit, " items makes no sense; ask for 1 or more"));
}

absl::Status BadPageStart(const std::string& start) {
  return MakeError(Reason::PAGE_TOKEN_INVALID, absl::StrCat("the page token ", Quoted(start),
                                                            " is not one that this list gave; start without one"));
}

// A new catalog beside old blobs would take all of them for orphans.
static absl::Status CheckCatalogIsThere(const DataDir& data_dir, FileSystem& fs) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(data_dir.catalog_path()));
  if (std::find(names.begin(), names.end(), "CURRENT") != names.end()) return absl::OkStatus();
  const blob::BlobPaths paths(data_dir.path());
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> projects, fs.List(paths.BlobsDir()));
  for (const std::string& project : projects) {
    const std::optional<uint64_t> uid = blob::ParseProjectDirName(project);
    if (!uid) continue;
    SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> shards, fs.List(paths.ProjectDir(*uid)));
    for (const std::string& shard : shards) {
      SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> blobs,
                              fs.List(absl::StrCat(paths.ProjectDir(*uid), "/", shard)));
      if (blobs.empty()) continue;
      return MakeError(Reason::CATALOG_CORRUPT,
                       "the data directory has blobs but no catalog; restore it from a backup, or start once with "
                       "--rebuild-catalog");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Repository>> Repository::Open(const RepositoryOptions& options) {
  SCONCE_ASSIGN_OR_RETURN(DataDir data_dir, DataDir::Open(options.data_dir, *options.file_system));
  SCONCE_RETURN_IF_ERROR(CheckCatalogIsThere(data_dir, *options.file_system));
  catalog::RocksDbOptions catalog_options;
  catalog_options.file_system = options.file_system;
  // Below what pushes leave, so that deletions find room when they no longer do.
  catalog_options.min_free_bytes = options.min_free_bytes / 4;
  SCONCE_ASSIGN_OR_RETURN(auto catalog, catalog::RocksDbCatalog::Open(data_dir.catalog_path(), catalog_options));
  blob::LocalBlobStoreOptions blob_options;
  blob_options.data_dir = options.data_dir;
  blob_options.file_system = options.file_system;
  blob_options.clock = options.clock;
  blob_options.min_free_bytes = options.min_free_bytes;
  SCONCE_ASSIGN_OR_RETURN(auto blobs, blob::LocalBlobStore::Open(blob_options));
  return LocalRepository::Assemble(options, std::move(data_dir), std::move(catalog), std::move(blobs));
}

absl::StatusOr<std::unique_ptr<Repository>> LocalRepository::Assemble(const RepositoryOptions& options,
                                                                      std::optional<DataDir> data_dir,
                                                                      std::unique_ptr<catalog::Catalog> catalog,
                                                                      std::unique_ptr<blob::BlobStore> blobs) {
  static const SystemClock* const system_clock = new SystemClock;
  auto store = std::make_shared<Store>();
  store->options = options;
  if (store->options.clock == nullptr) store->options.clock = system_clock;
  store->data_dir = std::move(data_dir);
  store->catalog = catalog::Watch(
      std::move(catalog), [store = store.get()](const absl::Status& status) { store->integrity.NoteCatalog(status); },
      [store = store.get()](const catalog::ChangeSet& change) {
        store->counters.Note(change);
        store->totals.Note(change);
      });
  store->blobs = std::move(blobs);
  SCONCE_ASSIGN_OR_RETURN(store->deletions, DeletionLog::Open(*options.file_system, options.data_dir));
  SCONCE_ASSIGN_OR_RETURN(UploadRecovery uploads, UploadRecovery::Load(*store->catalog));
  SCONCE_RETURN_IF_ERROR(
      store->blobs->DropUnsealed([&uploads](const blob::BlobId& id) { return uploads.CanResume(id); }));
  SCONCE_RETURN_IF_ERROR(uploads.AbortBroken(*store));
  store->upload_blobs_at_start = uploads.Blobs();
  store->totals.Begin(store->catalog->Snapshot());
  return std::make_unique<LocalRepository>(std::move(store));
}

LocalRepository::LocalRepository(std::shared_ptr<Store> store)
    : store_(std::move(store)),
      pool_(store_->options.ingest_threads, store_->options.ingest_buffers, store_->options.max_pushes),
      collector_(*store_),
      uploads_(store_, pool_, [this] { collector_.Wake(); }),
      scrubber_(*store_, store_->options.scrub_bytes_per_second) {
  store_->integrity.Refresh(*store_->catalog);
  collector_.Start();
  scrubber_.Start();
}

LocalRepository::~LocalRepository() {
  store_->changes.Stop();
}

absl::StatusOr<std::unique_ptr<CheckpointPush>> LocalRepository::BeginPush(const PushOptions& options,
                                                                           format::Manifest manifest) {
  return BeginCheckpointPush(store_, pool_, options, std::move(manifest), [this] { collector_.Wake(); });
}

absl::StatusOr<std::shared_ptr<const OpenCheckpoint>> LocalRepository::OpenRead(const CheckpointRef& ref) {
  return OpenStoredCheckpoint(store_, ref);
}

absl::StatusOr<Upload> LocalRepository::BeginUpload(const PushOptions& options, const std::string& upload_id,
                                                    int64_t expected_parts) {
  return uploads_.Begin(options, upload_id, expected_parts);
}

absl::StatusOr<std::unique_ptr<PartStream>> LocalRepository::BeginPart(const UploadRef& upload, int64_t part,
                                                                       ByteSpan manifest, DurableCallback durable) {
  return uploads_.BeginPart(upload, part, manifest, std::move(durable));
}

absl::StatusOr<Checkpoint> LocalRepository::CommitUpload(const UploadRef& upload) {
  return uploads_.Commit(upload);
}

absl::Status LocalRepository::AbortUpload(const UploadRef& upload) {
  return uploads_.Abort(upload);
}

absl::StatusOr<Upload> LocalRepository::GetUpload(const UploadRef& upload) {
  return uploads_.Get(upload);
}

absl::StatusOr<std::unique_ptr<Spool>> LocalRepository::NewSpool() {
  return MakeSpool(store_);
}

absl::StatusOr<RepositoryStats> LocalRepository::GetStats() {
  RepositoryStats stats;
  SCONCE_ASSIGN_OR_RETURN(const StoreTotals::Totals totals, store_->totals.Get());
  stats.projects = totals.projects;
  stats.runs = totals.runs;
  stats.checkpoints = totals.checkpoints;
  const blob::BlobStats blobs = store_->blobs->GetStats();
  const StoreCounters& counters = store_->counters;
  stats.commits = counters.commits;
  stats.stored_bytes = counters.stored_bytes;
  stats.deduplicated_bytes = counters.deduplicated_bytes;
  stats.collected_bytes = counters.collected_bytes;
  if (counters.last_commit_time_ns > 0) stats.last_commit_time = absl::FromUnixNanos(counters.last_commit_time_ns);
  stats.blobs = blobs.blobs;
  stats.physical_bytes = blobs.physical_bytes;
  stats.counting_blobs = !blobs.complete;
  SCONCE_ASSIGN_OR_RETURN(stats.free_bytes, store_->options.file_system->FreeBytes(store_->options.data_dir));
  return stats;
}

absl::StatusOr<CollectReport> LocalRepository::CollectGarbage() {
  return collector_.Collect();
}

absl::StatusOr<CollectReport> LocalRepository::PreviewGarbage() {
  return PreviewGarbageOf(*store_);
}

absl::StatusOr<std::unique_ptr<Verification>> LocalRepository::BeginVerify(const VerifyScope& scope) {
  return StartVerification(*store_, scope);
}

Integrity LocalRepository::GetIntegrity() {
  return store_->integrity.state();
}

void LocalRepository::SetIntegrityListener(std::function<void(const Integrity&)> listener) {
  store_->integrity.SetListener(std::move(listener));
}

absl::StatusOr<BackupReport> LocalRepository::Backup(const std::string& directory) {
  absl::StatusOr<BackupReport> report = TakeBackup(*store_, directory);
  collector_.Wake();  // it had to stand still
  return report;
}

void LocalRepository::SetChangeListener(std::function<void(const RunName&)> listener) {
  store_->changes.Start(std::move(listener));
}

void LocalRepository::SetProtector(std::function<bool(const RunName&, int64_t version)> protect) {
  store_->protect = std::move(protect);
}

}  // namespace sconce::repository
