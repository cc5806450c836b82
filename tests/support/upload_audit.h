#ifndef SCONCE_TESTS_SUPPORT_UPLOAD_AUDIT_H_
#define SCONCE_TESTS_SUPPORT_UPLOAD_AUDIT_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/blob/blob_store.h"
#include "storage/catalog/catalog.h"

namespace sconce {

// What the uploads that are still open account for, as their own records say; and what of others lies about.
struct OpenUploads {
  std::set<blob::BlobId> blobs;         // sealed or not
  std::vector<std::string> references;  // keys
  std::vector<std::string> leaks;       // parts and journals of uploads that have ended
};
absl::StatusOr<OpenUploads> ReadOpenUploads(const catalog::CatalogReader& catalog);

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_UPLOAD_AUDIT_H_
