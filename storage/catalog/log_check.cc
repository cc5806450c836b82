// The format, from RocksDB's documentation of its log files: blocks of 32 KiB; in each, records of a header (CRC-32C of
// type and payload, masked: 4 bytes; length of the payload: 2; type: 1; little-endian) and the payload. A record does
// not cross a block. Fewer than seven bytes at the end of a block are zeros. Recycled logs, which have a longer header,
// are not in use here.
#include "storage/catalog/log_check.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"

namespace sconce::catalog {
namespace {

constexpr size_t kBlockBytes = 32768;
constexpr size_t kHeaderBytes = 7;

const std::array<uint32_t, 256>& Crc32cTable() {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0U);
      made[i] = crc;
    }
    return made;
  }();
  return table;
}

uint32_t Masked(uint32_t crc) {
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

// Whether the record at the start of `bytes` is whole at some length that `bytes` has room for.
bool IsWholeAtSomeLength(ByteSpan bytes) {
  const uint32_t expected = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | static_cast<uint32_t>(bytes[3]) << 24;
  uint32_t crc = 0xffffffffU;
  for (size_t i = kHeaderBytes - 1; i < bytes.size(); ++i) {
    crc = crc >> 8 ^ Crc32cTable()[(crc ^ bytes[i]) & 0xff];
    if (i >= kHeaderBytes && Masked(~crc) == expected) return true;
  }
  return false;
}

bool IsWhole(ByteSpan record) {
  const uint32_t expected = record[0] | record[1] << 8 | record[2] << 16 | static_cast<uint32_t>(record[3]) << 24;
  uint32_t crc = 0xffffffffU;
  for (size_t i = kHeaderBytes - 1; i < record.size(); ++i) {
    crc = crc >> 8 ^ Crc32cTable()[(crc ^ record[i]) & 0xff];
  }
  return Masked(~crc) == expected;
}

absl::Status LogIsDamaged(const std::string& name) {
  return MakeError(
      Reason::CATALOG_CORRUPT,
      absl::StrCat("a record in the catalog's log ", name,
                   " does not match its checksum; what it says is still known: it is written elsewhere with "
                   "the next change"),
      {{"file", name}});
}

// Looks at the last block of a log: only there does a record that is too long look like the end.
absl::Status CheckLastBlock(ByteSpan block, const std::string& name) {
  while (block.size() >= kHeaderBytes) {
    const size_t length = block[4] | block[5] << 8;
    if (kHeaderBytes + length <= block.size()) {
      block.remove_prefix(kHeaderBytes + length);
      continue;
    }
    if (!IsWholeAtSomeLength(block)) return absl::OkStatus();  // torn by a crash: it was never acknowledged
    return MakeError(Reason::CATALOG_CORRUPT,
                     absl::StrCat("the length of a record in the catalog's file ", name,
                                  " is damaged; restore the data directory from a backup, or rebuild the catalog from "
                                  "the blobs"),
                     {{"file", name}});
  }
  return absl::OkStatus();
}

absl::Status CheckLog(FileSystem& file_system, const std::string& directory, const std::string& name) {
  SCONCE_ASSIGN_OR_RETURN(const auto file, file_system.OpenRead(absl::StrCat(directory, "/", name)));
  const int64_t begin = file->size_bytes() / static_cast<int64_t>(kBlockBytes) * static_cast<int64_t>(kBlockBytes);
  std::vector<uint8_t> block(static_cast<size_t>(file->size_bytes() - begin));
  SCONCE_RETURN_IF_ERROR(file->ReadAt(begin, absl::MakeSpan(block)));
  return CheckLastBlock(block, name);
}

}  // namespace

absl::Status CheckSyncedLog(const ReadableFile& log, int64_t synced_bytes, const std::string& name) {
  if (log.size_bytes() < synced_bytes) return LogIsDamaged(name);
  std::vector<uint8_t> bytes(kBlockBytes);
  for (int64_t begin = 0; begin < synced_bytes; begin += static_cast<int64_t>(kBlockBytes)) {
    const size_t size = static_cast<size_t>(std::min<int64_t>(kBlockBytes, synced_bytes - begin));
    SCONCE_RETURN_IF_ERROR(log.ReadAt(begin, absl::MakeSpan(bytes.data(), size)));
    ByteSpan block(bytes.data(), size);
    while (block.size() >= kHeaderBytes) {
      const size_t record = kHeaderBytes + (block[4] | block[5] << 8);
      if (record > block.size() || !IsWhole(block.first(record))) return LogIsDamaged(name);
      block.remove_prefix(record);
    }
    if (size < kBlockBytes && !block.empty()) return LogIsDamaged(name);
  }
  return absl::OkStatus();
}

absl::Status CheckLogs(FileSystem& file_system, const std::string& directory) {
  const auto names = file_system.List(directory);
  if (!names.ok()) return IsAbsent(names.status()) ? absl::OkStatus() : names.status();
  bool current = false, others = false;
  for (const std::string& name : *names) {
    const bool log = absl::EndsWith(name, ".log"), manifest = absl::StartsWith(name, "MANIFEST-");
    current = current || name == "CURRENT";
    others = others || log || absl::EndsWith(name, ".sst");
    if (log || manifest) SCONCE_RETURN_IF_ERROR(CheckLog(file_system, directory, name));
  }
  if (current || !others) return absl::OkStatus();
  return MakeError(Reason::CATALOG_CORRUPT,
                   "the catalog's file CURRENT is missing; restore the data directory from a backup, or rebuild the "
                   "catalog from the blobs");
}

}  // namespace sconce::catalog
