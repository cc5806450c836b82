// The encoding is specified in docs/formats/manifest.md; this file follows its order: header, storages, tensors, nodes,
// chunk table. Everything a record refers to by a small number is written as the distance from what one would guess, so
// that a plain tree of tensors costs one byte for most references.
//
// Decoding trusts nothing: counts are held against the bytes that are left (each record takes some), so memory stays
// within a constant factor of the input, and what was decoded goes through Validate.

#include "storage/format/manifest_codec.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/byte_codec.h"
#include "storage/format/node_layout.h"

namespace sconce::format {
namespace {

constexpr absl::string_view kMagic("SCMANIF", 7);

enum HeaderFlags : uint8_t { kDerived = 1, kChunkTable = 2 };
enum TensorFlags : uint8_t { kRequiresGrad = 1, kConjugate = 2, kNegative = 4, kNoStorage = 8, kContiguous = 16 };

constexpr size_t kChunkRecordBytes = sizeof(Digest::bytes) + sizeof(Fingerprint::bytes);

// Child references count from here: `children` leaves directly before their parent are then all zeros.
int64_t FirstExpectedChild(NodeIndex parent, size_t children) {
  return static_cast<int64_t>(parent) - static_cast<int64_t>(children);
}

bool IsContiguous(const TensorView& view) {
  Dims contiguous;
  return ContiguousStride(view.shape, contiguous) && contiguous == view.stride;
}

bool HasBulk(const Manifest& manifest) {
  return std::any_of(manifest.storages.begin(), manifest.storages.end(), IsBulk);
}

void EncodeStorages(const Manifest& manifest, std::string& out) {
  const std::string* device = nullptr;
  for (const Storage& storage : manifest.storages) {
    PutVarint(static_cast<uint64_t>(storage.size_bytes), out);
    PutText(device != nullptr && *device == storage.device ? "" : storage.device, out);
    device = &storage.device;
    out += storage.inline_bytes;
  }
}

void EncodeTensors(const Manifest& manifest, std::string& out) {
  int64_t expected_storage = 0;
  for (const TensorView& view : manifest.tensors) {
    const bool contiguous = IsContiguous(view);
    const bool stored = view.storage != kNoIndex;
    out.push_back(static_cast<char>(view.dtype));
    out.push_back(static_cast<char>((view.requires_grad ? kRequiresGrad : 0) | (view.conjugate ? kConjugate : 0) |
                                    (view.negative ? kNegative : 0) | (stored ? 0 : kNoStorage) |
                                    (contiguous ? kContiguous : 0)));
    if (stored) {
      PutVarint(ZigZag(view.storage - expected_storage), out);
      expected_storage = int64_t{view.storage} + 1;
    }
    PutVarint(static_cast<uint64_t>(view.offset), out);
    PutVarint(view.shape.size(), out);
    for (const int64_t extent : view.shape) PutVarint(static_cast<uint64_t>(extent), out);
    if (contiguous) continue;
    for (const int64_t step : view.stride) PutVarint(static_cast<uint64_t>(step), out);
  }
}

void EncodeNodes(const Manifest& manifest, std::string& out) {
  int64_t expected_tensor = 0;
  for (NodeIndex index = 0; index < manifest.nodes.size(); ++index) {
    const Node& node = manifest.nodes[index];
    AppendLeafRecord(node, out);
    if (LayoutOf(node.kind).tensor) {
      PutVarint(ZigZag(node.tensor - expected_tensor), out);
      expected_tensor = int64_t{node.tensor} + 1;
    }
    int64_t expected_child = FirstExpectedChild(index, node.children.size());
    for (const NodeIndex child : node.children) {
      PutVarint(ZigZag(child - expected_child), out);
      expected_child = int64_t{child} + 1;
    }
  }
}

class Decoder {
 public:
  explicit Decoder(ByteSpan bytes) : reader_(bytes) {}

  absl::StatusOr<Manifest> Decode() {
    SCONCE_RETURN_IF_ERROR(Header());
    SCONCE_RETURN_IF_ERROR(Storages());
    SCONCE_RETURN_IF_ERROR(Tensors());
    SCONCE_RETURN_IF_ERROR(Nodes());
    if (chunk_table_) SCONCE_RETURN_IF_ERROR(Chunks());
    if (reader_.remaining() != 0) return ByteReader::Invalid(reader_.offset(), "end", "bytes after the manifest's end");
    SCONCE_RETURN_IF_ERROR(Validate(manifest_));
    return std::move(manifest_);
  }

 private:
  absl::Status Header() {
    absl::string_view magic;
    uint8_t version = 0;
    uint8_t flags = 0;
    if (reader_.remaining() < kMagic.size() || (reader_.Raw("magic", kMagic.size(), magic).ok() && magic != kMagic)) {
      return ByteReader::Invalid(0, "magic", "these bytes are not a manifest");
    }
    SCONCE_RETURN_IF_ERROR(reader_.Byte("format version", version));
    if (version != kManifestVersion) {
      return MakeError(
          Reason::MANIFEST_VERSION_UNSUPPORTED,
          absl::StrCat("the manifest has format version ", static_cast<int>(version), ", and only ",
                       static_cast<int>(kManifestVersion), " is known here; use a newer release of Sconce"),
          {{"version", absl::StrCat(static_cast<int>(version))}});
    }
    SCONCE_RETURN_IF_ERROR(reader_.Byte("flags", flags));
    if ((flags & ~(kDerived | kChunkTable)) != 0) {
      return ByteReader::Invalid(reader_.offset() - 1, "flags", "a flag that is not known");
    }
    manifest_.derived = (flags & kDerived) != 0;
    chunk_table_ = (flags & kChunkTable) != 0;
    uint64_t storages = 0;
    uint64_t tensors = 0;
    uint64_t nodes = 0;
    const size_t start = reader_.offset();
    SCONCE_RETURN_IF_ERROR(reader_.Count("number of storages", reader_.remaining(), storages));
    SCONCE_RETURN_IF_ERROR(reader_.Count("number of tensors", reader_.remaining(), tensors));
    SCONCE_RETURN_IF_ERROR(reader_.Count("number of nodes", reader_.remaining(), nodes));
    // A storage takes at least two bytes, a tensor four, a node one and one more where its parent refers to it.
    if (2 * storages + 4 * tensors + 2 * nodes > reader_.remaining() + 1) {
      return ByteReader::Invalid(start, "counts",
                                 "more storages, tensors and nodes than the bytes that follow can hold");
    }
    if (std::max({storages, tensors, nodes}) > kMaxNodes) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       absl::StrCat("the manifest has ", nodes, " nodes, ", tensors, " tensors and ", storages,
                                    " storages; at most ", kMaxNodes, " of each are accepted"));
    }
    manifest_.storages.resize(storages);
    manifest_.tensors.resize(tensors);
    manifest_.nodes.resize(nodes);
    return absl::OkStatus();
  }

  absl::Status Storages() {
    absl::string_view device;
    for (Storage& storage : manifest_.storages) {
      uint64_t size = 0;
      absl::string_view text;
      SCONCE_RETURN_IF_ERROR(reader_.Count("storage size", std::numeric_limits<int64_t>::max(), size));
      const size_t start = reader_.offset();
      SCONCE_RETURN_IF_ERROR(reader_.Text("storage device", text));
      if (text.empty() && device.empty()) return ByteReader::Invalid(start, "storage device", "the first one has none");
      if (!text.empty() && text == device) {
        return ByteReader::Invalid(start, "storage device", "the device of the storage before is written again");
      }
      if (!text.empty()) device = text;
      storage.size_bytes = static_cast<int64_t>(size);
      storage.device = std::string(device);
      if (IsBulk(storage) || IsMetaDevice(device)) continue;
      absl::string_view inline_bytes;
      SCONCE_RETURN_IF_ERROR(reader_.Raw("inline storage", size, inline_bytes));
      storage.inline_bytes = std::string(inline_bytes);
    }
    return absl::OkStatus();
  }

  absl::Status Tensors() {
    int64_t expected_storage = 0;
    for (TensorView& view : manifest_.tensors) {
      const size_t start = reader_.offset();
      uint8_t dtype = 0;
      uint8_t flags = 0;
      SCONCE_RETURN_IF_ERROR(reader_.Byte("dtype", dtype));
      const std::optional<DType> known = DTypeFromNumber(dtype);
      if (!known.has_value()) {
        return ByteReader::Invalid(start, "dtype", absl::StrCat("no dtype has number ", static_cast<int>(dtype)));
      }
      SCONCE_RETURN_IF_ERROR(reader_.Byte("tensor flags", flags));
      if ((flags & ~(kRequiresGrad | kConjugate | kNegative | kNoStorage | kContiguous)) != 0) {
        return ByteReader::Invalid(start + 1, "tensor flags", "a flag that is not known");
      }
      view.dtype = *known;
      view.requires_grad = (flags & kRequiresGrad) != 0;
      view.conjugate = (flags & kConjugate) != 0;
      view.negative = (flags & kNegative) != 0;
      if ((flags & kNoStorage) == 0) {
        SCONCE_RETURN_IF_ERROR(
            Reference("storage of a tensor", expected_storage, manifest_.storages.size(), view.storage));
      }
      SCONCE_RETURN_IF_ERROR(Shape(view, (flags & kContiguous) != 0));
    }
    return absl::OkStatus();
  }

  absl::Status Shape(TensorView& view, bool contiguous) {
    constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
    uint64_t number = 0;
    uint64_t rank = 0;
    SCONCE_RETURN_IF_ERROR(reader_.Count("tensor offset", kMax, number));
    view.offset = static_cast<int64_t>(number);
    const size_t start = reader_.offset();
    SCONCE_RETURN_IF_ERROR(reader_.Count("tensor rank", reader_.remaining(), rank));
    view.shape.resize(rank);
    for (int64_t& extent : view.shape) {
      SCONCE_RETURN_IF_ERROR(reader_.Count("tensor shape", kMax, number));
      extent = static_cast<int64_t>(number);
    }
    if (contiguous) {
      if (!ContiguousStride(view.shape, view.stride)) {
        return ByteReader::Invalid(start, "tensor shape", "the strides of so large a shape do not fit into 64 bits");
      }
      return absl::OkStatus();
    }
    view.stride.resize(rank);
    for (int64_t& step : view.stride) {
      SCONCE_RETURN_IF_ERROR(reader_.Count("tensor stride", kMax, number));
      step = static_cast<int64_t>(number);
    }
    if (IsContiguous(view)) return ByteReader::Invalid(start, "tensor stride", "contiguous strides are written out");
    return absl::OkStatus();
  }

  absl::Status Nodes() {
    int64_t expected_tensor = 0;
    for (NodeIndex index = 0; index < manifest_.nodes.size(); ++index) {
      Node& node = manifest_.nodes[index];
      const size_t start = reader_.offset();
      uint8_t kind = 0;
      SCONCE_RETURN_IF_ERROR(reader_.Byte("node kind", kind));
      if (kind > kLastNodeKind) {
        return ByteReader::Invalid(start, "node kind", absl::StrCat("no kind has number ", static_cast<int>(kind)));
      }
      node.kind = static_cast<NodeKind>(kind);
      const NodeLayout layout = LayoutOf(node.kind);
      SCONCE_RETURN_IF_ERROR(PayloadOf(layout.payload, node));
      uint64_t children = 0;
      if (layout.children) SCONCE_RETURN_IF_ERROR(reader_.Count("number of children", reader_.remaining(), children));
      if (layout.storage) {
        uint64_t storage = 0;
        SCONCE_RETURN_IF_ERROR(reader_.Count("storage of a node", kNoIndex - 1, storage));
        node.integer = static_cast<int64_t>(storage);
      }
      if (layout.tensor) {
        SCONCE_RETURN_IF_ERROR(Reference("tensor of a node", expected_tensor, manifest_.tensors.size(), node.tensor));
      }
      node.children.resize(children);
      int64_t expected_child = FirstExpectedChild(index, children);
      for (NodeIndex& child : node.children) {
        SCONCE_RETURN_IF_ERROR(Reference("child of a node", expected_child, index, child));
      }
    }
    return absl::OkStatus();
  }

  absl::Status PayloadOf(Payload payload, Node& node) {
    const size_t start = reader_.offset();
    absl::string_view text;
    switch (payload) {
      case Payload::kNothing:
        return absl::OkStatus();
      case Payload::kFlag: {
        uint8_t flag = 0;
        SCONCE_RETURN_IF_ERROR(reader_.Byte("flag of a node", flag));
        if (flag > 1) return ByteReader::Invalid(start, "flag of a node", "neither 0 nor 1");
        node.integer = flag;
        return absl::OkStatus();
      }
      case Payload::kInt:
        SCONCE_RETURN_IF_ERROR(reader_.Text("int", text));
        if (!IsShortestInt(text)) return ByteReader::Invalid(start, "int", "written longer than needed");
        if (text.size() <= 8) {
          node.integer = IntFromBytes(text);
        } else {
          node.text = std::string(text);
        }
        return absl::OkStatus();
      case Payload::kReal:
        return reader_.Double("float", node.real);
      case Payload::kComplex:
        SCONCE_RETURN_IF_ERROR(reader_.Double("complex", node.real));
        return reader_.Double("complex", node.imaginary);
      case Payload::kText:
        SCONCE_RETURN_IF_ERROR(reader_.Text("text of a node", text));
        node.text = std::string(text);
        return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  // Reads a distance from `expected`, which becomes one more than the index read; that must be below `limit`.
  absl::Status Reference(const char* what, int64_t& expected, size_t limit, uint32_t& index) {
    const size_t start = reader_.offset();
    int64_t distance = 0;
    int64_t target = 0;
    SCONCE_RETURN_IF_ERROR(reader_.Signed(what, distance));
    if (__builtin_add_overflow(expected, distance, &target) || target < 0 || target >= static_cast<int64_t>(limit)) {
      return ByteReader::Invalid(start, what, absl::StrCat("not one of the ", limit, " possible here"));
    }
    index = static_cast<uint32_t>(target);
    expected = target + 1;
    return absl::OkStatus();
  }

  absl::Status Chunks() {
    if (!HasBulk(manifest_)) {
      return ByteReader::Invalid(reader_.offset(), "chunk table", "no storage has chunks");
    }
    for (Storage& storage : manifest_.storages) {
      if (!IsBulk(storage)) continue;
      const uint64_t count = static_cast<uint64_t>(ChunkCount(storage.size_bytes));
      if (count > reader_.remaining() / kChunkRecordBytes) {
        return ByteReader::Invalid(reader_.offset(), "chunk table",
                                   absl::StrCat(count, " chunks cannot fit into what is left"));
      }
      storage.chunks.resize(count);
      for (Chunk& chunk : storage.chunks) {
        absl::string_view raw;
        SCONCE_RETURN_IF_ERROR(reader_.Raw("chunk table", kChunkRecordBytes, raw));
        SCONCE_CHECK(Digest::FromBytes(raw.substr(0, sizeof(Digest::bytes)), chunk.sha256));
        SCONCE_CHECK(Fingerprint::FromBytes(raw.substr(sizeof(Digest::bytes)), chunk.xxh3));
      }
    }
    return absl::OkStatus();
  }

  ByteReader reader_;
  Manifest manifest_;
  bool chunk_table_ = false;
};

}  // namespace

std::string EncodeManifest(const Manifest& manifest) {
  const bool chunk_table = HasBulk(manifest) && HasChunkTable(manifest);
  std::string out(kMagic);
  out.push_back(static_cast<char>(kManifestVersion));
  out.push_back(static_cast<char>((manifest.derived ? kDerived : 0) | (chunk_table ? kChunkTable : 0)));
  PutVarint(manifest.storages.size(), out);
  PutVarint(manifest.tensors.size(), out);
  PutVarint(manifest.nodes.size(), out);
  EncodeStorages(manifest, out);
  EncodeTensors(manifest, out);
  EncodeNodes(manifest, out);
  if (!chunk_table) return out;
  for (const Storage& storage : manifest.storages) {
    for (const Chunk& chunk : storage.chunks) {
      out.append(chunk.sha256.AsKey().data(), sizeof(chunk.sha256.bytes));
      out.append(chunk.xxh3.AsKey().data(), sizeof(chunk.xxh3.bytes));
    }
  }
  return out;
}

absl::StatusOr<Manifest> DecodeManifest(ByteSpan bytes) {
  return Decoder(bytes).Decode();
}

}  // namespace sconce::format
