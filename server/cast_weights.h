#ifndef SCONCE_SERVER_CAST_WEIGHTS_H_
#define SCONCE_SERVER_CAST_WEIGHTS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/inference/runtime.h"
#include "storage/format/cast.h"
#include "storage/repository/repository.h"

namespace sconce {

// The state_dict at `path` of a stored version with its floats converted (format/cast.h; patterns are for paths under
// `path`). Storages that the cast leaves alone stay where they are; the others are converted piece by piece into a file
// in memory that nobody can change any more, so that all instances of a model share it. Memory: that file, and one
// piece. The errors of WeightSource::OpenWeights and format::PlanCast.
absl::StatusOr<inference::StateDict> OpenCastWeights(const std::shared_ptr<const repository::StoredObject>& object,
                                                     const std::string& path, const format::DtypeCast& cast);

// A storage's bytes, each chunk checked, for another process to map. CHUNK_CORRUPT.
absl::StatusOr<inference::StoredBytes> LocateStorage(const std::shared_ptr<const repository::StoredObject>& object,
                                                     format::StorageIndex index);

}  // namespace sconce

#endif  // SCONCE_SERVER_CAST_WEIGHTS_H_
