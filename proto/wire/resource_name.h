#ifndef SCONCE_PROTO_WIRE_RESOURCE_NAME_H_
#define SCONCE_PROTO_WIRE_RESOURCE_NAME_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// Names of things on the wire (DESIGN.md section 2):
//
//   projects/{project}                                            projects/-  stands for all of them in lists
//   projects/{project}/runs/{run}
//   projects/{project}/runs/{run}/checkpoints/{selector}          a version number, `latest`, `best` or an alias
//   projects/{project}/runs/{run}/modules/{module}
//   projects/{project}/runs/{run}/aliases/{alias}
//   projects/{project}/runs/{run}/uploads/{upload}
//   models/{model}
//
// Parsing fails with NAME_INVALID, saying which part breaks which rule, and with SELECTOR_INVALID for a selector.
// Nothing is looked up. Parse of Format is the identity.
namespace sconce::wire {

struct RunRef {
  std::string project;
  std::string run;
};
// What is below a run: a checkpoint (by selector), module, alias or upload.
struct ChildRef {
  RunRef run;
  std::string id;
};

inline constexpr char kDefaultProject[] = "default";

// "" and "projects/-" are all projects: "".
absl::StatusOr<std::string> ParseProjectFilter(absl::string_view name);
// "" is the default project.
absl::StatusOr<std::string> ParseProject(absl::string_view name);
absl::StatusOr<RunRef> ParseRun(absl::string_view name);
absl::StatusOr<ChildRef> ParseCheckpoint(absl::string_view name);
absl::StatusOr<ChildRef> ParseModule(absl::string_view name);
absl::StatusOr<ChildRef> ParseAlias(absl::string_view name);
absl::StatusOr<ChildRef> ParseUpload(absl::string_view name);
absl::StatusOr<std::string> ParseModel(absl::string_view name);

std::string FormatProject(absl::string_view project);
std::string FormatRun(absl::string_view project, absl::string_view run);
std::string FormatCheckpoint(absl::string_view project, absl::string_view run, absl::string_view selector);
std::string FormatModule(absl::string_view project, absl::string_view run, absl::string_view module);
std::string FormatAlias(absl::string_view project, absl::string_view run, absl::string_view alias);
std::string FormatUpload(absl::string_view project, absl::string_view run, absl::string_view upload);
std::string FormatModel(absl::string_view model);

// An id of a project, run, module, upload or model: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. `what` names it in the error
// ("run").
absl::Status CheckId(absl::string_view what, absl::string_view id);
// A name an alias may have: `[a-z][a-z0-9_-]{0,62}`, not `latest`, `best`, or `v` and a number.
absl::Status CheckAliasId(absl::string_view alias);
// A version number (1 or more, no leading zeros), `latest`, `best`, or what an alias may be called.
absl::Status CheckSelector(absl::string_view selector);

// What people type: `[project/]run[@selector]`. The full names above (of a run or a checkpoint) are understood too.
// Without a project it is the default one.
struct ShortRef {
  RunRef run;
  std::string selector;  // "" when there is no "@"
};
absl::StatusOr<ShortRef> ParseShortRef(absl::string_view text);
// The shortest form: without the default project and an empty selector.
std::string FormatShortRef(const ShortRef& ref);

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_RESOURCE_NAME_H_
