#ifndef SCONCE_STORAGE_FORMAT_PYTHON_CALLS_H_
#define SCONCE_STORAGE_FORMAT_PYTHON_CALLS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "storage/format/pickle_keys.h"
#include "storage/format/pickle_reader.h"

namespace sconce::format {

// What a pickle's calls may make beside the pickle's own bytes, all together: so many times the bytes read so far and a
// little, and never more than this.
inline constexpr size_t kMadeBytesRatio = 32;
inline constexpr size_t kMadeBytesAlways = size_t{1} << 20;
inline constexpr size_t kMaxMadeBytes = size_t{256} << 20;

// What the constructors that a pickle may call make of their arguments: set("ab"), OrderedDict([("a", 1)]),
// Counter("aab"), bytearray(5), complex("1j"), torch.Size([1, 2]), torch.device("cuda:1"), torch.FloatTensor([1, 2]).
// PyTorch's weights-only loader calls them; here they are worked out, at the moment of the call, since a list may
// change later. The result is the value that pickle writes for such an object, so that who reads the values knows one
// form of each:
//
//   a set                                       Kind::kSet
//   OrderedDict, Counter                        with the items; their arguments say nothing more
//   bytes, bytearray                            Kind::kBytes, kByteArray; or as protocol 2 has them, from a str and
//                                               "latin1"
//   complex(float, float), torch.device(str, [int]), torch.Size(tuple of ints)
//   torch.FloatTensor(elements, shape)          numbers; elements are Kind::kElements. Else (tensor) or (storage), of
//                                               which it is a view, or () as BUILD will fill it
//   torch.UntypedStorage(elements)
//
// Nothing recurses. Borrows the graph.
class PythonCalls {
 public:
  explicit PythonCalls(PickleGraph& graph) : graph_(graph), keys_(graph) {}

  // Whether it is one of them.
  static bool Knows(PickleTag tag);
  // The value that callee(*args) makes; with `is_new` callee.__new__(callee, *args), which leaves a container empty.
  // FILE_MALFORMED for what Python refuses; FILE_UNSUPPORTED for what has no one answer (the order of a set's elements,
  // uninitialised memory, what depends on the machine) or is not worth it; INPUT_LIMIT_EXCEEDED beyond the limits
  // above.
  absl::StatusOr<PickleIndex> Make(PickleGlobal callee, PickleIndex args, bool is_new, size_t bytes_read);
  // The dict `old` (or none, kAbsent) after old.update(update). Errors as of Make.
  absl::StatusOr<PickleIndex> Update(PickleIndex old, PickleIndex update, size_t bytes_read);

 private:
  using Kind = PickleValue::Kind;
  using Args = absl::Span<const PickleIndex>;
  using Items = std::vector<PickleIndex>;

  absl::StatusOr<PickleIndex> MakeSet(PickleGlobal callee, const Items& args);
  absl::StatusOr<PickleIndex> MakeOrderedDict(PickleGlobal callee, const Items& args, PickleIndex tuple);
  absl::StatusOr<PickleIndex> MakeCounter(PickleGlobal callee, const Items& args, PickleIndex tuple);
  absl::StatusOr<PickleIndex> MakeSize(PickleGlobal callee, const Items& args, PickleIndex tuple);
  absl::StatusOr<PickleIndex> MakeDevice(PickleGlobal callee, const Items& args, PickleIndex tuple);
  absl::StatusOr<PickleIndex> MakeComplex(PickleGlobal callee, const Items& args, PickleIndex tuple);
  absl::StatusOr<PickleIndex> MakeBytes(PickleGlobal callee, const Items& args, PickleIndex tuple);
  absl::StatusOr<PickleIndex> MakeByteArray(PickleGlobal callee, const Items& args, PickleIndex tuple);
  absl::StatusOr<PickleIndex> MakeTensor(PickleGlobal callee, const Items& args);
  absl::StatusOr<PickleIndex> MakeStorage(PickleGlobal callee, const Items& args);

  // A call in the form above: with the tuple of arguments as it is, or with others.
  absl::StatusOr<PickleIndex> SameCall(PickleGlobal callee, PickleIndex tuple);
  absl::StatusOr<PickleIndex> AddCall(PickleGlobal callee, const Items& args);
  absl::StatusOr<PickleIndex> AddFilled(Kind kind, PickleGlobal callee, PickleIndex tuple, const Items& items);
  absl::StatusOr<PickleIndex> AddInt(int64_t integer);
  absl::StatusOr<PickleIndex> AddFloat(double real);
  absl::StatusOr<PickleIndex> AddMade(Kind kind, absl::string_view text);

  // python_elements.cc
  absl::StatusOr<Items> DictItems(PickleIndex value);
  // The elements of an iterable, in order. With `any_order` also of a set, whose order is Python's own affair.
  absl::StatusOr<Items> Elements(PickleIndex value, bool any_order = false);
  absl::StatusOr<Items> Characters(PickleIndex text);
  bool IsMapping(PickleIndex value) const;
  bool IsCall(PickleIndex value, PickleTag tag) const;
  bool IsInt(PickleIndex value) const { return graph_[value].kind == Kind::kInt || graph_[value].kind == Kind::kLong; }
  // The bytes of a bytes object or bytearray; nullopt for anything else.
  absl::StatusOr<std::optional<std::string>> BytesOf(PickleIndex value);
  absl::StatusOr<std::string> Encoded(const Items& args);
  // python_tensor_calls.cc
  absl::StatusOr<PickleIndex> MakeSubclass(PickleGlobal callee, const Items& args, PickleIndex tuple);
  absl::StatusOr<PickleIndex> OfSize(PickleGlobal callee, const Items& extents);
  absl::StatusOr<PickleIndex> OfNumbers(PickleGlobal callee, DType dtype, PickleIndex sequence);
  absl::StatusOr<PickleIndex> OfTensor(PickleGlobal callee, PickleIndex tensor);
  absl::StatusOr<PickleIndex> AddElements(PickleGlobal callee, absl::string_view bytes,
                                          const std::vector<int64_t>& shape);
  absl::StatusOr<std::vector<int64_t>> ShapeOf(PickleIndex sequence);
  absl::StatusOr<Items> Flattened(PickleIndex sequence, const std::vector<int64_t>& shape);
  absl::StatusOr<std::string> NumberBytes(DType dtype, const Items& numbers);
  bool IsSequence(PickleIndex value) const;
  bool IsStorage(PickleIndex value) const;
  // What to say of something that is no iterable, or no number, where one is needed.
  absl::Status NotNumbers(PickleIndex value) const;
  size_t LimitAt(size_t bytes_read) const;
  absl::Status Charge(size_t bytes);
  size_t Left() const { return limit_ - made_; }

  PickleGraph& graph_;
  PickleKeys keys_;
  size_t made_ = 0;
  size_t limit_ = 0;  // of made_, at least it
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PYTHON_CALLS_H_
