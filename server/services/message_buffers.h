#ifndef SCONCE_SERVER_SERVICES_MESSAGE_BUFFERS_H_
#define SCONCE_SERVER_SERVICES_MESSAGE_BUFFERS_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "proto/wire/limits.h"

namespace sconce::services {

// Memory for messages that are made rather than pointed at, used again when gRPC has sent what was in it. Outlives its
// maker as long as a message needs it. Thread-safe.
class MessageBuffers : public std::enable_shared_from_this<MessageBuffers> {
 public:
  // kMaxBulkDataBytes of it.
  std::shared_ptr<uint8_t> Acquire() {
    Buffer buffer;
    {
      MutexLock lock(&mu_);
      if (!free_.empty()) {
        buffer = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (buffer == nullptr) buffer.reset(new uint8_t[wire::kMaxBulkDataBytes]);
    return std::shared_ptr<uint8_t>(buffer.release(), [self = shared_from_this()](uint8_t* bytes) {
      MutexLock lock(&self->mu_);
      self->free_.emplace_back(bytes);
    });
  }

 private:
  using Buffer = std::unique_ptr<uint8_t[]>;

  Mutex mu_;
  std::vector<Buffer> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_MESSAGE_BUFFERS_H_
