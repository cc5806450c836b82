#ifndef SCONCE_STORAGE_FORMAT_ZIP_WRITER_H_
#define SCONCE_STORAGE_FORMAT_ZIP_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sconce::format {

// The layout of a zip archive as PyTorch's writer makes it, and its fixed parts. Every record is stored plainly and its
// data is aligned, so that the file can be mapped; sizes are known beforehand, so every offset is, while checksums
// follow each record's data and are repeated in the directory. Zip64 wherever a number needs it.
//
// The archive is, in this order: for each record LocalHeader, its data, Descriptor; for each record CentralHeader; End.
class ZipPlan {
 public:
  static constexpr uint64_t kAlignment = 64;

  // Records follow each other in the order they are added.
  void Add(std::string name, uint64_t size_bytes);

  size_t record_count() const { return records_.size(); }
  uint64_t record_bytes(size_t i) const { return records_[i].size_bytes; }
  uint64_t data_offset(size_t i) const { return records_[i].data_offset; }
  // Of the whole archive.
  uint64_t size_bytes() const { return records_end_ + central_bytes_ + kEndBytes; }
  // Must be set before Descriptor and CentralHeader.
  void set_crc32(size_t i, uint32_t crc32) { records_[i].crc32 = crc32; }

  std::string LocalHeader(size_t i) const;
  std::string Descriptor(size_t i) const;  // empty for an empty record, as in PyTorch's files
  std::string CentralHeader(size_t i) const;
  std::string End() const;

 private:
  static constexpr uint64_t kEndBytes = 56 + 20 + 22;  // the zip64 end record, its locator, the end record

  struct Record {
    std::string name;
    uint64_t size_bytes = 0;
    uint64_t local_offset = 0;
    uint64_t data_offset = 0;
    uint32_t crc32 = 0;
  };

  std::vector<Record> records_;
  uint64_t records_end_ = 0;
  uint64_t central_bytes_ = 0;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_ZIP_WRITER_H_
