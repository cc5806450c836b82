#ifndef SCONCE_STORAGE_FORMAT_NUMBER_H_
#define SCONCE_STORAGE_FORMAT_NUMBER_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "storage/format/manifest.h"

namespace sconce::format {

// A number read out of a checkpoint, exact where it can be.
struct Number {
  bool is_integer = false;
  int64_t integer = 0;  // where is_integer
  double real = 0;      // always
};

// One element of raw bytes as PyTorch stores them (little-endian). nullopt for complex, quantized, bool and sub-byte
// dtypes, for an integer beyond int64, and unless there are exactly as many bytes as one element has.
std::optional<Number> ElementNumber(DType dtype, absl::string_view bytes);

// Likewise for numpy's dtype strings ("<f4", ">i8").
std::optional<Number> NumpyNumber(absl::string_view dtype, absl::string_view bytes);

// The number that a node is: an int or float (not a bool), a strided tensor or Parameter of one element whose storage
// is inline, a numpy scalar, or a numpy array of one element. Requires a valid manifest.
std::optional<Number> NumberOf(const Manifest& manifest, NodeIndex node);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_NUMBER_H_
