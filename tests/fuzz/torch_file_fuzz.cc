// Any bytes as a checkpoint file. What is accepted is written and read again, and must be the same. Checksums are no
// obstacle: those of the input are set to 0, "not computed", first.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "storage/format/manifest_codec.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/zip_format.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

void ClearChecksums(std::string& file) {
  std::string signature;
  AppendLittle(signature, ZipCentral::kSignature, 4);
  for (size_t at = file.find(signature); at != std::string::npos; at = file.find(signature, at + 1)) {
    if (file.size() - at >= ZipCentral::kBytes) file.replace(at + ZipCentral::kCrc, 4, 4, '\0');
  }
}

// A set is written in the order of its elements' encodings, and nodes are numbered in the order of the file: then the
// same tree may have other numbers.
bool HasSet(const Manifest& manifest) {
  return std::any_of(manifest.nodes.begin(), manifest.nodes.end(),
                     [](const Node& node) { return node.kind == NodeKind::kSet; });
}

void Check(const std::string& file) {
  (void)CheckTorchScriptArchive(AsBytes(file));
  const auto read = ReadCheckpointFile(AsBytes(file));
  if (!read.ok()) return;
  if (!Validate(read->manifest).ok()) std::abort();
  FileBytes bytes(read->bytes);
  const auto written = WriteTorchFile(read->manifest, bytes);
  if (!written.ok()) {
    // Two things are read that cannot be written: see torch_pickle.h.
    if (!HasReason(written.status(), Reason::FILE_UNSUPPORTED)) std::abort();
    return;
  }
  const auto again = ReadCheckpointFile(AsBytes(*written));
  if (!again.ok()) std::abort();
  for (const Storage& storage : read->manifest.storages) {
    if (IsMetaDevice(storage.device)) return;  // is written as tensors without storage
  }
  if (HasSet(read->manifest)) {
    FileBytes bytes_again(again->bytes);
    const auto written_again = WriteTorchFile(again->manifest, bytes_again);
    if (!written_again.ok() || *written_again != *written) std::abort();
    return;
  }
  if (EncodeManifest(again->manifest) != EncodeManifest(read->manifest)) std::abort();
}

}  // namespace
}  // namespace sconce::format

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string file(reinterpret_cast<const char*>(data), size);
  sconce::format::ClearChecksums(file);
  sconce::format::Check(file);
  return 0;
}
