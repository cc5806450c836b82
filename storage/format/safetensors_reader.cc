#include "storage/format/safetensors_reader.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/safetensors_header.h"

namespace sconce::format {
namespace {

NodeIndex AddNode(Manifest& manifest, NodeKind kind, std::string text = "") {
  Node node;
  node.kind = kind;
  node.text = std::move(text);
  manifest.nodes.push_back(std::move(node));
  return manifest.root();
}

// A dict of strs, under the attribute's name in a dict of its own.
NodeIndex AddAttributes(Manifest& manifest, std::vector<std::pair<std::string, std::string>> metadata) {
  std::vector<NodeIndex> items;
  for (auto& [key, value] : metadata) {
    items.push_back(AddNode(manifest, NodeKind::kStr, std::move(key)));
    items.push_back(AddNode(manifest, NodeKind::kStr, std::move(value)));
  }
  const NodeIndex dict = AddNode(manifest, NodeKind::kDict);
  manifest.nodes[dict].children = std::move(items);
  const NodeIndex name = AddNode(manifest, NodeKind::kStr, kSafetensorsMetadataAttribute);
  const NodeIndex attributes = AddNode(manifest, NodeKind::kDict);
  manifest.nodes[attributes].children = {name, dict};
  return attributes;
}

}  // namespace

absl::StatusOr<TorchIndex> IndexSafetensorsFile(ByteSpan file) {
  SCONCE_ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensorsHeader(file));
  const size_t metadata = header.metadata.has_value() ? header.metadata->size() : 0;
  if (2 * (header.entries.size() + metadata) + 4 > kMaxNodes) {
    return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                     absl::StrCat("the file has ", header.entries.size(), " tensors, more than the limit; split it"));
  }
  TorchIndex index;
  Manifest& manifest = index.manifest;
  std::vector<NodeIndex> items;
  for (SafetensorsEntry& entry : header.entries) {
    const auto size = static_cast<size_t>(entry.end - entry.begin);
    RecordSource record =
        RecordSource::Plain(file.subspan(static_cast<size_t>(header.data_offset + entry.begin), size));
    index.records.push_back(record);
    Storage storage;
    storage.size_bytes = entry.end - entry.begin;
    manifest.storages.push_back(std::move(storage));
    TensorView view;
    view.dtype = entry.dtype;
    view.storage = static_cast<StorageIndex>(manifest.storages.size() - 1);
    if (!ContiguousStride(entry.shape, view.stride)) {
      return MakeError(Reason::FILE_MALFORMED,
                       absl::StrCat("the shape of tensor ", Quoted(entry.name), " overflows; write the file again"));
    }
    view.shape = std::move(entry.shape);
    items.push_back(AddNode(manifest, NodeKind::kStr, std::move(entry.name)));
    items.push_back(AddNode(manifest, NodeKind::kTensor));
    manifest.nodes.back().tensor = static_cast<TensorIndex>(manifest.tensors.size());
    manifest.tensors.push_back(std::move(view));
  }
  if (header.metadata.has_value()) items.push_back(AddAttributes(manifest, *std::move(header.metadata)));
  const NodeIndex root = AddNode(manifest, NodeKind::kOrderedDict);
  manifest.nodes[root].children = std::move(items);
  SCONCE_RETURN_IF_ERROR(FinishIndex(false, index));
  return index;
}

}  // namespace sconce::format
