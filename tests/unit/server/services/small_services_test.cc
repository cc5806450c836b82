// Channelz, methods nobody has, and the admin service.
#include <grpcpp/generic/async_generic_service.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/error.h"
#include "grpc/channelz/v1/channelz.grpc.pb.h"
#include "proto/wire/status.h"
#include "sconce/v1/admin_service.grpc.pb.h"
#include "server/services/admin_service.h"
#include "server/services/channelz_service.h"
#include "server/services/unknown_method_service.h"
#include "storage/repository/repository.h"
#include "tests/support/in_process_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::services {
namespace {

namespace cz = grpc::channelz::v1;
using ::testing::HasSubstr;

TEST(ChannelzServiceTest, ShowsThisServerItsSocketsAndTheirPeers) {
  rpc::CallRuntime runtime{rpc::RuntimeOptions()};
  const auto service = MakeChannelzService(runtime);
  InProcessServer server({service.get()});
  const auto stub = cz::Channelz::NewStub(server.channel());

  cz::GetServersResponse servers;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub->GetServers(&context, {}, &servers).ok());
  }
  ASSERT_GE(servers.server_size(), 1);
  const int64_t id = servers.server(servers.server_size() - 1).ref().server_id();

  cz::GetServerSocketsRequest of_server;
  of_server.set_server_id(id);
  cz::GetServerSocketsResponse sockets;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub->GetServerSockets(&context, of_server, &sockets).ok());
  }
  ASSERT_EQ(sockets.socket_ref_size(), 1) << "this connection";

  cz::GetSocketRequest get;
  get.set_socket_id(sockets.socket_ref(0).socket_id());
  cz::GetSocketResponse socket;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub->GetSocket(&context, get, &socket).ok());
  }
  EXPECT_GT(socket.socket().data().streams_started(), 0);

  cz::GetTopChannelsResponse channels;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub->GetTopChannels(&context, {}, &channels).ok());
  }
  EXPECT_GE(channels.channel_size(), 1);

  cz::GetServerRequest nobody;
  nobody.set_server_id(1'000'000);
  cz::GetServerResponse ignored;
  grpc::ClientContext context;
  EXPECT_THAT(wire::FromGrpcStatus(stub->GetServer(&context, nobody, &ignored)), FailsWith(Reason::RESOURCE_NOT_FOUND));
}

TEST(UnknownMethodServiceTest, AMethodNobodyHasIsNamed) {
  rpc::CallRuntime runtime{rpc::RuntimeOptions()};
  const auto channelz = MakeChannelzService(runtime);
  const auto unknown = MakeUnknownMethodService(runtime);
  InProcessServer server({channelz.get()}, unknown.get());
  const auto stub = v1::AdminService::NewStub(server.channel());
  grpc::ClientContext context;
  v1::Stats stats;
  EXPECT_THAT(wire::FromGrpcStatus(stub->GetStats(&context, {}, &stats)),
              FailsWith(Reason::NOT_IMPLEMENTED, HasSubstr("/sconce.v1.AdminService/GetStats")));
  EXPECT_EQ(context.GetServerTrailingMetadata().count("x-request-id"), 1u);
  const auto known = cz::Channelz::NewStub(server.channel());
  grpc::ClientContext other;
  cz::GetServersResponse servers;
  EXPECT_TRUE(known->GetServers(&other, {}, &servers).ok()) << "methods somebody has are not caught";
}

TEST(AdminServiceTest, StatsCountWhatIsThere) {
  const TempDir folder;
  repository::RepositoryOptions options;
  options.data_dir = folder / "data";
  ASSERT_OK_AND_ASSIGN(const auto repository, repository::Repository::Open(options));
  ASSERT_OK(repository->CreateRun({"p", "a"}, {}, {}, {}, {}));
  ASSERT_OK(repository->CreateRun({"p", "b"}, {}, {}, {}, {}));
  rpc::CallRuntime runtime{rpc::RuntimeOptions()};
  const auto service = MakeAdminService(runtime, *repository, "1.2.3");
  InProcessServer server({service.get()});
  const auto stub = v1::AdminService::NewStub(server.channel());
  v1::Stats stats;
  {
    grpc::ClientContext context;
    ASSERT_OK(wire::FromGrpcStatus(stub->GetStats(&context, {}, &stats)));
  }
  EXPECT_EQ(stats.project_count(), 1);
  EXPECT_EQ(stats.run_count(), 2);
  EXPECT_GT(stats.free_bytes(), 0);
  EXPECT_EQ(stats.server_version(), "1.2.3");
  EXPECT_TRUE(stats.has_uptime());

  grpc::ClientContext context;
  v1::BackupResponse backup;
  EXPECT_THAT(wire::FromGrpcStatus(stub->Backup(&context, {}, &backup)), FailsWith(Reason::BACKUP_DISABLED));
}

}  // namespace
}  // namespace sconce::services
