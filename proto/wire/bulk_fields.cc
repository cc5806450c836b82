#include "proto/wire/bulk_fields.h"

#include <utility>

#include "base/status_macros.h"
#include "proto/wire/field_reader.h"

namespace sconce::wire {
namespace {

constexpr uint32_t kHeaderField = 1, kManifestField = 2, kOffsetField = 3, kXxh3Field = 4, kDataField = 15;

// Puts the payload of a length-delimited field where it belongs; that of an unknown one nowhere.
void SetBytesField(uint32_t field, std::vector<ByteSpan> payload, BulkFields& fields) {
  switch (field) {
    case kHeaderField:
      if (!fields.header.has_value()) fields.header.emplace();
      AppendPieces(payload, *fields.header);
      return;
    case kManifestField:
      fields.manifest = std::move(payload);
      return;
    case kXxh3Field:
      fields.xxh3.clear();
      AppendPieces(payload, fields.xxh3);
      return;
    case kDataField:
      fields.data = std::move(payload);
      return;
    default:
      return;
  }
}

}  // namespace

int64_t BulkFields::manifest_bytes() const {
  return TotalBytes(manifest);
}
int64_t BulkFields::data_bytes() const {
  return TotalBytes(data);
}

absl::StatusOr<BulkFields> ParseBulkFields(absl::Span<const ByteSpan> pieces) {
  BulkFields fields;
  SCONCE_RETURN_IF_ERROR(ForEachField(pieces, [&fields](WireField field) {
    if (field.is_bytes) {
      SetBytesField(field.number, std::move(field.bytes), fields);
    } else if (field.number == kOffsetField) {
      fields.offset = static_cast<int64_t>(field.varint);
    }
  }));
  return fields;
}

std::string HeaderPrefix(int64_t header_bytes) {
  std::string prefix;
  AppendBytesPrefix(kHeaderField, header_bytes, prefix);
  return prefix;
}

std::string ManifestPrefix(int64_t manifest_bytes) {
  std::string prefix;
  AppendBytesPrefix(kManifestField, manifest_bytes, prefix);
  return prefix;
}

std::string DataPrefix(int64_t offset, const Fingerprint& xxh3, int64_t data_bytes) {
  std::string prefix;
  AppendVarintField(kOffsetField, static_cast<uint64_t>(offset), prefix);
  AppendBytesPrefix(kXxh3Field, static_cast<int64_t>(xxh3.bytes.size()), prefix);
  AppendPieces({ByteSpan(xxh3.bytes)}, prefix);
  AppendBytesPrefix(kDataField, data_bytes, prefix);
  return prefix;
}

}  // namespace sconce::wire
