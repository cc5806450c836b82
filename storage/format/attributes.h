#ifndef SCONCE_STORAGE_FORMAT_ATTRIBUTES_H_
#define SCONCE_STORAGE_FORMAT_ATTRIBUTES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "storage/format/manifest.h"

namespace sconce::format {

// What is read of a checkpoint's own `metrics`: at most this many, with names of at most so many bytes. The others are
// ignored.
inline constexpr size_t kMaxTreeMetrics = 1000;
inline constexpr size_t kMaxMetricNameBytes = 256;

// What a checkpoint says about itself in its own top-level keys.
struct TreeAttributes {
  std::optional<int64_t> epoch;
  std::optional<int64_t> step;
  std::map<std::string, double> metrics;
};

// Reads the root dict's `epoch`, `step` (else `global_step`), `loss` (as metrics["loss"]) and `metrics` (a dict of str
// to number). A number is an int or float, a tensor or Parameter of one element whose storage is inline, or a numpy
// scalar or array of one element; epoch and step must be whole. NaN is kept. Where `metrics` has a "loss" too, the
// top-level one counts. What does not fit is ignored. Requires a valid manifest.
TreeAttributes ExtractAttributes(const Manifest& manifest);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_ATTRIBUTES_H_
