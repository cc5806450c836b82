// Any text as a filter and as an order of versions. What is refused has one of the two reasons; what is taken stays
// within the bounds and can be asked about any version, and its negation says the opposite.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "storage/repository/checkpoint_filter.h"

namespace sconce::repository {
namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

int Comparisons(const FilterNode& node, int depth) {
  // Each parenthesis adds an AND, an OR and a NOT at most.
  Check(depth <= 3 * (kMaxFilterDepth + 1) + 1);
  int comparisons = node.kind == FilterNode::Kind::kComparison ? 1 : 0;
  if (node.kind == FilterNode::Kind::kNot) Check(node.children.size() == 1);
  for (const FilterNode& child : node.children) comparisons += Comparisons(child, depth + 1);
  return comparisons;
}

Checkpoint Version() {
  Checkpoint checkpoint;
  checkpoint.version = 7;
  checkpoint.epoch = -3;
  checkpoint.metrics = {{"loss", 0.25}, {"val/top 1", std::nan("")}};
  checkpoint.labels = {{"stage", "final"}, {"a b", "q\"x"}};
  checkpoint.aliases = {"prod"};
  return checkpoint;
}

void Take(const std::string& text) {
  const auto filter = ParseCheckpointFilter(text);
  if (filter.ok()) {
    Check(Comparisons(*filter, 0) <= kMaxFilterComparisons);
    FilterNode negated{FilterNode::Kind::kNot, {*filter}, {}};
    for (const Checkpoint& checkpoint : {Version(), Checkpoint()}) {
      Check(Matches(*filter, checkpoint) != Matches(negated, checkpoint));
    }
  } else {
    Check(HasReason(filter.status(), Reason::FILTER_INVALID));
  }
  const auto order = ParseCheckpointOrder(text);
  Check(order.ok() || HasReason(order.status(), Reason::ARGUMENT_INVALID));
}

}  // namespace
}  // namespace sconce::repository

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sconce::repository::Take(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
