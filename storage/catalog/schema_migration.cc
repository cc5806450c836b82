#include "storage/catalog/schema_migration.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/records.pb.h"
#include "storage/catalog/version_index.h"

namespace sconce::catalog {
namespace {

namespace records = ::sconce::storage::v1;

// Adds to the batch the index entries of a record; CATALOG_CORRUPT.
using IndexOne = absl::FunctionRef<absl::Status(absl::string_view key, absl::string_view value, ChangeSet& change)>;

absl::Status IndexChunk(absl::string_view key, absl::string_view value, ChangeSet& change) {
  const std::optional<ChunkKeyFields> fields = ParseChunkKey(key);
  records::ChunkRecord record;
  Fingerprint xxh3;
  if (!fields || !record.ParseFromArray(value.data(), static_cast<int>(value.size())) ||
      !Fingerprint::FromBytes(record.xxh3(), xxh3)) {
    return MakeError(Reason::CATALOG_CORRUPT, "the record of a chunk does not parse; restore it from a backup");
  }
  if (!record.bad()) change.puts.emplace_back(FingerprintKey(fields->project_uid, xxh3, fields->chunk), "");
  return absl::OkStatus();
}

absl::Status IndexVersion(absl::string_view key, absl::string_view value, ChangeSet& change) {
  const std::optional<Owner> owner = Owner::Decode(key);  // the same bytes
  records::CheckpointRecord record;
  if (!owner || !record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return MakeError(Reason::CATALOG_CORRUPT, "the record of a version does not parse; restore it from a backup");
  }
  for (std::string& entry : IndexKeys(owner->run_uid, record)) change.puts.emplace_back(std::move(entry), "");
  return absl::OkStatus();
}

// Indexes some records from `begin` to `end`; where to go on, or nullopt at the end. A version may have a thousand
// entries, so it is they that are counted.
absl::StatusOr<std::optional<std::string>> IndexSome(Catalog& catalog, const std::string& begin, const std::string& end,
                                                     IndexOne index) {
  constexpr size_t kBatchRecords = 1000, kBatchEntries = 4000;
  ChangeSet change;
  std::optional<std::string> next;
  size_t seen = 0;
  absl::Status parsed;
  SCONCE_RETURN_IF_ERROR(catalog.Scan(begin, end, false, [&](absl::string_view key, absl::string_view value) {
    if (seen++ == kBatchRecords || change.puts.size() >= kBatchEntries) {
      next = std::string(key);
      return false;
    }
    parsed = index(key, value, change);
    return parsed.ok();
  }));
  SCONCE_RETURN_IF_ERROR(parsed);
  if (!change.puts.empty()) SCONCE_RETURN_IF_ERROR(catalog.Apply(change).status());
  return next;
}

absl::Status IndexAll(Catalog& catalog, const std::string& prefix, IndexOne index) {
  for (std::optional<std::string> begin = prefix; begin;) {
    SCONCE_ASSIGN_OR_RETURN(begin, IndexSome(catalog, *begin, PrefixEnd(prefix), index));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MigrateSchema(Catalog& catalog, int64_t from) {
  if (from == kSchemaVersion) return absl::OkStatus();
  Log(Severity::kInfo, "schema_migration", {{"from", from}, {"to", kSchemaVersion}});
  if (from < 2) SCONCE_RETURN_IF_ERROR(IndexAll(catalog, ChunkPrefix(), IndexChunk));
  if (from < 3) SCONCE_RETURN_IF_ERROR(IndexAll(catalog, CheckpointPrefix(), IndexVersion));
  ChangeSet change;
  change.conditions.push_back({SchemaKey(), absl::StrCat(from)});
  change.puts.emplace_back(SchemaKey(), absl::StrCat(kSchemaVersion));
  return catalog.Apply(change).status();
}

}  // namespace sconce::catalog
