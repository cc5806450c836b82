#ifndef SCONCE_SERVER_SERVICES_SPOOLED_FILE_H_
#define SCONCE_SERVER_SERVICES_SPOOLED_FILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "base/strings.h"
#include "storage/format/record_source.h"
#include "storage/repository/repository.h"

namespace sconce::services {

// A file that comes in pieces and is looked at when it is whole. Kept in a repository::Spool.
class SpooledFile {
 public:
  // `sha256`: what the whole file must have; not computed when absent.
  absl::Status Open(repository::Repository& repository, const std::optional<Digest>& sha256);
  absl::Status Append(const std::vector<ByteSpan>& pieces);
  // The whole file, valid as long as this lives. FILE_TRUNCATED when it is empty, DIGEST_MISMATCH.
  absl::StatusOr<ByteSpan> Map();

 private:
  std::unique_ptr<repository::Spool> spool_;
  std::optional<Digest> expected_;
  Sha256Hasher hasher_;
};

// Hands the records of a file that is there already to a push, a part at a time, checking their checksums on the way.
class PushFeed {
 public:
  // The file outlives the feed.
  explicit PushFeed(std::vector<format::RecordSource> records) : records_(std::move(records)) {}
  bool done() const { return next_ == records_.size(); }
  // Writes about `max_bytes` more. FILE_MALFORMED when a record is damaged: the push must then not be committed.
  absl::Status WriteSome(repository::Push& push, int64_t max_bytes);

 private:
  const std::vector<format::RecordSource> records_;
  size_t next_ = 0;                             // of records_
  std::optional<format::RecordReader> reader_;  // of that record, once begun
};
// What a feed should write before it lets others have the thread.
inline constexpr int64_t kFeedBytes = int64_t{16} << 20;

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_SPOOLED_FILE_H_
