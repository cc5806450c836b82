#ifndef SCONCE_SERVER_SERVICES_CONVERT_H_
#define SCONCE_SERVER_SERVICES_CONVERT_H_

#include <google/protobuf/map.h>
#include <google/protobuf/timestamp.pb.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/wire/resource_name.h"
#include "sconce/v1/checkpoint.pb.h"
#include "storage/repository/types.h"

// The repository's types and their messages, both ways. What comes from outside is checked here: limits of labels and
// metrics, times, rules (ARGUMENT_INVALID naming the field).
namespace sconce::services {

v1::Run ToProto(const repository::Run& run);
v1::Checkpoint ToProto(const repository::Checkpoint& checkpoint);
v1::Module ToProto(const repository::Module& module);
v1::Alias ToProto(const repository::Alias& alias);

repository::RunName ToRunName(const wire::RunRef& ref);
// A full name, `projects/.../checkpoints/{selector}`. NAME_INVALID, SELECTOR_INVALID.
absl::StatusOr<repository::CheckpointRef> CheckpointRefFromName(absl::string_view name);
// `projects/.../runs/{run}`. NAME_INVALID.
absl::StatusOr<repository::RunName> RunFromName(absl::string_view name);

absl::StatusOr<repository::Labels> LabelsFromProto(const google::protobuf::Map<std::string, std::string>& labels);
absl::StatusOr<repository::Metrics> MetricsFromProto(const google::protobuf::Map<std::string, double>& metrics);
absl::StatusOr<repository::BestRule> FromProto(const v1::BestRule& rule);
absl::StatusOr<repository::RetentionRule> FromProto(const v1::RetentionPolicy& policy);
absl::StatusOr<absl::Time> TimeFromProto(absl::string_view field, const google::protobuf::Timestamp& time);
google::protobuf::Timestamp TimeToProto(absl::Time time);
// A `request_id`: at most 128 printable bytes without spaces, or empty. ARGUMENT_INVALID.
absl::StatusOr<std::string> RequestIdFromProto(const std::string& request_id);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_CONVERT_H_
