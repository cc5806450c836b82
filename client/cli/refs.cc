#include "client/cli/refs.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "proto/wire/resource_name.h"

namespace sconce::cli {
namespace {

// "[project/]run@id", where `what` ("module") is what the id names.
absl::StatusOr<wire::ChildRef> SplitAtId(absl::string_view text, absl::string_view what) {
  const size_t at = text.rfind('@');
  if (at == absl::string_view::npos) {
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("this takes [PROJECT/]RUN@", absl::AsciiStrToUpper(what),
                                                            ", the name of a ", what, ", not ", Quoted(text)));
  }
  SCONCE_ASSIGN_OR_RETURN(const wire::ShortRef ref, wire::ParseShortRef(text.substr(0, at)));
  const std::string id(text.substr(at + 1));
  SCONCE_RETURN_IF_ERROR(wire::CheckId(what, id));
  return wire::ChildRef{ref.run, id};
}

}  // namespace

absl::StatusOr<std::string> FullRunName(absl::string_view text) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ShortRef ref, wire::ParseShortRef(text));
  if (!ref.selector.empty()) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("this takes a run, not a version of it: ", wire::FormatShortRef({ref.run, ""})));
  }
  return wire::FormatRun(ref.run.project, ref.run.run);
}

absl::StatusOr<std::string> FullCheckpointName(absl::string_view text) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ShortRef ref, wire::ParseShortRef(text));
  return wire::FormatCheckpoint(ref.run.project, ref.run.run, ref.selector.empty() ? "latest" : ref.selector);
}

absl::StatusOr<std::string> FullModuleName(absl::string_view text) {
  if (absl::StartsWith(text, "projects/")) {
    SCONCE_RETURN_IF_ERROR(wire::ParseModule(text).status());
    return std::string(text);
  }
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, SplitAtId(text, "module"));
  return wire::FormatModule(ref.run.project, ref.run.run, ref.id);
}

absl::StatusOr<std::string> FullUploadName(absl::string_view text) {
  if (absl::StartsWith(text, "projects/")) {
    SCONCE_RETURN_IF_ERROR(wire::ParseUpload(text).status());
    return std::string(text);
  }
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, SplitAtId(text, "upload"));
  return wire::FormatUpload(ref.run.project, ref.run.run, ref.id);
}

absl::StatusOr<std::string> FullModelName(absl::string_view text) {
  const std::string id(absl::StripPrefix(text, "models/"));
  SCONCE_RETURN_IF_ERROR(wire::CheckId("model", id));
  return wire::FormatModel(id);
}

std::string ShortName(absl::string_view full_name) {
  if (const auto checkpoint = wire::ParseCheckpoint(full_name); checkpoint.ok())
    return wire::FormatShortRef({checkpoint->run, checkpoint->id});
  if (const auto module = wire::ParseModule(full_name); module.ok()) {
    return absl::StrCat(wire::FormatShortRef({module->run, ""}), "@", module->id);
  }
  if (const auto upload = wire::ParseUpload(full_name); upload.ok()) {
    return absl::StrCat(wire::FormatShortRef({upload->run, ""}), "@", upload->id);
  }
  if (const auto run = wire::ParseRun(full_name); run.ok()) return wire::FormatShortRef({*run, ""});
  return std::string(absl::StripPrefix(full_name, "models/"));
}

}  // namespace sconce::cli
