#include "server/rpc/runtime.h"

#include <utility>

#include "base/error.h"

namespace sconce::rpc {

ByteReservation::ByteReservation(ByteReservation&& other) noexcept
    : runtime_(std::exchange(other.runtime_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

ByteReservation& ByteReservation::operator=(ByteReservation&& other) noexcept {
  std::swap(runtime_, other.runtime_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

ByteReservation::~ByteReservation() {
  if (runtime_ != nullptr) runtime_->bytes_in_flight_ -= size_bytes_;
}

CallRuntime::CallRuntime(const RuntimeOptions& options)
    : clock_(options.clock != nullptr ? *options.clock : system_clock_),
      observer_(options.observer),
      max_calls_(options.max_calls),
      max_in_flight_bytes_(options.max_in_flight_bytes),
      unary_pool_("unary", options.unary_threads, options.queue_limit),
      stream_pool_("stream", options.stream_threads, options.queue_limit) {}

absl::StatusOr<ByteReservation> CallRuntime::Reserve(int64_t size_bytes) {
  const int64_t before = bytes_in_flight_.fetch_add(size_bytes);
  // One message is let in whatever its size, so that a small budget cannot refuse it for ever.
  if (before > 0 && before + size_bytes > max_in_flight_bytes_) {
    bytes_in_flight_ -= size_bytes;
    return MakeError(Reason::SERVER_OVERLOADED, "the server holds as many bytes of requests as it may; try again");
  }
  return ByteReservation(this, size_bytes);
}

}  // namespace sconce::rpc
