#ifndef SCONCE_TESTS_SUPPORT_TORCH_FILES_H_
#define SCONCE_TESTS_SUPPORT_TORCH_FILES_H_

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "storage/format/crc32.h"
#include "storage/format/storage_bytes.h"
#include "storage/format/torch_reader.h"
#include "storage/format/torch_writer.h"
#include "storage/format/zip_reader.h"
#include "storage/format/zip_writer.h"

namespace sconce::format {

// A file's bytes; empty when it cannot be read.
inline std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The bytes of a file that was read, for writing it again.
class FileBytes : public StorageBytes {
 public:
  explicit FileBytes(std::vector<ByteSpan> bytes) : bytes_(std::move(bytes)) {}
  absl::Status Read(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    const ByteSpan from = bytes_.at(storage).subspan(static_cast<size_t>(offset), out.size());
    std::copy(from.begin(), from.end(), out.begin());
    return absl::OkStatus();
  }

 private:
  std::vector<ByteSpan> bytes_;
};

// The whole file that TorchFileStream makes, taken in pieces of `piece` bytes.
inline absl::StatusOr<std::string> WriteTorchFile(const Manifest& manifest, StorageBytes& bytes,
                                                  size_t piece = 1 << 16) {
  SCONCE_ASSIGN_OR_RETURN(const auto stream, TorchFileStream::Create(manifest, bytes));
  std::string file(static_cast<size_t>(stream->size_bytes()), '\0');
  auto* data = reinterpret_cast<uint8_t*>(file.data());
  for (size_t at = 0; at < file.size(); at += piece) {
    SCONCE_RETURN_IF_ERROR(stream->Read(absl::MakeSpan(data + at, std::min(piece, file.size() - at))));
  }
  return file;
}

// The content of a record that is in no way compressed, its checksum checked.
inline absl::StatusOr<ByteSpan> ReadRecord(const ZipRecord& record) {
  SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(record));
  SCONCE_ASSIGN_OR_RETURN(const RecordPiece whole, ReadWholeRecord(source));
  if (whole.owner != nullptr) return absl::InvalidArgumentError("the record is compressed");
  return whole.bytes;
}

// A zip archive of these records, as PyTorch lays it out.
inline std::string MakeZip(const std::vector<std::pair<std::string, std::string>>& records) {
  ZipPlan plan;
  for (const auto& [name, data] : records) plan.Add(name, data.size());
  std::string zip;
  for (size_t i = 0; i < records.size(); ++i) {
    plan.set_crc32(i, Crc32(AsBytes(records[i].second)));
    zip += plan.LocalHeader(i) + records[i].second + plan.Descriptor(i);
  }
  for (size_t i = 0; i < records.size(); ++i) zip += plan.CentralHeader(i);
  return zip + plan.End();
}

}  // namespace sconce::format

#endif  // SCONCE_TESTS_SUPPORT_TORCH_FILES_H_
