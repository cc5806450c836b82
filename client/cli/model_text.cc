#include "client/cli/model_text.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/refs.h"

namespace sconce::cli {

std::string WeightsText(const v1::Model& model) {
  if (model.weights().checkpoint().empty()) return "the module's own";
  return absl::StrCat(ShortName(model.weights().checkpoint()), model.weights().path().empty() ? "" : " ",
                      model.weights().path());
}

std::string VersionsText(const v1::Model& model) {
  std::vector<std::string> versions;
  for (const v1::Model::Version& version : model.versions()) {
    std::string text = absl::StrCat(version.version());
    if (version.role() != v1::Model::SERVING && version.role() != v1::Model::ROLE_UNSPECIFIED) {
      absl::StrAppend(&text, " ", v1::Model::Role_Name(version.role()));
    }
    if (version.state() != v1::Model::READY) absl::StrAppend(&text, " ", v1::Model::State_Name(version.state()));
    versions.push_back(std::move(text));
  }
  return versions.empty() ? "-" : absl::StrJoin(versions, ", ");
}

void PrintModel(const v1::Model& model, OutputFormat format) {
  if (format == OutputFormat::kJson) {
    PrintJson(model);
  } else if (format == OutputFormat::kName) {
    Print(absl::StrCat(model.name(), "\n"));
  } else {
    Print(absl::StrCat(ShortName(model.name()), "  ", v1::Model::State_Name(model.state()), ", version ",
                       VersionsText(model), "\n"));
  }
}

}  // namespace sconce::cli
