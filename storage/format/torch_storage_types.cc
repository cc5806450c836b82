#include "storage/format/torch_storage_types.h"

#include "storage/format/pickle_globals.h"

namespace sconce::format {
namespace {

std::optional<DType> BareType(const Node& node) {
  return node.text == "untyped" ? std::nullopt : ParseDType(node.text);
}

// Which nodes are bare storages that something else than a numpy array holds: the data of an array is written as bytes.
std::vector<bool> FindBareMentions(const Manifest& manifest) {
  std::vector<bool> is_mention(manifest.nodes.size(), false);
  is_mention[manifest.root()] = manifest.nodes.back().kind == NodeKind::kStorage;
  for (const Node& node : manifest.nodes) {
    if (node.kind == NodeKind::kNumpyArray) continue;
    for (const NodeIndex child : node.children) {
      if (manifest.nodes[child].kind == NodeKind::kStorage) is_mention[child] = true;
    }
  }
  return is_mention;
}

}  // namespace

TorchStorageTypes::TorchStorageTypes(const Manifest& manifest) : types_(manifest.storages.size()) {
  const std::vector<bool> is_mention = FindBareMentions(manifest);
  for (size_t i = 0; i < manifest.nodes.size(); ++i) {
    const Node& node = manifest.nodes[i];
    if (is_mention[i]) {
      Use(manifest, static_cast<StorageIndex>(node.integer), BareType(node), /*pin=*/true);
    } else if (node.kind == NodeKind::kQuantizedTensor) {
      const TensorView& view = manifest.tensors[node.tensor];
      Use(manifest, view.storage, view.dtype, /*pin=*/true);
    }
  }
  for (const TensorView& view : manifest.tensors) Use(manifest, view.storage, view.dtype, /*pin=*/false);
}

void TorchStorageTypes::Use(const Manifest& manifest, StorageIndex storage, std::optional<DType> dtype, bool pin) {
  if (storage == kNoIndex) return;
  Type& type = types_[storage];
  if (type.pinned) return;  // what disagrees with the first pin is found when it is written
  const bool has_class = dtype.has_value() && !StorageTypeName(*dtype).empty() &&
                         manifest.storages[storage].size_bytes % ElementBytes(*dtype) == 0;
  if (!has_class) dtype = std::nullopt;
  if (pin || !type.chosen) {
    type.dtype = dtype;
  } else if (type.dtype != dtype) {
    type.dtype = std::nullopt;
  }
  type.chosen = true;
  type.pinned = pin;
}

bool TorchStorageTypes::FitsBare(const Node& node) const {
  // torch.load makes an untyped storage one of uint8.
  return BareType(node).value_or(DType::kUInt8) ==
         TypeOf(static_cast<StorageIndex>(node.integer)).value_or(DType::kUInt8);
}

}  // namespace sconce::format
