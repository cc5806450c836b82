#include "server/services/infer_call.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/inference/infer_request.h"
#include "server/inference/tensor_spec.h"
#include "server/services/infer_translate.h"

namespace sconce::services {
namespace {

using inference::HostTensor;
using inference::ServingModel;

// The same tensors in memory of their own: the shadow may be slower than the call that it is a shadow of.
std::vector<HostTensor> Copy(const std::vector<HostTensor>& tensors) {
  std::vector<HostTensor> copies = tensors;
  for (HostTensor& copy : copies) {
    auto bytes = std::make_shared<std::vector<uint8_t>>(copy.bytes.begin(), copy.bytes.end());
    copy.bytes = ByteSpan(bytes->data(), bytes->size());
    copy.owner = std::move(bytes);
  }
  return copies;
}

// What it answers, and whether it does, is nobody's business; its statistics count it.
void AskShadow(const std::shared_ptr<const ServingModel>& shadow, std::vector<HostTensor> inputs) {
  inference::QueuedRequest queued;
  queued.inputs = std::move(inputs);
  queued.done = [shadow](const inference::InferResult&) {};
  shadow->loaded->Infer(std::move(queued));
}

absl::Status Answer(const ::inference::ModelInferRequest& request, const ServingModel& serving,
                    inference::InferResult result, ::inference::ModelInferResponse& response) {
  SCONCE_RETURN_IF_ERROR(result.status());
  std::vector<std::string> names;
  for (const auto& output : request.outputs()) names.push_back(output.name());
  SCONCE_ASSIGN_OR_RETURN(const std::vector<HostTensor> outputs,
                          inference::SelectOutputs(serving.model, names, *std::move(result)));
  response.set_model_name(serving.model);
  response.set_model_version(absl::StrCat(serving.version));
  response.set_id(request.id());
  return AddOutputs(outputs, UsesTypedContents(request), response);
}

using Done = absl::AnyInvocable<void(absl::Status)>;

// OK when the model has the request and will finish it.
absl::Status Start(const inference::ModelManager& models, const ::inference::ModelInferRequest& request,
                   ::inference::ModelInferResponse& response, inference::QueuedRequest queued,
                   const std::shared_ptr<Done>& done) {
  SCONCE_ASSIGN_OR_RETURN(queued.queue_deadline, QueueDeadline(request));
  SCONCE_ASSIGN_OR_RETURN(const inference::VersionRequest wanted, VersionFromProto(request));
  SCONCE_ASSIGN_OR_RETURN(const inference::Routed routed, models.Route(request.model_name(), wanted));
  const std::shared_ptr<const ServingModel>& serving = routed.serving;
  SCONCE_ASSIGN_OR_RETURN(const inference::InferRequest plain, FromProto(request));
  const inference::ModelSignature& signature = serving->loaded->signature();
  SCONCE_ASSIGN_OR_RETURN(queued.inputs, inference::BindInputs(plain, signature));
  SCONCE_RETURN_IF_ERROR(inference::CheckInputs(serving->model, serving->spec->inputs, signature, queued.inputs));
  std::vector<HostTensor> copies;
  if (routed.shadow != nullptr) copies = Copy(queued.inputs);  // before the call can be over
  // The callback holds the model: it stays until the answer is there.
  queued.done = [&request, &response, serving, done](inference::InferResult result) {
    (*done)(Answer(request, *serving, std::move(result), response));
  };
  serving->loaded->Infer(std::move(queued));
  if (routed.shadow != nullptr) AskShadow(routed.shadow, std::move(copies));
  return absl::OkStatus();
}

}  // namespace

void StartInfer(const inference::ModelManager& models, const ::inference::ModelInferRequest& request,
                ::inference::ModelInferResponse& response, absl::Time deadline, std::function<bool()> cancelled,
                absl::Duration patience, absl::AnyInvocable<void(absl::Status)> done) {
  const auto shared = std::make_shared<Done>(std::move(done));
  inference::QueuedRequest queued;
  queued.deadline = deadline;
  queued.cancelled = std::move(cancelled);
  queued.patience = patience;
  const absl::Status status = Start(models, request, response, std::move(queued), shared);
  if (!status.ok()) (*shared)(status);
}

}  // namespace sconce::services
