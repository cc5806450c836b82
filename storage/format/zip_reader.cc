#include "storage/format/zip_reader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/zip_format.h"

// How an archive is read:
// 1. The end record is looked for from the back, over at most the longest comment; zip64's twin of it is where the
// locator says.
// 2. The central directory is walked once; it must fill the space its end record gives it, and hold as many entries as
// promised.
// 3. Each entry's local header is read only to find its data, and must agree with the directory.
// 4. Data ranges, sorted, must not overlap: else a small file could make a reader checksum the same bytes a million
// times.
namespace sconce::format {
namespace {

constexpr uint32_t kAllOnes32 = 0xffffffff;

absl::Status Malformed(absl::string_view what) {
  return MakeError(Reason::FILE_MALFORMED, absl::StrCat("damaged zip archive: ", what, "; write the file again"));
}

absl::Status SeveralVolumes() {
  return MakeError(Reason::FILE_UNSUPPORTED, "a zip archive in several volumes; join them first");
}

struct Directory {
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  uint64_t entries = 0;
  uint64_t end = 0;  // where the end record (or zip64's) starts
};

std::optional<uint64_t> FindEnd(ByteSpan archive) {
  if (archive.size() < ZipEnd::kBytes) return std::nullopt;
  const uint64_t last = archive.size() - ZipEnd::kBytes;
  const uint64_t first = last - std::min<uint64_t>(last, ZipEnd::kMaxCommentBytes);
  for (uint64_t at = last + 1; at-- > first;) {
    const uint8_t* p = archive.data() + at;
    if (LoadLittle32(p) == ZipEnd::kSignature &&
        at + ZipEnd::kBytes + LoadLittle16(p + ZipEnd::kCommentBytes) == archive.size())
      return at;
  }
  return std::nullopt;
}

// Replaces what the end record says by what zip64's record says, if there is one.
absl::Status ReadEnd64(ByteSpan archive, uint64_t end, Directory& directory) {
  if (end < ZipLocator64::kBytes) return absl::OkStatus();
  const uint8_t* locator = archive.data() + end - ZipLocator64::kBytes;
  if (LoadLittle32(locator) != ZipLocator64::kSignature) return absl::OkStatus();
  const uint64_t at = LoadLittle64(locator + ZipLocator64::kEnd64Offset);
  const uint64_t room = end - ZipLocator64::kBytes;
  if (at > room || room - at < ZipEnd64::kBytes) return Malformed("the zip64 end record lies outside the file");
  const uint8_t* p = archive.data() + at;
  if (LoadLittle32(p) != ZipEnd64::kSignature) return Malformed("the zip64 end record is not where its locator says");
  if (LoadLittle32(p + ZipEnd64::kDisk) != 0 || LoadLittle32(p + ZipEnd64::kDirectoryDisk) != 0)
    return SeveralVolumes();
  if (LoadLittle64(p + ZipEnd64::kEntriesHere) != LoadLittle64(p + ZipEnd64::kEntries)) {
    return Malformed("the zip64 end record gives two numbers of entries");
  }
  directory = {LoadLittle64(p + ZipEnd64::kDirectoryOffset), LoadLittle64(p + ZipEnd64::kDirectoryBytes),
               LoadLittle64(p + ZipEnd64::kEntries), at};
  return absl::OkStatus();
}

absl::StatusOr<Directory> FindDirectory(ByteSpan archive) {
  const std::optional<uint64_t> end = FindEnd(archive);
  if (!end.has_value()) {
    return MakeError(
        Reason::FILE_TRUNCATED,
        "the zip archive's directory, at the end of the file, is missing: the file is cut short; copy it again");
  }
  const uint8_t* p = archive.data() + *end;
  if (LoadLittle16(p + ZipEnd::kDisk) != 0 || LoadLittle16(p + ZipEnd::kDirectoryDisk) != 0) return SeveralVolumes();
  if (LoadLittle16(p + ZipEnd::kEntriesHere) != LoadLittle16(p + ZipEnd::kEntries)) {
    return Malformed("the end record gives two numbers of entries");
  }
  Directory directory{LoadLittle32(p + ZipEnd::kDirectoryOffset), LoadLittle32(p + ZipEnd::kDirectoryBytes),
                      LoadLittle16(p + ZipEnd::kEntries), *end};
  SCONCE_RETURN_IF_ERROR(ReadEnd64(archive, *end, directory));
  if (directory.offset > directory.end || directory.end - directory.offset != directory.size_bytes) {
    return Malformed("the directory does not end where the end record starts");
  }
  if (directory.entries > directory.size_bytes / ZipCentral::kBytes)
    return Malformed("the directory is too small for its number of entries");
  return directory;
}

// Takes from a zip64 extra field the numbers that are all ones in the directory entry, in the order of APPNOTE 4.5.3.
absl::Status ApplyZip64(ByteSpan extra, uint64_t& size, uint64_t& compressed, uint64_t& local_offset) {
  if (size != kAllOnes32 && compressed != kAllOnes32 && local_offset != kAllOnes32) return absl::OkStatus();
  while (extra.size() >= kZipExtraHeaderBytes) {
    const uint16_t id = LoadLittle16(extra.data());
    const uint16_t bytes = LoadLittle16(extra.data() + 2);
    extra.remove_prefix(kZipExtraHeaderBytes);
    if (bytes > extra.size()) break;
    if (id == kZipExtraZip64) {
      ByteSpan field = extra.subspan(0, bytes);
      for (uint64_t* number : {&size, &compressed, &local_offset}) {
        if (*number != kAllOnes32) continue;
        if (field.size() < 8) return Malformed("a zip64 extra field is too short");
        *number = LoadLittle64(field.data());
        field.remove_prefix(8);
      }
      return absl::OkStatus();
    }
    extra.remove_prefix(bytes);
  }
  return absl::OkStatus();  // without the field, all ones is the number meant
}

// Where the entry's data starts. The local header must agree with the directory in what identifies the record.
absl::StatusOr<uint64_t> LocateData(ByteSpan archive, const Directory& directory, const ZipRecord& record,
                                    uint64_t local_offset, uint64_t compressed) {
  const std::string name = Quoted(record.name);
  if (local_offset > directory.offset || directory.offset - local_offset < ZipLocal::kBytes) {
    return Malformed(absl::StrCat("record ", name, " starts outside the file"));
  }
  const uint8_t* p = archive.data() + local_offset;
  if (LoadLittle32(p) != ZipLocal::kSignature)
    return Malformed(absl::StrCat("record ", name, " is not where the directory says"));
  const uint64_t name_bytes = LoadLittle16(p + ZipLocal::kNameBytes);
  const uint64_t room = directory.offset - local_offset - ZipLocal::kBytes;
  const uint64_t head = name_bytes + LoadLittle16(p + ZipLocal::kExtraBytes);
  if (head > room || compressed > room - head)
    return Malformed(absl::StrCat("record ", name, " reaches past the end of the file"));
  if (AsText(archive.subspan(local_offset + ZipLocal::kBytes, name_bytes)) != record.name ||
      LoadLittle16(p + ZipLocal::kMethod) != record.method) {
    return Malformed(absl::StrCat("record ", name, " disagrees with its own header"));
  }
  const uint32_t local_size = LoadLittle32(p + ZipLocal::kCompressed);
  if ((LoadLittle16(p + ZipLocal::kFlags) & kZipFlagDescriptor) == 0 && local_size != kAllOnes32 &&
      local_size != compressed) {
    return Malformed(absl::StrCat("record ", name, " has one size in the directory and another in its header"));
  }
  return local_offset + ZipLocal::kBytes + head;
}

absl::Status CheckInflatedSize(const std::vector<ZipRecord>& records, uint64_t archive_bytes) {
  uint64_t inflated = 0;
  const uint64_t limit =
      archive_bytes * static_cast<uint64_t>(kMaxInflateRatio) + static_cast<uint64_t>(kFreeInflateBytes);
  for (const ZipRecord& record : records) {
    if (record.method == kZipStored) continue;
    if (record.size_bytes > limit || (inflated += record.size_bytes) > limit) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       absl::StrCat("the records of the zip archive unpack to more than ", kMaxInflateRatio,
                                    " times its size; unpack it and pack it again with `zip -0`"),
                       {{"limit", absl::StrCat(limit)}});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ZipReader> ZipReader::Open(ByteSpan archive) {
  SCONCE_ASSIGN_OR_RETURN(const Directory directory, FindDirectory(archive));
  ZipReader reader;
  reader.records_.reserve(directory.entries);
  reader.by_name_.reserve(directory.entries);
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // local header's start, data's end
  ranges.reserve(directory.entries);
  ByteSpan rest = archive.subspan(directory.offset, directory.size_bytes);
  while (!rest.empty()) {
    if (rest.size() < ZipCentral::kBytes || LoadLittle32(rest.data()) != ZipCentral::kSignature) {
      return Malformed(absl::StrCat("entry ", reader.records_.size(), " of the directory is not one"));
    }
    const uint8_t* p = rest.data();
    const uint64_t name_bytes = LoadLittle16(p + ZipCentral::kNameBytes);
    const uint64_t extra_bytes = LoadLittle16(p + ZipCentral::kExtraBytes);
    const uint64_t tail = name_bytes + extra_bytes + LoadLittle16(p + ZipCentral::kCommentBytes);
    if (tail > rest.size() - ZipCentral::kBytes)
      return Malformed(absl::StrCat("entry ", reader.records_.size(), " of the directory is cut short"));

    ZipRecord record;
    record.name = AsText(rest.subspan(ZipCentral::kBytes, name_bytes));
    record.method = LoadLittle16(p + ZipCentral::kMethod);
    record.encrypted = (LoadLittle16(p + ZipCentral::kFlags) & kZipFlagEncrypted) != 0;
    record.crc32 = LoadLittle32(p + ZipCentral::kCrc);
    record.size_bytes = LoadLittle32(p + ZipCentral::kSize);
    uint64_t compressed = LoadLittle32(p + ZipCentral::kCompressed);
    uint64_t local_offset = LoadLittle32(p + ZipCentral::kLocalOffset);
    SCONCE_RETURN_IF_ERROR(ApplyZip64(rest.subspan(ZipCentral::kBytes + name_bytes, extra_bytes), record.size_bytes,
                                      compressed, local_offset));
    SCONCE_ASSIGN_OR_RETURN(const uint64_t data, LocateData(archive, directory, record, local_offset, compressed));
    if (record.method == kZipStored && !record.encrypted && compressed != record.size_bytes) {
      return Malformed(absl::StrCat("record ", Quoted(record.name), " is stored, yet has two sizes"));
    }
    record.data = archive.subspan(data, compressed);
    if (!reader.by_name_.emplace(record.name, static_cast<uint32_t>(reader.records_.size())).second) {
      return Malformed(absl::StrCat("two records are named ", Quoted(record.name)));
    }
    ranges.emplace_back(local_offset, data + compressed);
    reader.records_.push_back(record);
    rest.remove_prefix(ZipCentral::kBytes + tail);
  }
  if (reader.records_.size() != directory.entries) {
    return Malformed(absl::StrCat("the directory holds ", reader.records_.size(), " entries, its end record says ",
                                  directory.entries));
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) return Malformed("two records overlap");
  }
  SCONCE_RETURN_IF_ERROR(CheckInflatedSize(reader.records_, archive.size()));
  return reader;
}

const ZipRecord* ZipReader::Find(absl::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &records_[it->second];
}

absl::StatusOr<RecordSource> ZipReader::Source(const ZipRecord& record) {
  if (record.encrypted)
    return MakeError(Reason::FILE_UNSUPPORTED,
                     absl::StrCat("record ", Quoted(record.name), " is encrypted; decrypt the archive first"));
  if (record.method != kZipStored && record.method != kZipDeflated) {
    return MakeError(Reason::FILE_UNSUPPORTED,
                     absl::StrCat("record ", Quoted(record.name), " is compressed with method ", record.method,
                                  ", and only deflate is read; unpack the archive and pack it again with `zip -0`"));
  }
  RecordSource source;
  source.stored = record.data;
  source.size_bytes = static_cast<int64_t>(record.size_bytes);
  source.crc32 = record.crc32;
  source.deflated = record.method == kZipDeflated;
  source.name = record.name;
  return source;
}

}  // namespace sconce::format
