#include "storage/format/numpy_values.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/numpy_dtype.h"

namespace sconce::format {
namespace {

using Kind = PickleValue::Kind;

absl::Status Malformed(absl::string_view what) {
  return MakeError(Reason::FILE_MALFORMED, what);
}

absl::Status Unsupported(absl::string_view what) {
  return MakeError(Reason::FILE_UNSUPPORTED,
                   absl::StrCat("a numpy value of ", what, "; save it as numbers, str or bytes, or as a tensor"));
}

// The dtype's state says what its name does not: the byte order, and whether it is a structure or subarray.
absl::Status CheckState(const PickleGraph& graph, absl::Span<const PickleIndex> state) {
  const auto is = [&](size_t i, Kind kind) { return graph[state[i]].kind == kind; };
  if (state.size() < 8 || state.size() > 9 || !is(0, Kind::kInt) || !is(1, Kind::kStr) || !is(5, Kind::kInt))
    return Malformed("a numpy dtype has a state that numpy does not write");
  if (!is(2, Kind::kNone) || !is(3, Kind::kNone) || !is(4, Kind::kNone))
    return Unsupported("a structured or subarray dtype");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadNumpyDtype(const PickleGraph& graph, PickleIndex value) {
  if (graph[value].kind != Kind::kCall || graph[value].global.tag != PickleTag::kNumpyDtype)
    return Malformed("a numpy value without its dtype");
  const absl::Span<const PickleIndex> args = graph.Items(graph.Args(value));
  if (args.empty() || args.size() > 3 || graph[args[0]].kind != Kind::kStr || graph.Text(args[0]).size() < 2)
    return Malformed("a numpy dtype without a name");
  const absl::string_view name = graph.Text(args[0]);
  const char kind = name[0];
  if (kind == 'O') return Unsupported("Python objects (dtype object)");
  if (kind == 'M' || kind == 'm') return Unsupported("dates or times (dtype datetime64 or timedelta64)");
  std::string order = "<";
  int64_t size = -1;
  if (const PickleIndex state = graph.State(value); state != PickleGraph::kAbsent) {
    if (graph[state].kind != Kind::kTuple) return Malformed("a numpy dtype has a state that numpy does not write");
    const absl::Span<const PickleIndex> items = graph.Items(state);
    SCONCE_RETURN_IF_ERROR(CheckState(graph, items));
    order = std::string(graph.Text(items[1]).substr(0, 2));
    size = graph[items[5]].integer;
  }
  const bool unordered = kind == 'b' || kind == 'S' || kind == 'V' || name == "i1" || name == "u1";
  if (unordered) {
    order = "|";
  } else if (order == "=") {
    order = "<";  // the machine's own
  } else if (order != "<" && order != ">") {
    return Malformed("a numpy dtype without a byte order");
  }
  const std::string text = absl::StrCat(order, name);
  const std::optional<NumpyDtype> dtype = ParseNumpyDtype(text);
  if (!dtype.has_value()) return Unsupported(absl::StrCat("dtype ", Quoted(name, 40)));
  const bool sized = kind == 'S' || kind == 'U' || kind == 'V';  // the others have -1 in the state
  if (sized && size >= 0 && size != dtype->item_bytes) return Malformed("a numpy dtype has two sizes");
  return text;
}

absl::StatusOr<NumpyArrayParts> ReadNumpyArray(const PickleGraph& graph, PickleIndex value) {
  NumpyArrayParts parts;
  const absl::Span<const PickleIndex> args = graph.Items(graph.Args(value));
  if (graph[value].global.tag == PickleTag::kNumpyFromBuffer) {
    if (args.size() < 4 || args.size() > 5 || graph[args[3]].kind != Kind::kStr)
      return Malformed("a numpy array has too few or too many arguments");
    const absl::string_view order = graph.Text(args[3]);
    if (args.size() == 5 || order == "K")
      return MakeError(Reason::FILE_UNSUPPORTED,
                       "a numpy array whose axes are permuted; save numpy.ascontiguousarray of it");
    if (order != "C" && order != "F") return Malformed("a numpy array of an unknown order");
    parts = {args[1], args[2], args[0], order == "F"};
  } else {
    const PickleIndex state = graph.State(value);
    if (args.size() != 3 || graph[args[0]].kind != Kind::kGlobal ||
        graph[args[0]].global.tag != PickleTag::kNumpyClass || state == PickleGraph::kAbsent ||
        graph[state].kind != Kind::kTuple) {
      return Malformed("a numpy array is made in a way numpy does not write");
    }
    absl::Span<const PickleIndex> items = graph.Items(state);
    if (items.size() == 5 && graph[items[0]].kind == Kind::kInt && graph[items[0]].integer <= 1) items.remove_prefix(1);
    if (items.size() != 4 || graph[items[2]].kind != Kind::kBool)
      return Malformed("a numpy array has a state that numpy does not write");
    parts = {items[1], items[0], items[3], graph[items[2]].integer != 0};
  }
  SCONCE_RETURN_IF_ERROR(ReadNumpyDtype(graph, parts.dtype).status());
  if (graph[parts.shape].kind != Kind::kTuple) return Malformed("a numpy array's shape is not a tuple");
  return parts;
}

}  // namespace sconce::format
