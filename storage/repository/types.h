#ifndef SCONCE_STORAGE_REPOSITORY_TYPES_H_
#define SCONCE_STORAGE_REPOSITORY_TYPES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/digest.h"

// What the repository takes and gives, in plain structs. See DESIGN.md section 2 (data model) for what the fields mean.
namespace sconce::repository {

using Labels = std::map<std::string, std::string>;
using Metrics = std::map<std::string, double>;

struct RunName {
  std::string project;
  std::string run;
  friend bool operator==(const RunName& a, const RunName& b) { return a.project == b.project && a.run == b.run; }
};

// A checkpoint as a caller names it: `selector` is a version number in decimal, "latest", "best" or an alias.
struct CheckpointRef {
  RunName run;
  std::string selector;
};

enum class MetricGoal { kMinimize, kMaximize };

// What `best` means in a run.
struct BestRule {
  std::string metric = "loss";
  MetricGoal goal = MetricGoal::kMinimize;
};

// What to keep; zero means no such rule. retention.h says what each rule keeps.
struct RetentionRule {
  int64_t keep_last = 0;
  int64_t keep_best = 0;
  int64_t keep_every_steps = 0;
  absl::Duration keep_younger_than = absl::ZeroDuration();
};

struct Run {
  RunName name;
  std::string uid;
  Labels labels;
  BestRule best_rule;
  RetentionRule retention;
  absl::Time create_time, update_time;
  int64_t checkpoint_count = 0;
  int64_t latest_version = 0;  // 0: none
  int64_t best_version = 0;    // 0: none has the metric
  std::string etag;
};

struct RunUpdate {   // absent: unchanged
  std::string etag;  // empty: no check
  std::optional<Labels> labels;
  std::optional<BestRule> best_rule;
  std::optional<RetentionRule> retention;
};

enum class CheckpointKind { kState, kOpaque };
enum class CheckpointState { kCommitted, kQuarantined };

struct Checkpoint {
  RunName run;
  int64_t version = 0;
  CheckpointKind kind = CheckpointKind::kState;
  CheckpointState state = CheckpointState::kCommitted;
  std::optional<int64_t> epoch, step;
  Metrics metrics;
  Labels labels;
  int64_t parent = 0;              // version this one was trained from; 0: not said
  int64_t logical_bytes = 0;       // all storages, as torch would load them
  int64_t stored_bytes = 0;        // bytes this push added to the disk
  int64_t deduplicated_bytes = 0;  // bytes that were there already
  int64_t tensor_count = 0;
  int64_t manifest_bytes = 0;
  Digest manifest_digest;
  absl::Time create_time;
  std::optional<absl::Time> expire_time;
  bool pinned = false;
  std::vector<std::string> aliases;
  std::string etag;
};

struct CheckpointUpdate {  // absent: unchanged
  std::string etag;        // empty: no check
  std::optional<Labels> labels;
  std::optional<bool> pinned;
  std::optional<std::optional<absl::Time>> expire_time;
  Metrics add_metrics;  // METRIC_ALREADY_SET for one that is there with another value
};

struct Module {
  RunName run;
  std::string module;
  int64_t size_bytes = 0;
  Digest digest;  // SHA-256 of the archive
  absl::Time create_time;
  Labels labels;
};

struct Alias {
  RunName run;
  std::string alias;
  int64_t version = 0;
  absl::Time update_time;
  std::string etag;
};

// Who asked, for idempotency (DESIGN.md invariant 6). An empty id means the call is not repeatable.
struct RequestKey {
  std::string principal;
  std::string method;
  std::string request_id;
};

struct PushOptions {
  RunName run;
  bool create_run = true;  // false: RUN_NOT_FOUND for an unknown run
  CheckpointKind kind = CheckpointKind::kState;
  std::optional<int64_t> epoch,
      step;  // absent: taken from the tree; given and different from the tree: ATTRIBUTE_CONFLICT
  Metrics metrics;
  Labels labels;
  int64_t parent = 0;
  bool pinned = false;
  std::optional<absl::Time> expire_time;
  RequestKey request;
};

// What is known of damage.
struct Integrity {
  int64_t quarantined = 0;  // versions and modules, now
  int64_t quarantined_versions = 0;
  int64_t damaged_footers = 0;                // blobs that serve, but that a rebuild of the catalog could not use
  bool catalog_corrupt = false;               // the catalog has answered that it is damaged, since the start
  int64_t failures = 0;                       // chunks, manifests, footers and catalogs found damaged since the start
  std::optional<absl::Time> last_scrub_time;  // when a round over everything ended, since the start
};

// What retention would do to a version.
struct RetentionDecision {
  int64_t version = 0;
  bool deleted = false;
  std::string why;  // "among the newest 3", "no rule keeps it"
};

template <typename T>
struct Page {
  std::vector<T> items;
  std::string next;  // where to go on, to be passed back as `start`; empty at the end
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_TYPES_H_
