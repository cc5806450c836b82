#ifndef SCONCE_SERVER_REPOSITORY_WEIGHTS_H_
#define SCONCE_SERVER_REPOSITORY_WEIGHTS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/inference/weight_source.h"
#include "storage/repository/repository.h"

namespace sconce {

// The repository as the model manager sees it. Takes the repository's change listener and protector for itself, so
// there is at most one of these for a repository, made before the repository is used. Thread-safe.
class RepositoryWeights final : public inference::WeightSource {
 public:
  // `repository` is borrowed and outlives this.
  explicit RepositoryWeights(repository::Repository& repository);
  ~RepositoryWeights() override;

  absl::StatusOr<int64_t> ResolveVersion(const inference::RunId& run, const std::string& selector) override;
  absl::StatusOr<inference::StateDict> OpenWeights(const inference::RunId& run, int64_t version,
                                                   const std::string& path, const format::DtypeCast& cast) override;
  absl::StatusOr<inference::StoredBytes> OpenModule(const inference::RunId& run, const std::string& module) override;
  absl::Status CreateDeployment(const std::string& model, const std::string& record) override;
  absl::Status ReplaceDeployment(const std::string& model, const std::string& record) override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ListDeployments() override;
  absl::Status DeleteDeployment(const std::string& model) override;
  void SetHooks(std::function<void(const inference::RunId&)> changed,
                std::function<bool(const inference::RunId&, int64_t version)> serves) override;

 private:
  struct Hooks;

  repository::Repository& repository_;
  const std::shared_ptr<Hooks> hooks_;  // shared with the repository, which keeps its listener for ever
};

// The state_dict at `path` of a stored object's tree, without its bytes: entries, and for each storage of the result
// its index in `manifest`. The errors of WeightSource::OpenWeights. Pure.
struct StateDictLayout {
  std::vector<inference::StateEntry> entries;
  std::vector<format::StorageIndex> source;
};
absl::StatusOr<StateDictLayout> FindStateDict(const format::Manifest& manifest, const std::string& path);

}  // namespace sconce

#endif  // SCONCE_SERVER_REPOSITORY_WEIGHTS_H_
