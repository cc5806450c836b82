#ifndef SCONCE_STORAGE_REPOSITORY_RECORD_CODEC_H_
#define SCONCE_STORAGE_REPOSITORY_RECORD_CODEC_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/error.h"
#include "storage/blob/blob_store.h"
#include "storage/catalog/records.pb.h"
#include "storage/catalog/version_index.h"
#include "storage/repository/types.h"

// Between the catalog's records and the structs of types.h.
namespace sconce::repository {

namespace records = ::sconce::storage::v1;

// CATALOG_CORRUPT when the bytes are not such a record.
template <typename Record>
absl::StatusOr<Record> ParseRecord(absl::string_view bytes) {
  Record record;
  if (!record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return MakeError(Reason::CATALOG_CORRUPT, "a record of the catalog does not parse; restore it from a backup");
  }
  return record;
}

int64_t ToNanos(absl::Time time);
absl::Time FromNanos(int64_t nanos);

void SetLabels(const Labels& labels, google::protobuf::RepeatedPtrField<records::LabelEntry>& out);
Labels GetLabels(const google::protobuf::RepeatedPtrField<records::LabelEntry>& entries);
void SetMetrics(const Metrics& metrics, records::CheckpointRecord& record);
Metrics GetMetrics(const records::CheckpointRecord& record);

void SetSettings(const Labels& labels, const BestRule& best, const RetentionRule& retention,
                 records::RunSettings& settings);
BestRule GetBestRule(const records::RunSettings& settings);
RetentionRule GetRetentionRule(const records::RunSettings& settings);
RunName GetName(const records::RunRecord& record);

// An etag is a short hash of what the caller can change, so that equal means unchanged.
std::string RunEtag(const records::RunRecord& record);
std::string CheckpointEtag(const records::CheckpointRecord& record);
std::string AliasEtag(const records::AliasRecord& record);

using catalog::IsQuarantined;
bool IsDamaged(const records::ModuleRecord& record);

// Without latest and best versions, which are looked up (best_rule.h).
Run ToRun(const records::RunRecord& record);
// Without aliases.
Checkpoint ToCheckpoint(const RunName& run, const records::CheckpointRecord& record);
Module ToModule(const RunName& run, const records::ModuleRecord& record);
Alias ToAlias(const RunName& run, const std::string& alias, const records::AliasRecord& record);

blob::BlobId ToBlobId(uint64_t project_uid, absl::string_view raw);  // zero bytes when `raw` is not 16 bytes
std::string RawId(const blob::BlobId& id);

std::string ChangeEntry(records::ChangeKind kind, const records::RunRecord& run, int64_t version,
                        absl::string_view name, int64_t now_ns,
                        records::DeletionCause cause = records::DELETION_CAUSE_UNSPECIFIED);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_RECORD_CODEC_H_
