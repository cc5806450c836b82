#include "storage/repository/ingest.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {

Ingest::Ingest(Store& store, IngestPool& pool, uint64_t project_uid, std::unique_ptr<blob::BlobWriter> writer,
               format::Manifest manifest)
    : store_(store),
      project_uid_(project_uid),
      writer_(std::move(writer)),
      manifest_(std::move(manifest)),
      layout_(manifest_),
      claimed_(manifest_.storages.size()),
      expected_bytes_(format::BulkBytes(manifest_)),
      pins_(store.pins, project_uid),
      feed_(pool, layout_, [this](absl::Span<const FedChunk> chunks, ByteSpan bytes, blob::AlignedBuffer* buffer) {
        return Process(chunks, bytes, buffer);
      }) {
  for (size_t i = 0; i < manifest_.storages.size(); ++i) {
    format::Storage& storage = manifest_.storages[i];
    if (!format::IsBulk(storage)) continue;
    claimed_[i] = !storage.chunks.empty();
    storage.chunks.resize(static_cast<size_t>(format::ChunkCount(storage.size_bytes)));
  }
}

absl::Status Ingest::Write(ByteSpan bytes) {
  if (static_cast<int64_t>(bytes.size()) > expected_bytes_ - received_bytes_) {
    return MakeError(
        Reason::OFFSET_OUT_OF_RANGE,
        absl::StrCat("bytes ", received_bytes_, " to ", received_bytes_ + static_cast<int64_t>(bytes.size()),
                     " were sent, but by its manifest the checkpoint has ", expected_bytes_));
  }
  SCONCE_RETURN_IF_ERROR(feed_.Write(bytes));
  received_bytes_ += static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

absl::Status Ingest::Process(absl::Span<const FedChunk> chunks, ByteSpan bytes, blob::AlignedBuffer* buffer) {
  SCONCE_ASSIGN_OR_RETURN(const std::vector<Piece> pieces, RecordDigests(chunks, bytes));
  std::vector<Digest> digests;
  std::vector<std::string> keys;
  for (const Piece& piece : pieces) {
    if (!piece.first) continue;
    digests.push_back(piece.digest);
    keys.push_back(catalog::ChunkKey(project_uid_, piece.digest));
  }
  pins_.Add(digests);
  SCONCE_ASSIGN_OR_RETURN(const auto stored, store_.catalog->MultiGet(keys));
  size_t next = 0;
  for (const Piece& piece : pieces) {
    if (!piece.first) continue;
    bool good = false;
    if (const auto& value = stored[next++]; value) {
      SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ChunkRecord>(*value));
      good = !record.bad();
    }
    SCONCE_RETURN_IF_ERROR(Place(piece, buffer, good));
  }
  return absl::OkStatus();
}

// Hashes the chunks, checks them against what the manifest claims, and marks those that this push has not seen before.
absl::StatusOr<std::vector<Ingest::Piece>> Ingest::RecordDigests(absl::Span<const FedChunk> chunks, ByteSpan bytes) {
  std::vector<Piece> pieces;
  for (const FedChunk& fed : chunks) {
    const ChunkLayout::Entry entry = layout_.At(fed.number);
    Piece piece;
    piece.content = bytes.subspan(static_cast<size_t>(fed.begin), static_cast<size_t>(fed.size_bytes));
    piece.digest = Sha256(piece.content);
    piece.xxh3 = Xxh3(piece.content);
    format::Chunk& chunk = manifest_.storages[entry.storage].chunks[entry.chunk];
    if (claimed_[entry.storage] && (chunk.sha256 != piece.digest || chunk.xxh3 != piece.xxh3)) {
      return MakeError(Reason::DIGEST_MISMATCH,
                       absl::StrCat("the bytes of storage ", entry.storage, ", chunk ", entry.chunk, " have SHA-256 ",
                                    piece.digest.Hex(), ", not ", chunk.sha256.Hex(),
                                    " as the manifest says; read the file again and push again"));
    }
    chunk = {piece.digest, piece.xxh3};
    pieces.push_back(piece);
  }
  MutexLock lock(&mu_);
  for (Piece& piece : pieces) {
    const auto size_bytes = static_cast<int64_t>(piece.content.size());
    piece.first = chunks_.emplace(piece.digest, PlacedChunk{piece.xxh3, size_bytes, true, 0, 0}).second;
    if (!piece.first) deduplicated_bytes_ += size_bytes;
  }
  return pieces;
}

absl::Status Ingest::Place(const Piece& piece, blob::AlignedBuffer* buffer, bool stored) {
  const auto size_bytes = static_cast<int64_t>(piece.content.size());
  if (stored) {
    MutexLock lock(&mu_);
    deduplicated_bytes_ += size_bytes;
    return absl::OkStatus();
  }
  SCONCE_ASSIGN_OR_RETURN(const int64_t offset, buffer != nullptr ? writer_->Append(*buffer, size_bytes, true)
                                                                  : writer_->AppendPacked(piece.content));
  MutexLock lock(&mu_);
  PlacedChunk& placed = chunks_[piece.digest];
  placed.shared = false;
  placed.offset = offset;
  stored_bytes_ += size_bytes;
  return absl::OkStatus();
}

absl::Status Ingest::Finish() {
  SCONCE_RETURN_IF_ERROR(feed_.Write({}));  // what went wrong before
  if (received_bytes_ < expected_bytes_) {
    return MakeError(Reason::UPLOAD_INCOMPLETE,
                     absl::StrCat("only ", received_bytes_, " of ", expected_bytes_,
                                  " bytes were sent; send the rest, or push again"),
                     {{"received", absl::StrCat(received_bytes_)}, {"expected", absl::StrCat(expected_bytes_)}});
  }
  return feed_.Flush();
}

}  // namespace sconce::repository
