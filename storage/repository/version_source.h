#ifndef SCONCE_STORAGE_REPOSITORY_VERSION_SOURCE_H_
#define SCONCE_STORAGE_REPOSITORY_VERSION_SOURCE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/list_plan.h"

// Versions in the order of a list, read from the catalog as they are needed.
namespace sconce::repository {

// A place in a list: what it is ordered by, encoded as in the index (0 when that is the version), and the version.
struct ListPosition {
  uint64_t value = 0;
  int64_t version = 0;
  friend bool operator==(const ListPosition& a, const ListPosition& b) {
    return a.value == b.value && a.version == b.version;
  }
};
bool ComesBefore(const ListPosition& a, const ListPosition& b, const CheckpointOrder& order);

// As in Page.next; nullopt when the text is not such a place.
std::string FormatPosition(const ListPosition& position, const CheckpointOrder& order);
std::optional<ListPosition> ParsePosition(const std::string& text, const CheckpointOrder& order);

struct ListEntry {
  ListPosition position;
  std::string record;  // the bytes of its record; empty: not read yet
};

class VersionSource {
 public:
  virtual ~VersionSource() = default;
  // The next ones, at most `n`, each once; none at the end. Reads about as many keys as it gives.
  virtual absl::StatusOr<std::vector<ListEntry>> Take(size_t n) = 0;
};

// The stream of a plan, from `start` on (nullopt: from the beginning). `reader` outlives it.
std::unique_ptr<VersionSource> OpenStream(const catalog::CatalogReader& reader, uint64_t run_uid, const ListPlan& plan,
                                          const std::optional<ListPosition>& start);

// Entries that are sorted and unique.
std::unique_ptr<VersionSource> ServeEntries(std::vector<ListEntry> entries);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_VERSION_SOURCE_H_
