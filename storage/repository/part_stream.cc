#include "storage/repository/part_stream.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/repository/chunk_feed.h"

namespace sconce::repository {
namespace {

class LocalPartStream final : public PartStream {
 public:
  LocalPartStream(std::shared_ptr<Store> store, IngestPool& pool, std::unique_ptr<IngestPool::Slot> slot,
                  std::shared_ptr<PartSession> session, DurableCallback durable)
      : store_(std::move(store)),
        slot_(std::move(slot)),
        session_(std::move(session)),
        durable_(session_->Durable()),
        sink_(std::make_shared<DurableSink>(std::move(durable))),
        feed_(pool, session_->layout(),
              [this](absl::Span<const FedChunk> chunks, ByteSpan bytes, blob::AlignedBuffer* buffer) {
                return Take(chunks, bytes, buffer);
              }) {}

  ~LocalPartStream() override {
    sink_->Close();
    Flush().IgnoreError();  // what arrived whole is worth keeping
  }

  int64_t chunk_count() const override { return session_->layout().count(); }
  const std::vector<ChunkRange>& durable() const override { return durable_; }

  absl::StatusOr<std::vector<ChunkVerdict>> Propose(absl::Span<const ChunkProposal> proposals) override {
    std::vector<ChunkVerdict> verdicts;
    for (const ChunkProposal& proposal : proposals) {
      SCONCE_RETURN_IF_ERROR(CheckNumber(proposal.chunk));
      if (const int64_t size_bytes = session_->layout().At(proposal.chunk).size_bytes;
          proposal.size_bytes != size_bytes) {
        return MakeError(Reason::ARGUMENT_INVALID,
                         absl::StrCat("chunk ", proposal.chunk, " was proposed with ", proposal.size_bytes,
                                      " bytes; by the part's manifest it has ", size_bytes));
      }
      SCONCE_ASSIGN_OR_RETURN(const ChunkVerdict verdict, session_->Propose(proposal.chunk, proposal.xxh3));
      verdicts.push_back(verdict);
      if (verdict == ChunkVerdict::kHave) continue;
      MutexLock lock(&mu_);
      announced_[proposal.chunk] = proposal.xxh3;
    }
    return verdicts;
  }

  absl::StatusOr<std::vector<ChunkVerdict>> Prove(absl::Span<const ChunkProof> proofs) override {
    std::vector<PartSession::Claim> claims;
    for (const ChunkProof& proof : proofs) {
      SCONCE_RETURN_IF_ERROR(CheckNumber(proof.chunk));
      const std::optional<Fingerprint> xxh3 = Announced(proof.chunk);
      if (!xxh3) {
        return MakeError(Reason::STREAM_PROTOCOL_VIOLATED,
                         absl::StrCat("chunk ", proof.chunk,
                                      " was proved without having been proposed, or after it "
                                      "was sent; propose it on this stream first"));
      }
      claims.push_back({proof.chunk, *xxh3, proof.sha256});
    }
    return session_->Prove(claims);
  }

  absl::Status Write(int64_t chunk, int64_t offset, ByteSpan bytes) override {
    SCONCE_RETURN_IF_ERROR(CheckNumber(chunk));
    const bool begun = feed_.offset() > 0;
    if (begun ? chunk != feed_.chunk() || offset != feed_.offset() : offset != 0) {
      return MakeError(
          Reason::OFFSET_MISMATCH,
          begun ? absl::StrCat("bytes of chunk ", chunk, " at ", offset, " were sent while the stream stands in chunk ",
                               feed_.chunk(), " at ", feed_.offset(), "; bring that chunk to its end first")
                : absl::StrCat("bytes of chunk ", chunk, " at ", offset, " were sent; begin a chunk at 0"));
    }
    SCONCE_RETURN_IF_ERROR(CheckRoomFor(chunk, offset, static_cast<int64_t>(bytes.size())));
    if (!begun) feed_.Seek(chunk);
    return feed_.Write(bytes);
  }

  absl::Status Flush() override {
    SCONCE_RETURN_IF_ERROR(feed_.Flush());
    return session_->Sync();
  }

 private:
  absl::Status CheckNumber(int64_t chunk) const {
    if (chunk >= 0 && chunk < chunk_count()) return absl::OkStatus();
    return MakeError(
        Reason::OFFSET_OUT_OF_RANGE,
        absl::StrCat("the part has ", chunk_count(), " chunks, numbered from 0; there is no chunk ", chunk),
        {{"chunk", absl::StrCat(chunk)}});
  }

  // Whether so many bytes are there from this place on.
  absl::Status CheckRoomFor(int64_t chunk, int64_t offset, int64_t size_bytes) const {
    int64_t room = -offset;
    for (; room < size_bytes && chunk < chunk_count(); ++chunk) room += session_->layout().At(chunk).size_bytes;
    if (room >= size_bytes) return absl::OkStatus();
    return MakeError(Reason::OFFSET_OUT_OF_RANGE,
                     absl::StrCat(size_bytes, " bytes were sent where the part's chunks end after ", room));
  }

  std::optional<Fingerprint> Announced(int64_t chunk) {
    MutexLock lock(&mu_);
    const auto found = announced_.find(chunk);
    if (found == announced_.end()) return std::nullopt;
    return found->second;
  }

  absl::Status Take(absl::Span<const FedChunk> chunks, ByteSpan bytes, blob::AlignedBuffer* buffer) {
    std::vector<PartSession::Arrival> arrivals;
    for (const FedChunk& fed : chunks) {
      arrivals.push_back({fed.number,
                          bytes.subspan(static_cast<size_t>(fed.begin), static_cast<size_t>(fed.size_bytes)),
                          Announced(fed.number)});
    }
    SCONCE_RETURN_IF_ERROR(session_->Take(arrivals, buffer, sink_));
    MutexLock lock(&mu_);
    for (const FedChunk& fed : chunks) announced_.erase(fed.number);
    return absl::OkStatus();
  }

  const std::shared_ptr<Store> store_;
  const std::unique_ptr<IngestPool::Slot> slot_;  // before feed_: a stream ends when its work has
  const std::shared_ptr<PartSession> session_;
  const std::vector<ChunkRange> durable_;
  const std::shared_ptr<DurableSink> sink_;
  Mutex mu_;
  // Fingerprints of proposed chunks that did not come yet.
  absl::flat_hash_map<int64_t, Fingerprint> announced_ ABSL_GUARDED_BY(mu_);
  ChunkFeed feed_;  // last: its work uses the rest
};

}  // namespace

std::unique_ptr<PartStream> MakePartStream(std::shared_ptr<Store> store, IngestPool& pool,
                                           std::unique_ptr<IngestPool::Slot> slot, std::shared_ptr<PartSession> session,
                                           DurableCallback durable) {
  return std::make_unique<LocalPartStream>(std::move(store), pool, std::move(slot), std::move(session),
                                           std::move(durable));
}

}  // namespace sconce::repository
