#include "storage/format/module_file.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/record_source.h"
#include "storage/format/zip_format.h"

namespace sconce::format {
namespace {

constexpr absl::string_view kCompiledFolder = "data/aotinductor/";
constexpr size_t kCheckBytes = size_t{1} << 20;  // of a record at a time

// A record's name without the folder that an archive may have around everything.
absl::string_view WithoutFolder(absl::string_view name) {
  return name.substr(name.find('/') + 1);
}

bool LiesIn(const ZipRecord& record, absl::string_view folder) {
  return absl::StartsWith(record.name, folder) || absl::StartsWith(WithoutFolder(record.name), folder);
}

bool IsCompiledLibrary(const ZipRecord& record) {
  return LiesIn(record, kCompiledFolder) && absl::EndsWith(record.name, ".so");
}

bool IsExportedProgram(const ZipRecord& record) {
  return absl::EndsWith(record.name, "serialized_exported_program.json") || LiesIn(record, "models/");
}

bool IsConstants(const ZipRecord& record) {
  return WithoutFolder(record.name) == "constants.pkl";
}

bool AnyRecord(const ZipReader& archive, bool (*is)(const ZipRecord&)) {
  return std::any_of(archive.records().begin(), archive.records().end(), is);
}

}  // namespace

absl::StatusOr<ModuleKind> ModuleKindOf(const ZipReader& archive) {
  if (AnyRecord(archive, IsCompiledLibrary)) return ModuleKind::kCompiled;
  if (AnyRecord(archive, IsConstants)) return ModuleKind::kTorchScript;
  if (AnyRecord(archive, IsExportedProgram)) {
    return MakeError(Reason::MODULE_INVALID,
                     "an exported program that is not compiled; write it with "
                     "torch._inductor.aoti_compile_and_package(program, package_path=file)");
  }
  return MakeError(
      Reason::MODULE_INVALID,
      "not a module: the archive has neither constants.pkl, as TorchScript has, nor a compiled library; use "
      "torch.jit.script(model).save(file), and `sconce push` for a checkpoint");
}

absl::StatusOr<const ZipRecord*> FindCompiledLibrary(const ZipReader& archive) {
  const ZipRecord* library = nullptr;
  for (const ZipRecord& record : archive.records()) {
    if (!IsCompiledLibrary(record)) continue;
    if (library != nullptr) {
      return MakeError(Reason::MODULE_INVALID,
                       absl::StrCat("the package holds more than one compiled model (", Quoted(library->name), ", ",
                                    Quoted(record.name), "); package each on its own"));
    }
    library = &record;
  }
  if (library == nullptr) return MakeError(Reason::MODULE_INVALID, "the package holds no compiled model");
  return library;
}

absl::Status CheckModuleFile(ByteSpan file) {
  if (file.size() < sizeof(uint32_t) || LoadLittle32(file.data()) != ZipLocal::kSignature) {
    return MakeError(Reason::MODULE_INVALID,
                     "not a TorchScript module: the file is no zip archive; write it with torch.jit.save");
  }
  SCONCE_ASSIGN_OR_RETURN(const ZipReader archive, ZipReader::Open(file));
  SCONCE_ASSIGN_OR_RETURN(const ModuleKind kind, ModuleKindOf(archive));
  if (kind == ModuleKind::kTorchScript) return CheckTorchScriptArchive(file);
  SCONCE_RETURN_IF_ERROR(FindCompiledLibrary(archive).status());
  for (const ZipRecord& record : archive.records()) {
    SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(record));
    for (RecordReader reader(source); !reader.done();) SCONCE_RETURN_IF_ERROR(reader.Next(kCheckBytes).status());
  }
  return absl::OkStatus();
}

}  // namespace sconce::format
