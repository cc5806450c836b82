#include "storage/format/torch_reader.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/torch_archive.h"

namespace sconce::format {
namespace {

// How many bytes are turned around together on a machine of the other byte order; complex numbers are two of them.
uint8_t SwapWidth(DType dtype) {
  const int64_t bytes = IsComplex(dtype) ? ElementBytes(dtype) / 2 : ElementBytes(dtype);
  return static_cast<uint8_t>(bytes);
}

absl::Status SwapRecords(TorchIndex& index) {
  std::vector<uint8_t> widths(index.records.size(), 0);  // 0: nobody has said
  const auto see = [&](StorageIndex storage, DType dtype) -> absl::Status {
    if (index.records[storage].owner != nullptr) return absl::OkStatus();  // not of the file, and in our own order
    uint8_t& width = widths[storage];
    if (width != 0 && width != SwapWidth(dtype)) {
      return MakeError(
          Reason::FILE_UNSUPPORTED,
          absl::StrCat("record ", Quoted(index.records[storage].name), " of a big-endian file is seen as elements of ",
                       width, " and of ", SwapWidth(dtype),
                       " bytes, so that its byte order is unclear; load and save it on a little-endian machine"));
    }
    width = SwapWidth(dtype);
    return absl::OkStatus();
  };
  for (const TensorView& view : index.manifest.tensors) {
    if (view.storage != kNoIndex) SCONCE_RETURN_IF_ERROR(see(view.storage, view.dtype));
  }
  for (const Node& node : index.manifest.nodes) {
    if (node.kind != NodeKind::kStorage) continue;
    const std::optional<DType> dtype = ParseDType(node.text);  // none for an untyped storage: bytes, or what views say
    if (dtype.has_value()) SCONCE_RETURN_IF_ERROR(see(static_cast<StorageIndex>(node.integer), *dtype));
  }
  for (size_t i = 0; i < widths.size(); ++i) index.records[i].swap_width = std::max<uint8_t>(widths[i], 1);
  return absl::OkStatus();
}

}  // namespace

absl::Status FinishIndex(bool big_endian, TorchIndex& index) {
  if (big_endian) SCONCE_RETURN_IF_ERROR(SwapRecords(index));
  for (size_t i = 0; i < index.records.size(); ++i) {
    Storage& storage = index.manifest.storages[i];
    if (IsBulk(storage) || IsMetaDevice(storage.device)) continue;
    SCONCE_ASSIGN_OR_RETURN(const RecordPiece bytes, ReadWholeRecord(index.records[i]));
    storage.inline_bytes = std::string(ToStd(AsText(bytes.bytes)));
  }
  return Validate(index.manifest);
}

absl::StatusOr<TorchFile> LoadRecords(TorchIndex index) {
  TorchFile file;
  auto owners = std::make_shared<std::vector<std::shared_ptr<const void>>>();
  file.bytes.reserve(index.records.size());
  for (const RecordSource& record : index.records) {
    SCONCE_ASSIGN_OR_RETURN(RecordPiece whole, ReadWholeRecord(record));
    file.bytes.push_back(whole.bytes);
    if (whole.owner != nullptr) owners->push_back(std::move(whole.owner));
  }
  file.manifest = std::move(index.manifest);
  file.owner = std::move(owners);
  return file;
}

absl::StatusOr<TorchFile> ReadTorchFile(ByteSpan file) {
  SCONCE_ASSIGN_OR_RETURN(TorchIndex index, IndexTorchFile(file));
  return LoadRecords(std::move(index));
}

absl::StatusOr<TorchIndex> IndexTorchFile(ByteSpan file) {
  SCONCE_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(file));
  SCONCE_ASSIGN_OR_RETURN(TorchIndex index, archive.ReadTree("data.pkl", "data/", TorchArchive::Dialect::kPython));
  SCONCE_RETURN_IF_ERROR(FinishIndex(archive.big_endian(), index));
  return index;
}

}  // namespace sconce::format
