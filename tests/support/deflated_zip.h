#ifndef SCONCE_TESTS_SUPPORT_DEFLATED_ZIP_H_
#define SCONCE_TESTS_SUPPORT_DEFLATED_ZIP_H_

#include <zlib.h>

#include <string>
#include <utility>
#include <vector>

#include "storage/format/crc32.h"
#include "storage/format/zip_format.h"

namespace sconce::format {

// `data` as a raw deflate stream.
inline std::string Deflate(const std::string& data) {
  z_stream stream = {};
  deflateInit2(&stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// A zip archive whose records are deflated, as `zip -6` packs them.
inline std::string MakeDeflatedZip(const std::vector<std::pair<std::string, std::string>>& records) {
  std::string zip, directory;
  for (const auto& [name, data] : records) {
    const std::string deflated = Deflate(data);
    std::string common;  // of both headers
    AppendLittle(common, 20, 2);
    AppendLittle(common, 0, 2);
    AppendLittle(common, kZipDeflated, 2);
    AppendLittle(common, 0, 4);
    AppendLittle(common, Crc32(AsBytes(data)), 4);
    AppendLittle(common, deflated.size(), 4);
    AppendLittle(common, data.size(), 4);
    AppendLittle(common, name.size(), 2);
    AppendLittle(common, 0, 2);
    AppendLittle(directory, ZipCentral::kSignature, 4);
    AppendLittle(directory, 20, 2);
    directory += common;
    directory.append(10, '\0');
    AppendLittle(directory, zip.size(), 4);
    directory += name;
    AppendLittle(zip, ZipLocal::kSignature, 4);
    zip += common + name + deflated;
  }
  const size_t at = zip.size();
  zip += directory;
  AppendLittle(zip, ZipEnd::kSignature, 4);
  AppendLittle(zip, 0, 4);
  AppendLittle(zip, records.size(), 2);
  AppendLittle(zip, records.size(), 2);
  AppendLittle(zip, directory.size(), 4);
  AppendLittle(zip, at, 4);
  AppendLittle(zip, 0, 2);
  return zip;
}

}  // namespace sconce::format

#endif  // SCONCE_TESTS_SUPPORT_DEFLATED_ZIP_H_
