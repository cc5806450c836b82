#include <functional>

#include "client/cpp/client.h"
#include "client/cpp/connection.h"
#include "client/cpp/state.h"

namespace sconce::client {

absl::Status Client::WatchCheckpoints(v1::WatchCheckpointsRequest request,
                                      const std::function<bool(const v1::WatchCheckpointsResponse&)>& on_message) {
  RetryLoop retry(state_->connection.options().retry);
  while (true) {
    grpc::ClientContext context;  // no deadline: a watch ends when the caller wants
    const auto reader = state_->checkpoints->WatchCheckpoints(&context, request);
    v1::WatchCheckpointsResponse message;
    while (reader->Read(&message)) {
      retry.Reset();
      request.set_after_revision(message.revision());
      if (!on_message(message)) {
        context.TryCancel();
        reader->Finish();
        return absl::OkStatus();
      }
    }
    const absl::Status status = wire::FromGrpcStatus(reader->Finish());
    if (status.ok() || !retry.ShouldRetry(status)) return status;
  }
}

}  // namespace sconce::client
