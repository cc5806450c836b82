#include "storage/format/attributes.h"

#include <cmath>

#include "absl/strings/string_view.h"
#include "storage/format/number.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

// The value at a str key of a dict; kNoIndex when there is none or `dict` is none.
NodeIndex ValueAt(const Manifest& manifest, NodeIndex dict, absl::string_view key) {
  const Node& node = manifest.nodes[dict];
  if (node.kind != NodeKind::kDict && node.kind != NodeKind::kOrderedDict) return kNoIndex;
  for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
    const Node& candidate = manifest.nodes[node.children[i]];
    if (candidate.kind == NodeKind::kStr && candidate.text == key) return node.children[i + 1];
  }
  return kNoIndex;
}

std::optional<Number> NumberAt(const Manifest& manifest, NodeIndex dict, absl::string_view key) {
  const NodeIndex value = ValueAt(manifest, dict, key);
  return value == kNoIndex ? std::nullopt : NumberOf(manifest, value);
}

std::optional<int64_t> WholeAt(const Manifest& manifest, NodeIndex dict, absl::string_view key) {
  const std::optional<Number> number = NumberAt(manifest, dict, key);
  if (!number.has_value()) return std::nullopt;
  if (number->is_integer) return number->integer;
  if (std::trunc(number->real) != number->real || std::fabs(number->real) >= 0x1p53) return std::nullopt;
  return static_cast<int64_t>(number->real);
}

}  // namespace

TreeAttributes ExtractAttributes(const Manifest& manifest) {
  TreeAttributes attributes;
  const NodeIndex root = manifest.root();
  attributes.epoch = WholeAt(manifest, root, "epoch");
  attributes.step = WholeAt(manifest, root, "step");
  if (!attributes.step.has_value()) attributes.step = WholeAt(manifest, root, "global_step");
  if (const NodeIndex metrics = ValueAt(manifest, root, "metrics"); metrics != kNoIndex) {
    const Node& node = manifest.nodes[metrics];
    const bool is_dict = node.kind == NodeKind::kDict || node.kind == NodeKind::kOrderedDict;
    for (size_t i = 0; is_dict && i + 1 < node.children.size(); i += 2) {
      const Node& name = manifest.nodes[node.children[i]];
      if (name.kind != NodeKind::kStr || name.text.empty() || name.text.size() > kMaxMetricNameBytes) continue;
      if (!IsUtf8(name.text, /*allow_surrogates=*/false)) continue;
      if (attributes.metrics.size() == kMaxTreeMetrics) break;
      if (const std::optional<Number> number = NumberOf(manifest, node.children[i + 1])) {
        attributes.metrics.emplace(name.text, number->real);
      }
    }
  }
  if (const std::optional<Number> loss = NumberAt(manifest, root, "loss")) attributes.metrics["loss"] = loss->real;
  return attributes;
}

}  // namespace sconce::format
