#include "storage/format/dtype.h"

#include <array>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/strip.h"
#include "base/check.h"

namespace sconce::format {
namespace {

struct DTypeFacts {
  const char* name = nullptr;  // null for a number that is not given to any dtype
  int bits = 0;
  char kind = 0;
};

constexpr std::array<DTypeFacts, 256> MakeFacts() {
  std::array<DTypeFacts, 256> facts{};
#define SCONCE_DTYPE_FACTS_(name, number, text, bits, kind) facts[number] = DTypeFacts{text, bits, kind};
  SCONCE_DTYPES(SCONCE_DTYPE_FACTS_)
#undef SCONCE_DTYPE_FACTS_
  return facts;
}

constexpr std::array<DTypeFacts, 256> kFacts = MakeFacts();

const DTypeFacts& Facts(DType dtype) {
  const DTypeFacts& facts = kFacts[static_cast<uint8_t>(dtype)];
  SCONCE_CHECK(facts.name != nullptr);
  return facts;
}

}  // namespace

absl::string_view DTypeName(DType dtype) {
  return Facts(dtype).name;
}

int64_t ElementBytes(DType dtype) {
  return Facts(dtype).bits / 8;
}

bool IsFloating(DType dtype) {
  return Facts(dtype).kind == 'f';
}

bool IsComplex(DType dtype) {
  return Facts(dtype).kind == 'c';
}

bool IsQuantized(DType dtype) {
  return Facts(dtype).kind == 'q';
}

std::optional<DType> ParseDType(absl::string_view name) {
  static const auto& by_name = *[] {
    auto* map = new absl::flat_hash_map<absl::string_view, DType>();
    for (size_t number = 0; number < kFacts.size(); ++number) {
      if (kFacts[number].name != nullptr) map->emplace(kFacts[number].name, static_cast<DType>(number));
    }
    return map;
  }();
  const auto it = by_name.find(absl::StripPrefix(name, "torch."));
  if (it == by_name.end()) return std::nullopt;
  return it->second;
}

std::optional<DType> DTypeFromNumber(uint8_t number) {
  if (kFacts[number].name == nullptr) return std::nullopt;
  return static_cast<DType>(number);
}

}  // namespace sconce::format
