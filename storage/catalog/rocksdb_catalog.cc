#include "storage/catalog/rocksdb_catalog.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/file_system.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/catalog/commit_queue.h"
#include "storage/catalog/keys.h"

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
  if (status.IsNoSpace()) {
    return MakeError(Reason::DISK_FULL, absl::StrCat(detail, "; free space on the data directory's disk"));
  }
  if (status.IsIOError() && detail.find("lock") != std::string::npos) {
    return MakeError(Reason::DATA_DIR_LOCKED, absl::StrCat(detail, "; another process has it open"));
  }
  return MakeError(Reason::IO_ERROR, detail);
}

rocksdb::Options ToRocksDb(const RocksDbOptions& options) {
  rocksdb::Options db;
  db.create_if_missing = true;
  // The default (point in time) would drop synced records after a flipped bit without a word.
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  db.track_and_verify_wals_in_manifest = true;
  db.paranoid_checks = true;
  db.paranoid_file_checks = true;
  db.write_buffer_size = static_cast<size_t>(options.write_buffer_bytes);
  db.max_write_buffer_number = 2;
  db.max_total_wal_size = static_cast<uint64_t>(4 * options.write_buffer_bytes);
  db.max_background_jobs = 2;
  db.max_open_files = 512;
  db.compression = rocksdb::kNoCompression;  // mostly digests
  db.info_log_level = rocksdb::WARN_LEVEL;
  db.max_log_file_size = 1 << 20;
  db.keep_log_file_num = 4;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(options.cache_bytes));
  table.cache_index_and_filter_blocks = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.format_version = 5;
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
  RocksDbCatalogImpl(std::unique_ptr<rocksdb::DB> db, std::string path, int64_t min_free_bytes, int64_t revision)
      : path_(std::move(path)),
        min_free_bytes_(min_free_bytes),
        db_(std::move(db)),
        newest_(db_.get(), nullptr),
        revision_(revision),
        queue_([this](std::vector<PendingChange>& group) { CommitGroup(group); }) {}

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override { return newest_.Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    return newest_.MultiGet(keys);
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    return newest_.Scan(begin, end, reverse, visit);
  }
  absl::StatusOr<int64_t> Apply(const ChangeSet& change) override { return queue_.Submit(change); }
  std::unique_ptr<CatalogReader> Snapshot() const override {
    return std::make_unique<RocksDbReader>(db_.get(), db_->GetSnapshot());
  }

 private:
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

  absl::Status Write(rocksdb::WriteBatch& batch) const {
    // The log takes the batch now, a table file takes it again later, and compaction a third time.
    const auto needed = static_cast<int64_t>(3 * batch.GetDataSize());
    SCONCE_ASSIGN_OR_RETURN(const int64_t free, PosixFileSystem().FreeBytes(path_));
    if (free - needed < min_free_bytes_) {
      return MakeError(
          Reason::DISK_FULL,
          absl::StrCat("the disk has ", HumanBytes(free), " left, of which the catalog keeps ",
                       HumanBytes(min_free_bytes_), " in reserve; free space on the data directory's disk"),
          {{"free_bytes", absl::StrCat(free)}});
    }
    rocksdb::WriteOptions options;
    options.sync = true;
    const rocksdb::Status status = db_->Write(options, &batch);
    // Nobody knows how much of it is in the log: not DISK_FULL, which says that nothing was applied.
    if (status.IsNoSpace()) {
      return MakeError(Reason::IO_ERROR, absl::StrCat("cannot write the catalog: ", status.ToString(),
                                                      "; free space on the data directory's disk and restart"));
    }
    return ToStatus(status, "write");
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
  const int64_t min_free_bytes_;
  const std::unique_ptr<rocksdb::DB> db_;
  const RocksDbReader newest_;
  int64_t revision_;   // of the committer thread alone
  CommitQueue queue_;  // last: its thread stops before the rest goes
};

absl::Status CheckSchema(rocksdb::DB* db) {
  const RocksDbReader reader(db, nullptr);
  SCONCE_ASSIGN_OR_RETURN(const std::optional<std::string> schema, reader.Get(SchemaKey()));
  const std::string ours = absl::StrCat(kSchemaVersion);
  if (schema == ours) return absl::OkStatus();
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
  return ToStatus(db->Put(options, SchemaKey(), ours), "write");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Catalog>> RocksDbCatalog::Open(const std::string& path, const RocksDbOptions& options) {
  rocksdb::DB* opened = nullptr;
  SCONCE_RETURN_IF_ERROR(ToStatus(rocksdb::DB::Open(ToRocksDb(options), path, &opened), "open"));
  std::unique_ptr<rocksdb::DB> db(opened);
  SCONCE_RETURN_IF_ERROR(CheckSchema(db.get()));
  int64_t revision = 0;
  SCONCE_RETURN_IF_ERROR(
      RocksDbReader(db.get(), nullptr)
          .Scan(LogPrefix(), PrefixEnd(LogPrefix()), true, [&](absl::string_view key, absl::string_view) {
            revision = ParseLogKey(key).value_or(0);
            return false;
          }));
  return std::make_unique<RocksDbCatalogImpl>(std::move(db), path, options.min_free_bytes, revision);
}

}  // namespace sconce::catalog
