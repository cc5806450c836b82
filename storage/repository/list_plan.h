#ifndef SCONCE_STORAGE_REPOSITORY_LIST_PLAN_H_
#define SCONCE_STORAGE_REPOSITORY_LIST_PLAN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "storage/repository/checkpoint_filter.h"

// Which index a list of versions pages by. Pure: a query in, ranges of catalog keys out.
namespace sconce::repository {

// Keys of an index, [begin, end): `prefix`, what they are ordered by, the inverted version.
struct IndexRange {
  std::string prefix, begin, end;
};

// The versions that satisfy one condition, and perhaps some that do not: the filter is asked about each.
struct IndexSet {
  std::vector<IndexRange> ranges;
  std::vector<int64_t> versions;  // besides, known without looking
  // It is ranges alone, each of one value, so that their keys are in the order of versions.
  bool by_version = true;
};

struct ListPlan {
  CheckpointOrder order;
  // Bounds that the filter sets.
  int64_t first_version = 1;
  int64_t last_version = 0;
  // What gives versions in the order asked for. Without ranges: the records themselves, which are in the order of
  // versions.
  IndexSet stream;
  // Sets that have all versions the filter takes, in another order. One of them may be so small that it is better.
  std::vector<IndexSet> sets;
};

using AliasMap = std::map<int64_t, std::vector<std::string>>;  // names by version

// `last_version`: no version of the run is newer.
ListPlan PlanList(uint64_t run_uid, int64_t last_version, const AliasMap& aliases, const CheckpointQuery& query);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_LIST_PLAN_H_
