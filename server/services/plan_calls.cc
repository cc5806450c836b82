#include "server/services/plan_calls.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/limits.h"
#include "server/rpc/stream.h"
#include "server/services/paging.h"
#include "server/services/plan_answer.h"

namespace sconce::services {
namespace {

constexpr size_t kMaxUnaryKeys = 10'000;
constexpr size_t kMaxUnaryAnswerBytes = static_cast<size_t>(wire::kMaxMessageBytes) - (size_t{512} << 10);
// Of all requests of a stream together.
constexpr int64_t kMaxStreamedBytes = int64_t{64} << 20;

absl::Status TooLarge(absl::string_view what, size_t count) {
  return MakeError(Reason::MESSAGE_TOO_LARGE,
                   absl::StrCat("PlanLoad takes at most ", kMaxUnaryKeys, " ", what, ", and here are ", count,
                                "; use PlanLargeLoad, which takes and gives them in pieces"));
}

using PlanReactor = grpc::ServerBidiReactor<v1::PlanLoadRequest, v1::PlanLoadResponse>;

// Requests are put together until the client has sent all of them; their bytes stay in the server's budget.
class PlanStream final : public rpc::StreamCall<PlanReactor> {
 public:
  PlanStream(rpc::CallRuntime& runtime, grpc::CallbackServerContext* context, const rpc::CallSpec& spec,
             repository::Repository& repository)
      : StreamCall(runtime, context, spec), repository_(repository) {
    if (Begin()) StartRead(&arriving_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      RunBlocking([this] { MakeAnswer(); });
      return;
    }
    const absl::Status taken = Take();
    if (!taken.ok()) {
      FinishOnce(taken);
      return;
    }
    StartRead(&arriving_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      FinishOnce(scope().CheckCancelled());
    } else if (answer_->done()) {
      FinishOnce(absl::OkStatus());
    } else {
      RunBlocking([this] { WriteNext(); });
    }
  }

 private:
  ~PlanStream() override = default;

  absl::Status Take() {
    const auto bytes = static_cast<int64_t>(arriving_.ByteSizeLong());
    SCONCE_RETURN_IF_ERROR(scope().TakeMessage(bytes));
    SCONCE_ASSIGN_OR_RETURN(rpc::ByteReservation reserved, runtime().Reserve(bytes));
    reserved_.push_back(std::move(reserved));
    bytes_ += bytes;
    keys_ += static_cast<size_t>(arriving_.plan().target_keys_size());
    if (bytes_ > kMaxStreamedBytes || keys_ > format::kMaxTargetKeys) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED, absl::StrCat("the target is larger than ", format::kMaxTargetKeys,
                                                                  " keys or ", kMaxStreamedBytes >> 20, " MiB"));
    }
    if (first_ == nullptr) {
      first_ = std::make_unique<v1::PlanLoadRequest>(std::move(arriving_));
    } else {
      SCONCE_RETURN_IF_ERROR(CheckOnlyKeys(arriving_));
      for (v1::TargetKey& key : *arriving_.mutable_plan()->mutable_target_keys()) {
        *first_->mutable_plan()->add_target_keys() = std::move(key);
      }
    }
    arriving_.Clear();
    return absl::OkStatus();
  }

  static absl::Status CheckOnlyKeys(const v1::PlanLoadRequest& request) {
    const v1::LoadPlan& plan = request.plan();
    const bool only_keys = request.name().empty() && !request.has_selection() && request.target_class().empty() &&
                           plan.module().empty() && !plan.has_rules() && plan.min_match() == 0 && !plan.strict();
    if (only_keys) return absl::OkStatus();
    return MakeError(
        Reason::STREAM_PROTOCOL_VIOLATED,
        "only the first message of PlanLargeLoad says what to plan; later ones have plan.target_keys only");
  }

  void MakeAnswer() {
    absl::Status status = scope().CheckCancelled();
    if (status.ok() && first_ == nullptr) {
      status = MakeError(Reason::STREAM_PROTOCOL_VIOLATED, "the stream ended before its first message");
    }
    if (status.ok()) {
      absl::StatusOr<std::unique_ptr<PlanAnswer>> answer = PlanAnswer::Make(repository_, scope(), *first_);
      status = answer.status();
      if (status.ok()) answer_ = *std::move(answer);
    }
    first_.reset();
    reserved_.clear();
    if (status.ok()) {
      WriteNext();
    } else {
      FinishOnce(status);
    }
  }

  void WriteNext() {
    leaving_.Clear();
    answer_->Fill(kFullAnswerBytes, format::kMaxTargetKeys, leaving_);
    scope().CountSent(static_cast<int64_t>(leaving_.ByteSizeLong()));
    StartWrite(&leaving_);
  }

  repository::Repository& repository_;
  v1::PlanLoadRequest arriving_;  // gRPC's between StartRead and OnReadDone
  v1::PlanLoadResponse leaving_;  // gRPC's between StartWrite and OnWriteDone

  // Used by one reaction or task at a time: reads come first, then the plan, then writes.
  std::unique_ptr<v1::PlanLoadRequest> first_;  // and the keys of those after it
  std::vector<rpc::ByteReservation> reserved_;
  int64_t bytes_ = 0;
  size_t keys_ = 0;
  std::unique_ptr<PlanAnswer> answer_;
};

}  // namespace

absl::Status PlanLoad(repository::Repository& repository, rpc::CallScope& scope, const v1::PlanLoadRequest& request,
                      v1::PlanLoadResponse& response) {
  const auto keys = static_cast<size_t>(request.plan().target_keys_size());
  if (keys > kMaxUnaryKeys) return TooLarge("target keys", keys);
  SCONCE_ASSIGN_OR_RETURN(const std::unique_ptr<PlanAnswer> answer, PlanAnswer::Make(repository, scope, request));
  answer->Fill(kMaxUnaryAnswerBytes, kMaxUnaryKeys, response);
  if (answer->done()) return absl::OkStatus();
  const v1::PlanLoadResponse::Summary& summary = response.summary();
  return TooLarge("keys in its answer", static_cast<size_t>(summary.target_key_count() + summary.unexpected_count()));
}

grpc::ServerBidiReactor<v1::PlanLoadRequest, v1::PlanLoadResponse>* NewPlanStream(rpc::CallRuntime& runtime,
                                                                                  grpc::CallbackServerContext* context,
                                                                                  const rpc::CallSpec& spec,
                                                                                  repository::Repository& repository) {
  return new PlanStream(runtime, context, spec, repository);
}

}  // namespace sconce::services
