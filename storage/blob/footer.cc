#include "storage/blob/footer.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/file_system.h"
#include "base/status_macros.h"

// All integers are little-endian; the tables of offsets below are those of docs/formats/blob.md.
namespace sconce::blob {
namespace {

// Footer header, 64 bytes: magic 0, version 8, zero 12, footer_offset 16, chunk count 24, manifest size 32, record size
// 40, zero 48. Then per chunk 64 bytes: SHA-256 0, XXH3-128 32, offset 48, size 56. Then the manifest and the record,
// each followed by zeros up to a multiple of 8.
constexpr absl::string_view kFooterMagic = "SCNFOOT\n";
constexpr int64_t kHeaderBytes = 64;
constexpr int64_t kChunkBytes = 64;

// Trailer, 96 bytes: magic 0, version 8, zero 12, file size 16, footer offset 24, footer size 32, footer XXH3-128 40,
// project uid 56, blob id 64, XXH3-128 of the 80 bytes before it 80.
constexpr absl::string_view kTrailerMagic = "SCNBLOB\n";
constexpr int64_t kTrailerChecked = 80;

constexpr uint32_t kVersion = 1;

void PutU32(uint32_t value, uint8_t* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}
void PutU64(uint64_t value, uint8_t* out) {
  for (int i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}
uint32_t GetU32(const uint8_t* in) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{in[i]} << (8 * i);
  return value;
}
uint64_t GetU64(const uint8_t* in) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value |= uint64_t{in[i]} << (8 * i);
  return value;
}

int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

absl::Status Corrupt(absl::string_view what) {
  return MakeError(Reason::CHUNK_CORRUPT,
                   absl::StrCat("a blob file is damaged: ", what, "; restore it from a backup or push again"));
}

absl::Status CheckVersion(const uint8_t* in, absl::string_view what) {
  const uint32_t version = GetU32(in);
  if (version == kVersion) return absl::OkStatus();
  return MakeError(Reason::DATA_DIR_INCOMPATIBLE,
                   absl::StrCat("a blob file has a ", what, " of version ", version, " and this sconced reads version ",
                                kVersion, "; run the release that wrote it, or a newer one"));
}

bool AllZero(ByteSpan bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

// Reads one section of `size` bytes and the zeros after it from the front of `rest`. The caller's bound: `size` may be
// anything.
absl::StatusOr<ByteSpan> TakeSection(uint64_t size, absl::string_view what, ByteSpan& rest) {
  if (size > rest.size()) return Corrupt(absl::StrCat("its ", what, " does not fit in its footer"));
  const size_t padded = static_cast<size_t>(RoundUp(static_cast<int64_t>(size), 8));
  if (padded > rest.size()) return Corrupt(absl::StrCat("its ", what, " does not fit in its footer"));
  if (!AllZero(rest.subspan(size, padded - size))) {
    return Corrupt(absl::StrCat("the padding after its ", what, " is not zero"));
  }
  const ByteSpan section = rest.first(size);
  rest.remove_prefix(padded);
  return section;
}

absl::StatusOr<FooterChunk> DecodeChunk(const uint8_t* in, int64_t footer_offset) {
  FooterChunk chunk;
  std::memcpy(chunk.sha256.bytes.data(), in, 32);
  std::memcpy(chunk.xxh3.bytes.data(), in + 32, 16);
  const uint64_t offset = GetU64(in + 48);
  const uint64_t size = GetU64(in + 56);
  const uint64_t end = static_cast<uint64_t>(footer_offset);
  if (size == 0 || size > end || offset > end - size || offset % kPackAlignment != 0) {
    return Corrupt("a chunk of its footer lies outside the data");
  }
  chunk.offset = static_cast<int64_t>(offset);
  chunk.size_bytes = static_cast<int64_t>(size);
  return chunk;
}

}  // namespace

int64_t ManifestOffset(int64_t footer_offset, size_t chunk_count) {
  return footer_offset + kHeaderBytes + kChunkBytes * static_cast<int64_t>(chunk_count);
}

int64_t EncodedFooterBytes(size_t chunk_count, size_t manifest_bytes, size_t record_bytes) {
  const int64_t record_at = RoundUp(ManifestOffset(0, chunk_count) + static_cast<int64_t>(manifest_bytes), 8);
  return RoundUp(record_at + static_cast<int64_t>(record_bytes), 8);
}

EncodedFooter EncodeFooter(absl::Span<const FooterChunk> chunks, ByteSpan manifest, ByteSpan record,
                           int64_t footer_offset) {
  SCONCE_CHECK(footer_offset >= 0 && footer_offset % kPackAlignment == 0);
  EncodedFooter footer;
  footer.manifest_offset = ManifestOffset(footer_offset, chunks.size());
  const int64_t manifest_at = footer.manifest_offset - footer_offset;
  const int64_t record_at = RoundUp(manifest_at + static_cast<int64_t>(manifest.size()), 8);
  footer.bytes.resize(static_cast<size_t>(EncodedFooterBytes(chunks.size(), manifest.size(), record.size())));

  auto* out = reinterpret_cast<uint8_t*>(footer.bytes.data());
  std::memcpy(out, kFooterMagic.data(), kFooterMagic.size());
  PutU32(kVersion, out + 8);
  PutU64(static_cast<uint64_t>(footer_offset), out + 16);
  PutU64(chunks.size(), out + 24);
  PutU64(manifest.size(), out + 32);
  PutU64(record.size(), out + 40);
  uint8_t* row = out + kHeaderBytes;
  for (const FooterChunk& chunk : chunks) {
    std::memcpy(row, chunk.sha256.bytes.data(), 32);
    std::memcpy(row + 32, chunk.xxh3.bytes.data(), 16);
    PutU64(static_cast<uint64_t>(chunk.offset), row + 48);
    PutU64(static_cast<uint64_t>(chunk.size_bytes), row + 56);
    row += kChunkBytes;
  }
  std::copy(manifest.begin(), manifest.end(), out + manifest_at);
  std::copy(record.begin(), record.end(), out + record_at);
  return footer;
}

absl::StatusOr<FooterView> DecodeFooter(ByteSpan footer, int64_t footer_offset) {
  if (footer.size() < kHeaderBytes) return Corrupt("its footer is too short");
  const uint8_t* header = footer.data();
  if (AsText(footer.first(kFooterMagic.size())) != kFooterMagic) return Corrupt("its footer does not start as one");
  SCONCE_RETURN_IF_ERROR(CheckVersion(header + 8, "footer"));
  if (GetU32(header + 12) != 0 || !AllZero(footer.subspan(48, 16))) return Corrupt("reserved bytes are not zero");
  if (footer_offset < 0 || footer_offset % kPackAlignment != 0 ||
      footer_offset > INT64_MAX - static_cast<int64_t>(footer.size()) ||
      GetU64(header + 16) != static_cast<uint64_t>(footer_offset)) {
    return Corrupt("its footer belongs at another place");
  }
  ByteSpan rest = footer.subspan(kHeaderBytes);
  const uint64_t chunk_count = GetU64(header + 24);
  if (chunk_count > rest.size() / kChunkBytes) return Corrupt("its chunk table does not fit in its footer");

  FooterView view;
  view.chunks.reserve(chunk_count);
  for (uint64_t i = 0; i < chunk_count; ++i) {
    SCONCE_ASSIGN_OR_RETURN(const FooterChunk chunk, DecodeChunk(rest.data(), footer_offset));
    view.chunks.push_back(chunk);
    rest.remove_prefix(kChunkBytes);
  }
  view.manifest_offset = ManifestOffset(footer_offset, view.chunks.size());
  SCONCE_ASSIGN_OR_RETURN(view.manifest, TakeSection(GetU64(header + 32), "manifest", rest));
  SCONCE_ASSIGN_OR_RETURN(view.record, TakeSection(GetU64(header + 40), "record", rest));
  if (!rest.empty()) return Corrupt("bytes follow its footer");
  return view;
}

absl::StatusOr<FooterView> ReadFooter(const Blob& blob) {
  SCONCE_ASSIGN_OR_RETURN(const ByteSpan footer, blob.Footer());
  return DecodeFooter(footer, blob.footer_offset());
}

int64_t SealedSize(int64_t footer_offset, int64_t footer_size_bytes) {
  return RoundUp(footer_offset + footer_size_bytes + kTrailerBytes, kDirectAlignment);
}

std::array<uint8_t, kTrailerBytes> EncodeTrailer(const Trailer& trailer) {
  std::array<uint8_t, kTrailerBytes> bytes{};
  uint8_t* out = bytes.data();
  std::memcpy(out, kTrailerMagic.data(), kTrailerMagic.size());
  PutU32(kVersion, out + 8);
  PutU64(static_cast<uint64_t>(trailer.file_size_bytes), out + 16);
  PutU64(static_cast<uint64_t>(trailer.footer_offset), out + 24);
  PutU64(static_cast<uint64_t>(trailer.footer_size_bytes), out + 32);
  std::memcpy(out + 40, trailer.footer_xxh3.bytes.data(), 16);
  PutU64(trailer.id.project_uid, out + 56);
  std::memcpy(out + 64, trailer.id.id.data(), 16);
  const Fingerprint check = Xxh3(ByteSpan(out, kTrailerChecked));
  std::memcpy(out + kTrailerChecked, check.bytes.data(), 16);
  return bytes;
}

absl::StatusOr<Trailer> DecodeTrailer(ByteSpan bytes, int64_t file_size_bytes) {
  if (bytes.size() != kTrailerBytes) return Corrupt("it is too short for its trailer");
  if (AsText(bytes.first(kTrailerMagic.size())) != kTrailerMagic) return Corrupt("it does not end with a trailer");
  const uint8_t* in = bytes.data();
  if (Xxh3(bytes.first(kTrailerChecked)).AsKey() != AsText(bytes.subspan(kTrailerChecked))) {
    return Corrupt("its trailer does not match its checksum");
  }
  SCONCE_RETURN_IF_ERROR(CheckVersion(in + 8, "trailer"));
  const uint64_t file_size = GetU64(in + 16);
  const uint64_t offset = GetU64(in + 24);
  const uint64_t size = GetU64(in + 32);
  if (GetU32(in + 12) != 0 || file_size_bytes < kDirectAlignment || file_size_bytes % kDirectAlignment != 0 ||
      file_size != static_cast<uint64_t>(file_size_bytes)) {
    return Corrupt("its trailer does not fit its size");
  }
  const uint64_t room = file_size - kTrailerBytes;
  if (offset > room || size > room - offset || offset % kPackAlignment != 0 ||
      SealedSize(static_cast<int64_t>(offset), static_cast<int64_t>(size)) != file_size_bytes) {
    return Corrupt("its trailer does not fit its size");
  }
  Trailer trailer;
  trailer.file_size_bytes = file_size_bytes;
  trailer.footer_offset = static_cast<int64_t>(offset);
  trailer.footer_size_bytes = static_cast<int64_t>(size);
  std::memcpy(trailer.footer_xxh3.bytes.data(), in + 40, 16);
  trailer.id.project_uid = GetU64(in + 56);
  std::memcpy(trailer.id.id.data(), in + 64, 16);
  return trailer;
}

}  // namespace sconce::blob
