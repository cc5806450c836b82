#include "storage/format/torch_reader.h"

#include <string>

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

absl::StatusOr<std::string> Record(const ZipReader& zip, absl::string_view name) {
  const ZipRecord* const record = zip.Find(name);
  if (record == nullptr) return std::string();
  SCONCE_ASSIGN_OR_RETURN(const ByteSpan data, ZipReader::ReadStored(*record));
  return std::string(ToStd(absl::StripAsciiWhitespace(AsText(data).substr(0, 64))));
}

}  // namespace

absl::StatusOr<TorchFile> ReadTorchFile(ByteSpan file) {
  SCONCE_ASSIGN_OR_RETURN(const ZipReader zip, ZipReader::Open(file));
  if (zip.records().empty())
    return MakeError(Reason::FILE_MALFORMED, "an empty zip archive is not a checkpoint; write it with torch.save");
  // All records are in one folder, named after the file; PyTorch too takes it from the first one.
  const absl::string_view first = zip.records().front().name;
  const std::string folder = absl::StrCat(first.substr(0, first.find('/')), "/");

  SCONCE_ASSIGN_OR_RETURN(const std::string version, Record(zip, absl::StrCat(folder, "version")));
  if (uint64_t number = 0; !version.empty() && (!absl::SimpleAtoi(version, &number) || number > kNewestFileVersion)) {
    return MakeError(Reason::FILE_UNSUPPORTED,
                     absl::StrCat("file format version ", Quoted(version), " of PyTorch is newer than ",
                                  kNewestFileVersion, ", the newest one read; save with an older PyTorch"));
  }
  SCONCE_ASSIGN_OR_RETURN(const std::string byteorder, Record(zip, absl::StrCat(folder, "byteorder")));
  if (!byteorder.empty() && byteorder != "little") {
    return MakeError(Reason::FILE_UNSUPPORTED, absl::StrCat("byte order ", Quoted(byteorder),
                                                            "; load and save the file on a little-endian machine"));
  }

  const ZipRecord* const tree = zip.Find(absl::StrCat(folder, "data.pkl"));
  if (tree == nullptr) {
    return MakeError(Reason::FILE_MALFORMED,
                     absl::StrCat("a zip archive without ", Quoted(absl::StrCat(folder, "data.pkl")),
                                  " is not a checkpoint; write it with torch.save"));
  }
  SCONCE_ASSIGN_OR_RETURN(const ByteSpan pickle, ZipReader::ReadStored(*tree));
  SCONCE_ASSIGN_OR_RETURN(const PickleGraph graph, ReadPickle(pickle, "data.pkl"));
  SCONCE_ASSIGN_OR_RETURN(
      TorchFile result, BuildTorchTree(graph, [&](absl::string_view key) -> absl::StatusOr<ByteSpan> {
        const ZipRecord* const record = zip.Find(absl::StrCat(folder, "data/", key));
        if (record == nullptr) {
          return MakeError(Reason::FILE_MALFORMED, absl::StrCat("storage ", Quoted(key), " has no record in the file"));
        }
        return ZipReader::ReadStored(*record);
      }));
  SCONCE_RETURN_IF_ERROR(Validate(result.manifest));
  return result;
}

}  // namespace sconce::format
