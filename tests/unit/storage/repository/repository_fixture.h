#ifndef SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_REPOSITORY_FIXTURE_H_
#define SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_REPOSITORY_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/repository.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/memory_blob_store.h"
#include "tests/support/memory_catalog.h"
#include "tests/support/status_matchers.h"
#include "tests/support/store_audit.h"
#include "tests/support/temp_dir.h"

namespace sconce::repository {

class TurnedClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixNanos(nanos_); }
  void Turn(absl::Duration by) { nanos_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> nanos_{1'700'000'000'000'000'000};
};

// Bytes that look random and are the same for the same seed.
inline std::string RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = random();
    bytes.replace(i, std::min<size_t>(8, size - i), reinterpret_cast<const char*>(&word),
                  std::min<size_t>(8, size - i));
  }
  return bytes;
}

// A dict with one uint8 tensor "t0", "t1", ... for each of `contents`, and the given scalars beside them.
inline format::Manifest TensorManifest(const std::vector<std::string>& contents,
                                       const std::vector<std::pair<std::string, double>>& scalars = {}) {
  format::ManifestBuilder b;
  format::ManifestBuilder::Items items;
  for (size_t i = 0; i < contents.size(); ++i) {
    const auto size = static_cast<int64_t>(contents[i].size());
    const auto storage = size <= format::kInlineStorageBytes ? b.InlineStorage(contents[i]) : b.Storage(size);
    items.emplace_back(b.Str(absl::StrCat("t", i)), b.Tensor(storage, format::DType::kUInt8, {size}));
  }
  for (const auto& [name, value] : scalars) {
    const bool whole = value == static_cast<double>(static_cast<int64_t>(value)) && name != "loss";
    items.emplace_back(b.Str(name), whole ? b.Int(static_cast<int64_t>(value)) : b.Float(value));
  }
  b.Dict(items);
  return b.Build();
}

// What a push of `contents` sends.
inline std::string BulkOf(const std::vector<std::string>& contents) {
  std::string bulk;
  for (const std::string& content : contents) {
    if (static_cast<int64_t>(content.size()) > format::kInlineStorageBytes) bulk += content;
  }
  return bulk;
}

enum class Backend { kMemory, kDisk };

class RepositoryTest : public ::testing::TestWithParam<Backend> {
 protected:
  RepositoryTest() { Open(); }

  RepositoryOptions Options() {
    RepositoryOptions options;
    options.data_dir = dir_ / "data";
    options.clock = &clock_;
    options.min_free_bytes = 1 << 20;
    options.change_log_entries = change_log_entries_;
    options.change_log_age = change_log_age_;
    return options;
  }

  void Open() {
    if (GetParam() == Backend::kDisk) {
      auto opened = Repository::Open(Options());
      ASSERT_OK(opened);
      repository_ = *std::move(opened);
      repository_->StartRetention();
      return;
    }
    auto catalog = std::make_unique<catalog::MemoryCatalog>();
    auto blobs = std::make_unique<blob::MemoryBlobStore>();
    memory_catalog_ = catalog.get();
    memory_blobs_ = blobs.get();
    std::filesystem::create_directories(dir_ / "data/uploads");
    auto assembled = LocalRepository::Assemble(Options(), std::nullopt, std::move(catalog), std::move(blobs));
    ASSERT_OK(assembled);
    repository_ = *std::move(assembled);
    repository_->StartRetention();
  }

  // On disk: as after a restart. In memory: goes on with the same.
  void Reopen() {
    if (GetParam() == Backend::kMemory) return;
    repository_.reset();
    Open();
  }

  static PushOptions To(const std::string& run, Metrics metrics = {}) {
    PushOptions options;
    options.run = {"default", run};
    options.metrics = std::move(metrics);
    return options;
  }

  absl::StatusOr<std::unique_ptr<CheckpointPush>> Send(const PushOptions& options, format::Manifest manifest,
                                                       const std::string& bulk, size_t piece = 1 << 20) {
    auto push = repository_->BeginPush(options, std::move(manifest));
    if (!push.ok()) return push;
    for (size_t begin = 0; begin < bulk.size(); begin += piece) {
      const absl::Status written = (*push)->Write(AsBytes(absl::string_view(bulk).substr(begin, piece)));
      if (!written.ok()) return written;
    }
    return push;
  }

  absl::StatusOr<Checkpoint> PushContents(const PushOptions& options, const std::vector<std::string>& contents,
                                          const std::vector<std::pair<std::string, double>>& scalars = {}) {
    auto push = Send(options, TensorManifest(contents, scalars), BulkOf(contents));
    if (!push.ok()) return push.status();
    return (*push)->Commit();
  }

  // A version with nothing but metrics.
  int64_t PushMetrics(const std::string& run, Metrics metrics) {
    const auto checkpoint = PushContents(To(run, std::move(metrics)), {});
    EXPECT_OK(checkpoint);
    return checkpoint.ok() ? checkpoint->version : 0;
  }

  static absl::StatusOr<std::string> ReadBulk(const StoredObject& object) {
    std::string bulk;
    const format::Manifest& manifest = object.manifest();
    for (format::StorageIndex s = 0; s < manifest.storages.size(); ++s) {
      for (size_t c = 0; c < manifest.storages[s].chunks.size(); ++c) {
        const auto bytes = object.ReadChunk(s, static_cast<int64_t>(c));
        if (!bytes.ok()) return bytes.status();
        bulk.append(reinterpret_cast<const char*>(bytes->bytes.data()), bytes->bytes.size());
      }
    }
    return bulk;
  }

  absl::StatusOr<std::string> Read(const std::string& run, const std::string& selector) {
    const auto open = repository_->OpenRead({{"default", run}, selector});
    if (!open.ok()) return open.status();
    return ReadBulk(**open);
  }

  int64_t Resolve(const std::string& run, const std::string& selector) {
    const auto checkpoint = repository_->GetCheckpoint({{"default", run}, selector});
    EXPECT_OK(checkpoint);
    return checkpoint.ok() ? checkpoint->version : 0;
  }

  // With all blobs counted: what a pass of the collector does, as its own first one does too.
  RepositoryStats Stats() {
    auto stats = repository_->GetStats();
    if (stats.ok() && stats->counting_blobs) {
      EXPECT_OK(repository_->CollectGarbage());
      stats = repository_->GetStats();
    }
    EXPECT_OK(stats);
    return stats.value_or(RepositoryStats());
  }

  // Everything recomputed from scratch; on disk this closes the repository, which opens again after it.
  absl::StatusOr<StoreAudit> Audit() {
    if (GetParam() == Backend::kMemory) return AuditStore(*memory_catalog_, *memory_blobs_);
    repository_.reset();
    absl::StatusOr<StoreAudit> audit = AuditDataDir(dir_ / "data");
    Open();
    return audit;
  }

  // Flips a bit of the chunk where it is stored.
  void Corrupt(const StoredObject& object, format::StorageIndex storage, int64_t chunk) {
    const Extent extent = object.Locate(storage, chunk);
    const std::string path = absl::StrCat("/proc/self/fd/", extent.fd);
    if (GetParam() == Backend::kMemory) {
      const auto blobs = memory_blobs_->List();
      ASSERT_OK(blobs);
      for (const blob::BlobId& id : *blobs) {
        const auto blob = memory_blobs_->Open(id);
        if ((*blob)->fd() == extent.fd) memory_blobs_->CorruptForTest(id, extent.offset + 7);
      }
      return;
    }
    const std::string file = std::filesystem::read_symlink(path);
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    std::FILE* f = std::fopen(file.c_str(), "r+b");
    ASSERT_NE(f, nullptr);
    std::fseek(f, static_cast<long>(extent.offset + 7), SEEK_SET);
    const int byte = std::fgetc(f);
    std::fseek(f, static_cast<long>(extent.offset + 7), SEEK_SET);
    std::fputc(byte ^ 0x10, f);
    std::fclose(f);
  }

  TempDir dir_;
  TurnedClock clock_;
  // Of the next opening.
  int64_t change_log_entries_ = RepositoryOptions().change_log_entries;
  absl::Duration change_log_age_ = RepositoryOptions().change_log_age;
  catalog::MemoryCatalog* memory_catalog_ = nullptr;
  blob::MemoryBlobStore* memory_blobs_ = nullptr;
  std::unique_ptr<Repository> repository_;
};

inline std::string BackendName(const ::testing::TestParamInfo<Backend>& info) {
  return info.param == Backend::kMemory ? "Memory" : "Disk";
}

#define SCONCE_BOTH_BACKENDS(suite) \
  INSTANTIATE_TEST_SUITE_P(Both, suite, ::testing::Values(Backend::kMemory, Backend::kDisk), BackendName)
#define SCONCE_DISK_ONLY(suite) INSTANTIATE_TEST_SUITE_P(Disk, suite, ::testing::Values(Backend::kDisk), BackendName)

}  // namespace sconce::repository

#endif  // SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_REPOSITORY_FIXTURE_H_
