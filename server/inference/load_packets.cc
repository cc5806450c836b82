#include "server/inference/load_packets.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/status_macros.h"
#include "server/worker_protocol/messages.h"

namespace sconce::inference {
namespace {

// The files that extents lie in, numbered in the order of their first appearance.
class FileTable {
 public:
  worker::StoredBytes Add(const StoredBytes& stored) {
    worker::StoredBytes sent;
    sent.size_bytes = stored.size_bytes;
    sent.inline_bytes = stored.extents.empty() ? AsBytes(stored.inline_bytes) : ByteSpan();
    sent.extents.reserve(stored.extents.size());
    for (const FileExtent& extent : stored.extents) {
      const auto [number, is_new] = numbers_.emplace(extent.fd, static_cast<uint32_t>(descriptors_.size()));
      if (is_new) descriptors_.push_back(extent.fd);
      sent.extents.push_back({number->second, extent.offset, extent.size_bytes});
    }
    return sent;
  }
  const std::vector<int>& descriptors() const { return descriptors_; }

 private:
  absl::flat_hash_map<int, uint32_t> numbers_;
  std::vector<int> descriptors_;
};

}  // namespace

absl::StatusOr<std::vector<worker::OutgoingPacket>> MakeLoadPackets(const ModelSpec& spec, int64_t memory_bytes) {
  FileTable files;
  worker::Load load;
  load.device = spec.device;
  load.memory_bytes = memory_bytes;
  load.module = files.Add(spec.module);
  load.has_weights = spec.weights.has_value();
  if (spec.weights.has_value()) {
    load.lenient = spec.match.lenient;
    load.min_match = spec.match.min_match;
    load.take_dtype = spec.take_dtype;
    for (const StoredBytes& storage : spec.weights->storages) load.storages.push_back(files.Add(storage));
    for (const StateEntry& entry : spec.weights->entries) load.entries.push_back({entry.name, entry.view});
  }
  std::vector<worker::OutgoingPacket> packets;
  const absl::Span<const int> descriptors = files.descriptors();
  for (size_t first = 0; first < descriptors.size(); first += worker::kMaxDescriptors) {
    packets.push_back(worker::OutgoingPacket::Files(descriptors.subspan(first, worker::kMaxDescriptors)));
  }
  SCONCE_ASSIGN_OR_RETURN(worker::OutgoingPacket packet,
                          worker::OutgoingPacket::Make(worker::MessageType::kLoad, 0, worker::Encode(load)));
  packets.push_back(std::move(packet));
  return packets;
}

}  // namespace sconce::inference
