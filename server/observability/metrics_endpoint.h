#ifndef SCONCE_SERVER_OBSERVABILITY_METRICS_ENDPOINT_H_
#define SCONCE_SERVER_OBSERVABILITY_METRICS_ENDPOINT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/observability/metrics.h"

namespace sconce::observability {

// Serves /metrics over plain HTTP on a port of its own. Whoever reaches it can read all numbers, and change nothing.
class MetricsEndpoint {
 public:
  // `address` is HOST:PORT, an IP address or localhost; port 0 takes a free one. `collect` is called for each scrape,
  // on threads of the endpoint, until this is destroyed. ADDRESS_UNAVAILABLE.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Start(const std::string& address,
                                                                std::function<std::vector<Family>()> collect);
  virtual ~MetricsEndpoint() = default;
  virtual int port() const = 0;
};

}  // namespace sconce::observability

#endif  // SCONCE_SERVER_OBSERVABILITY_METRICS_ENDPOINT_H_
