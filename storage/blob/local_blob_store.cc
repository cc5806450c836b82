#include "storage/blob/local_blob_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/blob/footer.h"
#include "storage/blob/local_blob_writer.h"

// How a blob becomes durable, then visible. Steps 1 to 3 are LocalBlobWriter's, 4 and 5 are Publish().
//
//  1. Create uploads/{project}-{id}.part with O_DIRECT. The name is random: nothing else has it.
//  2. Write the chunks with pwrite, whole pages at a time, at offsets given out under the writer's lock.
//  3. Write footer, zeros and trailer. Set the mode 0440. fdatasync: every byte and the size are on the disk.
//  4. Once per process and directory: make blobs/{project}/ab, fsync blobs/{project} and blobs, so that the directory
//     itself survives. Rename the file into it.
//  5. fsync the shard directory. Only now is Seal OK, and only then may the catalog's batch name the blob.
//
// What this gives:
//  * A name under blobs/ always has whole bytes behind it: the rename comes after the fdatasync.
//  * A crash before 4 leaves a .part file or nothing; DropUnsealed drops it. A crash between 4 and the catalog's batch
//    leaves a sealed blob that the catalog does not know; SortSealed moves it to orphans/ (sealed_sort.cc). If power
//    fails after 5, uploads/ may show the old name again, as a second link: dropping it harms nothing.
//  * After a failed step the file is never tried again (a second fdatasync may say OK for pages that were lost).
//  * uploads/ needs no fsync: its names mean nothing after a restart. But for a resumable blob: its first Sync also
//    syncs uploads/. It is journalled by others what of it is durable, and Resume goes on behind that.
//
// Remove does not fsync either: a blob that comes back after power loss is unknown to the catalog, so an orphan.
namespace sconce::blob {
namespace {

constexpr absl::Duration kKeepOrphans = absl::Hours(24);

const Clock& DefaultClock() {
  static const SystemClock clock;
  return clock;
}

class LocalBlob final : public Blob {
 public:
  LocalBlob(std::shared_ptr<const ReadableFile> file, const Trailer& trailer)
      : file_(std::move(file)), trailer_(trailer) {}

  const BlobId& id() const override { return trailer_.id; }
  int64_t size_bytes() const override { return trailer_.file_size_bytes; }
  int64_t allocated_bytes() const override { return file_->allocated_bytes(); }
  int64_t footer_offset() const override { return trailer_.footer_offset; }
  int fd() const override { return file_->fd(); }

  absl::StatusOr<ByteSpan> Read(int64_t offset, int64_t size_bytes) const override {
    SCONCE_RETURN_IF_ERROR(file_->Populate(offset, size_bytes));
    SCONCE_ASSIGN_OR_RETURN(const ByteSpan all, file_->Map());
    return all.subspan(static_cast<size_t>(offset), static_cast<size_t>(size_bytes));
  }

  absl::StatusOr<ByteSpan> Footer() const override {
    SCONCE_ASSIGN_OR_RETURN(const ByteSpan footer, Read(trailer_.footer_offset, trailer_.footer_size_bytes));
    if (Xxh3(footer) == trailer_.footer_xxh3) return footer;
    return MakeError(
        Reason::CHUNK_CORRUPT,
        absl::StrCat("the footer of blob ", id().Hex(), " does not match its checksum; restore it from a backup"),
        {{"blob", id().Hex()}});
  }

 private:
  const std::shared_ptr<const ReadableFile> file_;
  const Trailer trailer_;
};

absl::Status BlobMissing(const BlobId& id) {
  return MakeError(Reason::CHUNK_CORRUPT,
                   absl::StrCat("the file of blob ", id.Hex(), " is missing; restore it from a backup or push again"),
                   {{"blob", id.Hex()}});
}

absl::StatusOr<std::shared_ptr<const Blob>> ReadTrailer(std::shared_ptr<const ReadableFile> file, const BlobId& id) {
  std::array<uint8_t, kTrailerBytes> bytes{};
  const int64_t size = file->size_bytes();
  if (size >= kTrailerBytes) SCONCE_RETURN_IF_ERROR(file->ReadAt(size - kTrailerBytes, absl::MakeSpan(bytes)));
  absl::StatusOr<Trailer> trailer = DecodeTrailer(bytes, size);
  if (!trailer.ok()) return Annotate(trailer.status(), absl::StrCat("opening blob ", id.Hex()));
  if (!(trailer->id == id)) {
    return MakeError(Reason::CHUNK_CORRUPT,
                     absl::StrCat("the file of blob ", id.Hex(), " holds blob ", trailer->id.Hex(),
                                  "; restore it from a backup or push again"),
                     {{"blob", id.Hex()}});
  }
  return std::make_shared<const LocalBlob>(std::move(file), *trailer);
}

}  // namespace

LocalBlobStore::LocalBlobStore(const LocalBlobStoreOptions& options)
    : paths_(options.data_dir),
      fs_(options.file_system),
      clock_(options.clock != nullptr ? options.clock : &DefaultClock()),
      min_free_bytes_(options.min_free_bytes),
      sort_(paths_, *fs_) {}

absl::StatusOr<std::unique_ptr<LocalBlobStore>> LocalBlobStore::Open(const LocalBlobStoreOptions& options) {
  std::unique_ptr<LocalBlobStore> store(new LocalBlobStore(options));
  FileSystem& fs = *store->fs_;
  for (const std::string& directory :
       {store->paths_.BlobsDir(), store->paths_.UploadsDir(), store->paths_.OrphansDir()}) {
    SCONCE_RETURN_IF_ERROR(fs.CreateDirectories(directory));
  }
  SCONCE_RETURN_IF_ERROR(fs.SyncDirectory(store->paths_.DataDir()));
  return store;
}

absl::Status LocalBlobStore::CheckRoom(int64_t size_bytes, int64_t min_free_bytes) const {
  SCONCE_ASSIGN_OR_RETURN(const int64_t free_bytes, fs_->FreeBytes(paths_.DataDir()));
  if (free_bytes - size_bytes >= min_free_bytes) return absl::OkStatus();
  return MakeError(Reason::DISK_FULL,
                   absl::StrCat("the data directory's disk has ", HumanBytes(free_bytes), " left, of which ",
                                HumanBytes(min_free_bytes), " are kept in reserve; delete checkpoints or free space"),
                   {{"free_bytes", absl::StrCat(free_bytes)}, {"reserve_bytes", absl::StrCat(min_free_bytes)}});
}

absl::StatusOr<std::unique_ptr<BlobWriter>> LocalBlobStore::Create(uint64_t project_uid) {
  return Create(project_uid, min_free_bytes_, false);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> LocalBlobStore::CreateInReserve(uint64_t project_uid) {
  return Create(project_uid, 0, false);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> LocalBlobStore::CreateResumable(uint64_t project_uid) {
  return Create(project_uid, min_free_bytes_, true);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> LocalBlobStore::Create(uint64_t project_uid, int64_t min_free_bytes,
                                                                   bool resumable) {
  SCONCE_RETURN_IF_ERROR(CheckRoom(0, min_free_bytes));
  const BlobId id = RandomBlobId(project_uid);
  sort_.Made(id);
  CreateOptions options;
  options.direct = true;
  SCONCE_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs_->Create(paths_.PartPath(id), options));
  LocalBlobWriter::Origin origin;
  origin.resumable = resumable;
  return std::make_unique<LocalBlobWriter>(*this, id, min_free_bytes, origin, std::move(file));
}

absl::StatusOr<std::unique_ptr<BlobWriter>> LocalBlobStore::Resume(const BlobId& id, int64_t end) {
  SCONCE_RETURN_IF_ERROR(CheckRoom(0, min_free_bytes_));
  const std::string path = paths_.PartPath(id);
  const auto missing = [&id](absl::string_view what) {
    return MakeError(Reason::CHUNK_CORRUPT, absl::StrCat("the unsealed blob ", id.Hex(), " ", what, "; push again"),
                     {{"blob", id.Hex()}});
  };
  LocalBlobWriter::Origin origin;
  origin.resumable = true;
  origin.end = (end + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment;
  {
    const absl::StatusOr<std::shared_ptr<const ReadableFile>> there = fs_->OpenRead(path);
    if (!there.ok()) return IsAbsent(there.status()) ? missing("is missing") : there.status();
    if ((*there)->size_bytes() < end) return missing("is shorter than it was");
  }
  sort_.Made(id);
  SCONCE_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs_->OpenWrite(path));
  // What was written and not accounted for is cut off: what follows must be zeros where nothing is written.
  SCONCE_RETURN_IF_ERROR(file->Truncate(origin.end));
  return std::make_unique<LocalBlobWriter>(*this, id, min_free_bytes_, origin, std::move(file));
}

absl::Status LocalBlobStore::MakeShardDurable(const BlobId& id) {
  const std::string project = paths_.ProjectDir(id.project_uid), shard = paths_.ShardDir(id);
  bool project_is_durable;
  {
    MutexLock lock(&mu_);
    if (durable_dirs_.contains(shard)) return absl::OkStatus();
    project_is_durable = durable_dirs_.contains(project);
  }
  SCONCE_RETURN_IF_ERROR(fs_->CreateDirectories(shard));
  SCONCE_RETURN_IF_ERROR(fs_->SyncDirectory(project));
  if (!project_is_durable) SCONCE_RETURN_IF_ERROR(fs_->SyncDirectory(paths_.BlobsDir()));
  MutexLock lock(&mu_);
  durable_dirs_.insert(project);
  durable_dirs_.insert(shard);
  return absl::OkStatus();
}

absl::Status LocalBlobStore::Publish(const BlobId& id, int64_t allocated_bytes, bool resumable) {
  SCONCE_RETURN_IF_ERROR(MakeShardDurable(id));
  SCONCE_RETURN_IF_ERROR(fs_->Rename(paths_.PartPath(id), paths_.SealedPath(id)));
  if (absl::Status synced = fs_->SyncDirectory(paths_.ShardDir(id)); !synced.ok()) {
    // Whether the name survives is now open, so it must go: the caller is told that the blob does not exist. Should it
    // come back after a crash, it is an orphan. A resumable one goes back to where it can be resumed: what was
    // journalled of it is durable as before.
    const bool back = resumable && fs_->Rename(paths_.SealedPath(id), paths_.PartPath(id)).ok();
    if (!back) fs_->Remove(paths_.SealedPath(id)).IgnoreError();
    return synced;
  }
  MutexLock lock(&mu_);
  ++stats_.blobs;
  stats_.physical_bytes += allocated_bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Blob>> LocalBlobStore::Open(const BlobId& id) {
  int64_t removals;
  {
    MutexLock lock(&mu_);
    const auto found = open_.find(id);
    if (found != open_.end()) {
      if (std::shared_ptr<const Blob> blob = found->second.lock()) return blob;
    }
    removals = removals_;
  }
  absl::StatusOr<std::shared_ptr<const ReadableFile>> file = fs_->OpenRead(paths_.SealedPath(id));
  if (!file.ok() && IsAbsent(file.status())) return BlobMissing(id);
  if (!file.ok()) return file.status();  // out of descriptors, say: the blob itself may be fine
  SCONCE_ASSIGN_OR_RETURN(std::shared_ptr<const Blob> blob, ReadTrailer(*std::move(file), id));

  MutexLock lock(&mu_);
  if (removals != removals_) return blob;
  std::weak_ptr<const Blob>& slot = open_[id];
  if (std::shared_ptr<const Blob> other = slot.lock()) return other;  // another thread was quicker
  slot = blob;
  if (open_.size() >= sweep_at_) {
    absl::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(64, 2 * open_.size());
  }
  return blob;
}

absl::StatusOr<std::shared_ptr<const ReadableFile>> LocalBlobStore::OpenStored(const BlobId& id) {
  absl::StatusOr<std::shared_ptr<const ReadableFile>> file = fs_->OpenDirect(paths_.SealedPath(id));
  if (!file.ok() && IsAbsent(file.status())) return BlobMissing(id);
  return file;
}

absl::Status LocalBlobStore::Remove(const BlobId& id) {
  MutexLock removing(&remove_mu_);
  const std::string path = paths_.SealedPath(id);
  absl::StatusOr<std::shared_ptr<const ReadableFile>> file = fs_->OpenRead(path);
  if (!file.ok()) return IsAbsent(file.status()) ? fs_->Remove(paths_.PartPath(id)) : file.status();
  SCONCE_RETURN_IF_ERROR(fs_->Remove(path));
  const bool counted = sort_.Looked(id);
  MutexLock lock(&mu_);
  open_.erase(id);
  ++removals_;
  if (!counted) return absl::OkStatus();
  --stats_.blobs;
  stats_.physical_bytes -= (*file)->allocated_bytes();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<BlobId>> LocalBlobStore::List() {
  std::vector<BlobId> ids;
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> projects, fs_->List(paths_.BlobsDir()));
  for (const std::string& project : projects) {
    const std::optional<uint64_t> uid = ParseProjectDirName(project);
    if (!uid.has_value()) continue;  // not ours, as below
    const std::string project_dir = paths_.ProjectDir(*uid);
    SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> shards, fs_->List(project_dir));
    for (const std::string& shard : shards) {
      if (shard.size() != 2) continue;
      SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_->List(absl::StrCat(project_dir, "/", shard)));
      for (const std::string& name : names) {
        if (const std::optional<BlobId> id = ParseSealedName(*uid, shard, name)) ids.push_back(*id);
      }
    }
  }
  return ids;
}

absl::Status LocalBlobStore::DropUnsealed(const std::function<bool(const BlobId&)>& resumable) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_->List(paths_.UploadsDir()));
  for (const std::string& name : names) {
    // A blob that is sealed too got its new name just before a power cut: what is here is a second name of it.
    const std::optional<BlobId> id = ParsePartName(name);
    const bool sealed = id && fs_->OpenRead(paths_.SealedPath(*id)).ok();
    if (id && !sealed && resumable(*id)) continue;
    SCONCE_RETURN_IF_ERROR(fs_->Remove(absl::StrCat(paths_.UploadsDir(), "/", name)));
  }
  return absl::OkStatus();
}

absl::Status LocalBlobStore::DropOldOrphans() {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_->List(paths_.OrphansDir()));
  for (const std::string& name : names) {
    const std::optional<Orphan> orphan = ParseOrphanName(name);
    if (!orphan.has_value() || clock_->Now() - orphan->moved <= kKeepOrphans) continue;
    SCONCE_RETURN_IF_ERROR(fs_->Remove(absl::StrCat(paths_.OrphansDir(), "/", name)));
    Log(Severity::kInfo, "orphan_removed", {{"blob", orphan->id.Hex()}});
  }
  return absl::OkStatus();
}

absl::Status LocalBlobStore::MoveToOrphans(absl::Span<const BlobId> unknown) {
  absl::flat_hash_set<std::string> shards;
  for (const BlobId& id : unknown) {
    const absl::Status moved = fs_->Rename(paths_.SealedPath(id), paths_.OrphanPath(id, clock_->Now()));
    shards.insert(paths_.ShardDir(id));
    if (IsAbsent(moved)) continue;  // removed meanwhile, or moved before an error
    SCONCE_RETURN_IF_ERROR(moved);
    Log(Severity::kWarn, "orphan_moved", {{"blob", id.Hex()}});
  }
  // The new name first: between the two, a crash may show the blob twice, but never lose it.
  if (!unknown.empty()) SCONCE_RETURN_IF_ERROR(fs_->SyncDirectory(paths_.OrphansDir()));
  for (const std::string& shard : shards) SCONCE_RETURN_IF_ERROR(fs_->SyncDirectory(shard));
  return absl::OkStatus();
}

absl::Status LocalBlobStore::CountSorted(absl::Span<const BlobId> known) {
  MutexLock removing(&remove_mu_);
  BlobStats found;
  for (const BlobId& id : known) {
    const auto file = fs_->OpenRead(paths_.SealedPath(id));
    if (IsAbsent(file.status())) continue;
    SCONCE_RETURN_IF_ERROR(file.status());
    ++found.blobs;
    found.physical_bytes += (*file)->allocated_bytes();
  }
  sort_.Advance();
  MutexLock lock(&mu_);
  stats_.blobs += found.blobs;
  stats_.physical_bytes += found.physical_bytes;
  return absl::OkStatus();
}

absl::StatusOr<SortStep> LocalBlobStore::SortSealed(const KnownBlobs& known, int64_t at_most) {
  if (!dropped_old_orphans_) SCONCE_RETURN_IF_ERROR(DropOldOrphans());
  dropped_old_orphans_ = true;
  SortStep step;
  SCONCE_ASSIGN_OR_RETURN(const std::vector<BlobId> blobs, sort_.Next(at_most));
  step.looked_at = static_cast<int64_t>(blobs.size());
  step.ended = blobs.empty();
  if (step.ended) return step;
  SCONCE_ASSIGN_OR_RETURN(const std::vector<bool> are_known, known(blobs));
  std::vector<BlobId> counted, unknown;
  for (size_t i = 0; i < blobs.size(); ++i) (are_known[i] ? counted : unknown).push_back(blobs[i]);
  SCONCE_RETURN_IF_ERROR(MoveToOrphans(unknown));
  SCONCE_RETURN_IF_ERROR(CountSorted(counted));
  step.moved = static_cast<int64_t>(unknown.size());
  return step;
}

BlobStats LocalBlobStore::GetStats() const {
  MutexLock lock(&mu_);
  BlobStats stats = stats_;
  stats.complete = sort_.ended();
  return stats;
}

}  // namespace sconce::blob
