#ifndef SCONCE_STORAGE_REPOSITORY_BLOB_CHECK_H_
#define SCONCE_STORAGE_REPOSITORY_BLOB_CHECK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "base/file_system.h"
#include "storage/blob/aligned_buffer.h"
#include "storage/blob/footer.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// What checks of blobs add up to.
struct BlobFindings {
  int64_t blobs = 0;   // looked at
  int64_t chunks = 0;  // whose bytes were compared with their SHA-256
  int64_t damaged_footers = 0;
};

// One blob of the catalog, compared with what it should be, a piece at a time and as the disk has it:
//   * its file, trailer and footer: a blob that cannot be opened takes all its chunks and its manifest with it. One
//   that
//     opens but has a damaged footer serves, and is only reported: readers do not need the footer, and no version is
//     worse for it until the catalog is lost;
//   * its manifest: SHA-256, when a version or module has it here;
//   * every chunk the catalog places in it: that the chunk table says the same, and the SHA-256 of its bytes. What
//     nobody refers to any more is not read.
// What is damaged is quarantined, and what was quarantined but is right again is healed. A blob, version or chunk that
// goes away meanwhile is no damage. In memory: one footer and 4 MiB. For one thread.
class BlobCheck {
 public:
  // `only`: the chunks to check (null: all); a blob checked in part reports nothing of its footer. All outlive this;
  // `buffer` is of kBufferBytes.
  BlobCheck(Store& store, const blob::BlobId& id, const absl::flat_hash_set<Digest>* only, blob::AlignedBuffer& buffer,
            BlobFindings& findings);

  static constexpr int64_t kBufferBytes = (int64_t{4} << 20) + 2 * kDirectAlignment;

  // Does the next piece; the value is how many bytes were read for it. CATALOG_CORRUPT, and IO_ERROR when the catalog
  // (not the blob) cannot be read or written.
  absl::StatusOr<int64_t> Step();
  bool done() const { return done_; }
  // Of the file; 0 until the first step.
  int64_t size_bytes() const { return file_ == nullptr ? 0 : file_->size_bytes(); }

 private:
  absl::StatusOr<int64_t> Open();
  // The bytes in the range, read with the pages around it. IO_ERROR.
  absl::StatusOr<ByteSpan> ReadRange(int64_t offset, int64_t size_bytes, blob::AlignedBuffer& buffer) const;
  absl::Status ReadTrailer(blob::Trailer& trailer);
  absl::StatusOr<int64_t> CheckFooter(const blob::Trailer& trailer);
  absl::Status AskForRepair();
  absl::StatusOr<int64_t> CheckManifest();
  // All chunks the catalog places in this blob, when the table cannot say.
  absl::Status FindRows();
  absl::StatusOr<int64_t> CheckRows();
  absl::Status CheckChunk(const blob::FooterChunk& row, const records::ChunkRecord& record, ByteSpan bytes, bool read);
  // The file is gone or cannot be opened by readers.
  absl::StatusOr<int64_t> Lost(const std::string& why);

  Store& store_;
  const blob::BlobId id_;
  const absl::flat_hash_set<Digest>* const only_;
  blob::AlignedBuffer& buffer_;
  BlobFindings& findings_;

  records::BlobRecord record_;
  std::shared_ptr<const ReadableFile> file_;
  std::vector<blob::FooterChunk> rows_;  // to be checked, by offset
  size_t next_row_ = 0;
  bool table_known_ = false;  // rows_ is the footer's table, not the catalog's
  bool done_ = false;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_BLOB_CHECK_H_
