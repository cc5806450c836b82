#include "storage/repository/retention.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/error.h"

namespace sconce::repository {
namespace {

constexpr int64_t kLookAgainNs = int64_t{3600} * 1'000'000'000;

// On the hour, so that many commits to a run ask for one look.
int64_t NextHourNs(int64_t now_ns) {
  return (now_ns / kLookAgainNs + 1) * kLookAgainNs;
}

bool HasMetric(const VersionFacts& version) {
  return version.metric && !std::isnan(*version.metric);
}

// What of the run's versions as a whole the single verdicts need: two bounds, and who is first.
class Ranking {
 public:
  Ranking(const RetentionContext& context, absl::Span<const VersionFacts> versions) : context_(context) {
    std::vector<const VersionFacts*> good, ranked;
    for (const VersionFacts& version : versions) {
      if (version.quarantined) continue;
      good.push_back(&version);
      if (HasMetric(version)) ranked.push_back(&version);
    }
    if (!good.empty()) newest_ = good.back()->version;
    if (const auto n = static_cast<size_t>(context.rule.keep_last); n > 0 && n <= good.size()) {
      oldest_of_last_ = good[good.size() - n]->version;
    }
    const auto better = [this](const VersionFacts* a, const VersionFacts* b) { return IsBetter(*a, *b); };
    if (!ranked.empty()) best_ = (*std::min_element(ranked.begin(), ranked.end(), better))->version;
    if (const auto n = static_cast<size_t>(context.rule.keep_best); n > 0 && n <= ranked.size()) {
      std::nth_element(ranked.begin(), ranked.begin() + static_cast<ptrdiff_t>(n - 1), ranked.end(), better);
      worst_of_best_ = ranked[n - 1];
    }
  }

  int64_t newest() const { return newest_; }
  int64_t best() const { return best_; }
  // Fewer than N good versions come before it.
  bool IsAmongLast(const VersionFacts& version) const { return version.version >= oldest_of_last_; }
  bool IsAmongBest(const VersionFacts& version) const {
    return HasMetric(version) && (worst_of_best_ == nullptr || !IsBetter(*worst_of_best_, version));
  }

 private:
  // Requires: both have the metric. -0 is 0.
  bool IsBetter(const VersionFacts& a, const VersionFacts& b) const {
    if (*a.metric == *b.metric) return a.version > b.version;
    return context_.goal == MetricGoal::kMaximize ? *a.metric > *b.metric : *a.metric < *b.metric;
  }

  const RetentionContext& context_;
  int64_t newest_ = 0, best_ = 0;
  int64_t oldest_of_last_ = 0;                   // 0: there are fewer than N
  const VersionFacts* worst_of_best_ = nullptr;  // null: there are fewer than N
};

bool IsExpired(const RetentionContext& context, const VersionFacts& version) {
  return version.expire_time_ns && *version.expire_time_ns <= context.now_ns;
}

RetentionReason ReasonFor(const RetentionContext& context, const Ranking& ranking, const VersionFacts& version) {
  const RetentionRule& rule = context.rule;
  if (version.version == ranking.newest() || version.version == context.just_committed) return RetentionReason::kNewest;
  if (version.version == ranking.best()) return RetentionReason::kBest;
  if (version.aliased) return RetentionReason::kAlias;
  if (version.pinned) return RetentionReason::kPinned;
  if (version.deployed) return RetentionReason::kDeployed;
  if (IsExpired(context, version)) return RetentionReason::kExpired;
  if (!HasRules(rule)) return RetentionReason::kNoRules;
  if (rule.keep_last > 0 && ranking.IsAmongLast(version)) return RetentionReason::kKeepLast;
  if (rule.keep_best > 0 && ranking.IsAmongBest(version)) return RetentionReason::kKeepBest;
  if (rule.keep_every_steps > 0 && version.step && *version.step % rule.keep_every_steps == 0) {
    return RetentionReason::kKeepEverySteps;
  }
  const int64_t young_ns = absl::ToInt64Nanoseconds(rule.keep_younger_than);
  if (young_ns > 0 && context.now_ns - version.create_time_ns < young_ns) return RetentionReason::kKeepYounger;
  return RetentionReason::kUnwanted;
}

}  // namespace

std::vector<RetentionVerdict> DecideRetention(const RetentionContext& context,
                                              absl::Span<const VersionFacts> versions) {
  const Ranking ranking(context, versions);
  std::vector<RetentionVerdict> verdicts;
  verdicts.reserve(versions.size());
  for (const VersionFacts& version : versions) {
    verdicts.push_back({version.version, ReasonFor(context, ranking, version)});
  }
  return verdicts;
}

int64_t NextRetentionNs(const RetentionContext& context, absl::Span<const VersionFacts> versions,
                        absl::Span<const RetentionVerdict> verdicts) {
  int64_t next = INT64_MAX;
  const int64_t young_ns = absl::ToInt64Nanoseconds(context.rule.keep_younger_than);
  for (size_t i = 0; i < versions.size(); ++i) {
    const VersionFacts& version = versions[i];
    if (verdicts[i].deleted()) continue;
    if (version.expire_time_ns) {
      next = std::min(next, IsExpired(context, version) ? NextHourNs(context.now_ns) : *version.expire_time_ns);
    }
    if (version.deployed) next = std::min(next, NextHourNs(context.now_ns));
    if (verdicts[i].reason == RetentionReason::kKeepYounger && young_ns < INT64_MAX - version.create_time_ns) {
      next = std::min(next, version.create_time_ns + young_ns);
    }
  }
  return next == INT64_MAX ? 0 : next;
}

bool HasRules(const RetentionRule& rule) {
  return rule.keep_last > 0 || rule.keep_best > 0 || rule.keep_every_steps > 0 ||
         rule.keep_younger_than > absl::ZeroDuration();
}

absl::Status ValidateRetention(const RetentionRule& rule) {
  if (rule.keep_last >= 0 && rule.keep_best >= 0 && rule.keep_every_steps >= 0 &&
      rule.keep_younger_than >= absl::ZeroDuration()) {
    return absl::OkStatus();
  }
  return MakeError(Reason::ARGUMENT_INVALID, "a retention rule has a negative number; zero means no such rule");
}

std::string DescribeReason(RetentionReason reason, const RetentionRule& rule) {
  switch (reason) {
    case RetentionReason::kNewest:
      return "the newest version";
    case RetentionReason::kBest:
      return "what `best` means";
    case RetentionReason::kAlias:
      return "named by an alias";
    case RetentionReason::kPinned:
      return "pinned";
    case RetentionReason::kDeployed:
      return "served by a deployment";
    case RetentionReason::kExpired:
      return "its expire time has come";
    case RetentionReason::kNoRules:
      return "the run has no retention rule";
    case RetentionReason::kKeepLast:
      return absl::StrCat("among the newest ", rule.keep_last);
    case RetentionReason::kKeepBest:
      return absl::StrCat("among the best ", rule.keep_best);
    case RetentionReason::kKeepEverySteps:
      return absl::StrCat("its step is a multiple of ", rule.keep_every_steps);
    case RetentionReason::kKeepYounger:
      return absl::StrCat("younger than ", absl::FormatDuration(rule.keep_younger_than));
    case RetentionReason::kUnwanted:
      break;
  }
  return "no rule keeps it";
}

}  // namespace sconce::repository
