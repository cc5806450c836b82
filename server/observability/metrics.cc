#include "server/observability/metrics.h"

#include <prometheus/text_serializer.h>

#include <limits>
#include <sstream>

#include "server/observability/convert.h"

namespace sconce::observability {
namespace {

prometheus::ClientMetric ToPrometheus(const Sample& sample, Family::Type type) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : sample.labels) metric.label.push_back({name, value});
  switch (type) {
    case Family::Type::kCounter:
      metric.counter.value = sample.value;
      break;
    case Family::Type::kGauge:
      metric.gauge.value = sample.value;
      break;
    case Family::Type::kHistogram:
      for (const auto& [bound, count] : sample.buckets) metric.histogram.bucket.push_back({count, bound});
      metric.histogram.bucket.push_back({sample.count, std::numeric_limits<double>::infinity()});
      metric.histogram.sample_count = sample.count;
      metric.histogram.sample_sum = sample.value;
      break;
  }
  return metric;
}

prometheus::MetricType ToPrometheus(Family::Type type) {
  switch (type) {
    case Family::Type::kCounter:
      return prometheus::MetricType::Counter;
    case Family::Type::kHistogram:
      return prometheus::MetricType::Histogram;
    case Family::Type::kGauge:
      break;
  }
  return prometheus::MetricType::Gauge;
}

}  // namespace

Family Gauge(std::string name, std::string help, double value) {
  Family family{std::move(name), std::move(help), Family::Type::kGauge, {}};
  family.Add({}, value);
  return family;
}

Family Counter(std::string name, std::string help, double value) {
  Family family{std::move(name), std::move(help), Family::Type::kCounter, {}};
  family.Add({}, value);
  return family;
}

std::vector<prometheus::MetricFamily> ToPrometheus(const std::vector<Family>& families) {
  std::vector<prometheus::MetricFamily> converted;
  for (const Family& family : families) {
    prometheus::MetricFamily& made = converted.emplace_back();
    made.name = family.name;
    made.help = family.help;
    made.type = ToPrometheus(family.type);
    for (const Sample& sample : family.samples) made.metric.push_back(ToPrometheus(sample, family.type));
  }
  return converted;
}

std::string ToText(const std::vector<Family>& families) {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, ToPrometheus(families));
  return text.str();
}

}  // namespace sconce::observability
