#ifndef SCONCE_SERVER_OBSERVABILITY_METRICS_H_
#define SCONCE_SERVER_OBSERVABILITY_METRICS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

// Metrics as plain numbers: whoever knows them makes families of them when they are asked for.
namespace sconce::observability {

using Labels = std::vector<std::pair<std::string, std::string>>;

struct Sample {
  Labels labels;
  double value = 0;  // of a histogram: the sum
  // Of a histogram: upper bounds, ascending, with how many were at or below them; and how many there were.
  std::vector<std::pair<double, uint64_t>> buckets;
  uint64_t count = 0;
};

// A name with what it counts. Units are in names (_bytes, _seconds); a counter ends in _total.
struct Family {
  enum class Type { kCounter, kGauge, kHistogram };
  std::string name;
  std::string help;
  Type type = Type::kGauge;
  std::vector<Sample> samples;

  void Add(Labels labels, double value) { samples.push_back({std::move(labels), value, {}, 0}); }
};

Family Gauge(std::string name, std::string help, double value);
Family Counter(std::string name, std::string help, double value);

// The text format, as the endpoint serves it.
std::string ToText(const std::vector<Family>& families);

}  // namespace sconce::observability

#endif  // SCONCE_SERVER_OBSERVABILITY_METRICS_H_
