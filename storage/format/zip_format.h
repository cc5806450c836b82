#ifndef SCONCE_STORAGE_FORMAT_ZIP_FORMAT_H_
#define SCONCE_STORAGE_FORMAT_ZIP_FORMAT_H_

#include <cstdint>
#include <string>

// The fixed parts of a zip archive, by section of PKWARE's APPNOTE.TXT 6.3. All numbers are little-endian.
namespace sconce::format {

// 4.3.7 Local file header, before each record's data.
struct ZipLocal {
  static constexpr uint32_t kSignature = 0x04034b50;
  static constexpr int kBytes =
      30;  // signature, version 2, flags 2, method 2, time 2, date 2, crc 4, compressed 4, size 4, name 2, extra 2
  static constexpr int kFlags = 6, kMethod = 8, kCrc = 14, kCompressed = 18, kSize = 22, kNameBytes = 26,
                       kExtraBytes = 28;
};

// 4.3.9 Data descriptor, after a record's data when kZipFlagDescriptor is set: signature, crc 4, compressed, size (4 or
// 8 bytes each).
struct ZipDescriptor {
  static constexpr uint32_t kSignature = 0x08074b50;
  static constexpr int kBytes = 16;
  static constexpr int kBytes64 = 24;
};

// 4.3.12 Central directory header, one for each record.
struct ZipCentral {
  static constexpr uint32_t kSignature = 0x02014b50;
  static constexpr int kBytes = 46;
  static constexpr int kFlags = 8, kMethod = 10, kCrc = 16, kCompressed = 20, kSize = 24, kNameBytes = 28,
                       kExtraBytes = 30, kCommentBytes = 32, kDisk = 34, kLocalOffset = 42;
};

// 4.3.14 Zip64 end of central directory record.
struct ZipEnd64 {
  static constexpr uint32_t kSignature = 0x06064b50;
  static constexpr int kBytes = 56;
  static constexpr int kDisk = 16, kDirectoryDisk = 20, kEntriesHere = 24, kEntries = 32, kDirectoryBytes = 40,
                       kDirectoryOffset = 48;
};

// 4.3.15 Zip64 end of central directory locator, right before the end record.
struct ZipLocator64 {
  static constexpr uint32_t kSignature = 0x07064b50;
  static constexpr int kBytes = 20;
  static constexpr int kEnd64Offset = 8, kDisks = 16;
};

// 4.3.16 End of central directory record, followed only by a comment.
struct ZipEnd {
  static constexpr uint32_t kSignature = 0x06054b50;
  static constexpr int kBytes = 22;
  static constexpr int kMaxCommentBytes = 65535;
  static constexpr int kDisk = 4, kDirectoryDisk = 6, kEntriesHere = 8, kEntries = 10, kDirectoryBytes = 12,
                       kDirectoryOffset = 16, kCommentBytes = 20;
};

// 4.5 Extra fields: id 2, size 2, data.
inline constexpr uint16_t kZipExtraZip64 =
    0x0001;  // 4.5.3; those of size, compressed size, local offset that are all ones in the header
inline constexpr uint16_t kZipExtraPadding = 0x4246;  // "FB": PyTorch's padding, filled with 'Z', that aligns the data
inline constexpr int kZipExtraHeaderBytes = 4;

// 4.4.4 General purpose flags.
inline constexpr uint16_t kZipFlagEncrypted = 1 << 0;
inline constexpr uint16_t kZipFlagDescriptor = 1 << 3;
inline constexpr uint16_t kZipFlagUtf8 = 1 << 11;

// 4.4.5 Compression methods.
inline constexpr uint16_t kZipStored = 0;
inline constexpr uint16_t kZipDeflated = 8;

inline uint16_t LoadLittle16(const uint8_t* p) {
  return static_cast<uint16_t>(p[0] | p[1] << 8);
}
inline uint32_t LoadLittle32(const uint8_t* p) {
  return static_cast<uint32_t>(LoadLittle16(p)) | static_cast<uint32_t>(LoadLittle16(p + 2)) << 16;
}
inline uint64_t LoadLittle64(const uint8_t* p) {
  return static_cast<uint64_t>(LoadLittle32(p)) | static_cast<uint64_t>(LoadLittle32(p + 4)) << 32;
}

// Appends the `bytes` low bytes of `value`.
inline void AppendLittle(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_ZIP_FORMAT_H_
