#include "server/services/admin_service.h"

#include <grpcpp/server_context.h>

#include <utility>

#include "absl/time/time.h"
#include "base/status_macros.h"
#include "sconce/v1/admin_service.grpc.pb.h"
#include "server/rpc/unary.h"
#include "server/services/admin_backup.h"
#include "server/services/admin_calls.h"
#include "server/services/admin_retention.h"
#include "storage/repository/repository.h"

namespace sconce::services {
namespace {

constexpr char kService[] = "sconce.v1.AdminService";

class AdminService final : public v1::AdminService::CallbackService {
 public:
  AdminService(rpc::CallRuntime& runtime, repository::Repository& repository, std::string server_version)
      : runtime_(runtime),
        repository_(repository),
        server_version_(std::move(server_version)),
        start_time_(runtime.clock().Now()) {}

  using Context = grpc::CallbackServerContext;

  grpc::ServerUnaryReactor* GetStats(Context* context, const v1::GetStatsRequest* request, v1::Stats* stats) override {
    return rpc::HandleUnary(runtime_, context, {kService, "GetStats"}, request, stats,
                            [this](rpc::CallScope&, const v1::GetStatsRequest&, v1::Stats& out) { return Fill(out); });
  }
  grpc::ServerUnaryReactor* CollectGarbage(Context* context, const v1::CollectGarbageRequest* request,
                                           v1::CollectGarbageResponse* response) override {
    return rpc::HandleUnary(runtime_, context, {kService, "CollectGarbage"}, request, response,
                            [this](rpc::CallScope&, const v1::CollectGarbageRequest& asked,
                                   v1::CollectGarbageResponse& out) { return Collect(asked, out); });
  }
  grpc::ServerWriteReactor<v1::VerifyResponse>* Verify(Context* context, const v1::VerifyRequest* request) override {
    return StartVerify(runtime_, repository_, context, request);
  }
  grpc::ServerUnaryReactor* Backup(Context* context, const v1::BackupRequest* request,
                                   v1::BackupResponse* response) override {
    return rpc::HandleUnary(runtime_, context, {kService, "Backup"}, request, response,
                            [this](rpc::CallScope&, const v1::BackupRequest& asked, v1::BackupResponse& out) {
                              return TakeBackup(repository_, asked, out);
                            });
  }
  grpc::ServerUnaryReactor* PreviewRetention(Context* context, const v1::PreviewRetentionRequest* request,
                                             v1::PreviewRetentionResponse* response) override {
    return rpc::HandleUnary(
        runtime_, context, {kService, "PreviewRetention"}, request, response,
        [this](rpc::CallScope& scope, const v1::PreviewRetentionRequest& asked, v1::PreviewRetentionResponse& out) {
          return services::PreviewRetention(repository_, scope, asked, out);
        });
  }

 private:
  absl::Status Collect(const v1::CollectGarbageRequest& request, v1::CollectGarbageResponse& response) {
    SCONCE_ASSIGN_OR_RETURN(const repository::CollectReport report,
                            request.validate_only() ? repository_.PreviewGarbage() : repository_.CollectGarbage());
    response.set_removed_blobs(report.removed_blobs);
    response.set_compacted_blobs(report.compacted_blobs);
    response.set_freed_bytes(report.freed_bytes);
    return absl::OkStatus();
  }

  absl::Status Fill(v1::Stats& stats) {
    SCONCE_ASSIGN_OR_RETURN(const repository::RepositoryStats now, repository_.GetStats());
    stats.set_project_count(now.projects);
    stats.set_run_count(now.runs);
    stats.set_checkpoint_count(now.checkpoints);
    stats.set_blob_count(now.blobs);
    stats.set_physical_bytes(now.physical_bytes);
    stats.set_counting_blobs(now.counting_blobs);
    stats.set_free_bytes(now.free_bytes);
    stats.set_server_version(server_version_);
    stats.mutable_uptime()->set_seconds(absl::ToInt64Seconds(runtime_.clock().Now() - start_time_));
    return absl::OkStatus();
  }

  rpc::CallRuntime& runtime_;
  repository::Repository& repository_;
  const std::string server_version_;
  const absl::Time start_time_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(rpc::CallRuntime& runtime, repository::Repository& repository,
                                                std::string server_version) {
  return std::make_unique<AdminService>(runtime, repository, std::move(server_version));
}

}  // namespace sconce::services
