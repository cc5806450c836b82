#include "server/store_metrics.h"

#include <algorithm>

#include "base/version.h"

namespace sconce {
namespace {

using observability::Counter;
using observability::Family;
using observability::Gauge;

double Number(int64_t value) {
  return static_cast<double>(value);
}

void AddIntegrity(const repository::Integrity& integrity, std::vector<Family>& families) {
  families.push_back(Counter("sconce_verify_failures_total",
                             "Chunks, manifests, footers and catalogs found damaged since the start.",
                             Number(integrity.failures)));
  families.push_back(
      Gauge("sconce_quarantined_objects", "Versions and modules that are quarantined.", Number(integrity.quarantined)));
  families.push_back(Gauge("sconce_damaged_footers",
                           "Blobs that serve, but that a rebuild of the catalog could not use, as of the last check.",
                           Number(integrity.damaged_footers)));
  families.push_back(Gauge("sconce_catalog_corrupt", "1 when the catalog was found damaged since the start.",
                           integrity.catalog_corrupt ? 1 : 0));
  if (integrity.last_scrub_time) {
    families.push_back(Gauge("sconce_last_scrub_timestamp_seconds", "When the last round of the scrub ended.",
                             absl::ToDoubleSeconds(*integrity.last_scrub_time - absl::UnixEpoch())));
  }
}

}  // namespace

std::vector<Family> StoreMetrics(repository::Repository& repository) {
  std::vector<Family> families;
  Family build{"sconce_build_info", "The version that runs.", Family::Type::kGauge, {}};
  build.Add({{"version", kVersion}}, 1);
  families.push_back(std::move(build));
  const repository::Integrity integrity = repository.GetIntegrity();
  AddIntegrity(integrity, families);
  const auto stats = repository.GetStats();
  if (!stats.ok()) return families;
  Family checkpoints{"sconce_checkpoints", "Versions, by their state.", Family::Type::kGauge, {}};
  checkpoints.Add({{"state", "committed"}},
                  Number(std::max<int64_t>(0, stats->checkpoints - integrity.quarantined_versions)));
  checkpoints.Add({{"state", "quarantined"}}, Number(integrity.quarantined_versions));
  families.push_back(std::move(checkpoints));
  families.push_back(Counter("sconce_committed_total", "Versions committed.", Number(stats->commits)));
  Family uploaded{"sconce_upload_bytes_total",
                  "Bytes of committed versions: new ones, and ones stored before.",
                  Family::Type::kCounter,
                  {}};
  uploaded.Add({{"result", "new"}}, Number(stats->stored_bytes));
  uploaded.Add({{"result", "dedup"}}, Number(stats->deduplicated_bytes));
  families.push_back(std::move(uploaded));
  Family bytes{
      "sconce_blob_bytes", "Bytes of blob files; after a start, of those counted so far.", Family::Type::kGauge, {}};
  bytes.Add({{"kind", "physical"}}, Number(stats->physical_bytes));
  families.push_back(std::move(bytes));
  families.push_back(Gauge("sconce_blobs", "Blob files; after a start, those counted so far.", Number(stats->blobs)));
  families.push_back(Counter("sconce_gc_deleted_bytes_total", "Bytes of blob files that the collector removed.",
                             Number(stats->collected_bytes)));
  families.push_back(
      Gauge("sconce_disk_free_bytes", "Bytes free on the data directory's disk.", Number(stats->free_bytes)));
  if (stats->last_commit_time) {
    families.push_back(Gauge("sconce_last_commit_timestamp_seconds", "When the last version was committed.",
                             absl::ToDoubleSeconds(*stats->last_commit_time - absl::UnixEpoch())));
  }
  return families;
}

}  // namespace sconce
