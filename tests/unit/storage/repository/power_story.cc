#include "tests/unit/storage/repository/power_story.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "storage/blob/local_blob_store.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "tests/support/store_audit.h"

namespace sconce::repository {
namespace {

// Small enough that table files are written and compacted on the way.
catalog::RocksDbOptions CatalogOptions(FileSystem& files) {
  catalog::RocksDbOptions options;
  options.file_system = &files;
  options.write_buffer_bytes = 3000;
  options.failure_pause = absl::Milliseconds(1);
  options.resume_timeout = absl::Seconds(5);
  options.min_free_bytes = 0;
  return options;
}

std::string Version(int64_t version) {
  return absl::StrCat(version);
}

bool SaysItIsGone(const absl::Status& status) {
  return HasReason(status, Reason::CHECKPOINT_NOT_FOUND) || HasReason(status, Reason::RUN_NOT_FOUND);
}

}  // namespace

PowerStory::PowerStory() {
  EXPECT_OK(files_.CreateDirectories(dir_ / "backups"));
  EXPECT_OK(files_.SyncDirectory(dir_.path()));
}

absl::Status PowerStory::Open() {
  repository_ = nullptr;
  auto started = Start(dir_ / "data");
  if (started.ok()) repository_ = *std::move(started);
  return started.status();
}

absl::StatusOr<std::unique_ptr<Repository>> PowerStory::Start(const std::string& data_dir_path) {
  RepositoryOptions options;
  options.data_dir = data_dir_path;
  options.backup_dir = dir_ / "backups";
  options.upload_ttl = absl::Hours(1);
  options.file_system = &files_;
  options.clock = &clock_;
  options.min_free_bytes = 0;
  auto data_dir = DataDir::Open(options.data_dir, files_);
  if (!data_dir.ok()) return data_dir.status();
  auto catalog = catalog::RocksDbCatalog::Open(data_dir->catalog_path(), CatalogOptions(files_));
  if (!catalog.ok()) return catalog.status();
  blob::LocalBlobStoreOptions blob_options;
  blob_options.data_dir = options.data_dir;
  blob_options.file_system = &files_;
  blob_options.clock = &clock_;
  blob_options.min_free_bytes = 0;
  auto blobs = blob::LocalBlobStore::Open(blob_options);
  if (!blobs.ok()) return blobs.status();
  auto opened = LocalRepository::Assemble(options, *std::move(data_dir), *std::move(catalog), *std::move(blobs));
  if (!opened.ok()) return opened.status();
  (*opened)->StartRetention();
  return std::unique_ptr<Repository>(*std::move(opened));
}

bool PowerStory::Happened(const absl::Status& status) {
  if (!status.ok() && first_failure_.ok()) first_failure_ = status;
  last_step_happened_ = status.ok();
  needs_restart_ |= absl::StrContains(status.message(), "until the server is restarted");
  return status.ok();
}

PushOptions PowerStory::OptionsOf(const Pushed& push) const {
  PushOptions options;
  options.run = {"default", push.run};
  options.labels = {{"push", push.label}};
  options.request = {"me", "push", push.label};
  return options;
}

absl::StatusOr<int64_t> PowerStory::Send(Pushed& push) {
  if (!push.parts.empty()) {
    if (absl::Status sent = SendParts(push); !sent.ok()) return sent;
    const auto committed = repository_->CommitUpload({{"default", push.run}, push.label});
    if (!committed.ok()) return committed.status();
    return committed->version;
  }
  auto begun = repository_->BeginPush(OptionsOf(push), TensorManifest(push.contents));
  if (!begun.ok()) return begun.status();
  if (absl::Status written = (*begun)->Write(AsBytes(BulkOf(push.contents))); !written.ok()) return written;
  const auto committed = (*begun)->Commit();
  if (!committed.ok()) return committed.status();
  return committed->version;
}

void PowerStory::Push(const std::string& run, Contents contents) {
  if (Skip()) return;
  runs_.insert(run);
  Pushed push;
  push.run = run;
  push.label = absl::StrCat("p", pushes_.size());
  push.contents = std::move(contents);
  const auto version = Send(push);
  if (Happened(version.status())) {
    EXPECT_EQ(Find(run, *version), nullptr) << "version " << *version << " was given twice";
    push.version = *version;
  }
  pushes_.push_back(std::move(push));
  RetentionMayTake(run);
}

PowerStory::Pushed* PowerStory::Find(const std::string& run, int64_t version) {
  for (Pushed& push : pushes_) {
    if (push.run == run && push.version == version && !push.whole_run_open && !push.deleted) return &push;
  }
  return nullptr;
}

void PowerStory::PushModule(const std::string& run, const std::string& module, const std::string& bytes) {
  if (Skip()) return;
  runs_.insert(run);
  auto& expected = modules_[{run, module}] = {bytes, Presence::kOpen};
  auto push = repository_->BeginModulePush({"default", run}, module, static_cast<int64_t>(bytes.size()), {}, true);
  absl::Status done = push.status();
  if (done.ok()) done = (*push)->Write(AsBytes(bytes));
  if (done.ok()) done = (*push)->Commit().status();
  if (Happened(done)) expected.second = Presence::kThere;
}

void PowerStory::DeleteModule(const std::string& run, const std::string& module) {
  if (Skip()) return;
  const absl::Status done = repository_->DeleteModule({"default", run}, module);
  modules_[{run, module}].second = Happened(done) ? Presence::kGone : Presence::kOpen;
}

void PowerStory::Delete(const std::string& run, int64_t version) {
  if (Skip()) return;
  const absl::Status done = repository_->DeleteCheckpoint({{"default", run}, Version(version)}, "", false, false);
  Pushed* const push = Find(run, version);
  if (Happened(done)) {
    if (push != nullptr) push->deleted = true;
  } else if (push != nullptr) {
    push->open = true;
  }
}

void PowerStory::DeleteRun(const std::string& run) {
  if (Skip()) return;
  const bool done = Happened(repository_->DeleteRun({"default", run}, "", true));
  for (Pushed& push : pushes_) {
    if (push.run != run || push.version == 0) continue;
    (done ? push.deleted : push.whole_run_open) = true;
    push.open |= !done;
  }
}

void PowerStory::SetAlias(const std::string& run, const std::string& alias, int64_t version) {
  if (Skip()) return;
  const absl::Status done = repository_->SetAlias({"default", run}, alias, Version(version), "", false).status();
  std::set<int64_t>& allowed = aliases_[{run, alias}];
  if (allowed.empty()) allowed.insert(0);
  if (Happened(done)) allowed.clear();
  allowed.insert(version);
}

void PowerStory::DeleteAlias(const std::string& run, const std::string& alias) {
  if (Skip()) return;
  const absl::Status done = repository_->DeleteAlias({"default", run}, alias, "");
  std::set<int64_t>& allowed = aliases_[{run, alias}];
  if (Happened(done)) allowed.clear();
  allowed.insert(0);
}

void PowerStory::AddMetric(const std::string& run, int64_t version, const std::string& metric, double value) {
  if (Skip()) return;
  CheckpointUpdate update;
  update.add_metrics = {{metric, value}};
  const auto done = repository_->UpdateCheckpoint({{"default", run}, Version(version)}, update);
  Pushed* const push = Find(run, version);
  if (Happened(done.status()) && push != nullptr) push->metrics[metric] = value;
}

void PowerStory::KeepLast(const std::string& run, int64_t versions) {
  if (Skip()) return;
  RunUpdate update;
  update.retention.emplace();
  update.retention->keep_last = versions;
  if (Happened(repository_->UpdateRun({"default", run}, update).status())) surely_limited_.insert(run);
  limited_[run] = versions;
  RetentionMayTake(run);
}

void PowerStory::Collect() {
  if (Skip()) return;
  Happened(repository_->CollectGarbage().status());
  for (const auto& [run, keep_last] : limited_) RetentionMayTake(run);
}

void PowerStory::ExpectCompacted() {
  if (Skip()) return;
  const auto stats = repository_->GetStats();
  if (files_.failed() || files_.power_is_off()) return;  // perhaps in the collector's own thread
  ASSERT_OK(stats);
  EXPECT_EQ(stats->blobs, 2);  // of three, two were united and one is another version's
}

void PowerStory::Damage(const std::string& run, int64_t version) {
  if (Skip()) return;
  // Compaction may move the chunk between the look and the damage, which then hits a file that nobody has any more.
  for (std::string last;;) {
    const auto open = repository_->OpenRead({{"default", run}, Version(version)});
    if (!Happened(open.status())) return;
    const Extent extent = (*open)->Locate(0, 0);
    const std::string file = std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", extent.fd));
    ASSERT_NE(file, last) << "damaged bytes were read";
    last = file;
    const Pushed* const target = Find(run, version);
    ASSERT_NE(target, nullptr);
    const std::string damaged = target->contents[0];
    for (Pushed& push : pushes_) push.damaged |= !push.contents.empty() && push.contents[0] == damaged;
    std::error_code gone;
    std::filesystem::permissions(file, std::filesystem::perms::owner_all, gone);
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekg(extent.offset + 7);
    const auto byte = static_cast<char>(bytes.get() ^ 0x10);
    bytes.seekp(extent.offset + 7);
    bytes.put(byte);
    bytes.close();
    if (!ReadVersion(*repository_, run, version).ok()) return;
  }
}

absl::StatusOr<std::string> PowerStory::ReadVersion(Repository& repository, const std::string& run, int64_t version) {
  const auto open = repository.OpenRead({{"default", run}, Version(version)});
  if (!open.ok()) return open.status();
  std::string bulk;
  const format::Manifest& manifest = (*open)->manifest();
  for (format::StorageIndex s = 0; s < manifest.storages.size(); ++s) {
    for (size_t c = 0; c < manifest.storages[s].chunks.size(); ++c) {
      const auto bytes = (*open)->ReadChunk(s, static_cast<int64_t>(c));
      if (!bytes.ok()) return bytes.status();
      bulk.append(reinterpret_cast<const char*>(bytes->bytes.data()), bytes->bytes.size());
    }
  }
  return bulk;
}

void PowerStory::ExpectVersion(Pushed& push) {
  SCOPED_TRACE(testing::Message() << "version " << push.version << " of " << push.run << ", push " << push.label);
  const auto bulk = ReadVersion(*repository_, push.run, push.version);
  if (push.deleted) {
    EXPECT_TRUE(bulk.ok() || SaysItIsGone(bulk.status())) << bulk.status();
    if (bulk.ok()) {  // another version may have come to that name in a new run
      const auto there = repository_->GetCheckpoint({{"default", push.run}, Version(push.version)});
      EXPECT_TRUE(there.ok() && there->labels.at("push") != push.label) << "was deleted and is back";
    }
    return;
  }
  if (push.open && !bulk.ok()) {
    EXPECT_TRUE(SaysItIsGone(bulk.status()) || push.damaged) << bulk.status();
    if (SaysItIsGone(bulk.status())) push.deleted = true;  // so it is decided
    return;
  }
  if (push.damaged && !bulk.ok()) {
    EXPECT_EQ(bulk.status().code(), absl::StatusCode::kDataLoss) << bulk.status();
    return;
  }
  ASSERT_OK(bulk);
  EXPECT_TRUE(*bulk == BulkOf(push.contents)) << "has other bytes than were pushed";
  const auto checkpoint = repository_->GetCheckpoint({{"default", push.run}, Version(push.version)});
  if (push.open && SaysItIsGone(checkpoint.status())) {  // the collector came between
    push.deleted = true;
    return;
  }
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->labels.at("push"), push.label);
  for (const auto& [metric, value] : push.metrics) EXPECT_EQ(checkpoint->metrics.at(metric), value);
}

void PowerStory::ExpectAcknowledged() {
  for (Pushed& push : pushes_) {
    if (push.version != 0) {
      ExpectVersion(push);
    } else if (!push.parts.empty()) {
      ExpectUpload(push);
    }
  }
  for (const auto& [name, allowed] : aliases_) {
    const auto alias = repository_->GetAlias({"default", name.first}, name.second);
    const int64_t version = alias.ok() ? alias->version : 0;
    EXPECT_EQ(allowed.count(version), 1u) << name.second << " points to " << version << ": " << alias.status();
  }
  for (const auto& [name, expected] : modules_) {
    const auto open = repository_->OpenReadModule({"default", name.first}, name.second);
    if (expected.second == Presence::kThere) {
      EXPECT_OK(open);
    }
    EXPECT_FALSE(expected.second == Presence::kGone && open.ok()) << name.second << " is back";
    if (open.ok()) {
      const auto bytes = (*open)->ReadChunk(0, 0);
      ASSERT_OK(bytes);
      EXPECT_TRUE(AsText(bytes->bytes) == expected.first);
    }
  }
}

std::vector<Checkpoint> PowerStory::List(const std::string& run) {
  const auto page = repository_->ListCheckpoints({"default", run}, "", 1000);
  if (page.ok()) return page->items;
  EXPECT_TRUE(HasReason(page.status(), Reason::RUN_NOT_FOUND)) << page.status();
  return {};
}

void PowerStory::RetryPushes() {
  for (Pushed& push : pushes_) {
    if (push.version != 0) continue;
    SCOPED_TRACE(testing::Message() << "retry of push " << push.label);
    if (push.abort_asked) {
      const absl::Status aborted = repository_->AbortUpload({{"default", push.run}, push.label});
      EXPECT_TRUE(aborted.ok() || HasReason(aborted, Reason::UPLOAD_NOT_FOUND)) << aborted;
      for (const Checkpoint& one : List(push.run)) EXPECT_NE(one.labels.at("push"), push.label) << "was aborted";
      continue;
    }
    std::vector<int64_t> before, after;
    for (const Checkpoint& one : List(push.run)) {
      if (one.labels.at("push") == push.label) before.push_back(one.version);
    }
    EXPECT_LE(before.size(), push.parts.empty() || push.commit_asked ? 1u : 0u);
    const auto version = Send(push);
    ASSERT_OK(version);
    push.version = *version;
    if (!before.empty()) {
      EXPECT_EQ(before.front(), *version);
    }
    for (const Checkpoint& one : List(push.run)) {
      if (one.labels.at("push") == push.label) after.push_back(one.version);
    }
    EXPECT_THAT(after, ::testing::ElementsAre(*version));
    RetentionMayTake(push.run);
  }
}

void PowerStory::ExpectCleanAfterOneCollection() {
  for (const std::string& run : runs_) {
    for (const Checkpoint& one : List(run)) {
      const Pushed* push = Find(run, one.version);
      if (push == nullptr) {  // of a run whose deletion is open
        for (const Pushed& other : pushes_) {
          if (other.run == run && other.version == one.version && !other.deleted) push = &other;
        }
      }
      EXPECT_TRUE(push != nullptr && push->label == one.labels.at("push")) << "nobody pushed " << one.version;
    }
  }
  first_failure_ = absl::OkStatus();
  for (const Pushed& push : std::vector<Pushed>(pushes_)) {
    if (push.damaged && !push.deleted && push.version != 0) Push(push.run, push.contents);  // heals
  }
  for (Pushed& push : pushes_) push.damaged = false;
  Push("afterwards", {RandomBytes(90'000, 99)});
  ASSERT_OK(first_failure_);
  ExpectAcknowledged();
  ASSERT_OK(repository_->CollectGarbage());
  ExpectAcknowledged();
  for (const std::string& run : surely_limited_) ExpectRetained(run, limited_[run]);
  if (!backups_.empty()) Backup("at the end");
  ASSERT_OK(first_failure_);
  repository_ = nullptr;
  for (const Taken& taken : backups_) ExpectBackup(taken);

  const auto catalog = catalog::RocksDbCatalog::Open(dir_ / "data/catalog", CatalogOptions(files_));
  ASSERT_OK(catalog);
  blob::LocalBlobStoreOptions options;
  options.data_dir = dir_ / "data";
  options.file_system = &files_;
  const auto blobs = blob::LocalBlobStore::Open(options);
  ASSERT_OK(blobs);
  EXPECT_THAT(AuditStore(**catalog, **blobs), IsClean());
  const auto uploads = files_.List(dir_ / "data/uploads");
  ASSERT_OK(uploads);
  EXPECT_THAT(*uploads, ::testing::IsEmpty());
}

}  // namespace sconce::repository
