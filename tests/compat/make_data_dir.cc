// make_data_dir DIR: writes the golden data directory of this build to DIR (see tests/data/README.md).
#include <cstdio>

#include "tests/compat/golden_store.h"
#include "tests/support/temp_dir.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_data_dir DIR\n");
    return 2;
  }
  const sconce::TempDir work;
  const absl::Status made = sconce::repository::MakeGoldenStore(work / "data", argv[1]);
  if (!made.ok()) std::fprintf(stderr, "make_data_dir: %s\n", made.ToString().c_str());
  return made.ok() ? 0 : 1;
}
