#ifndef SCONCE_TESTS_UNIT_SERVER_SERVICES_SERVICE_FIXTURE_H_
#define SCONCE_TESTS_UNIT_SERVER_SERVICES_SERVICE_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "proto/wire/status.h"
#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "server/rpc/runtime.h"
#include "server/services/checkpoint_service.h"
#include "server/services/watch_hub.h"
#include "storage/repository/repository.h"
#include "tests/support/in_process_server.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::services {

// CheckpointService over a real repository on an empty folder, asked through a real channel.
class CheckpointServiceTest : public ::testing::Test {
 protected:
  CheckpointServiceTest() {
    repository::RepositoryOptions options;
    options.data_dir = folder_ / "data";
    options.min_free_bytes = 0;
    auto opened = repository::Repository::Open(options);
    SCONCE_CHECK(opened.ok());
    repository_ = *std::move(opened);
    repository_->StartRetention();
    watches_ = std::make_unique<WatchHub>(runtime_, *repository_);
    service_ = MakeCheckpointService(runtime_, *repository_, *watches_,
                                     [this](const repository::RunName&, const std::string& module) {
                                       return module == deployed_module_ ? "some-model" : "";
                                     });
    server_ = std::make_unique<InProcessServer>(std::vector<grpc::Service*>{service_.get()});
    stub_ = v1::CheckpointService::NewStub(server_->channel());
  }

  // One call: Call(&Stub::GetRun, request) gives the response or the error.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::CheckpointService::Stub::*method)(grpc::ClientContext*,
                                                                                    const Request&, Response*),
                                const Request& request) {
    grpc::ClientContext context;
    Response response;
    const absl::Status status = wire::FromGrpcStatus((stub_.get()->*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  using Stub = v1::CheckpointService::Stub;

  // A small tree: {"loss": ..., "model": {"w": float32[2, 2] on cuda:0, "b": float32[2] on cpu}}.
  static format::Manifest SmallTree(double loss) {
    format::ManifestBuilder b;
    const auto w = b.Tensor(format::DType::kFloat32, {2, 2}, "cuda:0");
    const auto bias = b.Tensor(format::DType::kFloat32, {2});
    const auto model = b.Dict({{b.Str("w"), w}, {b.Str("b"), bias}});
    const auto value = b.Float(loss);
    b.Dict({{b.Str("loss"), value}, {b.Str("model"), model}});
    return b.Build();
  }

  // Stores a version without bulk bytes.
  repository::Checkpoint Push(const std::string& run, format::Manifest manifest, repository::PushOptions options = {}) {
    options.run = {"default", run};
    auto push = repository_->BeginPush(options, std::move(manifest));
    SCONCE_CHECK(push.ok());
    auto committed = (*push)->Commit();
    SCONCE_CHECK(committed.ok());
    return *std::move(committed);
  }

  const TempDir folder_;
  std::string deployed_module_;  // set before a call
  std::unique_ptr<repository::Repository> repository_;
  rpc::CallRuntime runtime_{rpc::RuntimeOptions()};
  std::unique_ptr<WatchHub> watches_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<InProcessServer> server_;
  std::unique_ptr<Stub> stub_;
};

}  // namespace sconce::services

#endif  // SCONCE_TESTS_UNIT_SERVER_SERVICES_SERVICE_FIXTURE_H_
