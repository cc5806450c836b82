#ifndef SCONCE_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_
#define SCONCE_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/file_system.h"
#include "base/mutex.h"

namespace sconce {

// A file system on which the power can fail and operations can go wrong, at any chosen point. It keeps real files below
// one directory and remembers of each what a disk would still have after a power cut: bytes only once their file was
// synced, names only once their directory was.
//
// Operations are what changes something: Create, OpenWrite, WriteAt, Truncate, SetMode, Sync, Link, Rename, Remove,
// CreateDirectories, RemoveDirectory and SyncDirectory. A test walks through "what if exactly this one is the last"
// with CutPowerAt(1), CutPowerAt(2), ... until power_is_off() stays false at the end:
//
//   fs.CutPowerAt(n);
//   DoWork(fs);                      // from the n-th operation on everything fails
//   fs.RestorePower(Loss::kUnsynced);
//   CheckWhatIsThere(fs);
//
// Nothing really waits for the disk, so that thousands of power cuts take seconds; of O_DIRECT only the alignment rules
// are kept (a write against them is IO_ERROR). Thread-safe. Must outlive the files opened through it.
class FaultFileSystem final : public FileSystem {
 public:
  // What the power cut takes.
  enum class Loss {
    kUnsynced,       // every byte and every name that was not synced
    kUnsyncedBytes,  // bytes only: the changes of names reached the disk early, as they may
    kTornBytes,      // as before, but of the unsynced pages some, by chance, reached the disk too
  };

  // `root` exists, is empty, and all paths given later lie in it.
  explicit FaultFileSystem(const std::string& root);

  // How many operations there were.
  int64_t operations() const;
  // The power fails at the n-th operation from now (1 is the next): it and all that follows does nothing and is
  // IO_ERROR, reads too.
  void CutPowerAt(int64_t n);
  bool power_is_off() const;
  // Puts the files into the state a disk would be in, and lets operations succeed again. Files opened before stay dead.
  void RestorePower(Loss loss, uint32_t seed = 1);

  // The n-th operation from now fails once with this errno. A failed WriteAt has written half; after a failed Sync the
  // unsynced bytes of that file are lost for good, though a later Sync says OK, as on Linux.
  void FailAt(int64_t n, int error_number);
  // Whether the failure asked for has happened.
  bool failed() const;
  // Takes back a failure or a power cut that has not happened yet.
  void Disarm();
  // What FreeBytes answers; nullopt: the truth.
  void SetFreeBytes(std::optional<int64_t> bytes);

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path, const CreateOptions& options) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenWrite(const std::string& path) override;
  absl::StatusOr<std::shared_ptr<const ReadableFile>> OpenRead(const std::string& path) override;
  absl::Status Link(const std::string& from, const std::string& to) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status CreateDirectories(const std::string& path) override;
  absl::Status RemoveDirectory(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<int64_t> FreeBytes(const std::string& path) override;

 private:
  friend class FaultWritableFile;

  struct Inode {
    std::string path;                                // one of its names now; empty once it has none
    std::string synced;                              // its bytes as of the last Sync
    std::vector<std::pair<int64_t, int64_t>> dirty;  // what was written since: [begin, end)
    bool lost_bytes = false;                         // a Sync failed: later ones do nothing
  };
  using InodePtr = std::shared_ptr<Inode>;
  using Entries = std::map<std::string, InodePtr>;  // by name; null for a directory

  // Counts one operation and decides whether it happens.
  absl::Status Begin(const std::string& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckPower(const std::string& what) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The file is not called `path` any more.
  void DropName(const std::string& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RenameDirectory(const std::string& from, const std::string& to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Entries LiveEntries(const std::string& directory) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeDirtyBytes(Inode& inode) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::string LiveBytes(const Inode& inode) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::string SurvivingBytes(const Inode& inode, Loss loss, uint32_t seed) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string root_;
  FileSystem& base_;

  mutable Mutex mu_;
  std::map<std::string, InodePtr> files_ ABSL_GUARDED_BY(mu_);  // live, by path
  std::set<std::string> directories_ ABSL_GUARDED_BY(mu_);      // live, with the root
  std::map<std::string, Entries> synced_ ABSL_GUARDED_BY(mu_);  // what each directory durably names
  int64_t operations_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t cut_at_ ABSL_GUARDED_BY(mu_) = INT64_MAX;
  int64_t fail_at_ ABSL_GUARDED_BY(mu_) = INT64_MAX;
  int fail_errno_ ABSL_GUARDED_BY(mu_) = 0;
  bool power_is_off_ ABSL_GUARDED_BY(mu_) = false;
  int64_t boots_ ABSL_GUARDED_BY(mu_) = 0;  // a file opened before the last one is dead
  std::optional<int64_t> free_bytes_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_FAULT_FILE_SYSTEM_H_
