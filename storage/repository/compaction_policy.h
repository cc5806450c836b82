#ifndef SCONCE_STORAGE_REPOSITORY_COMPACTION_POLICY_H_
#define SCONCE_STORAGE_REPOSITORY_COMPACTION_POLICY_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "storage/blob/blob_store.h"

// Which blobs to write anew, as a pure function of what each takes and what of it is needed.
//
// Live bytes are what the content that is needed would take if it were all written anew: a file for each living
// version, module or part, with its footer and those of its chunks that are needed; and in each project one file for
// the needed chunks that owners left behind when they died. Waste is what the blobs take beyond that.
namespace sconce::repository {

// What a chunk takes: its bytes, padded as they are stored, and its row of the chunk table.
int64_t ChunkFootprint(int64_t size_bytes);

// A blob that holds more than is needed.
struct WastefulBlob {
  blob::BlobId id;
  int64_t allocated_bytes = 0;  // on the disk
  int64_t live_bytes = 0;       // ChunkFootprint of the chunks that are needed
  int64_t footer_bytes = 0;     // header, manifest and record, when the owner lives; 0: nobody needs the footer
  bool damaged_footer = false;  // the blobs alone could not say what the catalog says

  bool IsOwned() const { return footer_bytes > 0; }
};

// The size of a blob file with chunks of these footprints and, for a living owner, such a footer.
int64_t RewrittenBytes(int64_t live_bytes, int64_t footer_bytes);
// What the blob takes beyond what it would take if written anew. Of one without an owner, only its chunks' footprints
// count: it is merged with others.
int64_t WasteOf(const WastefulBlob& blob);

// Blobs that become one: one whose owner lives, or several of a project whose owners do not.
using CompactionGroup = std::vector<WastefulBlob>;

// What to write anew, the most wasteful first. A blob with a damaged footer always is, alone. A blob that wastes more
// than it needs is always worth it; others are taken, the most wasteful first, until what remains wasted is below
// kMaxWaste of all live bytes. Nothing is taken that would not get smaller. `blobs` are all that waste anything;
// `physical_bytes` is what all blobs of the store take together, nullopt while that is not known: then only the first
// rule applies.
inline constexpr double kMaxWaste = 0.04;
std::vector<CompactionGroup> ChooseBlobs(std::vector<WastefulBlob> blobs, std::optional<int64_t> physical_bytes);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_COMPACTION_POLICY_H_
