#include "storage/repository/store_walk.h"

#include "base/status_macros.h"

namespace sconce::repository {
namespace {

constexpr size_t kBatch = 256;

// The first key behind `key`.
std::string Behind(std::string key) {
  key.push_back('\0');
  return key;
}

}  // namespace

KeyWalk::KeyWalk(const catalog::CatalogReader& reader, std::string prefix, std::string after)
    : reader_(&reader), prefix_(std::move(prefix)), next_(after.empty() ? prefix_ : Behind(std::move(after))) {}

absl::StatusOr<std::optional<std::pair<std::string, std::string>>> KeyWalk::Next() {
  if (batch_.empty() && !ended_) {
    SCONCE_RETURN_IF_ERROR(
        reader_->Scan(next_, catalog::PrefixEnd(prefix_), false, [&](absl::string_view key, absl::string_view value) {
          batch_.emplace_back(std::string(key), std::string(value));
          return batch_.size() < kBatch;
        }));
    ended_ = batch_.size() < kBatch;
    if (!batch_.empty()) next_ = Behind(batch_.back().first);
  }
  if (batch_.empty()) return std::optional<std::pair<std::string, std::string>>();
  std::optional<std::pair<std::string, std::string>> next = std::move(batch_.front());
  batch_.pop_front();
  return next;
}

OwnerWalk::OwnerWalk(const catalog::CatalogReader& reader, uint64_t project_uid, uint64_t first_run_uid)
    : reader_(reader), project_uid_(project_uid) {
  runs_.emplace(reader, catalog::RunPrefix(), first_run_uid == 0 ? "" : catalog::RunKey(first_run_uid - 1));
}

OwnerWalk::OwnerWalk(const catalog::CatalogReader& reader, const records::RunRecord& run)
    : reader_(reader), project_uid_(run.project_uid()) {
  Enter(run);
}

void OwnerWalk::Enter(const records::RunRecord& run) {
  run_ = run;
  versions_.emplace(reader_, catalog::CheckpointPrefix(run.uid()));
  modules_.emplace(reader_, catalog::ModulePrefix(run.uid()));
}

absl::StatusOr<std::optional<OwnerWalk::Item>> OwnerWalk::Next() {
  while (true) {
    if (versions_) {
      SCONCE_ASSIGN_OR_RETURN(const auto entry, versions_->Next());
      if (entry) {
        SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::CheckpointRecord>(entry->second));
        const auto number = static_cast<uint64_t>(record.version());
        return Item{run_.project_uid(),
                    {catalog::Owner::Kind::kVersion, run_.uid(), number},
                    {GetName(run_), record.version(), ""}};
      }
      versions_.reset();
    }
    if (modules_) {
      SCONCE_ASSIGN_OR_RETURN(const auto entry, modules_->Next());
      if (entry) {
        SCONCE_ASSIGN_OR_RETURN(const auto record, ParseRecord<records::ModuleRecord>(entry->second));
        return Item{run_.project_uid(),
                    {catalog::Owner::Kind::kModule, run_.uid(), record.uid()},
                    {GetName(run_), 0, record.module()}};
      }
      modules_.reset();
    }
    if (!runs_) return std::optional<Item>();
    SCONCE_ASSIGN_OR_RETURN(const auto entry, runs_->Next());
    if (!entry) return std::optional<Item>();
    SCONCE_ASSIGN_OR_RETURN(const auto run, ParseRecord<records::RunRecord>(entry->second));
    if (!run.hidden() && (project_uid_ == 0 || run.project_uid() == project_uid_)) Enter(run);
  }
}

}  // namespace sconce::repository
