#ifndef SCONCE_STORAGE_FORMAT_NUMPY_DTYPE_H_
#define SCONCE_STORAGE_FORMAT_NUMPY_DTYPE_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace sconce::format {

// A numpy dtype as its `.str` writes it: "<f4", ">i8", "|b1", "<M8[ns]".
struct NumpyDtype {
  char byte_order = '|';  // '<' little, '>' big, '|' no matter
  char kind = 0;          // b bool, i signed, u unsigned, f float, c complex, S bytes, U text, V raw, M and m dates
  int64_t item_bytes = 0;
};

// nullopt for what is not such a string, for object arrays ("|O"), and for structures and subarrays.
std::optional<NumpyDtype> ParseNumpyDtype(absl::string_view text);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_NUMPY_DTYPE_H_
