// One dimension after the other: along it, the shards' ends cut the tensor into slabs, and within one slab a shard
// reaches from side to side or is absent. So what is left to ask about a slab is the same question about the shards in
// it with one dimension less. In the end, a slab of all dimensions has one shard, or none (a gap), or two.

#include "storage/format/shard_cover.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"

namespace sconce::format {
namespace {

class Sweep {
 public:
  Sweep(const Dims& global, const std::vector<Box>& shards, size_t max_found)
      : global_(global), shards_(shards), max_found_(max_found) {
    at_.offset.assign(global.size(), 0);
    at_.size = global;
    budget_ = (size_t{1} << 24) + 64 * (global.size() + 1) * shards.size();
  }

  absl::StatusOr<ShardCover> Run() {
    if (ElementCount(global_) == 0) return ShardCover();
    std::vector<size_t> all;
    for (size_t i = 0; i < shards_.size(); ++i) {
      if (ElementCount(shards_[i].size) != 0) all.push_back(i);
    }
    Slab(0, std::move(all));
    if (out_of_budget_) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       absl::StrCat("the ", shards_.size(),
                                    " shards of a tensor are cut too irregularly to be held against each other; cut "
                                    "them on a grid"));
    }
    return std::move(cover_);
  }

 private:
  bool Enough() const {
    return out_of_budget_ || cover_.overlaps.size() >= max_found_ || cover_.gaps.size() >= max_found_;
  }

  // `here`: the shards that fill the present slab in all dimensions before `dim`. Recurses at most kMaxRank deep.
  void Slab(size_t dim, std::vector<size_t> here) {
    if (here.size() + 1 > budget_) {
      out_of_budget_ = true;
      return;
    }
    budget_ -= here.size() + 1;
    if (here.empty()) {
      cover_.gaps.push_back(at_);
      return;
    }
    if (dim == global_.size()) {
      for (size_t i = 1; i < here.size() && !Enough(); ++i) {
        const std::pair<size_t, size_t> pair = std::minmax(here[0], here[i]);
        if (pairs_.insert(pair).second) cover_.overlaps.push_back({pair.first, pair.second, at_});
      }
      return;
    }
    const auto begin = [&](size_t i) { return shards_[i].offset[dim]; };
    const auto end = [&](size_t i) { return shards_[i].offset[dim] + shards_[i].size[dim]; };
    std::vector<int64_t> cuts = {0, global_[dim]};
    for (const size_t i : here) {
      cuts.push_back(begin(i));
      cuts.push_back(end(i));
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    std::sort(here.begin(), here.end(),
              [&](size_t a, size_t b) { return std::pair(begin(a), a) < std::pair(begin(b), b); });
    std::vector<size_t> active;
    size_t next = 0;
    for (size_t cut = 0; cut + 1 < cuts.size() && !Enough(); ++cut) {
      active.erase(std::remove_if(active.begin(), active.end(), [&](size_t i) { return end(i) <= cuts[cut]; }),
                   active.end());
      while (next < here.size() && begin(here[next]) == cuts[cut]) active.push_back(here[next++]);
      at_.offset[dim] = cuts[cut];
      at_.size[dim] = cuts[cut + 1] - cuts[cut];
      Slab(dim + 1, active);
    }
    at_.offset[dim] = 0;
    at_.size[dim] = global_[dim];
  }

  const Dims& global_;
  const std::vector<Box>& shards_;
  const size_t max_found_;
  size_t budget_ = 0;
  bool out_of_budget_ = false;
  Box at_;  // the present slab
  ShardCover cover_;
  absl::flat_hash_set<std::pair<size_t, size_t>> pairs_;
};

}  // namespace

std::string BoxText(const Box& box) {
  std::string text = "[";
  for (size_t d = 0; d < box.offset.size(); ++d) {
    absl::StrAppend(&text, d == 0 ? "" : ", ", box.offset[d], ":", box.offset[d] + box.size[d]);
  }
  return text + "]";
}

absl::StatusOr<ShardCover> CoverOf(const Dims& global, const std::vector<Box>& shards, size_t max_found) {
  return Sweep(global, shards, max_found).Run();
}

}  // namespace sconce::format
