#ifndef SCONCE_STORAGE_FORMAT_DTYPE_H_
#define SCONCE_STORAGE_FORMAT_DTYPE_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace sconce::format {

// Every dtype PyTorch can save: X(enumerator, number on disk, name without "torch.", bits per element as stored, kind
// letter). Kinds: f float, i signed, u unsigned, b bool, c complex, q quantized, x raw bits. Numbers are persisted:
// never reused, never changed.
#define SCONCE_DTYPES(X)                             \
  X(kFloat32, 1, "float32", 32, 'f')                 \
  X(kFloat64, 2, "float64", 64, 'f')                 \
  X(kFloat16, 3, "float16", 16, 'f')                 \
  X(kBFloat16, 4, "bfloat16", 16, 'f')               \
  X(kInt64, 5, "int64", 64, 'i')                     \
  X(kInt32, 6, "int32", 32, 'i')                     \
  X(kInt16, 7, "int16", 16, 'i')                     \
  X(kInt8, 8, "int8", 8, 'i')                        \
  X(kUInt8, 9, "uint8", 8, 'u')                      \
  X(kBool, 10, "bool", 8, 'b')                       \
  X(kComplex64, 11, "complex64", 64, 'c')            \
  X(kComplex128, 12, "complex128", 128, 'c')         \
  X(kComplex32, 13, "complex32", 32, 'c')            \
  X(kUInt16, 14, "uint16", 16, 'u')                  \
  X(kUInt32, 15, "uint32", 32, 'u')                  \
  X(kUInt64, 16, "uint64", 64, 'u')                  \
  X(kFloat8E4M3FN, 17, "float8_e4m3fn", 8, 'f')      \
  X(kFloat8E5M2, 18, "float8_e5m2", 8, 'f')          \
  X(kFloat8E4M3FNUZ, 19, "float8_e4m3fnuz", 8, 'f')  \
  X(kFloat8E5M2FNUZ, 20, "float8_e5m2fnuz", 8, 'f')  \
  X(kFloat8E8M0FNU, 21, "float8_e8m0fnu", 8, 'f')    \
  X(kFloat4E2M1FNX2, 22, "float4_e2m1fn_x2", 8, 'f') \
  X(kQInt8, 23, "qint8", 8, 'q')                     \
  X(kQUInt8, 24, "quint8", 8, 'q')                   \
  X(kQInt32, 25, "qint32", 32, 'q')                  \
  X(kQUInt4x2, 26, "quint4x2", 8, 'q')               \
  X(kQUInt2x4, 27, "quint2x4", 8, 'q')               \
  X(kBits8, 28, "bits8", 8, 'x')                     \
  X(kBits16, 29, "bits16", 16, 'x')                  \
  X(kBits1x8, 30, "bits1x8", 8, 'x')                 \
  X(kBits2x4, 31, "bits2x4", 8, 'x')                 \
  X(kBits4x2, 32, "bits4x2", 8, 'x')                 \
  X(kInt1, 33, "int1", 8, 'i')                       \
  X(kInt2, 34, "int2", 8, 'i')                       \
  X(kInt3, 35, "int3", 8, 'i')                       \
  X(kInt4, 36, "int4", 8, 'i')                       \
  X(kInt5, 37, "int5", 8, 'i')                       \
  X(kInt6, 38, "int6", 8, 'i')                       \
  X(kInt7, 39, "int7", 8, 'i')                       \
  X(kUInt1, 40, "uint1", 8, 'u')                     \
  X(kUInt2, 41, "uint2", 8, 'u')                     \
  X(kUInt3, 42, "uint3", 8, 'u')                     \
  X(kUInt4, 43, "uint4", 8, 'u')                     \
  X(kUInt5, 44, "uint5", 8, 'u')                     \
  X(kUInt6, 45, "uint6", 8, 'u')                     \
  X(kUInt7, 46, "uint7", 8, 'u')                     \
  X(kBComplex32, 47, "bcomplex32", 32, 'c')

enum class DType : uint8_t {
#define SCONCE_DTYPE_ENUMERATOR_(name, number, text, bits, kind) name = number,
  SCONCE_DTYPES(SCONCE_DTYPE_ENUMERATOR_)
#undef SCONCE_DTYPE_ENUMERATOR_
};

// "float32"; never empty for a value of the enum.
absl::string_view DTypeName(DType dtype);
// Bytes of one element: 1 to 16.
int64_t ElementBytes(DType dtype);
bool IsFloating(DType dtype);
bool IsComplex(DType dtype);
bool IsQuantized(DType dtype);
// By name, with or without "torch."; nullopt when unknown.
std::optional<DType> ParseDType(absl::string_view name);
// From the number on disk; nullopt when unknown.
std::optional<DType> DTypeFromNumber(uint8_t number);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_DTYPE_H_
