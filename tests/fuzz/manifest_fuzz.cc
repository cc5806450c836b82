// Any bytes: decoding them fails with a status, or gives a valid manifest whose encoding they are, and then everything
// that takes a manifest copes with it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/strings.h"
#include "storage/format/attributes.h"
#include "storage/format/cast.h"
#include "storage/format/device_map.h"
#include "storage/format/entries.h"
#include "storage/format/manifest_codec.h"
#include "storage/format/path.h"
#include "storage/format/selection.h"

namespace sconce::format {
namespace {

// Trees that expand to more are only looked at as far as this: walking a million paths for each input would teach
// nothing.
constexpr int kMaxVisits = 2000;

class NoBytes final : public StorageBytes {
 public:
  absl::Status Read(StorageIndex, int64_t, absl::Span<uint8_t> out) override {
    std::fill(out.begin(), out.end(), uint8_t{0});
    return absl::OkStatus();
  }
};

void CheckSelection(const Manifest& manifest, const Selection& selection) {
  const absl::StatusOr<Selected> selected = Select(manifest, selection);
  if (!selected.ok()) return;
  SCONCE_CHECK(Validate(selected->manifest).ok());
  SCONCE_CHECK(selected->source.size() == selected->manifest.storages.size());
}

void CheckEverything(const Manifest& manifest) {
  ExtractAttributes(manifest);
  CountTotals(manifest);
  SCONCE_CHECK(ListEntries(manifest, 0, 100).ok());

  int visits = 0;
  std::string last;
  const absl::Status walked = ForEachPath(manifest, [&](absl::string_view path, NodeIndex) {
    if (visits < 100 && path.size() < 1000) {
      SCONCE_CHECK(FindPath(manifest, path).ok());
      last = std::string(path);
    }
    return ++visits < kMaxVisits;
  });
  if (!walked.ok() || visits >= kMaxVisits) return;

  CheckSelection(manifest, {last, {}, {}});
  CheckSelection(manifest, {"", {}, {last.empty() ? "/0" : last, "**/*1*"}});
  Manifest mapped = manifest;
  DeviceMapping mapping;
  mapping.rules = {{"**/[0-9]", "cuda:1"}};
  mapping.device = "cpu";
  if (MapDevices(mapping, mapped).ok()) SCONCE_CHECK(Validate(mapped).ok());
  NoBytes bytes;
  for (const char* dtype : {"float64", "float8_e5m2"}) {
    const auto plan = PlanCast(manifest, {dtype, {{"**/[0-9]", "float16"}}}, bytes);
    if (plan.ok()) SCONCE_CHECK(Validate(plan->manifest).ok());
  }
}

}  // namespace
}  // namespace sconce::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const sconce::ByteSpan bytes(data, size);
  const auto manifest = sconce::format::DecodeManifest(bytes);
  if (!manifest.ok()) return 0;
  SCONCE_CHECK(sconce::format::EncodeManifest(*manifest) == sconce::AsText(bytes));
  sconce::format::CheckEverything(*manifest);
  return 0;
}
