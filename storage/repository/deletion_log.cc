// How a deletion is written down:
//
//   1. The batch that deletes an object leaves a tombstone in the catalog (tombstones.h).
//   2. The collector records it here, synced, before it drops the first of the tombstone's references, and a deleted
//   run
//      before it touches what is in it.
//   3. Only after that do chunks, blobs and in the end the tombstone go.
//
// So whatever is gone from the catalog is in this log for as long as a blob's footer could bring it back. Between 1 and
// 2 the tombstone alone knows: if the catalog is lost just then, a rebuild brings the object back, and says so of
// everything it cannot be sure of.
//
// An append is one write at the end and one sync. A record says at which record its append began, and the header with
// how many records the file was made; so a record that does not check and stands before a later append had been synced
// and was damaged since, while one in the last append may never have been written.
#include "storage/repository/deletion_log.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace sconce::repository {
namespace {

constexpr size_t kRecordBytes = 64;
constexpr size_t kCheckedBytes = 48;  // of a record, before its checksum
constexpr char kMagic[] = "SCNDELS\n";
constexpr uint32_t kVersion = 1;
constexpr size_t kReadAtOnce = 1024;  // records

std::string PathIn(const std::string& data_dir) {
  return data_dir + "/deletions.log";
}

void PutLittle(char* out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(value >> (8 * i));
}
uint64_t GetLittle(const uint8_t* in, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | in[i];
  return value;
}

// Adds the checksum of what `record` holds so far.
std::string Checked(std::string record) {
  record.resize(kCheckedBytes);
  record.append(Xxh3(AsBytes(record)).AsKey().data(), kRecordBytes - kCheckedBytes);
  return record;
}
bool Checks(ByteSpan record) {
  return Xxh3(record.first(kCheckedBytes)).AsKey() ==
         AsText(record.subspan(kCheckedBytes, kRecordBytes - kCheckedBytes));
}

std::string EncodeHeader(size_t records) {
  std::string header(kCheckedBytes, '\0');
  std::memcpy(header.data(), kMagic, 8);
  PutLittle(&header[8], kVersion, 4);
  PutLittle(&header[16], records, 8);
  return Checked(std::move(header));
}

std::string EncodeRecords(absl::Span<const Deletion> deletions, int64_t first) {
  std::string bytes;
  bytes.reserve(deletions.size() * kRecordBytes);
  for (const Deletion& deletion : deletions) {
    std::string record(kCheckedBytes, '\0');
    record[0] = static_cast<char>(deletion.kind);
    PutLittle(&record[8], deletion.project_uid, 8);
    PutLittle(&record[16], deletion.run_uid, 8);
    PutLittle(&record[24], deletion.number, 8);
    PutLittle(&record[32], static_cast<uint64_t>(deletion.time_ns), 8);
    PutLittle(&record[40], static_cast<uint64_t>(first), 8);
    bytes += Checked(std::move(record));
  }
  return bytes;
}

struct Decoded {
  Deletion deletion;
  int64_t append = 0;  // number of the record its append began with
};

// nullopt when it does not check.
std::optional<Decoded> DecodeRecord(ByteSpan bytes) {
  if (!Checks(bytes)) return std::nullopt;
  Decoded decoded;
  const char kind = static_cast<char>(bytes[0]);
  if (kind != 'c' && kind != 'd' && kind != 'r') return std::nullopt;
  decoded.deletion.kind = static_cast<Deletion::Kind>(kind);
  decoded.deletion.project_uid = GetLittle(&bytes[8], 8);
  decoded.deletion.run_uid = GetLittle(&bytes[16], 8);
  decoded.deletion.number = GetLittle(&bytes[24], 8);
  decoded.deletion.time_ns = static_cast<int64_t>(GetLittle(&bytes[32], 8));
  decoded.append = static_cast<int64_t>(GetLittle(&bytes[40], 8));
  return decoded;
}

// The number of records the file was made with; nullopt when the header is damaged.
absl::StatusOr<std::optional<int64_t>> ReadHeader(const ReadableFile& file) {
  std::array<uint8_t, kRecordBytes> header{};
  if (file.size_bytes() < static_cast<int64_t>(kRecordBytes)) return std::nullopt;
  SCONCE_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(header)));
  if (!Checks(header) || std::memcmp(header.data(), kMagic, 8) != 0) return std::nullopt;
  const uint64_t version = GetLittle(&header[8], 4);
  if (version == kVersion) return static_cast<int64_t>(GetLittle(&header[16], 8));
  return MakeError(Reason::DATA_DIR_INCOMPATIBLE,
                   absl::StrCat("deletions.log has version ", version, " and this build reads ", kVersion,
                                "; start the release of Sconce that wrote it"),
                   {{"found", absl::StrCat(version)}, {"supported", absl::StrCat(kVersion)}});
}

}  // namespace

Deletion DeletionOf(uint64_t project_uid, const catalog::Owner& owner, int64_t now_ns) {
  const auto kind = owner.kind == catalog::Owner::Kind::kModule ? Deletion::Kind::kModule : Deletion::Kind::kVersion;
  return {kind, project_uid, owner.run_uid, owner.number, now_ns};
}

Deletion DeletionOfRun(uint64_t project_uid, uint64_t run_uid, int64_t now_ns) {
  return {Deletion::Kind::kRun, project_uid, run_uid, 0, now_ns};
}

absl::StatusOr<DeletionLogContents> ReadDeletionLog(FileSystem& file_system, const std::string& data_dir) {
  DeletionLogContents contents;
  const auto opened = file_system.OpenRead(PathIn(data_dir));
  if (!opened.ok() && IsAbsent(opened.status())) return contents;
  SCONCE_RETURN_IF_ERROR(opened.status());
  const ReadableFile& file = **opened;
  SCONCE_ASSIGN_OR_RETURN(const std::optional<int64_t> made_with, ReadHeader(file));
  if (!made_with) ++contents.damaged;  // it is there since the file got its name
  const int64_t count = std::max<int64_t>(0, file.size_bytes() / static_cast<int64_t>(kRecordBytes) - 1);
  contents.torn = file.size_bytes() % static_cast<int64_t>(kRecordBytes) != 0;
  std::vector<int64_t> bad;
  int64_t last_append = made_with.value_or(0);  // all before it were synced
  std::vector<uint8_t> bytes;
  for (int64_t begin = 0; begin < count; begin += kReadAtOnce) {
    const auto n = static_cast<size_t>(std::min<int64_t>(kReadAtOnce, count - begin));
    bytes.resize(n * kRecordBytes);
    SCONCE_RETURN_IF_ERROR(file.ReadAt((begin + 1) * static_cast<int64_t>(kRecordBytes), absl::MakeSpan(bytes)));
    for (size_t i = 0; i < n; ++i) {
      const int64_t number = begin + static_cast<int64_t>(i);
      const auto decoded = DecodeRecord(ByteSpan(bytes).subspan(i * kRecordBytes, kRecordBytes));
      if (decoded && decoded->append <= number) {
        contents.deletions.push_back(decoded->deletion);
        last_append = std::max(last_append, decoded->append);
      } else {
        bad.push_back(number);
      }
    }
  }
  contents.damaged += std::max<int64_t>(0, made_with.value_or(0) - count);
  contents.sound_records = count;
  for (const int64_t number : bad) {
    if (number < last_append) {
      ++contents.damaged;
    } else {
      contents.torn = true;
      contents.sound_records = std::min(contents.sound_records, number);
    }
  }
  return contents;
}

absl::StatusOr<std::unique_ptr<DeletionLog>> DeletionLog::Open(FileSystem& file_system, const std::string& data_dir) {
  SCONCE_ASSIGN_OR_RETURN(const DeletionLogContents contents, ReadDeletionLog(file_system, data_dir));
  std::unique_ptr<DeletionLog> log(new DeletionLog(file_system, data_dir));
  MutexLock lock(&log->mu_);
  if (contents.damaged > 0) {
    Log(Severity::kError, "deletion_log_damaged",
        {{"records", contents.damaged}, {"kept", static_cast<int64_t>(contents.deletions.size())}});
    const std::string aside = PathIn(data_dir) + ".damaged";
    SCONCE_RETURN_IF_ERROR(file_system.Remove(aside));
    SCONCE_RETURN_IF_ERROR(file_system.Link(PathIn(data_dir), aside));
    SCONCE_RETURN_IF_ERROR(log->Replace(contents.deletions));
    return log;
  }
  log->records_ = contents.sound_records;
  if (contents.sound_records == 0 && contents.deletions.empty() && !contents.torn) return log;  // maybe absent
  SCONCE_ASSIGN_OR_RETURN(log->file_, file_system.OpenWrite(PathIn(data_dir)));
  if (contents.torn) {
    SCONCE_RETURN_IF_ERROR(log->file_->Truncate((contents.sound_records + 1) * static_cast<int64_t>(kRecordBytes)));
    SCONCE_RETURN_IF_ERROR(log->file_->Sync());
  }
  return log;
}

absl::Status DeletionLog::Record(absl::Span<const Deletion> deletions) {
  MutexLock lock(&mu_);
  std::vector<Deletion> fresh;
  for (const Deletion& deletion : deletions) {
    if (!recorded_.contains(ObjectOf(deletion))) fresh.push_back(deletion);
  }
  if (fresh.empty()) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(Append(fresh));
  for (const Deletion& deletion : fresh) recorded_.insert(ObjectOf(deletion));
  return absl::OkStatus();
}

void DeletionLog::Forget(const Deletion& deletion) {
  MutexLock lock(&mu_);
  recorded_.erase(ObjectOf(deletion));
}

int64_t DeletionLog::records() const {
  MutexLock lock(&mu_);
  return records_;
}

absl::Status DeletionLog::Append(absl::Span<const Deletion> deletions) {
  if (suspect_ || file_ == nullptr) {
    SCONCE_ASSIGN_OR_RETURN(DeletionLogContents contents, ReadDeletionLog(fs_, data_dir_));
    // Without the records of the append that failed: whoever asked for them asks again.
    if (contents.deletions.size() > static_cast<size_t>(records_)) {
      contents.deletions.resize(static_cast<size_t>(records_));
    }
    SCONCE_RETURN_IF_ERROR(Replace(contents.deletions));
  }
  suspect_ = true;
  SCONCE_RETURN_IF_ERROR(
      file_->WriteAt((records_ + 1) * static_cast<int64_t>(kRecordBytes), AsBytes(EncodeRecords(deletions, records_))));
  SCONCE_RETURN_IF_ERROR(file_->Sync());
  suspect_ = false;
  records_ += static_cast<int64_t>(deletions.size());
  return absl::OkStatus();
}

absl::Status DeletionLog::Rewrite(absl::FunctionRef<bool(const Deletion&)> needed) {
  MutexLock lock(&mu_);
  SCONCE_ASSIGN_OR_RETURN(DeletionLogContents contents, ReadDeletionLog(fs_, data_dir_));
  std::vector<Deletion>& all = contents.deletions;
  all.erase(std::remove_if(all.begin(), all.end(), [&](const Deletion& deletion) { return !needed(deletion); }),
            all.end());
  return Replace(all);
}

absl::Status DeletionLog::Replace(absl::Span<const Deletion> deletions) {
  const std::string path = PathIn(data_dir_), made = path + ".new";
  SCONCE_RETURN_IF_ERROR(fs_.Remove(made));
  SCONCE_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs_.Create(made, {}));
  SCONCE_RETURN_IF_ERROR(
      file->WriteAt(0, AsBytes(absl::StrCat(EncodeHeader(deletions.size()), EncodeRecords(deletions, 0)))));
  SCONCE_RETURN_IF_ERROR(file->Sync());
  suspect_ = true;  // until the new name is durable, either file may be the one that stays
  SCONCE_RETURN_IF_ERROR(fs_.Rename(made, path));
  file_ = std::move(file);
  records_ = static_cast<int64_t>(deletions.size());
  SCONCE_RETURN_IF_ERROR(fs_.SyncDirectory(data_dir_));
  suspect_ = false;
  return absl::OkStatus();
}

}  // namespace sconce::repository
