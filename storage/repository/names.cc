#include "storage/repository/names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace sconce::repository {
namespace {

constexpr size_t kMaxIdBytes = 128;
constexpr size_t kMaxAliasBytes = 63;
constexpr size_t kMaxLabels = 64;
constexpr size_t kMaxLabelValueBytes = 1024;
constexpr size_t kMaxMetrics = 1000;

bool IsIdChar(char c) {
  return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
}
bool IsAliasChar(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_' || c == '-';
}

bool AllDigits(absl::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), absl::ascii_isdigit);
}

// Well-formed UTF-8 without control characters (so it can be shown, and sent as a protobuf string).
bool IsPlainText(absl::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const auto lead = static_cast<uint8_t>(s[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (length == 0 || i + length > s.size() || lead < 0x20 || lead == 0x7f) return false;
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<uint8_t>(s[i + k]);
      // The second byte's range also excludes overlong forms, surrogates and what is past U+10FFFF.
      const uint8_t low = k > 1 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
      const uint8_t high = k > 1 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
      if (next < low || next > high) return false;
    }
    i += length;
  }
  return true;
}

bool IsKey(absl::string_view key) {
  return !key.empty() && key.size() <= kMaxIdBytes && IsPlainText(key);
}

// nullptr when `alias` may be one, else the rule it breaks.
const char* AliasFault(absl::string_view alias) {
  if (alias.empty() || alias.size() > kMaxAliasBytes || !absl::ascii_islower(alias[0]) ||
      !std::all_of(alias.begin(), alias.end(), IsAliasChar)) {
    return "an alias is 1 to 63 of a-z 0-9 _ -, starting with a letter";
  }
  if (alias == "latest" || alias == "best") return "`latest` and `best` are decided by the server";
  if (alias[0] == 'v' && AllDigits(alias.substr(1))) return "it reads as a version number";
  return nullptr;
}

}  // namespace

absl::Status ValidateId(absl::string_view field, absl::string_view id) {
  const char* rule = nullptr;
  if (id.empty()) {
    rule = "it is empty";
  } else if (id.size() > kMaxIdBytes) {
    rule = "it is longer than 128 characters";
  } else if (!absl::ascii_isalnum(id[0])) {
    rule = "it does not start with a letter or digit";
  } else if (!std::all_of(id.begin(), id.end(), IsIdChar)) {
    rule = "it holds something else than A-Z a-z 0-9 . _ -";
  } else {
    return absl::OkStatus();
  }
  return MakeError(Reason::NAME_INVALID,
                   absl::StrCat("the ", field, " name ", Quoted(id), " is not valid: ", rule,
                                "; use 1 to 128 of A-Z a-z 0-9 . _ -, starting with a letter or digit"),
                   {{"field", std::string(field)}, {"value", std::string(id.substr(0, kMaxIdBytes))}});
}

absl::Status ValidateRunName(const RunName& name) {
  SCONCE_RETURN_IF_ERROR(ValidateId("project", name.project));
  return ValidateId("run", name.run);
}

absl::Status ValidateAlias(absl::string_view alias) {
  const char* fault = AliasFault(alias);
  if (fault == nullptr) return absl::OkStatus();
  return MakeError(Reason::NAME_INVALID, absl::StrCat("the alias ", Quoted(alias), " is not valid: ", fault),
                   {{"field", "alias"}, {"value", std::string(alias.substr(0, kMaxIdBytes))}});
}

absl::Status ValidateLabels(const Labels& labels) {
  if (labels.size() > kMaxLabels) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("there are ", labels.size(), " labels; at most 64 are kept"));
  }
  for (const auto& [key, value] : labels) {
    if (!IsKey(key)) {
      return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("the label key ", Quoted(key),
                                                              " is not valid: use 1 to 128 bytes of UTF-8 without "
                                                              "control characters"));
    }
    if (value.size() > kMaxLabelValueBytes || !IsPlainText(value)) {
      return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("the value of label ", Quoted(key),
                                                              " is not valid: use up to 1024 bytes of UTF-8 without "
                                                              "control characters"));
    }
  }
  return absl::OkStatus();
}

bool IsMetricName(absl::string_view name) {
  return IsKey(name);
}

absl::Status ValidateMetrics(const Metrics& metrics) {
  if (metrics.size() > kMaxMetrics) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("there are ", metrics.size(), " metrics; at most 1000 are kept"));
  }
  for (const auto& [name, value] : metrics) {
    if (!IsMetricName(name)) {
      return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("the metric name ", Quoted(name),
                                                              " is not valid: use 1 to 128 bytes of UTF-8 without "
                                                              "control characters"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Selector> ParseSelector(absl::string_view text) {
  Selector selector;
  if (text == "latest") return selector;
  if (text == "best") {
    selector.kind = Selector::Kind::kBest;
    return selector;
  }
  if (AllDigits(text) && text[0] != '0' && absl::SimpleAtoi(text, &selector.version)) {
    selector.kind = Selector::Kind::kVersion;
    return selector;
  }
  if (AliasFault(text) == nullptr) {
    selector.kind = Selector::Kind::kAlias;
    selector.alias = std::string(text);
    return selector;
  }
  return MakeError(Reason::SELECTOR_INVALID,
                   absl::StrCat("the selector ", Quoted(text),
                                " is not valid: use a version number (1, 2, ...), `latest`, `best`, or an alias "
                                "(a-z 0-9 _ -, starting with a letter)"),
                   {{"selector", std::string(text.substr(0, kMaxIdBytes))}});
}

std::string Display(const RunName& name) {
  return absl::StrCat(name.project, "/", name.run);
}

}  // namespace sconce::repository
