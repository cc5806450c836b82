#include "client/cli/plan_options.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/files.h"
#include "client/cli/refs.h"
#include "proto/wire/tree_codec.h"
#include "storage/format/load_plan.h"
#include "storage/format/module_keys.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/selection.h"

namespace sconce::cli {
namespace {

// "FILE" or "FILE#/path/in/it"; a file whose name has a "#" is taken as it is when it exists.
std::pair<std::string, std::string> SplitTarget(const std::string& text) {
  struct stat found;
  const size_t hash = text.rfind("#/");
  if (hash == std::string::npos || ::stat(text.c_str(), &found) == 0) return {text, ""};
  return {text.substr(0, hash), text.substr(hash + 1)};
}

absl::StatusOr<format::LoadTarget> TargetOfFile(const std::string& text) {
  const auto [path, root] = SplitTarget(text);
  SCONCE_ASSIGN_OR_RETURN(const wire::SharedBytes file, MapFile(path));
  if (format::IsTorchScriptArchive(file.bytes)) return format::TargetOfModule(file.bytes);
  SCONCE_ASSIGN_OR_RETURN(const format::TorchIndex index, format::IndexCheckpointFile(file.bytes));
  SCONCE_ASSIGN_OR_RETURN(const format::Selected selected, format::Select(index.manifest, {root, {}, {}}));
  SCONCE_ASSIGN_OR_RETURN(format::StateDict dict, format::ReadStateDict(selected.manifest, ToAbsl(root)));
  format::LoadTarget target;
  for (format::SourceKey& key : dict.keys) {
    target.keys.push_back({std::move(key.key), std::move(key.shape), std::move(key.dtype)});
  }
  return target;
}

}  // namespace

std::vector<Option> KeyRuleOptions() {
  return {
      {"strip-prefix", 0, "PREFIX",
       "take PREFIX off the checkpoint's keys that have it: module., _orig_mod., model.; repeatable", true},
      {"add-prefix", 0, "PREFIX", "then put PREFIX before all of them"},
      {"rename", 0, "FROM=TO",
       "then rename: keys FROM and below it, or a pattern such as layers.*.attn.*=blocks.*.mixer.*; repeatable", true},
      {"min-match", 0, "SHARE", "fail when a smaller share of the target's keys matches, e.g. 0.5"}};
}

std::vector<Option> LoadPlanOptions() {
  std::vector<Option> options = {
      {"module", 0, "RUN@MODULE", "what to load into: a TorchScript module that was pushed"},
      {"into", 0, "FILE[#/PATH]",
       "what to load into: a local file with the model's own state_dict, or a TorchScript module"}};
  for (Option& option : KeyRuleOptions()) options.push_back(std::move(option));
  return options;
}

absl::StatusOr<v1::KeyRules> KeyRulesFrom(const Args& args) {
  v1::KeyRules rules;
  for (const std::string& prefix : args.All("strip-prefix")) rules.add_strip_prefixes(prefix);
  rules.set_add_prefix(args.Get("add-prefix"));
  for (const std::string& text : args.All("rename")) {
    SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("rename", text));
    v1::RenameRule& rename = *rules.add_renames();
    rename.set_from(pair.first);
    rename.set_to(pair.second);
  }
  return rules;
}

absl::StatusOr<double> MinMatchFrom(const Args& args) {
  if (!args.Has("min-match")) return 0;
  double share = 0;
  if (!absl::SimpleAtod(args.Get("min-match"), &share)) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("--min-match takes a share from 0 to 1, not ", Quoted(args.Get("min-match"))));
  }
  return share;
}

absl::StatusOr<v1::LoadPlan> LoadPlanFrom(const Args& args) {
  v1::LoadPlan plan;
  if (args.Has("module") && args.Has("into")) {
    return MakeError(Reason::ARGUMENT_INVALID, "--module and --into are both what to load into; give one of them");
  }
  SCONCE_ASSIGN_OR_RETURN(v1::KeyRules rules, KeyRulesFrom(args));
  if (rules.ByteSizeLong() != 0) *plan.mutable_rules() = std::move(rules);
  SCONCE_ASSIGN_OR_RETURN(const double min_match, MinMatchFrom(args));
  plan.set_min_match(min_match);
  if (args.Has("module")) {
    SCONCE_ASSIGN_OR_RETURN(*plan.mutable_module(), FullModuleName(args.Get("module")));
  } else if (args.Has("into")) {
    const absl::StatusOr<format::LoadTarget> target = TargetOfFile(args.Get("into"));
    if (!target.ok()) return Annotate(target.status(), absl::StrCat("reading ", args.Get("into")));
    for (const format::TargetKey& key : target->keys) *plan.add_target_keys() = wire::ToProto(key);
  }
  return plan;
}

}  // namespace sconce::cli
