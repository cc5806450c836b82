#include "server/repository_weights.h"

#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/path.h"

namespace sconce {
namespace {

using format::Manifest;
using format::Node;
using format::NodeKind;
using inference::RunId;
using inference::StateDict;
using inference::StoredBytes;

repository::RunName ToRunName(const RunId& run) {
  return {run.project, run.run};
}
RunId ToRunId(const repository::RunName& run) {
  return {run.project, run.run};
}

// Where the bytes of a storage lie. Each chunk is read and checked first: a worker maps the files without looking.
absl::StatusOr<StoredBytes> Locate(const repository::StoredObject& object, format::StorageIndex index) {
  const format::Storage& storage = object.manifest().storages[index];
  StoredBytes stored;
  stored.size_bytes = storage.size_bytes;
  if (!format::IsBulk(storage)) {
    stored.inline_bytes = storage.inline_bytes;
    return stored;
  }
  for (int64_t chunk = 0; chunk < format::ChunkCount(storage.size_bytes); ++chunk) {
    SCONCE_ASSIGN_OR_RETURN(const repository::MappedBytes checked, object.ReadChunk(index, chunk));
    repository::Extent extent = object.Locate(index, chunk);
    stored.extents.push_back({extent.fd, extent.offset, extent.size_bytes, std::move(extent.owner)});
  }
  return stored;
}

absl::Status NoStateDict(absl::string_view path, absl::string_view why) {
  return MakeError(Reason::MODEL_WEIGHTS_MISMATCH,
                   absl::StrCat("what is at ", Quoted(path), " is no state_dict: ", why,
                                "; give the path of one, such as /model_state_dict"),
                   {{"path", std::string(path)}});
}

// The strided tensor that `node` is or, as a Parameter, wraps; null for anything else.
const format::TensorView* StridedView(const Manifest& manifest, const Node& node) {
  if (node.kind == NodeKind::kTensor) return &manifest.tensors[node.tensor];
  if (node.kind != NodeKind::kParameter) return nullptr;
  const Node& wrapped = manifest.nodes[node.children[0]];
  return wrapped.kind == NodeKind::kTensor ? &manifest.tensors[wrapped.tensor] : nullptr;
}

// The entries of the state_dict at `path`, with storages still numbered as in the manifest.
absl::StatusOr<std::vector<inference::StateEntry>> Entries(const Manifest& manifest, const std::string& path) {
  SCONCE_ASSIGN_OR_RETURN(const format::NodeIndex root, format::FindPath(manifest, path));
  const Node& dict = manifest.nodes[root];
  if (dict.kind != NodeKind::kDict && dict.kind != NodeKind::kOrderedDict) {
    return NoStateDict(path, absl::StrCat("it is a ", format::TypeName(dict.kind)));
  }
  std::vector<inference::StateEntry> entries;
  for (size_t i = 0; i + 1 < dict.children.size(); i += 2) {
    const Node& key = manifest.nodes[dict.children[i]];
    if (key.kind != NodeKind::kStr) {
      return NoStateDict(path, absl::StrCat("it has a key of type ", format::TypeName(key.kind)));
    }
    const Node& value = manifest.nodes[dict.children[i + 1]];
    const format::TensorView* view = StridedView(manifest, value);
    if (view == nullptr) {
      return NoStateDict(path, absl::StrCat(Quoted(key.text), " is a ", format::TypeName(value.kind)));
    }
    if (view->storage == format::kNoIndex || format::IsMetaDevice(manifest.storages[view->storage].device)) {
      return NoStateDict(path, absl::StrCat(Quoted(key.text), " is a meta tensor, which has no bytes"));
    }
    entries.push_back({key.text, *view});
  }
  return entries;
}

}  // namespace

RepositoryWeights::RepositoryWeights(repository::Repository& repository) : repository_(repository) {
  repository_.SetChangeListener([this](const repository::RunName& run) {
    MutexLock lock(&mu_);
    if (changed_) changed_(ToRunId(run));
  });
  repository_.SetProtector([this](const repository::RunName& run, int64_t version) {
    MutexLock lock(&mu_);
    return serves_ && serves_(ToRunId(run), version);
  });
}

absl::StatusOr<int64_t> RepositoryWeights::ResolveVersion(const RunId& run, const std::string& selector) {
  SCONCE_ASSIGN_OR_RETURN(const repository::Checkpoint found, repository_.GetCheckpoint({ToRunName(run), selector}));
  return found.version;
}

absl::StatusOr<StateDict> RepositoryWeights::OpenWeights(const RunId& run, int64_t version, const std::string& path) {
  SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const repository::OpenCheckpoint> open,
                          repository_.OpenRead({ToRunName(run), absl::StrCat(version)}));
  if (open->info().kind == repository::CheckpointKind::kOpaque) {
    return MakeError(Reason::CHECKPOINT_OPAQUE,
                     absl::StrCat("version ", version, " of run ", run.run,
                                  " holds opaque bytes, which have no weights; push the file without --opaque"),
                     {{"version", absl::StrCat(version)}});
  }
  StateDict state;
  SCONCE_ASSIGN_OR_RETURN(state.entries, Entries(open->manifest(), path));
  std::map<format::StorageIndex, format::StorageIndex> numbers;
  for (inference::StateEntry& entry : state.entries) {
    const auto [known, added] =
        numbers.try_emplace(entry.view.storage, static_cast<format::StorageIndex>(state.storages.size()));
    if (added) {
      SCONCE_ASSIGN_OR_RETURN(StoredBytes bytes, Locate(*open, entry.view.storage));
      state.storages.push_back(std::move(bytes));
    }
    entry.view.storage = known->second;
  }
  return state;
}

absl::StatusOr<StoredBytes> RepositoryWeights::OpenModule(const RunId& run, const std::string& module) {
  SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const repository::OpenModule> open,
                          repository_.OpenReadModule(ToRunName(run), module));
  return Locate(*open, 0);
}

absl::Status RepositoryWeights::CreateDeployment(const std::string& model, const std::string& record) {
  return repository_.PutDeployment(model, record, /*must_be_new=*/true);
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> RepositoryWeights::ListDeployments() {
  return repository_.ListDeployments();
}

absl::Status RepositoryWeights::DeleteDeployment(const std::string& model) {
  return repository_.DeleteDeployment(model);
}

void RepositoryWeights::SetHooks(std::function<void(const RunId&)> changed,
                                 std::function<bool(const RunId&, int64_t version)> serves) {
  MutexLock lock(&mu_);
  changed_ = std::move(changed);
  serves_ = std::move(serves);
}

}  // namespace sconce
