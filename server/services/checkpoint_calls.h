#ifndef SCONCE_SERVER_SERVICES_CHECKPOINT_CALLS_H_
#define SCONCE_SERVER_SERVICES_CHECKPOINT_CALLS_H_

#include <google/protobuf/empty.pb.h>

#include "absl/status/status.h"
#include "sconce/v1/checkpoint_service.pb.h"
#include "server/rpc/call.h"
#include "server/services/checkpoint_service.h"
#include "storage/repository/repository.h"

// What each call of CheckpointService does: translate, ask the repository, translate back. Each may block on the disk.
// What they promise is in checkpoint_service.proto.
namespace sconce::services {

using repository::Repository;
using rpc::CallScope;

absl::Status CreateRun(Repository&, CallScope&, const v1::CreateRunRequest&, v1::Run&);
absl::Status GetRun(Repository&, CallScope&, const v1::GetRunRequest&, v1::Run&);
absl::Status ListRuns(Repository&, CallScope&, const v1::ListRunsRequest&, v1::ListRunsResponse&);
absl::Status UpdateRun(Repository&, CallScope&, const v1::UpdateRunRequest&, v1::Run&);
absl::Status DeleteRun(Repository&, CallScope&, const v1::DeleteRunRequest&, google::protobuf::Empty&);

absl::Status GetCheckpoint(Repository&, CallScope&, const v1::GetCheckpointRequest&, v1::Checkpoint&);
absl::Status ListCheckpoints(Repository&, CallScope&, const v1::ListCheckpointsRequest&, v1::ListCheckpointsResponse&);
absl::Status UpdateCheckpoint(Repository&, CallScope&, const v1::UpdateCheckpointRequest&, v1::Checkpoint&);
absl::Status DeleteCheckpoint(Repository&, CallScope&, const v1::DeleteCheckpointRequest&, google::protobuf::Empty&);
absl::Status DescribeCheckpoint(Repository&, CallScope&, const v1::DescribeCheckpointRequest&,
                                v1::DescribeCheckpointResponse&);

absl::Status SetAlias(Repository&, CallScope&, const v1::SetAliasRequest&, v1::Alias&);
absl::Status GetAlias(Repository&, CallScope&, const v1::GetAliasRequest&, v1::Alias&);
absl::Status ListAliases(Repository&, CallScope&, const v1::ListAliasesRequest&, v1::ListAliasesResponse&);
absl::Status DeleteAlias(Repository&, CallScope&, const v1::DeleteAliasRequest&, google::protobuf::Empty&);

absl::Status GetModule(Repository&, CallScope&, const v1::GetModuleRequest&, v1::Module&);
absl::Status ListModules(Repository&, CallScope&, const v1::ListModulesRequest&, v1::ListModulesResponse&);
// CHECKPOINT_PROTECTED when `module_user` (may be null) names a deployment.
absl::Status DeleteModule(Repository&, CallScope&, const v1::DeleteModuleRequest&, const ModuleUser& module_user);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_CHECKPOINT_CALLS_H_
