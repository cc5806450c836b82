#ifndef SCONCE_STORAGE_CATALOG_KEYS_H_
#define SCONCE_STORAGE_CATALOG_KEYS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "base/digest.h"

// The grammar of the catalog's keys: one letter for the kind, then fields. docs/formats/catalog_keys.md lists every key
// with its value. Pure. Integers are 8 bytes big-endian and names are escaped and terminated, so that bytewise order is
// the order of the fields and no key is a prefix of another of its kind. Objects are named by uid: a name appears only
// where a uid is looked up.
namespace sconce::catalog {

// Who refers to a chunk or owns a footer: a version or a module of a run. An upload refers to the chunks that it found
// stored, and owns no footer.
struct Owner {
  enum class Kind : char { kVersion = 'c', kModule = 'd', kUpload = 'u' };
  Kind kind = Kind::kVersion;
  uint64_t run_uid = 0;
  uint64_t number = 0;  // the version, or the module's or upload's uid

  // 17 bytes, as in keys and BlobRecord.owner.
  std::string Encode() const;
  static std::optional<Owner> Decode(absl::string_view bytes);
  friend bool operator==(const Owner& a, const Owner& b) {
    return a.kind == b.kind && a.run_uid == b.run_uid && a.number == b.number;
  }
};

using RawBlobId = std::array<uint8_t, 16>;

// The first key after every key that starts with `prefix`; empty (no bound) when there is none.
std::string PrefixEnd(absl::string_view prefix);

std::string SchemaKey();
std::string NextUidKey();

std::string ProjectKey(absl::string_view project);
std::string ProjectPrefix();
std::optional<std::string> ParseProjectKey(absl::string_view key);

std::string RunNameKey(uint64_t project_uid, absl::string_view run);
std::string RunNamePrefix(uint64_t project_uid);
std::optional<std::string> ParseRunNameKey(absl::string_view key);  // the run's name

std::string RunKey(uint64_t run_uid);
std::string RunPrefix();

std::string RunTombstoneKey(uint64_t run_uid);
std::string RunTombstonePrefix();
std::optional<uint64_t> ParseRunTombstoneKey(absl::string_view key);  // the run's uid

// A moment (nanoseconds since 1970; what is before is 0) at which retention may have something to do in the run;
// ordered by it. A hint: it may come too often, and outlive its run. RetentionKey(INT64_MAX, 0) says that every run of
// an older release has its first one.
std::string RetentionKey(int64_t due_ns, uint64_t run_uid);
std::string RetentionPrefix();
struct RetentionKeyFields {
  int64_t due_ns = 0;
  uint64_t run_uid = 0;
};
std::optional<RetentionKeyFields> ParseRetentionKey(absl::string_view key);

std::string CheckpointKey(uint64_t run_uid, int64_t version);
std::string CheckpointPrefix(uint64_t run_uid);
std::string CheckpointPrefix();

// Orders a run's versions by the metric's value and, where values are equal, newer ones first. -0 is 0.
// Requires: `value` is not NaN (a NaN has no key).
std::string MetricKey(uint64_t run_uid, absl::string_view metric, double value, int64_t version);
std::string MetricPrefix(uint64_t run_uid);
std::string MetricPrefix(uint64_t run_uid, absl::string_view metric);
std::string MetricPrefix(uint64_t run_uid, absl::string_view metric, double value);
struct MetricKeyFields {
  std::string metric;
  double value = 0;
  int64_t version = 0;
};
std::optional<MetricKeyFields> ParseMetricKey(absl::string_view key);

// The rest of what versions are listed by. As in the metric index, a key ends with the inverted version, which
// VersionOfIndexKey gives back, and before it has what it is ordered by.
//
// Metrics of versions that cannot win: those that are quarantined, and NaN, which sorts behind every number.
std::string LoserMetricKey(uint64_t run_uid, absl::string_view metric, double value, int64_t version);
std::string LoserMetricPrefix(uint64_t run_uid, absl::string_view metric);
std::string LoserMetricPrefix(uint64_t run_uid, absl::string_view metric, double value);

// Numbers that a version has at most one of. Those that say yes or no are there, as 1, for the rarer answer.
enum class NumberField : char {
  kEpoch = 'e',
  kStep = 's',
  kCreateTime = 't',
  kPinned = 'p',
  kOpaque = 'o',
  kQuarantined = 'q'
};
std::string NumberKey(uint64_t run_uid, NumberField field, int64_t value, int64_t version);
std::string NumberPrefix(uint64_t run_uid, NumberField field);
std::string NumberPrefix(uint64_t run_uid, NumberField field, int64_t value);

std::string LabelKey(uint64_t run_uid, absl::string_view label, absl::string_view value, int64_t version);
std::string LabelPrefix(uint64_t run_uid, absl::string_view label);
std::string LabelPrefix(uint64_t run_uid, absl::string_view label, absl::string_view value);

// The key of an index entry: everything before the version, and the version.
std::string IndexKey(std::string prefix, int64_t version);
// The same in two steps: `prefix` of the field, what it is ordered by, the version.
std::string OrderPrefix(std::string prefix, uint64_t order);
// Requires: `key` is one of the metric, number or label index.
int64_t VersionOfIndexKey(absl::string_view key);
// What a metric or number is ordered by, as an unsigned integer: the 8 bytes before the version.
uint64_t OrderOfIndexKey(absl::string_view key);
uint64_t OrderOfNumber(double value);
uint64_t OrderOfNumber(int64_t value);

std::string AliasKey(uint64_t run_uid, absl::string_view alias);
std::string AliasPrefix(uint64_t run_uid);
std::optional<std::string> ParseAliasKey(absl::string_view key);  // the alias

std::string ModuleKey(uint64_t run_uid, absl::string_view module);
std::string ModulePrefix(uint64_t run_uid);
std::optional<std::string> ParseModuleKey(absl::string_view key);  // the module's name

std::string ChunkKey(uint64_t project_uid, const Digest& chunk);
std::string ChunkPrefix(uint64_t project_uid);
std::string ChunkPrefix();
struct ChunkKeyFields {
  uint64_t project_uid = 0;
  Digest chunk;
};
std::optional<ChunkKeyFields> ParseChunkKey(absl::string_view key);

// The fingerprint index: which chunks of the project have this XXH3-128. Every chunk that is not bad has an entry.
std::string FingerprintKey(uint64_t project_uid, const Fingerprint& xxh3, const Digest& chunk);
std::string FingerprintPrefix(uint64_t project_uid, const Fingerprint& xxh3);
std::string FingerprintPrefix();
struct FingerprintKeyFields {
  uint64_t project_uid = 0;
  Fingerprint xxh3;
  Digest chunk;
};
std::optional<FingerprintKeyFields> ParseFingerprintKey(absl::string_view key);

std::string ReferenceKey(uint64_t project_uid, const Digest& chunk, const Owner& owner);
std::string ReferencePrefix(uint64_t project_uid);
std::string ReferencePrefix(uint64_t project_uid, const Digest& chunk);
struct ReferenceKeyFields {
  uint64_t project_uid = 0;
  Digest chunk;
  Owner owner;
};
std::optional<ReferenceKeyFields> ParseReferenceKey(absl::string_view key);

struct BlobKeyFields {
  uint64_t project_uid = 0;
  RawBlobId id{};
};
std::string BlobKey(uint64_t project_uid, const RawBlobId& id);
std::string BlobPrefix();
std::string BlobPrefix(uint64_t project_uid);
std::optional<BlobKeyFields> ParseBlobKey(absl::string_view key);
// A blob that may have become garbage.
std::string SuspectBlobKey(uint64_t project_uid, const RawBlobId& id);
std::string SuspectBlobPrefix();
std::optional<BlobKeyFields> ParseSuspectBlobKey(absl::string_view key);

// A blob that holds more than is needed.
std::string WasteKey(uint64_t project_uid, const RawBlobId& id);
std::string WastePrefix();
std::optional<BlobKeyFields> ParseWasteKey(absl::string_view key);

std::string TombstoneKey(const Owner& owner);
std::string TombstonePrefix();
std::string TombstonePrefix(Owner::Kind kind);
std::optional<Owner> ParseTombstoneKey(absl::string_view key);

std::string UploadKey(uint64_t run_uid, absl::string_view upload);
std::string UploadPrefix();
struct UploadKeyFields {
  uint64_t run_uid = 0;
  std::string upload;
};
std::optional<UploadKeyFields> ParseUploadKey(absl::string_view key);

std::string PartKey(uint64_t upload_uid, int64_t part);
std::string PartPrefix(uint64_t upload_uid);
std::string PartPrefix();
struct PartKeyFields {
  uint64_t upload_uid = 0;
  int64_t part = 0;
};
std::optional<PartKeyFields> ParsePartKey(absl::string_view key);

std::string JournalKey(uint64_t upload_uid, int64_t part, int64_t sequence);
std::string JournalPrefix(uint64_t upload_uid);
std::string JournalPrefix();
std::string JournalPrefix(uint64_t upload_uid, int64_t part);
std::optional<int64_t> ParseJournalKey(absl::string_view key);  // the sequence

// A version or module that is quarantined.
std::string QuarantineKey(const Owner& owner);
std::string QuarantinePrefix();
std::optional<Owner> ParseQuarantineKey(absl::string_view key);

std::string RequestIdKey(uint64_t project_uid, absl::string_view principal, absl::string_view method,
                         absl::string_view request_id);
std::string RequestIdPrefix();

std::string DeploymentKey(absl::string_view model);
std::string DeploymentPrefix();
std::optional<std::string> ParseDeploymentKey(absl::string_view key);  // the model's name

// How far the scrub has come.
std::string ScrubKey();

std::string LogPrefix();
std::optional<int64_t> ParseLogKey(absl::string_view key);  // the revision; LogKey is in catalog.h

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_KEYS_H_
