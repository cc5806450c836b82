#ifndef SCONCE_STORAGE_BLOB_ALIGNED_BUFFER_H_
#define SCONCE_STORAGE_BLOB_ALIGNED_BUFFER_H_

#include <cstdint>

namespace sconce::blob {

// Page-aligned memory of a fixed capacity (a multiple of 4096), as O_DIRECT wants it.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(int64_t capacity_bytes);
  ~AlignedBuffer();
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  int64_t capacity() const { return capacity_; }

 private:
  uint8_t* data_;
  const int64_t capacity_;
};

}  // namespace sconce::blob

#endif  // SCONCE_STORAGE_BLOB_ALIGNED_BUFFER_H_
