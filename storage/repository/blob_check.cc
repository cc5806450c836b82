#include "storage/repository/blob_check.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/lookup.h"
#include "storage/repository/quarantine.h"

namespace sconce::repository {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr size_t kPieceRows = 4096;

int64_t PageDown(int64_t offset) {
  return offset / kDirectAlignment * kDirectAlignment;
}
int64_t PageUp(int64_t offset) {
  return PageDown(offset + kDirectAlignment - 1);
}

void SortByOffset(std::vector<blob::FooterChunk>& rows) {
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
}

}  // namespace

BlobCheck::BlobCheck(Store& store, const blob::BlobId& id, const absl::flat_hash_set<Digest>* only,
                     blob::AlignedBuffer& buffer, BlobFindings& findings)
    : store_(store), id_(id), only_(only), buffer_(buffer), findings_(findings) {
  SCONCE_CHECK(buffer.capacity() >= kBufferBytes);
}

absl::StatusOr<int64_t> BlobCheck::Step() {
  if (done_) return 0;
  if (file_ == nullptr) return Open();
  return CheckRows();
}

absl::StatusOr<ByteSpan> BlobCheck::ReadRange(int64_t offset, int64_t size_bytes, blob::AlignedBuffer& buffer) const {
  const int64_t begin = PageDown(offset);
  const int64_t end = PageUp(offset + size_bytes);
  SCONCE_RETURN_IF_ERROR(file_->ReadAt(begin, absl::MakeSpan(buffer.data(), static_cast<size_t>(end - begin))));
  return ByteSpan(buffer.data() + (offset - begin), static_cast<size_t>(size_bytes));
}

absl::StatusOr<int64_t> BlobCheck::Open() {
  SCONCE_ASSIGN_OR_RETURN(const auto record,
                          ReadRecord<records::BlobRecord>(*store_.catalog, catalog::BlobKey(id_.project_uid, id_.id)));
  if (!record) {  // removed since somebody listed it
    done_ = true;
    return 0;
  }
  record_ = record->record;
  ++findings_.blobs;
  auto file = store_.blobs->OpenStored(id_);
  if (!file.ok()) return Lost(std::string(ToStd(file.status().message())));
  file_ = *std::move(file);
  blob::Trailer trailer;
  if (absl::Status status = ReadTrailer(trailer); !status.ok()) return Lost(std::string(ToStd(status.message())));
  SCONCE_ASSIGN_OR_RETURN(const int64_t footer_bytes, CheckFooter(trailer));
  SCONCE_ASSIGN_OR_RETURN(const int64_t manifest_bytes, CheckManifest());
  done_ = rows_.empty();
  return kDirectAlignment + footer_bytes + manifest_bytes;
}

absl::Status BlobCheck::ReadTrailer(blob::Trailer& trailer) {
  const int64_t size = file_->size_bytes();
  if (size < blob::kTrailerBytes || size % kDirectAlignment != 0) {
    return MakeError(Reason::CHUNK_CORRUPT, absl::StrCat("a blob file of ", size, " bytes is not whole"));
  }
  SCONCE_ASSIGN_OR_RETURN(const ByteSpan bytes, ReadRange(size - blob::kTrailerBytes, blob::kTrailerBytes, buffer_));
  SCONCE_ASSIGN_OR_RETURN(trailer, blob::DecodeTrailer(bytes, size));
  if (trailer.id == id_) return absl::OkStatus();
  return MakeError(Reason::CHUNK_CORRUPT, absl::StrCat("it holds blob ", trailer.id.Hex()));
}

absl::StatusOr<int64_t> BlobCheck::CheckFooter(const blob::Trailer& trailer) {
  const int64_t size = trailer.footer_size_bytes;
  blob::AlignedBuffer buffer(PageUp(size) + 2 * kDirectAlignment);  // freed before the first chunk is read
  const auto read = ReadRange(trailer.footer_offset, size, buffer);
  absl::StatusOr<blob::FooterView> footer =
      MakeError(Reason::CHUNK_CORRUPT, "its bytes cannot be read, or do not match their checksum");
  if (read.ok() && Xxh3(*read) == trailer.footer_xxh3) footer = blob::DecodeFooter(*read, trailer.footer_offset);
  if (footer.ok()) {
    table_known_ = true;
    for (const blob::FooterChunk& row : footer->chunks) {
      if (only_ == nullptr || only_->contains(row.sha256)) rows_.push_back(row);
    }
    SortByOffset(rows_);
    return size;
  }
  if (only_ == nullptr) {
    ++findings_.damaged_footers;
    store_.integrity.CountFailure();
    Log(Severity::kError, "footer_damaged",
        {{"blob", id_.Hex()}, {"reason", std::string(ToStd(footer.status().message()))}});
  }
  SCONCE_RETURN_IF_ERROR(AskForRepair());
  SCONCE_RETURN_IF_ERROR(FindRows());
  return size;
}

// The collector writes the blob anew, unless its manifest is damaged too.
absl::Status BlobCheck::AskForRepair() {
  SCONCE_ASSIGN_OR_RETURN(const auto record,
                          ReadRecord<records::BlobRecord>(*store_.catalog, catalog::BlobKey(id_.project_uid, id_.id)));
  if (!record) return absl::OkStatus();
  catalog::ChangeSet change;
  change.conditions.push_back(record->Unchanged());
  change.puts.emplace_back(catalog::SuspectBlobKey(id_.project_uid, id_.id), RawId(id_));
  const absl::Status applied = store_.catalog->Apply(change).status();
  return catalog::FailedConditionKey(applied) ? absl::OkStatus() : applied;  // removed meanwhile
}

absl::StatusOr<int64_t> BlobCheck::CheckManifest() {
  const records::ManifestLocation& at = record_.manifest();
  const std::optional<catalog::Owner> owner = catalog::Owner::Decode(record_.owner());
  Digest expected;
  // A part of an upload has no manifest of its own.
  if (!owner || RawId(id_) != at.blob_id() || !Digest::FromBytes(at.digest(), expected)) return 0;
  bool good = false;
  if (at.offset() >= 0 && at.size_bytes() >= 0 && at.offset() <= file_->size_bytes() - at.size_bytes()) {
    blob::AlignedBuffer buffer(PageUp(at.size_bytes()) + 2 * kDirectAlignment);
    const auto bytes = ReadRange(at.offset(), at.size_bytes(), buffer);
    good = bytes.ok() && Sha256(*bytes) == expected;
  }
  SCONCE_RETURN_IF_ERROR(good ? HealManifestInPlace(store_, *owner, at) : QuarantineManifest(store_, *owner, at));
  return at.size_bytes();
}

absl::Status BlobCheck::FindRows() {
  const std::string prefix = catalog::ChunkPrefix(id_.project_uid);
  const std::string raw_id = RawId(id_);
  absl::Status parsed;
  SCONCE_RETURN_IF_ERROR(store_.catalog->Scan(prefix, catalog::PrefixEnd(prefix), false,
                                              [&](absl::string_view key, absl::string_view value) {
                                                const auto record = ParseRecord<records::ChunkRecord>(value);
                                                parsed = record.status();
                                                blob::FooterChunk row;
                                                if (!parsed.ok() || record->blob_id() != raw_id) return parsed.ok();
                                                if (!Digest::FromBytes(key.substr(prefix.size()), row.sha256))
                                                  return true;
                                                if (only_ != nullptr && !only_->contains(row.sha256)) return true;
                                                row.offset = record->offset();
                                                row.size_bytes = record->size_bytes();
                                                rows_.push_back(row);
                                                return true;
                                              }));
  SortByOffset(rows_);
  return parsed;
}

absl::StatusOr<int64_t> BlobCheck::CheckRows() {
  // The rows whose pages fit the buffer together.
  const int64_t begin = PageDown(rows_[next_row_].offset);
  size_t end_row = next_row_;
  int64_t end = begin;
  std::vector<std::string> keys;
  while (end_row < rows_.size() && keys.size() < kPieceRows) {
    const int64_t row_end = PageUp(rows_[end_row].offset + rows_[end_row].size_bytes);
    if (!keys.empty() && row_end - begin > kPieceBytes) break;
    end = std::max(end, row_end);
    keys.push_back(catalog::ChunkKey(id_.project_uid, rows_[end_row].sha256));
    ++end_row;
  }
  SCONCE_ASSIGN_OR_RETURN(const auto stored, store_.catalog->MultiGet(keys));
  std::vector<std::optional<records::ChunkRecord>> live(stored.size());
  bool any = false;
  for (size_t i = 0; i < stored.size(); ++i) {
    if (!stored[i]) continue;
    SCONCE_ASSIGN_OR_RETURN(auto record, ParseRecord<records::ChunkRecord>(*stored[i]));
    if (record.blob_id() != RawId(id_)) continue;  // those bytes are dead here
    live[i] = std::move(record);
    any = true;
  }
  const bool fits = end - begin <= buffer_.capacity() && end <= file_->size_bytes();
  const bool read =
      any && fits && file_->ReadAt(begin, absl::MakeSpan(buffer_.data(), static_cast<size_t>(end - begin))).ok();
  for (size_t i = 0; i < live.size(); ++i) {
    if (!live[i]) continue;
    const blob::FooterChunk& row = rows_[next_row_ + i];
    ByteSpan bytes;
    if (read) {
      bytes = ByteSpan(buffer_.data() + (row.offset - begin), static_cast<size_t>(row.size_bytes));
      SCONCE_RETURN_IF_ERROR(CheckChunk(row, *live[i], bytes, true));
      continue;
    }
    // The disk fails somewhere in the piece: find out for whom.
    const bool alone = row.offset >= 0 && row.size_bytes > 0 && row.size_bytes <= kPieceBytes &&
                       row.offset <= file_->size_bytes() - row.size_bytes;
    const auto own = alone ? ReadRange(row.offset, row.size_bytes, buffer_) : absl::StatusOr<ByteSpan>(bytes);
    if (own.ok()) bytes = *own;
    SCONCE_RETURN_IF_ERROR(CheckChunk(row, *live[i], bytes, alone && own.ok()));
  }
  next_row_ = end_row;
  done_ = next_row_ == rows_.size();
  return any ? end - begin : 0;
}

absl::Status BlobCheck::CheckChunk(const blob::FooterChunk& row, const records::ChunkRecord& record, ByteSpan bytes,
                                   bool read) {
  ++findings_.chunks;
  const bool agrees = record.offset() == row.offset && record.size_bytes() == row.size_bytes &&
                      (!table_known_ || record.xxh3() == row.xxh3.AsKey());
  if (!read || !agrees || Sha256(bytes) != row.sha256) {
    return QuarantineChunk(store_, id_.project_uid, row.sha256, id_, record.offset());
  }
  if (!record.bad()) return absl::OkStatus();
  return HealChunkInPlace(store_, id_.project_uid, row.sha256, id_, record.offset());
}

absl::StatusOr<int64_t> BlobCheck::Lost(const std::string& why) {
  done_ = true;
  // The collector forgets a blob before it unlinks it: one that is still in the catalog should be there.
  SCONCE_ASSIGN_OR_RETURN(const auto record, store_.catalog->Get(catalog::BlobKey(id_.project_uid, id_.id)));
  if (!record) return 0;
  Log(Severity::kError, "blob_lost", {{"blob", id_.Hex()}, {"reason", why}});
  SCONCE_RETURN_IF_ERROR(FindRows());
  for (const blob::FooterChunk& row : rows_) {
    SCONCE_RETURN_IF_ERROR(QuarantineChunk(store_, id_.project_uid, row.sha256, id_, row.offset));
  }
  const std::optional<catalog::Owner> owner = catalog::Owner::Decode(record_.owner());
  if (!owner || record_.manifest().blob_id() != RawId(id_)) return 0;
  SCONCE_RETURN_IF_ERROR(QuarantineManifest(store_, *owner, record_.manifest()));
  return 0;
}

}  // namespace sconce::repository
