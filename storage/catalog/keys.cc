#include "storage/catalog/keys.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "storage/catalog/catalog.h"

namespace sconce::catalog {
namespace {

// The letters. A letter given up is never used for something else.
constexpr char kSchema = 'v', kNextUid = 'u', kLog = 'l', kProject = 'P', kRunName = 'R', kRun = 'r',
               kRunTombstone = 'T', kCheckpoint = 'c', kMetric = 'm', kAlias = 'a', kModule = 'd', kChunk = 'k',
               kReference = 'f', kBlob = 'b', kSuspectBlob = 'g', kTombstone = 't', kRequestId = 'q', kDeployment = 'p',
               kWaste = 'w', kRetention = 'e', kFingerprint = 'i', kUpload = 'x', kPart = 'y', kJournal = 'z',
               kQuarantine = 'h', kScrub = 's', kLoserMetric = 'M', kNumber = 'N', kLabel = 'L';

constexpr size_t kOwnerBytes = 17;
constexpr size_t kDigestBytes = 32;

std::string Bytes(uint64_t value) {
  std::string bytes;
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift & 0xff));
  return bytes;
}

// Appends fields to a key.
class KeyWriter {
 public:
  explicit KeyWriter(char letter) : key_(1, letter) {}

  KeyWriter& Int(uint64_t value) {
    key_ += Bytes(value);
    return *this;
  }
  // Zero bytes become 00 FF and the end is 00 01: a name sorts before its own extensions, whatever follows.
  KeyWriter& Name(absl::string_view name) {
    for (const char c : name) {
      key_.push_back(c);
      if (c == '\0') key_.push_back('\xff');
    }
    key_.append("\0\x01", 2);
    return *this;
  }
  KeyWriter& Byte(char byte) {
    key_.push_back(byte);
    return *this;
  }
  KeyWriter& Raw(absl::string_view bytes) {
    key_.append(bytes.data(), bytes.size());
    return *this;
  }
  std::string Take() { return std::move(key_); }

 private:
  std::string key_;
};

// Takes fields from a key; after a mismatch nothing more comes, and Done() is false.
class KeyReader {
 public:
  KeyReader(absl::string_view key, char letter) : rest_(key) {
    ok_ = !rest_.empty() && rest_[0] == letter;
    if (ok_) rest_.remove_prefix(1);
  }

  absl::string_view Raw(size_t size) {
    ok_ = ok_ && rest_.size() >= size;
    if (!ok_) return {};
    const absl::string_view raw = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return raw;
  }
  uint64_t Int() {
    uint64_t value = 0;
    for (const char c : Raw(8)) value = value << 8 | static_cast<uint8_t>(c);
    return value;
  }
  std::string Name() {
    std::string name;
    while (ok_) {
      const absl::string_view c = Raw(1);
      if (!ok_) break;
      if (c[0] != '\0') {
        name.push_back(c[0]);
        continue;
      }
      const absl::string_view mark = Raw(1);
      if (!ok_ || mark[0] == '\x01') break;
      ok_ = mark[0] == '\xff';
      name.push_back('\0');
    }
    return name;
  }
  bool Done() const { return ok_ && rest_.empty(); }

 private:
  absl::string_view rest_;
  bool ok_;
};

uint64_t OrderedBits(double value) {
  if (value == 0) value = 0;                                                // -0 is 0
  if (std::isnan(value)) value = std::numeric_limits<double>::quiet_NaN();  // one of them, behind infinity
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}

double FromOrderedBits(uint64_t ordered) {
  const uint64_t bits = ordered >> 63 ? ordered & ~(uint64_t{1} << 63) : ~ordered;
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

uint64_t IntAt(absl::string_view key, size_t position) {
  uint64_t value = 0;
  for (const char c : key.substr(position, 8)) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

absl::string_view IdText(const RawBlobId& id) {
  return AsText(ByteSpan(id));
}

std::optional<std::string> ParseNameAfterUid(absl::string_view key, char letter) {
  KeyReader reader(key, letter);
  reader.Int();
  std::string name = reader.Name();
  if (!reader.Done()) return std::nullopt;
  return name;
}

std::optional<std::string> ParseName(absl::string_view key, char letter) {
  KeyReader reader(key, letter);
  std::string name = reader.Name();
  if (!reader.Done()) return std::nullopt;
  return name;
}

std::optional<BlobKeyFields> ParseBlob(absl::string_view key, char letter) {
  KeyReader reader(key, letter);
  BlobKeyFields fields;
  fields.project_uid = reader.Int();
  const absl::string_view id = reader.Raw(fields.id.size());
  if (!reader.Done()) return std::nullopt;
  std::copy(id.begin(), id.end(), fields.id.begin());
  return fields;
}

}  // namespace

std::string Owner::Encode() const {
  return KeyWriter(static_cast<char>(kind)).Int(run_uid).Int(number).Take();
}

std::optional<Owner> Owner::Decode(absl::string_view bytes) {
  if (bytes.size() != kOwnerBytes) return std::nullopt;
  Owner owner;
  owner.kind = static_cast<Kind>(bytes[0]);
  if (owner.kind != Kind::kVersion && owner.kind != Kind::kModule && owner.kind != Kind::kUpload) return std::nullopt;
  KeyReader reader(bytes, bytes[0]);
  owner.run_uid = reader.Int();
  owner.number = reader.Int();
  return owner;
}

std::string PrefixEnd(absl::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(end.back() + 1);
  return end;
}

std::string SchemaKey() {
  return KeyWriter(kSchema).Take();
}
std::string NextUidKey() {
  return KeyWriter(kNextUid).Take();
}

std::string ProjectKey(absl::string_view project) {
  return KeyWriter(kProject).Name(project).Take();
}
std::string ProjectPrefix() {
  return KeyWriter(kProject).Take();
}
std::optional<std::string> ParseProjectKey(absl::string_view key) {
  return ParseName(key, kProject);
}

std::string RunNameKey(uint64_t project_uid, absl::string_view run) {
  return KeyWriter(kRunName).Int(project_uid).Name(run).Take();
}
std::string RunNamePrefix(uint64_t project_uid) {
  return KeyWriter(kRunName).Int(project_uid).Take();
}
std::optional<std::string> ParseRunNameKey(absl::string_view key) {
  return ParseNameAfterUid(key, kRunName);
}

std::string RunKey(uint64_t run_uid) {
  return KeyWriter(kRun).Int(run_uid).Take();
}
std::string RunPrefix() {
  return KeyWriter(kRun).Take();
}

std::string RunTombstoneKey(uint64_t run_uid) {
  return KeyWriter(kRunTombstone).Int(run_uid).Take();
}
std::string RetentionKey(int64_t due_ns, uint64_t run_uid) {
  return KeyWriter(kRetention).Int(due_ns > 0 ? static_cast<uint64_t>(due_ns) : 0).Int(run_uid).Take();
}
std::string RetentionPrefix() {
  return KeyWriter(kRetention).Take();
}
std::optional<RetentionKeyFields> ParseRetentionKey(absl::string_view key) {
  KeyReader reader(key, kRetention);
  RetentionKeyFields fields;
  fields.due_ns = static_cast<int64_t>(reader.Int());
  fields.run_uid = reader.Int();
  if (!reader.Done()) return std::nullopt;
  return fields;
}

std::string RunTombstonePrefix() {
  return KeyWriter(kRunTombstone).Take();
}
std::optional<uint64_t> ParseRunTombstoneKey(absl::string_view key) {
  KeyReader reader(key, kRunTombstone);
  const uint64_t run_uid = reader.Int();
  if (!reader.Done()) return std::nullopt;
  return run_uid;
}

std::string CheckpointKey(uint64_t run_uid, int64_t version) {
  return KeyWriter(kCheckpoint).Int(run_uid).Int(static_cast<uint64_t>(version)).Take();
}
std::string CheckpointPrefix(uint64_t run_uid) {
  return KeyWriter(kCheckpoint).Int(run_uid).Take();
}

std::string CheckpointPrefix() {
  return KeyWriter(kCheckpoint).Take();
}

std::string MetricKey(uint64_t run_uid, absl::string_view metric, double value, int64_t version) {
  SCONCE_CHECK(!std::isnan(value));
  return KeyWriter(kMetric)
      .Int(run_uid)
      .Name(metric)
      .Int(OrderedBits(value))
      .Int(~static_cast<uint64_t>(version))
      .Take();
}
std::string MetricPrefix(uint64_t run_uid) {
  return KeyWriter(kMetric).Int(run_uid).Take();
}
std::string MetricPrefix(uint64_t run_uid, absl::string_view metric) {
  return KeyWriter(kMetric).Int(run_uid).Name(metric).Take();
}
std::string MetricPrefix(uint64_t run_uid, absl::string_view metric, double value) {
  SCONCE_CHECK(!std::isnan(value));
  return KeyWriter(kMetric).Int(run_uid).Name(metric).Int(OrderedBits(value)).Take();
}
std::optional<MetricKeyFields> ParseMetricKey(absl::string_view key) {
  KeyReader reader(key, kMetric);
  MetricKeyFields fields;
  reader.Int();
  fields.metric = reader.Name();
  fields.value = FromOrderedBits(reader.Int());
  fields.version = static_cast<int64_t>(~reader.Int());
  if (!reader.Done()) return std::nullopt;
  return fields;
}

std::string LoserMetricKey(uint64_t run_uid, absl::string_view metric, double value, int64_t version) {
  return KeyWriter(kLoserMetric)
      .Int(run_uid)
      .Name(metric)
      .Int(OrderedBits(value))
      .Int(~static_cast<uint64_t>(version))
      .Take();
}
std::string LoserMetricPrefix(uint64_t run_uid, absl::string_view metric) {
  return KeyWriter(kLoserMetric).Int(run_uid).Name(metric).Take();
}
std::string LoserMetricPrefix(uint64_t run_uid, absl::string_view metric, double value) {
  return KeyWriter(kLoserMetric).Int(run_uid).Name(metric).Int(OrderedBits(value)).Take();
}

std::string NumberKey(uint64_t run_uid, NumberField field, int64_t value, int64_t version) {
  return KeyWriter(kNumber)
      .Int(run_uid)
      .Byte(static_cast<char>(field))
      .Int(OrderOfNumber(value))
      .Int(~static_cast<uint64_t>(version))
      .Take();
}
std::string NumberPrefix(uint64_t run_uid, NumberField field) {
  return KeyWriter(kNumber).Int(run_uid).Byte(static_cast<char>(field)).Take();
}
std::string NumberPrefix(uint64_t run_uid, NumberField field, int64_t value) {
  return KeyWriter(kNumber).Int(run_uid).Byte(static_cast<char>(field)).Int(OrderOfNumber(value)).Take();
}

std::string LabelKey(uint64_t run_uid, absl::string_view label, absl::string_view value, int64_t version) {
  return KeyWriter(kLabel).Int(run_uid).Name(label).Name(value).Int(~static_cast<uint64_t>(version)).Take();
}
std::string LabelPrefix(uint64_t run_uid, absl::string_view label) {
  return KeyWriter(kLabel).Int(run_uid).Name(label).Take();
}
std::string LabelPrefix(uint64_t run_uid, absl::string_view label, absl::string_view value) {
  return KeyWriter(kLabel).Int(run_uid).Name(label).Name(value).Take();
}

std::string IndexKey(std::string prefix, int64_t version) {
  return prefix + Bytes(~static_cast<uint64_t>(version));
}
std::string OrderPrefix(std::string prefix, uint64_t order) {
  return prefix + Bytes(order);
}
int64_t VersionOfIndexKey(absl::string_view key) {
  return static_cast<int64_t>(~IntAt(key, key.size() - 8));
}
uint64_t OrderOfIndexKey(absl::string_view key) {
  return IntAt(key, key.size() - 16);
}
uint64_t OrderOfNumber(double value) {
  return OrderedBits(value);
}
uint64_t OrderOfNumber(int64_t value) {
  return static_cast<uint64_t>(value) ^ uint64_t { 1 } << 63;
}

std::string AliasKey(uint64_t run_uid, absl::string_view alias) {
  return KeyWriter(kAlias).Int(run_uid).Name(alias).Take();
}
std::string AliasPrefix(uint64_t run_uid) {
  return KeyWriter(kAlias).Int(run_uid).Take();
}
std::optional<std::string> ParseAliasKey(absl::string_view key) {
  return ParseNameAfterUid(key, kAlias);
}

std::string ModuleKey(uint64_t run_uid, absl::string_view module) {
  return KeyWriter(kModule).Int(run_uid).Name(module).Take();
}
std::string ModulePrefix(uint64_t run_uid) {
  return KeyWriter(kModule).Int(run_uid).Take();
}
std::optional<std::string> ParseModuleKey(absl::string_view key) {
  return ParseNameAfterUid(key, kModule);
}

std::string ChunkKey(uint64_t project_uid, const Digest& chunk) {
  return KeyWriter(kChunk).Int(project_uid).Raw(chunk.AsKey()).Take();
}

std::string ChunkPrefix(uint64_t project_uid) {
  return KeyWriter(kChunk).Int(project_uid).Take();
}

std::string ChunkPrefix() {
  return KeyWriter(kChunk).Take();
}
std::optional<ChunkKeyFields> ParseChunkKey(absl::string_view key) {
  KeyReader reader(key, kChunk);
  ChunkKeyFields fields;
  fields.project_uid = reader.Int();
  const absl::string_view chunk = reader.Raw(kDigestBytes);
  if (!reader.Done() || !Digest::FromBytes(chunk, fields.chunk)) return std::nullopt;
  return fields;
}

std::string FingerprintKey(uint64_t project_uid, const Fingerprint& xxh3, const Digest& chunk) {
  return KeyWriter(kFingerprint).Int(project_uid).Raw(xxh3.AsKey()).Raw(chunk.AsKey()).Take();
}
std::string FingerprintPrefix(uint64_t project_uid, const Fingerprint& xxh3) {
  return KeyWriter(kFingerprint).Int(project_uid).Raw(xxh3.AsKey()).Take();
}
std::string FingerprintPrefix() {
  return KeyWriter(kFingerprint).Take();
}
std::optional<FingerprintKeyFields> ParseFingerprintKey(absl::string_view key) {
  KeyReader reader(key, kFingerprint);
  FingerprintKeyFields fields;
  fields.project_uid = reader.Int();
  const absl::string_view xxh3 = reader.Raw(fields.xxh3.bytes.size());
  const absl::string_view chunk = reader.Raw(kDigestBytes);
  if (!reader.Done() || !Fingerprint::FromBytes(xxh3, fields.xxh3) || !Digest::FromBytes(chunk, fields.chunk)) {
    return std::nullopt;
  }
  return fields;
}

std::string ReferenceKey(uint64_t project_uid, const Digest& chunk, const Owner& owner) {
  return KeyWriter(kReference).Int(project_uid).Raw(chunk.AsKey()).Raw(owner.Encode()).Take();
}
std::string ReferencePrefix(uint64_t project_uid) {
  return KeyWriter(kReference).Int(project_uid).Take();
}
std::string ReferencePrefix(uint64_t project_uid, const Digest& chunk) {
  return KeyWriter(kReference).Int(project_uid).Raw(chunk.AsKey()).Take();
}
std::optional<ReferenceKeyFields> ParseReferenceKey(absl::string_view key) {
  KeyReader reader(key, kReference);
  ReferenceKeyFields fields;
  fields.project_uid = reader.Int();
  const bool digest_ok = Digest::FromBytes(reader.Raw(kDigestBytes), fields.chunk);
  const std::optional<Owner> owner = Owner::Decode(reader.Raw(kOwnerBytes));
  if (!reader.Done() || !digest_ok || !owner) return std::nullopt;
  fields.owner = *owner;
  return fields;
}

std::string BlobKey(uint64_t project_uid, const RawBlobId& id) {
  return KeyWriter(kBlob).Int(project_uid).Raw(IdText(id)).Take();
}
std::string BlobPrefix() {
  return KeyWriter(kBlob).Take();
}
std::string BlobPrefix(uint64_t project_uid) {
  return KeyWriter(kBlob).Int(project_uid).Take();
}
std::optional<BlobKeyFields> ParseBlobKey(absl::string_view key) {
  return ParseBlob(key, kBlob);
}

std::string SuspectBlobKey(uint64_t project_uid, const RawBlobId& id) {
  return KeyWriter(kSuspectBlob).Int(project_uid).Raw(IdText(id)).Take();
}
std::string SuspectBlobPrefix() {
  return KeyWriter(kSuspectBlob).Take();
}
std::optional<BlobKeyFields> ParseSuspectBlobKey(absl::string_view key) {
  return ParseBlob(key, kSuspectBlob);
}

std::string WasteKey(uint64_t project_uid, const RawBlobId& id) {
  return KeyWriter(kWaste).Int(project_uid).Raw(IdText(id)).Take();
}
std::string WastePrefix() {
  return KeyWriter(kWaste).Take();
}
std::optional<BlobKeyFields> ParseWasteKey(absl::string_view key) {
  return ParseBlob(key, kWaste);
}

std::string TombstoneKey(const Owner& owner) {
  return KeyWriter(kTombstone).Raw(owner.Encode()).Take();
}
std::string TombstonePrefix() {
  return KeyWriter(kTombstone).Take();
}
std::string TombstonePrefix(Owner::Kind kind) {
  return KeyWriter(kTombstone).Raw(absl::string_view(reinterpret_cast<const char*>(&kind), 1)).Take();
}
std::optional<Owner> ParseTombstoneKey(absl::string_view key) {
  KeyReader reader(key, kTombstone);
  const absl::string_view owner = reader.Raw(kOwnerBytes);
  if (!reader.Done()) return std::nullopt;
  return Owner::Decode(owner);
}

std::string UploadKey(uint64_t run_uid, absl::string_view upload) {
  return KeyWriter(kUpload).Int(run_uid).Name(upload).Take();
}
std::string UploadPrefix() {
  return KeyWriter(kUpload).Take();
}
std::optional<UploadKeyFields> ParseUploadKey(absl::string_view key) {
  KeyReader reader(key, kUpload);
  UploadKeyFields fields;
  fields.run_uid = reader.Int();
  fields.upload = reader.Name();
  if (!reader.Done()) return std::nullopt;
  return fields;
}

std::string PartKey(uint64_t upload_uid, int64_t part) {
  return KeyWriter(kPart).Int(upload_uid).Int(static_cast<uint64_t>(part)).Take();
}
std::string PartPrefix(uint64_t upload_uid) {
  return KeyWriter(kPart).Int(upload_uid).Take();
}
std::string PartPrefix() {
  return KeyWriter(kPart).Take();
}
std::optional<PartKeyFields> ParsePartKey(absl::string_view key) {
  KeyReader reader(key, kPart);
  PartKeyFields fields;
  fields.upload_uid = reader.Int();
  fields.part = static_cast<int64_t>(reader.Int());
  if (!reader.Done()) return std::nullopt;
  return fields;
}

std::string JournalKey(uint64_t upload_uid, int64_t part, int64_t sequence) {
  return KeyWriter(kJournal)
      .Int(upload_uid)
      .Int(static_cast<uint64_t>(part))
      .Int(static_cast<uint64_t>(sequence))
      .Take();
}
std::string JournalPrefix(uint64_t upload_uid) {
  return KeyWriter(kJournal).Int(upload_uid).Take();
}
std::string JournalPrefix() {
  return KeyWriter(kJournal).Take();
}
std::string JournalPrefix(uint64_t upload_uid, int64_t part) {
  return KeyWriter(kJournal).Int(upload_uid).Int(static_cast<uint64_t>(part)).Take();
}
std::optional<int64_t> ParseJournalKey(absl::string_view key) {
  KeyReader reader(key, kJournal);
  reader.Int();
  reader.Int();
  const uint64_t sequence = reader.Int();
  if (!reader.Done()) return std::nullopt;
  return static_cast<int64_t>(sequence);
}

std::string QuarantineKey(const Owner& owner) {
  return KeyWriter(kQuarantine).Raw(owner.Encode()).Take();
}
std::string QuarantinePrefix() {
  return KeyWriter(kQuarantine).Take();
}
std::optional<Owner> ParseQuarantineKey(absl::string_view key) {
  KeyReader reader(key, kQuarantine);
  const absl::string_view owner = reader.Raw(kOwnerBytes);
  if (!reader.Done()) return std::nullopt;
  return Owner::Decode(owner);
}

std::string RequestIdKey(uint64_t project_uid, absl::string_view principal, absl::string_view method,
                         absl::string_view request_id) {
  return KeyWriter(kRequestId).Int(project_uid).Name(principal).Name(method).Name(request_id).Take();
}
std::string RequestIdPrefix() {
  return KeyWriter(kRequestId).Take();
}

std::string DeploymentKey(absl::string_view model) {
  return KeyWriter(kDeployment).Name(model).Take();
}
std::string DeploymentPrefix() {
  return KeyWriter(kDeployment).Take();
}
std::optional<std::string> ParseDeploymentKey(absl::string_view key) {
  return ParseName(key, kDeployment);
}

std::string ScrubKey() {
  return KeyWriter(kScrub).Take();
}

std::string LogKey(int64_t revision) {
  return KeyWriter(kLog).Int(static_cast<uint64_t>(revision)).Take();
}
std::string LogPrefix() {
  return KeyWriter(kLog).Take();
}
std::optional<int64_t> ParseLogKey(absl::string_view key) {
  KeyReader reader(key, kLog);
  const uint64_t revision = reader.Int();
  if (!reader.Done()) return std::nullopt;
  return static_cast<int64_t>(revision);
}

}  // namespace sconce::catalog
