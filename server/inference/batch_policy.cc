#include "server/inference/batch_policy.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace sconce::inference {
namespace {

struct Candidate {
  std::vector<size_t> members;
  int64_t rows = 0;
  bool full = false;
  absl::Time due;  // when its first request has waited long enough
};

void Add(size_t position, const Waiting& request, int64_t max_rows, Candidate& candidate) {
  if (candidate.full) return;
  if (!candidate.members.empty() && request.rows > max_rows - candidate.rows) {
    candidate.full = true;
    return;
  }
  candidate.members.push_back(position);
  candidate.rows += request.rows;
  candidate.full = candidate.rows >= max_rows;
}

}  // namespace

BatchDecision DecideBatch(absl::Span<const Waiting> queue, const BatchPolicy& policy, absl::Time now) {
  std::vector<Candidate> candidates;  // by their oldest request
  absl::flat_hash_map<absl::string_view, size_t> by_key;
  for (size_t i = 0; i < queue.size(); ++i) {
    const Waiting& request = queue[i];
    if (request.key.empty() || policy.max_batch_size <= 0) {
      candidates.push_back({{i}, request.rows, /*full=*/true, now});
      continue;
    }
    const auto [place, is_new] = by_key.emplace(request.key, candidates.size());
    if (is_new) candidates.push_back({{}, 0, false, request.since + policy.max_queue_delay});
    Add(i, request, policy.max_batch_size, candidates[place->second]);
  }
  BatchDecision decision;
  for (Candidate& candidate : candidates) {
    if (candidate.full || candidate.due <= now) {
      decision.members = std::move(candidate.members);
      decision.look_again = absl::InfiniteFuture();
      return decision;
    }
    decision.look_again = std::min(decision.look_again, candidate.due);
  }
  return decision;
}

}  // namespace sconce::inference
