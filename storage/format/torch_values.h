#ifndef SCONCE_STORAGE_FORMAT_TORCH_VALUES_H_
#define SCONCE_STORAGE_FORMAT_TORCH_VALUES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/error.h"
#include "storage/format/manifest.h"
#include "storage/format/pickle_reader.h"

namespace sconce::format {

inline absl::Status MalformedValue(absl::string_view what) {
  return MakeError(Reason::FILE_MALFORMED, what);
}
inline absl::Status UnsupportedValue(absl::string_view what) {
  return MakeError(Reason::FILE_UNSUPPORTED, what);
}

// "cpu", "cuda:0", "mps": what torch.save tags a storage with.
bool IsDeviceTag(absl::string_view tag);

// Reads the scalars of a tree, the values without children: numbers, text, dtypes, devices; and the arguments of
// PyTorch's functions. Borrows the graph.
class TorchValues {
 public:
  explicit TorchValues(const PickleGraph& graph) : graph_(graph) {}

  // True for the values that Read takes.
  bool IsScalar(PickleIndex value) const;
  absl::StatusOr<Node> Read(PickleIndex value);

  // Arguments; FILE_MALFORMED when `value` is something else.
  absl::StatusOr<bool> ReadBool(PickleIndex value) const;
  absl::StatusOr<int64_t> ReadCount(PickleIndex value) const;  // an int of at least 0
  absl::StatusOr<DType> ReadDType(PickleIndex value) const;
  absl::StatusOr<Dims> ReadDims(PickleIndex value);  // a tuple of counts, or a torch.Size of one
  // Backward hooks: a dict (PyTorch writes an empty OrderedDict) or None. They are dropped, as torch.save drops them.
  absl::Status CheckHooks(PickleIndex value) const;
  bool IsStr(PickleIndex value) const { return graph_[value].kind == PickleValue::Kind::kStr; }
  bool IsStr(PickleIndex value, absl::string_view text) const { return IsStr(value) && graph_.Text(value) == text; }
  bool IsCall(PickleIndex value, PickleTag tag) const {
    return graph_[value].kind == PickleValue::Kind::kCall && graph_[value].global.tag == tag;
  }

  // Honest files write each element of a set, each extent of a shape, each byte of a bytes object at least once; a file
  // that names one tuple or str a thousand times to blow up its result exceeds this. `n` more elements were made.
  absl::Status Charge(size_t n);

 private:
  absl::StatusOr<Node> ReadCall(PickleIndex value);
  absl::StatusOr<Node> ReadGlobal(PickleIndex value) const;
  absl::StatusOr<Node> ReadText(NodeKind kind, absl::Span<const PickleIndex> args);
  absl::StatusOr<Node> ReadComplex(absl::Span<const PickleIndex> args) const;
  absl::StatusOr<Node> ReadDevice(absl::Span<const PickleIndex> args) const;
  absl::StatusOr<Node> ReadLayout(absl::Span<const PickleIndex> args) const;

  const PickleGraph& graph_;
  size_t charged_ = 0;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_VALUES_H_
