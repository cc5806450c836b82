#ifndef SCONCE_SERVER_SERVICES_INFER_STREAM_H_
#define SCONCE_SERVER_SERVICES_INFER_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>

#include "inference/grpc_service.pb.h"
#include "server/inference/model_manager.h"
#include "server/rpc/stream.h"

namespace sconce::services {

// ModelStreamInfer: requests run as they come, up to kMaxAtOnce of a stream at a time; then reading waits, so a client
// that does not read its answers stops being read. Answers leave in the order of the requests. A request that fails is
// answered with `error_message`, and the stream goes on. gRPC deletes it through OnDone.
class InferStream final
    : public rpc::StreamCall<
          grpc::ServerBidiReactor<::inference::ModelInferRequest, ::inference::ModelStreamInferResponse>> {
 public:
  static constexpr size_t kMaxAtOnce = 16;

  // `models` is borrowed and outlives the call.
  InferStream(rpc::CallRuntime& runtime, grpc::CallbackServerContext* context, const rpc::CallSpec& spec,
              const inference::ModelManager& models);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;

 private:
  // A request and its answer.
  struct Exchange {
    ::inference::ModelInferRequest request;
    ::inference::ModelStreamInferResponse response;
    bool answered = false;  // guarded by state_mu_
  };

  ~InferStream() override = default;
  void Start(const std::shared_ptr<Exchange>& exchange) ABSL_LOCKS_EXCLUDED(state_mu_);
  void Answered(Exchange& exchange, const absl::Status& status) ABSL_LOCKS_EXCLUDED(state_mu_);
  // Does what can be done now: writes the next answer, reads the next request, ends. From reactions, or held.
  void Advance() ABSL_LOCKS_EXCLUDED(state_mu_);

  const inference::ModelManager& models_;

  Mutex state_mu_;
  std::shared_ptr<Exchange> arriving_ ABSL_GUARDED_BY(state_mu_);  // gRPC's between StartRead and OnReadDone
  std::deque<std::shared_ptr<Exchange>> exchanges_ ABSL_GUARDED_BY(state_mu_);  // in order; the first may be leaving
  bool writing_ ABSL_GUARDED_BY(state_mu_) = false;
  bool all_read_ ABSL_GUARDED_BY(state_mu_) = false;
};

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_INFER_STREAM_H_
