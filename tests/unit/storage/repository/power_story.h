#ifndef SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_POWER_STORY_H_
#define SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_POWER_STORY_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "storage/repository/repository.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {

// A repository on the fault file system, a client of it that remembers what it asked for and what it was told, and the
// questions that must have the right answers after every failure. Steps that fail are remembered as open: they may turn
// out to have happened or not, but nothing else. One thread.
class PowerStory {
 public:
  using Contents = std::vector<std::string>;

  PowerStory();
  absl::Status Open();  // also after Close
  void Close() { repository_ = nullptr; }
  Repository& repository() { return *repository_; }

  // A failure after which only a restart helps, and which says so.
  bool needs_restart() const { return needs_restart_; }

  // The steps. After a step failed the story is over (and those behind do nothing), unless it goes on.
  void GoOnAfterFailures() { goes_on_ = true; }
  void Push(const std::string& run, Contents contents);
  void PushModule(const std::string& run, const std::string& module, const std::string& bytes);
  void DeleteModule(const std::string& run, const std::string& module);
  void Delete(const std::string& run, int64_t version);
  void DeleteRun(const std::string& run);
  void SetAlias(const std::string& run, const std::string& alias, int64_t version);
  void DeleteAlias(const std::string& run, const std::string& alias);
  void AddMetric(const std::string& run, int64_t version, const std::string& metric, double value);
  void Pin(const std::string& run, int64_t version);
  void KeepLast(const std::string& run, int64_t versions);
  // The step before, if it was acknowledged, gave retention a reason to leave the version alone; a step that comes
  // after this may take it away.
  void Hold(const std::string& run, int64_t version);
  void Release(const std::string& run, int64_t version);
  void Collect();
  // Those the run has, when no step failed so far.
  void ExpectVersions(const std::string& run, const std::vector<int64_t>& versions);

  // Uploads: what was sent of one is there after a restart; it becomes a version when it is committed, and with the
  // others when pushes are retried. The value names it.
  std::string SendUpload(const std::string& run, std::vector<Contents> parts);
  void CommitUpload(const std::string& upload);
  void AbortUpload(const std::string& upload);
  // Nobody touches the open ones for so long that they are dropped, and the collector comes.
  void LetUploadsExpire();
  // No blob is left of anything, when no step failed so far.
  void ExpectNoBlobs();

  void Backup(const std::string& name);
  // What two dead versions left is one blob, and another version's is the second.
  void ExpectCompacted();
  // Flips a bit of the version's first chunk and reads it, so that it is found.
  void Damage(const std::string& run, int64_t version);

  const absl::Status& first_failure() const { return first_failure_; }

  // All that was acknowledged is there, whole; what was refused is not.
  void ExpectAcknowledged();
  // Sends again what was not acknowledged: it is there once then, also when it was there before.
  void RetryPushes();
  // After RetryPushes: nothing is there that nobody pushed, the store takes new pushes, and after one collection the
  // store is exactly what its versions need. Closes the repository.
  void ExpectCleanAfterOneCollection();

  FaultFileSystem& files() { return files_; }

 private:
  struct Pushed {
    std::string run, label;
    Contents contents;
    int64_t version = 0;   // 0: not acknowledged
    bool open = false;     // asked to go, or subject to a rule: may be there or not
    bool deleted = false;  // acknowledged
    bool damaged = false;  // its bytes were
    std::map<std::string, double> metrics;
    bool whole_run_open = false;  // the run's deletion was asked for
    bool held = false;            // retention must leave it alone
    // Of an upload.
    std::vector<Contents> parts;
    std::vector<bool> sent;  // parts that were acknowledged
    bool commit_asked = false;
    bool abort_asked = false;
  };
  // A copy, and what must be in it.
  struct Taken {
    std::string name;
    bool acknowledged = false;
    std::vector<Pushed> whole;
  };
  enum class Presence { kThere, kGone, kOpen };

  bool Skip() const { return !goes_on_ && !first_failure_.ok(); }
  bool Happened(const absl::Status& status);  // remembers the first failure
  absl::StatusOr<std::unique_ptr<Repository>> Start(const std::string& data_dir);
  PushOptions OptionsOf(const Pushed& push) const;
  absl::StatusOr<int64_t> Send(Pushed& push);
  absl::Status SendParts(Pushed& push);
  Pushed* FindUpload(const std::string& label);
  void ExpectUpload(const Pushed& push);
  void ExpectBackup(const Taken& taken);
  // Retention may act on the run: what no rule is sure to keep may go.
  void RetentionMayTake(const std::string& run);
  void ExpectRetained(const std::string& run, int64_t keep_last);
  bool Undisturbed() const { return first_failure_.ok() && !files_.failed() && !files_.power_is_off(); }
  Pushed* Find(const std::string& run, int64_t version);
  static absl::StatusOr<std::string> ReadVersion(Repository& repository, const std::string& run, int64_t version);
  void ExpectVersion(Pushed& push);
  std::vector<Checkpoint> List(const std::string& run);

  TempDir dir_;
  FaultFileSystem files_{dir_.path()};
  TurnedClock clock_;
  std::unique_ptr<Repository> repository_;
  bool goes_on_ = false, needs_restart_ = false, last_step_happened_ = false;
  absl::Status first_failure_;
  std::vector<Pushed> pushes_;
  std::map<std::pair<std::string, std::string>, std::set<int64_t>> aliases_;  // what each may point to; 0: absent
  std::map<std::pair<std::string, std::string>, std::pair<std::string, Presence>> modules_;
  std::set<std::string> runs_;
  std::map<std::string, int64_t> limited_;  // runs with retention, and how many of their newest versions it keeps
  std::set<std::string> surely_limited_;    // those whose policy was acknowledged
  std::vector<Taken> backups_;
};

}  // namespace sconce::repository

#endif  // SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_POWER_STORY_H_
