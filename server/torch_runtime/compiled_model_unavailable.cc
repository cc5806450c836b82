// For a LibTorch that has no AOTInductor packages.
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "server/torch_runtime/compiled_model.h"

namespace sconce::torch_runtime {

absl::StatusOr<std::unique_ptr<TorchModel>> LoadCompiledModel(const worker::Load&, std::vector<UniqueFd>&,
                                                              const worker::Body&, PrivateBytes, Sandbox&) {
  return MakeError(Reason::TORCH_UNAVAILABLE,
                   absl::StrCat("the module is a compiled package (.pt2), which takes LibTorch 2.6 or newer, and this "
                                "server has LibTorch ",
                                TorchVersion(), "; upgrade it, or push the module as TorchScript (torch.jit.save)"));
}

}  // namespace sconce::torch_runtime
