#include "base/error.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace sconce {
namespace {

// The payload holds length-prefixed strings: reason, then key, value, key, value. It never leaves the process;
// proto/wire turns it into ErrorInfo.
constexpr char kPayloadUrl[] = "sconce.base.ErrorDetail";

struct ReasonRow {
  absl::StatusCode code;
  absl::string_view name;
};

constexpr ReasonRow kReasons[] = {
#define SCONCE_REASON_ROW_(code, name) {absl::StatusCode::k##code, #name},
    SCONCE_REASONS(SCONCE_REASON_ROW_)
#undef SCONCE_REASON_ROW_
};

void AppendString(std::string& out, absl::string_view s) {
  const auto size = static_cast<uint32_t>(s.size());
  out.append(reinterpret_cast<const char*>(&size), sizeof size);
  out.append(s.data(), s.size());
}

bool TakeString(absl::string_view& in, std::string& out) {
  uint32_t size = 0;
  if (in.size() < sizeof size) return false;
  std::memcpy(&size, in.data(), sizeof size);
  in.remove_prefix(sizeof size);
  if (in.size() < size) return false;
  out.assign(in.data(), size);
  in.remove_prefix(size);
  return true;
}

}  // namespace

absl::string_view ReasonName(Reason reason) {
  return kReasons[static_cast<size_t>(reason)].name;
}
absl::StatusCode ReasonCode(Reason reason) {
  return kReasons[static_cast<size_t>(reason)].code;
}

absl::Status MakeRemoteError(absl::StatusCode code, absl::string_view reason, absl::string_view message,
                             const ErrorMetadata& metadata) {
  absl::Status status(code, message);
  std::string payload;
  AppendString(payload, reason);
  for (const auto& [key, value] : metadata) {
    AppendString(payload, key);
    AppendString(payload, value);
  }
  status.SetPayload(kPayloadUrl, absl::Cord(payload));
  return status;
}

absl::Status MakeError(Reason reason, absl::string_view message, ErrorMetadata metadata) {
  return MakeRemoteError(ReasonCode(reason), ReasonName(reason), message, metadata);
}

std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  if (!payload) return std::nullopt;
  const std::string flat(*payload);
  absl::string_view rest(flat);
  ErrorDetail detail;
  if (!TakeString(rest, detail.reason)) return std::nullopt;
  std::string key, value;
  while (TakeString(rest, key) && TakeString(rest, value)) detail.metadata.emplace_back(key, value);
  return detail;
}

bool HasReason(const absl::Status& status, Reason reason) {
  const auto detail = GetErrorDetail(status);
  return detail && detail->reason == ReasonName(reason);
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { annotated.SetPayload(url, payload); });
  return annotated;
}

absl::Status ErrnoToStatus(int error_number, absl::string_view what) {
  const bool full = error_number == ENOSPC || error_number == EDQUOT;
  return MakeError(
      full ? Reason::DISK_FULL : Reason::IO_ERROR,
      absl::StrCat(what, ": ", std::strerror(error_number), full ? "; free space on the data directory's disk" : ""),
      {{"errno", std::to_string(error_number)}});
}

}  // namespace sconce
