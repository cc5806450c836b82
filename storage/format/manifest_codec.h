#ifndef SCONCE_STORAGE_FORMAT_MANIFEST_CODEC_H_
#define SCONCE_STORAGE_FORMAT_MANIFEST_CODEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/manifest.h"

// The one encoding of a manifest as bytes; docs/formats/manifest.md specifies it. A manifest's digest is the SHA-256 of
// exactly these bytes.
namespace sconce::format {

inline constexpr uint8_t kManifestVersion = 1;

// Requires a manifest that Validate accepts. Contains the chunk table exactly when its bulk storages have chunks.
std::string EncodeManifest(const Manifest& manifest);

// The manifest, decoded and validated. Canonical: EncodeManifest of the result is `bytes` again. Allocates no more than
// a constant times bytes.size(). MANIFEST_INVALID with the offset of what is wrong; MANIFEST_VERSION_UNSUPPORTED when
// it was written by a newer Sconce; INPUT_LIMIT_EXCEEDED beyond kMaxNodes.
absl::StatusOr<Manifest> DecodeManifest(ByteSpan bytes);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_MANIFEST_CODEC_H_
