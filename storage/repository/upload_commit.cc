// How an upload becomes a version, exactly once:
//
//   1. All parts are read from their records, and must be complete; what they share must be good. Their manifests, now
//      with digests, are united.
//   2. The version's number is reserved, and the upload turns COMMITTING with the record that the footers will carry:
//   one
//      batch. From here on its parts take nothing more, so every later attempt, also after a restart, makes the same.
//   3. The blobs of the other parts are sealed: chunk table, and which part of which version it is.
//   4. The place of the manifest is recorded with the upload, then part 0's blob is sealed with the version's footer.
//   It is
//      the last, so that a footer found by a rebuild always has all its chunks.
//   5. One batch adds everything that a push's batch adds (commit.cc) and turns the upload COMMITTED, with the
//   tombstone
//      from which the collector drops pins, journals and parts.
//
// Whoever comes after a crash finds: OPEN, and begins with 1; COMMITTING, and seals what is not sealed yet; COMMITTED,
// and answers. An upload that nobody commits again is aborted when it expires, its sealed blobs are removed, and its
// number is a gap.
#include "storage/repository/upload_commit.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/manifest_codec.h"
#include "storage/format/merge_manifests.h"
#include "storage/repository/names.h"
#include "storage/repository/request_ids.h"
#include "storage/repository/run_creation.h"

namespace sconce::repository {
namespace {

constexpr size_t kNamedParts = 10;  // in an error

}  // namespace

absl::StatusOr<Checkpoint> UploadCommit::Run() {
  SCONCE_RETURN_IF_ERROR(LoadParts());
  SCONCE_RETURN_IF_ERROR(CheckComplete());
  SCONCE_RETURN_IF_ERROR(CheckShared());
  SCONCE_RETURN_IF_ERROR(MakeContents());
  SCONCE_RETURN_IF_ERROR(MakeManifest());
  // Asked again in the batch; asking here too spares a retry its version number.
  catalog::ChangeSet unused;
  SCONCE_ASSIGN_OR_RETURN(const auto answered, ClaimRequest(*store_.catalog, found_.project_uid(), options_.request,
                                                            body_, store_.NowNanos(), {}, unused));
  if (answered) return AnswerAs(*answered);
  SCONCE_RETURN_IF_ERROR(Reserve());
  SCONCE_RETURN_IF_ERROR(SealParts());
  SCONCE_RETURN_IF_ERROR(SealFirst());
  return Publish();
}

absl::Status UploadCommit::Refresh(records::UploadState state) {
  SCONCE_ASSIGN_OR_RETURN(FoundUpload now, FindUpload(*store_.catalog, ref_));
  if (now.uid() != found_.uid()) return UploadNotFound(ref_, "was aborted, or expired");
  if (now.upload.record.state() != state) return UploadNotFound(ref_, "was aborted, or expired");
  found_ = std::move(now);
  return absl::OkStatus();
}

absl::Status UploadCommit::LoadParts() {
  parts_.resize(static_cast<size_t>(found_.upload.record.expected_parts()));
  for (size_t p = 0; p < parts_.size(); ++p) {
    const auto number = static_cast<int64_t>(p);
    SCONCE_ASSIGN_OR_RETURN(auto begun, ReadPart(store_, found_, number));
    if (!begun) continue;
    Part part;
    part.blob = ToBlobId(found_.project_uid(), begun->record.blob_id());
    SCONCE_ASSIGN_OR_RETURN(part.journal,
                            ReadJournal(*store_.catalog, found_.uid(), number, begun->record.chunk_count()));
    part.begun = *std::move(begun);
    parts_[p] = std::move(part);
  }
  return absl::OkStatus();
}

absl::Status UploadCommit::CheckComplete() const {
  std::vector<std::string> missing;
  size_t incomplete = 0;
  for (size_t p = 0; p < parts_.size(); ++p) {
    std::string what;
    if (!parts_[p]) {
      what = absl::StrCat("part ", p, " has not begun");
    } else {
      const std::vector<PartChunk>& chunks = parts_[p]->journal.chunks;
      const auto lacking = std::count_if(chunks.begin(), chunks.end(), [](const PartChunk& c) { return !c.settled; });
      if (lacking == 0) continue;
      const auto first = std::find_if(chunks.begin(), chunks.end(), [](const PartChunk& c) { return !c.settled; });
      what = absl::StrCat("part ", p, " lacks ", lacking, " of its ", chunks.size(), " chunks, the first being number ",
                          first - chunks.begin());
    }
    if (++incomplete <= kNamedParts) missing.push_back(std::move(what));
  }
  if (incomplete == 0) return absl::OkStatus();
  if (incomplete > kNamedParts) missing.push_back(absl::StrCat("and so do ", incomplete - kNamedParts, " more parts"));
  return MakeError(Reason::UPLOAD_INCOMPLETE,
                   absl::StrCat("the upload is not complete: ", absl::StrJoin(missing, "; "),
                                ": send what is missing, then commit again"),
                   {{"missing_parts", absl::StrCat(incomplete)}});
}

absl::Status UploadCommit::CheckShared() {
  std::vector<std::vector<int64_t>> lost(parts_.size());
  bool any = false;
  for (size_t p = 0; p < parts_.size(); ++p) {
    std::vector<int64_t> numbers;
    std::vector<std::string> keys;
    const std::vector<PartChunk>& chunks = parts_[p]->journal.chunks;
    for (size_t n = 0; n < chunks.size(); ++n) {
      if (!chunks[n].shared) continue;
      numbers.push_back(static_cast<int64_t>(n));
      keys.push_back(catalog::ChunkKey(found_.project_uid(), chunks[n].sha256));
    }
    SCONCE_ASSIGN_OR_RETURN(const auto values, store_.catalog->MultiGet(keys));
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i]) {
        SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ChunkRecord>(*values[i]));
        if (!record.bad()) continue;
      }
      lost[p].push_back(numbers[i]);
      any = true;
    }
  }
  return any ? DropLost(lost) : absl::OkStatus();
}

// Shared chunks were found corrupt: their content has to come from the client after all.
absl::Status UploadCommit::DropLost(const std::vector<std::vector<int64_t>>& lost) {
  if (found_.upload.record.state() == records::UPLOAD_STATE_COMMITTING) {
    // Some blobs are sealed and can take nothing more.
    SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
      SCONCE_RETURN_IF_ERROR(Refresh(records::UPLOAD_STATE_COMMITTING));
      catalog::ChangeSet change;
      change.conditions.push_back(found_.upload.Unchanged());
      EndUpload(found_, records::UPLOAD_STATE_ABORTED, 0, store_.NowNanos(), change);
      return store_.catalog->Apply(change).status();
    }));
    return MakeError(Reason::CHUNK_CORRUPT,
                     "a stored chunk that this upload shares was found corrupt while it was committed; the upload was "
                     "dropped: push again to store the content anew");
  }
  std::vector<std::string> named;
  for (size_t p = 0; p < lost.size(); ++p) {
    if (lost[p].empty()) continue;
    const auto number = static_cast<int64_t>(p);
    close_streams_(number);  // they take the chunk for settled
    SCONCE_ASSIGN_OR_RETURN(const PartJournal journal,
                            ReadJournal(*store_.catalog, found_.uid(), number, parts_[p]->begun.record.chunk_count()));
    records::JournalRecord record;
    for (const int64_t chunk : lost[p]) AddLoss(chunk, record);
    SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
      SCONCE_RETURN_IF_ERROR(Refresh(records::UPLOAD_STATE_OPEN));
      catalog::ChangeSet change;
      change.conditions.push_back(found_.upload.Unchanged());
      change.puts.emplace_back(catalog::JournalKey(found_.uid(), number, journal.next_sequence),
                               record.SerializeAsString());
      return store_.catalog->Apply(change).status();
    }));
    if (named.size() < kNamedParts) named.push_back(absl::StrCat(lost[p].size(), " of part ", p));
  }
  return MakeError(Reason::UPLOAD_INCOMPLETE,
                   absl::StrCat("stored chunks that the upload shares were found corrupt meanwhile (",
                                absl::StrJoin(named, ", "), "); send them, then commit again"));
}

absl::Status UploadCommit::MakeContents() {
  int64_t all_bytes = 0;
  for (size_t p = 0; p < parts_.size(); ++p) {
    const Part& part = *parts_[p];
    const ChunkLayout layout(part.begun.manifest);
    if (layout.count() != static_cast<int64_t>(part.journal.chunks.size())) {
      return MakeError(Reason::CATALOG_CORRUPT, absl::StrCat("the records of part ", p, " do not fit its manifest"));
    }
    blobs_.push_back(part.blob);
    for (size_t n = 0; n < part.journal.chunks.size(); ++n) {
      const PartChunk& chunk = part.journal.chunks[n];
      const PlacedChunk placed{chunk.xxh3, layout.At(static_cast<int64_t>(n)).size_bytes, chunk.shared, chunk.offset,
                               p};
      const auto [there, added] = chunks_.emplace(chunk.sha256, placed);
      if (!added && there->second.shared) there->second = placed;  // bytes of our own are the safer ones
      all_bytes += placed.size_bytes;
    }
  }
  for (const auto& [digest, placed] : chunks_) {
    if (!placed.shared) sizes_.stored_bytes += placed.size_bytes;
  }
  sizes_.deduplicated_bytes = all_bytes - sizes_.stored_bytes;
  return absl::OkStatus();
}

absl::Status UploadCommit::MakeManifest() {
  std::vector<const format::Manifest*> manifests;
  for (std::optional<Part>& part : parts_) {
    auto chunk = part->journal.chunks.begin();
    for (format::Storage& storage : part->begun.manifest.storages) {
      if (!format::IsBulk(storage)) continue;
      for (int64_t c = format::ChunkCount(storage.size_bytes); c > 0; --c, ++chunk) {
        storage.chunks.push_back({chunk->sha256, chunk->xxh3});
      }
    }
    manifests.push_back(&part->begun.manifest);
  }
  SCONCE_ASSIGN_OR_RETURN(format::MergedManifest merged, format::MergeManifests(manifests));
  manifest_ = std::move(merged.manifest);
  manifest_bytes_ = format::EncodeManifest(manifest_);
  body_ = PushBody(options_, Sha256(AsBytes(manifest_bytes_)));
  return absl::OkStatus();
}

absl::Status UploadCommit::Reserve() {
  if (found_.upload.record.state() == records::UPLOAD_STATE_COMMITTING) {
    record_ = found_.upload.record.checkpoint();
    return absl::OkStatus();
  }
  SCONCE_ASSIGN_OR_RETURN(const Attributes attributes, AttributesOf(options_, manifest_));
  return RetryOnConflict([&]() -> absl::Status {
    SCONCE_RETURN_IF_ERROR(Refresh(records::UPLOAD_STATE_OPEN));
    SCONCE_ASSIGN_OR_RETURN(auto run, ReadRecord<records::RunRecord>(*store_.catalog, catalog::RunKey(found_.run_uid)));
    if (!run) return RunNotFound(ref_.run);
    const int64_t version = run->record.next_version();
    catalog::ChangeSet change;
    change.conditions.push_back(run->Unchanged());
    change.conditions.push_back(found_.upload.Unchanged());
    run->record.set_next_version(version + 1);
    change.puts.emplace_back(run->key, run->record.SerializeAsString());
    record_ = NewCheckpointRecord(options_, attributes, manifest_, sizes_, version, store_.NowNanos());
    found_.upload.record.set_state(records::UPLOAD_STATE_COMMITTING);
    *found_.upload.record.mutable_checkpoint() = record_;
    change.puts.emplace_back(found_.upload.key, found_.upload.record.SerializeAsString());
    return store_.catalog->Apply(change).status();
  });
}

absl::Status UploadCommit::SealParts() {
  for (size_t p = 1; p < parts_.size(); ++p) {
    const std::vector<blob::FooterChunk> table = ChunkTable(chunks_, p);
    if (table.empty() || store_.blobs->Open(blobs_[p]).ok()) continue;  // nothing to keep; sealed by an earlier attempt
    SCONCE_ASSIGN_OR_RETURN(const auto writer,
                            take_writer_(static_cast<int64_t>(p), blobs_[p], parts_[p]->journal.end));
    records::FooterRecord footer = NewFooter(options_, found_.run_uid);
    footer.mutable_part()->set_version(record_.version());
    footer.mutable_part()->set_part(static_cast<int64_t>(p));
    SCONCE_RETURN_IF_ERROR(SealBlob(*writer, table, {}, footer));
  }
  return absl::OkStatus();
}

absl::Status UploadCommit::SealFirst() {
  if (store_.blobs->Open(blobs_[0]).ok()) return absl::OkStatus();
  const std::vector<blob::FooterChunk> table = ChunkTable(chunks_, 0);
  SCONCE_ASSIGN_OR_RETURN(const auto writer, take_writer_(0, blobs_[0], parts_[0]->journal.end));
  SCONCE_ASSIGN_OR_RETURN(*record_.mutable_manifest(), PlaceManifest(*writer, table.size(), AsBytes(manifest_bytes_)));
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    SCONCE_RETURN_IF_ERROR(Refresh(records::UPLOAD_STATE_COMMITTING));
    catalog::ChangeSet change;
    change.conditions.push_back(found_.upload.Unchanged());
    *found_.upload.record.mutable_checkpoint() = record_;
    change.puts.emplace_back(found_.upload.key, found_.upload.record.SerializeAsString());
    return store_.catalog->Apply(change).status();
  }));
  records::FooterRecord footer = NewFooter(options_, found_.run_uid, &body_);
  *footer.mutable_checkpoint() = record_;
  return SealBlob(*writer, table, AsBytes(manifest_bytes_), footer);
}

absl::StatusOr<Checkpoint> UploadCommit::Publish() {
  PinSet pins(store_.pins, found_.project_uid());
  std::vector<Digest> digests;
  for (const auto& [digest, placed] : chunks_) digests.push_back(digest);
  pins.Add(digests);
  ObjectContents contents{chunks_, blobs_, AsBytes(manifest_bytes_)};
  contents.keep_blobs = true;
  std::optional<records::RequestRecord> first;
  const auto finish = [&](catalog::ChangeSet& change) -> absl::StatusOr<bool> {
    SCONCE_RETURN_IF_ERROR(Refresh(records::UPLOAD_STATE_COMMITTING));
    SCONCE_ASSIGN_OR_RETURN(const bool go_on, AddVersion(store_, options_, found_.project_uid(), found_.run_uid,
                                                         record_, body_, first, change));
    if (!go_on) return false;
    change.conditions.push_back(found_.upload.Unchanged());
    EndUpload(found_, records::UPLOAD_STATE_COMMITTED, record_.version(), store_.NowNanos(), change);
    return true;
  };
  const catalog::Owner owner{catalog::Owner::Kind::kVersion, found_.run_uid, static_cast<uint64_t>(record_.version())};
  SCONCE_ASSIGN_OR_RETURN(const bool committed,
                          CommitObject(store_, contents, found_.project_uid(), owner, record_.manifest(), finish));
  if (!committed) return AnswerAs(*first);
  store_.changes.Notify(ref_.run);
  return ToCheckpoint(ref_.run, record_);
}

// The same request was committed in another way: the upload ends as that version.
absl::StatusOr<Checkpoint> UploadCommit::AnswerAs(const records::RequestRecord& answered) {
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    SCONCE_RETURN_IF_ERROR(Refresh(found_.upload.record.state()));
    catalog::ChangeSet change;
    change.conditions.push_back(found_.upload.Unchanged());
    EndUpload(found_, records::UPLOAD_STATE_COMMITTED, answered.version(), store_.NowNanos(), change);
    return store_.catalog->Apply(change).status();
  }));
  return AnswerOf(store_, ref_.run, answered);
}

absl::StatusOr<Checkpoint> Uploads::Commit(const UploadRef& ref) {
  SCONCE_ASSIGN_OR_RETURN(const FoundUpload asked, FindUpload(*store_->catalog, ref));
  const Turn turn(*this, asked.uid());
  SCONCE_ASSIGN_OR_RETURN(FoundUpload found, FindUpload(*store_->catalog, ref));
  if (found.uid() != asked.uid()) return UploadNotFound(ref, "was aborted");
  if (IsForgotten(found.upload.record, store_->NowNanos())) return UploadNotFound(ref, "does not exist");
  if (found.upload.record.state() == records::UPLOAD_STATE_COMMITTED) {
    records::RequestRecord answer;
    answer.set_run_uid(found.run_uid);
    answer.set_version(found.upload.record.version());
    return AnswerOf(*store_, ref.run, answer);
  }
  if (found.upload.record.state() != records::UPLOAD_STATE_COMMITTING) {
    SCONCE_RETURN_IF_ERROR(CheckOpen(ref, found.upload.record));
  }
  UploadCommit commit(
      *store_, ref, found,
      [&](int64_t part, const blob::BlobId& blob, int64_t end) { return TakeWriter(found, part, blob, end); },
      [&](int64_t part) {
        if (const auto session = FindSession(found.uid(), part)) session->Close();
      });
  absl::StatusOr<Checkpoint> committed = commit.Run();
  wake_collector_();
  return committed;
}

}  // namespace sconce::repository
