// A process that dies at any moment of an upload, and the client that comes back: at every change of the catalog the
// process dies with the catalog as it was before the change, and with the blobs as they were synced.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage/catalog/keys.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/parallel_boundaries.h"
#include "tests/unit/storage/repository/upload_fixture.h"

namespace sconce::repository {
namespace {

// Lends out what outlives the repositories over it.
class LentCatalog final : public catalog::Catalog {
 public:
  explicit LentCatalog(catalog::MemoryCatalog& catalog) : catalog_(catalog) {}
  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override { return catalog_.Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    return catalog_.MultiGet(keys);
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    return catalog_.Scan(begin, end, reverse, visit);
  }
  absl::StatusOr<int64_t> Apply(const catalog::ChangeSet& change) override { return catalog_.Apply(change); }
  absl::Status Verify() const override { return catalog_.Verify(); }
  std::unique_ptr<catalog::CatalogReader> Snapshot() const override { return catalog_.Snapshot(); }

 private:
  catalog::MemoryCatalog& catalog_;
};

class LentBlobStore final : public blob::BlobStore {
 public:
  explicit LentBlobStore(blob::MemoryBlobStore& blobs) : blobs_(blobs) {}
  absl::StatusOr<std::unique_ptr<blob::BlobWriter>> Create(uint64_t project) override { return blobs_.Create(project); }
  absl::StatusOr<std::unique_ptr<blob::BlobWriter>> CreateInReserve(uint64_t project) override {
    return blobs_.CreateInReserve(project);
  }
  absl::StatusOr<std::unique_ptr<blob::BlobWriter>> CreateResumable(uint64_t project) override {
    return blobs_.CreateResumable(project);
  }
  absl::StatusOr<std::unique_ptr<blob::BlobWriter>> Resume(const blob::BlobId& id, int64_t end) override {
    return blobs_.Resume(id, end);
  }
  absl::StatusOr<std::shared_ptr<const blob::Blob>> Open(const blob::BlobId& id) override { return blobs_.Open(id); }
  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenStored(const blob::BlobId& id) override {
    return blobs_.OpenStored(id);
  }
  absl::Status Remove(const blob::BlobId& id) override { return blobs_.Remove(id); }
  absl::StatusOr<std::vector<blob::BlobId>> List() override { return blobs_.List(); }
  absl::Status DropUnsealed(const std::function<bool(const blob::BlobId&)>& resumable) override {
    return blobs_.DropUnsealed(resumable);
  }
  absl::StatusOr<blob::SortStep> SortSealed(const blob::KnownBlobs& known, int64_t at_most) override {
    return blobs_.SortSealed(known, at_most);
  }
  blob::BlobStats GetStats() const override { return blobs_.GetStats(); }

 private:
  blob::MemoryBlobStore& blobs_;
};

class UploadCrashTest : public ::testing::Test {
 protected:
  UploadCrashTest() { std::filesystem::create_directories(dir_ / "data/uploads"); }

  std::unique_ptr<Repository> Start() {
    RepositoryOptions options;
    options.data_dir = dir_ / "data";
    options.clock = &clock_;
    options.min_free_bytes = 0;
    auto repository = LocalRepository::Assemble(options, std::nullopt, std::make_unique<LentCatalog>(*catalog_),
                                                std::make_unique<LentBlobStore>(*blobs_));
    EXPECT_OK(repository);
    return *std::move(repository);
  }

  // Everything a client of two parts does; the same every time. Part 1 shares what is in `stored`.
  absl::StatusOr<Checkpoint> Client(Repository& repository) {
    PushOptions options;
    options.run = {"default", "a"};
    options.request = {"alice", "PushCheckpoint", "r1"};
    const auto upload = repository.BeginUpload(options, "u", 2);
    if (!upload.ok()) return upload.status();
    if (upload->version == 0) {
      for (const int64_t part : {0, 1}) {
        const auto moved = SendPart(repository, upload->ref, part, part == 0 ? first_ : second_);
        if (!moved.ok()) return moved.status();
      }
    }
    return repository.CommitUpload(upload->ref);
  }

  const std::vector<std::string> stored_ = {RandomBytes(100'000, 1), RandomBytes(3000, 2)};
  const ClientPart first_{"x", {RandomBytes(200'000, 3), RandomBytes(2000, 4)}};
  const ClientPart second_{"y", {stored_[0], stored_[1], RandomBytes(150'000, 5)}};

  TempDir dir_;
  TurnedClock clock_;
  std::unique_ptr<catalog::MemoryCatalog> catalog_;
  std::unique_ptr<blob::MemoryBlobStore> blobs_;
};

TEST_F(UploadCrashTest, TheClientThatComesBackGetsOneWholeVersion) {
  bool died = true;
  int moments = 0;
  for (; died; ++moments) {
    SCOPED_TRACE(moments);
    catalog_ = std::make_unique<catalog::MemoryCatalog>();
    blobs_ = std::make_unique<blob::MemoryBlobStore>();
    {
      const auto repository = Start();
      PushOptions options;
      options.run = {"default", "b"};
      auto push = repository->BeginPush(options, TensorManifest(stored_));
      ASSERT_OK(push);
      ASSERT_OK((*push)->Write(AsBytes(BulkOf(stored_))));
      ASSERT_OK((*push)->Commit());
      ASSERT_OK(repository->CollectGarbage());
      catalog_->FailApplyForTest(MakeError(Reason::IO_ERROR, "the process dies"), moments);
      died = !Client(*repository).ok();
    }
    catalog_->FailApplyForTest(absl::OkStatus());
    const auto repository = Start();
    ASSERT_OK(repository->CollectGarbage());
    ASSERT_OK_AND_ASSIGN(const Checkpoint committed, Client(*repository));
    EXPECT_EQ(committed.stored_bytes, 352'000);
    ASSERT_OK_AND_ASSIGN(const Checkpoint again, Client(*repository));
    EXPECT_EQ(again.version, committed.version);
    ASSERT_OK_AND_ASSIGN(const auto page, repository->ListCheckpoints({"default", "a"}, "", 10));
    ASSERT_EQ(page.items.size(), 1u);
    ASSERT_OK(repository->DeleteRun({"default", "b"}, "", true));
    ASSERT_OK(repository->CollectGarbage());
    {
      ASSERT_OK_AND_ASSIGN(const auto open, repository->OpenRead({{"default", "a"}, "latest"}));
      std::string bulk;
      for (format::StorageIndex s = 0; s < open->manifest().storages.size(); ++s) {
        ASSERT_OK_AND_ASSIGN(const MappedBytes bytes, open->ReadChunk(s, 0));
        bulk += std::string(ToStd(AsText(bytes.bytes)));
      }
      std::string expected;
      for (const ClientPart* part : {&first_, &second_}) {
        for (const std::string& chunk : part->chunks) expected += chunk;
      }
      EXPECT_EQ(bulk, expected);
    }
    ASSERT_OK(repository->DeleteRun({"default", "a"}, "", true));
    ASSERT_OK(repository->CollectGarbage());
    ASSERT_OK(repository->CollectGarbage());
    EXPECT_EQ(blobs_->GetStats().blobs, 0);
    for (const char* prefix : {"k", "f", "i", "b", "g", "t", "y", "z"}) {
      ASSERT_OK(
          catalog_->Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
            ADD_FAILURE() << "left: " << prefix << " " << ToHex(AsBytes(key));
            return true;
          }));
    }
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
  EXPECT_GT(moments, 8);  // the record, two parts, their journals, reserved, placed, committed
}

TEST_F(UploadCrashTest, WhatIsNotCommittedAfterADeathExpires) {
  bool died = true;
  for (int moments = 0; died; ++moments) {
    SCOPED_TRACE(moments);
    catalog_ = std::make_unique<catalog::MemoryCatalog>();
    blobs_ = std::make_unique<blob::MemoryBlobStore>();
    {
      const auto repository = Start();
      ASSERT_OK(repository->CollectGarbage());
      catalog_->FailApplyForTest(MakeError(Reason::IO_ERROR, "the process dies"), moments);
      died = !Client(*repository).ok();
    }
    catalog_->FailApplyForTest(absl::OkStatus());
    if (!died) return;
    const auto repository = Start();
    clock_.Turn(absl::Hours(25));
    ASSERT_OK(repository->CollectGarbage());
    ASSERT_OK(repository->CollectGarbage());
    EXPECT_EQ(blobs_->GetStats().blobs, 0);
    EXPECT_THAT(repository->CommitUpload({{"default", "a"}, "u"}), FailsWith(Reason::UPLOAD_NOT_FOUND));
  }
}

// The same on a disk that loses power, at operations on files of catalog and blobs.
class UploadPowerLossTest : public ::testing::Test {
 protected:
  struct Disk {
    TempDir dir;
    FaultFileSystem fs{dir.path()};
    TurnedClock clock;

    absl::StatusOr<std::unique_ptr<Repository>> Open() {
      RepositoryOptions options;
      options.data_dir = dir / "data";
      options.file_system = &fs;
      options.clock = &clock;
      options.min_free_bytes = 0;
      return Repository::Open(options);
    }
  };

  absl::StatusOr<Checkpoint> Work(Repository& repository) const {
    PushOptions options;
    options.run = {"default", "a"};
    options.request = {"alice", "PushCheckpoint", "r1"};
    const auto upload = repository.BeginUpload(options, "u", 1);
    if (!upload.ok()) return upload.status();
    if (upload->version == 0) {
      const auto moved = SendPart(repository, upload->ref, 0, client_);
      if (!moved.ok()) return moved.status();
    }
    return repository.CommitUpload(upload->ref);
  }

  // `cut`: whether the work had an n-th operation.
  void CutAt(int n, FaultFileSystem::Loss loss, bool& cut) const {
    SCOPED_TRACE(testing::Message() << "power cut at operation " << n << ", loss " << static_cast<int>(loss));
    Disk disk;
    bool acknowledged = false;
    {
      auto repository = disk.Open();
      ASSERT_OK(repository);
      ASSERT_OK((*repository)->CollectGarbage());  // what the start set off is done
      disk.fs.CutPowerAt(n);
      acknowledged = Work(**repository).ok();
      cut = disk.fs.power_is_off();
      disk.fs.Disarm();
    }
    EXPECT_TRUE(cut || acknowledged);
    disk.fs.RestorePower(loss, static_cast<uint32_t>(n));
    auto repository = disk.Open();
    ASSERT_OK(repository);
    if (acknowledged) {
      EXPECT_OK((*repository)->GetCheckpoint({{"default", "a"}, "latest"}));
    }
    ASSERT_OK_AND_ASSIGN(const Checkpoint committed, Work(**repository));
    ASSERT_OK_AND_ASSIGN(const auto page, (*repository)->ListCheckpoints({"default", "a"}, "", 10));
    EXPECT_EQ(page.items.size(), 1u);
    ASSERT_OK_AND_ASSIGN(const auto object, (*repository)->OpenRead({{"default", "a"}, "latest"}));
    EXPECT_EQ(object->info().version, committed.version);
    for (size_t i = 0; i < contents_.size(); ++i) {
      ASSERT_OK_AND_ASSIGN(const MappedBytes bytes, object->ReadChunk(static_cast<format::StorageIndex>(i), 0));
      EXPECT_TRUE(AsText(bytes.bytes) == ToAbsl(contents_[i]));
    }
  }

  const std::vector<std::string> contents_ = {RandomBytes(70'000, 1), RandomBytes(2000, 2)};
  const ClientPart client_{"t", contents_};
};

TEST_F(UploadPowerLossTest, TheClientThatComesBackGetsOneWholeVersion) {
  for (const FaultFileSystem::Loss loss : {FaultFileSystem::Loss::kUnsynced, FaultFileSystem::Loss::kTornBytes}) {
    ForEachBoundary(
        [&](int n) {
          bool cut = false;
          CutAt(n, loss, cut);
          return cut;
        },
        SampleStride(3));
  }
}

}  // namespace
}  // namespace sconce::repository
