#ifndef SCONCE_STORAGE_BLOB_ALIGNED_BUFFER_H_
#define SCONCE_STORAGE_BLOB_ALIGNED_BUFFER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "base/mutex.h"

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

// A fixed number of buffers used again and again: bounds memory, and spares the page faults that fresh memory costs.
// Thread-safe. Outlives every buffer it handed out.
class BufferPool {
 public:
  struct Returner {
    BufferPool* pool;
    void operator()(AlignedBuffer* buffer) const { pool->Return(buffer); }
  };
  using Handle = std::unique_ptr<AlignedBuffer, Returner>;

  BufferPool(int buffers, int64_t capacity_bytes) : capacity_bytes_(capacity_bytes), unmade_(buffers) {}
  // Waits until a buffer is free.
  Handle Acquire();

 private:
  void Return(AlignedBuffer* buffer);

  const int64_t capacity_bytes_;
  Mutex mu_;
  CondVar returned_;
  int unmade_ ABSL_GUARDED_BY(mu_);  // buffers not allocated yet: memory is taken only when first needed
  std::vector<std::unique_ptr<AlignedBuffer>> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::blob

#endif  // SCONCE_STORAGE_BLOB_ALIGNED_BUFFER_H_
