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

// Hands bytes that are there already to a push, a part at a time.
class PushFeed {
 public:
  // `bytes` outlive the feed.
  explicit PushFeed(std::vector<ByteSpan> bytes) : bytes_(std::move(bytes)) {}
  bool done() const { return next_ == bytes_.size(); }
  // Writes about `max_bytes` more.
  absl::Status WriteSome(repository::Push& push, int64_t max_bytes);

 private:
  const std::vector<ByteSpan> bytes_;
  size_t next_ = 0;  // of bytes_
  size_t position_ = 0;
};
// What a feed should write before it lets others have the thread.
inline constexpr int64_t kFeedBytes = int64_t{16} << 20;

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_SPOOLED_FILE_H_
