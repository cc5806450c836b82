#ifndef SCONCE_STORAGE_FORMAT_NODE_LAYOUT_H_
#define SCONCE_STORAGE_FORMAT_NODE_LAYOUT_H_

#include <cstdint>
#include <string>

#include "storage/format/manifest.h"

namespace sconce::format {

// Which of a node's fields its kind uses, and so what its record in the encoding consists of, in this order: the kind,
// the payload, the number of children, the storage's index, then the references (to a tensor, to the children).
enum class Payload : uint8_t { kNothing, kFlag, kInt, kReal, kComplex, kText };
struct NodeLayout {
  Payload payload = Payload::kNothing;
  bool children = false;
  bool tensor = false;
  bool storage = false;
};
NodeLayout LayoutOf(NodeKind kind);

inline constexpr uint8_t kLastNodeKind = static_cast<uint8_t>(NodeKind::kObject);

// True for every kind that is a tensor to Python, whatever it is made of: also a Parameter, a subclass, a sharded one.
bool IsTensorKind(NodeKind kind);

// Appends the record up to the references, which depend on how nodes are numbered.
void AppendLeafRecord(const Node& node, std::string& out);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_NODE_LAYOUT_H_
