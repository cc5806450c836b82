#ifndef SCONCE_STORAGE_FORMAT_DEVICE_H_
#define SCONCE_STORAGE_FORMAT_DEVICE_H_

#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sconce::format {

// OK for what torch.device() takes ("cpu", "cuda", "cuda:1"); else DEVICE_INVALID with PyTorch's own sentence.
absl::Status ValidateDevice(absl::string_view device);

// The devices that a reader says it has. "cuda" stands for every cuda:N, "cuda:1" for that one alone; "cpu" is always
// there, and nothing said means that everything is. Immutable.
class AvailableDevices {
 public:
  explicit AvailableDevices(absl::Span<const std::string> devices);

  // A `device` without number ("cuda") needs any one of that type.
  bool Has(absl::string_view device) const;

  // DEVICE_UNAVAILABLE in the words of torch.load, for a storage found at `path` that is wanted on `device`.
  absl::Status Unavailable(absl::string_view device, absl::string_view path) const;

 private:
  absl::flat_hash_set<std::string> devices_;
  absl::flat_hash_set<std::string> types_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_DEVICE_H_
