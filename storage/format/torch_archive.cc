#include "storage/format/torch_archive.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/torch_tree.h"

namespace sconce::format {
namespace {

constexpr uint64_t kNewestFileVersion = 10;     // what PyTorch's own reader accepts
constexpr int64_t kMaxSmallRecordBytes = 1024;  // of `version` and `byteorder`, which hold a word

}  // namespace

absl::StatusOr<TorchArchive> TorchArchive::Open(ByteSpan file) {
  SCONCE_ASSIGN_OR_RETURN(ZipReader zip, ZipReader::Open(file));
  if (zip.records().empty())
    return MakeError(Reason::FILE_MALFORMED, "an empty zip archive is not a checkpoint; write it with torch.save");
  // All records are in one folder, named after the file; PyTorch too takes it from the first one.
  const absl::string_view first = zip.records().front().name;
  TorchArchive archive(std::move(zip), absl::StrCat(first.substr(0, first.find('/')), "/"));

  SCONCE_ASSIGN_OR_RETURN(const std::string version, archive.Word("version"));
  if (uint64_t number = 0; !version.empty() && (!absl::SimpleAtoi(version, &number) || number > kNewestFileVersion)) {
    return MakeError(Reason::FILE_UNSUPPORTED,
                     absl::StrCat("file format version ", Quoted(version), " of PyTorch is newer than ",
                                  kNewestFileVersion, ", the newest one read; save with an older PyTorch"));
  }
  SCONCE_ASSIGN_OR_RETURN(const std::string byteorder, archive.Word("byteorder"));
  if (!byteorder.empty() && byteorder != "little" && byteorder != "big") {
    return MakeError(Reason::FILE_MALFORMED,
                     absl::StrCat("byte order ", Quoted(byteorder), " is neither little nor big; save the file again"));
  }
  archive.big_endian_ = byteorder == "big";
  return archive;
}

const ZipRecord* TorchArchive::Find(absl::string_view name) const {
  return zip_.Find(absl::StrCat(folder_, name));
}

// The word in a record; "" when there is none.
absl::StatusOr<std::string> TorchArchive::Word(absl::string_view name) const {
  const ZipRecord* const record = Find(name);
  if (record == nullptr) return std::string();
  SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(*record));
  SCONCE_ASSIGN_OR_RETURN(const RecordPiece data, ReadWholeRecord(source, kMaxSmallRecordBytes));
  return std::string(ToStd(absl::StripAsciiWhitespace(AsText(data.bytes))));
}

absl::StatusOr<TorchIndex> TorchArchive::ReadTree(absl::string_view pickle, absl::string_view data,
                                                  Dialect dialect) const {
  const ZipRecord* const tree = Find(pickle);
  if (tree == nullptr) {
    return MakeError(Reason::FILE_MALFORMED,
                     absl::StrCat("a zip archive without ", Quoted(absl::StrCat(folder_, pickle)),
                                  " is not a checkpoint; write it with torch.save"));
  }
  SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(*tree));
  SCONCE_ASSIGN_OR_RETURN(const RecordPiece bytes, ReadWholeRecord(source, kMaxPickleBytes));
  SCONCE_ASSIGN_OR_RETURN(const PickleGraph graph, dialect == Dialect::kScript ? ReadArchivePickle(bytes.bytes, pickle)
                                                                               : ReadPickle(bytes.bytes, pickle));
  return BuildTorchTree(graph, [&](absl::string_view key) -> absl::StatusOr<RecordSource> {
    const ZipRecord* const record = Find(absl::StrCat(data, key));
    if (record == nullptr) {
      return MakeError(Reason::FILE_MALFORMED, absl::StrCat("storage ", Quoted(key), " has no record in the file"));
    }
    return ZipReader::Source(*record);
  });
}

}  // namespace sconce::format
