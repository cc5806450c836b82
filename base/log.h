#ifndef SCONCE_BASE_LOG_H_
#define SCONCE_BASE_LOG_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <variant>

#include "absl/strings/string_view.h"

namespace sconce {

// INFO: state changes. WARN: degraded but served. ERROR: a human should look.
enum class Severity { kInfo, kWarn, kError };

enum class LogFormat { kJson, kText };

struct LogField {
  LogField(absl::string_view k, absl::string_view v) : key(k), value(std::string(v)) {}
  LogField(absl::string_view k, const char* v) : key(k), value(std::string(v)) {}
  LogField(absl::string_view k, const std::string& v) : key(k), value(v) {}
  LogField(absl::string_view k, int64_t v) : key(k), value(v) {}
  LogField(absl::string_view k, int v) : key(k), value(static_cast<int64_t>(v)) {}
  LogField(absl::string_view k, double v) : key(k), value(v) {}
  absl::string_view key;
  std::variant<std::string, int64_t, double> value;
};

// Writes one line to stderr: `event` is a stable snake_case name, fields are data about it. Never tensor data, never
// tokens. Thread-safe.
void Log(Severity severity, absl::string_view event, std::initializer_list<LogField> fields = {});

// Set once at start, before other threads run. JSON lines by default; lines below `minimum` are dropped.
void ConfigureLog(LogFormat format, Severity minimum);

// `s` as a JSON string literal, quotes included; bytes that are not UTF-8 become U+FFFD.
std::string JsonString(absl::string_view s);

}  // namespace sconce

#endif  // SCONCE_BASE_LOG_H_
