#ifndef SCONCE_SERVER_RPC_DOWNLOAD_REACTOR_H_
#define SCONCE_SERVER_RPC_DOWNLOAD_REACTOR_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "server/rpc/call.h"
#include "server/rpc/stream.h"

namespace sconce::rpc {

// Where the messages of a download come from.
class DownloadSource {
 public:
  enum class Flow { kMore, kDone };

  virtual ~DownloadSource() = default;
  // Makes the next encoded message. Called on pool threads, one call at a time; may block. Leaving `message` empty with
  // kMore asks to be called again, so that work that takes long lets other calls have the thread in between. An error
  // ends the call after the messages made before it.
  virtual absl::StatusOr<Flow> Next(CallScope& call, std::optional<grpc::ByteBuffer>& message) = 0;
};

// Sends what a source makes: one message on its way and the next one made meanwhile, so memory does not grow with what
// a slow reader has yet to take. gRPC deletes it through OnDone.
class DownloadReactor final : public StreamCall<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  DownloadReactor(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec,
                  int64_t request_bytes, std::unique_ptr<DownloadSource> source);

  void OnWriteDone(bool ok) override;

 private:
  ~DownloadReactor() override = default;
  // Starts what can be started: the next write, the making of the next message, the end.
  void Advance() ABSL_LOCKS_EXCLUDED(state_mu_);
  // Makes a message, on a pool thread.
  void Produce() ABSL_LOCKS_EXCLUDED(state_mu_);

  std::unique_ptr<DownloadSource> source_;  // used by Produce only
  grpc::ByteBuffer leaving_;                // gRPC's between StartWrite and OnWriteDone

  Mutex state_mu_;
  bool producing_ ABSL_GUARDED_BY(state_mu_) = false;
  bool writing_ ABSL_GUARDED_BY(state_mu_) = false;
  std::optional<grpc::ByteBuffer> ready_ ABSL_GUARDED_BY(state_mu_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(state_mu_);  // how the source ended
};

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_DOWNLOAD_REACTOR_H_
