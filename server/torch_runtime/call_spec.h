#ifndef SCONCE_SERVER_TORCH_RUNTIME_CALL_SPEC_H_
#define SCONCE_SERVER_TORCH_RUNTIME_CALL_SPEC_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sconce::torch_runtime {

// What a compiled module takes and gives, in the order of its own flat lists.
struct CallSpec {
  std::vector<std::string>
      arguments;                     // INPUT__0 ... for those by position, whose names are not kept; then those by name
  std::vector<std::string> outputs;  // OUTPUT__0 ..., or the keys of a dict
};

// Reads the two trees that torch.export writes down, as JSON: [1, {"type": ..., "context": ..., "children_spec":
// [...]}]. MODULE_INVALID when they hold together no tensors that a request or an answer could carry: lists inside
// arguments, dicts inside outputs, keys that are no strings.
absl::StatusOr<CallSpec> ReadCallSpec(absl::string_view inputs, absl::string_view outputs);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_CALL_SPEC_H_
