#ifndef SCONCE_STORAGE_REPOSITORY_VERSION_RECORDS_H_
#define SCONCE_STORAGE_REPOSITORY_VERSION_RECORDS_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "storage/format/manifest.h"
#include "storage/repository/attributes.h"
#include "storage/repository/record_codec.h"
#include "storage/repository/store.h"
#include "storage/repository/types.h"

// The records of a new version, whichever way its bytes came: from one push or from the parts of an upload.
namespace sconce::repository {

// What can be judged before there is a manifest. NAME_INVALID, ARGUMENT_INVALID.
absl::Status CheckPushOptions(const PushOptions& options);
// MANIFEST_INVALID, also for an opaque checkpoint that is not a single bare storage; INPUT_LIMIT_EXCEEDED.
absl::Status CheckPushManifest(const PushOptions& options, const format::Manifest& manifest);

// What the version is indexed by: as given, completed from the tree. ATTRIBUTE_CONFLICT.
absl::StatusOr<Attributes> AttributesOf(const PushOptions& options, const format::Manifest& manifest);

struct StoredSizes {
  int64_t stored_bytes = 0;
  int64_t deduplicated_bytes = 0;
};
// Without the place of the manifest.
records::CheckpointRecord NewCheckpointRecord(const PushOptions& options, const Attributes& attributes,
                                              const format::Manifest& manifest, const StoredSizes& sizes,
                                              int64_t version, int64_t now_ns);
// Without the object. `body` is that of the request (request_ids.h), where it is known.
records::FooterRecord NewFooter(const PushOptions& options, uint64_t run_uid, const Digest* body = nullptr);

// Of an object that was committed long ago: what request it came from is not known any more.
records::FooterRecord NewFooter(const records::RunRecord& run);

// The version that the same request committed before; CHECKPOINT_NOT_FOUND when it was deleted since.
absl::StatusOr<Checkpoint> AnswerOf(const Store& store, const RunName& run, const records::RequestRecord& answered);

// Adds to the batch what names the version: its record, its index entries, the run's counters, the request id (with
// `body`, request_ids.h), the change log. False when another push of the same request came first; `first` is its answer
// then. RUN_NOT_FOUND when the run was deleted meanwhile; REQUEST_ID_REUSED.
absl::StatusOr<bool> AddVersion(Store& store, const PushOptions& options, uint64_t project_uid, uint64_t run_uid,
                                const records::CheckpointRecord& record, const Digest& body,
                                std::optional<records::RequestRecord>& first, catalog::ChangeSet& change);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_VERSION_RECORDS_H_
