#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/unique_fd.h"
#include "storage/blob/local_blob_store.h"
#include "tests/support/temp_dir.h"

// Append + seal of a blob against the same bytes by plain write() and fdatasync(), both from one warm buffer of 4 MiB.
// Files go to $TMPDIR (else /tmp): name a directory on the disk in question.
namespace sconce::blob {
namespace {

constexpr int64_t kChunk = int64_t{4} << 20;

void Require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "blob_bench: cannot %s\n", what);
  std::abort();
}

template <typename T>
T Must(absl::StatusOr<T> result) {
  if (!result.ok()) std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  Require(result.ok(), "use the blob store");
  return *std::move(result);
}

void FillUp(AlignedBuffer& buffer) {
  std::memset(buffer.data(), 0x5a, static_cast<size_t>(buffer.capacity()));
}

// Chunks of 4 MiB and a small footer; `state.range(0)` MiB in all, 0 for the footer alone.
void BM_AppendAndSeal(benchmark::State& state) {
  const TempDir directory;
  LocalBlobStoreOptions options;
  options.data_dir = directory.path();
  const std::unique_ptr<LocalBlobStore> store = Must(LocalBlobStore::Open(options));
  AlignedBuffer buffer(kChunk);
  FillUp(buffer);
  const std::string footer(1000, 'f');
  const int64_t bytes = state.range(0) << 20;
  for (auto _ : state) {
    const std::unique_ptr<BlobWriter> writer = Must(store->Create(1));
    for (int64_t done = 0; done < bytes; done += kChunk) {
      Must(writer->Append(buffer, std::min(kChunk, bytes - done), true));
    }
    Require(writer->Seal(AsBytes(footer)).ok(), "seal");
    state.PauseTiming();
    Require(store->Remove(writer->id()).ok(), "remove");
    state.ResumeTiming();
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

// The least that makes a file durable under its final name: write, fdatasync, rename, fsync of the directory.
void BM_PlainWriteAndSync(benchmark::State& state) {
  const TempDir directory;
  const UniqueFd folder(::open(directory.path().c_str(), O_RDONLY | O_DIRECTORY));
  AlignedBuffer buffer(kChunk);
  FillUp(buffer);
  const int64_t bytes = state.range(0) << 20;
  const std::string part = directory / "part", sealed = directory / "sealed";
  for (auto _ : state) {
    {
      const UniqueFd file(::open(part.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0640));
      Require(file.valid(), "create");
      for (int64_t done = 0; done < bytes; done += kChunk) {
        const auto n = static_cast<size_t>(std::min(kChunk, bytes - done));
        Require(::write(file.get(), buffer.data(), n) == static_cast<ssize_t>(n), "write");
      }
      Require(::write(file.get(), buffer.data(), 1000) == 1000, "write");
      Require(::fdatasync(file.get()) == 0, "sync");
    }
    Require(::rename(part.c_str(), sealed.c_str()) == 0 && ::fsync(folder.get()) == 0, "publish");
    state.PauseTiming();
    Require(::unlink(sealed.c_str()) == 0, "remove");
    state.ResumeTiming();
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

BENCHMARK(BM_AppendAndSeal)->Arg(0)->Arg(1)->Arg(64)->Arg(1024)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(BM_PlainWriteAndSync)->Arg(0)->Arg(1)->Arg(64)->Arg(1024)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sconce::blob

BENCHMARK_MAIN();
