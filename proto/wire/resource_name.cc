#include "proto/wire/resource_name.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace sconce::wire {
namespace {

constexpr char kIdRule[] = "an id is a letter or digit, then at most 127 letters, digits, '.', '_' or '-'";
constexpr char kAliasRule[] =
    "an alias is a lower-case letter, then at most 62 lower-case letters, digits, '_' or '-', and not 'latest', 'best' "
    "or a "
    "'v' and a number";

bool IsAsciiDigits(absl::string_view s) {
  for (const char c : s) {
    if (c < '0' || c > '9') return false;
  }
  return !s.empty();
}

bool IsAliasShaped(absl::string_view s) {
  if (s.empty() || s.size() > 63 || s[0] < 'a' || s[0] > 'z') return false;
  for (const char c : s) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!good) return false;
  }
  return true;
}

// "v7" reads as a version number, so no alias may be called that.
bool LooksLikeVersion(absl::string_view s) {
  return s.size() > 1 && s[0] == 'v' && IsAsciiDigits(s.substr(1));
}

absl::Status NameError(absl::string_view name, absl::string_view pattern) {
  return MakeError(Reason::NAME_INVALID, absl::StrCat("name ", Quoted(name), " does not have the form ", pattern),
                   {{"name", std::string(name.substr(0, 200))}});
}

// The ids in `name`, which must look like `pattern` ("projects/{project}/runs/{run}"): literal segments are compared,
// each one in braces is an id.
absl::StatusOr<std::vector<std::string>> Ids(absl::string_view name, absl::string_view pattern) {
  const std::vector<absl::string_view> wanted = absl::StrSplit(pattern, '/');
  const std::vector<absl::string_view> given = absl::StrSplit(name, '/');
  if (given.size() != wanted.size()) return NameError(name, pattern);
  std::vector<std::string> ids;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i][0] == '{') {
      ids.emplace_back(given[i]);
    } else if (wanted[i] != given[i]) {
      return NameError(name, pattern);
    }
  }
  return ids;
}

absl::StatusOr<ChildRef> ParseChild(absl::string_view name, absl::string_view pattern) {
  SCONCE_ASSIGN_OR_RETURN(std::vector<std::string> ids, Ids(name, pattern));
  SCONCE_RETURN_IF_ERROR(CheckId("project", ids[0]));
  SCONCE_RETURN_IF_ERROR(CheckId("run", ids[1]));
  return ChildRef{{ids[0], ids[1]}, ids[2]};
}

}  // namespace

absl::Status CheckId(absl::string_view what, absl::string_view id) {
  bool good = !id.empty() && id.size() <= 128 && absl::ascii_isalnum(static_cast<unsigned char>(id[0]));
  for (const char c : id) {
    good = good && (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-');
  }
  if (good) return absl::OkStatus();
  return MakeError(Reason::NAME_INVALID, absl::StrCat(what, " id ", Quoted(id), " is not valid: ", kIdRule),
                   {{"part", std::string(what)}, {"id", std::string(id.substr(0, 200))}});
}

absl::Status CheckAliasId(absl::string_view alias) {
  if (IsAliasShaped(alias) && alias != "latest" && alias != "best" && !LooksLikeVersion(alias)) return absl::OkStatus();
  return MakeError(Reason::NAME_INVALID, absl::StrCat("alias ", Quoted(alias), " is not valid: ", kAliasRule),
                   {{"part", "alias"}, {"id", std::string(alias.substr(0, 200))}});
}

absl::Status CheckSelector(absl::string_view selector) {
  const ErrorMetadata metadata = {{"selector", std::string(selector.substr(0, 200))}};
  if (IsAsciiDigits(selector)) {
    int64_t version = 0;
    if (selector[0] != '0' && absl::SimpleAtoi(selector, &version)) return absl::OkStatus();
    return MakeError(Reason::SELECTOR_INVALID,
                     absl::StrCat("version ", Quoted(selector), " is not valid: versions are 1, 2, 3 and so on"),
                     metadata);
  }
  if (LooksLikeVersion(selector)) {
    return MakeError(Reason::SELECTOR_INVALID,
                     absl::StrCat("selector ", Quoted(selector), " is not valid: a version is only its number, ",
                                  Quoted(selector.substr(1))),
                     metadata);
  }
  if (IsAliasShaped(selector)) return absl::OkStatus();
  return MakeError(
      Reason::SELECTOR_INVALID,
      absl::StrCat("selector ", Quoted(selector),
                   " is not valid: give a version number, 'latest', 'best' or an alias (lower-case letters, "
                   "digits, '_' and '-')"),
      metadata);
}

absl::StatusOr<std::string> ParseProjectFilter(absl::string_view name) {
  if (name.empty() || name == "projects/-") return std::string();
  return ParseProject(name);
}

absl::StatusOr<std::string> ParseProject(absl::string_view name) {
  if (name.empty()) return std::string(kDefaultProject);
  SCONCE_ASSIGN_OR_RETURN(std::vector<std::string> ids, Ids(name, "projects/{project}"));
  SCONCE_RETURN_IF_ERROR(CheckId("project", ids[0]));
  return ids[0];
}

absl::StatusOr<RunRef> ParseRun(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(std::vector<std::string> ids, Ids(name, "projects/{project}/runs/{run}"));
  SCONCE_RETURN_IF_ERROR(CheckId("project", ids[0]));
  SCONCE_RETURN_IF_ERROR(CheckId("run", ids[1]));
  return RunRef{ids[0], ids[1]};
}

absl::StatusOr<ChildRef> ParseCheckpoint(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(ChildRef ref, ParseChild(name, "projects/{project}/runs/{run}/checkpoints/{version}"));
  SCONCE_RETURN_IF_ERROR(CheckSelector(ref.id));
  return ref;
}

absl::StatusOr<ChildRef> ParseModule(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(ChildRef ref, ParseChild(name, "projects/{project}/runs/{run}/modules/{module}"));
  SCONCE_RETURN_IF_ERROR(CheckId("module", ref.id));
  return ref;
}

absl::StatusOr<ChildRef> ParseAlias(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(ChildRef ref, ParseChild(name, "projects/{project}/runs/{run}/aliases/{alias}"));
  SCONCE_RETURN_IF_ERROR(CheckAliasId(ref.id));
  return ref;
}

absl::StatusOr<ChildRef> ParseUpload(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(ChildRef ref, ParseChild(name, "projects/{project}/runs/{run}/uploads/{upload}"));
  SCONCE_RETURN_IF_ERROR(CheckId("upload", ref.id));
  return ref;
}

absl::StatusOr<std::string> ParseModel(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(std::vector<std::string> ids, Ids(name, "models/{model}"));
  SCONCE_RETURN_IF_ERROR(CheckId("model", ids[0]));
  return ids[0];
}

std::string FormatProject(absl::string_view project) {
  return absl::StrCat("projects/", project);
}
std::string FormatRun(absl::string_view project, absl::string_view run) {
  return absl::StrCat("projects/", project, "/runs/", run);
}
std::string FormatCheckpoint(absl::string_view project, absl::string_view run, absl::string_view selector) {
  return absl::StrCat(FormatRun(project, run), "/checkpoints/", selector);
}
std::string FormatModule(absl::string_view project, absl::string_view run, absl::string_view module) {
  return absl::StrCat(FormatRun(project, run), "/modules/", module);
}
std::string FormatAlias(absl::string_view project, absl::string_view run, absl::string_view alias) {
  return absl::StrCat(FormatRun(project, run), "/aliases/", alias);
}
std::string FormatUpload(absl::string_view project, absl::string_view run, absl::string_view upload) {
  return absl::StrCat(FormatRun(project, run), "/uploads/", upload);
}
std::string FormatModel(absl::string_view model) {
  return absl::StrCat("models/", model);
}

absl::StatusOr<ShortRef> ParseShortRef(absl::string_view text) {
  const auto slashes = static_cast<size_t>(std::count(text.begin(), text.end(), '/'));
  if (slashes == 3) {
    SCONCE_ASSIGN_OR_RETURN(RunRef run, ParseRun(text));
    return ShortRef{run, ""};
  }
  if (slashes == 5) {
    SCONCE_ASSIGN_OR_RETURN(ChildRef child, ParseCheckpoint(text));
    return ShortRef{child.run, child.id};
  }
  if (text.empty() || slashes > 1) return NameError(text, "[project/]run[@selector]");
  ShortRef ref;
  const std::vector<absl::string_view> at = absl::StrSplit(text, absl::MaxSplits('@', 1));
  const std::vector<absl::string_view> path = absl::StrSplit(at[0], '/');
  ref.run.project = path.size() == 2 ? std::string(path[0]) : kDefaultProject;
  ref.run.run = std::string(path.back());
  SCONCE_RETURN_IF_ERROR(CheckId("project", ref.run.project));
  SCONCE_RETURN_IF_ERROR(CheckId("run", ref.run.run));
  if (at.size() == 2) {
    SCONCE_RETURN_IF_ERROR(CheckSelector(at[1]));
    ref.selector = std::string(at[1]);
  }
  return ref;
}

std::string FormatShortRef(const ShortRef& ref) {
  return absl::StrCat(ref.run.project == kDefaultProject ? "" : absl::StrCat(ref.run.project, "/"), ref.run.run,
                      ref.selector.empty() ? "" : absl::StrCat("@", ref.selector));
}

}  // namespace sconce::wire
