#ifndef SCONCE_STORAGE_FORMAT_SCRIPT_PICKLE_H_
#define SCONCE_STORAGE_FORMAT_SCRIPT_PICKLE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/strings.h"

// The pickle of a TorchScript module: its objects with their attributes, as data. PyTorch's C++ code writes it
// (torch/csrc/jit/serialization/pickler.cpp), with far fewer opcodes than Python's pickle and with a class of its own
// for every module, which no fixed list could name; so it has a reader of its own. Nothing is looked up, called or
// made: a class is its name, a call is what is called and with what.
namespace sconce::format {

struct ScriptValue {
  enum class Kind : uint8_t {
    kNone,
    kInt,         // integer
    kOther,       // a bool, a float, a long: nobody asks
    kStr,         // text
    kGlobal,      // text: module and name, with a line end in between
    kTuple,       // items
    kList,        // items
    kDict,        // items: key, value, key, value ...
    kCall,        // callee, argument: what REDUCE would call, with a tuple
    kObject,      // callee: its class; argument: its state, kAbsent when there is none
    kPersistent,  // argument: the persistent id
  };
  static constexpr uint32_t kAbsent = UINT32_MAX;

  Kind kind = Kind::kNone;
  int64_t integer = 0;
  absl::string_view text;  // inside the pickle
  uint32_t callee = kAbsent;
  uint32_t argument = kAbsent;
  std::vector<uint32_t> items;
};

// All values of a pickle; they name each other by index, and may form circles. Borrows from the pickle.
struct ScriptPickle {
  std::vector<ScriptValue> values;
  uint32_t root = 0;
};

// MODULE_INVALID, with the byte, for what PyTorch does not write. Memory is a small multiple of the pickle's size.
absl::StatusOr<ScriptPickle> ReadScriptPickle(ByteSpan pickle);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_SCRIPT_PICKLE_H_
