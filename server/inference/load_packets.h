#ifndef SCONCE_SERVER_INFERENCE_LOAD_PACKETS_H_
#define SCONCE_SERVER_INFERENCE_LOAD_PACKETS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "server/inference/runtime.h"
#include "server/worker_protocol/channel.h"

namespace sconce::inference {

// What a worker must be sent to load `spec`: Files, as many as it takes (each file once, however many extents it has),
// then Load. Borrows the spec's descriptors until the packets are sent.
absl::StatusOr<std::vector<worker::OutgoingPacket>> MakeLoadPackets(const ModelSpec& spec, int64_t memory_bytes = 0);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_LOAD_PACKETS_H_
