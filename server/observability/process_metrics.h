#ifndef SCONCE_SERVER_OBSERVABILITY_PROCESS_METRICS_H_
#define SCONCE_SERVER_OBSERVABILITY_PROCESS_METRICS_H_

#include <vector>

#include "server/observability/metrics.h"

namespace sconce::observability {

// process_*: what every Prometheus client tells of its own process, read from /proc/self.
std::vector<Family> ProcessMetrics();

}  // namespace sconce::observability

#endif  // SCONCE_SERVER_OBSERVABILITY_PROCESS_METRICS_H_
