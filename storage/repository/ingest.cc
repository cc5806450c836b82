#include "storage/repository/ingest.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {
namespace {

// Small storages are worked on together, this many bytes at a time: a task each would cost more than the work.
constexpr size_t kSmallBatchBytes = size_t{512} << 10;

bool IsSmall(const format::Storage& storage) {
  return storage.size_bytes < blob::kMappableBytes;
}

int64_t ChunkCount(const format::Storage& storage) {
  return (storage.size_bytes + format::kChunkBytes - 1) / format::kChunkBytes;
}

}  // namespace

IngestPool::IngestPool(int threads, int buffers, int max_pushes)
    : max_free_(static_cast<size_t>(buffers)),
      max_pushes_(max_pushes),
      threads_("ingest", threads, static_cast<size_t>(std::max(1, buffers - threads))) {}

absl::StatusOr<std::unique_ptr<IngestPool::Slot>> IngestPool::BeginPush(std::function<void()> ended) {
  if (++pushes_ <= max_pushes_) return std::make_unique<Slot>(*this, std::move(ended));
  --pushes_;
  return MakeError(Reason::SERVER_OVERLOADED,
                   absl::StrCat("there are ", max_pushes_, " pushes in progress; try again when one has ended"));
}

std::unique_ptr<blob::AlignedBuffer> IngestPool::TakeBuffer() {
  {
    MutexLock lock(&mu_);
    if (!free_.empty()) {
      std::unique_ptr<blob::AlignedBuffer> buffer = std::move(free_.back());
      free_.pop_back();
      return buffer;
    }
  }
  return std::make_unique<blob::AlignedBuffer>(format::kChunkBytes);
}

void IngestPool::GiveBack(std::unique_ptr<blob::AlignedBuffer> buffer) {
  MutexLock lock(&mu_);
  if (free_.size() < max_free_) free_.push_back(std::move(buffer));
}

Ingest::Ingest(Store& store, IngestPool& pool, uint64_t project_uid, std::unique_ptr<blob::BlobWriter> writer,
               format::Manifest manifest)
    : store_(store),
      pool_(pool),
      project_uid_(project_uid),
      writer_(std::move(writer)),
      manifest_(std::move(manifest)),
      claimed_(manifest_.storages.size()),
      expected_bytes_(format::BulkBytes(manifest_)),
      pins_(store.pins, project_uid) {
  for (size_t i = 0; i < manifest_.storages.size(); ++i) {
    format::Storage& storage = manifest_.storages[i];
    if (!format::IsBulk(storage)) continue;
    claimed_[i] = !storage.chunks.empty();
    storage.chunks.resize(static_cast<size_t>(ChunkCount(storage)));
  }
  NextStorage();
}

Ingest::~Ingest() {
  MutexLock lock(&mu_);
  error_.Update(absl::CancelledError("the push was dropped"));  // what is queued does nothing
  while (in_work_ > 0) idle_.Wait(&mu_);
  if (buffer_ != nullptr) pool_.GiveBack(std::move(buffer_));
}

absl::Status Ingest::FirstError() {
  MutexLock lock(&mu_);
  return error_;
}

// Moves on to the next storage that has bytes to come, if the current one has none.
void Ingest::NextStorage() {
  while (storage_ < manifest_.storages.size() && (!format::IsBulk(manifest_.storages[storage_]) ||
                                                  storage_filled_ == manifest_.storages[storage_].size_bytes)) {
    ++storage_;
    storage_filled_ = 0;
  }
}

absl::Status Ingest::Write(ByteSpan bytes) {
  SCONCE_RETURN_IF_ERROR(FirstError());
  if (static_cast<int64_t>(bytes.size()) > expected_bytes_ - received_bytes_) {
    return MakeError(
        Reason::OFFSET_OUT_OF_RANGE,
        absl::StrCat("bytes ", received_bytes_, " to ", received_bytes_ + static_cast<int64_t>(bytes.size()),
                     " were sent, but by its manifest the checkpoint has ", expected_bytes_));
  }
  while (!bytes.empty()) {
    const format::Storage& storage = manifest_.storages[storage_];
    const size_t before = bytes.size();
    if (IsSmall(storage)) {
      WriteSmall(storage, bytes);
    } else {
      WriteLarge(storage, bytes);
    }
    received_bytes_ += static_cast<int64_t>(before - bytes.size());
    NextStorage();
  }
  return absl::OkStatus();
}

void Ingest::WriteSmall(const format::Storage& storage, ByteSpan& bytes) {
  const ByteSpan taken = bytes.subspan(0, static_cast<size_t>(storage.size_bytes - storage_filled_));
  bytes.remove_prefix(taken.size());
  small_.insert(small_.end(), taken.begin(), taken.end());
  storage_filled_ += static_cast<int64_t>(taken.size());
  if (storage_filled_ < storage.size_bytes) return;
  Piece piece;
  piece.storage = storage_;
  piece.begin = static_cast<int64_t>(small_.size()) - storage.size_bytes;
  piece.size_bytes = storage.size_bytes;
  small_pieces_.push_back(piece);
  if (small_.size() >= kSmallBatchBytes) SubmitSmall();
}

void Ingest::WriteLarge(const format::Storage& storage, ByteSpan& bytes) {
  if (buffer_ == nullptr) buffer_ = pool_.TakeBuffer();
  const int64_t chunk_begin = storage_filled_ - buffer_filled_;
  const int64_t chunk_size = std::min(format::kChunkBytes, storage.size_bytes - chunk_begin);
  const ByteSpan taken = bytes.subspan(0, static_cast<size_t>(chunk_size - buffer_filled_));
  bytes.remove_prefix(taken.size());
  std::memcpy(buffer_->data() + buffer_filled_, taken.data(), taken.size());
  buffer_filled_ += static_cast<int64_t>(taken.size());
  storage_filled_ += static_cast<int64_t>(taken.size());
  if (buffer_filled_ == chunk_size) SubmitLarge(chunk_size);
}

void Ingest::SubmitSmall() {
  Submit([this, bytes = std::exchange(small_, {}), pieces = std::exchange(small_pieces_, {})]() mutable {
    return Process(pieces, bytes, nullptr);
  });
}

void Ingest::SubmitLarge(int64_t size_bytes) {
  Piece piece;
  piece.storage = storage_;
  piece.chunk = static_cast<uint32_t>((storage_filled_ - size_bytes) / format::kChunkBytes);
  piece.size_bytes = size_bytes;
  buffer_filled_ = 0;
  Submit([this, piece, buffer = std::move(buffer_)]() mutable {
    std::vector<Piece> pieces = {piece};
    absl::Status status =
        Process(pieces, ByteSpan(buffer->data(), static_cast<size_t>(piece.size_bytes)), buffer.get());
    pool_.GiveBack(std::move(buffer));
    return status;
  });
}

void Ingest::Submit(absl::AnyInvocable<absl::Status()> work) {
  {
    MutexLock lock(&mu_);
    ++in_work_;
  }
  pool_.Submit([this, work = std::move(work)]() mutable {
    absl::Status status = FirstError();
    if (status.ok()) status = work();
    work = nullptr;  // its memory goes before the push may end
    MutexLock lock(&mu_);
    error_.Update(status);
    if (--in_work_ == 0) idle_.SignalAll();
  });
}

absl::Status Ingest::Process(std::vector<Piece>& pieces, ByteSpan bytes, blob::AlignedBuffer* buffer) {
  SCONCE_RETURN_IF_ERROR(RecordDigests(pieces, bytes));
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
    SCONCE_RETURN_IF_ERROR(Place(piece, bytes, buffer, good));
  }
  return absl::OkStatus();
}

// Hashes the pieces, checks them against what the manifest claims, and marks those that this push has not seen before.
absl::Status Ingest::RecordDigests(std::vector<Piece>& pieces, ByteSpan bytes) {
  for (Piece& piece : pieces) {
    const ByteSpan content = bytes.subspan(static_cast<size_t>(piece.begin), static_cast<size_t>(piece.size_bytes));
    piece.digest = Sha256(content);
    piece.xxh3 = Xxh3(content);
    format::Chunk& chunk = manifest_.storages[piece.storage].chunks[piece.chunk];
    if (claimed_[piece.storage] && (chunk.sha256 != piece.digest || chunk.xxh3 != piece.xxh3)) {
      return MakeError(Reason::DIGEST_MISMATCH,
                       absl::StrCat("the bytes of storage ", piece.storage, ", chunk ", piece.chunk, " have SHA-256 ",
                                    piece.digest.Hex(), ", not ", chunk.sha256.Hex(),
                                    " as the manifest says; read the file again and push again"));
    }
    chunk = {piece.digest, piece.xxh3};
  }
  MutexLock lock(&mu_);
  for (Piece& piece : pieces) {
    piece.first = chunks_.emplace(piece.digest, PlacedChunk{piece.xxh3, piece.size_bytes, true, 0}).second;
    if (!piece.first) deduplicated_bytes_ += piece.size_bytes;
  }
  return absl::OkStatus();
}

absl::Status Ingest::Place(const Piece& piece, ByteSpan bytes, blob::AlignedBuffer* buffer, bool stored) {
  if (stored) {
    MutexLock lock(&mu_);
    deduplicated_bytes_ += piece.size_bytes;
    return absl::OkStatus();
  }
  const auto appended = buffer != nullptr ? writer_->Append(*buffer, piece.size_bytes, true)
                                          : writer_->AppendPacked(bytes.subspan(static_cast<size_t>(piece.begin),
                                                                                static_cast<size_t>(piece.size_bytes)));
  SCONCE_RETURN_IF_ERROR(appended.status());
  MutexLock lock(&mu_);
  PlacedChunk& placed = chunks_[piece.digest];
  placed.shared = false;
  placed.offset = *appended;
  stored_bytes_ += piece.size_bytes;
  return absl::OkStatus();
}

absl::Status Ingest::Finish() {
  SCONCE_RETURN_IF_ERROR(FirstError());
  if (received_bytes_ < expected_bytes_) {
    return MakeError(Reason::UPLOAD_INCOMPLETE,
                     absl::StrCat("only ", received_bytes_, " of ", expected_bytes_,
                                  " bytes were sent; send the rest, or push again"),
                     {{"received", absl::StrCat(received_bytes_)}, {"expected", absl::StrCat(expected_bytes_)}});
  }
  if (!small_pieces_.empty()) SubmitSmall();
  MutexLock lock(&mu_);
  while (in_work_ > 0) idle_.Wait(&mu_);
  return error_;
}

}  // namespace sconce::repository
