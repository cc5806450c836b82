#ifndef SCONCE_STORAGE_FORMAT_PICKLE_READER_H_
#define SCONCE_STORAGE_FORMAT_PICKLE_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/strings.h"
#include "storage/format/pickle_globals.h"

namespace sconce::format {

using PickleIndex = uint32_t;

// A value of a pickle. 16 bytes, since a checkpoint of 100,000 tensors has more than a million of them.
struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,       // integer
    kInt,        // integer
    kLong,       // text: little-endian two's complement, as short as can be, more than 8 bytes
    kFloat,      // real
    kStr,        // text: UTF-8, lone surrogates allowed
    kBytes,      // text
    kByteArray,  // text
    kTuple,      // items
    kList,       // items
    kSet,        // items
    kDict,       // items: key, value, key, value ...
    kGlobal,     // global: something on the list, named
    // global, applied to args; items set or appended to the result; state given to it by BUILD. integer: 1 when only
    // its __new__ was called
    kCall,
    kPersistent,  // args: the persistent id
    // text: the bytes of a storage that a call makes of numbers. Only as an argument in a call that PythonCalls wrote.
    kElements,
  };
  Kind kind = Kind::kNone;
  PickleGlobal global;
  uint32_t count = 0;  // bytes of the text, items of the tuple, or which object
  union {
    int64_t integer = 0;
    double real;
    uint64_t start;  // where in the pickle (or, with PickleGraph::kMade, among the texts that calls made) the text
                     // starts, or in the pool the tuple's items
  };
};

// The values a pickle makes, as data. An object that Python would share is one value; a value may contain itself.
// Borrows from the pickle.
class PickleGraph {
 public:
  static constexpr PickleIndex kAbsent = UINT32_MAX;
  static constexpr uint64_t kMade = uint64_t{1} << 63;  // in PickleValue::start

  PickleIndex root() const { return root_; }
  size_t size() const { return values_.size(); }
  size_t pickle_bytes() const { return pickle_.size(); }
  const PickleValue& operator[](PickleIndex index) const { return values_[index]; }

  // Each only for the kinds that have it.
  absl::string_view Text(PickleIndex index) const;
  absl::Span<const PickleIndex> Items(PickleIndex index) const;
  PickleIndex Args(PickleIndex index) const;   // of a call always a tuple
  PickleIndex State(PickleIndex index) const;  // kAbsent when BUILD gave none

  // For those who read a pickle. INPUT_LIMIT_EXCEEDED beyond kMaxPickleValues.
  absl::StatusOr<PickleIndex> Add(PickleValue value);
  absl::StatusOr<PickleIndex> AddTuple(absl::Span<const PickleIndex> items);  // which are none of this graph's own
  absl::StatusOr<PickleIndex> AddObject(PickleValue::Kind kind, PickleGlobal global, PickleIndex args);
  // A text that is no part of the pickle.
  absl::StatusOr<PickleIndex> AddText(PickleValue::Kind kind, absl::string_view text);
  void AppendItems(PickleIndex object, absl::Span<const PickleIndex> items);
  void SetState(PickleIndex call, PickleIndex state) { objects_[values_[call].count].state = state; }

 private:
  friend class PickleMachine;
  // What a list, set, dict or call has beyond its value.
  struct Object {
    std::vector<PickleIndex> items;
    PickleIndex args = kAbsent;
    PickleIndex state = kAbsent;
  };
  ByteSpan pickle_;
  std::string made_;  // the texts that AddText was given
  PickleIndex root_ = kAbsent;
  std::vector<PickleValue> values_;
  std::vector<PickleIndex> tuple_items_;
  std::vector<Object> objects_;
};

// Limits of what is read, far beyond any real checkpoint's tree: they bound memory to about 0.5 GB whatever the pickle
// says, and a quarter more for what its calls make (PythonCalls).
inline constexpr size_t kMaxPickleBytes = size_t{256} << 20;
inline constexpr size_t kMaxPickleValues = size_t{8} << 20;

// Runs the pickle's opcodes (protocols 2 to 5) over data only: GLOBAL looks a name up in the fixed list, and REDUCE,
// NEWOBJ and BUILD record what Python would call; what the constructors of containers, numbers and plain tensors make
// of their arguments is worked out at once (PythonCalls). Nothing recurses, and memory grows only with opcodes read.
// `name` is the record's, for messages.
//
// PICKLE_GLOBAL_REFUSED names all globals that are not on the list at once (metadata `globals`); FILE_MALFORMED or
// FILE_UNSUPPORTED for a broken or foreign pickle, with the byte; INPUT_LIMIT_EXCEEDED beyond the limits above.
absl::StatusOr<PickleGraph> ReadPickle(ByteSpan pickle, absl::string_view name);

// The same for the first of several pickles that follow each other: the result's pickle_bytes() is its length.
absl::StatusOr<PickleGraph> ReadFirstPickle(ByteSpan stream, absl::string_view name);

// The same for a pickle of a TorchScript archive, which may also name what FindScriptGlobal knows.
absl::StatusOr<PickleGraph> ReadArchivePickle(ByteSpan pickle, absl::string_view name);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PICKLE_READER_H_
