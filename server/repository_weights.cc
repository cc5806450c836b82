#include "server/repository_weights.h"

#include <functional>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "server/cast_weights.h"
#include "storage/format/entries.h"
#include "storage/format/path.h"

namespace sconce {
namespace {

using format::Manifest;
using format::Node;
using format::NodeKind;
using inference::RunId;

repository::RunName ToRunName(const RunId& run) {
  return {run.project, run.run};
}
RunId ToRunId(const repository::RunName& name) {
  return {name.project, name.run};
}

std::string Where(const std::string& path) {
  return path.empty() ? "the root" : absl::StrCat("'", path, "'");
}

absl::Status NoStateDict(const std::string& path, absl::string_view why) {
  return MakeError(Reason::MODEL_WEIGHTS_MISMATCH,
                   absl::StrCat("what is at ", Where(path), " is no state_dict: ", why,
                                "; give the path of one, `sconce show` lists them"),
                   {{"path", path}});
}

// `_extra_state` is what modules save beside their tensors, `_metadata` what torch puts at the dict itself.
bool IsNoTensorByDesign(const std::string& key) {
  return key == "_metadata" || key == "_extra_state" || absl::EndsWith(key, "._extra_state");
}

// The strided tensor that a value of a state_dict is, or null.
const format::TensorView* StridedTensor(const Manifest& manifest, const Node& value) {
  const Node* node = &value;
  if (node->kind == NodeKind::kParameter) node = &manifest.nodes[node->children[0]];
  return node->kind == NodeKind::kTensor ? &manifest.tensors[node->tensor] : nullptr;
}

}  // namespace

absl::StatusOr<StateDictLayout> FindStateDict(const Manifest& manifest, const std::string& path) {
  SCONCE_ASSIGN_OR_RETURN(const format::NodeIndex root, format::FindPath(manifest, path));
  const Node& dict = manifest.nodes[root];
  if (dict.kind != NodeKind::kDict && dict.kind != NodeKind::kOrderedDict) {
    return NoStateDict(path, absl::StrCat("it is a ", format::TypeName(dict.kind)));
  }
  StateDictLayout layout;
  absl::flat_hash_map<format::StorageIndex, format::StorageIndex> numbers;
  for (size_t i = 0; i + 1 < dict.children.size(); i += 2) {
    const Node& key = manifest.nodes[dict.children[i]];
    const Node& value = manifest.nodes[dict.children[i + 1]];
    if (key.kind != NodeKind::kStr) {
      return NoStateDict(path, absl::StrCat("it has a key of type ", format::TypeName(key.kind)));
    }
    const format::TensorView* view = StridedTensor(manifest, value);
    if (view == nullptr) {
      if (IsNoTensorByDesign(key.text)) continue;
      return NoStateDict(path, absl::StrCat("its ", Quoted(key.text), " is a ", format::TypeName(value.kind)));
    }
    if (view->storage == format::kNoIndex || format::IsMetaDevice(manifest.storages[view->storage].device)) {
      return NoStateDict(path, absl::StrCat("its ", Quoted(key.text), " is a meta tensor, which has no bytes"));
    }
    if (view->conjugate || view->negative) {
      return NoStateDict(path, absl::StrCat("its ", Quoted(key.text),
                                            " is a lazy conjugate or negative; save the result of resolve_conj() and "
                                            "resolve_neg()"));
    }
    const auto [number, is_new] =
        numbers.emplace(view->storage, static_cast<format::StorageIndex>(layout.source.size()));
    if (is_new) layout.source.push_back(view->storage);
    inference::StateEntry& entry = layout.entries.emplace_back();
    entry.name = key.text;
    entry.view = *view;
    entry.view.storage = number->second;
  }
  if (layout.entries.empty()) return NoStateDict(path, "it has no tensors");
  return layout;
}

struct RepositoryWeights::Hooks {
  Mutex mu;  // held while a hook runs, so that none runs after it was taken away
  std::function<void(const RunId&)> changed ABSL_GUARDED_BY(mu);
  std::function<bool(const RunId&, int64_t)> serves ABSL_GUARDED_BY(mu);
  bool taken_away ABSL_GUARDED_BY(mu) = false;  // nobody can say any more what is served: nothing is deleted
};

RepositoryWeights::RepositoryWeights(repository::Repository& repository)
    : repository_(repository), hooks_(std::make_shared<Hooks>()) {
  repository_.SetChangeListener([hooks = hooks_](const repository::RunName& run) {
    MutexLock lock(&hooks->mu);
    if (hooks->changed) hooks->changed(ToRunId(run));
  });
  repository_.SetProtector([hooks = hooks_](const repository::RunName& run, int64_t version) {
    MutexLock lock(&hooks->mu);
    return hooks->serves ? hooks->serves(ToRunId(run), version) : hooks->taken_away;
  });
}

RepositoryWeights::~RepositoryWeights() {
  SetHooks(nullptr, nullptr);
}

absl::StatusOr<int64_t> RepositoryWeights::ResolveVersion(const RunId& run, const std::string& selector) {
  SCONCE_ASSIGN_OR_RETURN(const repository::Checkpoint found, repository_.GetCheckpoint({ToRunName(run), selector}));
  return found.version;
}

absl::StatusOr<inference::StateDict> RepositoryWeights::OpenWeights(const RunId& run, int64_t version,
                                                                    const std::string& path,
                                                                    const format::DtypeCast& cast) {
  SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const repository::OpenCheckpoint> object,
                          repository_.OpenRead({ToRunName(run), absl::StrCat(version)}));
  if (object->info().kind == repository::CheckpointKind::kOpaque) {
    return MakeError(Reason::CHECKPOINT_OPAQUE,
                     absl::StrCat("version ", version, " of run '", run.run,
                                  "' is stored as opaque bytes and has no state_dict; push it as a checkpoint"));
  }
  if (!cast.empty()) return OpenCastWeights(object, path, cast);
  SCONCE_ASSIGN_OR_RETURN(StateDictLayout layout, FindStateDict(object->manifest(), path));
  inference::StateDict weights;
  weights.entries = std::move(layout.entries);
  for (const format::StorageIndex source : layout.source) {
    SCONCE_ASSIGN_OR_RETURN(inference::StoredBytes stored, LocateStorage(object, source));
    weights.storages.push_back(std::move(stored));
  }
  return weights;
}

absl::StatusOr<inference::StoredBytes> RepositoryWeights::OpenModule(const RunId& run, const std::string& module) {
  SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const repository::OpenModule> object,
                          repository_.OpenReadModule(ToRunName(run), module));
  return LocateStorage(object, 0);
}

absl::Status RepositoryWeights::CreateDeployment(const std::string& model, const std::string& record) {
  return repository_.PutDeployment(model, record, /*must_be_new=*/true);
}

absl::Status RepositoryWeights::ReplaceDeployment(const std::string& model, const std::string& record) {
  return repository_.PutDeployment(model, record, /*must_be_new=*/false);
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> RepositoryWeights::ListDeployments() {
  return repository_.ListDeployments();
}

absl::Status RepositoryWeights::DeleteDeployment(const std::string& model) {
  return repository_.DeleteDeployment(model);
}

void RepositoryWeights::SetHooks(std::function<void(const RunId&)> changed,
                                 std::function<bool(const RunId&, int64_t)> serves) {
  MutexLock lock(&hooks_->mu);
  hooks_->taken_away = hooks_->serves && !serves;
  hooks_->changed = std::move(changed);
  hooks_->serves = std::move(serves);
}

}  // namespace sconce
