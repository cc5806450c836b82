#ifndef SCONCE_SERVER_INFERENCE_BATCH_TENSORS_H_
#define SCONCE_SERVER_INFERENCE_BATCH_TENSORS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/inference/runtime.h"

// The tensors of several requests as those of one, and back. Pure.
namespace sconce::inference {

// How a request can ride with others.
struct BatchShape {
  std::string key;    // of those with the same one; "": it runs alone
  int64_t rows = -1;  // what it has of the first dimension; -1: its tensors do not agree on that
};

// Two requests have the same key when they give the same arguments with the same dtypes and the same dimensions behind
// the first one. An argument that is no tensor for forward() (an int, say, given as a tensor of one element) is not
// joined but has to be the same, byte by byte. A request whose tensors have no first dimension, or not the same, or
// nothing in it, has no key.
BatchShape ShapeOf(const std::vector<HostTensor>& inputs, const ModelSignature& signature);

// The tensors of `requests`, which have the same key, one after the other along the first dimension. Copies.
std::vector<HostTensor> Join(absl::Span<const std::vector<HostTensor>* const> requests,
                             const ModelSignature& signature);

// MODEL_FAILED naming the first output whose first dimension is not `rows`: it cannot be divided among requests.
absl::Status CheckRows(const std::vector<HostTensor>& outputs, int64_t rows);

// For each element of `rows`, that many rows of every output, in order. Refers to the outputs' memory and keeps it. The
// error of CheckRows for the sum of `rows`.
absl::StatusOr<std::vector<std::vector<HostTensor>>> Divide(const std::vector<HostTensor>& outputs,
                                                            absl::Span<const int64_t> rows);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_BATCH_TENSORS_H_
