#include "storage/catalog/rocksdb_catalog.h"

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/file_checksum.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <future>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/catalog/commit_queue.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/log_check.h"
#include "storage/catalog/rocksdb_file_system.h"
#include "storage/catalog/schema_migration.h"
#include "storage/catalog/torn_log.h"

namespace sconce::catalog {
namespace {

rocksdb::Slice ToSlice(absl::string_view s) {
  return {s.data(), s.size()};
}
absl::string_view FromSlice(const rocksdb::Slice& s) {
  return {s.data(), s.size()};
}

// The only place where a RocksDB error becomes ours.
absl::Status ToStatus(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string detail = absl::StrCat("cannot ", what, " the catalog: ", status.ToString());
  if (status.IsCorruption()) {
    return MakeError(
        Reason::CATALOG_CORRUPT,
        absl::StrCat(detail, "; restore the data directory from a backup, or rebuild the catalog from the blobs"));
  }
  if (IsDiskFull(status)) {
    return MakeError(Reason::DISK_FULL, absl::StrCat(detail, "; free space on the data directory's disk"));
  }
  if (status.IsIOError() && detail.find("lock") != std::string::npos) {
    return MakeError(Reason::DATA_DIR_LOCKED, absl::StrCat(detail, "; another process has it open"));
  }
  return MakeError(Reason::IO_ERROR, detail);
}

// What RocksDB has to say goes where everything else does, not into files of its own.
class InfoLog final : public rocksdb::Logger {
 public:
  InfoLog() : Logger(rocksdb::WARN_LEVEL) {}
  using Logger::Logv;
  void LogHeader(const char*, va_list) override {}  // its options, at every start
  void Logv(rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < GetInfoLogLevel() || level == rocksdb::HEADER_LEVEL) return;
    char text[1024];
    std::vsnprintf(text, sizeof text, format, arguments);
    Log(level == rocksdb::WARN_LEVEL ? Severity::kWarn : Severity::kError, "rocksdb", {{"message", text}});
  }
};

rocksdb::Options ToRocksDb(const RocksDbOptions& options, rocksdb::Env* env) {
  rocksdb::Options db;
  db.env = env;
  db.info_log = std::make_shared<InfoLog>();
  db.max_bgerror_resume_count = 0;  // the committer tells it when to go on
  db.create_if_missing = true;
  // The default (point in time) would drop synced records after a flipped bit without a word.
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  db.track_and_verify_wals_in_manifest = true;
  db.paranoid_checks = true;
  db.avoid_flush_during_shutdown = true;  // what is not in the log is not worth it: see PrepareMemtable
  db.file_checksum_gen_factory = rocksdb::GetFileChecksumGenCrc32cFactory();  // for Verify
  db.paranoid_file_checks = true;
  db.write_buffer_size = size_t{1} << 30;  // never reached: see PrepareMemtable
  db.arena_block_size = size_t{1} << 20;
  db.max_background_jobs = 2;
  db.max_open_files = 512;
  db.compression = rocksdb::kNoCompression;  // mostly digests
  // One level for a million versions (half a kilobyte each): a seek looks into every level, and that, not the disk, is
  // what a lookup among so many costs. What is compacted more often for it is little beside the blobs.
  db.max_bytes_for_level_base = uint64_t{512} << 20;
  // Indexes and filters live in the cache, so that its size bounds them, and in pieces of a block's size: whole, those
  // of one table are larger than a shard of the cache, and would be read again for each key.
  constexpr int kCacheShardBits = 4;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(options.cache_bytes), kCacheShardBits);
  table.cache_index_and_filter_blocks = true;
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.format_version = 5;
  // Nearly every key that is asked for is there, so the last level's filters would cost a lookup and save none. A chunk
  // that is new costs a block for it: nothing beside the four megabytes that it stands for.
  db.optimize_filters_for_hits = true;
  // Every call first finds its project and run: the records of thousands of runs fit, and are found in one step.
  constexpr size_t kRowCacheBytes = size_t{8} << 20;
  db.row_cache = rocksdb::NewLRUCache(kRowCacheBytes, kCacheShardBits);
  db.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return db;
}

// Reads, at the state that `snapshot` froze, or at the newest when it is null.
class RocksDbReader : public CatalogReader {
 public:
  RocksDbReader(rocksdb::DB* db, const rocksdb::Snapshot* snapshot) : db_(db), snapshot_(snapshot) {}
  ~RocksDbReader() override {
    if (snapshot_ != nullptr) db_->ReleaseSnapshot(snapshot_);
  }

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override {
    std::string value;
    const rocksdb::Status status = db_->Get(ReadOptions(), ToSlice(key), &value);
    if (status.IsNotFound()) return std::nullopt;
    SCONCE_RETURN_IF_ERROR(ToStatus(status, "read"));
    return std::optional<std::string>(std::move(value));
  }

  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    constexpr size_t kAtOnce = 1024;  // bounds the blocks pinned at a time
    std::vector<std::optional<std::string>> values(keys.size());
    std::vector<rocksdb::Slice> slices;
    std::vector<rocksdb::PinnableSlice> found(std::min(kAtOnce, keys.size()));
    std::vector<rocksdb::Status> statuses(found.size());
    for (size_t begin = 0; begin < keys.size(); begin += kAtOnce) {
      const size_t count = std::min(kAtOnce, keys.size() - begin);
      slices.clear();
      for (const std::string& key : keys.subspan(begin, count)) slices.push_back(ToSlice(key));
      db_->MultiGet(ReadOptions(), db_->DefaultColumnFamily(), count, slices.data(), found.data(), statuses.data());
      for (size_t i = 0; i < count; ++i) {
        if (!statuses[i].IsNotFound()) {
          SCONCE_RETURN_IF_ERROR(ToStatus(statuses[i], "read"));
          values[begin + i].emplace(found[i].data(), found[i].size());
        }
        found[i].Reset();
      }
    }
    return values;
  }

  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    rocksdb::ReadOptions options = ReadOptions();
    const rocksdb::Slice lower = ToSlice(begin), upper = ToSlice(end);
    options.iterate_lower_bound = &lower;
    if (!end.empty()) options.iterate_upper_bound = &upper;
    const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options));
    for (reverse ? it->SeekToLast() : it->SeekToFirst(); it->Valid(); reverse ? it->Prev() : it->Next()) {
      if (!visit(FromSlice(it->key()), FromSlice(it->value()))) return absl::OkStatus();
    }
    return ToStatus(it->status(), "scan");
  }

 private:
  rocksdb::ReadOptions ReadOptions() const {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot_;
    return options;
  }

  rocksdb::DB* const db_;  // outlives this
  const rocksdb::Snapshot* const snapshot_;
};

class RocksDbCatalogImpl final : public Catalog {
 public:
  RocksDbCatalogImpl(std::unique_ptr<rocksdb::Env> env, std::shared_ptr<SyncedLogs> logs,
                     std::unique_ptr<rocksdb::DB> db, std::string path, const RocksDbOptions& options, int64_t revision)
      : path_(std::move(path)),
        files_(*options.file_system),
        min_free_bytes_(options.min_free_bytes),
        write_buffer_bytes_(options.write_buffer_bytes),
        resume_timeout_(options.resume_timeout),
        env_(std::move(env)),
        logs_(std::move(logs)),
        db_(std::move(db)),
        newest_(db_.get(), nullptr),
        revision_(revision),
        queue_(std::make_unique<CommitQueue>([this](std::vector<PendingChange>& group) { CommitGroup(group); })) {}

  ~RocksDbCatalogImpl() override {
    queue_.reset();
    if (!resuming_.joinable()) return;
    rocksdb::CancelAllBackgroundWork(db_.get(), /*wait=*/false);  // ends it
    resuming_.join();
  }

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override { return newest_.Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    return newest_.MultiGet(keys);
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    return newest_.Scan(begin, end, reverse, visit);
  }
  absl::StatusOr<int64_t> Apply(const ChangeSet& change) override { return queue_->Submit(change); }
  absl::Status Verify() const override {
    SCONCE_RETURN_IF_ERROR(ToStatus(db_->VerifyChecksum(rocksdb::ReadOptions()), "verify"));
    SCONCE_RETURN_IF_ERROR(ToStatus(db_->VerifyFileChecksums(rocksdb::ReadOptions()), "verify"));
    return VerifyLogs();
  }
  std::unique_ptr<CatalogReader> Snapshot() const override {
    return std::make_unique<RocksDbReader>(db_.get(), db_->GetSnapshot());
  }
  absl::Status Checkpoint(const std::string& directory) override {
    // Changes wait meanwhile: a flush, and some links. A checkpoint keeps RocksDB from letting go of logs, and then
    // syncs those it has, which the manifest notes. Were the flush the checkpoint's own, the log that it has ended
    // would be among them; and if the manifest must be begun anew just then, since an entry of a compaction failed,
    // RocksDB 7.8 misses that log at the next start ("Missing WAL"), and the catalog does not open.
    MutexLock lock(&writing_);
    rocksdb::Status status = Flush();
    rocksdb::Checkpoint* made = nullptr;
    if (status.ok()) status = rocksdb::Checkpoint::Create(db_.get(), &made);
    const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
    if (status.ok()) status = checkpoint->CreateCheckpoint(directory);  // beside it, synced, then renamed
    return ToStatus(status, "copy");
  }

 private:
  // The logs as far as they are durable; a change that is being written is behind that.
  absl::Status VerifyLogs() const {
    for (const auto& [path, synced_bytes] : logs_->Get()) {
      if (synced_bytes <= 0) continue;
      const auto log = files_.OpenRead(path);
      if (IsAbsent(log.status())) {  // not needed any more, or of a copy that has its own name by now
        logs_->Remove(path);
        continue;
      }
      SCONCE_RETURN_IF_ERROR(log.status());
      const absl::Status whole = CheckSyncedLog(**log, synced_bytes, path.substr(path.rfind('/') + 1));
      if (HasReason(whole, Reason::CATALOG_CORRUPT)) flush_wanted_ = true;
      SCONCE_RETURN_IF_ERROR(whole);
    }
    return absl::OkStatus();
  }

  // What a group has changed so far: seen by the conditions of the changes behind.
  using Overlay = absl::flat_hash_map<absl::string_view, std::optional<absl::string_view>>;

  absl::Status CheckConditions(const ChangeSet& change, const Overlay& overlay) const {
    std::vector<std::string> stored_keys;
    std::vector<const Condition*> stored_conditions;
    for (const Condition& condition : change.conditions) {
      const auto changed = overlay.find(condition.key);
      if (changed == overlay.end()) {
        stored_keys.push_back(condition.key);
        stored_conditions.push_back(&condition);
      } else if (changed->second.has_value() != condition.value.has_value() ||
                 (condition.value && *changed->second != *condition.value)) {
        return ConditionFailed(condition.key);
      }
    }
    SCONCE_ASSIGN_OR_RETURN(const auto values, newest_.MultiGet(stored_keys));
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] != stored_conditions[i]->value) return ConditionFailed(stored_keys[i]);
    }
    return absl::OkStatus();
  }

  absl::Status Write(rocksdb::WriteBatch& batch) {
    MutexLock lock(&writing_);
    // The log takes the batch now, a table file takes it again later, and compaction a third time.
    const auto needed = static_cast<int64_t>(3 * batch.GetDataSize());
    SCONCE_ASSIGN_OR_RETURN(const int64_t free, files_.FreeBytes(path_));
    if (free - needed < min_free_bytes_) {
      return MakeError(
          Reason::DISK_FULL,
          absl::StrCat("the disk has ", HumanBytes(free), " left, of which the catalog keeps ",
                       HumanBytes(min_free_bytes_), " in reserve; free space on the data directory's disk"),
          {{"free_bytes", absl::StrCat(free)}});
    }
    SCONCE_RETURN_IF_ERROR(broken_);
    rocksdb::WriteOptions options;
    options.sync = true;
    for (int attempt = 0;; ++attempt) {
      rocksdb::Status status = PrepareMemtable();
      const bool tried = status.ok();
      if (tried) status = db_->Write(options, &batch);
      if (status.ok()) return absl::OkStatus();
      const absl::Status failed = ToStatus(status, "write");
      const rocksdb::Status resumed =
          tried && MemtableIsEmpty() ? rocksdb::Status::Aborted("cannot be asked") : Resume();
      Log(Severity::kError, "catalog_write_failed",
          {{"reason", status.ToString()}, {"resumed", resumed.ok() ? "yes" : resumed.ToString()}});
      if (resumed.IsAborted() || absl::StrContains(resumed.ToString(), "previous error")) {
        broken_ = Annotate(failed, "the catalog takes no more changes until the server is restarted");
        return tried ? Undecided(broken_) : broken_;
      }
      if (!resumed.ok()) return tried ? Undecided(failed) : failed;
      if (attempt > 0) return failed;
    }
  }

  // After a failed write RocksDB is told to go on by Resume: it writes what it has in memory into a table and begins a
  // new log, after which the old one, in which nobody knows what stands, is not read any more; so a change in it was
  // not applied. Three traps of RocksDB 7.8 are kept out of the way of that:
  //
  // * With nothing in memory it would go on with the old log, and stumble over that (Debian's build has its assertions
  //   on). So there is always something in memory: at least the schema number, put there again without the log.
  // * When the log fails while a flush is scheduled but has not begun, Resume waits for ever for that flush. So RocksDB
  //   never flushes by itself: this thread does, and waits for it, before a write.
  // * Resume waits until no compaction runs, and a compaction that fails because the disk is full begins anew at once,
  //   while resuming but not while it is stopped. So compactions are brought to their end before.
  rocksdb::Status PrepareMemtable() const {
    if (flush_wanted_ || Property(rocksdb::DB::Properties::kCurSizeActiveMemTable) >= write_buffer_bytes_) {
      if (rocksdb::Status status = Flush(); !status.ok()) return status;
    }
    if (!MemtableIsEmpty()) return rocksdb::Status::OK();
    std::string schema;  // as it is stored: it may be older than this build's, while it is migrated
    if (rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), SchemaKey(), &schema); !status.ok()) return status;
    rocksdb::WriteOptions unlogged;
    unlogged.disableWAL = true;
    return db_->Put(unlogged, SchemaKey(), schema);
  }

  rocksdb::Status Flush() const {
    rocksdb::FlushOptions options;
    options.allow_write_stall = true;
    rocksdb::Status status = db_->Flush(options);
    if (!status.ok()) return status;
    flush_wanted_ = false;
    // It returns when the table is there, some microseconds before the log that it ended is let go of.
    while (Property(rocksdb::DB::Properties::kNumRunningFlushes) > 0) std::this_thread::yield();
    return status;
  }

  // Aborted when it does not come back: the second trap again, laid by a compaction that fails just when this thread
  // has asked for a flush. "Writer has previous error" when the log failed under a checkpoint, in another thread, just
  // while this one was writing to it (rocksdb_file_system.cc).
  rocksdb::Status Resume() {
    rocksdb::Status status = db_->PauseBackgroundWork();
    if (status.ok()) status = db_->ContinueBackgroundWork();
    if (!status.ok()) return status;
    std::packaged_task<rocksdb::Status()> task([this] { return db_->Resume(); });
    std::future<rocksdb::Status> resumed = task.get_future();
    resuming_ = std::thread(std::move(task));
    if (resumed.wait_for(absl::ToChronoMilliseconds(resume_timeout_)) != std::future_status::ready) {
      return rocksdb::Status::Aborted("does not come back");
    }
    resuming_.join();
    return resumed.get();
  }

  bool MemtableIsEmpty() const { return Property(rocksdb::DB::Properties::kNumEntriesActiveMemTable) == 0; }

  int64_t Property(const std::string& name) const {
    uint64_t value = 0;
    SCONCE_CHECK(db_->GetIntProperty(name, &value));
    return static_cast<int64_t>(value);
  }

  // Runs on the committer thread alone.
  void CommitGroup(std::vector<PendingChange>& group) {
    rocksdb::WriteBatch batch;
    Overlay overlay;
    const int64_t revision_before = revision_;
    std::vector<PendingChange*> accepted;
    for (PendingChange& pending : group) {
      const ChangeSet& change = *pending.change;
      if (absl::Status status = CheckConditions(change, overlay); !status.ok()) {
        pending.result = std::move(status);
        continue;
      }
      const bool last = &pending == &group.back();  // nobody behind looks at the overlay
      for (const std::string& key : change.deletes) {
        SCONCE_CHECK(batch.Delete(ToSlice(key)).ok());
        if (!last) overlay[key] = std::nullopt;
      }
      for (const auto& [key, value] : change.puts) {
        SCONCE_CHECK(batch.Put(ToSlice(key), ToSlice(value)).ok());
        if (!last) overlay[key] = absl::string_view(value);
      }
      for (const std::string& entry : change.log) {
        SCONCE_CHECK(batch.Put(ToSlice(LogKey(++revision_)), ToSlice(entry)).ok());
      }
      pending.result = revision_;
      accepted.push_back(&pending);
    }
    if (accepted.empty()) return;
    if (absl::Status status = Write(batch); !status.ok()) {
      revision_ = revision_before;
      for (PendingChange* pending : accepted) pending->result = status;
    }
  }

  const std::string path_;
  FileSystem& files_;
  const int64_t min_free_bytes_;
  const int64_t write_buffer_bytes_;
  const absl::Duration resume_timeout_;
  Mutex writing_;  // held by whoever makes RocksDB write: the committer thread, or a checkpoint
  const std::unique_ptr<rocksdb::Env> env_;
  const std::shared_ptr<SyncedLogs> logs_;
  const std::unique_ptr<rocksdb::DB> db_;
  const RocksDbReader newest_;
  // A log is damaged: the next change is preceded by a flush, after which nobody needs the log.
  mutable std::atomic<bool> flush_wanted_{false};
  int64_t revision_;      // of the committer thread alone
  absl::Status broken_;   // of the committer thread alone: why nothing is written any more
  std::thread resuming_;  // of the committer thread alone, and of the destructor: a Resume that did not come back
  std::unique_ptr<CommitQueue> queue_;  // until the destructor: its thread stops before the rest goes
};

// The schema number of the catalog; that of this build is written into a new one.
absl::StatusOr<int64_t> CheckSchema(rocksdb::DB* db) {
  const RocksDbReader reader(db, nullptr);
  SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> schema, reader.Get(SchemaKey()));
  const std::string ours = absl::StrCat(kSchemaVersion);
  for (int64_t known = kOldestSchemaVersion; known <= kSchemaVersion; ++known) {
    if (schema == absl::StrCat(known)) return known;
  }
  if (schema) {
    return MakeError(Reason::DATA_DIR_INCOMPATIBLE,
                     absl::StrCat("the catalog has schema ", Quoted(*schema), " and this build reads ", ours,
                                  "; start the release of Sconce that wrote it"),
                     {{"found", *schema}, {"supported", ours}});
  }
  bool empty = true;
  SCONCE_RETURN_IF_ERROR(
      reader.Scan("", "", false, [&](absl::string_view, absl::string_view) { return empty = false; }));
  if (!empty) {
    return MakeError(Reason::DATA_DIR_INCOMPATIBLE, "the catalog has no schema number: it is not one of Sconce's");
  }
  rocksdb::WriteOptions options;
  options.sync = true;
  SCONCE_RETURN_IF_ERROR(ToStatus(db->Put(options, SchemaKey(), ours), "write"));
  return kSchemaVersion;
}

// A database that nobody writes.
class ReadOnlyCatalog final : public CatalogReader {
 public:
  ReadOnlyCatalog(std::unique_ptr<rocksdb::Env> env, std::unique_ptr<rocksdb::DB> db)
      : env_(std::move(env)), db_(std::move(db)), reader_(db_.get(), nullptr) {}

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override { return reader_.Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    return reader_.MultiGet(keys);
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    return reader_.Scan(begin, end, reverse, visit);
  }

 private:
  const std::unique_ptr<rocksdb::Env> env_;
  const std::unique_ptr<rocksdb::DB> db_;
  const RocksDbReader reader_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CatalogReader>> RocksDbCatalog::OpenReadOnly(const std::string& path,
                                                                            const RocksDbOptions& options) {
  std::unique_ptr<rocksdb::Env> env = MakeRocksDbEnv(*options.file_system, options.failure_pause);
  rocksdb::Options db_options = ToRocksDb(options, env.get());
  db_options.create_if_missing = false;
  rocksdb::DB* opened = nullptr;
  SCONCE_RETURN_IF_ERROR(ToStatus(rocksdb::DB::OpenForReadOnly(db_options, path, &opened), "open"));
  auto catalog = std::make_unique<ReadOnlyCatalog>(std::move(env), std::unique_ptr<rocksdb::DB>(opened));
  SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> schema, catalog->Get(SchemaKey()));
  int64_t number = 0;
  if (schema && absl::SimpleAtoi(*schema, &number) && number >= 1 && number <= kSchemaVersion) return catalog;
  return MakeError(Reason::DATA_DIR_INCOMPATIBLE,
                   absl::StrCat("the catalog has schema ", Quoted(schema.value_or("")), " and this build reads up to ",
                                kSchemaVersion, "; use the release of Sconce that wrote it"));
}

absl::StatusOr<std::unique_ptr<Catalog>> RocksDbCatalog::Open(const std::string& path, const RocksDbOptions& options) {
  SCONCE_RETURN_IF_ERROR(CheckLogs(*options.file_system, path));
  const auto logs = std::make_shared<SyncedLogs>();
  std::unique_ptr<rocksdb::Env> env = MakeRocksDbEnv(*options.file_system, options.failure_pause, logs);
  rocksdb::DB* opened = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(ToRocksDb(options, env.get()), path, &opened);
  if (status.IsCorruption()) {
    SCONCE_ASSIGN_OR_RETURN(const bool dropped, DropTornBatch(*options.file_system, path));
    if (dropped) status = rocksdb::DB::Open(ToRocksDb(options, env.get()), path, &opened);
  }
  SCONCE_RETURN_IF_ERROR(ToStatus(status, "open"));
  std::unique_ptr<rocksdb::DB> db(opened);
  SCONCE_ASSIGN_OR_RETURN(const int64_t schema, CheckSchema(db.get()));
  int64_t revision = 0;
  SCONCE_RETURN_IF_ERROR(
      RocksDbReader(db.get(), nullptr)
          .Scan(LogPrefix(), PrefixEnd(LogPrefix()), true, [&](absl::string_view key, absl::string_view) {
            revision = ParseLogKey(key).value_or(0);
            return false;
          }));
  auto catalog = std::make_unique<RocksDbCatalogImpl>(std::move(env), logs, std::move(db), path, options, revision);
  SCONCE_RETURN_IF_ERROR(MigrateSchema(*catalog, schema));
  return catalog;
}

}  // namespace sconce::catalog
