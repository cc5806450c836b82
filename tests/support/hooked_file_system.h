#ifndef SCONCE_TESTS_SUPPORT_HOOKED_FILE_SYSTEM_H_
#define SCONCE_TESTS_SUPPORT_HOOKED_FILE_SYSTEM_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file_system.h"

namespace sconce {

// The file system of `base`, which outlives it, with a function called before each of these operations, on the thread
// that asks for it: a test counts them, or lets something else happen just then.
class HookedFileSystem final : public FileSystem {
 public:
  enum class Operation { kCreate, kOpenWrite, kOpenRead, kLink, kRename, kRemove, kSyncDirectory, kList };
  // With the path (of two, the first).
  using Hook = std::function<void(Operation, const std::string& path)>;

  explicit HookedFileSystem(FileSystem& base) : base_(base) {}
  // Before anything uses the file system.
  void SetHook(Hook hook) { hook_ = std::move(hook); }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, const CreateOptions& options) override {
    Call(Operation::kCreate, path);
    return base_.Create(path, options);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenWrite(const std::string& path) override {
    Call(Operation::kOpenWrite, path);
    return base_.OpenWrite(path);
  }
  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenRead(const std::string& path) override {
    Call(Operation::kOpenRead, path);
    return base_.OpenRead(path);
  }
  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenDirect(const std::string& path) override {
    Call(Operation::kOpenRead, path);
    return base_.OpenDirect(path);
  }
  absl::Status Link(const std::string& from, const std::string& to) override {
    Call(Operation::kLink, from);
    return base_.Link(from, to);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    Call(Operation::kRename, from);
    return base_.Rename(from, to);
  }
  absl::Status Remove(const std::string& path) override {
    Call(Operation::kRemove, path);
    return base_.Remove(path);
  }
  absl::Status CreateDirectories(const std::string& path) override { return base_.CreateDirectories(path); }
  absl::Status RemoveDirectory(const std::string& path) override { return base_.RemoveDirectory(path); }
  absl::Status SyncDirectory(const std::string& path) override {
    Call(Operation::kSyncDirectory, path);
    return base_.SyncDirectory(path);
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    Call(Operation::kList, path);
    return base_.List(path);
  }
  absl::StatusOr<int64_t> FreeBytes(const std::string& path) override { return base_.FreeBytes(path); }

 private:
  void Call(Operation operation, const std::string& path) {
    if (hook_) hook_(operation, path);
  }

  FileSystem& base_;
  Hook hook_;
};

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_HOOKED_FILE_SYSTEM_H_
