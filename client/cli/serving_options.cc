#include "client/cli/serving_options.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/plan_options.h"
#include "client/cli/refs.h"
#include "client/cli/transfer_options.h"

namespace sconce::cli {
namespace {

absl::Status Invalid(absl::string_view option, absl::string_view takes, absl::string_view text) {
  return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("--", option, " takes ", takes, ", not ", Quoted(text)));
}

bool HasAny(const Args& args, const std::vector<Option>& options) {
  for (const Option& option : options) {
    if (args.Has(option.name)) return true;
  }
  return false;
}

// What turns something on and what turns it off.
absl::Status NotBoth(const Args& args, const std::string& on, const std::string& off) {
  if (!args.Has(on) || !args.Has(off)) return absl::OkStatus();
  return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("--", on, " and --", off, " exclude each other"));
}

absl::StatusOr<int32_t> GetCount(const Args& args, const std::string& option) {
  int32_t count = 0;
  if (absl::SimpleAtoi(args.Get(option), &count) && count >= 0) return count;
  return Invalid(option, "a number, 0 or more", args.Get(option));
}

// Options that say how weights are loaded; the rules for their keys are given as a whole.
std::vector<Option> WeightOptions() {
  std::vector<Option> options = {
      {"path", 0, "PATH", "where in that checkpoint the state_dict is, e.g. /model_state_dict (default: its root)"},
      {"lenient", 0, "", "tolerate missing and unexpected keys: what is missing stays as the module has it"},
      {"strict", 0, "", "undo --lenient"}};
  for (Option& option : KeyRuleOptions()) options.push_back(std::move(option));
  return options;
}

absl::StatusOr<bool> SetWeights(const Args& args, v1::Model& model) {
  if (args.Has("weights")) {
    SCONCE_ASSIGN_OR_RETURN(*model.mutable_weights()->mutable_checkpoint(), FullCheckpointName(args.Get("weights")));
  }
  for (const Option& option : WeightOptions()) {
    if (!args.Has(option.name) || !model.weights().checkpoint().empty()) continue;
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("--", option.name, " says how the weights are loaded; it needs --weights"));
  }
  SCONCE_RETURN_IF_ERROR(NotBoth(args, "lenient", "strict"));
  v1::WeightSource& weights = *model.mutable_weights();
  if (args.Has("path")) weights.set_path(args.Get("path"));
  if (args.Has("lenient") || args.Has("strict")) weights.set_lenient(args.Has("lenient"));
  if (HasAny(args, KeyRuleOptions())) {
    SCONCE_ASSIGN_OR_RETURN(*weights.mutable_rules(), KeyRulesFrom(args));
    if (weights.rules().ByteSizeLong() == 0) weights.clear_rules();
  }
  if (args.Has("min-match")) {
    SCONCE_ASSIGN_OR_RETURN(const double min_match, MinMatchFrom(args));
    weights.set_min_match(min_match);
  }
  if (weights.ByteSizeLong() == 0) model.clear_weights();
  return args.Has("weights") || HasAny(args, WeightOptions());
}

std::vector<Option> BatchOptions() {
  return {{"max-batch", 0, "N", "join requests whose first dimensions add up to at most N; 0: none (default: 0)"},
          {"batch-delay", 0, "TIME", "how long a request waits for others while an instance is free, e.g. 2ms"},
          {"max-queue", 0, "N", "requests that may wait; one more is refused at once (default: 128)"}};
}

absl::StatusOr<bool> SetBatching(const Args& args, v1::Model& model) {
  if (!HasAny(args, BatchOptions())) return false;
  v1::Batching& batching = *model.mutable_batching();
  if (args.Has("max-batch")) {
    SCONCE_ASSIGN_OR_RETURN(const int32_t size, GetCount(args, "max-batch"));
    batching.set_max_batch_size(size);
  }
  if (args.Has("max-queue")) {
    SCONCE_ASSIGN_OR_RETURN(const int32_t size, GetCount(args, "max-queue"));
    batching.set_max_queue_size(size);
  }
  if (args.Has("batch-delay")) {
    absl::Duration delay;
    if (!absl::ParseDuration(args.Get("batch-delay"), &delay) || delay < absl::ZeroDuration() ||
        delay > absl::Hours(1)) {
      return Invalid("batch-delay", "a time such as 500us or 2ms", args.Get("batch-delay"));
    }
    google::protobuf::Duration& wanted = *batching.mutable_max_queue_delay();
    wanted.set_seconds(absl::IDivDuration(delay, absl::Seconds(1), &delay));
    wanted.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(delay)));
  }
  return true;
}

// "x=FP32[-1,784]"
absl::StatusOr<v1::TensorSpec> ParseTensorSpec(const std::string& option, const std::string& text) {
  const absl::Status invalid = Invalid(option, "NAME=DATATYPE[DIM,...], such as x=FP32[-1,784]", text);
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
  absl::string_view type = parts.second;
  const size_t open = type.find('[');
  if (parts.first.empty() || open == 0 || open == absl::string_view::npos || type.back() != ']') return invalid;
  v1::TensorSpec spec;
  spec.set_name(std::string(parts.first));
  spec.set_datatype(std::string(type.substr(0, open)));
  const absl::string_view dims = type.substr(open + 1, type.size() - open - 2);
  for (const absl::string_view dim : absl::StrSplit(dims, ',', absl::SkipEmpty())) {
    int64_t extent = 0;
    if (!absl::SimpleAtoi(dim, &extent)) return invalid;
    spec.add_shape(extent);
  }
  return spec;
}

absl::StatusOr<bool> SetSpecs(const Args& args, const std::string& option,
                              google::protobuf::RepeatedPtrField<v1::TensorSpec>& specs) {
  if (!args.Has(option)) return false;
  specs.Clear();
  for (const std::string& text : args.All(option)) {
    SCONCE_ASSIGN_OR_RETURN(*specs.Add(), ParseTensorSpec(option, text));
  }
  return true;
}

absl::StatusOr<bool> SetTransition(const Args& args, v1::Model& model) {
  if (!args.Has("transition")) return false;
  const std::string wanted = args.Get("transition");
  if (wanted == "availability") {
    model.set_transition(v1::Model::AVAILABILITY_PRESERVING);
  } else if (wanted == "resource") {
    model.set_transition(v1::Model::RESOURCE_PRESERVING);
  } else {
    return Invalid("transition", "availability or resource", wanted);
  }
  return true;
}

absl::StatusOr<bool> SetCanary(const Args& args, v1::Model& model) {
  SCONCE_RETURN_IF_ERROR(NotBoth(args, "canary", "no-canary"));
  if (args.Has("no-canary")) model.clear_canary();
  if (args.Has("canary")) {
    SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("canary", args.Get("canary")));
    double share = 0;
    if (!absl::SimpleAtod(pair.second, &share)) {
      return Invalid("canary", "SELECTOR=SHARE with a share from 0 to 1, such as best=0.1", args.Get("canary"));
    }
    model.mutable_canary()->set_checkpoint(pair.first);
    model.mutable_canary()->set_weight(share);
  }
  return args.Has("canary") || args.Has("no-canary");
}

absl::StatusOr<bool> SetShadow(const Args& args, v1::Model& model) {
  SCONCE_RETURN_IF_ERROR(NotBoth(args, "shadow", "no-shadow"));
  if (args.Has("no-shadow")) model.clear_shadow();
  if (args.Has("shadow")) model.mutable_shadow()->set_checkpoint(args.Get("shadow"));
  return args.Has("shadow") || args.Has("no-shadow");
}

absl::StatusOr<bool> SetPinned(const Args& args, v1::Model& model) {
  SCONCE_RETURN_IF_ERROR(NotBoth(args, "pin", "follow"));
  SCONCE_ASSIGN_OR_RETURN(const auto version, args.GetInt("pin"));
  if (version.has_value() && *version < 1) return Invalid("pin", "a version's number", args.Get("pin"));
  if (version.has_value() || args.Has("follow")) model.set_pinned_version(version.value_or(0));
  return version.has_value() || args.Has("follow");
}

}  // namespace

std::vector<Option> ServingOptions() {
  std::vector<Option> options = {
      {"weights", 0, "RUN@SELECTOR", "the checkpoint with the weights (default: the module's own)"}};
  const auto add = [&options](std::vector<Option> more) {
    for (Option& option : more) options.push_back(std::move(option));
  };
  add(WeightOptions());
  add({{"device", 0, "DEVICE", "where to run it (default: cpu)"}});
  add(CastOptions());
  add({{"instances", 0, "N", "worker processes that share the weights and divide the cores (default: 1)"}});
  add(BatchOptions());
  add({{"input", 0, "NAME=TYPE[DIM,...]",
        "what an input is, such as x=FP32[-1,784] (-1: any); requests are checked and versions warmed up by it; "
        "repeatable",
        true},
       {"output", 0, "NAME=TYPE[DIM,...]", "what an output is, such as OUTPUT__0=FP32[-1,10]; repeatable", true},
       {"warm-up-runs", 0, "N", "runs that try a version before it serves (default: 1)"},
       {"transition", 0, "KIND",
        "availability: the old version goes when the new one answers; resource: before it is loaded, with a gap "
        "(default: availability)"},
       {"keep-previous", 0, "", "keep the version that served before in memory: going back to it is instant"},
       {"no-keep-previous", 0, "", "undo --keep-previous"},
       {"pin", 0, "VERSION", "serve this version whatever the weights' selector means"},
       {"follow", 0, "", "undo --pin, and what a rollback pinned"},
       {"canary", 0, "SELECTOR=SHARE", "another version of the run that gets a share of the requests: best=0.1"},
       {"no-canary", 0, "", "undo --canary"},
       {"shadow", 0, "SELECTOR", "another version that gets copies of the requests; its answers are dropped"},
       {"no-shadow", 0, "", "undo --shadow"}});
  return options;
}

absl::StatusOr<std::vector<std::string>> SetServing(const Args& args, v1::Model& model) {
  std::vector<std::string> fields;
  const auto note = [&fields](const char* field, const absl::StatusOr<bool>& set) {
    if (set.ok() && *set) fields.emplace_back(field);
    return set.status();
  };
  SCONCE_RETURN_IF_ERROR(note("weights", SetWeights(args, model)));
  if (args.Has("device")) {
    model.set_device(args.Get("device"));
    fields.emplace_back("device");
  }
  if (args.Has("dtype")) {
    SCONCE_ASSIGN_OR_RETURN(*model.mutable_cast(), CastFrom(args));
    fields.emplace_back("cast");
  }
  if (args.Has("instances")) {
    SCONCE_ASSIGN_OR_RETURN(const int32_t count, GetCount(args, "instances"));
    model.set_instance_count(count);
    fields.emplace_back("instance_count");
  }
  SCONCE_RETURN_IF_ERROR(note("batching", SetBatching(args, model)));
  SCONCE_RETURN_IF_ERROR(note("inputs", SetSpecs(args, "input", *model.mutable_inputs())));
  SCONCE_RETURN_IF_ERROR(note("outputs", SetSpecs(args, "output", *model.mutable_outputs())));
  if (args.Has("warm-up-runs")) {
    SCONCE_ASSIGN_OR_RETURN(const int32_t runs, GetCount(args, "warm-up-runs"));
    model.mutable_warm_up()->set_runs(runs);
    fields.emplace_back("warm_up");
  }
  SCONCE_RETURN_IF_ERROR(note("transition", SetTransition(args, model)));
  SCONCE_RETURN_IF_ERROR(NotBoth(args, "keep-previous", "no-keep-previous"));
  if (args.Has("keep-previous") || args.Has("no-keep-previous")) {
    model.set_keep_previous(args.Has("keep-previous"));
    fields.emplace_back("keep_previous");
  }
  SCONCE_RETURN_IF_ERROR(note("pinned_version", SetPinned(args, model)));
  SCONCE_RETURN_IF_ERROR(note("canary", SetCanary(args, model)));
  SCONCE_RETURN_IF_ERROR(note("shadow", SetShadow(args, model)));
  return fields;
}

}  // namespace sconce::cli
