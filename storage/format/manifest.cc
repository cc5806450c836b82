#include "storage/format/manifest.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "absl/strings/match.h"

namespace sconce::format {

absl::string_view TypeName(NodeKind kind) {
  static constexpr const char* kNames[] = {"none",
                                           "bool",
                                           "int",
                                           "float",
                                           "complex",
                                           "str",
                                           "bytes",
                                           "bytearray",
                                           "list",
                                           "tuple",
                                           "set",
                                           "dict",
                                           "ordered_dict",
                                           "counter",
                                           "size",
                                           "dtype",
                                           "device",
                                           "layout",
                                           "qscheme",
                                           "numpy_scalar",
                                           "numpy_array",
                                           "tensor",
                                           "sparse_tensor",
                                           "quantized_tensor",
                                           "nested_tensor",
                                           "parameter",
                                           "tensor_subclass",
                                           "storage",
                                           "sharded_tensor",
                                           "global",
                                           "object"};
  static_assert(std::size(kNames) == static_cast<size_t>(NodeKind::kObject) + 1);
  return kNames[static_cast<size_t>(kind)];
}

bool IsMetaDevice(absl::string_view device) {
  return device == "meta" || absl::StartsWith(device, "meta:");
}

bool IsBulk(const Storage& storage) {
  return storage.size_bytes > kInlineStorageBytes && !IsMetaDevice(storage.device);
}

int64_t BulkBytes(const Manifest& manifest) {
  int64_t total = 0;
  for (const Storage& storage : manifest.storages) {
    if (IsBulk(storage) && __builtin_add_overflow(total, storage.size_bytes, &total)) {
      return std::numeric_limits<int64_t>::max();  // not a valid manifest
    }
  }
  return total;
}

int64_t ChunkCount(int64_t size_bytes) {
  return size_bytes / kChunkBytes + (size_bytes % kChunkBytes != 0 ? 1 : 0);
}

bool HasChunkTable(const Manifest& manifest) {
  return std::none_of(manifest.storages.begin(), manifest.storages.end(),
                      [](const Storage& storage) { return IsBulk(storage) && storage.chunks.empty(); });
}

int64_t ElementCount(const Dims& shape) {
  if (std::any_of(shape.begin(), shape.end(), [](int64_t extent) { return extent < 0; })) return -1;
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;  // however large the other extents are
  int64_t count = 1;
  for (const int64_t extent : shape) {
    if (__builtin_mul_overflow(count, extent, &count)) return -1;
  }
  return count;
}

namespace {

// Of a view whose elements are packed, `per_byte` of them in a byte; each row begins with a new one.
int64_t PackedEndBytes(const TensorView& view, int64_t per_byte) {
  Dims stride;
  if (view.offset != 0 || !ContiguousStride(view.shape, stride) || view.stride != stride) return -1;
  const int64_t elements = ElementCount(view.shape);
  if (elements <= 0 || view.shape.empty()) return elements;
  const int64_t row = view.shape.back();
  return elements / row * (row / per_byte + (row % per_byte != 0 ? 1 : 0));
}

}  // namespace

int64_t ViewEndBytes(const TensorView& view) {
  if (view.offset < 0 || view.shape.size() != view.stride.size()) return -1;
  if (view.dtype == DType::kQUInt4x2) return PackedEndBytes(view, 2);
  if (view.dtype == DType::kQUInt2x4) return PackedEndBytes(view, 4);
  if (std::any_of(view.stride.begin(), view.stride.end(), [](int64_t step) { return step < 0; })) return -1;
  const int64_t elements = ElementCount(view.shape);
  if (elements <= 0) return elements;
  int64_t last = view.offset;
  for (size_t i = 0; i < view.shape.size(); ++i) {
    int64_t span = 0;
    if (__builtin_mul_overflow(view.shape[i] - 1, view.stride[i], &span)) return -1;
    if (__builtin_add_overflow(last, span, &last)) return -1;
  }
  int64_t end = 0;
  if (__builtin_add_overflow(last, 1, &end) || __builtin_mul_overflow(end, ElementBytes(view.dtype), &end)) return -1;
  return end;
}

bool ContiguousStride(const Dims& shape, Dims& stride) {
  stride.assign(shape.size(), 1);
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    stride[i] = step;
    if (i > 0 && __builtin_mul_overflow(step, std::max<int64_t>(shape[i], 1), &step)) return false;
  }
  return true;
}

}  // namespace sconce::format
