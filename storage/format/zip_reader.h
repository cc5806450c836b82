#ifndef SCONCE_STORAGE_FORMAT_ZIP_READER_H_
#define SCONCE_STORAGE_FORMAT_ZIP_READER_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"
#include "storage/format/record_source.h"

namespace sconce::format {

// One record (file) of an archive. Name and data lie inside the archive.
struct ZipRecord {
  absl::string_view name;
  ByteSpan data;            // as stored: compressed unless `method` is 0
  uint64_t size_bytes = 0;  // uncompressed
  uint32_t crc32 = 0;  // of the uncompressed bytes; 0 also means "not computed" (torch.serialization.set_crc32_options)
  uint16_t method = 0;
  bool encrypted = false;
};

// Compressed records may together unpack to so many times the archive's size, or to a mebibyte: more than anything but
// a bomb or a file of zeros does, and still a bound on what a small file can make a reader do.
inline constexpr int64_t kMaxInflateRatio = 16;
inline constexpr int64_t kFreeInflateBytes = int64_t{1} << 20;

// The directory of a zip archive in memory, zip64 included. Immutable; borrows from the archive, which must outlive it.
//
// Strict, since readers that disagree about an archive are how a file shows one face to a scanner and another to its
// user: records lie inside the archive and do not overlap, names are unique and agree in both headers, and the
// directory ends where the end record starts.
class ZipReader {
 public:
  // FILE_TRUNCATED when the end record is missing, FILE_MALFORMED naming what is wrong, FILE_UNSUPPORTED for a
  // multi-volume archive, INPUT_LIMIT_EXCEEDED for one that unpacks to far more than it is (kMaxInflateRatio). Looks at
  // the directory and at the records' headers; of their data it reads nothing.
  static absl::StatusOr<ZipReader> Open(ByteSpan archive);

  const std::vector<ZipRecord>& records() const { return records_; }  // in directory order
  // nullptr when there is none of exactly this name.
  const ZipRecord* Find(absl::string_view name) const;

  // What to read a record's bytes with. FILE_UNSUPPORTED when it is encrypted, or compressed with something else than
  // deflate.
  static absl::StatusOr<RecordSource> Source(const ZipRecord& record);

 private:
  std::vector<ZipRecord> records_;
  absl::flat_hash_map<absl::string_view, uint32_t> by_name_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_ZIP_READER_H_
