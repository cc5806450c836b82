#ifndef SCONCE_STORAGE_REPOSITORY_RETENTION_H_
#define SCONCE_STORAGE_REPOSITORY_RETENTION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "storage/repository/types.h"

// Which versions of a run stay, and why. Pure.
//
// In this order:
//  1. What is protected always stays: the newest version that is not quarantined (`latest`) and the one just committed,
//     what `best` means, what an alias names, what is pinned, and what a deployment serves.
//  2. A version whose expire time has come goes, whatever the rules say. (An expire time in the future keeps nothing.)
//  3. A run without any rule keeps the rest.
//  4. Otherwise a version stays if at least one rule keeps it, and goes if none does:
//       keep_last N         fewer than N good versions have a higher number
//       keep_best N         it has the run's metric (NaN is none), and fewer than N good versions are better: a better
//                           value, or the same and a higher number, as for `best`
//       keep_every_steps K  it has a step, and that is a multiple of K
//       keep_younger_than T it is younger than T
//
// "Good" is not quarantined. A quarantined version thus takes no good one's place among the last or best N, yet damage
// does not make it go sooner than it would have gone whole: pushing the content again heals it.
namespace sconce::repository {

// What decides about a version.
struct VersionFacts {
  int64_t version = 0;
  int64_t generation = 0;  // of its record; not looked at, for the caller to know whether it changed since
  int64_t create_time_ns = 0;
  std::optional<int64_t> expire_time_ns;
  std::optional<int64_t> step;
  std::optional<double> metric;  // the run's
  bool quarantined = false, pinned = false, aliased = false, deployed = false;
};

// What decides about all of them.
struct RetentionContext {
  RetentionRule rule;
  MetricGoal goal = MetricGoal::kMinimize;
  int64_t now_ns = 0;
  int64_t just_committed = 0;  // a version; 0: none
};

enum class RetentionReason {
  kNewest,
  kBest,
  kAlias,
  kPinned,
  kDeployed,
  kExpired,  // goes
  kNoRules,
  kKeepLast,
  kKeepBest,
  kKeepEverySteps,
  kKeepYounger,
  kUnwanted,  // goes
};

struct RetentionVerdict {
  int64_t version = 0;
  RetentionReason reason = RetentionReason::kNoRules;
  bool deleted() const { return reason == RetentionReason::kExpired || reason == RetentionReason::kUnwanted; }
};

// One verdict for each of `versions`, which are all the run has, in ascending order; so are the verdicts.
std::vector<RetentionVerdict> DecideRetention(const RetentionContext& context, absl::Span<const VersionFacts> versions);

// When a verdict may be another one by the mere passing of time; 0: never. `verdicts` are those of `versions`. What a
// deployment serves, or goes only when it is not protected any more, is worth a look every hour.
int64_t NextRetentionNs(const RetentionContext& context, absl::Span<const VersionFacts> versions,
                        absl::Span<const RetentionVerdict> verdicts);

bool HasRules(const RetentionRule& rule);

// ARGUMENT_INVALID for a negative number.
absl::Status ValidateRetention(const RetentionRule& rule);

// "among the newest 3", for people.
std::string DescribeReason(RetentionReason reason, const RetentionRule& rule);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_RETENTION_H_
