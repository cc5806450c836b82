#include "client/cpp/connection.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/limits.h"

namespace sconce::client {
namespace {

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(static_cast<int>(wire::kMaxInferenceMessageBytes));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  // A server that was restarted is found again as soon as calls are tried again, not after gRPC's two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  arguments.SetUserAgentPrefix("sconce-cpp");
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

Connection::Connection(const ClientOptions& options) : options_(options), channel_(MakeChannel(options.target)) {}

std::unique_ptr<RawStream> Connection::Stream(const std::string& method) const {
  return RawStream::Start(channel_, absl::StrCat("/sconce.v1.TransferService/", method),
                          std::make_unique<grpc::ClientContext>());
}

}  // namespace sconce::client
