#ifndef SCONCE_SERVER_RPC_RUNTIME_H_
#define SCONCE_SERVER_RPC_RUNTIME_H_

#include <atomic>
#include <cstdint>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "server/rpc/observer.h"

namespace sconce::rpc {

struct RuntimeOptions {
  int unary_threads = 4;
  int stream_threads = 4;
  size_t queue_limit = 1024;  // tasks that wait for a thread, per pool
  int64_t max_calls = 4096;   // in flight at once; those admitted always are not counted
  int64_t max_in_flight_bytes = int64_t{512} << 20;
  const Clock* clock = nullptr;     // null: the system's
  RpcObserver* observer = nullptr;  // borrowed; outlives the runtime
};

class CallRuntime;

// A share of the budget of in-flight bytes, given back when it dies. Movable.
class ByteReservation {
 public:
  ByteReservation() = default;
  ByteReservation(ByteReservation&& other) noexcept;
  ByteReservation& operator=(ByteReservation&& other) noexcept;
  ~ByteReservation();
  int64_t size_bytes() const { return size_bytes_; }

 private:
  friend class CallRuntime;
  ByteReservation(CallRuntime* runtime, int64_t size_bytes) : runtime_(runtime), size_bytes_(size_bytes) {}

  CallRuntime* runtime_ = nullptr;
  int64_t size_bytes_ = 0;
};

// What all calls of a server share: threads for work that may block, the observer, the draining flag, the budgets.
// Thread-safe. Outlives every call; the services borrow it.
class CallRuntime {
 public:
  explicit CallRuntime(const RuntimeOptions& options);
  CallRuntime(const CallRuntime&) = delete;
  CallRuntime& operator=(const CallRuntime&) = delete;

  // For unary handlers, which are short.
  ThreadPool& unary_pool() { return unary_pool_; }
  // For the steps of streams, which may wait for the disk: apart, so that uploads do not hold up other calls.
  ThreadPool& stream_pool() { return stream_pool_; }
  const Clock& clock() const { return clock_; }

  // From now on calls are refused with SERVER_DRAINING, but for those admitted always. Calls under way go on.
  void StartDraining() { draining_ = true; }
  bool draining() const { return draining_; }

  // SERVER_OVERLOADED when the messages in memory would pass the budget.
  absl::StatusOr<ByteReservation> Reserve(int64_t size_bytes);

  int64_t calls_in_flight() const { return calls_in_flight_; }
  int64_t bytes_in_flight() const { return bytes_in_flight_; }

 private:
  friend class CallScope;
  friend class ByteReservation;

  const SystemClock system_clock_;
  const Clock& clock_;
  RpcObserver* const observer_;
  const int64_t max_calls_;
  const int64_t max_in_flight_bytes_;
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> calls_in_flight_{0};
  std::atomic<int64_t> bytes_in_flight_{0};
  ThreadPool unary_pool_;  // last: their tasks use the rest
  ThreadPool stream_pool_;
};

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_RUNTIME_H_
