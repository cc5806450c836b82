#include "server/observability/metrics_endpoint.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <exception>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "server/observability/convert.h"

namespace sconce::observability {
namespace {

class Collected final : public prometheus::Collectable {
 public:
  explicit Collected(std::function<std::vector<Family>()> collect) : collect_(std::move(collect)) {}
  std::vector<prometheus::MetricFamily> Collect() const override { return ToPrometheus(collect_()); }

 private:
  const std::function<std::vector<Family>()> collect_;
};

class ExposedMetrics final : public MetricsEndpoint {
 public:
  ExposedMetrics(std::unique_ptr<prometheus::Exposer> exposer, std::shared_ptr<Collected> collected)
      : collected_(std::move(collected)), exposer_(std::move(exposer)) {
    exposer_->RegisterCollectable(collected_);
  }
  int port() const override { return exposer_->GetListeningPorts().front(); }

 private:
  const std::shared_ptr<Collected> collected_;
  const std::unique_ptr<prometheus::Exposer> exposer_;  // last: its threads collect
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Start(const std::string& address,
                                                                        std::function<std::vector<Family>()> collect) {
  absl::string_view rest = address;
  // The HTTP server takes numbers only.
  const std::string bound =
      absl::ConsumePrefix(&rest, "localhost:") ? absl::StrCat("127.0.0.1:", rest) : std::string(address);
  std::unique_ptr<prometheus::Exposer> exposer;
  try {
    exposer = std::make_unique<prometheus::Exposer>(bound, 1);
  } catch (const std::exception&) {  // civetweb's: it says no more than that it failed
    return MakeError(Reason::ADDRESS_UNAVAILABLE,
                     absl::StrCat("cannot serve metrics on ", address,
                                  ": another program has it, or it is no IP address of this machine; free it, or give "
                                  "another --metrics-listen, or none"),
                     {{"address", address}});
  }
  return std::make_unique<ExposedMetrics>(std::move(exposer), std::make_shared<Collected>(std::move(collect)));
}

}  // namespace sconce::observability
