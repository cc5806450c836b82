#ifndef SCONCE_SERVER_STORE_METRICS_H_
#define SCONCE_SERVER_STORE_METRICS_H_

#include <vector>

#include "server/observability/metrics.h"
#include "storage/repository/repository.h"

namespace sconce {

// sconce_*: what is stored and what became of it. What cannot be read is left out.
std::vector<observability::Family> StoreMetrics(repository::Repository& repository);

}  // namespace sconce

#endif  // SCONCE_SERVER_STORE_METRICS_H_
