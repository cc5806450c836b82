#ifndef SCONCE_SERVER_TORCH_RUNTIME_TENSOR_BRIDGE_H_
#define SCONCE_SERVER_TORCH_RUNTIME_TENSOR_BRIDGE_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/torch_runtime/memory_map.h"
#include "server/worker_protocol/messages.h"
#include "storage/format/manifest.h"

// Between our descriptions of tensors and torch's tensors. Throws nothing of its own, but c10::Error may pass.
namespace sconce::torch_runtime {

// nullopt for a dtype that this LibTorch cannot compute with.
std::optional<at::ScalarType> ToScalarType(format::DType dtype);
// nullopt for one that a request or answer cannot carry.
std::optional<format::DType> ToDType(at::ScalarType type);

// A CPU tensor that is `view` of `storage`, without a copy; it keeps the storage. Requires a view inside the storage
// and a dtype that ToScalarType knows.
at::Tensor ViewOf(const format::TensorView& view, const PrivateBytes& storage);

// A CPU tensor over an input's bytes, which `owner` keeps. MODEL_INPUT_INVALID for an unknown dtype.
absl::StatusOr<at::Tensor> InputTensor(const worker::Tensor& input, const std::shared_ptr<const void>& owner);

// `tensor` as an output named `name`; `host` receives the tensor that owns the bytes, row-major on the CPU.
// MODEL_FAILED for what an answer cannot carry.
absl::StatusOr<worker::Tensor> OutputTensor(const std::string& name, const at::Tensor& tensor, at::Tensor& host);

// "torch.Size([2, 3])"
std::string SizeText(at::IntArrayRef sizes);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_TENSOR_BRIDGE_H_
