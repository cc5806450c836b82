#ifndef SCONCE_STORAGE_CATALOG_CATALOG_H_
#define SCONCE_STORAGE_CATALOG_CATALOG_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sconce::catalog {

// Something that must hold when the change is applied: the key has exactly this value, or (nullopt) does not exist.
struct Condition {
  std::string key;
  std::optional<std::string> value;
};

// One atomic, durable change. A key that is both deleted and put is put; one put twice has the last value.
struct ChangeSet {
  std::vector<Condition> conditions;
  std::vector<std::pair<std::string, std::string>> puts;
  std::vector<std::string> deletes;
  // Entries of the change log: each gets the next revision and is stored under LogKey(revision) in the same batch.
  std::vector<std::string> log;
};

// Ordered keys and values as of one moment. Thread-safe.
class CatalogReader {
 public:
  virtual ~CatalogReader() = default;
  // nullopt when absent. CATALOG_CORRUPT when the stored bytes do not check.
  virtual absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const = 0;
  virtual absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(
      absl::Span<const std::string> keys) const = 0;
  // Visits keys in [begin, end) in ascending order (descending when `reverse`) until `visit` returns false. An empty
  // `end` is no bound.
  virtual absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                            absl::FunctionRef<bool(absl::string_view key, absl::string_view value)> visit) const = 0;
};

// What exists: every record of the store, ordered by key, changed only in atomic and durable steps. Thread-safe.
class Catalog : public CatalogReader {
 public:
  // Applies the change, or nothing of it. When it returns OK the change survives power loss; the value is the revision
  // of the last log entry written so far. ConditionFailed(key) (below) when a condition does not hold: read again and
  // decide. DISK_FULL, IO_ERROR: not applied, except that a change whose error MayBeApplied (below) is not visible, but
  // may turn out to be there when the catalog is opened again. Changes are applied one after the other, several per
  // disk sync.
  virtual absl::StatusOr<int64_t> Apply(const ChangeSet& change) = 0;
  // Reads all that the catalog keeps on the disk and compares it with its checksums: CATALOG_CORRUPT, IO_ERROR. Takes
  // time by its size; changes go on meanwhile.
  virtual absl::Status Verify() const = 0;
  // A frozen view, for reading several keys that must agree.
  virtual std::unique_ptr<CatalogReader> Snapshot() const = 0;
  // Writes all records, as of one moment during the call, to a new directory: a catalog of its own, which shares what
  // never changes. Changes may wait for it. Durable once the caller has synced the parent directory; after an error
  // there is no such directory. NOT_IMPLEMENTED by a catalog that is kept in no directory.
  virtual absl::Status Checkpoint(const std::string& directory);
};

// What Apply returns when the condition on `key` does not hold: an ABORTED status without a Reason, for the caller to
// act on and never to be shown to a user. FailedConditionKey gives the key back; nullopt for any other status.
absl::Status ConditionFailed(absl::string_view key);
std::optional<std::string> FailedConditionKey(const absl::Status& status);

// `status`, marked: the disk failed at a moment that leaves open how much of the change it has.
absl::Status Undecided(absl::Status status);
bool MayBeApplied(const absl::Status& status);

// The key of a change log entry; the only key the catalog itself knows. Ordered by revision.
std::string LogKey(int64_t revision);

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_CATALOG_H_
