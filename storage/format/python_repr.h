#ifndef SCONCE_STORAGE_FORMAT_PYTHON_REPR_H_
#define SCONCE_STORAGE_FORMAT_PYTHON_REPR_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "storage/format/manifest.h"

// Values as Python would print them.
namespace sconce::format {

// An int with more bytes than this is written in hexadecimal: decimal would take quadratic time.
inline constexpr size_t kMaxDecimalIntBytes = 64;

// "0.001", "1e-05", "3.0", "nan", "-inf".
std::string FloatRepr(double value);
// Of a kInt node: "12", "-0x1f..." (see kMaxDecimalIntBytes).
std::string IntRepr(const Node& node);

// repr() of any node: "'adam'", "b'\\x00'", "(1, None)", "{'lr': 0.1}", "torch.Size([2, 3])", "device(type='cuda',
// index=0)",
// "<tensor>". At most `max_bytes`; what does not fit is cut and ends in "...". Takes time in proportion to max_bytes.
std::string PythonRepr(const Manifest& manifest, NodeIndex node, size_t max_bytes);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PYTHON_REPR_H_
