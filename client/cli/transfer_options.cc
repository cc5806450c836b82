#include "client/cli/transfer_options.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/expiry.h"

namespace sconce::cli {

std::vector<Option> SelectionOptions() {
  return {
      {"root", 0, "PATH", "make the node at PATH the root, e.g. /model_state_dict"},
      {"only", 0, "PATTERN",
       "keep only tensors whose path below the root matches (* and ? within a segment, ** across); repeatable", true},
      {"exclude", 0, "PATTERN", "leave out what matches; repeatable", true}};
}

v1::Selection SelectionFrom(const Args& args) {
  v1::Selection selection;
  selection.set_root(args.Get("root"));
  for (const std::string& pattern : args.All("only")) selection.add_include(pattern);
  for (const std::string& pattern : args.All("exclude")) selection.add_exclude(pattern);
  return selection;
}

std::vector<Option> DeviceOptions() {
  return {{"map-location", 0, "DEVICE|FROM=TO",
           "as torch.load's map_location: everything to DEVICE, or tag FROM to TO (repeatable)", true},
          {"device-rule", 0, "PATTERN=DEVICE",
           "tensors whose path matches go to DEVICE; the first rule that matches counts; repeatable", true},
          {"have-devices", 0, "DEVICES", "the devices the reader has, separated by commas: others fall back"},
          {"fallback", 0, "DEVICE", "where tensors go whose device the reader lacks"}};
}

absl::StatusOr<v1::DeviceMapping> DeviceMappingFrom(const Args& args) {
  v1::DeviceMapping mapping;
  for (const std::string& value : args.All("map-location")) {
    const size_t equals = value.find('=');
    if (equals != std::string::npos) {
      (*mapping.mutable_remap())[value.substr(0, equals)] = value.substr(equals + 1);
    } else if (mapping.device().empty()) {
      mapping.set_device(value);
    } else {
      return MakeError(Reason::ARGUMENT_INVALID,
                       absl::StrCat("--map-location names two devices for everything, ", Quoted(mapping.device()),
                                    " and ", Quoted(value), "; use FROM=TO to map one tag"));
    }
  }
  for (const std::string& value : args.All("device-rule")) {
    const size_t equals = value.rfind('=');  // a pattern may hold one
    if (equals == std::string::npos || equals == 0) {
      return MakeError(Reason::ARGUMENT_INVALID,
                       absl::StrCat("--device-rule takes PATTERN=DEVICE, not ", Quoted(value)));
    }
    v1::DeviceRule& rule = *mapping.add_rules();
    rule.set_pattern(value.substr(0, equals));
    rule.set_device(value.substr(equals + 1));
  }
  for (const absl::string_view device : absl::StrSplit(args.Get("have-devices"), ',', absl::SkipEmpty())) {
    mapping.add_available(std::string(device));
  }
  mapping.set_fallback(args.Get("fallback"));
  return mapping;
}

std::vector<Option> CastOptions() {
  return {{"dtype", 0, "DTYPE|PATTERN=DTYPE",
           "cast floating-point tensors to DTYPE, or those whose path matches (the first pattern counts; DTYPE keep "
           "leaves them): float16, bfloat16, float32, float64, float8_e4m3fn, float8_e5m2; repeatable",
           true}};
}

absl::StatusOr<v1::DtypeCast> CastFrom(const Args& args) {
  v1::DtypeCast cast;
  for (const std::string& value : args.All("dtype")) {
    const size_t equals = value.rfind('=');  // a pattern may hold one
    const std::string dtype = equals == std::string::npos ? value : value.substr(equals + 1);
    if (dtype.empty() || equals == 0) {
      return MakeError(Reason::ARGUMENT_INVALID,
                       absl::StrCat("--dtype takes DTYPE or PATTERN=DTYPE, not ", Quoted(value)));
    }
    if (equals != std::string::npos) {
      v1::DtypeRule& rule = *cast.add_rules();
      rule.set_pattern(value.substr(0, equals));
      if (dtype != "keep") rule.set_dtype(dtype);
    } else if (cast.dtype().empty()) {
      cast.set_dtype(dtype);
    } else {
      return MakeError(Reason::ARGUMENT_INVALID,
                       absl::StrCat("--dtype names two dtypes for everything, ", Quoted(cast.dtype()), " and ",
                                    Quoted(dtype), "; use PATTERN=DTYPE for a part"));
    }
  }
  return cast;
}

std::vector<Option> PushOptions() {
  return {{"epoch", 0, "N", "training epoch (default: the file's own `epoch`)"},
          {"step", 0, "N", "optimizer steps (default: the file's own `step` or `global_step`)"},
          {"metric", 0, "NAME=VALUE",
           "a metric, e.g. loss=0.25; repeatable (default: the file's own `loss` and `metrics`)", true},
          {"label", 0, "KEY=VALUE", "a label; repeatable", true},
          {"parent", 0, "VERSION", "the version this one was trained from"},
          {"pin", 0, "", "never delete it automatically"},
          {"expire", 0, "TIME|DURATION",
           "delete it then, unless it is protected: 2027-01-31T12:00:00Z, or from now: 36h, 14d (to the full unit)"},
          {"no-create", 0, "", "fail when the run does not exist yet"},
          {"request-id", 0, "UUID", "makes a repeated push of the same file answer the same version"}};
}

absl::StatusOr<v1::PushHeader> PushHeaderFrom(const Args& args, const std::string& run_name, absl::Time now) {
  v1::PushHeader header;
  header.set_parent(run_name);
  v1::Checkpoint& checkpoint = *header.mutable_checkpoint();
  SCONCE_ASSIGN_OR_RETURN(const auto epoch, args.GetInt("epoch"));
  if (epoch) checkpoint.set_epoch(*epoch);
  SCONCE_ASSIGN_OR_RETURN(const auto step, args.GetInt("step"));
  if (step) checkpoint.set_step(*step);
  SCONCE_ASSIGN_OR_RETURN(const auto parent, args.GetInt("parent"));
  if (parent) checkpoint.set_parent_version(*parent);
  for (const std::string& text : args.All("metric")) {
    SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("metric", text));
    double value = 0;
    if (!absl::SimpleAtod(pair.second, &value)) {
      return MakeError(Reason::ARGUMENT_INVALID,
                       absl::StrCat("--metric ", pair.first, " takes a number, not ", Quoted(pair.second)));
    }
    (*checkpoint.mutable_metrics())[pair.first] = value;
  }
  for (const std::string& text : args.All("label")) {
    SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("label", text));
    (*checkpoint.mutable_labels())[pair.first] = pair.second;
  }
  checkpoint.set_pinned(args.Has("pin"));
  if (args.Has("expire")) {
    SCONCE_ASSIGN_OR_RETURN(const Expiry expiry, ParseExpiry(args.Get("expire"), now));
    if (expiry.from_now && (args.Has("request-id") || args.Has("upload"))) {
      return MakeError(Reason::ARGUMENT_INVALID,
                       absl::StrCat("each command that is part of this push would count ", args.Get("expire"),
                                    " from its own start; give --expire a time, such as 2027-01-31T12:00:00Z"));
    }
    if (expiry.time) *checkpoint.mutable_expire_time() = ToTimestamp(*expiry.time);
  }
  header.set_no_create(args.Has("no-create"));
  header.set_request_id(args.Get("request-id"));
  return header;
}

std::vector<std::string> MappedDeviceLines(const google::protobuf::RepeatedPtrField<v1::MappedDevice>& mapped) {
  std::vector<std::string> lines;
  for (const v1::MappedDevice& row : mapped) {
    lines.push_back(absl::StrCat(row.from(), " -> ", row.to(), row.fell_back() ? " (fallback)" : "", ": ",
                                 row.storage_count(), row.storage_count() == 1 ? " storage, " : " storages, ",
                                 HumanBytes(row.size_bytes()), " (first: ", row.first_path(), ")"));
  }
  return lines;
}

std::vector<std::string> CastDtypeLines(const google::protobuf::RepeatedPtrField<v1::CastDtype>& changes) {
  std::vector<std::string> lines;
  for (const v1::CastDtype& row : changes) {
    lines.push_back(absl::StrCat(row.from(), " -> ", row.to(), ": ", row.storage_count(),
                                 row.storage_count() == 1 ? " storage, " : " storages, ", HumanBytes(row.size_bytes()),
                                 " -> ", HumanBytes(row.cast_size_bytes()), " (first: ", row.first_path(), ")"));
  }
  return lines;
}

}  // namespace sconce::cli
