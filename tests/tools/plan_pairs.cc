// Plans for PyTorch to judge (tests/python/judge_plans.py):
//
//   plan_pairs < LIST        for each line "STATE.pt<tab>TARGET.pt<tab>PREFIX,PREFIX..." what PlanLoad says of loading
//   the state_dict in
//                            the first file, with these prefixes taken off, into a `Net` that has the state_dict in the
//                            second
//
// Answers a line each: the strict error, then the sentences about mismatches, the missing and the unexpected keys, each
// list joined by 0x1F, and the parts by tabs. Newlines and tabs within are written "\n" and "\t".
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/file_system.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/load_plan.h"
#include "storage/format/state_dict.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

absl::StatusOr<Manifest> ReadManifest(const std::string& path) {
  const std::string file = ReadWholeFile(path);
  SCONCE_ASSIGN_OR_RETURN(TorchIndex index, IndexTorchFile(AsBytes(file)));
  return std::move(index.manifest);
}

absl::StatusOr<std::string> Plan(const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit(line, '\t');
  if (words.size() != 3) return absl::InvalidArgumentError("not three words");
  SCONCE_ASSIGN_OR_RETURN(const Manifest state, ReadManifest(words[0]));
  SCONCE_ASSIGN_OR_RETURN(const StateDict source, ReadStateDict(state, "the state_dict"));
  SCONCE_ASSIGN_OR_RETURN(const Manifest model, ReadManifest(words[1]));
  SCONCE_ASSIGN_OR_RETURN(const StateDict own, ReadStateDict(model, "the model"));
  LoadTarget target;
  for (const SourceKey& key : own.keys) target.keys.push_back({key.key, key.shape, key.dtype});
  KeyRules rules;
  rules.strip_prefixes = absl::StrSplit(words[2], ',', absl::SkipEmpty());
  SCONCE_ASSIGN_OR_RETURN(const LoadPlan plan, PlanLoad(state, source, rules, target));
  std::vector<std::string> mismatched;
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  for (const LoadPlan::Mismatch& mismatch : plan.mismatched) mismatched.push_back(mismatch.message);
  for (const size_t key : plan.missing) missing.push_back(target.keys[key].key);
  for (const size_t key : plan.unexpected) unexpected.push_back(plan.keys[key]);
  std::vector<std::string> parts = {LoadError(plan, target, /*strict=*/true, "Net", size_t{1} << 20)};
  for (const auto* list : {&mismatched, &missing, &unexpected}) parts.push_back(absl::StrJoin(*list, "\x1f"));
  for (std::string& part : parts) part = absl::StrReplaceAll(part, {{"\n", "\\n"}, {"\t", "\\t"}});
  return absl::StrJoin(parts, "\t");
}

}  // namespace
}  // namespace sconce::format

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const absl::StatusOr<std::string> answer = sconce::format::Plan(line);
    if (!answer.ok()) {
      std::cerr << line << ": " << sconce::ToStd(answer.status().message()) << "\n";
      return 1;
    }
    std::cout << *answer << "\n";
  }
  return 0;
}
