#include "server/services/push_header.h"

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "proto/wire/resource_name.h"
#include "server/services/convert.h"

namespace sconce::services {

absl::StatusOr<repository::PushOptions> PushOptionsFromProto(const rpc::CallScope& call, const v1::PushHeader& header) {
  const v1::Checkpoint& given = header.checkpoint();
  repository::PushOptions options;
  SCONCE_ASSIGN_OR_RETURN(options.run, RunFromName(ToAbsl(header.parent())));
  options.create_run = !header.no_create();
  if (given.has_epoch()) options.epoch = given.epoch();
  if (given.has_step()) options.step = given.step();
  SCONCE_ASSIGN_OR_RETURN(options.metrics, MetricsFromProto(given.metrics()));
  SCONCE_ASSIGN_OR_RETURN(options.labels, LabelsFromProto(given.labels()));
  if (given.parent_version() < 0) {
    return MakeError(Reason::ARGUMENT_INVALID, "checkpoint.parent_version is negative; give a version number, or 0",
                     {{"field", "checkpoint.parent_version"}});
  }
  options.parent = given.parent_version();
  options.pinned = given.pinned();
  if (given.has_expire_time()) {
    SCONCE_ASSIGN_OR_RETURN(options.expire_time, TimeFromProto("checkpoint.expire_time", given.expire_time()));
  }
  SCONCE_ASSIGN_OR_RETURN(options.request.request_id, RequestIdFromProto(header.request_id()));
  options.request.principal = call.principal();
  options.request.method = std::string(ToStd(call.spec().method));
  return options;
}

absl::Status CheckParent(repository::Repository& repository, const repository::PushOptions& options) {
  if (options.parent == 0) return absl::OkStatus();
  const absl::StatusOr<repository::Run> run = repository.GetRun(options.run);
  if (!run.ok() && !HasReason(run.status(), Reason::RUN_NOT_FOUND)) return run.status();
  if (run.ok()) {
    if (options.parent <= run->latest_version) return absl::OkStatus();
    // Above `latest` there may be versions in quarantine.
    const auto found = repository.GetCheckpoint({options.run, absl::StrCat(options.parent)});
    if (!HasReason(found.status(), Reason::CHECKPOINT_NOT_FOUND)) return found.status();
  } else if (!options.create_run) {
    return run.status();
  }
  const std::string name =
      wire::FormatCheckpoint(ToAbsl(options.run.project), ToAbsl(options.run.run), absl::StrCat(options.parent));
  return MakeError(
      Reason::CHECKPOINT_NOT_FOUND,
      absl::StrCat("the parent ", name, " does not exist; give the version this one was trained from, or 0"),
      {{"checkpoint", name}});
}

absl::StatusOr<std::optional<Digest>> Sha256FromProto(const std::string& hex) {
  if (hex.empty()) return std::optional<Digest>();
  std::string raw;
  Digest digest;
  if (!FromHex(ToAbsl(hex), raw) || !Digest::FromBytes(ToAbsl(raw), digest)) {
    return MakeError(
        Reason::ARGUMENT_INVALID,
        absl::StrCat("sha256: ", Quoted(ToAbsl(hex)), " is no SHA-256; give its 64 hex digits, or nothing"),
        {{"field", "sha256"}});
  }
  return std::optional<Digest>(digest);
}

absl::Status CheckSha256(absl::string_view what, const Digest& expected, const Digest& actual) {
  if (expected == actual) return absl::OkStatus();
  return MakeError(Reason::DIGEST_MISMATCH,
                   absl::StrCat(what, " has SHA-256 ", actual.Hex(), ", not ", expected.Hex(),
                                " as its sender says: it was damaged on the way or changed meanwhile, send it again"),
                   {{"expected", expected.Hex()}, {"actual", actual.Hex()}});
}

}  // namespace sconce::services
