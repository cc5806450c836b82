#ifndef SCONCE_STORAGE_FORMAT_MANIFEST_H_
#define SCONCE_STORAGE_FORMAT_MANIFEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/digest.h"
#include "storage/format/dtype.h"

// A checkpoint as data: what torch.save was given, without the tensors' bytes.
namespace sconce::format {

using NodeIndex = uint32_t;
using TensorIndex = uint32_t;
using StorageIndex = uint32_t;
inline constexpr uint32_t kNoIndex = UINT32_MAX;  // "no such" for the three above

// A storage is cut into chunks of this size; the last one is shorter. Part of the format: never changes.
inline constexpr int64_t kChunkBytes = int64_t{4} << 20;
// A storage of at most this size lives in the manifest itself. Part of the format: never changes.
inline constexpr int64_t kInlineStorageBytes = 1024;
// More nodes than this are refused: far above what the limit of a million paths leaves useful.
inline constexpr size_t kMaxNodes = size_t{1} << 22;
// Tensors and arrays have at most this many dimensions (as in NumPy): what one shape costs each time it is shown is
// bounded.
inline constexpr size_t kMaxRank = 64;

// Numbers are persisted. `children` below means Node::children, in this order; "[x]" may be absent.
//
// A *value* is what Python hashes by content: None, bool, int, float, complex, str, bytes, dtype, device, layout,
// qscheme, torch.Size, numpy scalar, a class or function, a tuple of values,
// and an object (kObject) of a class that compares what it holds. Only values are dict keys and set
// elements.
enum class NodeKind : uint8_t {
  kNone = 0,
  kBool = 1,          // integer: 0 or 1
  kInt = 2,           // integer; where it does not fit, text: little-endian two's complement, as short as can be
  kFloat = 3,         // real
  kComplex = 4,       // real, imaginary
  kStr = 5,           // text: UTF-8, where lone surrogates are encoded as three bytes ("surrogatepass")
  kBytes = 6,         // text
  kByteArray = 7,     // text
  kList = 8,          // children: elements
  kTuple = 9,         // children: elements
  kSet = 10,          // children: elements, strictly ascending in the order of value_key.h (SortSetElements)
  kDict = 11,         // children: key, value, key, value ... in insertion order; no two keys equal in Python
  kOrderedDict = 12,  // as kDict; a last odd child is its __dict__ (a kDict), which holds `_metadata`
  kCounter = 13,      // as kDict
  kSize = 14,         // torch.Size. children: ints
  kDtype = 15,        // text: a dtype's name, "float32"
  kDevice = 16,       // text: "cuda:0"
  kLayout = 17,       // text: "strided", "sparse_coo", ...
  kQScheme = 18,      // text: "per_tensor_affine", ...
  kNumpyScalar = 19,  // children: kStr dtype ("<f8"), kBytes data
  kNumpyArray = 20,   // children: kStr dtype, kTuple shape, kBool Fortran order, kBytes data or kStorage
  kTensor = 21,       // tensor. Strided; meta when its view has no storage
  // children: kLayout, kSize, components (kTensor each: indices, values; or compressed indices, plain indices, values),
  // then whether coalesced: kBool or kNone
  kSparseTensor = 22,
  // tensor (of the integers). children: kQScheme, then kFloat scale, kInt zero point; or scales and zero points
  // (kTensor both, or kList of numbers both), kInt axis
  kQuantizedTensor = 23,
  kNestedTensor = 24,    // children: buffer, sizes, strides, offsets (kTensor each)
  kParameter = 25,       // integer: requires_grad. children: a tensor of kind 21 to 24 or 26, [state: kDict or kTuple]
  kTensorSubclass = 26,  // text: the class, "module.Name". children: kTuple constructor arguments, any state
  kStorage = 27,         // a bare storage. text: dtype name, or "untyped"; integer: storage index
  kShardedTensor = 28,   // children: kSize global shape, then per shard: kTuple offsets, kTuple sizes, kTensor
  kGlobal = 29,          // a class or function itself. text: its name on the list of pickle_globals.h, "torch.Tensor"
  // An instance of a class that only holds data. text: its name on that list, "builtins.ValueError". children: kTuple
  // arguments, kBool whether they went to __init__ too (else to __new__ alone), any state (kNone: it was given none),
  // then, of a class that is a list, the elements
  kObject = 30,
};

// A tensor subclass that is made of its attributes (DTensor) has the constructor arguments class (kGlobal), dtype,
// size, stride, offset, layout, device and requires_grad; the tensors that it wraps are in its state.
inline constexpr size_t kWrapperArguments = 8;
inline constexpr size_t kWrapperDType = 1;
inline constexpr size_t kWrapperShape = 2;
inline constexpr size_t kWrapperDevice = 6;

// The kind's name in listings and errors: "none", "bool", "int", "float", "complex", "str", "bytes", "bytearray",
// "list", "tuple", "set", "dict", "ordered_dict", "counter", "size", "dtype", "device", "layout", "qscheme",
// "numpy_scalar", "numpy_array", "tensor", "sparse_tensor", "quantized_tensor", "nested_tensor", "parameter",
// "tensor_subclass", "storage", "sharded_tensor", "global", "object".
absl::string_view TypeName(NodeKind kind);

// One value of the tree. Which fields mean something is said at NodeKind; the others are zero or empty.
struct Node {
  NodeKind kind = NodeKind::kNone;
  TensorIndex tensor = kNoIndex;
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
  StorageIndex storage = kNoIndex;  // kNoIndex: a meta tensor without storage
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
  // The tag torch.save wrote: "cpu", "cuda:0", "mps", "meta" (no bytes exist) ... 1 to 64 bytes of printable ASCII.
  std::string device = "cpu";
  // All the bytes, when there are at most kInlineStorageBytes of them and the device is not meta.
  std::string inline_bytes;
  // For a larger one ceil(size_bytes / kChunkBytes) of them. While they are not yet known, no storage of the manifest
  // has any.
  std::vector<Chunk> chunks;
};

struct Manifest {
  std::vector<Node> nodes;  // post-order: children come before parents; the last one is the root
  std::vector<TensorView> tensors;
  std::vector<Storage> storages;
  bool derived = false;  // the result of a selection or a cast, not what was pushed

  NodeIndex root() const { return static_cast<NodeIndex>(nodes.size() - 1); }
};

// True for the tag of storages that have a size and no bytes: "meta" or "meta:N".
bool IsMetaDevice(absl::string_view device);
// True for a storage whose bytes are neither inline nor absent (meta): it has chunks in blobs and travels as bulk data.
bool IsBulk(const Storage& storage);
// Bytes of all bulk storages together: the length of the logical byte stream of a push or a fetch, in which the bulk
// storages follow each other in index order without padding.
int64_t BulkBytes(const Manifest& manifest);
// How many chunks a storage of this size is cut into.
int64_t ChunkCount(int64_t size_bytes);
// True when every bulk storage has its chunks (trivially so when there is none): what is stored. An upload has none
// yet.
bool HasChunkTable(const Manifest& manifest);

// Everything a hostile manifest could get wrong, whoever made it: children before parents, arities and kinds as said at
// NodeKind, views inside their storages without overflow, inline sizes, chunk counts, every storage, tensor and node
// referred to. MANIFEST_INVALID naming the node, tensor or storage; INPUT_LIMIT_EXCEEDED beyond kMaxNodes. Takes time
// linear in the size of the manifest.
absl::Status Validate(const Manifest& manifest);

// Number of elements of a shape; -1 on overflow of int64 or a negative extent.
int64_t ElementCount(const Dims& shape);
// Bytes from the storage's start to the end of the last element the view touches (0 for an empty view); -1 on overflow,
// a negative part, or when there are not as many strides as extents. Of quint4x2 and quint2x4, which only quantized
// tensors have, two or four elements share a byte and each row begins a new one: the view must be contiguous, without
// an offset, else -1.
int64_t ViewEndBytes(const TensorView& view);
// The strides of a row-major tensor without gaps, as PyTorch gives them (an extent of 0 counts as 1). False on
// overflow.
bool ContiguousStride(const Dims& shape, Dims& stride);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_MANIFEST_H_
