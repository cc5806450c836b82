#include "storage/format/torch_reader.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/torch_tree.h"
#include "storage/format/zip_reader.h"

namespace sconce::format {
namespace {

constexpr uint64_t kNewestFileVersion = 10;  // what PyTorch's own reader accepts

constexpr int64_t kMaxSmallRecordBytes = 1024;  // of `version` and `byteorder`, which hold a word

// The word in a record; "" when there is none.
absl::StatusOr<std::string> Word(const ZipReader& zip, absl::string_view name) {
  const ZipRecord* const record = zip.Find(name);
  if (record == nullptr) return std::string();
  SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(*record));
  SCONCE_ASSIGN_OR_RETURN(const RecordPiece data, ReadWholeRecord(source, kMaxSmallRecordBytes));
  return std::string(ToStd(absl::StripAsciiWhitespace(AsText(data.bytes))));
}

// How many bytes are turned around together on a machine of the other byte order; complex numbers are two of them.
uint8_t SwapWidth(DType dtype) {
  const int64_t bytes = IsComplex(dtype) ? ElementBytes(dtype) / 2 : ElementBytes(dtype);
  return static_cast<uint8_t>(bytes);
}

absl::Status SwapRecords(TorchIndex& index) {
  std::vector<uint8_t> widths(index.records.size(), 0);  // 0: nobody has said
  const auto see = [&](StorageIndex storage, DType dtype) -> absl::Status {
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
  SCONCE_ASSIGN_OR_RETURN(const ZipReader zip, ZipReader::Open(file));
  if (zip.records().empty())
    return MakeError(Reason::FILE_MALFORMED, "an empty zip archive is not a checkpoint; write it with torch.save");
  // All records are in one folder, named after the file; PyTorch too takes it from the first one.
  const absl::string_view first = zip.records().front().name;
  const std::string folder = absl::StrCat(first.substr(0, first.find('/')), "/");

  SCONCE_ASSIGN_OR_RETURN(const std::string version, Word(zip, absl::StrCat(folder, "version")));
  if (uint64_t number = 0; !version.empty() && (!absl::SimpleAtoi(version, &number) || number > kNewestFileVersion)) {
    return MakeError(Reason::FILE_UNSUPPORTED,
                     absl::StrCat("file format version ", Quoted(version), " of PyTorch is newer than ",
                                  kNewestFileVersion, ", the newest one read; save with an older PyTorch"));
  }
  SCONCE_ASSIGN_OR_RETURN(const std::string byteorder, Word(zip, absl::StrCat(folder, "byteorder")));
  if (!byteorder.empty() && byteorder != "little" && byteorder != "big") {
    return MakeError(Reason::FILE_MALFORMED,
                     absl::StrCat("byte order ", Quoted(byteorder), " is neither little nor big; save the file again"));
  }

  const ZipRecord* const tree = zip.Find(absl::StrCat(folder, "data.pkl"));
  if (tree == nullptr) {
    return MakeError(Reason::FILE_MALFORMED,
                     absl::StrCat("a zip archive without ", Quoted(absl::StrCat(folder, "data.pkl")),
                                  " is not a checkpoint; write it with torch.save"));
  }
  SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(*tree));
  SCONCE_ASSIGN_OR_RETURN(const RecordPiece pickle, ReadWholeRecord(source, kMaxPickleBytes));
  SCONCE_ASSIGN_OR_RETURN(const PickleGraph graph, ReadPickle(pickle.bytes, "data.pkl"));
  SCONCE_ASSIGN_OR_RETURN(
      TorchIndex index, BuildTorchTree(graph, [&](absl::string_view key) -> absl::StatusOr<RecordSource> {
        const ZipRecord* const record = zip.Find(absl::StrCat(folder, "data/", key));
        if (record == nullptr) {
          return MakeError(Reason::FILE_MALFORMED, absl::StrCat("storage ", Quoted(key), " has no record in the file"));
        }
        return ZipReader::Source(*record);
      }));
  SCONCE_RETURN_IF_ERROR(FinishIndex(byteorder == "big", index));
  return index;
}

}  // namespace sconce::format
