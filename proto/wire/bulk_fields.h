#ifndef SCONCE_PROTO_WIRE_BULK_FIELDS_H_
#define SCONCE_PROTO_WIRE_BULK_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/strings.h"

// The messages of the bulk streams (sconce/v1/transfer_service.proto) all share one shape:
//
//   message { Header header = 1; bytes manifest = 2; [optional] int64 offset = 3; bytes xxh3 = 4; bytes data = 15; }
//
// Their encoding is read and written here by hand, over plain bytes, so that `manifest` and `data` are never copied.
// What the generated classes write is read here, and the other way round. No gRPC in this header: see bulk_message.h.
namespace sconce::wire {

// What is in a message. Absent fields are empty. The spans point into the input.
struct BulkFields {
  std::optional<std::string> header;  // the submessage's encoding; several are joined, which merges them
  std::vector<ByteSpan> manifest;     // in pieces, since the input comes in pieces; none of them is empty
  std::optional<int64_t> offset;
  std::string xxh3;
  std::vector<ByteSpan> data;  // likewise

  int64_t manifest_bytes() const;
  int64_t data_bytes() const;
};

// Parses a message that lies in several pieces of memory, as protobuf does: fields in any order, the last of several
// counts, unknown ones (also groups, and known numbers with another wire type) are skipped. STREAM_PROTOCOL_VIOLATED
// when it is malformed. Time linear in the input's size; copies only `header` and `xxh3`.
absl::StatusOr<BulkFields> ParseBulkFields(absl::Span<const ByteSpan> pieces);

// What goes before the bytes of the last field of a message.
std::string HeaderPrefix(int64_t header_bytes);
std::string ManifestPrefix(int64_t manifest_bytes);
std::string DataPrefix(int64_t offset, const Fingerprint& xxh3, int64_t data_bytes);

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_BULK_FIELDS_H_
