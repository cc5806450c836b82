// Any bytes as a pickle: what is accepted makes a tree that Validate accepts, every storage having whatever bytes it is
// said to have.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "storage/format/pickle_reader.h"
#include "storage/format/torch_tree.h"

using sconce::ByteSpan;
using sconce::format::RecordSource;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto graph = sconce::format::ReadPickle(ByteSpan(data, size), "data.pkl");
  if (!graph.ok()) return 0;
  static const auto& records = *new std::vector<uint8_t>(64);
  auto index = sconce::format::BuildTorchTree(*graph, [](absl::string_view key) -> absl::StatusOr<RecordSource> {
    return RecordSource::Plain(ByteSpan(records).subspan(0, key == "0" ? 64 : 4));
  });
  if (index.ok() && !sconce::format::FinishIndex(false, *index).ok()) std::abort();
  return 0;
}
