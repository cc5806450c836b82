#include "storage/repository/tombstones.h"

#include <string>
#include <utility>

#include "storage/catalog/keys.h"
#include "storage/catalog/version_index.h"

namespace sconce::repository {
namespace {

void PutTombstone(uint64_t project_uid, const catalog::Owner& owner, const records::ManifestLocation& manifest,
                  catalog::ChangeSet& change) {
  records::TombstoneRecord tombstone;
  tombstone.set_project_uid(project_uid);
  *tombstone.mutable_manifest() = manifest;
  change.puts.emplace_back(catalog::TombstoneKey(owner), tombstone.SerializeAsString());
}

}  // namespace

void BuryCheckpoint(uint64_t project_uid, uint64_t run_uid, const records::CheckpointRecord& record,
                    catalog::ChangeSet& change) {
  change.deletes.push_back(catalog::CheckpointKey(run_uid, record.version()));
  catalog::Reindex(run_uid, &record, nullptr, change);
  const catalog::Owner owner{catalog::Owner::Kind::kVersion, run_uid, static_cast<uint64_t>(record.version())};
  if (IsQuarantined(record)) change.deletes.push_back(catalog::QuarantineKey(owner));
  PutTombstone(project_uid, owner, record.manifest(), change);
}

void BuryModule(uint64_t project_uid, uint64_t run_uid, const records::ModuleRecord& record,
                catalog::ChangeSet& change) {
  change.deletes.push_back(catalog::ModuleKey(run_uid, record.module()));
  const catalog::Owner owner{catalog::Owner::Kind::kModule, run_uid, record.uid()};
  if (IsDamaged(record)) change.deletes.push_back(catalog::QuarantineKey(owner));
  PutTombstone(project_uid, owner, record.manifest(), change);
}

}  // namespace sconce::repository
