#ifndef SCONCE_TESTS_SUPPORT_STORE_AUDIT_H_
#define SCONCE_TESTS_SUPPORT_STORE_AUDIT_H_

#include <gmock/gmock.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/blob/blob_store.h"
#include "storage/catalog/catalog.h"

namespace sconce {

// What a store should look like, computed anew from its runs, versions and modules, every manifest and every blob's
// footer, and compared with what its catalog and its directories say.
struct StoreAudit {
  // Never there, at whatever moment a process died: a reference, chunk or blob record that a version needs and that is
  // missing or wrong, bytes that are not what their digest says, an index or a count that does not fit.
  std::vector<std::string> contradictions;
  // What nothing accounts for (blob files, part files, records), and deletions not carried out yet. There may be some
  // after a crash or a deletion, and there is none after the next start and one collection without pushes in progress.
  std::vector<std::string> leaks;

  int64_t runs = 0, versions = 0, modules = 0, references = 0, chunks = 0, blobs = 0;
  // What the blobs take on the disk, and what of it is needed: the chunks that have records, padded as they are stored
  // and with their rows of the chunk table, and for each version and module the rest of its footer and its blob's
  // trailer, in whole pages. In each project, what is left of owners that are gone counts as one more blob.
  int64_t physical_bytes = 0, live_bytes = 0;
};

struct StoreAuditOptions {
  bool read_chunks = true;  // and check their SHA-256
};

// Over open parts, at a moment when nobody changes them. An error only when the catalog itself cannot be read.
absl::StatusOr<StoreAudit> AuditStore(const catalog::CatalogReader& catalog, blob::BlobStore& blobs,
                                      const StoreAuditOptions& options = {});

// Over a data directory that no process has open, with the files below uploads/ and blobs/ whose names are not a
// blob's. orphans/ are accounted for: they go after a day.
absl::StatusOr<StoreAudit> AuditDataDir(const std::string& data_dir, const StoreAuditOptions& options = {});

// The audit found nothing. EXPECT_THAT(AuditDataDir(dir), IsClean());
MATCHER(IsClean, "finds neither contradictions nor leaks") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  *result_listener << "contradictions " << ::testing::PrintToString(arg->contradictions) << ", leaks "
                   << ::testing::PrintToString(arg->leaks);
  return arg->contradictions.empty() && arg->leaks.empty();
}
// There may be leaks, as before the first collection.
MATCHER(IsConsistent, "finds no contradictions") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  *result_listener << "contradictions " << ::testing::PrintToString(arg->contradictions);
  return arg->contradictions.empty();
}

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_STORE_AUDIT_H_
