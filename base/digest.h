#ifndef SCONCE_BASE_DIGEST_H_
#define SCONCE_BASE_DIGEST_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "base/strings.h"

namespace sconce {

// SHA-256: the identity of a chunk, a manifest, a request body.
struct Digest {
  std::array<uint8_t, 32> bytes{};

  std::string Hex() const { return ToHex(bytes); }
  absl::string_view AsKey() const { return AsText(bytes); }
  // False unless `raw` is exactly 32 bytes.
  static bool FromBytes(absl::string_view raw, Digest& out);

  friend bool operator==(const Digest& a, const Digest& b) { return a.bytes == b.bytes; }
  friend bool operator!=(const Digest& a, const Digest& b) { return a.bytes != b.bytes; }
  friend bool operator<(const Digest& a, const Digest& b) { return a.bytes < b.bytes; }
  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.bytes);
  }
};

// XXH3-128, in its canonical big-endian byte order: the fingerprint of a chunk and the checksum of every delivered
// piece. Not an identity: content is shared only between equal Digests.
struct Fingerprint {
  std::array<uint8_t, 16> bytes{};

  std::string Hex() const { return ToHex(bytes); }
  absl::string_view AsKey() const { return AsText(bytes); }
  static bool FromBytes(absl::string_view raw, Fingerprint& out);

  friend bool operator==(const Fingerprint& a, const Fingerprint& b) { return a.bytes == b.bytes; }
  friend bool operator!=(const Fingerprint& a, const Fingerprint& b) { return a.bytes != b.bytes; }
  template <typename H>
  friend H AbslHashValue(H h, const Fingerprint& f) {
    return H::combine(std::move(h), f.bytes);
  }
};

Digest Sha256(ByteSpan data);
Fingerprint Xxh3(ByteSpan data);

// SHA-256 in pieces. Update any number of times, then Finish once.
class Sha256Hasher {
 public:
  Sha256Hasher();
  ~Sha256Hasher();
  Sha256Hasher(Sha256Hasher&&) noexcept;
  Sha256Hasher& operator=(Sha256Hasher&&) noexcept;
  void Update(ByteSpan data);
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// XXH3-128 in pieces. Update any number of times; Finish may be called at any point and does not end it.
class Xxh3Hasher {
 public:
  Xxh3Hasher();
  ~Xxh3Hasher();
  Xxh3Hasher(Xxh3Hasher&&) noexcept;
  Xxh3Hasher& operator=(Xxh3Hasher&&) noexcept;
  void Update(ByteSpan data);
  Fingerprint Finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sconce

#endif  // SCONCE_BASE_DIGEST_H_
