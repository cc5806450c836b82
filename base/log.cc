#include "base/log.h"

#include <unistd.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/strings.h"

namespace sconce {
namespace {

LogFormat g_format = LogFormat::kJson;
Severity g_minimum = Severity::kInfo;

constexpr const char* kNames[] = {"INFO", "WARN", "ERROR"};

std::string JsonNumber(double value) {
  if (!std::isfinite(value))
    return absl::StrCat("\"", std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity", "\"");
  return absl::StrFormat("%.6g", value);
}

std::string FieldText(const LogField& field) {
  if (const auto* text = std::get_if<std::string>(&field.value)) return JsonString(*text);
  if (const auto* integer = std::get_if<int64_t>(&field.value)) return absl::StrCat(*integer);
  return JsonNumber(std::get<double>(field.value));
}

}  // namespace

std::string JsonString(absl::string_view s) {
  std::string out = "\"";
  while (!s.empty()) {
    const auto c = static_cast<unsigned char>(s[0]);
    const size_t length = Utf8SequenceLength(s);
    if (length == 0) {
      out += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", s.substr(0, 1));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c == 0x7F) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      absl::StrAppend(&out, s.substr(0, length));
    }
    s.remove_prefix(length == 0 ? 1 : length);
  }
  return out + "\"";
}

void ConfigureLog(LogFormat format, Severity minimum) {
  g_format = format;
  g_minimum = minimum;
}

void Log(Severity severity, absl::string_view event, std::initializer_list<LogField> fields) {
  if (severity < g_minimum) return;
  const std::string now = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone());
  const char* name = kNames[static_cast<int>(severity)];
  std::string line;
  if (g_format == LogFormat::kJson) {
    line = absl::StrCat("{\"ts\":\"", now, "\",\"level\":\"", name, "\",\"event\":", JsonString(event));
    for (const LogField& field : fields) absl::StrAppend(&line, ",", JsonString(field.key), ":", FieldText(field));
    line += "}\n";
  } else {
    line = absl::StrCat(now, " ", name, " ", event);
    for (const LogField& field : fields) absl::StrAppend(&line, " ", field.key, "=", FieldText(field));
    line += "\n";
  }
  // One write a line, so that lines of several threads or processes do not mix. A log that cannot be written is not an
  // error of the caller's.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace sconce
