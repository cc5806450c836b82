#include "storage/format/open_checkpoint.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/legacy_reader.h"
#include "storage/format/safetensors_header.h"
#include "storage/format/safetensors_reader.h"
#include "storage/format/script_reader.h"
#include "storage/format/zip_format.h"
#include "storage/format/zip_reader.h"

namespace sconce::format {
namespace {

constexpr size_t kTarBlockBytes = 512;
constexpr size_t kCheckBytes = size_t{1} << 20;  // of a record at a time

bool StartsWith(ByteSpan file, ByteSpan magic) {
  return file.size() >= magic.size() && std::equal(magic.begin(), magic.end(), file.begin());
}

bool IsZip(ByteSpan file) {
  return file.size() >= 4 &&
         (LoadLittle32(file.data()) == ZipLocal::kSignature || LoadLittle32(file.data()) == ZipEnd::kSignature);
}

// A tar header starts with a member's name, padded with zeros, and holds the sum of its own bytes, in octal, with the
// sum's field taken as spaces. The members of PyTorch's are known, so that a damaged header is recognised too.
bool IsTar(ByteSpan file) {
  constexpr size_t kName = 100, kSum = 148, kSumEnd = 156;
  if (file.size() < kTarBlockBytes || file[0] == 0) return false;
  const absl::string_view name = AsText(file.subspan(0, kName));
  for (const absl::string_view member : {"sys_info", "pickle", "storages", "tensors"}) {
    if (absl::StartsWith(name, member) && name[member.size()] == '\0') return true;
  }
  uint32_t sum = 0;
  for (size_t i = 0; i < kTarBlockBytes; ++i) sum += i >= kSum && i < kSumEnd ? ' ' : file[i];
  uint32_t stated = 0;
  size_t digits = 0;
  for (size_t i = kSum; i < kSumEnd; ++i) {
    if (file[i] >= '0' && file[i] <= '7') {
      stated = stated * 8 + file[i] - '0';
      ++digits;
    } else if (digits > 0) {
      break;
    } else if (file[i] != ' ') {
      return false;
    }
  }
  return digits > 0 && stated == sum;
}

bool HasRecordInFolder(const ZipReader& zip, absl::string_view name) {
  if (zip.records().empty()) return false;
  const absl::string_view first = zip.records().front().name;
  return zip.Find(absl::StrCat(first.substr(0, first.find('/')), "/", name)) != nullptr;
}

absl::Status Unsupported(absl::string_view what, absl::string_view advice) {
  return MakeError(Reason::FILE_UNSUPPORTED, absl::StrCat(what, " is not read yet; ", advice));
}

}  // namespace

absl::StatusOr<TorchIndex> IndexCheckpointFile(ByteSpan file) {
  constexpr absl::string_view kSaveAgain = "load it and write it with torch.save (PyTorch 1.6 or newer)";
  if (file.empty()) return MakeError(Reason::FILE_TRUNCATED, "the file is empty; copy it again");
  if (IsZip(file)) {
    if (IsTorchScriptArchive(file)) return IndexScriptArchive(file);
    return IndexTorchFile(file);
  }
  if (IsLegacyTorchFile(file)) return IndexLegacyTorchFile(file);
  if (IsSafetensorsFile(file)) return IndexSafetensorsFile(file);
  if (IsTar(file)) return Unsupported("a tar archive, the oldest format of torch.save", kSaveAgain);
  if (file.size() >= 2 && file[0] == 0x80 && file[1] >= 2 && file[1] <= 5)
    return Unsupported("a bare pickle", kSaveAgain);
  constexpr uint8_t kZipStart[] = {'P', 'K', 3, 4};
  if (StartsWith(kZipStart, file))
    return MakeError(Reason::FILE_TRUNCATED, "the file ends right after its start; copy it again");
  return MakeError(Reason::FILE_MALFORMED, "not a checkpoint: the file is none that torch.save writes");
}

absl::StatusOr<TorchFile> ReadCheckpointFile(ByteSpan file) {
  SCONCE_ASSIGN_OR_RETURN(TorchIndex index, IndexCheckpointFile(file));
  return LoadRecords(std::move(index));
}

bool IsTorchScriptArchive(ByteSpan file) {
  if (!IsZip(file)) return false;
  const absl::StatusOr<ZipReader> zip = ZipReader::Open(file);
  return zip.ok() && HasRecordInFolder(*zip, "constants.pkl");
}

absl::Status CheckTorchScriptArchive(ByteSpan file) {
  if (!IsZip(file)) {
    return MakeError(Reason::MODULE_INVALID,
                     "not a TorchScript module: the file is no zip archive; write it with torch.jit.save");
  }
  SCONCE_ASSIGN_OR_RETURN(const ZipReader zip, ZipReader::Open(file));
  if (!HasRecordInFolder(zip, "constants.pkl")) {
    return MakeError(Reason::MODULE_INVALID,
                     "not a TorchScript module: the archive has no constants.pkl; use "
                     "torch.jit.script(model).save(file), and `sconce push` for a checkpoint");
  }
  if (!HasRecordInFolder(zip, "data.pkl"))
    return MakeError(Reason::MODULE_INVALID, "the TorchScript module has no data.pkl; save it again");
  const absl::string_view first = zip.records().front().name;
  const std::string code = absl::StrCat(first.substr(0, first.find('/')), "/code/");
  bool has_code = false;
  for (const ZipRecord& record : zip.records()) {
    has_code = has_code || absl::StartsWith(record.name, code);
    SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(record));
    for (RecordReader reader(source); !reader.done();) SCONCE_RETURN_IF_ERROR(reader.Next(kCheckBytes).status());
  }
  if (!has_code) return MakeError(Reason::MODULE_INVALID, "the TorchScript module has no code; save it again");
  return absl::OkStatus();
}

}  // namespace sconce::format
