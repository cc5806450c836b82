#include "server/services/warm_start.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/tree_codec.h"
#include "server/services/module_target.h"

namespace sconce::services {
namespace {

// An error travels in trailing metadata, which has little room.
constexpr size_t kMaxSentenceBytes = 3000;

absl::Status Invalid(absl::string_view field, absl::string_view message) {
  return MakeError(Reason::ARGUMENT_INVALID, message, {{"field", std::string(field)}});
}

}  // namespace

bool IsEmpty(const v1::LoadPlan& plan) {
  return plan.module().empty() && plan.target_keys().empty() && wire::FromProto(plan.rules()).empty() &&
         plan.min_match() == 0 && !plan.strict();
}

absl::StatusOr<WarmStart> ReadLoadPlan(repository::Repository& repository, const v1::LoadPlan& plan) {
  WarmStart wanted;
  wanted.rules = wire::FromProto(plan.rules());
  wanted.min_match = plan.min_match();
  wanted.strict = plan.strict();
  const bool has_keys = !plan.target_keys().empty();
  const bool has_module = !plan.module().empty();
  if (!(wanted.min_match >= 0 && wanted.min_match <= 1)) {  // NaN too
    return Invalid("min_match", absl::StrCat("min_match is ", wanted.min_match, "; it is a share, from 0 to 1"));
  }
  if (has_keys && has_module) return Invalid("module", "both a module and target_keys are given; give one of them");
  if (!has_keys && !has_module && (wanted.strict || wanted.min_match > 0)) {
    return Invalid("target_keys", "strict and min_match need a target: a module or target_keys");
  }
  SCONCE_RETURN_IF_ERROR(format::CheckKeyRules(wanted.rules));
  if (has_module) {
    SCONCE_ASSIGN_OR_RETURN(wanted.target, ReadModuleTarget(repository, plan.module()));
  } else if (has_keys) {
    wanted.target.emplace();
    wanted.target->keys.reserve(static_cast<size_t>(plan.target_keys_size()));
    for (const v1::TargetKey& key : plan.target_keys()) wanted.target->keys.push_back(wire::FromProto(key));
  }
  return wanted;
}

absl::string_view DefaultClassName(const format::LoadTarget& target) {
  return target.scripted ? "RecursiveScriptModule" : "Module";
}

absl::Status CheckAgainst(const WarmStart& wanted, const format::LoadTarget& target, const format::LoadPlan& plan,
                          absl::string_view class_name) {
  if (wanted.strict && !plan.fits()) {
    return MakeError(Reason::MODEL_WEIGHTS_MISMATCH,
                     format::LoadError(plan, target, /*strict=*/true, class_name, kMaxSentenceBytes));
  }
  if (plan.match_rate() >= wanted.min_match) return absl::OkStatus();
  const std::string hint = format::SuggestRules(plan, target);
  return MakeError(
      Reason::MATCH_RATE_TOO_LOW,
      absl::StrCat(plan.matched.empty() ? std::string("nothing matched: 0") : absl::StrCat(plan.matched.size()), " of ",
                   plan.target_count, " keys match, ", absl::StrFormat("%.1f%%", 100 * plan.match_rate()),
                   ", and min_match asks for ", absl::StrFormat("%.1f%%", 100 * wanted.min_match), "; ",
                   hint.empty() ? "see what `sconce plan` says, and take prefixes off or rename keys" : hint),
      {{"match_rate", absl::StrCat(plan.match_rate())}});
}

absl::StatusOr<format::Selected> ApplyWarmStart(const WarmStart& wanted, const format::Manifest& manifest,
                                                absl::string_view where) {
  SCONCE_ASSIGN_OR_RETURN(const format::StateDict source, format::ReadStateDict(manifest, where));
  if (wanted.target.has_value()) {
    SCONCE_ASSIGN_OR_RETURN(const format::LoadPlan plan,
                            format::PlanLoad(manifest, source, wanted.rules, *wanted.target));
    SCONCE_RETURN_IF_ERROR(CheckAgainst(wanted, *wanted.target, plan, DefaultClassName(*wanted.target)));
    return format::KeepMatched(manifest, source, plan, *wanted.target);
  }
  std::vector<std::string> keys;
  keys.reserve(source.keys.size());
  for (const format::SourceKey& key : source.keys) keys.push_back(key.key);
  SCONCE_ASSIGN_OR_RETURN(keys, format::ApplyKeyRules(wanted.rules, keys));
  std::vector<format::KeptKey> kept;
  kept.reserve(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) kept.push_back({i, std::move(keys[i])});
  return format::KeepKeys(manifest, source, kept);
}

}  // namespace sconce::services
