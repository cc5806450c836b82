#include "server/services/channelz_service.h"

#include <google/protobuf/util/json_util.h>
#include <grpc/grpc.h>
#include <grpc/support/alloc.h>
#include <grpcpp/server_context.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error.h"
#include "base/strings.h"
#include "grpc/channelz/v1/channelz.grpc.pb.h"
#include "server/rpc/unary.h"

// gRPC gives what it knows as JSON in the mapping of protobuf, or null for an id it does not know.
namespace sconce::services {
namespace {

namespace cz = grpc::channelz::v1;

constexpr char kService[] = "grpc.channelz.v1.Channelz";

absl::Status Parse(char* json, absl::string_view what, int64_t id, google::protobuf::Message& out) {
  if (json == nullptr) {
    return MakeError(Reason::RESOURCE_NOT_FOUND, absl::StrCat("there is no ", what, " with id ", id),
                     {{"id", absl::StrCat(id)}});
  }
  const std::string text(json);
  gpr_free(json);
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // a newer gRPC may tell more
  const auto parsed = google::protobuf::util::JsonStringToMessage(text, &out, options);
  if (parsed.ok()) return absl::OkStatus();
  return MakeError(
      Reason::INTERNAL_ERROR,
      absl::StrCat("gRPC described a ", what, " in a way that cannot be read: ", ToAbsl(parsed.message().as_string())));
}

class ChannelzService final : public cz::Channelz::CallbackService {
 public:
  explicit ChannelzService(rpc::CallRuntime& runtime) : runtime_(runtime) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* GetTopChannels(Context* context, const cz::GetTopChannelsRequest* request,
                          cz::GetTopChannelsResponse* response) override {
    return Answer(context, "GetTopChannels", request, response, [](const auto& req, auto& resp) {
      return Parse(grpc_channelz_get_top_channels(req.start_channel_id()), "channel", req.start_channel_id(), resp);
    });
  }
  Reactor* GetServers(Context* context, const cz::GetServersRequest* request,
                      cz::GetServersResponse* response) override {
    return Answer(context, "GetServers", request, response, [](const auto& req, auto& resp) {
      return Parse(grpc_channelz_get_servers(req.start_server_id()), "server", req.start_server_id(), resp);
    });
  }
  Reactor* GetServer(Context* context, const cz::GetServerRequest* request, cz::GetServerResponse* response) override {
    return Answer(context, "GetServer", request, response, [](const auto& req, auto& resp) {
      return Parse(grpc_channelz_get_server(req.server_id()), "server", req.server_id(), resp);
    });
  }
  Reactor* GetServerSockets(Context* context, const cz::GetServerSocketsRequest* request,
                            cz::GetServerSocketsResponse* response) override {
    return Answer(context, "GetServerSockets", request, response, [](const auto& req, auto& resp) {
      return Parse(grpc_channelz_get_server_sockets(req.server_id(), req.start_socket_id(), req.max_results()),
                   "server", req.server_id(), resp);
    });
  }
  Reactor* GetChannel(Context* context, const cz::GetChannelRequest* request,
                      cz::GetChannelResponse* response) override {
    return Answer(context, "GetChannel", request, response, [](const auto& req, auto& resp) {
      return Parse(grpc_channelz_get_channel(req.channel_id()), "channel", req.channel_id(), resp);
    });
  }
  Reactor* GetSubchannel(Context* context, const cz::GetSubchannelRequest* request,
                         cz::GetSubchannelResponse* response) override {
    return Answer(context, "GetSubchannel", request, response, [](const auto& req, auto& resp) {
      return Parse(grpc_channelz_get_subchannel(req.subchannel_id()), "subchannel", req.subchannel_id(), resp);
    });
  }
  Reactor* GetSocket(Context* context, const cz::GetSocketRequest* request, cz::GetSocketResponse* response) override {
    return Answer(context, "GetSocket", request, response, [](const auto& req, auto& resp) {
      return Parse(grpc_channelz_get_socket(req.socket_id()), "socket", req.socket_id(), resp);
    });
  }

 private:
  template <typename Request, typename Response, typename Ask>
  Reactor* Answer(Context* context, const char* method, const Request* request, Response* response, Ask ask) {
    const rpc::CallSpec spec = {kService, method, rpc::CallKind::kUnary, wire::kMaxMessageBytes,
                                rpc::Admission::kAlways};
    return rpc::HandleUnary(runtime_, context, spec, request, response,
                            [ask](rpc::CallScope&, const Request& req, Response& resp) { return ask(req, resp); });
  }

  rpc::CallRuntime& runtime_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeChannelzService(rpc::CallRuntime& runtime) {
  return std::make_unique<ChannelzService>(runtime);
}

}  // namespace sconce::services
