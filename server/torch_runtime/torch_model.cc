#include "server/torch_runtime/torch_model.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/runtime/print_handler.h>
#include <torch/jit.h>
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

constexpr char kThreads[] = "OMP_NUM_THREADS";

// What the operator wants, "" when that is nothing.
const std::string& GivenThreads() {
  static const std::string given = std::getenv(kThreads) != nullptr ? std::getenv(kThreads) : "";
  return given;
}

// For the calling thread and those that begin to compute later. Not at::set_num_threads where it can be avoided: it
// also makes the threads of a pool that a few quantized operators use, which turn in a loop for tens of milliseconds
// before they sleep.
void SetThreads(int count) {
  ::setenv(kThreads, absl::StrCat(count).c_str(), 1);  // what a thread of LibTorch looks at first
  at::init_num_threads();
  if (at::get_num_threads() != count) at::set_num_threads(count);  // with MKL, which looks once
  // OpenBLAS counts its own threads, and LibTorch does not tell it.
  using SetBlasThreads = void (*)(int);
  const auto set = reinterpret_cast<SetBlasThreads>(::dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  if (set != nullptr) set(count);
}

}  // namespace

std::string TorchVersion() {
  return TORCH_VERSION;
}

void Initialize() {
  // print() of a module is not for our log.
  torch::jit::setPrintHandler([](const std::string&) {});
  (void)GivenThreads();  // before it is changed
  SetThreads(1);
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
    // TorchScript makes its tables of operators with the first function. Not optimized, as modules are not: Debian 13's
    // LibTorch 2.6 does not come back from compiling this one for the processor.
    torch::jit::setGraphExecutorOptimize(false);
    torch::jit::compile("def f(x):\n  return torch.relu(torch.matmul(x, x) + 1)\n")->run_method("f", square);
    return absl::OkStatus();
  });
  if (!computed.ok()) Log(Severity::kWarn, "torch_warm_up_failed", {{"reason", computed.message()}});
}

int UseThreads(uint32_t threads) {
  const int given = std::atoi(GivenThreads().c_str());
  const int cores = std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
  SetThreads(given > 0 ? given : threads > 0 ? static_cast<int>(threads) : cores);
  return at::get_num_threads();
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
