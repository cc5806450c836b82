#ifndef SCONCE_STORAGE_REPOSITORY_CATALOG_REBUILDER_H_
#define SCONCE_STORAGE_REPOSITORY_CATALOG_REBUILDER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/blob/blob_store.h"
#include "storage/blob/footer.h"
#include "storage/catalog/catalog.h"
#include "storage/catalog/keys.h"
#include "storage/repository/deletion_log.h"
#include "storage/repository/rebuild.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {

// Records on their way into a new catalog, many a batch; Get sees those that wait.
class RecordWriter {
 public:
  explicit RecordWriter(catalog::Catalog& catalog) : catalog_(catalog) {}

  absl::Status Put(std::string key, std::string value);
  absl::StatusOr<std::optional<std::string>> Get(const std::string& key) const;
  absl::Status Flush();

 private:
  catalog::Catalog& catalog_;
  std::map<std::string, std::string> waiting_;
};

// Fills an empty catalog from what is left of a store: RebuildCatalog's work, between opening and swapping. The rules
// are at the top of the .cc file. Memory: about 100 bytes per blob and per record of the deletion log.
class CatalogRebuilder {
 public:
  // Everything outlives this; `snapshot` may be null.
  CatalogRebuilder(catalog::Catalog& catalog, blob::BlobStore& blobs, const catalog::CatalogReader* snapshot,
                   int64_t now_ns, RebuildReport& report)
      : catalog_(catalog), blobs_(blobs), snapshot_(snapshot), now_ns_(now_ns), report_(report), writer_(catalog) {}

  absl::Status Run(const DeletionLogContents& deletions);

 private:
  struct FoundRun {
    uint64_t project_uid = 0;
    RunName name;
    int64_t highest = 0;  // version
    int64_t first_ns = 0, last_ns = 0;
    int64_t restored = 0;  // versions
    int64_t newest_restored = 0;
    std::optional<records::RunRecord> snapshot;
    bool gone = false;
  };
  // An object with a footer.
  struct FoundObject {
    blob::BlobId blob;
    catalog::Owner owner;
    int64_t create_ns = 0;
    std::string key;  // of a version: of its request, if it has one; of a module: its name
    bool dropped = false;
  };
  struct Opened {
    std::shared_ptr<const blob::Blob> blob;
    blob::FooterView footer;
    records::FooterRecord record;
  };

  absl::Status TakeDeletions(const DeletionLogContents& deletions);
  absl::Status TakeSnapshotRuns();
  absl::Status ReadFooters();
  void ResolveRuns();
  absl::Status ResolveObjects();
  absl::Status WriteObjects();
  absl::Status WriteChunks();
  absl::Status SalvageChunks();
  absl::Status QuarantineDamaged();
  absl::Status WriteLostOnes();
  absl::Status WriteRuns();
  absl::Status CopyFromSnapshot();

  // nullopt for a blob whose footer cannot be used: it is reported, and remembered.
  absl::StatusOr<std::optional<Opened>> Open(const blob::BlobId& id);
  absl::Status AddFound(const blob::BlobId& id, const Opened& opened);
  FoundRun& AddRun(uint64_t run_uid, uint64_t project_uid, const RunName& name, int64_t time_ns);
  absl::Status WriteVersion(const FoundObject& object, const Opened& opened, const records::ManifestLocation& manifest);
  absl::Status WriteRequest(const FoundObject& object, const Opened& opened);
  absl::Status WriteChunk(const blob::BlobId& id, const blob::FooterChunk& chunk, bool& used);
  absl::StatusOr<bool> IsReferenced(uint64_t project_uid, const Digest& chunk) const;
  bool BytesMatch(uint64_t project_uid, const records::ChunkRecord& record);
  absl::Status PutMissingChunk(uint64_t project_uid, const Digest& chunk, const catalog::Owner& owner);
  absl::Status Quarantine(const catalog::Owner& owner, const std::vector<Digest>& chunks);
  bool IsDeleted(const catalog::Owner& owner) const;
  std::string NameOf(const catalog::Owner& owner) const;
  template <typename Record>
  absl::StatusOr<std::optional<Record>> FromSnapshot(const std::string& key) const;

  catalog::Catalog& catalog_;
  blob::BlobStore& blobs_;
  const catalog::CatalogReader* const snapshot_;
  const int64_t now_ns_;
  RebuildReport& report_;
  RecordWriter writer_;

  std::vector<blob::BlobId> all_blobs_;
  absl::flat_hash_set<blob::BlobId> unusable_;
  std::map<uint64_t, FoundRun> runs_;         // by uid
  std::map<uint64_t, std::string> projects_;  // by uid
  std::vector<FoundObject> objects_;
  absl::flat_hash_set<std::tuple<char, uint64_t, uint64_t>> deleted_;  // as Deletion: kind, run, number
  uint64_t highest_uid_ = 0;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CATALOG_REBUILDER_H_
