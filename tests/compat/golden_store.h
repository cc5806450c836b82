#ifndef SCONCE_TESTS_COMPAT_GOLDEN_STORE_H_
#define SCONCE_TESTS_COMPAT_GOLDEN_STORE_H_

#include <string>

#include "storage/repository/repository.h"

// The store of the golden data directories (tests/data/data_dir_*): what is in it, and how it comes about.
namespace sconce::repository {

// A clock that stands at one moment: that of the store's last change.
const Clock& GoldenClock();
RepositoryOptions GoldenOptions(const std::string& data_dir);

// The request that made version 1 of default/resnet, to be asked again: content and options as then.
PushOptions GoldenRequest();
absl::StatusOr<Checkpoint> PushGolden(Repository& repository, const PushOptions& options);

// Makes the store below `work`, which is empty, and copies it to `data_dir` (made; must not exist) as a crash would
// leave it: with records that are only in the log, a tombstone, and a blob of a push in progress. What it then answers
// is written to `data_dir`/expected.txt.
absl::Status MakeGoldenStore(const std::string& work, const std::string& data_dir);

}  // namespace sconce::repository

#endif  // SCONCE_TESTS_COMPAT_GOLDEN_STORE_H_
