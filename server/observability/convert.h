#ifndef SCONCE_SERVER_OBSERVABILITY_CONVERT_H_
#define SCONCE_SERVER_OBSERVABILITY_CONVERT_H_

#include <prometheus/metric_family.h>

#include <vector>

#include "server/observability/metrics.h"

namespace sconce::observability {

// Ours as prometheus-cpp has them.
std::vector<prometheus::MetricFamily> ToPrometheus(const std::vector<Family>& families);

}  // namespace sconce::observability

#endif  // SCONCE_SERVER_OBSERVABILITY_CONVERT_H_
