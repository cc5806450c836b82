#ifndef SCONCE_SERVER_INFERENCE_INFER_REQUEST_H_
#define SCONCE_SERVER_INFERENCE_INFER_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/strings.h"
#include "server/inference/runtime.h"

// From a request of the Open Inference Protocol to the arguments of forward(). Pure. The sentences of errors are
// Triton's where it has one, since people search for them.
namespace sconce::inference {

// The typed values of an input (`contents`), as the protocol keeps them: one field for each group of datatypes.
struct TypedContents {
  absl::Span<const bool> bools;
  absl::Span<const int32_t> ints;  // INT8, INT16, INT32
  absl::Span<const int64_t> int64s;
  absl::Span<const uint32_t> uints;  // UINT8
  absl::Span<const uint64_t> uint64s;
  absl::Span<const float> floats;
  absl::Span<const double> doubles;
  int byte_strings = 0;  // how many; no tensor takes them
};

struct RequestedInput {
  std::string name;
  std::string datatype;
  std::vector<int64_t> shape;
  std::optional<TypedContents> contents;
  bool shared_memory = false;  // asks for Triton's shared memory regions
};

struct InferRequest {
  std::string model;
  std::vector<RequestedInput> inputs;
  std::vector<ByteSpan> raw;  // raw_input_contents
};

// The tensors for forward(), in the order and under the names of its arguments. Inputs are named like the arguments, or
// by position with a number behind two underscores (`INPUT__0`). Refers to the request's bytes.
//
// MODEL_INPUT_INVALID for names, counts, datatypes, shapes and sizes that do not fit the signature or each other;
// NOT_IMPLEMENTED for shared memory regions.
absl::StatusOr<std::vector<HostTensor>> BindInputs(const InferRequest& request, const ModelSignature& signature);

// Those of `outputs` that the request names, in its order; all of them when it names none. MODEL_INPUT_INVALID for a
// name that the model did not give.
absl::StatusOr<std::vector<HostTensor>> SelectOutputs(const std::string& model, const std::vector<std::string>& names,
                                                      std::vector<HostTensor> outputs);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_INFER_REQUEST_H_
