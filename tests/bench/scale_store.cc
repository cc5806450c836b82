#include "tests/bench/scale_store.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/file_system.h"
#include "base/status_macros.h"
#include "storage/repository/repository.h"
#include "tests/support/manifest_builder.h"

namespace sconce {
namespace {

using repository::Repository;

constexpr int kThreads = 8;

class UnsyncedFile final : public WritableFile {
 public:
  explicit UnsyncedFile(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  absl::Status WriteAt(int64_t offset, ByteSpan data) override { return file_->WriteAt(offset, data); }
  absl::Status Truncate(int64_t size_bytes) override { return file_->Truncate(size_bytes); }
  absl::Status SetMode(uint32_t mode) override { return file_->SetMode(mode); }
  absl::Status Sync() override { return absl::OkStatus(); }

 private:
  const std::unique_ptr<WritableFile> file_;
};

// Files as they are, but never waited for: no syncs, no O_DIRECT.
class UnsyncedFileSystem final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, const CreateOptions& options) override {
    CreateOptions buffered = options;
    buffered.direct = false;
    return Wrap(fs_.Create(path, buffered));
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenWrite(const std::string& path) override {
    return Wrap(fs_.OpenWrite(path));
  }
  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenRead(const std::string& path) override {
    return fs_.OpenRead(path);
  }
  absl::Status Link(const std::string& from, const std::string& to) override { return fs_.Link(from, to); }
  absl::Status Rename(const std::string& from, const std::string& to) override { return fs_.Rename(from, to); }
  absl::Status Remove(const std::string& path) override { return fs_.Remove(path); }
  absl::Status CreateDirectories(const std::string& path) override { return fs_.CreateDirectories(path); }
  absl::Status RemoveDirectory(const std::string& path) override { return fs_.RemoveDirectory(path); }
  absl::Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override { return fs_.List(path); }
  absl::StatusOr<int64_t> FreeBytes(const std::string& path) override { return fs_.FreeBytes(path); }

 private:
  static absl::StatusOr<std::unique_ptr<WritableFile>> Wrap(absl::StatusOr<std::unique_ptr<WritableFile>> file) {
    SCONCE_RETURN_IF_ERROR(file.status());
    return std::make_unique<UnsyncedFile>(*std::move(file));
  }

  FileSystem& fs_ = PosixFileSystem();
};

format::Manifest ManifestOf(int64_t run, int64_t version) {
  format::ManifestBuilder b;
  std::string bytes(256, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + static_cast<size_t>(run + version));
  const auto weight = b.Tensor(b.InlineStorage(bytes), format::DType::kFloat32, {8, 8});
  const auto state = b.Dict({{b.Str("weight"), weight}});
  b.Dict(
      {{b.Str("model_state_dict"), state}, {b.Str("epoch"), b.Int(version)}, {b.Str("step"), b.Int(version * 1000)}});
  return b.Build();
}

absl::Status PushOne(Repository& repository, const ScaleStore& store, int64_t run, int64_t version) {
  repository::PushOptions options;
  options.run = {"default", store.RunName(run)};
  // Falls with some noise, so that `best` is somewhere in the younger half.
  options.metrics["loss"] = 1.0 / static_cast<double>(version + (run * 31 + version * 17) % 40);
  options.metrics["accuracy"] = static_cast<double>((run * 13 + version * 7) % 1000) / 1000;
  options.request = {"", "push", absl::StrCat("request-", run, "-", version)};
  SCONCE_ASSIGN_OR_RETURN(const auto push, repository.BeginPush(options, ManifestOf(run, version)));
  return push->Commit().status();
}

// The pushes of the thread's runs, a version of each in turn.
absl::Status PushShare(Repository& repository, const ScaleStore& store, int64_t thread, std::atomic<int64_t>& pushed) {
  for (int64_t version = 1; version <= store.VersionsOf(0); ++version) {
    for (int64_t run = thread; run < store.runs; run += kThreads) {
      if (version > store.VersionsOf(run)) continue;
      SCONCE_RETURN_IF_ERROR(PushOne(repository, store, run, version));
      ++pushed;
    }
  }
  return absl::OkStatus();
}

absl::Status PushAll(Repository& repository, const ScaleStore& store) {
  std::atomic<int64_t> pushed{0};
  std::atomic<int> running{kThreads};
  std::vector<absl::Status> results(kThreads);
  std::vector<std::thread> threads;
  const absl::Time begin = absl::Now();
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      results[static_cast<size_t>(t)] = PushShare(repository, store, t, pushed);
      --running;
    });
  }
  for (absl::Time shown = begin; running > 0;) {
    absl::SleepFor(absl::Milliseconds(100));
    if (absl::Now() - shown < absl::Seconds(10)) continue;
    shown = absl::Now();
    absl::FPrintF(stderr, "%d of %d versions, %.0f/s\n", pushed.load(), store.versions,
                  static_cast<double>(pushed) / absl::ToDoubleSeconds(shown - begin));
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) SCONCE_RETURN_IF_ERROR(result);
  absl::FPrintF(stderr, "built %d versions in %.1f s\n", store.versions, absl::ToDoubleSeconds(absl::Now() - begin));
  return absl::OkStatus();
}

}  // namespace

std::string ScaleStore::RunName(int64_t run) const {
  return absl::StrFormat("run-%06d", run);
}

absl::Status BuildScaleStore(const ScaleStore& store) {
  const std::string whole = store.data_dir + ".whole";
  if (std::filesystem::exists(whole)) return absl::OkStatus();
  std::filesystem::remove_all(store.data_dir);
  UnsyncedFileSystem files;
  repository::RepositoryOptions options;
  options.data_dir = store.data_dir;
  options.file_system = &files;
  {
    SCONCE_ASSIGN_OR_RETURN(const auto repository, Repository::Open(options));
    SCONCE_RETURN_IF_ERROR(PushAll(*repository, store));
  }
  ::sync();  // as real pushes would have done one by one
  std::FILE* const mark = std::fopen(whole.c_str(), "w");
  return mark != nullptr && std::fclose(mark) == 0 ? absl::OkStatus() : absl::InternalError("cannot write " + whole);
}

}  // namespace sconce
