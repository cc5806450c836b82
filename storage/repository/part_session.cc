#include "storage/repository/part_session.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/chunk_index.h"

namespace sconce::repository {
namespace {

// So many bytes wait for a sync at most, more or less: what a killed server or a slow client loses.
constexpr int64_t kSyncBytes = int64_t{32} << 20;
constexpr size_t kJournalBatch = 2000;  // entries

absl::Status OtherContent(int64_t chunk) {
  return MakeError(Reason::DIGEST_MISMATCH,
                   absl::StrCat("chunk ", chunk,
                                " has other content than was stored for this upload before; abort the "
                                "upload if the checkpoint has changed, and begin a new one"),
                   {{"chunk", absl::StrCat(chunk)}});
}

}  // namespace

void DurableSink::Report(std::vector<int64_t> chunks) {
  if (chunks.empty()) return;
  MutexLock lock(&mu_);
  if (callback_) callback_(ToRanges(std::move(chunks)));
}

void DurableSink::Close() {
  MutexLock lock(&mu_);
  callback_ = nullptr;
}

PartSession::PartSession(Store& store, UploadRef ref, const FoundUpload& upload, int64_t part, Digest manifest_digest,
                         const format::Manifest& manifest, PartJournal journal,
                         std::unique_ptr<blob::BlobWriter> writer)
    : store_(store),
      ref_(std::move(ref)),
      project_uid_(upload.project_uid()),
      owner_(upload.owner()),
      upload_key_(upload.upload.key),
      part_(part),
      manifest_digest_(manifest_digest),
      layout_(manifest),
      next_sequence_(journal.next_sequence),
      writer_(std::move(writer)),
      chunks_(std::move(journal.chunks)) {
  for (const PartChunk& chunk : chunks_) {
    if (!chunk.settled) continue;
    auto placement = std::make_shared<Placement>();
    placement->state = Placement::State::kPlaced;
    placement->content = chunk;
    placements_.emplace(chunk.sha256, std::move(placement));
    settled_xxh3_.insert(chunk.xxh3);
  }
}

PartSession::~PartSession() {
  for (const auto& [digest, placement] : placements_) {
    if (placement->pinned) store_.pins.Unpin(project_uid_, {digest});
  }
}

absl::Status PartSession::failure() const {
  MutexLock lock(&mu_);
  return failure_;
}

std::vector<ChunkRange> PartSession::Durable() const {
  MutexLock lock(&mu_);
  return SettledRanges(chunks_);
}

absl::Status PartSession::Begin() {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(failure_);
  ++in_work_;
  return absl::OkStatus();
}

void PartSession::End() {
  MutexLock lock(&mu_);
  --in_work_;
  changed_.SignalAll();
}

absl::Status PartSession::Fail(absl::Status status) {
  if (status.ok()) return status;
  MutexLock lock(&mu_);
  if (failure_.ok()) failure_ = status;
  changed_.SignalAll();
  return status;
}

std::unique_ptr<blob::BlobWriter> PartSession::Close() {
  MutexLock lock(&mu_);
  const bool usable = failure_.ok();
  if (usable) failure_ = UploadNotFound(ref_, "is being committed and takes nothing more");
  while (in_work_ > 0) changed_.Wait(&mu_);
  if (!usable) writer_.reset();  // after a failure it is of no use
  return std::move(writer_);
}

absl::StatusOr<ChunkVerdict> PartSession::Propose(int64_t chunk, const Fingerprint& xxh3) {
  {
    MutexLock lock(&mu_);
    SCONCE_RETURN_IF_ERROR(failure_);
    const PartChunk& known = chunks_[static_cast<size_t>(chunk)];
    if (known.settled) {
      if (known.xxh3 != xxh3) return OtherContent(chunk);
      return ChunkVerdict::kHave;
    }
    if (settled_xxh3_.contains(xxh3)) return ChunkVerdict::kProve;
  }
  SCONCE_ASSIGN_OR_RETURN(const bool candidate, HasFingerprint(*store_.catalog, project_uid_, xxh3));
  return candidate ? ChunkVerdict::kProve : ChunkVerdict::kSend;
}

absl::StatusOr<std::vector<bool>> PartSession::PinStored(absl::Span<const PartChunk> contents,
                                                         absl::Span<const int64_t> sizes) {
  std::vector<Digest> digests;
  std::vector<std::string> keys;
  for (const PartChunk& content : contents) {
    digests.push_back(content.sha256);
    keys.push_back(catalog::ChunkKey(project_uid_, content.sha256));
  }
  store_.pins.Pin(project_uid_, digests);
  std::vector<bool> stored(contents.size());
  absl::Status parsed;
  auto values = store_.catalog->MultiGet(keys);
  for (size_t i = 0; values.ok() && i < contents.size(); ++i) {
    if (!(*values)[i]) continue;
    const auto record = ParseRecord<records::ChunkRecord>(*(*values)[i]);
    parsed.Update(record.status());
    stored[i] =
        record.ok() && !record->bad() && record->size_bytes() == sizes[i] && FingerprintOf(*record) == contents[i].xxh3;
  }
  parsed.Update(values.status());
  for (size_t i = 0; i < contents.size(); ++i) {
    if (!parsed.ok()) stored[i] = false;
    if (!stored[i]) store_.pins.Unpin(project_uid_, {digests[i]});
  }
  SCONCE_RETURN_IF_ERROR(parsed);
  return stored;
}

absl::StatusOr<std::vector<ChunkVerdict>> PartSession::Prove(absl::Span<const Claim> claims) {
  SCONCE_RETURN_IF_ERROR(Begin());
  const auto end = absl::MakeCleanup([this] { End(); });
  std::vector<ChunkVerdict> verdicts(claims.size(), ChunkVerdict::kSend);
  std::vector<Waiting> waiting;
  std::vector<size_t> asked;  // claims that the project has to answer
  std::vector<PartChunk> contents;
  std::vector<int64_t> sizes;
  {
    MutexLock lock(&mu_);
    for (size_t i = 0; i < claims.size(); ++i) {
      const Claim& claim = claims[i];
      const PartChunk& known = chunks_[static_cast<size_t>(claim.chunk)];
      if (known.settled) {
        if (known.sha256 != claim.sha256) return OtherContent(claim.chunk);
        verdicts[i] = ChunkVerdict::kHave;
        continue;
      }
      const auto own = placements_.find(claim.sha256);
      if (own != placements_.end()) {
        // Durable already, or not the answer: what is still on its way may get lost.
        const Placement& placement = *own->second;
        if (placement.state == Placement::State::kPlaced && placement.content.settled &&
            placement.content.xxh3 == claim.xxh3) {
          waiting.push_back({claim.chunk, own->second, nullptr});
        }
        continue;
      }
      PartChunk content;
      content.sha256 = claim.sha256;
      content.xxh3 = claim.xxh3;
      content.shared = true;
      asked.push_back(i);
      contents.push_back(content);
      sizes.push_back(layout_.At(claim.chunk).size_bytes);
    }
  }
  SCONCE_ASSIGN_OR_RETURN(const std::vector<bool> stored, PinStored(contents, sizes));
  std::vector<Digest> pinned;
  for (size_t i = 0; i < asked.size(); ++i) {
    if (!stored[i]) continue;
    auto placement = std::make_shared<Placement>();
    placement->state = Placement::State::kPlaced;
    placement->content = contents[i];
    waiting.push_back({claims[asked[i]].chunk, std::move(placement), nullptr});
    pinned.push_back(contents[i].sha256);
  }
  const absl::StatusOr<std::vector<int64_t>> journalled = Journal(waiting);
  store_.pins.Unpin(project_uid_, pinned);
  SCONCE_RETURN_IF_ERROR(Fail(journalled.status()));
  const absl::flat_hash_set<int64_t> have(journalled->begin(), journalled->end());
  for (size_t i = 0; i < claims.size(); ++i) {
    if (have.contains(claims[i].chunk)) verdicts[i] = ChunkVerdict::kHave;
  }
  return verdicts;
}

absl::Status PartSession::Hash(absl::Span<const Arrival> arrivals, std::vector<PartChunk>& contents) const {
  for (const Arrival& arrival : arrivals) {
    PartChunk content;
    content.sha256 = Sha256(arrival.content);
    content.xxh3 = Xxh3(arrival.content);
    if (arrival.announced && *arrival.announced != content.xxh3) {
      return MakeError(
          Reason::DIGEST_MISMATCH,
          absl::StrCat("the bytes of chunk ", arrival.chunk, " have XXH3-128 ", content.xxh3.Hex(), ", not ",
                       arrival.announced->Hex(), " as was proposed; read the file again and send it again"),
          {{"chunk", absl::StrCat(arrival.chunk)}});
    }
    contents.push_back(content);
  }
  return absl::OkStatus();
}

absl::Status PartSession::Take(absl::Span<const Arrival> arrivals, blob::AlignedBuffer* buffer,
                               const std::shared_ptr<DurableSink>& sink) {
  std::vector<PartChunk> contents;
  SCONCE_RETURN_IF_ERROR(Hash(arrivals, contents));
  SCONCE_RETURN_IF_ERROR(Begin());
  absl::Status status = TakeHashed(arrivals, contents, buffer, sink);
  End();
  SCONCE_RETURN_IF_ERROR(status);
  {
    MutexLock lock(&mu_);
    if (waiting_bytes_ < kSyncBytes) return absl::OkStatus();
    waiting_bytes_ = 0;  // this thread sees to it
  }
  return Sync();
}

absl::Status PartSession::TakeHashed(absl::Span<const Arrival> arrivals, absl::Span<const PartChunk> contents,
                                     blob::AlignedBuffer* buffer, const std::shared_ptr<DurableSink>& sink) {
  std::vector<Waiting> waiting;
  std::vector<int64_t> settled;
  std::vector<Arrival> mine;  // those whose content this call places
  std::vector<PlacementPtr> to_place;
  {
    MutexLock lock(&mu_);
    for (size_t i = 0; i < arrivals.size(); ++i) {
      const PartChunk& known = chunks_[static_cast<size_t>(arrivals[i].chunk)];
      if (known.settled && known.sha256 != contents[i].sha256) return OtherContent(arrivals[i].chunk);
    }
    for (size_t i = 0; i < arrivals.size(); ++i) {
      if (chunks_[static_cast<size_t>(arrivals[i].chunk)].settled) {
        settled.push_back(arrivals[i].chunk);
        continue;
      }
      PlacementPtr& placement = placements_[contents[i].sha256];
      if (placement == nullptr) {
        placement = std::make_shared<Placement>();
        placement->content = contents[i];
        mine.push_back(arrivals[i]);
        to_place.push_back(placement);
      }
      waiting.push_back({arrivals[i].chunk, placement, sink});
    }
  }
  const absl::Status placed = Fail(Place(mine, to_place, buffer));
  {
    MutexLock lock(&mu_);
    if (!placed.ok()) {
      for (const PlacementPtr& placement : to_place) placement->state = Placement::State::kFailed;
    }
    changed_.SignalAll();
    SCONCE_RETURN_IF_ERROR(placed);
    // What another thread places is being written by now: that does not wait for anybody.
    for (Waiting& one : waiting) {
      while (one.placement->state == Placement::State::kWriting) changed_.Wait(&mu_);
      if (one.placement->state == Placement::State::kFailed) return failure_;
      waiting_bytes_ += layout_.At(one.chunk).size_bytes;
      waiting_.push_back(std::move(one));
    }
  }
  sink->Report(std::move(settled));
  return absl::OkStatus();
}

absl::Status PartSession::Place(absl::Span<const Arrival> arrivals, absl::Span<const PlacementPtr> placements,
                                blob::AlignedBuffer* buffer) {
  if (arrivals.empty()) return absl::OkStatus();
  std::vector<PartChunk> contents;
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < arrivals.size(); ++i) {
    contents.push_back(placements[i]->content);
    sizes.push_back(static_cast<int64_t>(arrivals[i].content.size()));
  }
  SCONCE_ASSIGN_OR_RETURN(const std::vector<bool> stored, PinStored(contents, sizes));
  absl::Status written;
  for (size_t i = 0; i < arrivals.size(); ++i) {
    int64_t offset = 0;
    if (!stored[i] && written.ok()) {
      const auto appended =
          buffer != nullptr ? writer_->Append(*buffer, sizes[i], true) : writer_->AppendPacked(arrivals[i].content);
      written.Update(appended.status());
      offset = appended.value_or(0);
    }
    MutexLock lock(&mu_);
    Placement& placement = *placements[i];
    placement.pinned = stored[i];
    placement.content.shared = stored[i];
    placement.content.offset = offset;
    if (written.ok()) placement.state = Placement::State::kPlaced;
  }
  return written;
}

absl::Status PartSession::Sync() {
  SCONCE_RETURN_IF_ERROR(Begin());
  const auto end = absl::MakeCleanup([this] { End(); });
  MutexLock one_at_a_time(&sync_mu_);
  std::vector<Waiting> waiting;
  {
    MutexLock lock(&mu_);
    waiting.swap(waiting_);
    waiting_bytes_ = 0;
  }
  if (waiting.empty()) return absl::OkStatus();
  const bool wrote = std::any_of(waiting.begin(), waiting.end(), [](const Waiting& one) {
    return !one.placement->content.shared;  // set before it was put there
  });
  if (wrote) SCONCE_RETURN_IF_ERROR(Fail(writer_->Sync()));
  const auto journalled = Journal(waiting);
  SCONCE_RETURN_IF_ERROR(Fail(journalled.status()));
  const absl::flat_hash_set<int64_t> durable(journalled->begin(), journalled->end());
  absl::flat_hash_map<DurableSink*, std::vector<int64_t>> reports;
  for (const Waiting& one : waiting) {
    if (durable.contains(one.chunk)) reports[one.sink.get()].push_back(one.chunk);
  }
  for (auto& [sink, chunks] : reports) sink->Report(std::move(chunks));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> PartSession::Journal(absl::Span<const Waiting> waiting) {
  std::vector<int64_t> durable;
  for (size_t begin = 0; begin < waiting.size(); begin += kJournalBatch) {
    const absl::Span<const Waiting> batch = waiting.subspan(begin, kJournalBatch);
    SCONCE_ASSIGN_OR_RETURN(const std::vector<bool> journalled, ApplyJournal(batch));
    Settle(batch, journalled);
    for (size_t i = 0; i < batch.size(); ++i) {
      if (journalled[i]) durable.push_back(batch[i].chunk);
    }
  }
  return durable;
}

absl::StatusOr<std::vector<bool>> PartSession::ApplyJournal(absl::Span<const Waiting> waiting) {
  const int64_t sequence = next_sequence_++;
  return RetryOnConflict([&]() -> absl::StatusOr<std::vector<bool>> {
    std::vector<bool> journalled(waiting.size());
    catalog::ChangeSet change;
    SCONCE_ASSIGN_OR_RETURN(auto upload, ReadRecord<records::UploadRecord>(*store_.catalog, upload_key_));
    if (!upload || upload->record.uid() != owner_.number) return UploadNotFound(ref_, "was aborted, or expired");
    SCONCE_RETURN_IF_ERROR(CheckOpen(ref_, upload->record));
    change.conditions.push_back(upload->Unchanged());
    const int64_t now = store_.NowNanos();
    if (now - upload->record.touch_time_ns() >= absl::ToInt64Nanoseconds(kTouchInterval)) {
      upload->record.set_touch_time_ns(now);
      change.puts.emplace_back(upload_key_, upload->record.SerializeAsString());
    }
    std::vector<std::string> keys;
    for (const Waiting& one : waiting) {
      if (one.placement->content.shared) keys.push_back(catalog::ChunkKey(project_uid_, one.placement->content.sha256));
    }
    SCONCE_ASSIGN_OR_RETURN(const auto values, store_.catalog->MultiGet(keys));
    records::JournalRecord record;
    size_t next = 0;
    for (size_t i = 0; i < waiting.size(); ++i) {
      const PartChunk& content = waiting[i].placement->content;
      if (content.shared) {
        const std::optional<std::string>& value = values[next];
        std::string& key = keys[next++];
        if (!value) continue;
        SCONCE_ASSIGN_OR_RETURN(const auto chunk, ParseRecord<records::ChunkRecord>(*value));
        if (chunk.bad()) continue;
        change.conditions.push_back({std::move(key), value});
        change.puts.emplace_back(catalog::ReferenceKey(project_uid_, content.sha256, owner_), "");
      }
      AddEntry(waiting[i].chunk, content, layout_.At(waiting[i].chunk).size_bytes, record);
      journalled[i] = true;
    }
    if (record.entries_size() == 0) return journalled;
    change.puts.emplace_back(catalog::JournalKey(owner_.number, part_, sequence), record.SerializeAsString());
    SCONCE_RETURN_IF_ERROR(store_.catalog->Apply(change).status());
    return journalled;
  });
}

void PartSession::Settle(absl::Span<const Waiting> waiting, const std::vector<bool>& journalled) {
  std::vector<Digest> unpinned;
  {
    MutexLock lock(&mu_);
    for (size_t i = 0; i < waiting.size(); ++i) {
      Placement& placement = *waiting[i].placement;
      if (std::exchange(placement.pinned, false)) unpinned.push_back(placement.content.sha256);
      if (!journalled[i]) {  // its content has to come again
        placements_.erase(placement.content.sha256);
        continue;
      }
      placement.content.settled = true;
      chunks_[static_cast<size_t>(waiting[i].chunk)] = placement.content;
      settled_xxh3_.insert(placement.content.xxh3);
      placements_.emplace(placement.content.sha256, waiting[i].placement);
    }
  }
  store_.pins.Unpin(project_uid_, unpinned);
}

}  // namespace sconce::repository
