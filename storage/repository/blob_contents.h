#ifndef SCONCE_STORAGE_REPOSITORY_BLOB_CONTENTS_H_
#define SCONCE_STORAGE_REPOSITORY_BLOB_CONTENTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/blob/footer.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"

// What of a blob is needed. What it holds is read from its own footer; what of that counts, from the catalog.
namespace sconce::repository {

enum class OwnerState {
  kNone,    // it has no owner, or one that is gone or whose footer stands in another blob
  kLiving,  // the footer is needed
  kDying,   // deleted, and references remain to be dropped with the help of the manifest in the footer
};
// Of the version or module a blob was sealed for. CATALOG_CORRUPT.
absl::StatusOr<OwnerState> StateOfOwner(const catalog::CatalogReader& reader, const records::BlobRecord& record);

// A chunk of the footer whose record says that it stands in this blob.
struct LiveChunk {
  const blob::FooterChunk& place;
  const std::string& key;
  const std::string& value;  // of its record
  const records::ChunkRecord& record;
};
// Visits the chunks of `footer` that are live in blob `id`, a bounded number of records read at a time.
absl::Status VisitLiveChunks(const catalog::CatalogReader& reader, const blob::BlobId& id,
                             const blob::FooterView& footer, absl::FunctionRef<absl::Status(const LiveChunk&)> visit);

// Whether a chunk record of the project points into the blob, by looking at every one: for a blob whose footer cannot
// be read.
absl::StatusOr<bool> AnyChunkIn(const catalog::CatalogReader& reader, const blob::BlobId& id);

// The footer that a blob should have, made from what the catalog says, for one whose own cannot be read. `view` points
// into the blob and into `record`.
struct KnownFooter {
  blob::FooterView view;
  std::shared_ptr<const std::string> record;
};
// `owned`: its owner lives. CHUNK_CORRUPT when the owner's manifest is damaged too, or stands elsewhere.
absl::StatusOr<KnownFooter> FooterByCatalog(const catalog::CatalogReader& reader, const blob::Blob& blob,
                                            const records::BlobRecord& record, bool owned);

// Bytes of the footer without its chunk table: header, manifest and record.
int64_t FooterBytes(const blob::FooterView& footer);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_BLOB_CONTENTS_H_
