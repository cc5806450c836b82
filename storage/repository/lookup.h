#ifndef SCONCE_STORAGE_REPOSITORY_LOOKUP_H_
#define SCONCE_STORAGE_REPOSITORY_LOOKUP_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/types.h"

// From the names callers use to the catalog's records.
namespace sconce::repository {

// A record and its bytes as stored, for the condition that nobody changed it since.
template <typename Record>
struct Stored {
  std::string key;
  std::string bytes;
  Record record;

  catalog::Condition Unchanged() const { return {key, bytes}; }
};

// nullopt when the key is absent.
template <typename Record>
absl::StatusOr<std::optional<Stored<Record>>> ReadRecord(const catalog::CatalogReader& reader, const std::string& key) {
  auto bytes = reader.Get(key);
  if (!bytes.ok()) return bytes.status();
  if (!bytes->has_value()) return std::nullopt;
  auto record = ParseRecord<Record>(**bytes);
  if (!record.ok()) return record.status();
  return Stored<Record>{key, **std::move(bytes), *std::move(record)};
}

// nullopt for a project nothing was pushed to.
absl::StatusOr<std::optional<uint64_t>> FindProject(const catalog::CatalogReader& reader, const std::string& project);

// Also a hidden run (RunRecord.hidden); nullopt when there is none.
absl::StatusOr<std::optional<Stored<records::RunRecord>>> FindAnyRun(const catalog::CatalogReader& reader,
                                                                     const RunName& name);
// RUN_NOT_FOUND, NAME_INVALID.
absl::StatusOr<Stored<records::RunRecord>> FindRun(const catalog::CatalogReader& reader, const RunName& name);
absl::Status RunNotFound(const RunName& name);

struct FoundCheckpoint {
  Stored<records::RunRecord> run;
  Stored<records::CheckpointRecord> checkpoint;
};
// Resolves the selector too: the errors of Repository's checkpoint calls.
absl::StatusOr<FoundCheckpoint> FindCheckpoint(const catalog::CatalogReader& reader, const CheckpointRef& ref);

// MODULE_NOT_FOUND.
absl::StatusOr<Stored<records::ModuleRecord>> FindModule(const catalog::CatalogReader& reader,
                                                         const records::RunRecord& run, const std::string& module);

// The names of the run's aliases by the version they point to, sorted.
absl::StatusOr<std::map<int64_t, std::vector<std::string>>> AliasesByVersion(const catalog::CatalogReader& reader,
                                                                             uint64_t run_uid);

// Takes `count` consecutive uids in the batch; the value is the first.
absl::StatusOr<uint64_t> AllocateUids(const catalog::CatalogReader& reader, uint64_t count, catalog::ChangeSet& change);

// `object` has the etag `current` now, not the one the caller gave.
absl::Status EtagMismatch(const std::string& object, const std::string& current);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_LOOKUP_H_
