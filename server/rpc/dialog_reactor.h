#ifndef SCONCE_SERVER_RPC_DIALOG_REACTOR_H_
#define SCONCE_SERVER_RPC_DIALOG_REACTOR_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "server/rpc/call.h"
#include "server/rpc/stream.h"

namespace sconce::rpc {

// The server's side of a bidirectional stream. Take and End are called one at a time on pool threads, where they may
// block. The first error ends the call; so does the client by going away. Destroyed before the call ends.
class Dialog {
 public:
  // Sends an encoded message (wire::EncodeMessage), behind those sent before. Usable from any thread, at any time until
  // the dialog's destructor has returned; never blocks.
  using Say = std::function<void(grpc::ByteBuffer message)>;

  virtual ~Dialog() = default;
  virtual absl::Status Take(CallScope& call, const grpc::ByteBuffer& message) = 0;
  // The client has sent everything. After OK the call ends with OK, when what was said has been sent.
  virtual absl::Status End(CallScope& call) = 0;
};

// Runs a dialog on the stream pool, message by message, so that streams take turns.
//
// At most two of the client's messages are in memory: one being handled, the next one arriving. No further one is
// handled while answers wait behind the one being sent, so a client that does not read stops being read, and what the
// dialog says of its own accord is all that can pile up: that must be little. gRPC deletes it through OnDone.
class DialogReactor final : public StreamCall<grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>> {
 public:
  // `make` makes the dialog, at once; what it is given lives as long as the dialog. Not called when the call is
  // refused.
  DialogReactor(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec,
                const std::function<std::unique_ptr<Dialog>(Dialog::Say say)>& make);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;

 private:
  ~DialogReactor() override = default;
  void Say(grpc::ByteBuffer message) ABSL_LOCKS_EXCLUDED(state_mu_);
  // Takes the next answer to be sent, if there is one and none is being sent: the caller then calls Send.
  bool TakeAnswer() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mu_);
  void Send() ABSL_LOCKS_EXCLUDED(state_mu_);
  // Starts a step unless one is under way or there is nothing to do. From reactions and tasks, which keep this alive.
  void Advance() ABSL_LOCKS_EXCLUDED(state_mu_);
  // One message, or the end, on a pool thread.
  void Step() ABSL_LOCKS_EXCLUDED(state_mu_);
  // The dialog is over: ends the call as soon as nothing is being sent.
  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(state_mu_);

  grpc::ByteBuffer arriving_;  // gRPC's between StartRead and OnReadDone
  grpc::ByteBuffer leaving_;   // gRPC's between StartWrite and OnWriteDone

  std::unique_ptr<Dialog> dialog_;  // used by the step under way only

  Mutex state_mu_;
  bool stepping_ ABSL_GUARDED_BY(state_mu_) = false;  // stays true when the call ends: nothing follows
  bool waiting_full_ ABSL_GUARDED_BY(state_mu_) = false;
  grpc::ByteBuffer waiting_ ABSL_GUARDED_BY(state_mu_);  // arrived, not yet handled
  bool all_read_ ABSL_GUARDED_BY(state_mu_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(state_mu_);
  bool writing_ ABSL_GUARDED_BY(state_mu_) = false;
  std::deque<grpc::ByteBuffer> answers_ ABSL_GUARDED_BY(state_mu_);  // behind the one being sent
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(state_mu_);       // how the dialog ended
};

}  // namespace sconce::rpc

#endif  // SCONCE_SERVER_RPC_DIALOG_REACTOR_H_
