#ifndef SCONCE_STORAGE_FORMAT_ROW_MAJOR_READER_H_
#define SCONCE_STORAGE_FORMAT_ROW_MAJOR_READER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "storage/format/manifest.h"
#include "storage/format/storage_bytes.h"

namespace sconce::format {

// True when the view's elements lie one after the other in row-major order.
bool IsRowMajor(const TensorView& view);

// The elements of a strided view, one after the other in row-major order, as bytes.
//
// A view in another order is put together in windows of at most kWindowBytes of the result, each in one pass over the
// storage in the order of its bytes: storages made of chunks that are checked when they are entered would otherwise be
// checked again for every element. Memory: a window, and kBlockBytes of the storage.
class RowMajorReader {
 public:
  static constexpr int64_t kWindowBytes = int64_t{16} << 20;
  static constexpr int64_t kBlockBytes = int64_t{4} << 10;

  // All are borrowed. The view has a storage with bytes, in which it lies. `window_bytes` is for tests.
  RowMajorReader(const Manifest& manifest, const TensorView& view, StorageBytes& bytes,
                 int64_t window_bytes = kWindowBytes);

  int64_t size_bytes() const { return size_bytes_; }
  // Fills `out` with the bytes from `offset` of the result. Requires them to be inside it. Errors of the StorageBytes.
  absl::Status Read(int64_t offset, absl::Span<uint8_t> out);

 private:
  // A dimension: how many, and how far apart in the storage and in the window, in bytes.
  struct Axis {
    int64_t extent = 1;
    int64_t from = 0;
    int64_t to = 0;
  };
  absl::Status ReadStorage(int64_t offset, absl::Span<uint8_t> out);
  absl::Status ReadBlock(int64_t offset, absl::Span<uint8_t> out);
  // Makes the window that holds byte `offset` of the result.
  absl::Status MakeWindow(int64_t offset);
  absl::Status Gather(int64_t from, std::vector<Axis> axes);

  const Storage& storage_;
  const TensorView& view_;
  StorageBytes& bytes_;
  const int64_t element_;
  const bool row_major_;
  int64_t size_bytes_ = 0;
  size_t split_ = 0;       // windows cut this dimension; those before it are fixed, those after it whole
  int64_t row_bytes_ = 0;  // of one step of that dimension, in the result
  int64_t rows_ = 0;       // of that dimension in a window

  std::vector<uint8_t> window_;
  int64_t window_start_ = -1;
  std::vector<uint8_t> block_;
  int64_t block_start_ = -1;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_ROW_MAJOR_READER_H_
