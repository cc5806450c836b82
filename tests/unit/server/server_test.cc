#include "server/server.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <memory>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "base/error.h"
#include "base/version.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "inference/grpc_service.grpc.pb.h"
#include "proto/wire/status.h"
#include "sconce/v1/admin_service.grpc.pb.h"
#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "sconce/v1/model_service.grpc.pb.h"
#include "sconce/v1/transfer_service.grpc.pb.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    config_.data_dir = folder_ / "data";
    config_.listen = {"127.0.0.1:0"};
    config_.min_free_bytes = 0;
    ConfigureLog(LogFormat::kJson, Severity::kError);
  }
  std::unique_ptr<Server> Start() {
    auto server = Server::Start(config_);
    EXPECT_OK(server);
    return server.ok() ? *std::move(server) : nullptr;
  }
  static std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }

  const TempDir folder_;
  ServerConfig config_;
};

TEST_F(ServerTest, ServesOnEveryAddressAndSaysWhichPortItGot) {
  config_.listen = {"127.0.0.1:0", "unix:" + (folder_ / "socket"), "127.0.0.1:0"};
  const auto server = Start();
  ASSERT_EQ(server->addresses().size(), 3u);
  EXPECT_THAT(server->addresses()[0], StartsWith("127.0.0.1:"));
  EXPECT_FALSE(absl::EndsWith(server->addresses()[0], ":0"));
  EXPECT_EQ(server->addresses()[1], config_.listen[1]);
  for (const std::string& address : server->addresses()) {
    const auto stub = v1::AdminService::NewStub(Connect(address));
    grpc::ClientContext context;
    v1::Stats stats;
    ASSERT_OK(wire::FromGrpcStatus(stub->GetStats(&context, {}, &stats))) << address;
    EXPECT_EQ(stats.server_version(), kVersion);
  }
}

TEST_F(ServerTest, AllServicesAreThereDescribedAndHealthy) {
  const auto server = Start();
  const auto channel = Connect(server->addresses()[0]);
  const auto stub = grpc::reflection::v1::ServerReflection::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->ServerReflectionInfo(&context);
  grpc::reflection::v1::ServerReflectionRequest request;
  grpc::reflection::v1::ServerReflectionResponse response;
  request.set_list_services("");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  std::set<std::string> names;
  for (const auto& service : response.list_services_response().service()) names.insert(service.name());
  for (const char* name :
       {"sconce.v1.CheckpointService", "sconce.v1.TransferService", "sconce.v1.ModelService", "sconce.v1.AdminService",
        "inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection", "grpc.channelz.v1.Channelz"}) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
  const auto health = Health::NewStub(channel);
  for (const std::string& name : names) {
    request.set_file_containing_symbol(name);
    ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
    EXPECT_TRUE(response.has_file_descriptor_response()) << name << " cannot be described";
    grpc::ClientContext check_context;
    grpc::health::v1::HealthCheckRequest check;
    HealthCheckResponse state;
    check.set_service(name);
    ASSERT_TRUE(health->Check(&check_context, check, &state).ok()) << name;
    EXPECT_EQ(state.status(), HealthCheckResponse::SERVING) << name;
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

// A service that is listed but not registered would be caught by the answer to unknown methods.
TEST_F(ServerTest, EveryListedServiceAnswersItsOwnCalls) {
  const auto server = Start();
  const auto channel = Connect(server->addresses()[0]);
  {
    grpc::ClientContext context;
    v1::Run run;
    v1::GetRunRequest request;
    request.set_name("projects/p/runs/r");
    EXPECT_THAT(wire::FromGrpcStatus(v1::CheckpointService::NewStub(channel)->GetRun(&context, request, &run)),
                FailsWith(Reason::RUN_NOT_FOUND));
  }
  {
    grpc::ClientContext context;
    v1::FetchModuleRequest request;
    request.set_name("projects/p/runs/r/modules/m");
    const auto reader = v1::TransferService::NewStub(channel)->FetchModule(&context, request);
    v1::FetchModuleResponse response;
    EXPECT_FALSE(reader->Read(&response));
    EXPECT_THAT(wire::FromGrpcStatus(reader->Finish()), FailsWith(Reason::RUN_NOT_FOUND));
  }
  {
    grpc::ClientContext context;
    v1::GetModelRequest request;
    request.set_name("models/m");
    v1::Model model;
    EXPECT_THAT(wire::FromGrpcStatus(v1::ModelService::NewStub(channel)->GetModel(&context, request, &model)),
                FailsWith(Reason::MODEL_NOT_FOUND));
  }
  {
    grpc::ClientContext context;
    inference::ServerLiveResponse live;
    EXPECT_OK(wire::FromGrpcStatus(inference::GRPCInferenceService::NewStub(channel)->ServerLive(&context, {}, &live)));
    EXPECT_TRUE(live.live());
  }
}

TEST_F(ServerTest, AnAddressThatIsTakenIsNamed) {
  const auto first = Start();
  ServerConfig second = config_;
  second.data_dir = folder_ / "other";
  second.listen = {"127.0.0.1:0", first->addresses()[0]};
  EXPECT_THAT(Server::Start(second), FailsWith(Reason::ADDRESS_UNAVAILABLE, HasSubstr(first->addresses()[0])));
}

TEST_F(ServerTest, OneDataDirectoryHasOneServer) {
  const auto first = Start();
  EXPECT_THAT(Server::Start(config_), FailsWith(Reason::DATA_DIR_LOCKED));
}

TEST_F(ServerTest, DrainingTellsTheWatchersServesThroughTheGracePeriodAndEnds) {
  config_.grace_period = absl::Hours(1);  // as long as the test's own wait
  const auto server = Start();
  const auto channel = Connect(server->addresses()[0]);
  const auto health = Health::NewStub(channel);
  grpc::ClientContext watch_context;
  const auto watch = health->Watch(&watch_context, {});
  HealthCheckResponse state;
  ASSERT_TRUE(watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::SERVING);

  server->Drain([&](absl::Duration grace) {
    EXPECT_EQ(grace, absl::Hours(1));
    ASSERT_TRUE(watch->Read(&state));
    EXPECT_EQ(state.status(), HealthCheckResponse::NOT_SERVING);
    grpc::ClientContext context;
    v1::Stats stats;
    EXPECT_OK(wire::FromGrpcStatus(v1::AdminService::NewStub(channel)->GetStats(&context, {}, &stats)))
        << "calls are still served";
  });
  EXPECT_FALSE(watch->Read(&state));
  EXPECT_THAT(wire::FromGrpcStatus(watch->Finish()), FailsWith(Reason::SERVER_DRAINING));
  grpc::ClientContext context;
  v1::Stats stats;
  EXPECT_EQ(v1::AdminService::NewStub(channel)->GetStats(&context, {}, &stats).error_code(),
            grpc::StatusCode::UNAVAILABLE);

  EXPECT_OK(Server::Start(config_)) << "the data directory is free again";
}

}  // namespace
}  // namespace sconce
