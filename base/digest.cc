#include "base/digest.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include <cstring>

#include "base/check.h"

namespace sconce {
namespace {

template <typename T>
bool CopyExactly(absl::string_view raw, T& out) {
  if (raw.size() != out.bytes.size()) return false;
  std::memcpy(out.bytes.data(), raw.data(), raw.size());
  return true;
}

Fingerprint Canonical(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  Fingerprint out;
  static_assert(sizeof canonical.digest == sizeof out.bytes);
  std::memcpy(out.bytes.data(), canonical.digest, sizeof canonical.digest);
  return out;
}

}  // namespace

bool Digest::FromBytes(absl::string_view raw, Digest& out) {
  return CopyExactly(raw, out);
}
bool Fingerprint::FromBytes(absl::string_view raw, Fingerprint& out) {
  return CopyExactly(raw, out);
}

Digest Sha256(ByteSpan data) {
  Digest digest;
  SCONCE_CHECK(EVP_Digest(data.data(), data.size(), digest.bytes.data(), nullptr, EVP_sha256(), nullptr) == 1);
  return digest;
}

Fingerprint Xxh3(ByteSpan data) {
  return Canonical(XXH3_128bits(data.data(), data.size()));
}

struct Sha256Hasher::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256Hasher::Sha256Hasher() : state_(std::make_unique<State>()) {
  SCONCE_CHECK(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}
Sha256Hasher::~Sha256Hasher() = default;
Sha256Hasher::Sha256Hasher(Sha256Hasher&&) noexcept = default;
Sha256Hasher& Sha256Hasher::operator=(Sha256Hasher&&) noexcept = default;

void Sha256Hasher::Update(ByteSpan data) {
  SCONCE_CHECK(EVP_DigestUpdate(state_->context, data.data(), data.size()) == 1);
}

Digest Sha256Hasher::Finish() {
  Digest digest;
  SCONCE_CHECK(EVP_DigestFinal_ex(state_->context, digest.bytes.data(), nullptr) == 1);
  return digest;
}

struct Xxh3Hasher::State {
  XXH3_state_t* state = XXH3_createState();
  ~State() { XXH3_freeState(state); }
};

Xxh3Hasher::Xxh3Hasher() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(state_->state);
}
Xxh3Hasher::~Xxh3Hasher() = default;
Xxh3Hasher::Xxh3Hasher(Xxh3Hasher&&) noexcept = default;
Xxh3Hasher& Xxh3Hasher::operator=(Xxh3Hasher&&) noexcept = default;

void Xxh3Hasher::Update(ByteSpan data) {
  XXH3_128bits_update(state_->state, data.data(), data.size());
}
Fingerprint Xxh3Hasher::Finish() const {
  return Canonical(XXH3_128bits_digest(state_->state));
}

}  // namespace sconce
