#include "storage/blob/blob_path.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sconce::blob {
namespace {

constexpr absl::string_view kSuffix = ".blob", kPartSuffix = ".part";

std::string ProjectHex(uint64_t project_uid) {
  return absl::StrCat(absl::Hex(project_uid, absl::kZeroPad16));
}

// `hex` as `out.size()` bytes; false unless it is lower case and of exactly that length.
bool ParseHex(absl::string_view hex, absl::Span<uint8_t> out) {
  std::string bytes;
  if (!FromHex(hex, bytes) || bytes.size() != out.size() || ToHex(AsBytes(bytes)) != ToStd(hex)) return false;
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return true;
}

// "{project uid}-{id}" and the suffix.
std::optional<BlobId> ParseFullName(absl::string_view name, absl::string_view suffix = kSuffix) {
  constexpr size_t kProject = 16, kId = 32;
  if (name.size() != kProject + 1 + kId + suffix.size() || name[kProject] != '-') return std::nullopt;
  if (name.substr(kProject + 1 + kId) != suffix) return std::nullopt;
  const std::optional<uint64_t> project = ParseProjectDirName(name.substr(0, kProject));
  BlobId id;
  if (!project.has_value() || !ParseHex(name.substr(kProject + 1, kId), absl::MakeSpan(id.id))) return std::nullopt;
  id.project_uid = *project;
  return id;
}

}  // namespace

BlobPaths::BlobPaths(absl::string_view data_dir) : data_dir_(data_dir) {}

std::string BlobPaths::ProjectDir(uint64_t project_uid) const {
  return absl::StrCat(BlobsDir(), "/", ProjectHex(project_uid));
}

std::string BlobPaths::ShardDir(const BlobId& id) const {
  return absl::StrCat(ProjectDir(id.project_uid), "/", id.Hex().substr(0, 2));
}

std::string BlobPaths::SealedPath(const BlobId& id) const {
  return absl::StrCat(ShardDir(id), "/", id.Hex(), kSuffix);
}

std::string BlobPaths::PartPath(const BlobId& id) const {
  return absl::StrCat(UploadsDir(), "/", ProjectHex(id.project_uid), "-", id.Hex(), kPartSuffix);
}

std::string BlobPaths::OrphanPath(const BlobId& id, absl::Time moved) const {
  return absl::StrCat(OrphansDir(), "/", absl::ToUnixSeconds(moved), "-", ProjectHex(id.project_uid), "-", id.Hex(),
                      kSuffix);
}

std::optional<uint64_t> ParseProjectDirName(absl::string_view name) {
  std::array<uint8_t, 8> bytes;
  if (!ParseHex(name, absl::MakeSpan(bytes))) return std::nullopt;
  uint64_t uid = 0;
  for (const uint8_t byte : bytes) uid = uid << 8 | byte;
  return uid;
}

std::optional<BlobId> ParseSealedName(uint64_t project_uid, absl::string_view shard, absl::string_view name) {
  std::optional<BlobId> id = ParseFullName(absl::StrCat(ProjectHex(project_uid), "-", name));
  if (!id.has_value() || id->Hex().substr(0, 2) != ToStd(shard)) return std::nullopt;
  return id;
}

std::optional<BlobId> ParsePartName(absl::string_view name) {
  return ParseFullName(name, kPartSuffix);
}

std::optional<Orphan> ParseOrphanName(absl::string_view name) {
  const size_t dash = name.find('-');
  if (dash == absl::string_view::npos) return std::nullopt;
  int64_t seconds = 0;
  const std::optional<BlobId> id = ParseFullName(name.substr(dash + 1));
  if (!id.has_value() || !absl::SimpleAtoi(name.substr(0, dash), &seconds)) return std::nullopt;
  return Orphan{*id, absl::FromUnixSeconds(seconds)};
}

BlobId RandomBlobId(uint64_t project_uid) {
  BlobId id;
  id.project_uid = project_uid;
  ssize_t n;
  do {
    n = ::getrandom(id.id.data(), id.id.size(), 0);
  } while (n < 0 && errno == EINTR);
  SCONCE_CHECK(n == static_cast<ssize_t>(id.id.size()));  // reads of up to 256 bytes are never short
  return id;
}

}  // namespace sconce::blob
