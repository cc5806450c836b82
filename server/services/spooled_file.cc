#include "server/services/spooled_file.h"

#include <algorithm>

#include "base/error.h"
#include "base/status_macros.h"
#include "server/services/push_header.h"

namespace sconce::services {

absl::Status SpooledFile::Open(repository::Repository& repository, const std::optional<Digest>& sha256) {
  expected_ = sha256;
  SCONCE_ASSIGN_OR_RETURN(spool_, repository.NewSpool());
  return absl::OkStatus();
}

absl::Status SpooledFile::Append(const std::vector<ByteSpan>& pieces) {
  for (const ByteSpan piece : pieces) {
    if (expected_.has_value()) hasher_.Update(piece);
    SCONCE_RETURN_IF_ERROR(spool_->Append(piece));
  }
  return absl::OkStatus();
}

absl::StatusOr<ByteSpan> SpooledFile::Map() {
  if (spool_->size_bytes() == 0) {
    return MakeError(Reason::FILE_TRUNCATED, "the file is empty; send its bytes after the header");
  }
  if (expected_.has_value()) SCONCE_RETURN_IF_ERROR(CheckSha256("the file", *expected_, hasher_.Finish()));
  return spool_->Map();
}

absl::Status PushFeed::WriteSome(repository::Push& push, int64_t max_bytes) {
  while (!done() && max_bytes > 0) {
    const ByteSpan part = bytes_[next_].subspan(position_, static_cast<size_t>(max_bytes));
    SCONCE_RETURN_IF_ERROR(push.Write(part));
    max_bytes -= static_cast<int64_t>(part.size());
    position_ += part.size();
    if (position_ == bytes_[next_].size()) {
      ++next_;
      position_ = 0;
    }
  }
  return absl::OkStatus();
}

}  // namespace sconce::services
