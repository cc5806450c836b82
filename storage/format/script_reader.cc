#include "storage/format/script_reader.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/torch_archive.h"

namespace sconce::format {
namespace {

NodeIndex AddNode(Manifest& manifest, NodeKind kind, std::string text = "", std::vector<NodeIndex> children = {}) {
  Node node;
  node.kind = kind;
  node.text = std::move(text);
  node.children = std::move(children);
  manifest.nodes.push_back(std::move(node));
  return manifest.root();
}

// Takes over another tree; returns its root.
NodeIndex Append(TorchIndex from, TorchIndex& into) {
  const auto nodes = static_cast<NodeIndex>(into.manifest.nodes.size());
  const auto tensors = static_cast<TensorIndex>(into.manifest.tensors.size());
  const auto storages = static_cast<StorageIndex>(into.manifest.storages.size());
  for (Node& node : from.manifest.nodes) {
    for (NodeIndex& child : node.children) child += nodes;
    if (node.tensor != kNoIndex) node.tensor += tensors;
    if (node.kind == NodeKind::kStorage) node.integer += storages;
    into.manifest.nodes.push_back(std::move(node));
  }
  for (TensorView& view : from.manifest.tensors) {
    if (view.storage != kNoIndex) view.storage += storages;
    into.manifest.tensors.push_back(std::move(view));
  }
  for (Storage& storage : from.manifest.storages) into.manifest.storages.push_back(std::move(storage));
  for (const RecordSource& record : from.records) into.records.push_back(record);
  return into.manifest.root();
}

// The records below `below`, by the rest of their names. `left` is what they may still hold.
absl::StatusOr<NodeIndex> AddRecords(const TorchArchive& archive, absl::string_view below, int64_t& left,
                                     TorchIndex& index) {
  const std::string prefix = absl::StrCat(archive.folder(), below);
  std::vector<NodeIndex> items;
  for (const ZipRecord& record : archive.zip().records()) {
    absl::string_view name = record.name;
    if (!absl::ConsumePrefix(&name, prefix)) continue;
    SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(record));
    SCONCE_ASSIGN_OR_RETURN(const RecordPiece bytes, ReadWholeRecord(source, left));
    left -= source.size_bytes;
    items.push_back(AddNode(index.manifest, NodeKind::kStr, ToValidUtf8(name)));
    items.push_back(AddNode(index.manifest, NodeKind::kBytes, std::string(ToStd(AsText(bytes.bytes)))));
  }
  return AddNode(index.manifest, NodeKind::kDict, "", std::move(items));
}

}  // namespace

absl::StatusOr<TorchIndex> IndexScriptArchive(ByteSpan file) {
  SCONCE_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(file));
  constexpr TorchArchive::Dialect kScript = TorchArchive::Dialect::kScript;
  SCONCE_ASSIGN_OR_RETURN(TorchIndex module, archive.ReadTree("data.pkl", "data/", kScript));
  SCONCE_ASSIGN_OR_RETURN(TorchIndex constants, archive.ReadTree("constants.pkl", "constants/", kScript));
  TorchIndex index;
  Manifest& manifest = index.manifest;
  int64_t left = kMaxScriptTextBytes;
  std::vector<NodeIndex> items;
  const auto name = [&](const char* text) { items.push_back(AddNode(manifest, NodeKind::kStr, text)); };
  name("module");
  items.push_back(Append(std::move(module), index));
  name("constants");
  items.push_back(Append(std::move(constants), index));
  name("code");
  SCONCE_ASSIGN_OR_RETURN(const NodeIndex code, AddRecords(archive, "code/", left, index));
  items.push_back(code);
  SCONCE_ASSIGN_OR_RETURN(const NodeIndex extra, AddRecords(archive, "extra/", left, index));
  if (manifest.nodes[extra].children.empty()) {
    manifest.nodes.pop_back();
  } else {
    const NodeIndex key = AddNode(manifest, NodeKind::kStr, "extra");
    items.push_back(key);
    items.push_back(extra);
  }
  AddNode(manifest, NodeKind::kDict, "", std::move(items));
  SCONCE_RETURN_IF_ERROR(FinishIndex(archive.big_endian(), index));
  return index;
}

}  // namespace sconce::format
