#ifndef SCONCE_STORAGE_FORMAT_PICKLE_KEYS_H_
#define SCONCE_STORAGE_FORMAT_PICKLE_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "storage/format/pickle_reader.h"

namespace sconce::format {

// Which values of a pickle are equal as keys of a Python dict: 1, 1.0 and True are one key, "1" is another. Each value
// is looked at once however often it is used, so that sharing cannot make the work grow. Borrows the graph.
class PickleKeys {
 public:
  explicit PickleKeys(const PickleGraph& graph) : graph_(graph) {}

  // A number that two values share exactly when they are the same key; nullopt for what is no key (a list, a tensor).
  std::optional<uint32_t> Id(PickleIndex value);

  // The items of a dict (key, value, ...) as Python ends up with them: of equal keys the first one stays in its place,
  // with the last value. False when something is no key.
  bool Deduplicate(absl::Span<const PickleIndex> items, std::vector<PickleIndex>& out);
  // The same for the elements of a set.
  bool DeduplicateSet(absl::Span<const PickleIndex> elements, std::vector<PickleIndex>& out);

 private:
  // The key as bytes, with the numbers of a tuple's elements in their place; false when it is none or `missing` got the
  // elements to do first.
  bool Encode(PickleIndex value, std::string& out, std::vector<PickleIndex>& missing);
  bool EncodeCall(PickleIndex value, std::string& out, std::vector<PickleIndex>& missing);
  bool EncodeBytes(absl::Span<const PickleIndex> args, std::string& out);
  bool EncodeComplex(PickleIndex value, absl::Span<const PickleIndex> args, std::string& out);
  bool EncodeObject(PickleIndex value, std::string& out);
  bool EncodeNumpyScalar(PickleIndex value, std::string& out);

  const PickleGraph& graph_;
  absl::flat_hash_map<PickleIndex, uint32_t> ids_;
  absl::flat_hash_map<std::string, uint32_t> id_of_bytes_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PICKLE_KEYS_H_
