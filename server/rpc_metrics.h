#ifndef SCONCE_SERVER_RPC_METRICS_H_
#define SCONCE_SERVER_RPC_METRICS_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "server/observability/metrics.h"
#include "server/rpc/observer.h"

namespace sconce {

// Counts calls, under the names of go-grpc-prometheus, so that dashboards made for those work. A method shows from its
// first call on. Thread-safe.
class RpcMetrics final : public rpc::RpcObserver {
 public:
  void OnStart(const rpc::CallSpec& spec) override;
  void OnDone(const rpc::CallSpec& spec, const rpc::CallResult& result) override;

  std::vector<observability::Family> Collect() const;

 private:
  static constexpr std::array<double, 14> kSeconds = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300};

  struct Method {
    rpc::CallKind kind = rpc::CallKind::kUnary;
    int64_t started = 0, received = 0, sent = 0, bytes_sent = 0;
    std::map<std::string, int64_t> handled;           // by code
    std::array<uint64_t, kSeconds.size()> buckets{};  // each of its own: not cumulative
    uint64_t count = 0;
    double seconds = 0;
  };

  mutable Mutex mu_;
  std::map<std::pair<std::string, std::string>, Method> methods_ ABSL_GUARDED_BY(mu_);  // by service and method
};

}  // namespace sconce

#endif  // SCONCE_SERVER_RPC_METRICS_H_
