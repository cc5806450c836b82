#ifndef SCONCE_STORAGE_REPOSITORY_DELETION_LOG_H_
#define SCONCE_STORAGE_REPOSITORY_DELETION_LOG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "storage/catalog/keys.h"

// DATA_DIR/deletions.log: what was deleted, kept outside the catalog, so that a catalog rebuilt from the blobs does not
// bring it back. docs/formats/deletions.md has every byte.
namespace sconce::repository {

struct Deletion {
  enum class Kind : char { kVersion = 'c', kModule = 'd', kRun = 'r' };
  Kind kind = Kind::kVersion;
  uint64_t project_uid = 0;
  uint64_t run_uid = 0;
  uint64_t number = 0;  // the version, or the module's uid; 0 for a run, which takes everything in it along
  int64_t time_ns = 0;  // when it was written down

  friend bool operator==(const Deletion& a, const Deletion& b) {
    return a.kind == b.kind && a.project_uid == b.project_uid && a.run_uid == b.run_uid && a.number == b.number &&
           a.time_ns == b.time_ns;
  }
};
Deletion DeletionOf(uint64_t project_uid, const catalog::Owner& owner, int64_t now_ns);
Deletion DeletionOfRun(uint64_t project_uid, uint64_t run_uid, int64_t now_ns);

// A log as it stands in its file.
struct DeletionLogContents {
  std::vector<Deletion> deletions;  // every record that checks, in order; an object may occur more than once
  int64_t damaged = 0;              // records that do not check though they had been synced: what they said is lost
  int64_t sound_records = 0;        // before a torn tail; damaged ones count
  bool torn = false;                // the last append did not reach the disk as a whole
};
// Nothing when the file is absent. DATA_DIR_INCOMPATIBLE for a version this build does not know; IO_ERROR.
absl::StatusOr<DeletionLogContents> ReadDeletionLog(FileSystem& file_system, const std::string& data_dir);

// The log, open for writing. Thread-safe.
class DeletionLog {
 public:
  // Cuts off a torn tail. A log with damaged records is moved to deletions.log.damaged and written anew with those that
  // check; an error line says so. Errors as ReadDeletionLog.
  static absl::StatusOr<std::unique_ptr<DeletionLog>> Open(FileSystem& file_system, const std::string& data_dir);

  // Returns when all of them are durably in the log. Those this process recorded before, and has not forgotten, are not
  // written again. After an error nothing is known of them; call again.
  absl::Status Record(absl::Span<const Deletion> deletions);
  // The object's tombstone is gone: nobody will ask to record it again.
  void Forget(const Deletion& deletion);

  int64_t records() const;
  // Replaces the log by one with the records `needed` wants kept, in one atomic step.
  absl::Status Rewrite(absl::FunctionRef<bool(const Deletion&)> needed);

 private:
  using Object = std::tuple<char, uint64_t, uint64_t>;  // kind, run, number
  static Object ObjectOf(const Deletion& deletion) {
    return {static_cast<char>(deletion.kind), deletion.run_uid, deletion.number};
  }

  DeletionLog(FileSystem& file_system, std::string data_dir) : fs_(file_system), data_dir_(std::move(data_dir)) {}
  absl::Status Append(absl::Span<const Deletion> deletions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A log with these records, made durable beside the present one and renamed over it.
  absl::Status Replace(absl::Span<const Deletion> deletions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  FileSystem& fs_;
  const std::string data_dir_;

  mutable Mutex mu_;                                         // held over writes: there is one writer, the collector
  std::unique_ptr<WritableFile> file_ ABSL_GUARDED_BY(mu_);  // null: to be made
  int64_t records_ ABSL_GUARDED_BY(mu_) = 0;
  // A write or a sync failed: what is on the disk is unknown, and a later sync would not tell. The log is made anew
  // before anything is added.
  bool suspect_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_set<Object> recorded_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_DELETION_LOG_H_
