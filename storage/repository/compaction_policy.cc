#include "storage/repository/compaction_policy.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/file_system.h"
#include "storage/blob/footer.h"

namespace sconce::repository {
namespace {

// A merged blob has about this many bytes at most, so that one step of compaction stays bounded.
constexpr int64_t kMergedBytes = int64_t{256} << 20;
// What owners left in blobs up to this size is merged whenever something of the project is: many such blobs cost more
// in files than their bytes cost in copying.
constexpr int64_t kSmallBytes = int64_t{1} << 20;

int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

bool IsMostlyWaste(const WastefulBlob& blob) {
  return WasteOf(blob) >= blob.live_bytes + blob.footer_bytes;
}

// What one file for all that the project's dead owners left would save.
struct Remnants {
  int64_t allocated_bytes = 0;
  int64_t live_bytes = 0;

  void Add(const WastefulBlob& blob) {
    allocated_bytes += blob.allocated_bytes;
    live_bytes += blob.live_bytes;
  }
  int64_t Waste() const { return std::max<int64_t>(0, allocated_bytes - RewrittenBytes(live_bytes, 0)); }
};

// The chosen remnants of one project, in groups that each become one smaller file.
void AppendMerged(std::vector<WastefulBlob> chosen, std::vector<CompactionGroup>& groups) {
  CompactionGroup group;
  Remnants sum;
  const auto close = [&] {
    if (sum.Waste() > 0) groups.push_back(std::move(group));
    group = {};
    sum = {};
  };
  for (WastefulBlob& blob : chosen) {
    if (!group.empty() && sum.live_bytes + blob.live_bytes > kMergedBytes) close();
    sum.Add(blob);
    group.push_back(std::move(blob));
  }
  if (!group.empty()) close();
}

}  // namespace

int64_t ChunkFootprint(int64_t size_bytes) {
  constexpr int64_t kRowBytes = 64;
  const int64_t alignment = size_bytes < blob::kMappableBytes ? blob::kPackAlignment : kDirectAlignment;
  return RoundUp(size_bytes, alignment) + kRowBytes;
}

int64_t RewrittenBytes(int64_t live_bytes, int64_t footer_bytes) {
  if (live_bytes == 0 && footer_bytes == 0) return 0;
  constexpr int64_t kHeaderBytes = 64;
  return blob::SealedSize(live_bytes, footer_bytes > 0 ? footer_bytes : kHeaderBytes);
}

int64_t WasteOf(const WastefulBlob& blob) {
  const int64_t needed = blob.IsOwned() ? RewrittenBytes(blob.live_bytes, blob.footer_bytes) : blob.live_bytes;
  return std::max<int64_t>(0, blob.allocated_bytes - needed);
}

std::vector<CompactionGroup> ChooseBlobs(std::vector<WastefulBlob> blobs, std::optional<int64_t> physical_bytes) {
  const auto share = [](const WastefulBlob& blob) {
    return static_cast<double>(WasteOf(blob)) / static_cast<double>(std::max<int64_t>(1, blob.allocated_bytes));
  };
  std::sort(blobs.begin(), blobs.end(), [&](const WastefulBlob& a, const WastefulBlob& b) {
    const double x = share(a), y = share(b);
    return x != y ? x > y : a.id < b.id;
  });
  std::map<uint64_t, Remnants> remnants;
  int64_t wasted = 0;
  for (const WastefulBlob& blob : blobs) {
    if (blob.IsOwned()) {
      wasted += WasteOf(blob);
    } else {
      remnants[blob.id.project_uid].Add(blob);
    }
  }
  for (const auto& [project, sum] : remnants) wasted += sum.Waste();
  const double live = static_cast<double>(std::max<int64_t>(0, physical_bytes.value_or(0) - wasted));

  std::vector<CompactionGroup> groups;
  std::map<uint64_t, std::vector<WastefulBlob>> merged;
  std::vector<WastefulBlob> passed_over;
  for (WastefulBlob& blob : blobs) {
    const int64_t waste = WasteOf(blob);
    if (blob.damaged_footer) {
      wasted -= waste;
      groups.push_back({std::move(blob)});
      continue;
    }
    const bool too_much = physical_bytes && static_cast<double>(wasted) > kMaxWaste * live;
    if (waste <= 0 || (!IsMostlyWaste(blob) && !too_much)) {
      if (!blob.IsOwned()) passed_over.push_back(std::move(blob));
      continue;
    }
    wasted -= waste;
    if (blob.IsOwned()) {
      groups.push_back({std::move(blob)});
    } else {
      merged[blob.id.project_uid].push_back(std::move(blob));
    }
  }
  for (WastefulBlob& blob : passed_over) {
    const auto project = merged.find(blob.id.project_uid);
    if (project != merged.end() && blob.allocated_bytes <= kSmallBytes) project->second.push_back(std::move(blob));
  }
  for (auto& [project, chosen] : merged) AppendMerged(std::move(chosen), groups);
  return groups;
}

}  // namespace sconce::repository
