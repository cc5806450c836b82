// Any bytes as the pickle of a TorchScript module: whatever is read names only what is there.
#include <cstdint>
#include <cstdlib>

#include "storage/format/script_pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto pickle = sconce::format::ReadScriptPickle(sconce::ByteSpan(data, size));
  if (!pickle.ok()) return 0;
  const size_t count = pickle->values.size();
  if (pickle->root >= count) std::abort();
  for (const sconce::format::ScriptValue& value : pickle->values) {
    for (const uint32_t index : {value.callee, value.argument}) {
      if (index != sconce::format::ScriptValue::kAbsent && index >= count) std::abort();
    }
    for (const uint32_t index : value.items) {
      if (index >= count) std::abort();
    }
  }
  return 0;
}
