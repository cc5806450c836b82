#include "server/services/upload_calls.h"

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "server/services/convert.h"
#include "server/services/push_header.h"
#include "server/services/upload_convert.h"

namespace sconce::services {

absl::Status BeginUpload(repository::Repository& repository, rpc::CallScope& scope,
                         const v1::BeginUploadRequest& request, v1::Upload& response) {
  scope.SetResource(ToAbsl(request.header().parent()));
  SCONCE_ASSIGN_OR_RETURN(const repository::PushOptions options, PushOptionsFromProto(scope, request.header()));
  if (!request.upload_id().empty()) SCONCE_RETURN_IF_ERROR(wire::CheckId("upload", ToAbsl(request.upload_id())));
  SCONCE_RETURN_IF_ERROR(CheckParent(repository, options));
  SCONCE_ASSIGN_OR_RETURN(const repository::Upload upload,
                          repository.BeginUpload(options, request.upload_id(), request.expected_parts()));
  response = ToProto(upload);
  scope.SetResource(ToAbsl(response.name()));
  return absl::OkStatus();
}

absl::Status GetUpload(repository::Repository& repository, rpc::CallScope& scope, const v1::GetUploadRequest& request,
                       v1::Upload& response) {
  scope.SetResource(ToAbsl(request.name()));
  SCONCE_ASSIGN_OR_RETURN(const repository::UploadRef ref, UploadRefFromName(ToAbsl(request.name())));
  SCONCE_ASSIGN_OR_RETURN(const repository::Upload upload, repository.GetUpload(ref));
  response = ToProto(upload);
  return absl::OkStatus();
}

absl::Status CommitUpload(repository::Repository& repository, rpc::CallScope& scope,
                          const v1::CommitUploadRequest& request, v1::Checkpoint& response) {
  scope.SetResource(ToAbsl(request.name()));
  SCONCE_ASSIGN_OR_RETURN(const repository::UploadRef ref, UploadRefFromName(ToAbsl(request.name())));
  SCONCE_ASSIGN_OR_RETURN(const repository::Checkpoint checkpoint, repository.CommitUpload(ref));
  response = ToProto(checkpoint);
  scope.SetResource(ToAbsl(response.name()));
  return absl::OkStatus();
}

absl::Status AbortUpload(repository::Repository& repository, rpc::CallScope& scope,
                         const v1::AbortUploadRequest& request, google::protobuf::Empty&) {
  scope.SetResource(ToAbsl(request.name()));
  SCONCE_ASSIGN_OR_RETURN(const repository::UploadRef ref, UploadRefFromName(ToAbsl(request.name())));
  return repository.AbortUpload(ref);
}

}  // namespace sconce::services
