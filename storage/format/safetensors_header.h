#ifndef SCONCE_STORAGE_FORMAT_SAFETENSORS_HEADER_H_
#define SCONCE_STORAGE_FORMAT_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"
#include "storage/format/manifest.h"

// The header of a .safetensors file, after the format's description and release 0.8 of the safetensors library:
//
//   8 bytes   length of the header, little-endian
//   header    a JSON object in UTF-8, filled up with spaces; name -> {"dtype", "shape", "data_offsets": [begin, end]},
//             and under "__metadata__" an object of strings
//   data      the tensors, row-major, little-endian, without holes; offsets count from here
namespace sconce::format {

inline constexpr size_t kSafetensorsLengthBytes = 8;
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;  // as the library
inline constexpr char kSafetensorsMetadataKey[] = "__metadata__";

// A dtype by its name in the header. `order` is the library's order of dtypes, by which it sorts tensors in a file (the
// highest first): alignment, roughly.
struct SafetensorsDType {
  const char* name;
  DType dtype;
  int order;
};
// nullptr for a dtype that the other side does not have. F6_E2M3 and F6_E3M2 exist in the format and not in PyTorch.
const SafetensorsDType* FindSafetensorsDType(absl::string_view name);
const SafetensorsDType* FindSafetensorsDType(DType dtype);

struct SafetensorsEntry {
  std::string name;  // UTF-8
  DType dtype = DType::kFloat32;
  Dims shape;  // PyTorch's: of float4_e2m1fn_x2 the last extent counts pairs, in the file single numbers
  int64_t begin = 0;
  int64_t end = 0;
};
struct SafetensorsHeader {
  std::optional<std::vector<std::pair<std::string, std::string>>> metadata;  // in the order of the file
  std::vector<SafetensorsEntry> entries;                                     // in the order of the header
  int64_t data_offset = 0;                                                   // in the file
};

// True when a file starts like one: a length and an object.
bool IsSafetensorsFile(ByteSpan file);

// Parses the header and holds it against the file: sizes fit shapes, and the tensors fill the file without a hole or an
// overlap. Reads nothing of the data. FILE_TRUNCATED when the file ends early; FILE_MALFORMED naming the byte of the
// header or the tensor (a name twice among the reasons); FILE_UNSUPPORTED for a dtype that PyTorch lacks, or an unknown
// field.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(ByteSpan file);

// The length and the header, filled up so that the data starts at a multiple of 8 bytes.
std::string WriteSafetensorsHeader(const SafetensorsHeader& header);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_SAFETENSORS_HEADER_H_
