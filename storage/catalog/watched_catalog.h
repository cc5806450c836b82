#ifndef SCONCE_STORAGE_CATALOG_WATCHED_CATALOG_H_
#define SCONCE_STORAGE_CATALOG_WATCHED_CATALOG_H_

#include <functional>
#include <memory>

#include "storage/catalog/catalog.h"

namespace sconce::catalog {

// A catalog that tells of every answer that is an error (a condition that does not hold is none), so that damage is
// noticed whoever meets it, and of every change that was applied, so that they are counted whoever made them. Both are
// called on the thread of the call, and must be quick and thread-safe.
std::unique_ptr<Catalog> Watch(std::unique_ptr<Catalog> catalog, std::function<void(const absl::Status&)> on_error,
                               std::function<void(const ChangeSet&)> on_applied);

}  // namespace sconce::catalog

#endif  // SCONCE_STORAGE_CATALOG_WATCHED_CATALOG_H_
