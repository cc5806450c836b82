#include "storage/catalog/schema_migration.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/records.pb.h"

namespace sconce::catalog {
namespace {

namespace records = ::sconce::storage::v1;

// Adds the index entries of some chunks from `begin` on; where to go on, or nullopt at the end.
absl::StatusOr<std::optional<std::string>> IndexSome(Catalog& catalog, const std::string& begin) {
  constexpr size_t kBatch = 1000;
  ChangeSet change;
  std::string last;
  size_t seen = 0;
  absl::Status parsed;
  const auto visit = [&](absl::string_view key, absl::string_view value) {
    const std::optional<ChunkKeyFields> fields = ParseChunkKey(key);
    records::ChunkRecord record;
    Fingerprint xxh3;
    if (!fields || !record.ParseFromArray(value.data(), static_cast<int>(value.size())) ||
        !Fingerprint::FromBytes(record.xxh3(), xxh3)) {
      parsed = MakeError(Reason::CATALOG_CORRUPT, "the record of a chunk does not parse; restore it from a backup");
      return false;
    }
    if (!record.bad()) change.puts.emplace_back(FingerprintKey(fields->project_uid, xxh3, fields->chunk), "");
    last = std::string(key);
    return ++seen < kBatch;
  };
  SCONCE_RETURN_IF_ERROR(catalog.Scan(begin, PrefixEnd(ChunkPrefix()), false, visit));
  SCONCE_RETURN_IF_ERROR(parsed);
  if (!change.puts.empty()) SCONCE_RETURN_IF_ERROR(catalog.Apply(change).status());
  if (seen < kBatch) return std::nullopt;
  return std::optional<std::string>(last + '\0');
}

}  // namespace

absl::Status MigrateSchema(Catalog& catalog, int64_t from) {
  if (from == kSchemaVersion) return absl::OkStatus();
  Log(Severity::kInfo, "schema_migration", {{"from", from}, {"to", kSchemaVersion}});
  for (std::optional<std::string> begin = ChunkPrefix(); begin;) {
    SCONCE_ASSIGN_OR_RETURN(begin, IndexSome(catalog, *begin));
  }
  ChangeSet change;
  change.conditions.push_back({SchemaKey(), absl::StrCat(from)});
  change.puts.emplace_back(SchemaKey(), absl::StrCat(kSchemaVersion));
  return catalog.Apply(change).status();
}

}  // namespace sconce::catalog
