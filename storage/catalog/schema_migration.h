#ifndef SCONCE_STORAGE_CATALOG_SCHEMA_MIGRATION_H_
#define SCONCE_STORAGE_CATALOG_SCHEMA_MIGRATION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "storage/catalog/catalog.h"

namespace sconce::catalog {

// The schema number of the keys and records this build reads and writes, stored under SchemaKey(). Opening a catalog of
// an older one brings it to this; a build that only knows an older one refuses it from then on.
inline constexpr int64_t kSchemaVersion = 3;
inline constexpr int64_t kOldestSchemaVersion = 1;

// Brings a catalog of schema `from` to kSchemaVersion, in bounded batches; the number is raised last, so that a crash
// in between only means to begin again.
//   1 to 2: builds the fingerprint index from the chunk records.
//   2 to 3: builds from the version records all that versions are listed by (the metric index may be there already).
absl::Status MigrateSchema(Catalog& catalog, int64_t from);

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_SCHEMA_MIGRATION_H_
