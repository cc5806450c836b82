#ifndef SCONCE_STORAGE_REPOSITORY_UPLOAD_RECORDS_H_
#define SCONCE_STORAGE_REPOSITORY_UPLOAD_RECORDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "storage/catalog/keys.h"
#include "storage/repository/lookup.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"
#include "storage/repository/upload.h"

// What the catalog knows of uploads, read and written.
namespace sconce::repository {

// A committed or aborted upload is remembered for this long, so that a retry is answered.
inline constexpr absl::Duration kEndedUploadLifetime = absl::Hours(24);
// Signs of life are recorded at most this often.
inline constexpr absl::Duration kTouchInterval = absl::Minutes(1);

struct FoundUpload {
  uint64_t run_uid = 0;
  Stored<records::UploadRecord> upload;

  uint64_t uid() const { return upload.record.uid(); }
  uint64_t project_uid() const { return upload.record.project_uid(); }
  catalog::Owner owner() const { return {catalog::Owner::Kind::kUpload, run_uid, uid()}; }
};

// The upload, whatever its state; UPLOAD_NOT_FOUND when there is no record, or no such run.
absl::StatusOr<FoundUpload> FindUpload(const catalog::CatalogReader& reader, const UploadRef& ref);
absl::Status UploadNotFound(const UploadRef& ref, absl::string_view why);
// OK for one that still takes parts and chunks; otherwise UPLOAD_NOT_FOUND with the reason.
absl::Status CheckOpen(const UploadRef& ref, const records::UploadRecord& record);
// Also OK for one that is being committed: its parts are complete, so there is nothing more to take.
absl::Status CheckShowsParts(const UploadRef& ref, const records::UploadRecord& record);
// Whether it ended so long ago that it is as if it had never been.
bool IsForgotten(const records::UploadRecord& record, int64_t now_ns);

// `record` gets what was asked for, with the digest of it.
void SetOptions(const PushOptions& options, int64_t expected_parts, records::UploadRecord& record);
PushOptions GetOptions(const records::UploadRecord& record);

// Adds to the batch that the upload ends in this state: its record, and the tombstone from which the collector drops
// its pins, journals, parts and files. The caller adds the condition.
void EndUpload(const FoundUpload& found, records::UploadState state, int64_t version, int64_t now_ns,
               catalog::ChangeSet& change);

// A chunk of a part.
struct PartChunk {
  Digest sha256;
  Fingerprint xxh3;
  int64_t offset = 0;    // in the part's blob, unless shared
  bool shared = false;   // stored before
  bool settled = false;  // durable: the rest means something
};

// What a part's journal says.
struct PartJournal {
  std::vector<PartChunk> chunks;
  int64_t next_sequence = 0;
  int64_t end = 0;  // of what is durable in the part's blob
};

absl::StatusOr<PartJournal> ReadJournal(const catalog::CatalogReader& reader, uint64_t upload_uid, int64_t part,
                                        int64_t chunk_count);
void AddEntry(int64_t chunk, const PartChunk& content, int64_t size_bytes, records::JournalRecord& record);
// What an earlier entry says of the chunk holds no more.
void AddLoss(int64_t chunk, records::JournalRecord& record);

std::vector<ChunkRange> SettledRanges(const std::vector<PartChunk>& chunks);
// Sorts the numbers.
std::vector<ChunkRange> ToRanges(std::vector<int64_t> chunks);

// As Repository::GetUpload shows it.
absl::StatusOr<Upload> DescribeUpload(const Store& store, const UploadRef& ref, const FoundUpload& found);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_UPLOAD_RECORDS_H_
