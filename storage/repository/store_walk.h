#ifndef SCONCE_STORAGE_REPOSITORY_STORE_WALK_H_
#define SCONCE_STORAGE_REPOSITORY_STORE_WALK_H_

#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "storage/catalog/catalog.h"
#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/repository.h"

// Walks over what a store has, a bounded number of records at a time and without holding a state of the catalog: what
// is added meanwhile may be missed, what is removed may be named. For one thread.
namespace sconce::repository {

// The keys of a prefix, in order, each with its value.
class KeyWalk {
 public:
  // Goes on behind `after`, a key ("" starts).
  KeyWalk(const catalog::CatalogReader& reader, std::string prefix, std::string after = "");
  // nullopt at the end.
  absl::StatusOr<std::optional<std::pair<std::string, std::string>>> Next();

 private:
  const catalog::CatalogReader* reader_;  // outlives this
  std::string prefix_;
  std::string next_;  // where the next batch begins
  bool ended_ = false;
  std::deque<std::pair<std::string, std::string>> batch_;
};

// The versions and modules of one run, or of all runs (of a project); hidden and deleted runs have none.
class OwnerWalk {
 public:
  struct Item {
    uint64_t project_uid = 0;
    catalog::Owner owner;
    ObjectName name;
  };
  // Of everything, from the run with uid `first_run_uid` on; `project_uid` 0: of all projects.
  OwnerWalk(const catalog::CatalogReader& reader, uint64_t project_uid, uint64_t first_run_uid);
  OwnerWalk(const catalog::CatalogReader& reader, const records::RunRecord& run);

  absl::StatusOr<std::optional<Item>> Next();

 private:
  void Enter(const records::RunRecord& run);

  const catalog::CatalogReader& reader_;
  const uint64_t project_uid_;
  std::optional<KeyWalk> runs_;
  records::RunRecord run_;
  std::optional<KeyWalk> versions_, modules_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_STORE_WALK_H_
