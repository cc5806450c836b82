#ifndef SCONCE_SERVER_REPOSITORY_WEIGHTS_H_
#define SCONCE_SERVER_REPOSITORY_WEIGHTS_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "server/inference/weight_source.h"
#include "storage/repository/repository.h"

namespace sconce {

// Modules and weights for inference out of the repository: what DESIGN.md leaves to the composition root, since
// inference must not know the repository. Hands out descriptors of blob files, after every chunk was checked.
// Thread-safe.
class RepositoryWeights final : public inference::WeightSource {
 public:
  // Borrows `repository`, which outlives it, and takes its change listener and its protector.
  explicit RepositoryWeights(repository::Repository& repository);

  absl::StatusOr<int64_t> ResolveVersion(const inference::RunId& run, const std::string& selector) override;
  absl::StatusOr<inference::StateDict> OpenWeights(const inference::RunId& run, int64_t version,
                                                   const std::string& path) override;
  absl::StatusOr<inference::StoredBytes> OpenModule(const inference::RunId& run, const std::string& module) override;
  absl::Status CreateDeployment(const std::string& model, const std::string& record) override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ListDeployments() override;
  absl::Status DeleteDeployment(const std::string& model) override;
  void SetHooks(std::function<void(const inference::RunId&)> changed,
                std::function<bool(const inference::RunId&, int64_t version)> serves) override;

 private:
  repository::Repository& repository_;
  // Held while a hook runs, so that none runs after SetHooks replaced it. Hooks are quick and do not call back here.
  Mutex mu_;
  std::function<void(const inference::RunId&)> changed_ ABSL_GUARDED_BY(mu_);
  std::function<bool(const inference::RunId&, int64_t)> serves_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce

#endif  // SCONCE_SERVER_REPOSITORY_WEIGHTS_H_
