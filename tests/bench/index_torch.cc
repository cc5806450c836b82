// Says how long it takes to learn what a torch file holds: maps FILE and indexes it COUNT times, and prints the
// milliseconds of each and, last, "TENSORS tensors, STORAGES storages". For index_bench.py.
//
//   index_torch FILE COUNT
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "base/file_system.h"
#include "base/status_macros.h"
#include "storage/format/torch_reader.h"

namespace {

absl::Status Run(const std::string& path, int count) {
  size_t tensors = 0, storages = 0;
  for (int i = 0; i < count; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    SCONCE_ASSIGN_OR_RETURN(const auto file, sconce::PosixFileSystem().OpenRead(path));
    SCONCE_ASSIGN_OR_RETURN(const sconce::ByteSpan mapping, file->Map());
    SCONCE_ASSIGN_OR_RETURN(const sconce::format::TorchIndex index, sconce::format::IndexTorchFile(mapping));
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    std::cout << took.count() << "\n";
    tensors = index.manifest.tensors.size();
    storages = index.manifest.storages.size();
  }
  std::cout << tensors << " tensors, " << storages << " storages\n";
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc == 3 ? std::atoi(argv[2]) : 0;
  if (count < 1) {
    std::cerr << "usage: index_torch FILE COUNT\n";
    return 2;
  }
  const absl::Status status = Run(argv[1], count);
  if (!status.ok()) std::cerr << argv[1] << ": " << sconce::ToStd(status.message()) << "\n";
  return status.ok() ? 0 : 1;
}
