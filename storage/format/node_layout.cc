#include "storage/format/node_layout.h"

#include "storage/format/byte_codec.h"

namespace sconce::format {

NodeLayout LayoutOf(NodeKind kind) {
  NodeLayout layout;
  switch (kind) {
    case NodeKind::kNone:
      break;
    case NodeKind::kBool:
      layout.payload = Payload::kFlag;
      break;
    case NodeKind::kInt:
      layout.payload = Payload::kInt;
      break;
    case NodeKind::kFloat:
      layout.payload = Payload::kReal;
      break;
    case NodeKind::kComplex:
      layout.payload = Payload::kComplex;
      break;
    case NodeKind::kStr:
    case NodeKind::kBytes:
    case NodeKind::kByteArray:
    case NodeKind::kDtype:
    case NodeKind::kDevice:
    case NodeKind::kLayout:
    case NodeKind::kQScheme:
    case NodeKind::kGlobal:
      layout.payload = Payload::kText;
      break;
    case NodeKind::kList:
    case NodeKind::kTuple:
    case NodeKind::kSet:
    case NodeKind::kDict:
    case NodeKind::kOrderedDict:
    case NodeKind::kCounter:
    case NodeKind::kSize:
    case NodeKind::kNumpyScalar:
    case NodeKind::kNumpyArray:
    case NodeKind::kSparseTensor:
    case NodeKind::kNestedTensor:
    case NodeKind::kShardedTensor:
      layout.children = true;
      break;
    case NodeKind::kTensor:
      layout.tensor = true;
      break;
    case NodeKind::kQuantizedTensor:
      layout.tensor = layout.children = true;
      break;
    case NodeKind::kParameter:
      layout.payload = Payload::kFlag;
      layout.children = true;
      break;
    case NodeKind::kTensorSubclass:
    case NodeKind::kObject:
      layout.payload = Payload::kText;
      layout.children = true;
      break;
    case NodeKind::kStorage:
      layout.payload = Payload::kText;
      layout.storage = true;
      break;
  }
  return layout;
}

bool IsTensorKind(NodeKind kind) {
  switch (kind) {
    case NodeKind::kTensor:
    case NodeKind::kSparseTensor:
    case NodeKind::kQuantizedTensor:
    case NodeKind::kNestedTensor:
    case NodeKind::kParameter:
    case NodeKind::kTensorSubclass:
    case NodeKind::kShardedTensor:
      return true;
    default:
      return false;
  }
}

void AppendLeafRecord(const Node& node, std::string& out) {
  const NodeLayout layout = LayoutOf(node.kind);
  out.push_back(static_cast<char>(node.kind));
  switch (layout.payload) {
    case Payload::kNothing:
      break;
    case Payload::kFlag:
      out.push_back(static_cast<char>(node.integer));
      break;
    case Payload::kInt:
      PutText(node.text.empty() ? IntBytes(node.integer) : node.text, out);
      break;
    case Payload::kReal:
      PutDouble(node.real, out);
      break;
    case Payload::kComplex:
      PutDouble(node.real, out);
      PutDouble(node.imaginary, out);
      break;
    case Payload::kText:
      PutText(node.text, out);
      break;
  }
  if (layout.children) PutVarint(node.children.size(), out);
  if (layout.storage) PutVarint(static_cast<uint64_t>(node.integer), out);
}

}  // namespace sconce::format
