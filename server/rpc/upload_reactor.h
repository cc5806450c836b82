#ifndef SCONCE_SERVER_RPC_UPLOAD_REACTOR_H_
#define SCONCE_SERVER_RPC_UPLOAD_REACTOR_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "proto/wire/bulk_message.h"
#include "server/rpc/call.h"
#include "server/rpc/stream.h"

namespace sconce::rpc {

// Where an upload goes. Its methods are called one at a time on pool threads, where they may block. The first error
// ends the call; so does the client by going away. Destroyed before End has answered, it must leave nothing behind.
class UploadSink {
 public:
  virtual ~UploadSink() = default;
  // The first message, which has a header (BulkMessage::ReadHeader) and nothing else.
  virtual absl::Status Begin(CallScope& call, const wire::BulkMessage& first) = 0;
  // The next piece of the manifest, in some pieces of memory. Only for streams that have one.
  virtual absl::Status TakeManifest(const std::vector<ByteSpan>& pieces);
  // The next bytes, in some pieces of memory; their offset and checksum fit.
  virtual absl::Status TakeData(CallScope& call, const std::vector<ByteSpan>& pieces) = 0;
  // The client has sent everything. Gives the encoded answer (wire::EncodeMessage); nullopt asks to be called again, so
  // that work that takes long lets other calls have the thread in between.
  virtual absl::StatusOr<std::optional<grpc::ByteBuffer>> End(CallScope& call) = 0;
};

// Reads one of the bulk streams of TransferService into a sink, and holds its protocol: a header first and once, then
// manifest, then data, each piece at the offset and with the checksum its sender says. STREAM_PROTOCOL_VIOLATED,
// OFFSET_MISMATCH, DIGEST_MISMATCH, MESSAGE_TOO_LARGE.
//
// At most two messages are in memory: one being handled, the next one arriving. Everything but counting happens on the
// stream pool, message by message, so that streams take turns. gRPC deletes it through OnDone.
class UploadReactor final : public StreamCall<grpc::ServerReadReactor<grpc::ByteBuffer>> {
 public:
  // `response` is gRPC's, filled before the call ends with OK.
  UploadReactor(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec,
                grpc::ByteBuffer* response, std::unique_ptr<UploadSink> sink);

  void OnReadDone(bool ok) override;
  void OnCancel() override;

 private:
  enum class Phase { kHeader, kManifest, kData };

  ~UploadReactor() override = default;
  // Starts a step unless one is under way or there is nothing to do.
  void Advance() ABSL_LOCKS_EXCLUDED(state_mu_);
  // One message, or one call of End, on a pool thread.
  void Step() ABSL_LOCKS_EXCLUDED(state_mu_);
  absl::Status Handle(const grpc::ByteBuffer& buffer);
  absl::Status HandlePiece(const wire::BulkMessage& message);

  grpc::ByteBuffer* const response_;
  grpc::ByteBuffer arriving_;  // gRPC's between StartRead and OnReadDone

  // Used by the step under way only.
  std::unique_ptr<UploadSink> sink_;
  Phase phase_ = Phase::kHeader;
  int64_t data_bytes_ = 0;

  Mutex state_mu_;
  bool stepping_ ABSL_GUARDED_BY(state_mu_) = false;  // stays true when the call ends: nothing follows
  bool waiting_full_ ABSL_GUARDED_BY(state_mu_) = false;
  grpc::ByteBuffer waiting_ ABSL_GUARDED_BY(state_mu_);  // arrived, not yet handled
  bool all_read_ ABSL_GUARDED_BY(state_mu_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(state_mu_);
};

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_UPLOAD_REACTOR_H_
