#include "storage/repository/uploads.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/blob/blob_path.h"
#include "storage/blob/footer.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/names.h"
#include "storage/repository/part_stream.h"
#include "storage/repository/push.h"
#include "storage/repository/run_creation.h"
#include "storage/repository/version_records.h"

namespace sconce::repository {
namespace {

// With a request id always the same, so that a retry finds the upload of the first try.
std::string ChooseId(const RequestKey& request) {
  if (request.request_id.empty()) return blob::RandomBlobId(0).Hex();
  const std::string text = absl::StrCat(request.principal.size(), ":", request.principal, request.request_id);
  return absl::StrCat("r-", Sha256(AsBytes(text)).Hex().substr(0, 32));
}

absl::Status CheckManifest(const PushOptions& options, const format::Manifest& manifest) {
  SCONCE_RETURN_IF_ERROR(CheckPushManifest(options, manifest));
  for (const format::Storage& storage : manifest.storages) {
    if (storage.chunks.empty()) continue;
    return MakeError(Reason::MANIFEST_INVALID,
                     "the manifest of a part must not have chunk digests; the server computes them: leave them out");
  }
  return absl::OkStatus();
}

// A sealed blob that carries nothing but the manifest.
absl::StatusOr<blob::BlobId> StoreManifest(Store& store, const FoundUpload& upload, ByteSpan manifest) {
  SCONCE_ASSIGN_OR_RETURN(const auto writer, store.blobs->Create(upload.project_uid()));
  SCONCE_ASSIGN_OR_RETURN(const int64_t footer_offset, writer->FooterOffset());
  const std::string record = NewFooter(GetOptions(upload.upload.record), upload.run_uid).SerializeAsString();
  SCONCE_RETURN_IF_ERROR(writer->Seal(AsBytes(blob::EncodeFooter({}, manifest, AsBytes(record), footer_offset).bytes)));
  return writer->id();
}

absl::Status ManifestDiffers(int64_t part) {
  return MakeError(Reason::MANIFEST_INVALID,
                   absl::StrCat("part ", part,
                                " was begun with another manifest: all streams of a part bring the same; "
                                "abort the upload if the checkpoint has changed"),
                   {{"part", absl::StrCat(part)}});
}

}  // namespace

absl::StatusOr<std::optional<BegunPart>> ReadPart(Store& store, const FoundUpload& upload, int64_t part) {
  SCONCE_ASSIGN_OR_RETURN(const auto record,
                          ReadRecord<records::PartRecord>(*store.catalog, catalog::PartKey(upload.uid(), part)));
  if (!record) return std::nullopt;
  SCONCE_ASSIGN_OR_RETURN(const auto blob,
                          store.blobs->Open(ToBlobId(upload.project_uid(), record->record.manifest_blob_id())));
  SCONCE_ASSIGN_OR_RETURN(const blob::FooterView footer, blob::ReadFooter(*blob));
  BegunPart begun;
  begun.record = record->record;
  SCONCE_ASSIGN_OR_RETURN(begun.manifest, format::DecodeManifest(footer.manifest));
  return begun;
}

Uploads::Uploads(std::shared_ptr<Store> store, IngestPool& pool, std::function<void()> wake_collector)
    : store_(std::move(store)), pool_(pool), wake_collector_(std::move(wake_collector)) {}

Uploads::Turn::Turn(Uploads& uploads, uint64_t upload_uid) : uploads_(uploads), upload_uid_(upload_uid) {
  MutexLock lock(&uploads_.mu_);
  while (!uploads_.turns_.insert(upload_uid_).second) uploads_.turn_ended_.Wait(&uploads_.mu_);
}

Uploads::Turn::~Turn() {
  MutexLock lock(&uploads_.mu_);
  uploads_.turns_.erase(upload_uid_);
  uploads_.turn_ended_.SignalAll();
}

absl::StatusOr<Upload> Uploads::Begin(const PushOptions& options, const std::string& upload_id,
                                      int64_t expected_parts) {
  SCONCE_RETURN_IF_ERROR(CheckPushOptions(options));
  if (!upload_id.empty()) SCONCE_RETURN_IF_ERROR(ValidateId("upload", upload_id));
  if (expected_parts < 0 || expected_parts > kMaxUploadParts) {
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("an upload of ", expected_parts,
                                                            " parts makes no sense; it "
                                                            "has 1 to ",
                                                            kMaxUploadParts));
  }
  if (!options.create_run) SCONCE_RETURN_IF_ERROR(FindRun(*store_->catalog, options.run).status());
  SCONCE_RETURN_IF_ERROR(CheckRoom(*store_, 0));
  const UploadRef ref{options.run, upload_id.empty() ? ChooseId(options.request) : upload_id};
  SCONCE_ASSIGN_OR_RETURN(const uint64_t project_uid, EnsureProject(*store_, options.run.project));
  SCONCE_ASSIGN_OR_RETURN(const uint64_t run_uid, EnsureRun(*store_, options.run, project_uid, options.create_run));
  records::UploadRecord wanted;
  SetOptions(options, expected_parts == 0 ? 1 : expected_parts, wanted);
  wanted.set_state(records::UPLOAD_STATE_OPEN);
  wanted.set_project_uid(project_uid);
  const std::string key = catalog::UploadKey(run_uid, ref.upload);
  SCONCE_ASSIGN_OR_RETURN(
      const auto found, RetryOnConflict([&]() -> absl::StatusOr<FoundUpload> {
        const int64_t now = store_->NowNanos();
        catalog::ChangeSet change;
        SCONCE_ASSIGN_OR_RETURN(auto there, ReadRecord<records::UploadRecord>(*store_->catalog, key));
        change.conditions.push_back({key, there ? std::optional<std::string>(there->bytes) : std::nullopt});
        const bool joins =
            there && there->record.state() != records::UPLOAD_STATE_ABORTED && !IsForgotten(there->record, now);
        FoundUpload result{run_uid, {key, "", wanted}};
        if (joins) {
          if (there->record.options_digest() != wanted.options_digest()) {
            return MakeError(
                Reason::UPLOAD_ALREADY_EXISTS,
                absl::StrCat("the upload ", Quoted(ref.upload), " of run ", Display(ref.run),
                             " was begun with other options; all its writers give the same options, request "
                             "id and number of parts: use another id for another push"),
                {{"run", Display(ref.run)}, {"upload", ref.upload}});
          }
          result.upload = *there;
          const bool open = there->record.state() == records::UPLOAD_STATE_OPEN;
          if (!open || now - there->record.touch_time_ns() < absl::ToInt64Nanoseconds(kTouchInterval)) return result;
          result.upload.record.set_touch_time_ns(now);
        } else {
          SCONCE_ASSIGN_OR_RETURN(const uint64_t uid, AllocateUids(*store_->catalog, 1, change));
          result.upload.record.set_uid(uid);
          result.upload.record.set_create_time_ns(now);
          result.upload.record.set_touch_time_ns(now);
        }
        result.upload.bytes = result.upload.record.SerializeAsString();
        change.puts.emplace_back(key, result.upload.bytes);
        SCONCE_RETURN_IF_ERROR(store_->catalog->Apply(change).status());
        return result;
      }));
  return DescribeUpload(*store_, ref, found);
}

absl::StatusOr<Upload> Uploads::Get(const UploadRef& ref) {
  SCONCE_ASSIGN_OR_RETURN(const FoundUpload found, FindUpload(*store_->catalog, ref));
  if (found.upload.record.state() == records::UPLOAD_STATE_ABORTED) {
    return UploadNotFound(ref, "was aborted, or expired");
  }
  if (IsForgotten(found.upload.record, store_->NowNanos())) return UploadNotFound(ref, "does not exist");
  return DescribeUpload(*store_, ref, found);
}

absl::Status Uploads::Abort(const UploadRef& ref) {
  SCONCE_RETURN_IF_ERROR(RetryOnConflict([&]() -> absl::Status {
    SCONCE_ASSIGN_OR_RETURN(const FoundUpload found, FindUpload(*store_->catalog, ref));
    const records::UploadState state = found.upload.record.state();
    if (IsForgotten(found.upload.record, store_->NowNanos())) return UploadNotFound(ref, "does not exist");
    if (state == records::UPLOAD_STATE_ABORTED || state == records::UPLOAD_STATE_COMMITTED) return absl::OkStatus();
    catalog::ChangeSet change;
    change.conditions.push_back(found.upload.Unchanged());
    EndUpload(found, records::UPLOAD_STATE_ABORTED, 0, store_->NowNanos(), change);
    return store_->catalog->Apply(change).status();
  }));
  wake_collector_();
  return absl::OkStatus();
}

std::shared_ptr<PartSession> Uploads::FindSession(uint64_t upload_uid, int64_t part) {
  MutexLock lock(&mu_);
  const auto found = sessions_.find({upload_uid, part});
  if (found == sessions_.end()) return nullptr;
  std::shared_ptr<PartSession> session = found->second.lock();
  if (session == nullptr) sessions_.erase(found);
  return session;
}

absl::StatusOr<std::unique_ptr<PartStream>> Uploads::BeginPart(const UploadRef& ref, int64_t part, ByteSpan manifest,
                                                               DurableCallback durable) {
  SCONCE_ASSIGN_OR_RETURN(const FoundUpload upload, FindUpload(*store_->catalog, ref));
  SCONCE_RETURN_IF_ERROR(CheckShowsParts(ref, upload.upload.record));
  if (part < 0 || part >= upload.upload.record.expected_parts()) {
    return MakeError(Reason::ARGUMENT_INVALID, absl::StrCat("the upload has ", upload.upload.record.expected_parts(),
                                                            " parts, numbered from 0; there is no part ", part));
  }
  SCONCE_RETURN_IF_ERROR(CheckRoom(*store_, 0));
  SCONCE_ASSIGN_OR_RETURN(auto slot, pool_.BeginPush(wake_collector_));
  SCONCE_ASSIGN_OR_RETURN(std::shared_ptr<PartSession> session, OpenSession(ref, upload, part, manifest));
  return MakePartStream(store_, pool_, std::move(slot), std::move(session), std::move(durable));
}

absl::StatusOr<std::shared_ptr<PartSession>> Uploads::OpenSession(const UploadRef& ref, const FoundUpload& asked,
                                                                  int64_t part, ByteSpan manifest) {
  const Turn turn(*this, asked.uid());
  SCONCE_ASSIGN_OR_RETURN(const FoundUpload upload, FindUpload(*store_->catalog, ref));
  SCONCE_RETURN_IF_ERROR(CheckShowsParts(ref, upload.upload.record));
  if (upload.uid() != asked.uid()) return UploadNotFound(ref, "was aborted");
  const bool committing = upload.upload.record.state() == records::UPLOAD_STATE_COMMITTING;
  if (std::shared_ptr<PartSession> session = FindSession(upload.uid(), part); session != nullptr && !committing) {
    if (!manifest.empty() && Sha256(manifest) != session->manifest_digest()) return ManifestDiffers(part);
    if (const absl::Status failure = session->failure(); !failure.ok()) {
      return Annotate(failure, "another stream of the part has failed and is still ending");
    }
    return session;
  }
  SCONCE_ASSIGN_OR_RETURN(const auto begun, ReadPart(*store_, upload, part));
  std::shared_ptr<PartSession> session;
  if (!begun) {
    SCONCE_ASSIGN_OR_RETURN(session, StartPart(ref, upload, part, manifest));
  } else {
    Digest digest;
    Digest::FromBytes(begun->record.manifest_digest(), digest);
    if (!manifest.empty() && Sha256(manifest) != digest) return ManifestDiffers(part);
    SCONCE_ASSIGN_OR_RETURN(PartJournal journal,
                            ReadJournal(*store_->catalog, upload.uid(), part, begun->record.chunk_count()));
    std::unique_ptr<blob::BlobWriter> writer;  // none is needed where every chunk is durable already
    if (!committing) {
      SCONCE_ASSIGN_OR_RETURN(
          writer, store_->blobs->Resume(ToBlobId(upload.project_uid(), begun->record.blob_id()), journal.end));
    }
    session = std::make_shared<PartSession>(*store_, ref, upload, part, digest, begun->manifest, std::move(journal),
                                            std::move(writer));
  }
  if (committing) return session;
  MutexLock lock(&mu_);
  sessions_[{upload.uid(), part}] = session;
  return session;
}

absl::StatusOr<std::shared_ptr<PartSession>> Uploads::StartPart(const UploadRef& ref, const FoundUpload& upload,
                                                                int64_t part, ByteSpan manifest_bytes) {
  if (manifest_bytes.empty()) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("part ", part, " has no manifest yet; bring it with the part's first stream"),
                     {{"part", absl::StrCat(part)}});
  }
  SCONCE_ASSIGN_OR_RETURN(const format::Manifest manifest, format::DecodeManifest(manifest_bytes));
  SCONCE_RETURN_IF_ERROR(CheckManifest(GetOptions(upload.upload.record), manifest));
  const Digest digest = Sha256(manifest_bytes);
  PartJournal journal;
  journal.chunks.resize(static_cast<size_t>(ChunkLayout(manifest).count()));

  // The files first, then the record that names them: without it the next start drops them.
  SCONCE_ASSIGN_OR_RETURN(auto writer, store_->blobs->CreateResumable(upload.project_uid()));
  absl::StatusOr<blob::BlobId> manifest_blob = blob::BlobId();
  const absl::Status begun = [&]() -> absl::Status {
    SCONCE_RETURN_IF_ERROR(writer->Sync());
    manifest_blob = StoreManifest(*store_, upload, manifest_bytes);
    SCONCE_RETURN_IF_ERROR(manifest_blob.status());
    records::PartRecord record;
    record.set_blob_id(RawId(writer->id()));
    record.set_manifest_blob_id(RawId(*manifest_blob));
    record.set_manifest_digest(std::string(digest.AsKey()));
    record.set_chunk_count(static_cast<int64_t>(journal.chunks.size()));
    record.set_project_uid(upload.project_uid());
    record.set_upload_key(upload.upload.key);
    return RetryOnConflict([&]() -> absl::Status {
      SCONCE_ASSIGN_OR_RETURN(const FoundUpload now, FindUpload(*store_->catalog, ref));
      SCONCE_RETURN_IF_ERROR(CheckOpen(ref, now.upload.record));
      if (now.uid() != upload.uid()) return UploadNotFound(ref, "was aborted");
      catalog::ChangeSet change;
      change.conditions.push_back(now.upload.Unchanged());
      change.puts.emplace_back(catalog::PartKey(upload.uid(), part), record.SerializeAsString());
      return store_->catalog->Apply(change).status();
    });
  }();
  if (!begun.ok()) {
    // After an error that leaves open whether the record is there, the next start finds it without its files.
    const blob::BlobId blob = writer->id();
    writer.reset();
    store_->blobs->Remove(blob).IgnoreError();
    if (manifest_blob.ok()) store_->blobs->Remove(*manifest_blob).IgnoreError();
    return begun;
  }
  return std::make_shared<PartSession>(*store_, ref, upload, part, digest, manifest, std::move(journal),
                                       std::move(writer));
}

absl::StatusOr<std::unique_ptr<blob::BlobWriter>> Uploads::TakeWriter(const FoundUpload& upload, int64_t part,
                                                                      const blob::BlobId& blob, int64_t end) {
  if (const std::shared_ptr<PartSession> session = FindSession(upload.uid(), part)) {
    std::unique_ptr<blob::BlobWriter> writer = session->Close();
    if (writer != nullptr) return writer;
  }
  return store_->blobs->Resume(blob, end);
}

absl::StatusOr<UploadRecovery> UploadRecovery::Load(const catalog::CatalogReader& reader) {
  UploadRecovery recovery;
  absl::Status parsed;
  const std::string prefix = catalog::PartPrefix();
  SCONCE_RETURN_IF_ERROR(
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
        const auto fields = catalog::ParsePartKey(key);
        const auto record = ParseRecord<records::PartRecord>(value);
        parsed = fields ? record.status() : MakeError(Reason::CATALOG_CORRUPT, "a part's key does not parse");
        if (!parsed.ok()) return false;
        const File file{fields->upload_uid, record->upload_key()};
        recovery.manifests_[ToBlobId(record->project_uid(), record->manifest_blob_id())] = file;
        recovery.parts_[ToBlobId(record->project_uid(), record->blob_id())] = file;
        return true;
      }));
  SCONCE_RETURN_IF_ERROR(parsed);
  return recovery;
}

bool UploadRecovery::CanResume(const blob::BlobId& unsealed) {
  const auto file = parts_.find(unsealed);
  if (file == parts_.end()) return false;
  file->second.resumable = true;
  return true;
}

absl::flat_hash_set<blob::BlobId> UploadRecovery::Blobs() const {
  absl::flat_hash_set<blob::BlobId> blobs;
  for (const auto* files : {&manifests_, &parts_}) {
    for (const auto& [id, file] : *files) blobs.insert(id);
  }
  return blobs;
}

absl::Status UploadRecovery::AbortBroken(Store& store) const {
  const auto look = [&](const std::map<blob::BlobId, File>& files) -> absl::Status {
    for (const auto& [id, file] : files) {
      if (file.resumable) continue;
      const absl::Status sealed = store.blobs->OpenStored(id).status();
      if (sealed.ok()) continue;
      if (!HasReason(sealed, Reason::CHUNK_CORRUPT)) return sealed;  // it is there, or may be
      SCONCE_ASSIGN_OR_RETURN(auto upload, ReadRecord<records::UploadRecord>(*store.catalog, file.upload_key));
      const auto fields = catalog::ParseUploadKey(file.upload_key);
      if (!upload || !fields || upload->record.uid() != file.upload_uid) continue;  // it has ended
      if (upload->record.state() != records::UPLOAD_STATE_OPEN &&
          upload->record.state() != records::UPLOAD_STATE_COMMITTING) {
        continue;
      }
      Log(Severity::kWarn, "upload_broken", {{"upload", fields->upload}, {"missing_blob", id.Hex()}});
      const FoundUpload found{fields->run_uid, *std::move(upload)};
      catalog::ChangeSet change;
      change.conditions.push_back(found.upload.Unchanged());
      EndUpload(found, records::UPLOAD_STATE_ABORTED, 0, store.NowNanos(), change);
      SCONCE_RETURN_IF_ERROR(store.catalog->Apply(change).status());
    }
    return absl::OkStatus();
  };
  SCONCE_RETURN_IF_ERROR(look(manifests_));
  return look(parts_);
}

}  // namespace sconce::repository
