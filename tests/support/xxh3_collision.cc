#include "tests/support/xxh3_collision.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>
#include <cstring>

namespace sconce {
namespace {

void PutWord(std::string& bytes, size_t at, uint64_t word) {
  std::memcpy(&bytes[at], &word, sizeof word);
}

uint64_t SecretWord(size_t at) {
  uint64_t word;
  std::memcpy(&word, XXH3_kSecret + at, sizeof word);
  return word;
}

}  // namespace

std::pair<std::string, std::string> CollideXxh3(std::string base) {
  // The first word of the first stripe (64 bytes) and of the second, whose secret starts 8 bytes further on.
  const uint64_t low0 = SecretWord(0) & 0xffffffff, low1 = SecretWord(8) & 0xffffffff;
  std::string other = base;
  PutWord(base, 0, uint64_t{1000} << 32 | low0);
  PutWord(base, 64, uint64_t{1000} << 32 | low1);
  PutWord(other, 0, uint64_t{1001} << 32 | low0);
  PutWord(other, 64, uint64_t{999} << 32 | low1);
  return {base, other};
}

}  // namespace sconce
