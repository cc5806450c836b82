// A conversion is a decoder to float32 followed by an encoder from it, each without branches, over blocks of a size
// that the compiler knows: so it makes vector code of them at every level of optimisation that a release uses. Each is
// compiled twice, for any machine and for AVX2 (but not FMA, whose fused products would round otherwise); which one
// runs is found out once.

#include "storage/format/float_convert.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "elements are read as the machine's own numbers");

namespace sconce::format {
namespace {

constexpr size_t kBlock = 512;  // elements; as float32 they fit the first-level cache beside input and output
constexpr size_t kMaxElementBytes = 8;
constexpr uint32_t kSign = 0x80000000;
constexpr uint32_t kInfinity = 0x7F800000;
constexpr uint32_t kQuietNan = 0x7FC00000;

// Numbers at any address, in memory that is otherwise bytes.
template <typename T>
struct [[gnu::packed, gnu::may_alias]] Unaligned {
  T value;
};

[[gnu::always_inline]] inline uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

[[gnu::always_inline]] inline float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Without a branch, which would keep the compiler from making vector code.
[[gnu::always_inline]] inline uint32_t Select(bool condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0U - static_cast<uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}

// What the bit patterns without a number of their own mean.
enum class Specials { kIeee, kFn, kFnuz };

// A float of one sign bit, as many exponent bits as are left, `mantissa` bits; stored in a T.
template <typename T, int mantissa, int bias, Specials specials>
struct SmallFloat {
  using Stored = T;
  static constexpr int kSignAt = 8 * sizeof(T) - 1;
  static constexpr uint32_t kMagnitude = (1U << kSignAt) - 1;
  static constexpr int kShift = 23 - mantissa;  // between its mantissa and that of float32

  [[gnu::always_inline]] static float Decode(T stored) {
    const uint32_t magnitude = stored & kMagnitude;
    const uint32_t sign = (uint32_t{stored} >> kSignAt) << 31;
    const uint32_t moved = magnitude << kShift;
    // A subnormal is put behind the mantissa of the smallest normal number, which is then taken away again.
    constexpr uint32_t kSmallest = static_cast<uint32_t>(128 - bias) << 23;
    const uint32_t subnormal = BitsOf(FromBits(moved + kSmallest) - FromBits(kSmallest));
    const uint32_t normal = moved + (static_cast<uint32_t>(127 - bias) << 23);
    uint32_t bits = Select(magnitude < (1U << mantissa), subnormal, normal);
    if (specials == Specials::kIeee) {
      constexpr uint32_t kExponent = kMagnitude & ~((1U << mantissa) - 1);
      bits = Select(magnitude > kExponent, kQuietNan, bits);
      bits = Select(magnitude == kExponent, kInfinity, bits);
    } else if (specials == Specials::kFn) {
      bits = Select(magnitude == kMagnitude, kQuietNan, bits);
    } else {
      bits = Select(stored == kMagnitude + 1, kQuietNan, bits);  // where minus zero would be
    }
    return FromBits(bits | sign);
  }

  [[gnu::always_inline]] static T Encode(float value) {
    static_assert(specials != Specials::kFnuz, "no conversion leads there");
    const uint32_t bits = BitsOf(value);
    const uint32_t magnitude = bits & ~kSign;
    // To nearest even: half a unit of the last place less one bit, and that bit where the place is odd.
    const uint32_t odd = (magnitude >> kShift) & 1;
    const uint32_t half = (1U << (kShift - 1)) - 1;
    const uint32_t normal = (magnitude - (static_cast<uint32_t>(127 - bias) << 23) + half + odd) >> kShift;
    // Added to a power of two whose last place is the unit of the subnormals, the sum is rounded by the processor.
    constexpr uint32_t kUnit = static_cast<uint32_t>(127 - bias + kShift + 1) << 23;
    const uint32_t subnormal = BitsOf(FromBits(magnitude) + FromBits(kUnit)) - kUnit;
    uint32_t result = Select(magnitude < (static_cast<uint32_t>(128 - bias) << 23), subnormal, normal);
    if (specials == Specials::kIeee) {
      constexpr uint32_t kExponent = kMagnitude & ~((1U << mantissa) - 1);
      constexpr uint32_t kBeyond = static_cast<uint32_t>(128 + bias) << 23;  // values just below round up to infinity
      result = Select(magnitude >= kBeyond, kExponent, result);
      result = Select(magnitude > kInfinity, kExponent | (1U << (mantissa - 1)), result);
    } else {
      constexpr uint32_t kLargest =
          ((kMagnitude - 1) << kShift) + (static_cast<uint32_t>(127 - bias) << 23);  // the NaN is one more
      result = Select(magnitude >= kLargest, kMagnitude - 1, result);
      result = Select(magnitude > kInfinity, kMagnitude, result);
    }
    return static_cast<T>(result | ((bits >> 31) << kSignAt));
  }
};

using Half = SmallFloat<uint16_t, 10, 15, Specials::kIeee>;
using E5M2 = SmallFloat<uint8_t, 2, 15, Specials::kIeee>;
using E4M3Fn = SmallFloat<uint8_t, 3, 7, Specials::kFn>;
using E4M3Fnuz = SmallFloat<uint8_t, 3, 8, Specials::kFnuz>;
using E5M2Fnuz = SmallFloat<uint8_t, 2, 16, Specials::kFnuz>;

// The upper half of a float32.
struct Brain {
  using Stored = uint16_t;
  [[gnu::always_inline]] static float Decode(uint16_t stored) { return FromBits(uint32_t{stored} << 16); }
  [[gnu::always_inline]] static uint16_t Encode(float value) {
    const uint32_t bits = BitsOf(value);
    const uint32_t rounded = bits + 0x7FFF + ((bits >> 16) & 1);
    return static_cast<uint16_t>(Select((bits & ~kSign) > kInfinity, bits | kQuietNan, rounded) >> 16);
  }
};

struct Double {
  using Stored = double;
  [[gnu::always_inline]] static float Decode(double stored) { return static_cast<float>(stored); }
  [[gnu::always_inline]] static double Encode(float value) { return static_cast<double>(value); }
};

// kBlock elements.
using BlockFunction = void (*)(const uint8_t* in, uint8_t* out);

template <typename Float>
[[gnu::always_inline]] inline void DecodeBlock(const uint8_t* __restrict in, uint8_t* __restrict out) {
  const auto* from = reinterpret_cast<const Unaligned<typename Float::Stored>*>(in);
  auto* to = reinterpret_cast<Unaligned<float>*>(out);
  for (size_t i = 0; i < kBlock; ++i) to[i].value = Float::Decode(from[i].value);
}

template <typename Float>
[[gnu::always_inline]] inline void EncodeBlock(const uint8_t* __restrict in, uint8_t* __restrict out) {
  const auto* from = reinterpret_cast<const Unaligned<float>*>(in);
  auto* to = reinterpret_cast<Unaligned<typename Float::Stored>*>(out);
  for (size_t i = 0; i < kBlock; ++i) to[i].value = Float::Encode(from[i].value);
}

// The two compilations of each.
struct AnyMachine {
  template <typename Float>
  static void Decode(const uint8_t* in, uint8_t* out) {
    DecodeBlock<Float>(in, out);
  }
  template <typename Float>
  static void Encode(const uint8_t* in, uint8_t* out) {
    EncodeBlock<Float>(in, out);
  }
};

#if defined(__x86_64__)
struct Avx2 {
  template <typename Float>
  [[gnu::target("avx2")]] static void Decode(const uint8_t* in, uint8_t* out) {
    DecodeBlock<Float>(in, out);
  }
  template <typename Float>
  [[gnu::target("avx2")]] static void Encode(const uint8_t* in, uint8_t* out) {
    EncodeBlock<Float>(in, out);
  }
};
bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}
#else
using Avx2 = AnyMachine;
bool HasAvx2() {
  return false;
}
#endif

// Null for float32 itself, and for what cannot be converted.
template <typename Machine>
BlockFunction DecoderOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return Machine::template Decode<Half>;
    case DType::kBFloat16:
      return Machine::template Decode<Brain>;
    case DType::kFloat64:
      return Machine::template Decode<Double>;
    case DType::kFloat8E4M3FN:
      return Machine::template Decode<E4M3Fn>;
    case DType::kFloat8E5M2:
      return Machine::template Decode<E5M2>;
    case DType::kFloat8E4M3FNUZ:
      return Machine::template Decode<E4M3Fnuz>;
    case DType::kFloat8E5M2FNUZ:
      return Machine::template Decode<E5M2Fnuz>;
    default:
      return nullptr;
  }
}

template <typename Machine>
BlockFunction EncoderOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return Machine::template Encode<Half>;
    case DType::kBFloat16:
      return Machine::template Encode<Brain>;
    case DType::kFloat64:
      return Machine::template Encode<Double>;
    case DType::kFloat8E4M3FN:
      return Machine::template Encode<E4M3Fn>;
    case DType::kFloat8E5M2:
      return Machine::template Encode<E5M2>;
    default:
      return nullptr;
  }
}

void ConvertBlock(BlockFunction decode, BlockFunction encode, const uint8_t* in, uint8_t* out) {
  if (decode == nullptr) return encode(in, out);
  if (encode == nullptr) return decode(in, out);
  alignas(64) uint8_t floats[kBlock * sizeof(float)];
  decode(in, floats);
  encode(floats, out);
}

void Convert(BlockFunction decode, BlockFunction encode, size_t in_bytes, size_t out_bytes, const uint8_t* in,
             size_t count, uint8_t* out) {
  for (; count >= kBlock; count -= kBlock, in += kBlock * in_bytes, out += kBlock * out_bytes) {
    ConvertBlock(decode, encode, in, out);
  }
  if (count == 0) return;
  alignas(64) uint8_t last_in[kBlock * kMaxElementBytes] = {};
  alignas(64) uint8_t last_out[kBlock * kMaxElementBytes];
  std::memcpy(last_in, in, count * in_bytes);
  ConvertBlock(decode, encode, last_in, last_out);
  std::memcpy(out, last_out, count * out_bytes);
}

template <typename Machine>
void ConvertOn(DType from, DType to, const uint8_t* in, size_t count, uint8_t* out) {
  SCONCE_CHECK(CanConvertFrom(from) && CanConvertTo(to));
  const auto in_bytes = static_cast<size_t>(ElementBytes(from));
  if (from == to) {
    if (count > 0) std::memcpy(out, in, count * in_bytes);
    return;
  }
  Convert(DecoderOf<Machine>(from), EncoderOf<Machine>(to), in_bytes, static_cast<size_t>(ElementBytes(to)), in, count,
          out);
}

}  // namespace

bool CanConvertFrom(DType dtype) {
  return dtype == DType::kFloat32 || DecoderOf<AnyMachine>(dtype) != nullptr;
}

bool CanConvertTo(DType dtype) {
  return dtype == DType::kFloat32 || EncoderOf<AnyMachine>(dtype) != nullptr;
}

void ConvertFloats(DType from, DType to, const uint8_t* in, size_t count, uint8_t* out) {
  if (HasAvx2()) {
    ConvertOn<Avx2>(from, to, in, count, out);
  } else {
    ConvertOn<AnyMachine>(from, to, in, count, out);
  }
}

void ConvertFloatsPortably(DType from, DType to, const uint8_t* in, size_t count, uint8_t* out) {
  ConvertOn<AnyMachine>(from, to, in, count, out);
}

}  // namespace sconce::format
