#include "server/services/spooled_file.h"

#include <algorithm>

#include "base/error.h"
#include "base/status_macros.h"
#include "server/services/push_header.h"

namespace sconce::services {
namespace {

// What is checked and written at a time: small enough to be still in the cache for the second.
constexpr size_t kPieceBytes = size_t{1} << 20;

}  // namespace

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
    if (!reader_.has_value()) reader_.emplace(records_[next_]);
    SCONCE_ASSIGN_OR_RETURN(const format::RecordPiece piece, reader_->Next(kPieceBytes));
    SCONCE_RETURN_IF_ERROR(push.Write(piece.bytes));
    max_bytes -= static_cast<int64_t>(piece.bytes.size());
    if (!reader_->done()) continue;
    ++next_;
    reader_.reset();
  }
  return absl::OkStatus();
}

}  // namespace sconce::services
