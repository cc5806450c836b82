// Any bytes as a zip archive: records must lie inside it, and reading them must be harmless.
#include <cstdint>
#include <cstdlib>

#include "storage/format/zip_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto zip = sconce::format::ZipReader::Open(sconce::ByteSpan(data, size));
  if (!zip.ok()) return 0;
  for (const sconce::format::ZipRecord& record : zip->records()) {
    if (record.data.data() < data || record.data.data() + record.data.size() > data + size) std::abort();
    if (zip->Find(record.name) != &record) std::abort();
    const auto source = sconce::format::ZipReader::Source(record);
    if (!source.ok()) continue;
    const auto whole = sconce::format::ReadWholeRecord(*source);
    if (whole.ok() && whole->bytes.size() != record.size_bytes) std::abort();
  }
  return 0;
}
