// What it costs that models run in processes of their own: the time from LoadedModel::Infer to its answer, beside that
// of the same forward() in this process. docs/benchmarks.md says what came out.
//
//   worker_hop_bench [ROUNDS]
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "base/check.h"
#include "server/inference/worker_runtime.h"
#include "server/torch_runtime/memory_map.h"
#include "server/torch_runtime/script_model.h"
#include "server/torch_runtime/torch_model.h"
#include "server/worker_protocol/messages.h"

namespace sconce {
namespace {

using inference::HostTensor;
using Times = std::vector<int64_t>;  // nanoseconds

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  SCONCE_CHECK(file.good());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

HostTensor Input(const std::string& bytes) {
  HostTensor input;
  input.name = "x";
  input.shape = {static_cast<int64_t>(bytes.size() / sizeof(float))};
  input.bytes = AsBytes(bytes);
  return input;
}

// Until the answer is there, in the thread that has it: a server sends it from there.
Times ThroughWorker(inference::LoadedModel& model, const std::string& bytes, int rounds) {
  Times times;
  for (int i = 0; i < rounds; ++i) {
    std::promise<int64_t> answered;
    const int64_t start = absl::GetCurrentTimeNanos();
    model.Infer({Input(bytes)}, absl::InfiniteFuture(), [&answered](const inference::InferResult& result) {
      const int64_t end = absl::GetCurrentTimeNanos();
      SCONCE_CHECK(result.ok());
      answered.set_value(end);
    });
    times.push_back(answered.get_future().get() - start);
  }
  return times;
}

Times InProcess(torch_runtime::TorchModel& model, const std::string& bytes, int rounds) {
  Times times;
  worker::Infer infer;
  infer.inputs.push_back({"x", format::DType::kFloat32, Input(bytes).shape, AsBytes(bytes)});
  for (int i = 0; i < rounds; ++i) {
    const int64_t start = absl::GetCurrentTimeNanos();
    SCONCE_CHECK(model.Run(infer, nullptr).ok());
    times.push_back(absl::GetCurrentTimeNanos() - start);
  }
  return times;
}

double Microseconds(Times times, double share) {
  std::sort(times.begin(), times.end());
  return static_cast<double>(times[static_cast<size_t>(share * static_cast<double>(times.size() - 1))]) / 1000;
}

std::shared_ptr<inference::LoadedModel> Load(inference::WorkerRuntime& runtime, const std::string& module) {
  inference::ModelSpec spec;
  spec.name = "bench";
  spec.device = "cpu";
  spec.module = {static_cast<int64_t>(module.size()), {}, module};
  auto model = runtime.Load(spec);
  if (!model.ok()) ::fprintf(stderr, "%s\n", model.status().ToString().c_str());
  SCONCE_CHECK(model.ok());
  return *model;
}

inference::WorkerOptions Program(const std::string& path) {
  inference::WorkerOptions options;
  options.program = path;
  return options;
}

int Main(int rounds) {
  const std::string here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  const std::string scale =
      ReadFile(std::string(source != nullptr ? source : ".") + "/tests/data/torchscript/scale.pt");
  inference::WorkerRuntime echoes(Program(here + "/fake_worker"));
  inference::WorkerRuntime torches(Program(here + "/../bin/sconce-torch-worker"));
  const auto echo = Load(echoes, "scale");
  const auto torch = Load(torches, scale);

  torch_runtime::Initialize();
  torch_runtime::UseThreads(0);
  worker::Load load;
  load.device = "cpu";
  load.module = {static_cast<int64_t>(scale.size()), {}, AsBytes(scale)};
  auto archive = torch_runtime::Assemble(load.module, {}, {});
  SCONCE_CHECK(archive.ok());
  auto bare = torch_runtime::LoadScriptModel(load, {}, {}, *std::move(archive));
  SCONCE_CHECK(bare.ok());

  ::printf("%10s | %16s | %16s | %16s | %s\n", "bytes", "echo p50 p99", "worker p50 p99", "bare p50 p99",
           "hop p50 [us]");
  for (const size_t size : {size_t{4}, size_t{4} << 10, size_t{24} << 10, size_t{256} << 10, size_t{4} << 20}) {
    const std::string bytes(size, '\0');
    const auto measure = [&](const auto& run) {
      run(rounds / 10 + 1);
      return run(rounds);
    };
    const Times echoed = measure([&](int n) { return ThroughWorker(*echo, bytes, n); });
    const Times served = measure([&](int n) { return ThroughWorker(*torch, bytes, n); });
    const Times alone = measure([&](int n) { return InProcess(**bare, bytes, n); });
    ::printf("%10zu | %7.1f %8.1f | %7.1f %8.1f | %7.1f %8.1f | %.1f\n", size, Microseconds(echoed, 0.5),
             Microseconds(echoed, 0.99), Microseconds(served, 0.5), Microseconds(served, 0.99),
             Microseconds(alone, 0.5), Microseconds(alone, 0.99), Microseconds(served, 0.5) - Microseconds(alone, 0.5));
  }
  return 0;
}

}  // namespace
}  // namespace sconce

int main(int argc, char** argv) {
  return sconce::Main(argc > 1 ? std::max(1, ::atoi(argv[1])) : 2000);
}
