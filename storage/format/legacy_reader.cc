#include "storage/format/legacy_reader.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/pickle_opcodes.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/torch_tree.h"
#include "storage/format/zip_format.h"

namespace sconce::format {
namespace {

using Kind = PickleValue::Kind;

// 0x1950a86a20f9469cfc6c as a pickle has it: LONG1, its length, its bytes.
constexpr uint8_t kMagic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
constexpr int64_t kProtocolVersion = 1001;
constexpr size_t kCountBytes = 8;  // of a storage's number of elements

// The pickles at the start of the file, one after the other.
class PickleStream {
 public:
  explicit PickleStream(ByteSpan file) : rest_(file) {}
  absl::StatusOr<PickleGraph> Next(absl::string_view name) {
    SCONCE_ASSIGN_OR_RETURN(PickleGraph graph, ReadFirstPickle(rest_, name));
    rest_.remove_prefix(graph.pickle_bytes());
    return graph;
  }
  ByteSpan rest() const { return rest_; }

 private:
  ByteSpan rest_;
};

// How many bytes an element has of each storage that the tree names, by its key.
absl::flat_hash_map<absl::string_view, int64_t> ElementSizes(const PickleGraph& graph) {
  absl::flat_hash_map<absl::string_view, int64_t> sizes;
  for (PickleIndex i = 0; i < graph.size(); ++i) {
    if (graph[i].kind != Kind::kPersistent || graph[graph.Args(i)].kind != Kind::kTuple) continue;
    const absl::Span<const PickleIndex> parts = graph.Items(graph.Args(i));
    if (parts.size() < 3 || graph[parts[1]].kind != Kind::kGlobal ||
        graph[parts[1]].global.tag != PickleTag::kStorageType || graph[parts[2]].kind != Kind::kStr) {
      continue;  // the tree's reader says what is wrong with it
    }
    const uint8_t type = graph[parts[1]].global.number;
    sizes.emplace(graph.Text(parts[2]), type == 0 ? 1 : ElementBytes(static_cast<DType>(type)));
  }
  return sizes;
}

// Walks over the storages. `keys` lives as long as the file: so do the names of the records.
absl::StatusOr<absl::flat_hash_map<absl::string_view, RecordSource>> FindStorages(const PickleGraph& tree,
                                                                                  const PickleGraph& keys,
                                                                                  ByteSpan rest) {
  if (keys[keys.root()].kind != Kind::kList)
    return MakeError(Reason::FILE_MALFORMED, "the keys of the storages are not a list; write the file again");
  const auto sizes = ElementSizes(tree);
  absl::flat_hash_map<absl::string_view, RecordSource> records;
  for (const PickleIndex item : keys.Items(keys.root())) {
    if (keys[item].kind != Kind::kStr)
      return MakeError(Reason::FILE_MALFORMED, "the key of a storage is not a str; write the file again");
    const absl::string_view key = keys.Text(item);
    const auto size = sizes.find(key);
    if (size == sizes.end()) {
      return MakeError(Reason::FILE_MALFORMED,
                       absl::StrCat("the file holds storage ", Quoted(key), ", which its tree does not name"));
    }
    const uint64_t count = rest.size() < kCountBytes ? 0 : LoadLittle64(rest.data());
    const auto element = static_cast<uint64_t>(size->second);
    if (rest.size() < kCountBytes || count > (rest.size() - kCountBytes) / element) {
      return MakeError(Reason::FILE_TRUNCATED,
                       absl::StrCat("storage ", Quoted(key), " reaches past the end of the file; copy it again"));
    }
    RecordSource record = RecordSource::Plain(rest.subspan(kCountBytes, count * element));
    record.name = key;
    if (!records.emplace(key, record).second)
      return MakeError(Reason::FILE_MALFORMED, absl::StrCat("the file holds storage ", Quoted(key), " twice"));
    rest.remove_prefix(kCountBytes + count * element);
  }
  return records;
}

}  // namespace

bool IsLegacyTorchFile(ByteSpan file) {
  constexpr size_t kProtoBytes = 2, kFrameBytes = 9;  // opcodes that may come first
  if (file.size() < kProtoBytes + std::size(kMagic) || file[0] != static_cast<uint8_t>(PickleOp::kProto)) return false;
  ByteSpan rest = file.subspan(kProtoBytes);
  if (rest[0] == static_cast<uint8_t>(PickleOp::kFrame)) rest.remove_prefix(kFrameBytes);
  return rest.size() >= std::size(kMagic) && std::equal(std::begin(kMagic), std::end(kMagic), rest.begin());
}

absl::StatusOr<TorchIndex> IndexLegacyTorchFile(ByteSpan file) {
  PickleStream pickles(file);
  SCONCE_RETURN_IF_ERROR(pickles.Next("the magic number").status());
  SCONCE_ASSIGN_OR_RETURN(const PickleGraph protocol, pickles.Next("the protocol version"));
  const PickleValue& version = protocol[protocol.root()];
  if (version.kind != Kind::kInt || version.integer != kProtocolVersion) {
    return MakeError(Reason::FILE_UNSUPPORTED,
                     absl::StrCat("the file is not of protocol version ", kProtocolVersion,
                                  ", the only one of torch.save without a zip archive; save it again"));
  }
  SCONCE_RETURN_IF_ERROR(pickles.Next("the facts about the machine").status());
  SCONCE_ASSIGN_OR_RETURN(const PickleGraph tree, pickles.Next("the tree"));
  SCONCE_ASSIGN_OR_RETURN(const PickleGraph keys, pickles.Next("the keys of the storages"));
  SCONCE_ASSIGN_OR_RETURN(const auto records, FindStorages(tree, keys, pickles.rest()));
  SCONCE_ASSIGN_OR_RETURN(
      TorchIndex index, BuildTorchTree(tree, [&](absl::string_view key) -> absl::StatusOr<RecordSource> {
        const auto it = records.find(key);
        if (it != records.end()) return it->second;
        return MakeError(Reason::FILE_MALFORMED, absl::StrCat("storage ", Quoted(key), " is not in the file"));
      }));
  SCONCE_RETURN_IF_ERROR(FinishIndex(false, index));
  return index;
}

}  // namespace sconce::format
