#ifndef SCONCE_SERVER_INFERENCE_BATCH_POLICY_H_
#define SCONCE_SERVER_INFERENCE_BATCH_POLICY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace sconce::inference {

// How requests of one version are joined, and how many of them may wait.
struct BatchPolicy {
  int64_t max_batch_size = 0;      // rows that run together; 0: every request runs alone
  absl::Duration max_queue_delay;  // how long the first of a batch waits for others while an instance is free
  int64_t max_queue_size = 128;    // requests that wait
  int64_t max_queue_bytes = int64_t{256} << 20;
  friend bool operator==(const BatchPolicy& a, const BatchPolicy& b) {
    return a.max_batch_size == b.max_batch_size && a.max_queue_delay == b.max_queue_delay &&
           a.max_queue_size == b.max_queue_size && a.max_queue_bytes == b.max_queue_bytes;
  }
};

// A request that waits, as far as the decision needs to know it.
struct Waiting {
  absl::string_view key;  // those with the same one may ride together; "": alone
  int64_t rows = 0;
  absl::Time since;
};

struct BatchDecision {
  std::vector<size_t> members;                     // positions in the queue, ascending; empty: nothing is due
  absl::Time look_again = absl::InfiniteFuture();  // then: when something will be, if nothing comes before
};

// What to run now that an instance is free. `queue` is in the order of arrival. Pure.
//
// The requests of a key form a batch in the order in which they came, up to the first that does not fit. A batch is due
// when it is full (its rows reach the maximum, or the next one does not fit), when its first request has waited for
// max_queue_delay, and at once when it cannot grow (no key). Of those that are due the one with the oldest request
// goes first, so that no key starves another.
BatchDecision DecideBatch(absl::Span<const Waiting> queue, const BatchPolicy& policy, absl::Time now);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_BATCH_POLICY_H_
