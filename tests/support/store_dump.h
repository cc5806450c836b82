#ifndef SCONCE_TESTS_SUPPORT_STORE_DUMP_H_
#define SCONCE_TESTS_SUPPORT_STORE_DUMP_H_

#include <string>

#include "storage/repository/repository.h"

namespace sconce::repository {

struct DumpOptions {
  bool etags = true;         // an etag changes with every change, also one that changes nothing a user sees
  bool update_times = true;  // of runs and aliases
};

// Everything a repository answers, as text: runs with their settings, latest and best; versions with every field, the
// digests of manifest and content (or the reason why they cannot be read); aliases, modules and deployments. Two
// repositories with the same dump are the same to every caller. Times are Unix nanoseconds, doubles C99 hex.
std::string DumpStore(Repository& repository, const DumpOptions& options = {});

}  // namespace sconce::repository

#endif  // SCONCE_TESTS_SUPPORT_STORE_DUMP_H_
