#include "storage/repository/store_counters.h"

#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"

namespace sconce::repository {

void StoreCounters::Note(const catalog::ChangeSet& change) {
  for (const std::string& entry : change.log) {
    const auto log = ParseRecord<records::ChangeRecord>(entry);
    if (!log.ok() || log->kind() != records::CHANGE_KIND_CHECKPOINT_COMMITTED) continue;
    ++commits;
    last_commit_time_ns = log->time_ns();
    const std::string key = catalog::CheckpointKey(log->run_uid(), log->version());
    for (const auto& [put_key, value] : change.puts) {
      if (put_key != key) continue;
      const auto record = ParseRecord<records::CheckpointRecord>(value);
      if (!record.ok()) continue;
      stored_bytes += record->stored_bytes();
      deduplicated_bytes += record->deduplicated_bytes();
    }
  }
}

}  // namespace sconce::repository
