#ifndef SCONCE_CLIENT_CLI_REFS_H_
#define SCONCE_CLIENT_CLI_REFS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// Names as people type them, made full names of the API. Full names are taken as they are, so that what is printed can
// be typed again.
namespace sconce::cli {

// "[project/]run" -> "projects/P/runs/R"; the project is "default" when not given.
absl::StatusOr<std::string> FullRunName(absl::string_view text);
// "[project/]run[@selector]" -> "projects/P/runs/R/checkpoints/S"; the selector is "latest" when not given.
absl::StatusOr<std::string> FullCheckpointName(absl::string_view text);
// "[project/]run@module" -> "projects/P/runs/R/modules/M".
absl::StatusOr<std::string> FullModuleName(absl::string_view text);
// "[project/]run@upload" -> "projects/P/runs/R/uploads/U".
absl::StatusOr<std::string> FullUploadName(absl::string_view text);
// "model" -> "models/M".
absl::StatusOr<std::string> FullModelName(absl::string_view text);

// The short form of a full checkpoint, module, upload or run name: "resnet50@12", "vision/resnet50".
std::string ShortName(absl::string_view full_name);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_REFS_H_
