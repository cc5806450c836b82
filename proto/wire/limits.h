#ifndef SCONCE_PROTO_WIRE_LIMITS_H_
#define SCONCE_PROTO_WIRE_LIMITS_H_

#include <cstddef>
#include <cstdint>

// Sizes that both ends of the wire agree on (DESIGN.md section 4).
namespace sconce::wire {

// Largest message of any call but inference: what default clients accept, and what the server takes.
inline constexpr int64_t kMaxMessageBytes = int64_t{4} << 20;
// Largest request of an inference call; also gRPC's own receive limit in the server.
inline constexpr int64_t kMaxInferenceMessageBytes = int64_t{64} << 20;
// Largest `data` of a bulk message, and what a sender should fill.
inline constexpr int64_t kMaxBulkDataBytes = int64_t{2} << 20;
// Largest piece of a manifest in one message.
inline constexpr int64_t kMaxManifestPieceBytes = int64_t{1} << 20;
// Proposals and proofs in one message of UploadChunks.
inline constexpr size_t kMaxChunkQuestions = 65'536;
// Largest encoded manifest a push may bring: some ten million nodes.
inline constexpr int64_t kMaxManifestBytes = int64_t{256} << 20;

// An error's message and details together: C-core clients drop a call whose trailing metadata pass about 8 KiB.
inline constexpr size_t kMaxErrorBytes = 4096;

inline constexpr int32_t kDefaultPageSize = 50;
inline constexpr int32_t kMaxPageSize = 1000;

// Labels and metrics of one run or version.
inline constexpr int kMaxLabels = 64;
inline constexpr size_t kMaxLabelKeyBytes = 63;
inline constexpr size_t kMaxLabelValueBytes = 255;
inline constexpr int kMaxMetrics = 256;
inline constexpr size_t kMaxMetricNameBytes = 128;

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_LIMITS_H_
