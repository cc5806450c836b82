// The client's side of UploadChunks (transfer_service.proto). The calling thread reads, hashes and writes; a second one
// takes the server's answers as they come, so that neither side ever waits for the other to read.
//
//  1. Start, the manifest; wait for the first answer, which says what is settled already.
//  2. Read what is not, front to back, and propose it: XXH3-128 only. Chunks wait in a window for their verdict.
//  3. HAVE lets a chunk go. PROVE costs its SHA-256, and it waits on. SEND puts its bytes on the wire.
//  4. Whenever there is nothing to do but wait, what is collected for a fuller message goes out as it is.
#include "client/cpp/part_upload.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "proto/wire/limits.h"
#include "proto/wire/status.h"
#include "proto/wire/upload_message.h"
#include "storage/format/manifest_codec.h"

namespace sconce::client {
namespace {

// Chunks that wait for a verdict or to be sent. Enough to keep a fast link with some round trip busy.
constexpr int64_t kWindowBytes = int64_t{64} << 20;
constexpr size_t kWindowChunks = 16'384;
// A message of proposals goes when it has so many, or stands for so many bytes.
constexpr int kProposalsPerMessage = 1'024;
constexpr int64_t kBytesPerProposals = int64_t{16} << 20;
// Small enough to be still in the processor's cache when it is hashed after it was checked.
constexpr size_t kReadBytes = size_t{1} << 20;

// Takes the server's messages on a thread of its own until the call is over.
class AnswerReader {
 public:
  explicit AnswerReader(RawStream& stream) : stream_(stream), thread_([this] { ReadAll(); }) {}
  // The call must be ending: it waits for that.
  ~AnswerReader() { thread_.join(); }

  // The next message; nullopt when there is none now, or, having waited, when the call is over.
  std::optional<v1::UploadChunksResponse> Next(bool wait) {
    MutexLock lock(&mu_);
    while (wait && answers_.empty() && !over_) changed_.Wait(&mu_);
    if (answers_.empty()) return std::nullopt;
    std::optional<v1::UploadChunksResponse> answer = std::move(answers_.front());
    answers_.pop_front();
    return answer;
  }
  // What made it stop reading, if it was no end of the call.
  absl::Status status() {
    MutexLock lock(&mu_);
    return status_;
  }

 private:
  void ReadAll() {
    for (grpc::ByteBuffer buffer; stream_.Read(buffer); buffer.Clear()) {
      v1::UploadChunksResponse answer;
      const absl::Status status = wire::DecodeMessage(buffer, answer);
      if (!status.ok()) stream_.context().TryCancel();
      MutexLock lock(&mu_);
      if (!status.ok()) {
        status_ = status;
      } else {
        answers_.push_back(std::move(answer));
      }
      changed_.SignalAll();
    }
    MutexLock lock(&mu_);
    over_ = true;
    changed_.SignalAll();
  }

  RawStream& stream_;
  Mutex mu_;
  CondVar changed_;
  std::deque<v1::UploadChunksResponse> answers_ ABSL_GUARDED_BY(mu_);  // few: each answers something in the window
  bool over_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;  // last: it uses the rest
};

}  // namespace

// One stream's worth. Methods that return false found the call over: the stream knows why.
class PartUpload::Conversation {
 public:
  Conversation(PartUpload& part, RawStream& stream, AnswerReader& answers)
      : part_(part), stream_(stream), answers_(answers) {}

  // Everything up to the half-close. OK too when the call is over before.
  absl::Status Hold(bool send_manifest) {
    if (!Open(send_manifest)) return absl::OkStatus();
    SCONCE_ASSIGN_OR_RETURN(const bool opened, TakeFirstAnswer());
    if (!opened) return absl::OkStatus();
    for (const ChunkPlan::StorageChunks& storage : part_.plan_.storages()) {
      if (part_.plan_.IsSettled(storage)) continue;
      SCONCE_ASSIGN_OR_RETURN(const bool going, ProposeStorage(storage));
      if (!going) return absl::OkStatus();
    }
    while (!window_.empty()) {
      SCONCE_ASSIGN_OR_RETURN(const bool going, HandleAnswer(/*wait=*/true));
      if (!going) return absl::OkStatus();
    }
    Flush();
    return absl::OkStatus();
  }

  // After the half-close: what becomes durable until the end of the call.
  absl::Status TakeLastAnswers() {
    while (std::optional<v1::UploadChunksResponse> answer = answers_.Next(/*wait=*/true)) {
      SCONCE_RETURN_IF_ERROR(part_.plan_.Settle(answer->durable_chunks()));
    }
    return absl::OkStatus();
  }

 private:
  struct WaitingChunk {
    std::vector<wire::SharedBytes> pieces;
    int64_t size_bytes = 0;
  };

  bool Open(bool send_manifest) {
    v1::UploadChunksRequest first;
    first.mutable_start()->set_upload(part_.upload_);
    first.mutable_start()->set_part(part_.part_);
    if (send_manifest) first.mutable_start()->set_manifest_bytes(static_cast<int64_t>(part_.encoded_.bytes.size()));
    if (!stream_.Write(wire::EncodeMessage(first))) return false;
    if (!send_manifest) return true;
    for (ByteSpan rest = part_.encoded_.bytes; !rest.empty();) {
      const ByteSpan piece = rest.subspan(0, static_cast<size_t>(wire::kMaxManifestPieceBytes));
      if (!stream_.Write(wire::EncodeBulkManifest({piece, part_.encoded_.owner}))) return false;
      rest.remove_prefix(piece.size());
    }
    return true;
  }

  absl::StatusOr<bool> TakeFirstAnswer() {
    const std::optional<v1::UploadChunksResponse> first = answers_.Next(/*wait=*/true);
    if (!first.has_value()) return false;
    if (first->chunk_count() != part_.plan_.chunk_count()) {
      return MakeError(Reason::INTERNAL_ERROR,
                       absl::StrCat("the server counts ", first->chunk_count(), " chunks in this part, and here are ",
                                    part_.plan_.chunk_count()));
    }
    SCONCE_RETURN_IF_ERROR(part_.plan_.Settle(first->durable_chunks()));
    for (const ChunkPlan::StorageChunks& storage : part_.plan_.storages()) {
      for (int64_t i = 0; i < storage.count; ++i) {
        if (part_.plan_.IsSettled(storage.first + i)) done_bytes_ += ChunkSize(storage, i);
      }
    }
    ShowProgress();
    return true;
  }

  static int64_t ChunkSize(const ChunkPlan::StorageChunks& storage, int64_t index) {
    return std::min(format::kChunkBytes, storage.size_bytes - index * format::kChunkBytes);
  }

  // Reads a storage, all of it so that its checksum is checked, and proposes those chunks that are not settled.
  absl::StatusOr<bool> ProposeStorage(const ChunkPlan::StorageChunks& storage) {
    format::RecordReader reader(part_.source_.records[storage.storage]);
    for (int64_t i = 0; i < storage.count; ++i) {
      const int64_t chunk = storage.first + i;
      WaitingChunk read;
      Xxh3Hasher hasher;
      const bool settled = part_.plan_.IsSettled(chunk);
      for (int64_t left = ChunkSize(storage, i); left > 0;) {
        SCONCE_ASSIGN_OR_RETURN(format::RecordPiece piece,
                                reader.Next(static_cast<size_t>(std::min<int64_t>(left + 15, kReadBytes))));
        const auto size = static_cast<int64_t>(piece.bytes.size());
        left -= size;
        if (settled) continue;
        hasher.Update(piece.bytes);
        read.size_bytes += size;
        if (piece.owner == nullptr) piece.owner = part_.source_.owner;
        read.pieces.push_back({piece.bytes, std::move(piece.owner)});
      }
      if (settled) continue;
      SCONCE_ASSIGN_OR_RETURN(const bool going, Propose(chunk, hasher.Finish(), std::move(read)));
      if (!going) return false;
    }
    return true;
  }

  absl::StatusOr<bool> Propose(int64_t chunk, const Fingerprint& xxh3, WaitingChunk read) {
    while (!window_.empty() && (window_.size() >= kWindowChunks || window_bytes_ + read.size_bytes > kWindowBytes)) {
      SCONCE_ASSIGN_OR_RETURN(const bool going, HandleAnswer(/*wait=*/true));
      if (!going) return false;
    }
    v1::UploadChunksRequest::Proposal& proposal = *questions_.add_proposals();
    proposal.set_chunk(chunk);
    proposal.set_size_bytes(read.size_bytes);
    proposal.set_xxh3(std::string(ToStd(xxh3.AsKey())));
    proposed_bytes_ += read.size_bytes;
    window_bytes_ += read.size_bytes;
    window_.emplace(chunk, std::move(read));
    if (questions_.proposals_size() >= kProposalsPerMessage || proposed_bytes_ >= kBytesPerProposals) {
      if (!FlushQuestions()) return false;
    }
    return HandleAnswer(/*wait=*/false);
  }

  // Deals with one message of the server; without one there is nothing to do unless it is to `wait`.
  absl::StatusOr<bool> HandleAnswer(bool wait) {
    std::optional<v1::UploadChunksResponse> answer = answers_.Next(/*wait=*/false);
    if (!answer.has_value() && wait) {
      if (!Flush()) return false;
      answer = answers_.Next(/*wait=*/true);
      if (!answer.has_value()) return false;
    }
    if (!answer.has_value()) return true;
    SCONCE_RETURN_IF_ERROR(part_.plan_.Settle(answer->durable_chunks()));
    for (const v1::UploadChunksResponse::Verdict& verdict : answer->verdicts()) {
      SCONCE_ASSIGN_OR_RETURN(const bool going, Obey(verdict));
      if (!going) return false;
    }
    return questions_.proofs().empty() || FlushQuestions();
  }

  absl::StatusOr<bool> Obey(const v1::UploadChunksResponse::Verdict& verdict) {
    const auto found = window_.find(verdict.chunk());
    if (found == window_.end()) {
      return MakeError(Reason::INTERNAL_ERROR, absl::StrCat("the server gave a verdict on chunk ", verdict.chunk(),
                                                            ", which it was not asked about"));
    }
    WaitingChunk& chunk = found->second;
    if (verdict.action() == v1::UploadChunksResponse::Verdict::PROVE) {
      Sha256Hasher hasher;
      for (const wire::SharedBytes& piece : chunk.pieces) hasher.Update(piece.bytes);
      v1::UploadChunksRequest::Proof& proof = *questions_.add_proofs();
      proof.set_chunk(verdict.chunk());
      proof.set_sha256(std::string(ToStd(hasher.Finish().AsKey())));
      return true;
    }
    bool going = true;
    if (verdict.action() == v1::UploadChunksResponse::Verdict::SEND) {
      part_.sent_[static_cast<size_t>(verdict.chunk())] = true;
      going = Send(verdict.chunk(), chunk);
    } else if (verdict.action() == v1::UploadChunksResponse::Verdict::HAVE) {
      part_.plan_.Settle(verdict.chunk());
    } else {
      return MakeError(Reason::INTERNAL_ERROR,
                       "the server gave a verdict that this client does not know; use a newer one");
    }
    done_bytes_ += chunk.size_bytes;
    window_bytes_ -= chunk.size_bytes;
    window_.erase(found);
    ShowProgress();
    return going;
  }

  // Puts a chunk behind what waits to be sent, and sends what fills messages.
  bool Send(int64_t chunk, const WaitingChunk& bytes) {
    if (chunk != next_chunk_ && !FlushData()) return false;
    if (data_bytes_ == 0) {
      data_chunk_ = chunk;
      data_offset_ = 0;
    }
    int64_t offset = 0;  // of the next byte in its chunk
    for (const wire::SharedBytes& piece : bytes.pieces) {
      for (ByteSpan rest = piece.bytes; !rest.empty();) {
        const ByteSpan part = rest.subspan(0, static_cast<size_t>(wire::kMaxBulkDataBytes - data_bytes_));
        data_.push_back({part, piece.owner});
        data_bytes_ += static_cast<int64_t>(part.size());
        offset += static_cast<int64_t>(part.size());
        rest.remove_prefix(part.size());
        if (data_bytes_ < wire::kMaxBulkDataBytes) continue;
        if (!FlushData()) return false;
        data_chunk_ = chunk;
        data_offset_ = offset;
        if (offset == bytes.size_bytes) {
          data_chunk_ = chunk + 1;
          data_offset_ = 0;
        }
      }
    }
    next_chunk_ = chunk + 1;
    return true;
  }

  bool FlushData() {
    if (data_bytes_ == 0) return true;
    const grpc::ByteBuffer message = wire::EncodeChunkData(data_chunk_, data_offset_, data_);
    if (!stream_.Write(message)) return false;
    part_.report_.sent_bytes += data_bytes_;
    data_.clear();
    data_bytes_ = 0;
    return true;
  }

  bool FlushQuestions() {
    if (questions_.proposals().empty() && questions_.proofs().empty()) return true;
    const grpc::ByteBuffer message = wire::EncodeMessage(questions_);
    questions_.Clear();
    proposed_bytes_ = 0;
    return stream_.Write(message);
  }

  bool Flush() { return FlushQuestions() && FlushData(); }

  void ShowProgress() {
    if (part_.progress_) part_.progress_(done_bytes_, part_.plan_.bulk_bytes());
  }

  PartUpload& part_;
  RawStream& stream_;
  AnswerReader& answers_;
  int64_t done_bytes_ = 0;

  v1::UploadChunksRequest questions_;  // proposals and proofs that wait to be sent
  int64_t proposed_bytes_ = 0;         // that its proposals stand for
  absl::flat_hash_map<int64_t, WaitingChunk> window_;
  int64_t window_bytes_ = 0;

  std::vector<wire::SharedBytes> data_;  // that waits to fill a message
  int64_t data_bytes_ = 0;
  int64_t data_chunk_ = 0, data_offset_ = 0;  // where it begins
  int64_t next_chunk_ = -1;                   // the chunk that may follow in the same message
};

PartUpload::PartUpload(std::string upload, int part, const format::Manifest& manifest, const PushSource& source,
                       const Progress& progress)
    : upload_(std::move(upload)),
      part_(part),
      manifest_(manifest),
      source_(source),
      progress_(progress),
      encoded_(wire::Share(format::EncodeManifest(manifest_))),
      manifest_sha256_(Sha256(encoded_.bytes).Hex()),
      plan_(manifest_),
      sent_(static_cast<size_t>(plan_.chunk_count())) {
  report_.bulk_bytes = plan_.bulk_bytes();
}

absl::Status PartUpload::Run(RawStream& stream, bool send_manifest) {
  absl::Status status;
  {
    AnswerReader answers(stream);
    Conversation conversation(*this, stream, answers);
    status = conversation.Hold(send_manifest);
    if (status.ok()) {
      stream.WritesDone();
      status = conversation.TakeLastAnswers();
    }
    if (!status.ok()) stream.context().TryCancel();
    if (status.ok()) status = answers.status();
  }
  const absl::Status ended = wire::FromGrpcStatus(stream.Finish());
  if (!status.ok()) return status;
  if (!ended.ok()) return ended;
  report_.reused_bytes = 0;
  for (const ChunkPlan::StorageChunks& storage : plan_.storages()) {
    for (int64_t i = 0; i < storage.count; ++i) {
      if (sent_[static_cast<size_t>(storage.first + i)]) continue;
      report_.reused_bytes += std::min(format::kChunkBytes, storage.size_bytes - i * format::kChunkBytes);
    }
  }
  if (plan_.settled_chunks() == plan_.chunk_count()) return absl::OkStatus();
  return MakeError(Reason::INTERNAL_ERROR, absl::StrCat("the server ended the stream with ", plan_.settled_chunks(),
                                                        " of ", plan_.chunk_count(), " chunks durable"));
}

}  // namespace sconce::client
