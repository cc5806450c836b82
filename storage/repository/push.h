#ifndef SCONCE_STORAGE_REPOSITORY_PUSH_H_
#define SCONCE_STORAGE_REPOSITORY_PUSH_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/format/manifest.h"
#include "storage/repository/ingest.h"
#include "storage/repository/repository.h"
#include "storage/repository/store.h"

namespace sconce::repository {

// Repository::BeginPush. `pool` outlives the push; `ended` is called when it is gone.
absl::StatusOr<std::unique_ptr<CheckpointPush>> BeginCheckpointPush(std::shared_ptr<Store> store, IngestPool& pool,
                                                                    const PushOptions& options,
                                                                    format::Manifest manifest,
                                                                    std::function<void()> ended);

// Repository::BeginModulePush.
absl::StatusOr<std::unique_ptr<ModulePush>> BeginModulePush(std::shared_ptr<Store> store, IngestPool& pool,
                                                            const RunName& run, const std::string& module,
                                                            int64_t size_bytes, const Labels& labels, bool create_run,
                                                            std::function<void()> ended);

// DISK_FULL unless the disk keeps its reserve with `size_bytes` more on it.
absl::Status CheckRoom(const Store& store, int64_t size_bytes);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_PUSH_H_
