#include "storage/repository/upload_records.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/repository/names.h"
#include "storage/repository/request_ids.h"

namespace sconce::repository {
namespace {

Digest OptionsDigest(const PushOptions& options, int64_t expected_parts) {
  const std::string text = absl::StrCat(PushBody(options, Digest()).Hex(), " ", expected_parts, " ",
                                        options.create_run ? 1 : 0, " ", options.request.request_id);
  return Sha256(AsBytes(text));
}

absl::Status BadJournal() {
  return MakeError(Reason::CATALOG_CORRUPT,
                   "the journal of an upload does not parse; abort the upload, or restore the catalog from a backup");
}

}  // namespace

absl::Status UploadNotFound(const UploadRef& ref, absl::string_view why) {
  return MakeError(
      Reason::UPLOAD_NOT_FOUND,
      absl::StrCat("the upload ", Quoted(ref.upload), " of run ", Display(ref.run), " ", why, "; begin a new one"),
      {{"run", Display(ref.run)}, {"upload", ref.upload}});
}

absl::StatusOr<FoundUpload> FindUpload(const catalog::CatalogReader& reader, const UploadRef& ref) {
  SCONCE_RETURN_IF_ERROR(ValidateRunName(ref.run));
  SCONCE_RETURN_IF_ERROR(ValidateId("upload", ref.upload));
  SCONCE_ASSIGN_OR_RETURN(const auto run, FindAnyRun(reader, ref.run));
  if (!run) return UploadNotFound(ref, "does not exist");
  SCONCE_ASSIGN_OR_RETURN(auto upload,
                          ReadRecord<records::UploadRecord>(reader, catalog::UploadKey(run->record.uid(), ref.upload)));
  if (!upload) return UploadNotFound(ref, "does not exist");
  return FoundUpload{run->record.uid(), *std::move(upload)};
}

absl::Status CheckOpen(const UploadRef& ref, const records::UploadRecord& record) {
  switch (record.state()) {
    case records::UPLOAD_STATE_OPEN:
      return absl::OkStatus();
    case records::UPLOAD_STATE_COMMITTING:
      return UploadNotFound(ref, "is being committed and takes nothing more");
    case records::UPLOAD_STATE_COMMITTED:
      return UploadNotFound(ref, absl::StrCat("was committed as version ", record.version()));
    default:
      return UploadNotFound(ref, "was aborted, or expired");
  }
}

absl::Status CheckShowsParts(const UploadRef& ref, const records::UploadRecord& record) {
  if (record.state() == records::UPLOAD_STATE_COMMITTING) return absl::OkStatus();
  return CheckOpen(ref, record);
}

bool IsForgotten(const records::UploadRecord& record, int64_t now_ns) {
  const bool ended =
      record.state() == records::UPLOAD_STATE_COMMITTED || record.state() == records::UPLOAD_STATE_ABORTED;
  return ended && now_ns - record.touch_time_ns() >= absl::ToInt64Nanoseconds(kEndedUploadLifetime);
}

void SetOptions(const PushOptions& options, int64_t expected_parts, records::UploadRecord& record) {
  record.set_project(options.run.project);
  record.set_run(options.run.run);
  record.set_expected_parts(expected_parts);
  record.set_kind(options.kind == CheckpointKind::kOpaque ? records::CHECKPOINT_KIND_OPAQUE
                                                          : records::CHECKPOINT_KIND_STATE);
  if (options.epoch) record.set_epoch(*options.epoch);
  if (options.step) record.set_step(*options.step);
  for (const auto& [name, value] : options.metrics) {
    records::MetricEntry& metric = *record.add_metrics();
    metric.set_name(name);
    metric.set_value(value);
  }
  SetLabels(options.labels, *record.mutable_labels());
  record.set_parent(options.parent);
  record.set_pinned(options.pinned);
  if (options.expire_time) record.set_expire_time_ns(ToNanos(*options.expire_time));
  record.set_create_run(options.create_run);
  record.set_principal(options.request.principal);
  record.set_method(options.request.method);
  record.set_request_id(options.request.request_id);
  const Digest digest = OptionsDigest(options, expected_parts);
  record.set_options_digest(digest.AsKey().data(), digest.AsKey().size());
}

PushOptions GetOptions(const records::UploadRecord& record) {
  PushOptions options;
  options.run = {record.project(), record.run()};
  options.create_run = record.create_run();
  if (record.kind() == records::CHECKPOINT_KIND_OPAQUE) options.kind = CheckpointKind::kOpaque;
  if (record.has_epoch()) options.epoch = record.epoch();
  if (record.has_step()) options.step = record.step();
  for (const records::MetricEntry& metric : record.metrics()) options.metrics[metric.name()] = metric.value();
  options.labels = GetLabels(record.labels());
  options.parent = record.parent();
  options.pinned = record.pinned();
  if (record.has_expire_time_ns()) options.expire_time = FromNanos(record.expire_time_ns());
  options.request = {record.principal(), record.method(), record.request_id()};
  return options;
}

void EndUpload(const FoundUpload& found, records::UploadState state, int64_t version, int64_t now_ns,
               catalog::ChangeSet& change) {
  records::UploadRecord ended = found.upload.record;
  ended.set_state(state);
  ended.set_version(version);
  ended.set_touch_time_ns(now_ns);
  ended.clear_checkpoint();
  change.puts.emplace_back(found.upload.key, ended.SerializeAsString());
  records::TombstoneRecord tombstone;
  tombstone.set_project_uid(found.project_uid());
  change.puts.emplace_back(catalog::TombstoneKey(found.owner()), tombstone.SerializeAsString());
}

absl::StatusOr<PartJournal> ReadJournal(const catalog::CatalogReader& reader, uint64_t upload_uid, int64_t part,
                                        int64_t chunk_count) {
  PartJournal journal;
  journal.chunks.resize(static_cast<size_t>(chunk_count));
  absl::Status parsed;
  const auto visit = [&](absl::string_view key, absl::string_view value) {
    const std::optional<int64_t> sequence = catalog::ParseJournalKey(key);
    const auto record = ParseRecord<records::JournalRecord>(value);
    if (!sequence || !record.ok()) {
      parsed = BadJournal();
      return false;
    }
    journal.next_sequence = *sequence + 1;
    for (const records::JournalEntry& entry : record->entries()) {
      PartChunk chunk;
      if (entry.chunk() < 0 || entry.chunk() >= chunk_count) {
        parsed = BadJournal();
        return false;
      }
      if (!entry.lost()) {
        if (!Digest::FromBytes(entry.sha256(), chunk.sha256) || !Fingerprint::FromBytes(entry.xxh3(), chunk.xxh3)) {
          parsed = BadJournal();
          return false;
        }
        chunk.offset = entry.offset();
        chunk.shared = entry.shared();
        chunk.settled = true;
        if (!chunk.shared) journal.end = std::max(journal.end, entry.offset() + entry.size_bytes());
      }
      journal.chunks[static_cast<size_t>(entry.chunk())] = chunk;
    }
    return true;
  };
  const std::string prefix = catalog::JournalPrefix(upload_uid, part);
  SCONCE_RETURN_IF_ERROR(reader.Scan(prefix, catalog::PrefixEnd(prefix), false, visit));
  SCONCE_RETURN_IF_ERROR(parsed);
  return journal;
}

void AddEntry(int64_t chunk, const PartChunk& content, int64_t size_bytes, records::JournalRecord& record) {
  records::JournalEntry& entry = *record.add_entries();
  entry.set_chunk(chunk);
  entry.set_sha256(std::string(content.sha256.AsKey()));
  entry.set_xxh3(std::string(content.xxh3.AsKey()));
  entry.set_size_bytes(size_bytes);
  if (!content.shared) entry.set_offset(content.offset);
  entry.set_shared(content.shared);
}

void AddLoss(int64_t chunk, records::JournalRecord& record) {
  records::JournalEntry& entry = *record.add_entries();
  entry.set_chunk(chunk);
  entry.set_lost(true);
}

std::vector<ChunkRange> SettledRanges(const std::vector<PartChunk>& chunks) {
  std::vector<ChunkRange> ranges;
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (!chunks[i].settled) continue;
    const auto number = static_cast<int64_t>(i);
    if (ranges.empty() || ranges.back().last + 1 < number) ranges.push_back({number, number});
    ranges.back().last = number;
  }
  return ranges;
}

std::vector<ChunkRange> ToRanges(std::vector<int64_t> chunks) {
  std::sort(chunks.begin(), chunks.end());
  std::vector<ChunkRange> ranges;
  for (const int64_t number : chunks) {
    if (ranges.empty() || ranges.back().last + 1 < number) ranges.push_back({number, number});
    ranges.back().last = number;
  }
  return ranges;
}

absl::StatusOr<Upload> DescribeUpload(const Store& store, const UploadRef& ref, const FoundUpload& found) {
  const records::UploadRecord& record = found.upload.record;
  Upload upload;
  upload.ref = ref;
  upload.expected_parts = record.expected_parts();
  const bool committed = record.state() == records::UPLOAD_STATE_COMMITTED;
  upload.expire_time =
      FromNanos(record.touch_time_ns()) + (committed ? kEndedUploadLifetime : store.options.upload_ttl);
  upload.version = record.version();
  if (committed) return upload;
  std::vector<std::pair<int64_t, std::string>> parts;
  const std::string prefix = catalog::PartPrefix(found.uid());
  SCONCE_RETURN_IF_ERROR(store.catalog->Scan(prefix, catalog::PrefixEnd(prefix), false,
                                             [&](absl::string_view key, absl::string_view value) {
                                               if (const auto fields = catalog::ParsePartKey(key)) {
                                                 parts.emplace_back(fields->part, std::string(value));
                                               }
                                               return true;
                                             }));
  for (const auto& [number, bytes] : parts) {
    SCONCE_ASSIGN_OR_RETURN(const auto part_record, ParseRecord<records::PartRecord>(bytes));
    SCONCE_ASSIGN_OR_RETURN(const PartJournal journal,
                            ReadJournal(*store.catalog, found.uid(), number, part_record.chunk_count()));
    UploadPart part;
    part.part = number;
    part.chunk_count = part_record.chunk_count();
    Digest::FromBytes(part_record.manifest_digest(), part.manifest_digest);
    part.durable = SettledRanges(journal.chunks);
    upload.parts.push_back(std::move(part));
  }
  return upload;
}

}  // namespace sconce::repository
