// Steps of the story that take more than one call: retention, uploads, backups.
#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "storage/blob/local_blob_store.h"
#include "storage/catalog/rocksdb_catalog.h"
#include "tests/unit/storage/repository/power_story.h"
#include "tests/unit/storage/repository/upload_fixture.h"

namespace sconce::repository {

void PowerStory::Pin(const std::string& run, int64_t version) {
  if (Skip()) return;
  CheckpointUpdate update;
  update.pinned = true;
  Happened(repository_->UpdateCheckpoint({{"default", run}, absl::StrCat(version)}, update).status());
}

void PowerStory::Hold(const std::string& run, int64_t version) {
  if (Skip() || !last_step_happened_) return;
  Pushed* const push = Find(run, version);
  if (push != nullptr && !push->open) push->held = true;
}

void PowerStory::Release(const std::string& run, int64_t version) {
  if (Skip()) return;
  if (Pushed* const push = Find(run, version)) push->held = false;
  RetentionMayTake(run);
}

void PowerStory::RetentionMayTake(const std::string& run) {
  const auto limit = limited_.find(run);
  if (limit == limited_.end()) return;
  std::vector<Pushed*> there;
  int64_t sure = limit->second;
  for (Pushed& push : pushes_) {
    if (push.run != run || push.deleted) continue;
    if (push.version != 0) {
      there.push_back(&push);
    } else if (push.parts.empty() || push.commit_asked) {
      --sure;  // it may be there, and be one of the newest
    }
  }
  std::sort(there.begin(), there.end(), [](const Pushed* a, const Pushed* b) { return a->version > b->version; });
  for (size_t i = 0; i < there.size(); ++i) {
    if (static_cast<int64_t>(i) >= sure && !there[i]->held) there[i]->open = true;
  }
}

void PowerStory::ExpectVersions(const std::string& run, const std::vector<int64_t>& versions) {
  if (Skip() || !Undisturbed()) return;
  std::vector<int64_t> there;
  for (const Checkpoint& one : List(run)) there.push_back(one.version);
  std::sort(there.begin(), there.end());
  if (Undisturbed()) {
    EXPECT_EQ(there, versions);
  }
}

void PowerStory::ExpectRetained(const std::string& run, int64_t keep_last) {
  const std::vector<Checkpoint> there = List(run);  // newest first
  const auto best = repository_->GetCheckpoint({{"default", run}, "best"});
  for (size_t i = 0; i < there.size(); ++i) {
    const Checkpoint& one = there[i];
    const bool kept = static_cast<int64_t>(i) < keep_last || one.pinned || !one.aliases.empty() ||
                      (best.ok() && best->version == one.version);
    EXPECT_TRUE(kept) << "no rule keeps version " << one.version << " of " << run;
  }
}

// The parts that are not known to be there; a part that is takes nothing again.
absl::Status PowerStory::SendParts(Pushed& push) {
  const auto upload = repository_->BeginUpload(OptionsOf(push), push.label, static_cast<int64_t>(push.parts.size()));
  if (!upload.ok()) return upload.status();
  if (upload->version != 0) return absl::OkStatus();
  for (size_t p = 0; p < push.parts.size(); ++p) {
    const ClientPart client(absl::StrCat("part", p, "_"), push.parts[p]);
    const auto moved = SendPart(*repository_, upload->ref, static_cast<int64_t>(p), client);
    if (!moved.ok()) return moved.status();
    EXPECT_TRUE(!push.sent[p] || moved->sent + moved->skipped == 0) << "part " << p << " was durable";
    push.sent[p] = true;
  }
  return absl::OkStatus();
}

std::string PowerStory::SendUpload(const std::string& run, std::vector<Contents> parts) {
  const std::string label = absl::StrCat("p", pushes_.size());
  if (Skip()) return label;
  runs_.insert(run);
  Pushed push;
  push.run = run;
  push.label = label;
  for (const Contents& part : parts) push.contents.insert(push.contents.end(), part.begin(), part.end());
  push.sent.resize(parts.size());
  push.parts = std::move(parts);
  Happened(SendParts(push));
  pushes_.push_back(std::move(push));
  return label;
}

PowerStory::Pushed* PowerStory::FindUpload(const std::string& label) {
  for (Pushed& push : pushes_) {
    if (push.label == label && !push.parts.empty()) return &push;
  }
  return nullptr;
}

void PowerStory::CommitUpload(const std::string& upload) {
  if (Skip()) return;
  Pushed* const push = FindUpload(upload);
  ASSERT_NE(push, nullptr);
  push->commit_asked = true;
  const auto committed = repository_->CommitUpload({{"default", push->run}, push->label});
  if (Happened(committed.status())) {
    EXPECT_EQ(Find(push->run, committed->version), nullptr) << "version " << committed->version << " was given twice";
    push->version = committed->version;
  }
  RetentionMayTake(push->run);
}

void PowerStory::AbortUpload(const std::string& upload) {
  if (Skip()) return;
  Pushed* const push = FindUpload(upload);
  ASSERT_NE(push, nullptr);
  push->abort_asked = true;
  Happened(repository_->AbortUpload({{"default", push->run}, push->label}));
}

void PowerStory::LetUploadsExpire() {
  if (Skip()) return;
  clock_.Turn(absl::Hours(2));
  for (Pushed& push : pushes_) push.sent.assign(push.parts.size(), false);
  Collect();
}

void PowerStory::ExpectNoBlobs() {
  if (Skip() || !Undisturbed()) return;
  const auto stats = repository_->GetStats();
  const auto uploads = files_.List(dir_ / "data/uploads");
  if (!Undisturbed()) return;
  ASSERT_OK(stats);
  EXPECT_EQ(stats->blobs, 0);
  ASSERT_OK(uploads);
  EXPECT_THAT(*uploads, ::testing::IsEmpty());
}

// Before it is a version: the parts that were acknowledged are there, and of one that was aborted nothing is.
void PowerStory::ExpectUpload(const Pushed& push) {
  SCOPED_TRACE(testing::Message() << "upload " << push.label << " to " << push.run);
  const auto upload = repository_->GetUpload({{"default", push.run}, push.label});
  if (push.abort_asked || std::count(push.sent.begin(), push.sent.end(), true) == 0) {
    EXPECT_TRUE(upload.ok() || HasReason(upload.status(), Reason::UPLOAD_NOT_FOUND)) << upload.status();
    return;
  }
  ASSERT_OK(upload);
  if (upload->version != 0) {
    EXPECT_TRUE(push.commit_asked);
    return;
  }
  for (size_t p = 0; p < push.sent.size(); ++p) {
    if (!push.sent[p]) continue;
    const auto part = std::find_if(upload->parts.begin(), upload->parts.end(),
                                   [&](const UploadPart& one) { return one.part == static_cast<int64_t>(p); });
    ASSERT_TRUE(part != upload->parts.end()) << "part " << p << " was acknowledged and is lost";
    EXPECT_TRUE(part->complete()) << "part " << p << " was acknowledged and has lost chunks";
  }
}

void PowerStory::Backup(const std::string& name) {
  if (Skip()) return;
  Taken taken;
  taken.name = name;
  for (const Pushed& push : pushes_) {
    if (push.version != 0 && !push.deleted && !push.open && !push.damaged) taken.whole.push_back(push);
  }
  taken.acknowledged = Happened(repository_->Backup(name).status());
  backups_.push_back(std::move(taken));
}

// It is a data directory of its own with all that was there, or not there at all. (Names that begin with a dot are
// those of copies that died; the last backup has removed them.)
void PowerStory::ExpectBackup(const Taken& taken) {
  SCOPED_TRACE(testing::Message() << "backup " << taken.name);
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "backups")) {
    EXPECT_NE(entry.path().filename().string()[0], '.') << entry.path();
  }
  const std::string path = dir_ / "backups/" + taken.name;
  if (!std::filesystem::exists(path)) {
    EXPECT_FALSE(taken.acknowledged) << "was acknowledged and is lost";
    return;
  }
  {
    const auto copy = Start(path);
    ASSERT_OK(copy);
    for (const Pushed& push : taken.whole) {
      const auto bulk = ReadVersion(**copy, push.run, push.version);
      ASSERT_OK(bulk);
      EXPECT_TRUE(*bulk == BulkOf(push.contents)) << "version " << push.version << " of " << push.run;
    }
    ASSERT_OK((*copy)->CollectGarbage());
  }
  catalog::RocksDbOptions catalog_options;
  catalog_options.file_system = &files_;
  const auto catalog = catalog::RocksDbCatalog::Open(path + "/catalog", catalog_options);
  ASSERT_OK(catalog);
  blob::LocalBlobStoreOptions options;
  options.data_dir = path;
  options.file_system = &files_;
  const auto blobs = blob::LocalBlobStore::Open(options);
  ASSERT_OK(blobs);
  EXPECT_THAT(AuditStore(**catalog, **blobs), IsClean());
}

}  // namespace sconce::repository
