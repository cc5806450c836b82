#include "server/services/health_service.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "proto/wire/status.h"
#include "tests/support/in_process_server.h"
#include "tests/support/status_matchers.h"

namespace sconce::services {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

HealthCheckRequest For(const std::string& service) {
  HealthCheckRequest request;
  request.set_service(service);
  return request;
}

class HealthServiceTest : public ::testing::Test {
 protected:
  absl::StatusOr<HealthCheckResponse::ServingStatus> Check(const std::string& service) {
    grpc::ClientContext context;
    HealthCheckResponse response;
    const absl::Status status = wire::FromGrpcStatus(stub_->Check(&context, For(service), &response));
    if (!status.ok()) return status;
    return response.status();
  }
  static HealthCheckResponse::ServingStatus Next(grpc::ClientReader<HealthCheckResponse>& watch) {
    HealthCheckResponse response;
    return watch.Read(&response) ? response.status() : HealthCheckResponse::UNKNOWN;
  }

  rpc::CallRuntime runtime_{rpc::RuntimeOptions()};
  HealthService health_{runtime_, {"a.B", "c.D"}};
  InProcessServer server_{{health_.service()}};
  std::unique_ptr<Health::Stub> stub_ = Health::NewStub(server_.channel());
};

TEST_F(HealthServiceTest, NothingServesUntilItIsSaid) {
  for (const char* service : {"", "a.B", "c.D"}) EXPECT_EQ(Check(service).value(), HealthCheckResponse::NOT_SERVING);
  health_.SetServing(true);
  for (const char* service : {"", "a.B", "c.D"}) EXPECT_EQ(Check(service).value(), HealthCheckResponse::SERVING);
  health_.SetServing(false);
  EXPECT_EQ(Check("").value(), HealthCheckResponse::NOT_SERVING);
}

TEST_F(HealthServiceTest, AnUnknownServiceIsNotFound) {
  EXPECT_THAT(Check("x.Y"), FailsWith(Reason::RESOURCE_NOT_FOUND, HasSubstr("service name unknown")));
}

TEST_F(HealthServiceTest, AWatchIsToldTheStateAndEachChange) {
  grpc::ClientContext context;
  const auto watch = stub_->Watch(&context, For("a.B"));
  EXPECT_EQ(Next(*watch), HealthCheckResponse::NOT_SERVING);
  health_.SetServing(true);
  EXPECT_EQ(Next(*watch), HealthCheckResponse::SERVING);
  health_.SetServing(true);  // no change, no message
  health_.SetServing(false);
  EXPECT_EQ(Next(*watch), HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
}

TEST_F(HealthServiceTest, AWatchOfAnUnknownServiceStaysOpen) {
  grpc::ClientContext context;
  const auto watch = stub_->Watch(&context, For("x.Y"));
  EXPECT_EQ(Next(*watch), HealthCheckResponse::SERVICE_UNKNOWN);
  health_.EndWatches();
  HealthCheckResponse response;
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_THAT(wire::FromGrpcStatus(watch->Finish()), FailsWith(Reason::SERVER_DRAINING))
      << "open until now, with nothing more to say";
}

TEST_F(HealthServiceTest, WatchesEndAfterTheLastState) {
  health_.SetServing(true);
  grpc::ClientContext context;
  const auto watch = stub_->Watch(&context, For(""));
  EXPECT_EQ(Next(*watch), HealthCheckResponse::SERVING);
  health_.SetServing(false);
  health_.EndWatches();
  EXPECT_EQ(Next(*watch), HealthCheckResponse::NOT_SERVING);
  HealthCheckResponse response;
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_THAT(wire::FromGrpcStatus(watch->Finish()), FailsWith(Reason::SERVER_DRAINING));

  grpc::ClientContext late_context;
  const auto late = stub_->Watch(&late_context, For(""));
  EXPECT_EQ(Next(*late), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(late->Read(&response));
}

TEST_F(HealthServiceTest, HealthIsAnsweredWhileTheServerDrains) {
  runtime_.StartDraining();
  EXPECT_EQ(Check("").value(), HealthCheckResponse::NOT_SERVING);
}

TEST_F(HealthServiceTest, WatchersComeAndGoWhileTheStateChanges) {
  std::vector<std::thread> watchers;
  for (int i = 0; i < 4; ++i) {
    watchers.emplace_back([this] {
      for (int round = 0; round < 25; ++round) {
        grpc::ClientContext context;
        const auto watch = stub_->Watch(&context, For(""));
        EXPECT_NE(Next(*watch), HealthCheckResponse::UNKNOWN);
        context.TryCancel();
      }
    });
  }
  for (int i = 0; i < 500; ++i) health_.SetServing(i % 2 == 0);
  for (std::thread& watcher : watchers) watcher.join();
}

}  // namespace
}  // namespace sconce::services
