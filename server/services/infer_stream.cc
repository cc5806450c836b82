#include "server/services/infer_stream.h"

#include <grpcpp/server_context.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "server/services/infer_call.h"

namespace sconce::services {
namespace {

constexpr char kFinalWanted[] = "triton_enable_empty_final_response";
constexpr char kFinal[] = "triton_final_response";

}  // namespace

InferStream::InferStream(rpc::CallRuntime& runtime, grpc::CallbackServerContext* context, const rpc::CallSpec& spec,
                         const inference::ModelManager& models)
    : StreamCall(runtime, context, spec), models_(models) {
  if (Begin()) Advance();
}

void InferStream::OnReadDone(bool ok) {
  std::shared_ptr<Exchange> exchange;
  {
    MutexLock lock(&state_mu_);
    exchange = std::exchange(arriving_, nullptr);
    if (!ok) all_read_ = true;
  }
  if (ok) {
    const absl::Status taken = scope().TakeMessage(static_cast<int64_t>(exchange->request.ByteSizeLong()));
    if (!taken.ok()) return FinishOnce(taken);
    {
      MutexLock lock(&state_mu_);
      exchanges_.push_back(exchange);
    }
    Start(exchange);
  }
  Advance();
}

void InferStream::Start(const std::shared_ptr<Exchange>& exchange) {
  // Held until it is answered: a call that is cancelled ends when the model is done with its request.
  if (!Hold()) return;
  const bool queued = RunBlocking([this, exchange] {
    StartInfer(
        models_, exchange->request, *exchange->response.mutable_infer_response(), scope().deadline(),
        [this] { return scope().cancelled(); }, absl::ZeroDuration(),
        [this, exchange](const absl::Status& status) {
          Answered(*exchange, status);
          Release();
        });
  });
  if (!queued) Release();
}

void InferStream::Answered(Exchange& exchange, const absl::Status& status) {
  ::inference::ModelInferResponse& response = *exchange.response.mutable_infer_response();
  if (!status.ok()) {
    exchange.response.set_error_message(std::string(status.message()));
    response.Clear();
    response.set_model_name(exchange.request.model_name());
    response.set_id(exchange.request.id());
  }
  const auto wanted = exchange.request.parameters().find(kFinalWanted);
  if (wanted != exchange.request.parameters().end() && wanted->second.bool_param()) {
    (*response.mutable_parameters())[kFinal].set_bool_param(true);
  }
  {
    MutexLock lock(&state_mu_);
    exchange.answered = true;
  }
  Advance();
}

void InferStream::Advance() {
  if (!Hold()) return;  // nothing is started in a call that is ending
  Exchange* leaving = nullptr;
  Exchange* next = nullptr;
  bool over = false;
  {
    MutexLock lock(&state_mu_);
    if (!writing_ && !exchanges_.empty() && exchanges_.front()->answered) {
      writing_ = true;
      leaving = exchanges_.front().get();
    }
    if (arriving_ == nullptr && !all_read_ && exchanges_.size() < kMaxAtOnce) {
      arriving_ = std::make_shared<Exchange>();
      next = arriving_.get();
    }
    over = all_read_ && exchanges_.empty();
  }
  if (leaving != nullptr) {
    scope().CountSent(static_cast<int64_t>(leaving->response.ByteSizeLong()));
    StartWrite(&leaving->response);
  }
  if (next != nullptr) StartRead(&next->request);
  if (over) FinishOnce(absl::OkStatus());
  Release();
}

void InferStream::OnWriteDone(bool ok) {
  if (!ok) return FinishOnce(scope().CheckCancelled());
  {
    MutexLock lock(&state_mu_);
    writing_ = false;
    exchanges_.pop_front();
  }
  Advance();
}

}  // namespace sconce::services
