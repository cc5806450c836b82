#ifndef SCONCE_TESTS_SUPPORT_IN_PROCESS_SERVER_H_
#define SCONCE_TESTS_SUPPORT_IN_PROCESS_SERVER_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "proto/wire/limits.h"

namespace sconce {

// Services behind a real gRPC server on a free port of 127.0.0.1, and a channel to it. The services are borrowed and
// outlive it. The destructor gives calls under way ten seconds.
class InProcessServer {
 public:
  explicit InProcessServer(const std::vector<grpc::Service*>& services,
                           grpc::CallbackGenericService* generic = nullptr) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.SetMaxReceiveMessageSize(static_cast<int>(wire::kMaxInferenceMessageBytes));
    for (grpc::Service* service : services) builder.RegisterService(service);
    if (generic != nullptr) builder.RegisterCallbackGenericService(generic);
    server_ = builder.BuildAndStart();
    SCONCE_CHECK(server_ != nullptr);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  }
  ~InProcessServer() {
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(10));
    server_->Wait();
  }

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_IN_PROCESS_SERVER_H_
