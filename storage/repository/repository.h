#ifndef SCONCE_STORAGE_REPOSITORY_REPOSITORY_H_
#define SCONCE_STORAGE_REPOSITORY_REPOSITORY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/file_system.h"
#include "base/strings.h"
#include "storage/format/manifest.h"
#include "storage/repository/change_log.h"
#include "storage/repository/checkpoint_filter.h"
#include "storage/repository/types.h"
#include "storage/repository/upload.h"

namespace sconce::repository {

// A push in progress: the bytes of the manifest's bulk storages come in index order without padding (format::BulkBytes
// of them), in pieces of any size. Used by one thread at a time; hashing and writing happen on the repository's own
// threads, with a fixed number of buffers. Destroyed without Commit, nothing of it stays. Ends before the repository.
class Push {
 public:
  virtual ~Push() = default;
  // Takes the next bytes; may block on the disk. OFFSET_OUT_OF_RANGE past the last byte; DISK_FULL or IO_ERROR end the
  // push.
  virtual absl::Status Write(ByteSpan bytes) = 0;
  virtual int64_t received_bytes() const = 0;
  virtual int64_t expected_bytes() const = 0;
};

class CheckpointPush : public Push {
 public:
  // UPLOAD_INCOMPLETE before the last byte. Durable and visible when it returns OK; the same request_id and content
  // answers the version committed first, the same request_id with other content is REQUEST_ID_REUSED.
  virtual absl::StatusOr<Checkpoint> Commit() = 0;
};

class ModulePush : public Push {
 public:
  // MODULE_ALREADY_EXISTS unless the stored archive has the same digest (then OK: write-once, idempotent).
  virtual absl::StatusOr<Module> Commit() = 0;
};

// Bytes in a mapped blob; `owner` keeps them, also after the version was deleted.
struct MappedBytes {
  ByteSpan bytes;
  std::shared_ptr<const void> owner;
};

// Where a chunk lies in a file, for a process that maps it itself. `offset` is a multiple of 64 at least: content that
// a small storage brought first is shared where it lies, so map from the page below it.
struct Extent {
  int fd = -1;  // read-only, kept open by `owner`
  int64_t offset = 0;
  int64_t size_bytes = 0;
  std::shared_ptr<const void> owner;
};

// A version (or module) open for reading: deleting it meanwhile does not harm. Thread-safe.
class StoredObject {
 public:
  virtual ~StoredObject() = default;
  // As pushed, with chunk digests.
  virtual const format::Manifest& manifest() const = 0;
  // Exactly the stored encoding.
  virtual ByteSpan manifest_bytes() const = 0;
  // Chunk `chunk` of bulk storage `storage`, read into memory and checked against its XXH3. May block. CHUNK_CORRUPT
  // after the version and every other one that shares the chunk were quarantined.
  virtual absl::StatusOr<MappedBytes> ReadChunk(format::StorageIndex storage, int64_t chunk) const = 0;
  virtual Extent Locate(format::StorageIndex storage, int64_t chunk) const = 0;
};

class OpenCheckpoint : public StoredObject {
 public:
  virtual const Checkpoint& info() const = 0;
};

class OpenModule : public StoredObject {  // one bulk or inline storage: the archive
 public:
  virtual const Module& info() const = 0;
};

// A file that holds incoming bytes until they can be parsed; its name is gone already, its space comes back when it
// dies.
class Spool {
 public:
  virtual ~Spool() = default;
  virtual absl::Status Append(ByteSpan bytes) = 0;  // DISK_FULL, IO_ERROR
  virtual int64_t size_bytes() const = 0;
  virtual absl::StatusOr<ByteSpan> Map() = 0;  // no Append after it; valid while this lives
};

struct RepositoryOptions {
  std::string data_dir;
  std::string backup_dir;  // absolute; backups go below it. Empty: none are taken
  FileSystem* file_system = &PosixFileSystem();
  const Clock* clock = nullptr;  // null: the system's
  int ingest_threads = 2;        // hash and write
  int ingest_buffers = 8;        // of 4 MiB each: full chunks being hashed and written, for all pushes
  int max_pushes = 64;  // at once, with streams of uploads; each may hold one more buffer. Beyond: SERVER_OVERLOADED
  int64_t min_free_bytes = int64_t{256} << 20;  // pushes are refused (DISK_FULL) when the disk has less
  int64_t scrub_bytes_per_second = 0;           // at most, by the scrub in the background; 0: no scrub
  absl::Duration upload_ttl = absl::Hours(24);  // an upload not touched for so long is dropped
  // How fast compaction copies in the background; 0: no limit. CollectGarbage does not wait.
  int64_t compact_bytes_per_second = int64_t{64} << 20;
  // Of the change log, these newest and those younger than that are kept: how far back a watch can resume. An entry
  // takes some 100 bytes.
  int64_t change_log_entries = 1'000'000;
  absl::Duration change_log_age = absl::Hours(7 * 24);
};

// What one pass of the collector did.
struct CollectReport {
  int64_t retired = 0;         // versions that expired or that retention deleted
  int64_t versions = 0;        // deleted versions and modules whose references were dropped
  int64_t removed_chunks = 0;  // chunks nothing referred to any more
  int64_t removed_blobs = 0;
  int64_t compacted_blobs = 0;  // whose needed chunks were copied into others
  int64_t freed_bytes = 0;      // by removing and compacting
  int64_t postponed = 0;        // deleted versions that wait for a push in progress to end
  int64_t expired_uploads = 0;  // not touched for too long, or of deleted runs
};

// What to verify: a version (all three), a run with all in it, a project, or everything (all empty).
struct VerifyScope {
  std::string project;
  std::string run;
  std::string selector;
};

// A version or (version 0) a module.
struct ObjectName {
  RunName run;
  int64_t version = 0;
  std::string module;
};

struct VerifyProgress {
  int64_t verified_bytes = 0, total_bytes = 0;  // about; equal at the end
  int64_t blobs = 0, chunks = 0;                // compared so far
  int64_t damaged_footers = 0;                  // blobs that serve but that a rebuild of the catalog could not use
  std::vector<ObjectName> damaged;              // quarantined, now or before; those new since the last step
  bool done = false;
};

// A verification under way: stored bytes, as the disk has them, against their digests, and the catalog against both.
// What is damaged is quarantined, what is right again is healed. For one thread; ends before the repository.
class Verification {
 public:
  virtual ~Verification() = default;
  // Does a piece of the work: at most some 4 MiB, or one version. CATALOG_CORRUPT when the catalog itself is damaged.
  virtual absl::StatusOr<VerifyProgress> Step() = 0;
};

struct RepositoryStats {
  int64_t projects = 0, runs = 0, checkpoints = 0, blobs = 0, physical_bytes = 0, free_bytes = 0;
  bool counting_blobs = false;  // `blobs` and `physical_bytes` are of those looked at since the start
  // Since the start: versions committed, what they added to the disk and what they found there, what was collected.
  int64_t commits = 0, stored_bytes = 0, deduplicated_bytes = 0, collected_bytes = 0;
  std::optional<absl::Time> last_commit_time;
};

// What a backup holds. Its revision is that of the last change in it.
struct BackupReport {
  std::string directory;  // as `sconced --data-dir` takes it
  int64_t revision = 0;
  int64_t blobs = 0;
  int64_t linked_bytes = 0;   // of blobs that share their bytes with the original
  int64_t copied_bytes = 0;   // of those that could not, being on another disk
  int64_t missing_blobs = 0;  // that the catalog names and the disk does not have
};

// Versioned checkpoints on disk: orders blob durability before the catalog's batch, so that what is visible is whole.
// Thread-safe; every call may block on the disk. Errors carry a Reason.
class Repository {
 public:
  // Takes the data directory's lock (DATA_DIR_LOCKED), checks its format (DATA_DIR_INCOMPATIBLE), recovers after a
  // crash.
  static absl::StatusOr<std::unique_ptr<Repository>> Open(const RepositoryOptions& options);
  virtual ~Repository() = default;

  // Runs. `start`, `limit` (more than 0): paging, `start` being a page's `next` (PAGE_TOKEN_INVALID otherwise); pages
  // are ordered by project and run name. Create: RUN_ALREADY_EXISTS unless the same request made it.
  virtual absl::StatusOr<Run> CreateRun(const RunName& name, const Labels& labels, const BestRule& best,
                                        const RetentionRule& retention, const RequestKey& request) = 0;
  virtual absl::StatusOr<Run> GetRun(const RunName& name) = 0;
  virtual absl::StatusOr<Page<Run>> ListRuns(const std::string& project, const std::string& start,
                                             int64_t limit) = 0;  // "" project: all
  virtual absl::StatusOr<Run> UpdateRun(const RunName& name, const RunUpdate& update) = 0;
  // RUN_NOT_EMPTY unless `force`, which deletes what is in it.
  virtual absl::Status DeleteRun(const RunName& name, const std::string& etag, bool force) = 0;

  // Checkpoints. NAME_INVALID, RUN_NOT_FOUND, SELECTOR_INVALID, CHECKPOINT_NOT_FOUND, ALIAS_NOT_FOUND,
  // LATEST_UNDEFINED, BEST_UNDEFINED.
  virtual absl::StatusOr<std::unique_ptr<CheckpointPush>> BeginPush(const PushOptions& options,
                                                                    format::Manifest manifest) = 0;
  virtual absl::StatusOr<Checkpoint> GetCheckpoint(const CheckpointRef& ref) = 0;
  virtual absl::StatusOr<std::shared_ptr<const OpenCheckpoint>> OpenRead(const CheckpointRef& ref) = 0;
  // Those that the query's filter takes, in its order. A call reads a bounded number of records, so a page may be short
  // and yet have a `next`, which goes with the same query (PAGE_TOKEN_INVALID otherwise).
  virtual absl::StatusOr<Page<Checkpoint>> ListCheckpoints(const RunName& run, const CheckpointQuery& query,
                                                           const std::string& start, int64_t limit) = 0;
  // All, newest first.
  absl::StatusOr<Page<Checkpoint>> ListCheckpoints(const RunName& run, const std::string& start, int64_t limit) {
    return ListCheckpoints(run, CheckpointQuery(), start, limit);
  }
  virtual absl::StatusOr<Checkpoint> UpdateCheckpoint(const CheckpointRef& ref, const CheckpointUpdate& update) = 0;
  // CHECKPOINT_PROTECTED when an alias, a pin or `protect` (a deployment) holds it; `force` overrides aliases and pins
  // only and removes them.
  virtual absl::Status DeleteCheckpoint(const CheckpointRef& ref, const std::string& etag, bool force,
                                        bool validate_only) = 0;

  // Aliases: set creates or moves. `etag` "" sets unconditionally; otherwise it must be the alias's current one
  // (ETAG_MISMATCH). `must_be_new`: ETAG_MISMATCH if it exists.
  virtual absl::StatusOr<Alias> SetAlias(const RunName& run, const std::string& alias, const std::string& selector,
                                         const std::string& etag, bool must_be_new) = 0;
  virtual absl::StatusOr<Alias> GetAlias(const RunName& run, const std::string& alias) = 0;
  virtual absl::StatusOr<Page<Alias>> ListAliases(const RunName& run, const std::string& start, int64_t limit) = 0;
  virtual absl::Status DeleteAlias(const RunName& run, const std::string& alias, const std::string& etag) = 0;

  // Modules: TorchScript archives, write-once.
  virtual absl::StatusOr<std::unique_ptr<ModulePush>> BeginModulePush(const RunName& run, const std::string& module,
                                                                      int64_t size_bytes, const Labels& labels,
                                                                      bool create_run) = 0;
  virtual absl::StatusOr<Module> GetModule(const RunName& run, const std::string& module) = 0;
  virtual absl::StatusOr<std::shared_ptr<const OpenModule>> OpenReadModule(const RunName& run,
                                                                           const std::string& module) = 0;
  virtual absl::StatusOr<Page<Module>> ListModules(const RunName& run, const std::string& start, int64_t limit) = 0;
  virtual absl::Status DeleteModule(const RunName& run, const std::string& module) = 0;

  // Deployments: opaque records of the model service, by model name. Put replaces, or with `must_be_new` is
  // MODEL_ALREADY_EXISTS; Delete of an unknown one is MODEL_NOT_FOUND. Listed in the order of their names.
  virtual absl::Status PutDeployment(const std::string& model, const std::string& record, bool must_be_new) = 0;
  virtual absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ListDeployments() = 0;
  virtual absl::Status DeleteDeployment(const std::string& model) = 0;

  // Uploads (upload.h).
  //
  // Opens an upload of the run, or answers the one of that id as it is: so ranks join, and an interrupted push goes on.
  // UPLOAD_ALREADY_EXISTS when that one was begun with other options (the request id is one of them) or parts. With an
  // empty `upload_id` the repository chooses: with a request id always the same for the same principal and id, so that
  // the same request finds its upload again for as long as that is kept (24 h beyond its commit). After an abort the id
  // may be used anew. `expected_parts`: 1 to kMaxUploadParts, 0 is 1. ARGUMENT_INVALID, NAME_INVALID, RUN_NOT_FOUND.
  virtual absl::StatusOr<Upload> BeginUpload(const PushOptions& options, const std::string& upload_id,
                                             int64_t expected_parts) = 0;
  // A stream of part `part`, 0 to expected_parts - 1. `manifest` is the part's, encoded, without chunk digests; empty:
  // the part has it already (ARGUMENT_INVALID when it has not). It is durable when this returns. MANIFEST_INVALID, also
  // when the part was begun with another one; MANIFEST_VERSION_UNSUPPORTED; INPUT_LIMIT_EXCEEDED; UPLOAD_NOT_FOUND;
  // ARGUMENT_INVALID for another part number; SERVER_OVERLOADED.
  virtual absl::StatusOr<std::unique_ptr<PartStream>> BeginPart(const UploadRef& upload, int64_t part,
                                                                ByteSpan manifest, DurableCallback durable) = 0;
  // Makes the parts one version, once: every call gets the same, also after a restart, for 24 h. The upload's request
  // id is that of the commit: when another push committed it before, that version is the answer, and when that had
  // other content REQUEST_ID_REUSED. UPLOAD_INCOMPLETE naming the parts and chunks that are missing: send them and call
  // again. PARTS_OVERLAP, PARTS_INCOMPLETE, ATTRIBUTE_CONFLICT: abort it. UPLOAD_NOT_FOUND; RUN_NOT_FOUND when the run
  // was deleted meanwhile.
  virtual absl::StatusOr<Checkpoint> CommitUpload(const UploadRef& upload) = 0;
  // Drops the upload; its space comes back by itself. OK when it was aborted in the last 24 h, or committed (the
  // version stays). UPLOAD_NOT_FOUND.
  virtual absl::Status AbortUpload(const UploadRef& upload) = 0;
  // UPLOAD_NOT_FOUND: never begun, aborted, expired, or committed more than 24 h ago. Reads records alone.
  virtual absl::StatusOr<Upload> GetUpload(const UploadRef& upload) = 0;

  // Retention and expire times (retention.h). Evaluated in the batch of each commit to the run, and by the collector's
  // passes; a changed policy, alias or pin takes effect at the next of them.
  //
  // Nothing is retired before this was called: the protector must be set, and know what is deployed.
  virtual void StartRetention() = 0;
  // What would happen to each version now, newest first, were the policy `rule` (nullopt: the run's own). The same
  // decision as the real one. RUN_NOT_FOUND, PAGE_TOKEN_INVALID, ARGUMENT_INVALID.
  virtual absl::StatusOr<Page<RetentionDecision>> PreviewRetention(const RunName& run,
                                                                   const std::optional<RetentionRule>& rule,
                                                                   const std::string& start, int64_t limit) = 0;

  // The change log (change_log.h): what changed after revision `after`, across restarts. REVISION_NOT_KEPT.
  virtual absl::StatusOr<ChangePage> ReadChanges(int64_t after, const ChangeFilter& filter, int64_t limit) = 0;
  // The revision of the last change so far; 0 before the first.
  virtual absl::StatusOr<int64_t> GetRevision() = 0;
  // `listener` runs after changes became visible, on the thread that made them: it must be quick and must not call the
  // repository. One at a time; null takes it away, and when this returns the former one runs no more.
  virtual void SetRevisionListener(std::function<void()> listener) = 0;

  virtual absl::StatusOr<std::unique_ptr<Spool>> NewSpool() = 0;
  // Takes no time by what is stored, but for the first call, which reads each run's record. Blobs are counted in the
  // background after Open; CollectGarbage returns when they are.
  virtual absl::StatusOr<RepositoryStats> GetStats() = 0;
  // Space of deleted versions comes back by itself, soon after; this does it now and returns when it is done. What a
  // push in progress relies on stays for a later pass.
  virtual absl::StatusOr<CollectReport> CollectGarbage() = 0;
  // What CollectGarbage would do: deleted versions, blobs that would go and their bytes. Takes time by the number of
  // blobs.
  virtual absl::StatusOr<CollectReport> PreviewGarbage() = 0;

  // Integrity. BeginVerify: RUN_NOT_FOUND and the other errors of a reference; a project nothing was pushed to is
  // empty.
  virtual absl::StatusOr<std::unique_ptr<Verification>> BeginVerify(const VerifyScope& scope) = 0;
  virtual Integrity GetIntegrity() = 0;
  // `listener` gets what is known of damage now, and after every change of it, on any thread; it must be quick and call
  // nothing of the repository. Set once, before use.
  virtual void SetIntegrityListener(std::function<void(const Integrity&)> listener) = 0;

  // A consistent copy of everything, taken while writes go on, as a data directory of its own: `directory` is new and
  // below RepositoryOptions::backup_dir. It shares the bytes of blobs where it can; either may go on being used, and
  // none harms the other. Nothing is removed from the store while it is taken. After an error nothing stays.
  // BACKUP_DISABLED, BACKUP_PATH_INVALID, DISK_FULL, IO_ERROR.
  virtual absl::StatusOr<BackupReport> Backup(const std::string& directory) = 0;

  // `listener` runs after every change of a run's checkpoints or aliases, on a thread of the repository; it must be
  // quick. Set once, before use.
  virtual void SetChangeListener(std::function<void(const RunName&)> listener) = 0;
  // True for a version that something outside (a deployment) needs: it is not deleted. Set once, before use.
  virtual void SetProtector(std::function<bool(const RunName&, int64_t version)> protect) = 0;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_REPOSITORY_H_
