#ifndef SCONCE_SERVER_SERVICES_UPLOAD_CALLS_H_
#define SCONCE_SERVER_SERVICES_UPLOAD_CALLS_H_

#include <google/protobuf/empty.pb.h>

#include <memory>

#include "absl/status/status.h"
#include "sconce/v1/transfer_service.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/dialog_reactor.h"
#include "storage/repository/repository.h"

// The calls of TransferService that are about uploads; errors as in the .proto.
namespace sconce::services {

absl::Status BeginUpload(repository::Repository& repository, rpc::CallScope& scope,
                         const v1::BeginUploadRequest& request, v1::Upload& response);
absl::Status GetUpload(repository::Repository& repository, rpc::CallScope& scope, const v1::GetUploadRequest& request,
                       v1::Upload& response);
absl::Status CommitUpload(repository::Repository& repository, rpc::CallScope& scope,
                          const v1::CommitUploadRequest& request, v1::Checkpoint& response);
absl::Status AbortUpload(repository::Repository& repository, rpc::CallScope& scope,
                         const v1::AbortUploadRequest& request, google::protobuf::Empty& response);

// One stream of UploadChunks. `repository` is borrowed and outlives it.
std::unique_ptr<rpc::Dialog> NewUploadDialog(repository::Repository& repository, rpc::Dialog::Say say);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_UPLOAD_CALLS_H_
