#include "server/torch_runtime/torch_model.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/jit/runtime/print_handler.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/torch_runtime/compiled_model.h"
#include "server/torch_runtime/memory_map.h"
#include "server/torch_runtime/sandbox.h"
#include "server/torch_runtime/script_model.h"
#include "server/torch_runtime/thrown.h"
#include "storage/format/module_file.h"
#include "storage/format/zip_reader.h"

namespace sconce::torch_runtime {
namespace {

absl::StatusOr<format::ModuleKind> KindOf(const PrivateBytes& archive) {
  const auto zip = format::ZipReader::Open(ByteSpan(archive.data, static_cast<size_t>(archive.size_bytes)));
  if (!zip.ok()) {
    return MakeError(Reason::MODULE_INVALID,
                     absl::StrCat("the module is no archive that loads: ", zip.status().message()));
  }
  return format::ModuleKindOf(*zip);
}

}  // namespace

std::string TorchVersion() {
  return TORCH_VERSION;
}

void Initialize() {
  // print() of a module is not for our log.
  torch::jit::setPrintHandler([](const std::string&) {});
  at::set_num_threads(1);
  at::set_num_interop_threads(1);
  const absl::Status computed = Guarded(Reason::INTERNAL_ERROR, "", [] {
    const c10::InferenceMode inference_mode;
    const at::Tensor image = at::ones({1, 3, 32, 32});
    at::conv2d(image, at::ones({8, 3, 3, 3}));
    const at::Tensor square = at::eye(64);
    at::mm(square, square);
    at::linalg_inv(square);
    at::quantize_per_tensor(image, 0.1, 0, at::kQUInt8).dequantize();
    at::rand({2}).normal_();
    return absl::OkStatus();
  });
  if (!computed.ok()) Log(Severity::kWarn, "torch_warm_up_failed", {{"reason", computed.message()}});
}

void UseThreads() {
  const char* given = std::getenv("OMP_NUM_THREADS");
  const int wanted = given != nullptr ? std::atoi(given) : static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(std::max(wanted, 1));
}

absl::StatusOr<std::unique_ptr<TorchModel>> TorchModel::Load(const worker::Load& load, std::vector<UniqueFd>& files,
                                                             const worker::Body& body, Sandbox& sandbox) {
  SCONCE_ASSIGN_OR_RETURN(PrivateBytes archive, Assemble(load.module, files, body));
  SCONCE_ASSIGN_OR_RETURN(const format::ModuleKind kind, KindOf(archive));
  if (kind == format::ModuleKind::kCompiled) return LoadCompiledModel(load, files, body, std::move(archive), sandbox);
  if (!sandbox.Close()) return MakeError(Reason::INTERNAL_ERROR, "the worker cannot close its walls");
  return LoadScriptModel(load, files, body, std::move(archive));
}

}  // namespace sconce::torch_runtime
