#ifndef SCONCE_STORAGE_BLOB_FOOTER_H_
#define SCONCE_STORAGE_BLOB_FOOTER_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/strings.h"
#include "storage/blob/blob_store.h"

// The end of every blob file, byte for byte in docs/formats/blob.md: a footer that says what the blob holds and for
// whom, then a trailer of fixed size that says where the footer is. The repository makes the footer and hands it to
// BlobWriter::Seal, which adds the trailer.
namespace sconce::blob {

struct FooterChunk {
  Digest sha256;
  Fingerprint xxh3;
  int64_t offset = 0;  // in the blob
  int64_t size_bytes = 0;
};

// A footer as bytes, and where its manifest then stands in the blob.
struct EncodedFooter {
  std::string bytes;
  int64_t manifest_offset = 0;
};

// `footer_offset` is BlobWriter::FooterOffset(). `record` is the serialized catalog record of the version or module the
// blob was sealed for; like the manifest it is opaque here. Both may be empty.
EncodedFooter EncodeFooter(absl::Span<const FooterChunk> chunks, ByteSpan manifest, ByteSpan record,
                           int64_t footer_offset);

// Where EncodeFooter will put the manifest: known before the record is made, so that the record can hold it. A multiple
// of 64.
int64_t ManifestOffset(int64_t footer_offset, size_t chunk_count);

// How many bytes EncodeFooter will make.
int64_t EncodedFooterBytes(size_t chunk_count, size_t manifest_bytes, size_t record_bytes);

// A decoded footer; `manifest` and `record` point into the bytes given to DecodeFooter.
struct FooterView {
  std::vector<FooterChunk> chunks;
  ByteSpan manifest;
  ByteSpan record;
  int64_t manifest_offset = 0;  // in the blob
};

// Trusts nothing: CHUNK_CORRUPT unless `footer` is exactly what EncodeFooter makes for `footer_offset` and every chunk
// lies before it; DATA_DIR_INCOMPATIBLE for a version this build does not know.
absl::StatusOr<FooterView> DecodeFooter(ByteSpan footer, int64_t footer_offset);

// The blob's own footer, its checksum checked; points into the blob, so valid while that lives. CHUNK_CORRUPT,
// DATA_DIR_INCOMPATIBLE, IO_ERROR.
absl::StatusOr<FooterView> ReadFooter(const Blob& blob);

// The last bytes of a blob file. The file's size is a multiple of 4096; zeros fill the room between footer and trailer.
struct Trailer {
  BlobId id;
  int64_t file_size_bytes = 0;
  int64_t footer_offset = 0;
  int64_t footer_size_bytes = 0;
  Fingerprint footer_xxh3;
};
inline constexpr int64_t kTrailerBytes = 96;

std::array<uint8_t, kTrailerBytes> EncodeTrailer(const Trailer& trailer);
// CHUNK_CORRUPT unless the bytes check and fit a file of `file_size_bytes`; DATA_DIR_INCOMPATIBLE for an unknown
// version.
absl::StatusOr<Trailer> DecodeTrailer(ByteSpan bytes, int64_t file_size_bytes);

// The size of a blob file whose footer stands at `footer_offset`.
int64_t SealedSize(int64_t footer_offset, int64_t footer_size_bytes);

}  // namespace sconce::blob

#endif  // SCONCE_STORAGE_BLOB_FOOTER_H_
