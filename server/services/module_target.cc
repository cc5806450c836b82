#include "server/services/module_target.h"

#include <memory>
#include <string>

#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "server/services/convert.h"
#include "storage/format/module_keys.h"

namespace sconce::services {
namespace {

// Up to this an archive is simply held in memory.
constexpr int64_t kMaxArchiveInMemory = int64_t{16} << 20;

// Hands all bytes of the archive to `take`, piece after piece.
template <typename Take>
absl::Status ReadArchive(const repository::OpenModule& module, Take take) {
  const format::Storage& storage = module.manifest().storages[0];
  if (!format::IsBulk(storage)) return take(AsBytes(storage.inline_bytes));
  for (int64_t chunk = 0; chunk < format::ChunkCount(storage.size_bytes); ++chunk) {
    SCONCE_ASSIGN_OR_RETURN(const repository::MappedBytes mapped, module.ReadChunk(0, chunk));
    SCONCE_RETURN_IF_ERROR(take(mapped.bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<format::LoadTarget> ReadTarget(repository::Repository& repository,
                                              const repository::OpenModule& module) {
  if (module.manifest().storages[0].size_bytes <= kMaxArchiveInMemory) {
    std::string archive;
    SCONCE_RETURN_IF_ERROR(ReadArchive(module, [&](ByteSpan piece) {
      archive.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      return absl::OkStatus();
    }));
    return format::TargetOfModule(AsBytes(archive));
  }
  SCONCE_ASSIGN_OR_RETURN(const std::unique_ptr<repository::Spool> spool, repository.NewSpool());
  SCONCE_RETURN_IF_ERROR(ReadArchive(module, [&](ByteSpan piece) { return spool->Append(piece); }));
  SCONCE_ASSIGN_OR_RETURN(const ByteSpan archive, spool->Map());
  return format::TargetOfModule(archive);
}

}  // namespace

absl::StatusOr<format::LoadTarget> ReadModuleTarget(repository::Repository& repository, absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, wire::ParseModule(name));
  SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const repository::OpenModule> module,
                          repository.OpenReadModule(ToRunName(ref.run), ref.id));
  absl::StatusOr<format::LoadTarget> target = ReadTarget(repository, *module);
  if (!target.ok()) return Annotate(target.status(), "reading the parameters of module " + ref.id);
  return target;
}

}  // namespace sconce::services
