#ifndef SCONCE_PROTO_WIRE_FIELD_READER_H_
#define SCONCE_PROTO_WIRE_FIELD_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/strings.h"

// Protobuf's encoding (protobuf.dev/programming-guides/encoding) read and written by hand, for messages whose bytes are
// not to be copied: a message is a sequence of records, each a tag (field number << 3 | wire type) and a payload.
namespace sconce::wire {

// One record of a message.
struct WireField {
  uint32_t number = 0;
  bool is_bytes = false;        // length-delimited; otherwise a varint
  uint64_t varint = 0;          // of a varint
  std::vector<ByteSpan> bytes;  // of a length-delimited one: pieces that point into the input, none of them empty
};

// Calls `take` for every varint and length-delimited record of a message that lies in several pieces of memory, in the
// order they come. Fixed-width ones and groups with all that is in them are passed over, as protobuf does with unknown
// fields. STREAM_PROTOCOL_VIOLATED when the message is malformed; what came before was taken then. Time linear in the
// input's size.
absl::Status ForEachField(absl::Span<const ByteSpan> pieces, absl::FunctionRef<void(WireField)> take);

// The bytes of all pieces together.
int64_t TotalBytes(const std::vector<ByteSpan>& pieces);
void AppendPieces(const std::vector<ByteSpan>& pieces, std::string& out);

// A record as protobuf writes it; of a length-delimited one what goes before its payload.
void AppendVarintField(uint32_t number, uint64_t value, std::string& out);
void AppendBytesPrefix(uint32_t number, int64_t size_bytes, std::string& out);

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_FIELD_READER_H_
