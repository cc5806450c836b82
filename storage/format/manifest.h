#ifndef SCONCE_STORAGE_FORMAT_MANIFEST_H_
#define SCONCE_STORAGE_FORMAT_MANIFEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "storage/format/dtype.h"

// A checkpoint as data: what torch.save was given, without the tensors' bytes.
namespace sconce::format {

using NodeIndex = uint32_t;
using TensorIndex = uint32_t;
using StorageIndex = uint32_t;
inline constexpr uint32_t kNone = UINT32_MAX;  // "no such" for the three above

inline constexpr int64_t kChunkBytes = int64_t{4}
                                       << 20;         // a storage is cut into chunks of this size; the last is shorter
inline constexpr int64_t kInlineStorageBytes = 1024;  // a storage of at most this size lives in the manifest itself

// Numbers are persisted. `children` below means Node::children, in this order; "A?" is A or the kNone node's index is
// absent.
enum class NodeKind : uint8_t {
  kNone = 0,
  kBool = 1,   // integer: 0 or 1
  kInt = 2,    // integer; when it does not fit, text: little-endian two's complement, as short as can be, and integer 0
  kFloat = 3,  // real
  kComplex = 4,        // real, imaginary
  kStr = 5,            // text: UTF-8, where lone surrogates are encoded as three bytes ("surrogatepass")
  kBytes = 6,          // text
  kByteArray = 7,      // text
  kList = 8,           // children: elements
  kTuple = 9,          // children: elements
  kSet = 10,           // children: elements, sorted by their encoding
  kDict = 11,          // children: key, value, key, value ... in insertion order
  kOrderedDict = 12,   // as kDict; a last odd child is its __dict__ (a kDict), which holds `_metadata`
  kCounter = 13,       // as kDict
  kSize = 14,          // torch.Size. children: ints
  kDtype = 15,         // text: "float32"
  kDevice = 16,        // text: "cuda:0"
  kLayout = 17,        // text: "strided", "sparse_coo", ...
  kQScheme = 18,       // text: "per_tensor_affine", ...
  kNumpyScalar = 19,   // children: kStr dtype ("<f8"), kBytes data
  kNumpyArray = 20,    // children: kStr dtype, kTuple shape, kBool Fortran order, kBytes data or kStorage
  kTensor = 21,        // tensor. Strided; meta when its view has no storage
  kSparseTensor = 22,  // children: kLayout, kSize, component tensors (indices, values or compressed, plain, values),
                       // kBool or kNone coalesced
  kQuantizedTensor =
      23,  // tensor (of the integers). children: kQScheme, then scale, zero point or scales, zero points, axis
  kNestedTensor = 24,    // children: buffer, sizes, strides, offsets (tensors)
  kParameter = 25,       // integer: requires_grad. children: tensor node, then the state (kDict) if it has one
  kTensorSubclass = 26,  // text: the class, "module.Name". children: constructor tuple, state
  kStorage = 27,         // a bare storage. text: dtype name, or "untyped"; integer: storage index
  kShardedTensor = 28,   // children: kSize global shape, then for each shard: kTuple offsets, kTuple sizes, tensor node
};

// One value of the tree. Which fields mean something is said at NodeKind; the others are zero or empty.
struct Node {
  NodeKind kind = NodeKind::kNone;
  TensorIndex tensor = kNone;
  int64_t integer = 0;
  double real = 0;
  double imaginary = 0;
  std::string text;
  std::vector<NodeIndex> children;
};

using Dims = absl::InlinedVector<int64_t, 4>;

// A strided view of a storage; shape and stride and offset in elements.
struct TensorView {
  DType dtype = DType::kFloat32;
  bool requires_grad = false;
  bool conjugate = false;
  bool negative = false;
  StorageIndex storage = kNone;  // kNone: a meta tensor without storage
  int64_t offset = 0;
  Dims shape;
  Dims stride;
};

struct Chunk {
  Digest sha256;
  Fingerprint xxh3;
};

// Bytes that tensors are views of.
struct Storage {
  int64_t size_bytes = 0;
  std::string device = "cpu";  // the tag torch.save wrote: "cpu", "cuda:0", "mps", "meta" (no bytes exist) ...
  std::string
      inline_bytes;  // all the bytes, when there are at most kInlineStorageBytes of them (and the device is not meta)
  std::vector<Chunk>
      chunks;  // for a larger one: ceil(size_bytes / kChunkBytes) of them, or none while they are not yet known
};

struct Manifest {
  std::vector<Node> nodes;  // post-order: children come before parents; the last one is the root
  std::vector<TensorView> tensors;
  std::vector<Storage> storages;
  bool derived = false;  // the result of a selection or a cast, not what was pushed

  NodeIndex root() const { return static_cast<NodeIndex>(nodes.size() - 1); }
};

// True for a storage whose bytes are neither inline nor absent (meta): it has chunks in blobs and travels as bulk data.
bool IsBulk(const Storage& storage);
// Bytes of all bulk storages together: the length of the logical byte stream of a push or a fetch, in which the bulk
// storages follow each other in index order without padding.
int64_t BulkBytes(const Manifest& manifest);

// Everything a hostile manifest could get wrong, whoever made it: children before parents, arities and kinds as said at
// NodeKind, views inside their storages without overflow, inline sizes, chunk counts, every storage and node referred
// to. MANIFEST_INVALID naming the node.
absl::Status Validate(const Manifest& manifest);

// Number of elements of a shape; nullopt-like -1 on overflow.
int64_t ElementCount(const Dims& shape);
// Bytes from the storage's start to the end of the last element the view touches (0 for an empty view); -1 on overflow
// or a negative part.
int64_t ViewEndBytes(const TensorView& view);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_MANIFEST_H_
