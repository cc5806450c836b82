#include "server/torch_runtime/loading.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/torch_runtime/memory_map.h"
#include "server/torch_runtime/tensor_bridge.h"

namespace sconce::torch_runtime {

absl::StatusOr<std::vector<NamedWeight>> MakeWeights(const worker::Load& load, const std::vector<UniqueFd>& files,
                                                     const worker::Body& body) {
  std::vector<PrivateBytes> storages;
  for (const worker::StoredBytes& stored : load.storages) {
    SCONCE_ASSIGN_OR_RETURN(PrivateBytes bytes, Assemble(stored, files, body));
    storages.push_back(std::move(bytes));
  }
  std::vector<NamedWeight> weights;
  for (const worker::StateEntry& entry : load.entries) {
    if (!ToScalarType(entry.view.dtype).has_value()) {
      return MakeError(Reason::MODEL_WEIGHTS_MISMATCH,
                       absl::StrCat(Quoted(entry.name), " has dtype ", format::DTypeName(entry.view.dtype),
                                    ", which models here cannot compute with; cast it before it is pushed"));
    }
    weights.push_back({entry.name, ViewOf(entry.view, storages[entry.view.storage])});
  }
  return weights;
}

absl::StatusOr<Outputs> MakeOutputs(const std::vector<std::pair<std::string, at::Tensor>>& named) {
  Outputs outputs;
  auto hosts = std::make_shared<std::vector<at::Tensor>>(named.size());
  for (size_t i = 0; i < named.size(); ++i) {
    SCONCE_ASSIGN_OR_RETURN(worker::Tensor output,
                            OutputTensor(worker::MakeUtf8(named[i].first), named[i].second, (*hosts)[i]));
    outputs.message.outputs.push_back(std::move(output));
  }
  outputs.owner = std::move(hosts);
  return outputs;
}

}  // namespace sconce::torch_runtime
