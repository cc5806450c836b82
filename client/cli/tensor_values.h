#ifndef SCONCE_CLIENT_CLI_TENSOR_VALUES_H_
#define SCONCE_CLIENT_CLI_TENSOR_VALUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"
#include "storage/format/manifest.h"

// Tensors between files, the Open Inference Protocol and people.
namespace sconce::cli {

// A tensor's elements in row-major order without gaps, from the bytes of its storage. Requires a valid view.
std::string ContiguousBytes(const format::TensorView& view, ByteSpan storage);

// The protocol's name of a dtype, "FP32"; ARGUMENT_INVALID for one it does not have.
absl::StatusOr<std::string> ProtocolDatatype(format::DType dtype);

// Elements of a raw tensor of the protocol as text, one each ("0.25", "7", "true", "nan"). MODEL_INPUT_INVALID for a
// datatype without a printed form or when the bytes are no multiple of its size.
absl::StatusOr<std::vector<std::string>> ElementTexts(absl::string_view datatype, absl::string_view raw);

// Nested brackets as Python prints lists, at most `limit` elements and then "...".
std::string RenderNested(const std::vector<int64_t>& shape, const std::vector<std::string>& elements, size_t limit);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_TENSOR_VALUES_H_
