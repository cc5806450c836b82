#ifndef SCONCE_TESTS_BENCH_SCALE_STORE_H_
#define SCONCE_TESTS_BENCH_SCALE_STORE_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sconce {

// The value; an error ends the program.
template <typename T>
T Must(absl::StatusOr<T> result) {
  if (result.ok()) return *std::move(result);
  std::fprintf(stderr, "scale_bench: %s\n", result.status().ToString().c_str());
  std::exit(EXIT_FAILURE);
}
inline void Must(const absl::Status& status) {
  Must(status.ok() ? absl::StatusOr<int>(0) : absl::StatusOr<int>(status));
}

struct ScaleStore {
  std::string data_dir;
  int64_t versions = 0;
  int64_t runs = 0;

  std::string RunName(int64_t run) const;
  int64_t VersionsOf(int64_t run) const { return versions / runs + (run < versions % runs ? 1 : 0); }
};

// Makes the store by pushing every version through the repository, from several threads: the files and the catalog are
// those that a server's pushes leave, byte for byte, but nothing waits for the disk. A version is a tensor of 256 bytes
// with epoch, step and two metrics, and a request id, as clients send one: its blob is a footer alone, one file of 4
// KiB. Runs grow side by side. Prints how far it is. A store that is there already, whole, is left as it is.
absl::Status BuildScaleStore(const ScaleStore& store);

}  // namespace sconce

#endif  // SCONCE_TESTS_BENCH_SCALE_STORE_H_
