#include "storage/format/float_convert.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/strings.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

constexpr DType kSources[] = {DType::kFloat16,      DType::kBFloat16,   DType::kFloat32,        DType::kFloat64,
                              DType::kFloat8E4M3FN, DType::kFloat8E5M2, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2FNUZ};
constexpr DType kTargets[] = {DType::kFloat16, DType::kBFloat16,     DType::kFloat32,
                              DType::kFloat64, DType::kFloat8E4M3FN, DType::kFloat8E5M2};

using Bits = std::vector<uint64_t>;  // patterns of elements

std::string Stored(const Bits& bits, DType dtype) {
  const auto size = static_cast<size_t>(ElementBytes(dtype));
  std::string bytes(bits.size() * size, '\0');
  for (size_t i = 0; i < bits.size(); ++i) std::memcpy(bytes.data() + i * size, &bits[i], size);
  return bytes;
}

Bits Loaded(absl::string_view bytes, DType dtype) {
  const auto size = static_cast<size_t>(ElementBytes(dtype));
  Bits bits(bytes.size() / size);
  for (size_t i = 0; i < bits.size(); ++i) std::memcpy(&bits[i], bytes.data() + i * size, size);
  return bits;
}

// By both compilations, which must agree.
std::string Converted(const std::string& in, DType from, DType to) {
  const size_t count = in.size() / static_cast<size_t>(ElementBytes(from));
  std::string out(count * static_cast<size_t>(ElementBytes(to)), '\0');
  std::string portable(out);
  const auto* source = reinterpret_cast<const uint8_t*>(in.data());
  ConvertFloats(from, to, source, count, reinterpret_cast<uint8_t*>(out.data()));
  ConvertFloatsPortably(from, to, source, count, reinterpret_cast<uint8_t*>(portable.data()));
  EXPECT_TRUE(out == portable) << DTypeName(from) << " to " << DTypeName(to);
  return out;
}
Bits Converted(const Bits& bits, DType from, DType to) {
  return Loaded(Converted(Stored(bits, from), from, to), to);
}

// The formats by their definition: sign, exponent, mantissa.
struct Definition {
  int exponent_bits, mantissa_bits, bias;
  bool ieee;          // the largest exponent is infinity and NaN
  bool unsigned_nan;  // "fnuz": the pattern of minus zero is the only NaN
};

Definition Define(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return {5, 10, 15, true, false};
    case DType::kBFloat16:
      return {8, 7, 127, true, false};
    case DType::kFloat32:
      return {8, 23, 127, true, false};
    case DType::kFloat64:
      return {11, 52, 1023, true, false};
    case DType::kFloat8E4M3FN:
      return {4, 3, 7, false, false};
    case DType::kFloat8E5M2:
      return {5, 2, 15, true, false};
    case DType::kFloat8E4M3FNUZ:
      return {4, 3, 8, false, true};
    default:
      return {5, 2, 16, false, true};
  }
}

double ValueOf(uint64_t bits, DType dtype) {
  const Definition d = Define(dtype);
  const uint64_t mantissa = bits & ((uint64_t{1} << d.mantissa_bits) - 1);
  const int largest = (1 << d.exponent_bits) - 1;
  const int exponent = static_cast<int>(bits >> d.mantissa_bits) & largest;
  const bool negative = (bits >> (d.mantissa_bits + d.exponent_bits)) & 1;
  const uint64_t magnitude = bits & ((uint64_t{1} << (d.mantissa_bits + d.exponent_bits)) - 1);
  if (d.ieee && exponent == largest) return mantissa != 0 ? NAN : negative ? -HUGE_VAL : HUGE_VAL;
  if (d.unsigned_nan && negative && magnitude == 0) return NAN;
  if (!d.ieee && !d.unsigned_nan && magnitude == (uint64_t{1} << (d.mantissa_bits + d.exponent_bits)) - 1) return NAN;
  const double whole = static_cast<double>(exponent == 0 ? mantissa : mantissa + (uint64_t{1} << d.mantissa_bits));
  const double value = std::ldexp(whole, std::max(exponent, 1) - d.bias - d.mantissa_bits);
  return negative ? -value : value;
}

// Rounding by looking for the two neighbours among all values of a 16-bit or 8-bit format.
class SlowEncoder {
 public:
  explicit SlowEncoder(DType to) : to_(to), sign_(uint64_t{1} << (8 * ElementBytes(to) - 1)) {
    for (uint64_t bits = 0; bits < sign_; ++bits) {
      const double value = ValueOf(bits, to);
      if (!std::isfinite(value)) break;
      values_.push_back(value);
    }
  }

  uint64_t Encode(double value) const {
    const uint64_t sign = std::signbit(value) ? sign_ : 0;
    const double magnitude = std::fabs(value);
    const uint64_t beyond = to_ == DType::kFloat8E4M3FN ? values_.size() - 1 : values_.size();
    if (magnitude > values_.back()) {
      // Where the next value would be if there were one.
      const double next = 2 * values_.back() - values_[values_.size() - 2];
      return sign | (magnitude < (values_.back() + next) / 2 ? values_.size() - 1 : beyond);
    }
    const auto above =
        static_cast<uint64_t>(std::lower_bound(values_.begin(), values_.end(), magnitude) - values_.begin());
    if (values_[above] == magnitude) return sign | above;
    const double middle = (values_[above - 1] + values_[above]) / 2;
    const bool up = magnitude == middle ? above % 2 == 0 : magnitude > middle;
    return sign | (up ? above : above - 1);
  }

 private:
  const DType to_;
  const uint64_t sign_;
  std::vector<double> values_;  // of the positive numbers, ascending; the pattern is the index
};

uint64_t BitsOfDouble(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

uint64_t BitsOfFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Converts them to every target and holds that against the definitions.
void ExpectRight(const Bits& inputs, DType from) {
  for (const DType to : kTargets) {
    if (to == from) continue;
    const bool small = ElementBytes(to) <= 2;
    const SlowEncoder slow(small ? to : DType::kFloat16);
    const Bits results = Converted(inputs, from, to);
    size_t wrong = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const double value = ValueOf(inputs[i], from);
      const auto single = static_cast<float>(value);
      const bool right = std::isnan(value)       ? std::isnan(ValueOf(results[i], to))
                         : small                 ? results[i] == slow.Encode(double{single})
                         : to == DType::kFloat32 ? results[i] == BitsOfFloat(single)
                                                 : results[i] == BitsOfDouble(double{single});
      if (!right && wrong++ < 5) {
        ADD_FAILURE() << DTypeName(from) << " to " << DTypeName(to) << ": " << std::hex << inputs[i] << " gives "
                      << results[i];
      }
    }
    EXPECT_EQ(wrong, 0u);
  }
}

TEST(FloatConvertTest, EveryValueOfTheSmallDtypesIsConvertedByTheirDefinition) {
  for (const DType from : kSources) {
    if (ElementBytes(from) > 2) continue;
    Bits all(size_t{1} << (8 * ElementBytes(from)));
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    ExpectRight(all, from);
  }
}

TEST(FloatConvertTest, FloatsAllOverTheirRangeAreConvertedByTheDefinition) {
  Bits inputs;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 9973) inputs.push_back(bits);
  ExpectRight(inputs, DType::kFloat32);
  inputs.clear();
  for (uint64_t i = 0; i < 400'000; ++i) inputs.push_back(i * uint64_t{0x9E3779B97F4A7C15});
  ExpectRight(inputs, DType::kFloat64);
}

// What tests/data/casts/make_casts.py calls made_up(): the same numbers, by its description.
Bits MadeUp(DType dtype) {
  Bits numbers;
  const bool is_single = dtype == DType::kFloat32;
  const int mantissa_bits = is_single ? 23 : 52;
  for (uint64_t i = 0; i < uint64_t{1} << 20; ++i) {
    uint64_t z = (i + 1) * uint64_t{0x9E3779B97F4A7C15};
    z = (z ^ (z >> 30)) * uint64_t{0xBF58476D1CE4E5B9};
    z = (z ^ (z >> 27)) * uint64_t{0x94D049BB133111EB};
    z ^= z >> 31;
    const uint64_t exponent = is_single ? (z >> 32) % 256 : 863 + (z >> 32) % 300;
    const uint64_t mantissa = z >> (64 - mantissa_bits);
    const uint64_t dropped = static_cast<uint64_t>(mantissa_bits) - z % 13;
    uint64_t bits = (exponent << mantissa_bits) | (i % 4 == 0 ? mantissa : (mantissa >> dropped) << dropped);
    if (i % 4 == 2) ++bits;
    if (i % 4 == 3 && bits > 0) --bits;
    const int sign_at = is_single ? 31 : 63;
    bits = (bits & ((uint64_t{1} << sign_at) - 1)) | (((z >> 20) & 1) << sign_at);
    if (!std::isnan(ValueOf(bits, dtype))) numbers.push_back(bits);
  }
  return numbers;
}

std::string DataFile(const std::string& name) {
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  std::ifstream file(absl::StrCat(source != nullptr ? source : ".", "/tests/data/casts/", name), std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(FloatConvertTest, AMillionNumbersAndEverySmallOneAreAsPyTorchHasThem) {
  std::istringstream lines(DataFile("hashes.txt"));
  std::map<DType, Bits> inputs;
  int checked = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string source, target, what, digest;
    size_t count = 0;
    words >> source >> target >> what >> count >> digest;
    const DType from = *ParseDType(source), to = *ParseDType(target);
    Bits& bits = inputs[from];
    if (bits.empty() && what == "random") bits = MadeUp(from);
    for (uint64_t i = 0; bits.size() < count && what == "every"; ++i) {
      if (!std::isnan(ValueOf(i, from))) bits.push_back(i);
    }
    ASSERT_EQ(bits.size(), count) << line;
    EXPECT_EQ(Sha256(AsBytes(Converted(Stored(bits, from), from, to))).Hex(), digest) << line;
    ++checked;
  }
  EXPECT_EQ(checked, 4 * 5 + 2 * 6 + 2 * 5);  // no pair of dtypes is missing
}

TEST(FloatConvertTest, TiesAndLimitsAreAsPyTorchHasThem) {
  for (const DType from : {DType::kFloat32, DType::kFloat64}) {
    const std::string file = DataFile(absl::StrCat(DTypeName(from), ".bin"));
    absl::string_view left = file;
    uint32_t count = 0;
    ASSERT_GT(left.size(), 4u);
    std::memcpy(&count, left.data(), 4);
    left.remove_prefix(4);
    const auto take = [&](DType dtype) {
      const Bits bits = Loaded(left.substr(0, count * static_cast<size_t>(ElementBytes(dtype))), dtype);
      left.remove_prefix(count * static_cast<size_t>(ElementBytes(dtype)));
      return bits;
    };
    const Bits inputs = take(from);
    ASSERT_GT(inputs.size(), 4000u);
    for (const DType to : kTargets) {
      if (to == from) continue;
      const Bits expected = take(to), results = Converted(inputs, from, to);
      for (size_t i = 0; i < inputs.size(); ++i) {
        ASSERT_EQ(results[i], expected[i])
            << DTypeName(from) << " to " << DTypeName(to) << " of " << std::hex << inputs[i];
      }
    }
    EXPECT_TRUE(left.empty());
  }
}

TEST(FloatConvertTest, ANanStaysOneWhateverItsPayload) {
  for (const DType from : {DType::kFloat32, DType::kFloat64}) {
    const int mantissa_bits = from == DType::kFloat32 ? 23 : 52;
    const uint64_t exponent = from == DType::kFloat32 ? 0xFF : 0x7FF;
    Bits inputs;
    for (int bit = 0; bit < mantissa_bits; ++bit) {
      inputs.push_back((exponent << mantissa_bits) | (uint64_t{1} << bit));
      inputs.push_back(inputs.back() | uint64_t{1} << (from == DType::kFloat32 ? 31 : 63));
    }
    ExpectRight(inputs, from);
  }
}

TEST(FloatConvertTest, AnyNumberOfElementsAtAnyAddress) {
  std::string bytes(10'000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>((i * i) >> 3);
  for (const DType from : kSources) {
    for (const DType to : kTargets) {
      const auto in_size = static_cast<size_t>(ElementBytes(from)), out_size = static_cast<size_t>(ElementBytes(to));
      std::string whole = bytes.substr(1, 1100 * in_size);
      const std::string expected = Converted(whole, from, to);
      for (const size_t count : {0, 1, 2, 511, 512, 513, 1024, 1100}) {
        std::string out(3 + count * out_size + 1, '#');
        ConvertFloats(from, to, reinterpret_cast<const uint8_t*>(bytes.data()) + 1, count,
                      reinterpret_cast<uint8_t*>(out.data()) + 3);
        EXPECT_EQ(out, absl::StrCat("###", expected.substr(0, count * out_size), "#"));
      }
    }
  }
}

TEST(FloatConvertTest, KnowsWhatItConverts) {
  std::string from, to;
  for (int number = 1; number < 256; ++number) {
    const auto dtype = DTypeFromNumber(static_cast<uint8_t>(number));
    if (!dtype.has_value()) continue;
    if (CanConvertFrom(*dtype)) absl::StrAppend(&from, DTypeName(*dtype), " ");
    if (CanConvertTo(*dtype)) absl::StrAppend(&to, DTypeName(*dtype), " ");
  }
  EXPECT_EQ(from, "float32 float64 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz ");
  EXPECT_EQ(to, "float32 float64 float16 bfloat16 float8_e4m3fn float8_e5m2 ");
}

}  // namespace
}  // namespace sconce::format
