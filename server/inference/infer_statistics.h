#ifndef SCONCE_SERVER_INFERENCE_INFER_STATISTICS_H_
#define SCONCE_SERVER_INFERENCE_INFER_STATISTICS_H_

#include <cstdint>
#include <map>

#include "absl/time/time.h"

// What a version did since it was loaded, in the terms of the Open Inference Protocol's statistics extension.
namespace sconce::inference {

struct DurationSum {
  uint64_t count = 0;
  absl::Duration total;
  void Add(absl::Duration one) {
    ++count;
    total += one;
  }
};

// Of a run of the model: joining inputs, running, dividing outputs.
struct RunDurations {
  DurationSum input, infer, output;
};

struct InferStatistics {
  absl::Time last_inference = absl::InfinitePast();
  uint64_t inference_count = 0;  // rows answered; a request that has no rows counts as one
  uint64_t execution_count = 0;  // runs of the model that succeeded
  uint64_t overloaded = 0;       // requests turned away because the queue was full; they count as failures too
  DurationSum success, fail;     // from coming in to the answer, by request
  DurationSum queue;             // of requests that succeeded, as the next
  RunDurations compute;
  std::map<int64_t, RunDurations> by_batch_size;  // by rows that ran together, one count for each run
};

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_INFER_STATISTICS_H_
