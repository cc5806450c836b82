#ifndef SCONCE_STORAGE_FORMAT_MODULE_FILE_H_
#define SCONCE_STORAGE_FORMAT_MODULE_FILE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/strings.h"
#include "storage/format/zip_reader.h"

// The files that a model can be deployed from, told apart by their records, never by a name.
namespace sconce::format {

enum class ModuleKind {
  kTorchScript,  // torch.jit.save: code/ and constants.pkl in one folder
  kCompiled,  // torch._inductor.aoti_compile_and_package, a `.pt2`: data/aotinductor/<model>/*.so, in a folder or not
};

// What `archive` is. MODULE_INVALID when it is neither, saying what to do instead.
absl::StatusOr<ModuleKind> ModuleKindOf(const ZipReader& archive);

// The shared library of a compiled package. MODULE_INVALID unless there is exactly one. Requires kCompiled.
absl::StatusOr<const ZipRecord*> FindCompiledLibrary(const ZipReader& archive);

// OK when `file` is a whole module of either kind: a sound archive with what its kind needs and with all checksums
// right. Says nothing about the code in it. MODULE_INVALID, else FILE_TRUNCATED, FILE_MALFORMED or FILE_UNSUPPORTED.
absl::Status CheckModuleFile(ByteSpan file);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_MODULE_FILE_H_
