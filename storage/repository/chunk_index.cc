#include "storage/repository/chunk_index.h"

#include <string>

#include "base/status_macros.h"
#include "storage/catalog/keys.h"

namespace sconce::repository {

Fingerprint FingerprintOf(const records::ChunkRecord& record) {
  Fingerprint xxh3;
  Fingerprint::FromBytes(record.xxh3(), xxh3);  // zeros for a record that has none: found by nobody
  return xxh3;
}

void PutChunk(uint64_t project_uid, const Digest& chunk, const records::ChunkRecord& record,
              catalog::ChangeSet& change) {
  change.puts.emplace_back(catalog::ChunkKey(project_uid, chunk), record.SerializeAsString());
  std::string entry = catalog::FingerprintKey(project_uid, FingerprintOf(record), chunk);
  if (record.bad()) {
    change.deletes.push_back(std::move(entry));
  } else {
    change.puts.emplace_back(std::move(entry), "");
  }
}

void DeleteChunk(uint64_t project_uid, const Digest& chunk, const records::ChunkRecord& record,
                 catalog::ChangeSet& change) {
  change.deletes.push_back(catalog::ChunkKey(project_uid, chunk));
  change.deletes.push_back(catalog::FingerprintKey(project_uid, FingerprintOf(record), chunk));
}

absl::StatusOr<bool> HasFingerprint(const catalog::CatalogReader& reader, uint64_t project_uid,
                                    const Fingerprint& xxh3) {
  bool found = false;
  const std::string prefix = catalog::FingerprintPrefix(project_uid, xxh3);
  SCONCE_RETURN_IF_ERROR(reader.Scan(prefix, catalog::PrefixEnd(prefix), false,
                                     [&](absl::string_view, absl::string_view) { return !(found = true); }));
  return found;
}

}  // namespace sconce::repository
