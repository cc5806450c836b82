#ifndef SCONCE_BASE_ERROR_H_
#define SCONCE_BASE_ERROR_H_

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace sconce {

// Every error Sconce makes: X(code, REASON) in one list. `docs/errors.md` gives each its fix; a test holds the two
// equal. The code is the canonical one for the reason, so an error is always made from its reason alone.
#define SCONCE_REASONS(X)                          \
  /* names, arguments */                           \
  X(InvalidArgument, ARGUMENT_INVALID)             \
  X(InvalidArgument, NAME_INVALID)                 \
  X(InvalidArgument, SELECTOR_INVALID)             \
  X(InvalidArgument, PAGE_TOKEN_INVALID)           \
  X(InvalidArgument, UPDATE_MASK_INVALID)          \
  X(InvalidArgument, FILTER_INVALID)               \
  X(InvalidArgument, REQUEST_ID_REUSED)            \
  X(InvalidArgument, ATTRIBUTE_CONFLICT)           \
  X(InvalidArgument, STREAM_PROTOCOL_VIOLATED)     \
  X(ResourceExhausted, MESSAGE_TOO_LARGE)          \
  /* files and manifests */                        \
  X(InvalidArgument, FILE_MALFORMED)               \
  X(InvalidArgument, FILE_TRUNCATED)               \
  X(InvalidArgument, FILE_UNSUPPORTED)             \
  X(InvalidArgument, PICKLE_GLOBAL_REFUSED)        \
  X(InvalidArgument, MANIFEST_INVALID)             \
  X(InvalidArgument, MANIFEST_VERSION_UNSUPPORTED) \
  X(ResourceExhausted, INPUT_LIMIT_EXCEEDED)       \
  X(InvalidArgument, PATH_INVALID)                 \
  X(NotFound, PATH_NOT_FOUND)                      \
  X(InvalidArgument, PATTERN_INVALID)              \
  X(InvalidArgument, DEVICE_INVALID)               \
  X(InvalidArgument, DEVICE_RULE_SPLITS_STORAGE)   \
  X(FailedPrecondition, DEVICE_UNAVAILABLE)        \
  X(InvalidArgument, CAST_INVALID)                 \
  X(InvalidArgument, CAST_RULE_SPLITS_STORAGE)     \
  X(FailedPrecondition, STATE_DICT_INVALID)        \
  X(InvalidArgument, RENAME_COLLISION)             \
  X(FailedPrecondition, MATCH_RATE_TOO_LOW)        \
  /* runs, checkpoints, modules, aliases */        \
  X(NotFound, RUN_NOT_FOUND)                       \
  X(AlreadyExists, RUN_ALREADY_EXISTS)             \
  X(FailedPrecondition, RUN_NOT_EMPTY)             \
  X(NotFound, CHECKPOINT_NOT_FOUND)                \
  X(NotFound, LATEST_UNDEFINED)                    \
  X(NotFound, BEST_UNDEFINED)                      \
  X(FailedPrecondition, CHECKPOINT_PROTECTED)      \
  X(FailedPrecondition, CHECKPOINT_OPAQUE)         \
  X(DataLoss, CHECKPOINT_QUARANTINED)              \
  X(NotFound, MODULE_NOT_FOUND)                    \
  X(AlreadyExists, MODULE_ALREADY_EXISTS)          \
  X(NotFound, ALIAS_NOT_FOUND)                     \
  X(Aborted, ETAG_MISMATCH)                        \
  X(AlreadyExists, METRIC_ALREADY_SET)             \
  /* transfer */                                   \
  X(InvalidArgument, DIGEST_MISMATCH)              \
  X(InvalidArgument, OFFSET_MISMATCH)              \
  X(InvalidArgument, UPLOAD_INCOMPLETE)            \
  X(NotFound, UPLOAD_NOT_FOUND)                    \
  X(AlreadyExists, UPLOAD_ALREADY_EXISTS)          \
  X(FailedPrecondition, PARTS_OVERLAP)             \
  X(FailedPrecondition, PARTS_INCOMPLETE)          \
  X(OutOfRange, OFFSET_OUT_OF_RANGE)               \
  X(OutOfRange, REVISION_NOT_KEPT)                 \
  X(Aborted, PLAN_CHANGED)                         \
  X(DataLoss, CHUNK_CORRUPT)                       \
  /* inference */                                  \
  X(NotFound, MODEL_NOT_FOUND)                     \
  X(AlreadyExists, MODEL_ALREADY_EXISTS)           \
  X(Unavailable, MODEL_NOT_READY)                  \
  X(NotFound, MODEL_VERSION_NOT_FOUND)             \
  X(InvalidArgument, MODEL_INPUT_INVALID)          \
  X(FailedPrecondition, MODEL_WEIGHTS_MISMATCH)    \
  X(FailedPrecondition, MODULE_INVALID)            \
  X(FailedPrecondition, TRAINING_MODE_FROZEN)      \
  X(FailedPrecondition, TORCH_UNAVAILABLE)         \
  X(Internal, MODEL_FAILED)                        \
  X(Unavailable, WORKER_DIED)                      \
  X(DeadlineExceeded, WORKER_DEADLINE_EXCEEDED)    \
  X(ResourceExhausted, WORKER_MEMORY_EXCEEDED)     \
  X(Unavailable, MODEL_OVERLOADED)                 \
  X(FailedPrecondition, MODEL_WARM_UP_FAILED)      \
  X(ResourceExhausted, MODEL_MEMORY_EXCEEDED)      \
  /* the service itself */                         \
  X(Unimplemented, NOT_IMPLEMENTED)                \
  X(NotFound, RESOURCE_NOT_FOUND)                  \
  X(Unavailable, SERVER_DRAINING)                  \
  X(Unavailable, SERVER_OVERLOADED)                \
  X(Cancelled, CALL_CANCELLED)                     \
  X(DeadlineExceeded, CALL_DEADLINE_EXCEEDED)      \
  X(ResourceExhausted, DISK_FULL)                  \
  X(FailedPrecondition, DATA_DIR_LOCKED)           \
  X(FailedPrecondition, DATA_DIR_INCOMPATIBLE)     \
  X(InvalidArgument, CONFIG_INVALID)               \
  X(FailedPrecondition, ADDRESS_UNAVAILABLE)       \
  X(Unavailable, SERVER_UNREACHABLE)               \
  X(DataLoss, CATALOG_CORRUPT)                     \
  X(Internal, IO_ERROR)                            \
  X(Internal, INTERNAL_ERROR)                      \
  /* backups */                                    \
  X(InvalidArgument, BACKUP_PATH_INVALID)          \
  X(FailedPrecondition, BACKUP_DISABLED)

enum class Reason {
#define SCONCE_REASON_ENUMERATOR_(code, name) name,
  SCONCE_REASONS(SCONCE_REASON_ENUMERATOR_)
#undef SCONCE_REASON_ENUMERATOR_
};

// The reason's name as it travels in google.rpc.ErrorInfo.reason, e.g. "RUN_NOT_FOUND".
absl::string_view ReasonName(Reason reason);
absl::StatusCode ReasonCode(Reason reason);

using ErrorMetadata = std::vector<std::pair<std::string, std::string>>;

// An error of `reason`, with the reason's code. `message` starts in lower case and says what failed, on which object,
// and what to do. `metadata` repeats what is variable in the message, for programs (ErrorInfo.metadata).
absl::Status MakeError(Reason reason, absl::string_view message, ErrorMetadata metadata = {});

// An error that came from another process: any code, and a reason this build may not know. For proto/wire.
absl::Status MakeRemoteError(absl::StatusCode code, absl::string_view reason, absl::string_view message,
                             const ErrorMetadata& metadata);

// What MakeError put in, or nullopt for a status made elsewhere (the RPC layer reports those as INTERNAL_ERROR or by
// their code).
struct ErrorDetail {
  std::string reason;
  ErrorMetadata metadata;
};
std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status);
bool HasReason(const absl::Status& status, Reason reason);

// `context: message`, code and detail kept. Added once per layer, at its boundary.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

// An error for a failed system call: ENOSPC and EDQUOT are DISK_FULL, everything else IO_ERROR. `what` names operation
// and object.
absl::Status ErrnoToStatus(int error_number, absl::string_view what);

}  // namespace sconce

#endif  // SCONCE_BASE_ERROR_H_
