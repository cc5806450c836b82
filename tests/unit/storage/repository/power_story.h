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
  void KeepLast(const std::string& run, int64_t versions);
  void Collect();
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
  };
  enum class Presence { kThere, kGone, kOpen };

  bool Skip() const { return !goes_on_ && !first_failure_.ok(); }
  bool Happened(const absl::Status& status);  // remembers the first failure
  absl::StatusOr<int64_t> Send(const Pushed& push);
  Pushed* Find(const std::string& run, int64_t version);
  absl::StatusOr<std::string> ReadVersion(const std::string& run, int64_t version);
  void ExpectVersion(Pushed& push);
  std::vector<Checkpoint> List(const std::string& run);

  TempDir dir_;
  FaultFileSystem files_{dir_.path()};
  TurnedClock clock_;
  std::unique_ptr<Repository> repository_;
  bool goes_on_ = false, needs_restart_ = false;
  absl::Status first_failure_;
  std::vector<Pushed> pushes_;
  std::map<std::pair<std::string, std::string>, std::set<int64_t>> aliases_;  // what each may point to; 0: absent
  std::map<std::pair<std::string, std::string>, std::pair<std::string, Presence>> modules_;
  std::set<std::string> runs_, limited_runs_;  // of limited ones only the newest version is sure to be there
};

}  // namespace sconce::repository

#endif  // SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_POWER_STORY_H_
