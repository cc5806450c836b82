#ifndef SCONCE_CLIENT_CPP_CONNECTION_H_
#define SCONCE_CLIENT_CPP_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "client/cpp/client.h"
#include "client/cpp/raw_stream.h"
#include "proto/wire/status.h"

namespace sconce::client {

// What every call of a Client shares: the channel and how often a call is tried.
class Connection {
 public:
  explicit Connection(const ClientOptions& options);

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  const ClientOptions& options() const { return options_; }

  // A unary call, `method` being a member of a generated stub. `repeatable`: it may be tried again without harm.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request, bool repeatable) {
    RetryLoop retry(options_.retry);
    while (true) {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(absl::Now() + options_.timeout));
      Response response;
      const absl::Status status = wire::FromGrpcStatus((stub.*method)(&context, request, &response));
      if (status.ok()) return response;
      if (!repeatable || !retry.ShouldRetry(status)) return status;
    }
  }

  // A streaming call of TransferService, without a deadline: its progress is what matters.
  std::unique_ptr<RawStream> Stream(const std::string& method) const;

 private:
  const ClientOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace sconce::client

#endif  // SCONCE_CLIENT_CPP_CONNECTION_H_
