#include <algorithm>
#include <cstring>

#include "base/status_macros.h"
#include "storage/format/cast.h"
#include "storage/format/float_convert.h"

namespace sconce::format {
namespace {

constexpr size_t kScratchBytes = size_t{64} << 10;  // of the source at once: it stays in the second-level cache
constexpr size_t kMaxElementBytes = 8;

}  // namespace

absl::Status CastBytes::Read(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) {
  const StorageCast& cast = plan_.storages[storage];
  if (cast.from == cast.to) return source_.Read(storage, offset, out);
  const auto in_size = static_cast<size_t>(ElementBytes(cast.from)),
             out_size = static_cast<size_t>(ElementBytes(cast.to));
  scratch_.resize(kScratchBytes);
  while (!out.empty()) {
    const int64_t element = offset / static_cast<int64_t>(out_size);
    const auto skipped = static_cast<size_t>(offset % static_cast<int64_t>(out_size));
    const bool in_part = skipped != 0 || out.size() < out_size;
    const size_t count = in_part ? 1 : std::min(out.size() / out_size, kScratchBytes / in_size);
    SCONCE_RETURN_IF_ERROR(
        ReadSource(storage, element * static_cast<int64_t>(in_size), absl::MakeSpan(scratch_.data(), count * in_size)));
    size_t done = count * out_size;
    if (in_part) {
      uint8_t whole[kMaxElementBytes];
      ConvertFloats(cast.from, cast.to, scratch_.data(), 1, whole);
      done = std::min(out.size(), out_size - skipped);
      std::memcpy(out.data(), whole + skipped, done);
    } else {
      ConvertFloats(cast.from, cast.to, scratch_.data(), count, out.data());
    }
    out.remove_prefix(done);
    offset += static_cast<int64_t>(done);
  }
  return absl::OkStatus();
}

absl::Status CastBytes::ReadSource(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) {
  const std::string& inline_bytes = plan_.storages[storage].inline_bytes;
  if (inline_bytes.empty()) return source_.Read(storage, offset, out);
  std::memcpy(out.data(), inline_bytes.data() + offset, out.size());
  return absl::OkStatus();
}

}  // namespace sconce::format
