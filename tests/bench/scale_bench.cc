// What a store of many versions costs beside one of a thousand:
//
//   scale_bench [VERSIONS RUNS [DIR]]
//
// builds a store of each size (scale_store.h): in DIR, where they stay and are found again, or in a temporary
// directory. Each is then opened with a whole server, in a process of its own, and both are asked in turns, a few calls
// here and a few there, so that whatever else the machine does meets both; the median and the 99th percentile of all
// are printed. The same call is made some thousand times before it is measured: what is asked for is the cost in a
// server that has been running, whose caches hold what they can.
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "client/cpp/client.h"
#include "server/server.h"
#include "storage/repository/repository.h"
#include "tests/bench/scale_calls.h"
#include "tests/bench/scale_store.h"
#include "tests/support/temp_dir.h"

namespace sconce {
namespace {

constexpr int kStarts = 5;
constexpr int kBatches = 300, kWarmingBatches = 600;
constexpr int kBatch = 20;  // calls

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

using Answer = std::array<double, kBatch>;  // microseconds of each call; or one figure, the first

double Microseconds(const std::function<void()>& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

Answer Batch(const std::function<void()>& call) {
  Answer times;
  for (double& time : times) time = Microseconds(call);
  return times;
}

// RssAnon and RssShmem: a mapped file is the page cache's.
double ResidentMib() {
  std::ifstream status("/proc/self/status");
  double kib = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("RssAnon:", 0) == 0 || line.rfind("RssShmem:", 0) == 0) {
      kib += std::strtod(line.c_str() + line.find(':') + 1, nullptr);
    }
  }
  return kib / 1024;
}

// What a process of the bench is asked.
enum Question : int32_t {
  kWhenReady,     // milliseconds
  kResident,      // MiB
  kFirstStats,    // milliseconds of the first GetStats
  kStats,         // microseconds of another
  kIsCounting,    // whether blobs are still being counted: 1 or 0
  kUntilCounted,  // seconds after the start at which this was first answered with 0
  kCloseServer,   // from now on the repository alone is open
  kRpc,           // and so many: a batch of that call
  kCall = kRpc + 100,
};

// In a process of its own: a store, open.
class Subject {
 public:
  explicit Subject(const ScaleStore& store) : store_(store) {
    ConfigureLog(LogFormat::kText, Severity::kError);
    const std::string socket = absl::StrCat("unix:", store.data_dir, ".socket");
    ServerConfig config;
    config.data_dir = store.data_dir;
    config.listen = {socket};
    config.metrics_listen = "";
    config.scrub_bytes_per_second = 0;  // it rests a day between rounds, and the small store's is over at once
    server_ = Must(Server::Start(config));
    ready_ms_ = absl::ToDoubleMilliseconds(absl::Now() - start_);
    client::ClientOptions options;
    options.target = socket;
    client_ = client::Client::Connect(options);
  }

  Answer AnswerTo(int32_t question) {
    if (question >= kCall) return Batch(calls_[static_cast<size_t>(question - kCall)]);
    if (question >= kRpc) return Batch(Rpc(static_cast<size_t>(question - kRpc)));
    switch (question) {
      case kWhenReady:
        return {ready_ms_};
      case kResident:
        return {ResidentMib()};
      case kFirstStats:
        return {Microseconds([this] { Must(client_->GetStats({})); }) / 1000};
      case kStats:
        return {Microseconds([this] { Must(client_->GetStats({})); })};
      case kIsCounting:
        if (counted_s_ == 0 && !Must(client_->GetStats({})).counting_blobs()) {
          counted_s_ = absl::ToDoubleSeconds(absl::Now() - start_);
        }
        return {counted_s_ == 0 ? 1.0 : 0.0};
      case kUntilCounted:
        return {counted_s_};
      default:
        CloseServer();
        return {};
    }
  }

 private:
  const std::function<void()>& Rpc(size_t call) {
    if (!rpcs_[call]) rpcs_ = RpcCalls(store_, *client_);
    return rpcs_[call];
  }
  void CloseServer() {
    rpcs_ = {};
    client_ = nullptr;
    server_ = nullptr;
    repository::RepositoryOptions options;
    options.data_dir = store_.data_dir;
    repository_ = Must(repository::Repository::Open(options));
    Must(repository_->CollectGarbage());  // nothing is left to be done in the background
    calls_ = RepositoryCalls(store_, *repository_);
  }

  const ScaleStore& store_;
  const absl::Time start_ = absl::Now();
  double ready_ms_ = 0, counted_s_ = 0;
  std::unique_ptr<Server> server_;
  std::unique_ptr<client::Client> client_;
  std::unique_ptr<repository::Repository> repository_;
  ScaleCalls rpcs_, calls_;
};

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "scale_bench: %s\n", what);
  std::exit(EXIT_FAILURE);
}

// A process of its own, begun before this one has any thread; it ends with the object.
class Process {
 public:
  // `work` reads questions from `in` and writes what it has to say to `out`.
  explicit Process(const std::function<void(int in, int out)>& work) {
    int questions[2], answers[2];
    if (::pipe(questions) != 0 || ::pipe(answers) != 0) Die("cannot make a pipe");
    child_ = ::fork();
    if (child_ < 0) Die("cannot fork");
    if (child_ == 0) {
      ::close(questions[1]);
      ::close(answers[0]);
      work(questions[0], answers[1]);
      std::fflush(nullptr);
      ::_exit(EXIT_SUCCESS);
    }
    ::close(questions[0]);
    ::close(answers[1]);
    to_ = questions[1];
    from_ = answers[0];
  }
  ~Process() {
    ::close(to_);
    int status = 0;
    if (::waitpid(child_, &status, 0) != child_ || status != 0) Die("a process of it failed");
    ::close(from_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  Answer Ask(int32_t question) {
    Answer answer;
    if (::write(to_, &question, sizeof question) != sizeof question ||
        ::read(from_, &answer, sizeof answer) != sizeof answer) {
      Die("a process of it has gone");
    }
    return answer;
  }

 private:
  pid_t child_ = -1;
  int to_ = -1, from_ = -1;
};

std::unique_ptr<Process> Open(const ScaleStore& store) {
  return std::make_unique<Process>([&store](int in, int out) {
    Subject subject(store);
    for (int32_t question; ::read(in, &question, sizeof question) == sizeof question;) {
      const Answer answer = subject.AnswerTo(question);
      if (::write(out, &answer, sizeof answer) != sizeof answer) Die("cannot answer");
    }
  });
}

using Pair = std::array<Process*, 2>;  // the small store's and the large one's

struct Calls {
  void Add(const Answer& batch) { times.insert(times.end(), batch.begin(), batch.end()); }
  double Quantile(size_t percent) {
    std::sort(times.begin(), times.end());
    return times[times.size() * percent / 100];
  }
  std::vector<double> times;
};

void PrintRow(const std::string& what, Calls& small, Calls& large) {
  const double p50 = small.Quantile(50);
  std::printf("| %-34s | %9.1f | %9.1f | %9.1f | %9.1f | %5.2f |\n", what.c_str(), p50, small.Quantile(99),
              large.Quantile(50), large.Quantile(99), large.Quantile(50) / p50);
}

void PrintFigure(const std::string& what, double small, double large) {
  std::printf("| %-34s | %9.1f |           | %9.1f |           | %5.2f |\n", what.c_str(), small, large, large / small);
}

void Compare(const std::string& what, const Pair& pair, int32_t question) {
  std::array<Calls, 2> calls;
  for (int batch = -kWarmingBatches; batch < kBatches; ++batch) {
    for (size_t i = 0; i < 2; ++i) {
      const Answer times = pair[i]->Ask(question);
      if (batch >= 0) calls[i].Add(times);
    }
  }
  PrintRow(what, calls[0], calls[1]);
}

void CompareStarts(const ScaleStore& small, const ScaleStore& large) {
  std::array<std::vector<double>, 2> ready, resident, stats;
  for (int start = 0; start < kStarts; ++start) {
    for (size_t i = 0; i < 2; ++i) {
      const auto process = Open(i == 0 ? small : large);
      ready[i].push_back(process->Ask(kWhenReady).front());
      resident[i].push_back(process->Ask(kResident).front());
      stats[i].push_back(process->Ask(kFirstStats).front());
    }
  }
  PrintFigure("start to ready, ms", Median(ready[0]), Median(ready[1]));
  PrintFigure("resident after the start, MiB", Median(resident[0]), Median(resident[1]));
  PrintFigure("first GetStats, ms", Median(stats[0]), Median(stats[1]));
}

void CompareQueries(const ScaleStore& small, const ScaleStore& large) {
  const auto small_process = Open(small), large_process = Open(large);
  const Pair pair = {small_process.get(), large_process.get()};
  const auto figure = [&](const std::string& what, int32_t question) {
    PrintFigure(what, pair[0]->Ask(question).front(), pair[1]->Ask(question).front());
  };
  std::array<Calls, 2> calls;
  while (pair[0]->Ask(kIsCounting).front() + pair[1]->Ask(kIsCounting).front() > 0) {
    for (size_t i = 0; i < 2; ++i) calls[i].Add(pair[i]->Ask(kRpc));
  }
  if (!calls[0].times.empty()) PrintRow("RPC: get while blobs are counted", calls[0], calls[1]);
  figure("blobs counted, s after the start", kUntilCounted);
  for (size_t call = 0; call < kScaleCalls; ++call) {
    Compare(absl::StrCat("RPC: ", kScaleCallNames[call]), pair, kRpc + static_cast<int32_t>(call));
  }
  figure("RPC: GetStats", kStats);
  figure("resident after the queries, MiB", kResident);
  for (Process* process : pair) process->Ask(kCloseServer);
  for (size_t call = 0; call < kScaleCalls; ++call) {
    Compare(absl::StrCat("call: ", kScaleCallNames[call]), pair, kCall + static_cast<int32_t>(call));
  }
}

int Main(int argc, char** argv) {
  int64_t versions = 100'000, runs = 1000;
  if (argc == 2 || argc > 4 ||
      (argc > 2 && (!absl::SimpleAtoi(argv[1], &versions) || !absl::SimpleAtoi(argv[2], &runs) || runs < 1 ||
                    versions < 4 * runs))) {
    Die("usage: scale_bench [VERSIONS RUNS [DIR]], at least four versions a run");
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const TempDir temporary;
  const std::string dir = argc > 3 ? argv[3] : temporary.path();
  std::filesystem::create_directories(dir);
  const ScaleStore small{dir + "/1000", 1000, 10};
  const ScaleStore large{absl::StrCat(dir, "/", versions, "-", runs), versions, runs};
  for (const ScaleStore* store : {&small, &large}) {
    const Process build([store](int, int) { Must(BuildScaleStore(*store)); });
  }
  std::printf("| %-34s | %9lld |       p99 | %9lld |       p99 | ratio |\n", "versions (microseconds, if not said)",
              static_cast<long long>(small.versions), static_cast<long long>(large.versions));
  std::printf("|---|---|---|---|---|---|\n");
  CompareStarts(small, large);
  CompareQueries(small, large);
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace sconce

int main(int argc, char** argv) {
  return sconce::Main(argc, argv);
}
