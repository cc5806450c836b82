// Any bytes as a safetensors file: what is accepted makes a valid manifest, is written again, and read again is the
// same tree. Written a second time it is the same file.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "storage/format/manifest_codec.h"
#include "storage/format/safetensors_reader.h"
#include "storage/format/safetensors_writer.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

std::string Write(const TorchFile& file) {
  FileBytes bytes(file.bytes);
  const auto stream = SafetensorsStream::Create(file.manifest, bytes);
  if (!stream.ok()) std::abort();
  std::string written(static_cast<size_t>((*stream)->size_bytes()), '\0');
  if (!(*stream)->Read(absl::MakeSpan(reinterpret_cast<uint8_t*>(written.data()), written.size())).ok()) std::abort();
  return written;
}

TorchFile Load(ByteSpan file) {
  auto index = IndexSafetensorsFile(file);
  if (!index.ok() || !Validate(index->manifest).ok()) std::abort();
  auto loaded = LoadRecords(*std::move(index));
  if (!loaded.ok()) std::abort();
  return *std::move(loaded);
}

}  // namespace
}  // namespace sconce::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sconce::AsBytes;
  const sconce::ByteSpan file(data, size);
  const auto index = sconce::format::IndexSafetensorsFile(file);
  if (!index.ok()) {
    if (!sconce::GetErrorDetail(index.status()).has_value()) std::abort();
    return 0;
  }
  const std::string written = sconce::format::Write(sconce::format::Load(file));
  const std::string again = sconce::format::Write(sconce::format::Load(AsBytes(sconce::ToAbsl(written))));
  if (again != written) std::abort();
  return 0;
}
