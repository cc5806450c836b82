// The log's format (RocksDB's wiki, "Write Ahead Log File Format"): blocks of 32 KiB, each a sequence of physical
// records that do not cross it and zeros where no header fits any more. A physical record is
//
//   crc32c, masked (4)   of type and payload
//   size (2)             of the payload
//   type (1)             1: a whole batch; 2, 3, 4: the first, a middle, the last part of one
//   payload
//
// Types above 4 belong to logs that are written over older ones, which the catalog does not use.
#include "storage/catalog/torn_log.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace sconce::catalog {
namespace {

constexpr size_t kBlockBytes = 32768, kHeaderBytes = 7;
constexpr size_t kPageBytes = 4096, kSectorBytes = 512;
enum Type : uint8_t { kWhole = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

uint32_t MaskedCrc32c(ByteSpan bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < made.size(); ++i) {
      made[i] = i;
      for (int bit = 0; bit < 8; ++bit) made[i] = (made[i] >> 1) ^ (made[i] & 1 ? 0x82F63B78u : 0);
    }
    return made;
  }();
  uint32_t crc = ~0u;
  for (const uint8_t byte : bytes) crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8);
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

// The type of the whole physical record that begins at `offset`, and where it ends; nullopt when there is none.
struct Record {
  uint8_t type = 0;
  size_t end = 0;
};
std::optional<Record> RecordAt(ByteSpan log, size_t offset) {
  const size_t block_end = std::min(log.size(), (offset / kBlockBytes + 1) * kBlockBytes);
  if (block_end - offset < kHeaderBytes) return std::nullopt;
  const uint8_t* header = log.data() + offset;
  const size_t size = header[4] | header[5] << 8;
  if (header[6] < kWhole || header[6] > kLast || size > block_end - offset - kHeaderBytes) return std::nullopt;
  const uint32_t crc = header[0] | header[1] << 8 | header[2] << 16 | uint32_t{header[3]} << 24;
  if (MaskedCrc32c(log.subspan(offset + 6, 1 + size)) != crc) return std::nullopt;
  return Record{header[6], offset + kHeaderBytes + size};
}

size_t SkipBlockEnd(size_t offset) {
  const size_t left = kBlockBytes - offset % kBlockBytes;
  return left < kHeaderBytes ? offset + left : offset;
}

bool AllZero(ByteSpan bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

// Whether a page of the log, as far as it lies in [begin, end), or a whole sector there, never got its bytes.
bool LacksPages(ByteSpan log, size_t begin) {
  for (size_t at = begin; at < log.size();) {
    const size_t page_end = std::min(log.size(), (at / kPageBytes + 1) * kPageBytes);
    if (AllZero(log.subspan(at, page_end - at))) return true;
    for (size_t sector = (at + kSectorBytes - 1) / kSectorBytes * kSectorBytes; sector + kSectorBytes <= page_end;
         sector += kSectorBytes) {
      if (AllZero(log.subspan(sector, kSectorBytes))) return true;
    }
    at = page_end;
  }
  return false;
}

// Whether a batch begins in one of the blocks behind `offset`, or the rest of its own block after what is damaged.
bool BatchBeginsBehind(ByteSpan log, size_t offset) {
  for (size_t block = offset / kBlockBytes * kBlockBytes; block < log.size(); block += kBlockBytes) {
    size_t at = block;
    while (const std::optional<Record> record = RecordAt(log, at)) {
      if (at > offset && (record->type == kWhole || record->type == kFirst)) return true;
      at = record->end;
      if (at % kBlockBytes == 0) break;
    }
  }
  return false;
}

absl::StatusOr<std::vector<uint8_t>> ReadAll(FileSystem& files, const std::string& path) {
  SCONCE_ASSIGN_OR_RETURN(const auto file, files.OpenRead(path));
  std::vector<uint8_t> bytes(static_cast<size_t>(file->size_bytes()));
  SCONCE_RETURN_IF_ERROR(file->ReadAt(0, absl::MakeSpan(bytes)));
  return bytes;
}

}  // namespace

std::optional<int64_t> FindTornBatch(ByteSpan log) {
  size_t batch = 0;  // where the last batch begins
  for (size_t at = 0; at < log.size();) {
    const std::optional<Record> record = RecordAt(log, at);
    const bool begins = record && (record->type == kWhole || record->type == kFirst);
    if (!record || begins != (at == batch)) {
      if (!LacksPages(log, batch) || BatchBeginsBehind(log, at)) return std::nullopt;
      return static_cast<int64_t>(batch);
    }
    at = SkipBlockEnd(record->end);
    if (record->type == kWhole || record->type == kLast) batch = at;
  }
  return std::nullopt;
}

absl::StatusOr<bool> DropTornBatch(FileSystem& files, const std::string& path) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(path));
  std::vector<uint8_t> log;
  std::string log_path;
  for (auto name = names.rbegin(); name != names.rend() && log.empty();
       ++name) {  // numbers of equal width: newest first
    if (!absl::EndsWith(*name, ".log")) continue;
    log_path = absl::StrCat(path, "/", *name);
    SCONCE_ASSIGN_OR_RETURN(log, ReadAll(files, log_path));
  }
  const std::optional<int64_t> torn = FindTornBatch(log);
  if (!torn) return false;
  const std::string made = log_path + ".trimmed";
  SCONCE_RETURN_IF_ERROR(files.Remove(made));
  SCONCE_ASSIGN_OR_RETURN(const auto file, files.Create(made, {}));
  SCONCE_RETURN_IF_ERROR(file->WriteAt(0, ByteSpan(log).first(static_cast<size_t>(*torn))));
  SCONCE_RETURN_IF_ERROR(file->Sync());
  SCONCE_RETURN_IF_ERROR(files.Rename(made, log_path));
  SCONCE_RETURN_IF_ERROR(files.SyncDirectory(path));
  Log(Severity::kWarn, "torn_batch_dropped", {{"bytes", static_cast<int64_t>(log.size()) - *torn}});
  return true;
}

}  // namespace sconce::catalog
