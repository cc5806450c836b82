#ifndef SCONCE_STORAGE_FORMAT_FLOAT_CONVERT_H_
#define SCONCE_STORAGE_FORMAT_FLOAT_CONVERT_H_

#include <cstddef>
#include <cstdint>

#include "storage/format/dtype.h"

// Conversion between the floating-point dtypes, as `tensor.to(dtype)` of PyTorch 2.14 on a CPU does it: every value
// goes through float32 (also a float64, which is so rounded twice), and each step rounds to nearest, ties to even.
// Equal to PyTorch's result bit for bit for every input that is not NaN; a NaN stays a NaN, with a payload of our own.
//
// Beyond the largest finite value float16, bfloat16, float32 and float8_e5m2 give infinity. float8_e4m3fn has none:
// everything beyond 448, infinity too, gives 448 with the sign (as PyTorch 2.14 does; 2.6 gave NaN from above 464 on).
namespace sconce::format {

// float16, bfloat16, float32, float64, float8_e4m3fn, float8_e5m2, float8_e4m3fnuz, float8_e5m2fnuz. Not the dtypes
// that mean something only together with other tensors: float8_e8m0fnu (block scales) and float4_e2m1fn_x2 (two to a
// byte).
bool CanConvertFrom(DType dtype);
// float16, bfloat16, float32, float64, float8_e4m3fn, float8_e5m2.
bool CanConvertTo(DType dtype);

// Converts `count` little-endian elements from `in` to `out`, neither of which need be aligned; they do not overlap.
// Requires CanConvertFrom(from) and CanConvertTo(to). The same dtype is a copy. Uses AVX2 where the machine has it,
// with the same results.
void ConvertFloats(DType from, DType to, const uint8_t* in, size_t count, uint8_t* out);
// The same without AVX2. For tests.
void ConvertFloatsPortably(DType from, DType to, const uint8_t* in, size_t count, uint8_t* out);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_FLOAT_CONVERT_H_
