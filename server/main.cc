// sconced: see `sconced --help`.
//
// Signals are blocked in every thread, and one thread waits for them: the first SIGTERM or SIGINT starts the orderly
// end, a second one ends the process at once. What was acknowledged is on the disk either way.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "base/version.h"
#include "server/config.h"
#include "server/server.h"
#include "storage/repository/rebuild.h"

namespace {

using sconce::Severity;

// Freed memory above this goes back to the system; below, it is kept for the next message. glibc's own limits trim and
// refault the heap with each large one (measured: 1.4 to 2.4 times slower uploads).
constexpr int kTrimThresholdBytes = 32 << 20;
constexpr int kTopPadBytes = 4 << 20;

constexpr int kUsageExit = 2;

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

// Waits for the first signal that asks to stop; a thread of its own then waits for the second.
int WaitForStop() {
  const sigset_t signals = StopSignals();
  int number = 0;
  sigwait(&signals, &number);
  std::thread([signals] {
    int again = 0;
    sigwait(&signals, &again);
    sconce::Log(Severity::kWarn, "stopping_at_once", {{"signal", again}});
    _exit(128 + again);
  }).detach();
  return number;
}

int Fail(const absl::Status& status, int exit_code) {
  const auto detail = sconce::GetErrorDetail(status);
  std::fprintf(stderr, "sconced: %s%s\n", detail ? absl::StrCat(detail->reason, ": ").c_str() : "",
               std::string(status.message()).c_str());
  return exit_code;
}

int Serve(const sconce::ServerConfig& config) {
  sconce::ConfigureLog(config.log_format, config.log_level);
  auto server = sconce::Server::Start(config);
  if (!server.ok()) return Fail(server.status(), EXIT_FAILURE);

  const std::string addresses = absl::StrJoin((*server)->addresses(), " ");
  sconce::Log(Severity::kInfo, "ready",
              {{"version", sconce::kVersion}, {"data_dir", config.data_dir}, {"addresses", addresses}});
  std::printf("sconced ready: listening on %s\n", addresses.c_str());
  std::fflush(stdout);

  const int number = WaitForStop();
  sconce::Log(Severity::kInfo, "stopping", {{"signal", number}});
  (*server)->Drain([](absl::Duration grace) { absl::SleepFor(grace); });
  server->reset();
  sconce::Log(Severity::kInfo, "stopped");
  return EXIT_SUCCESS;
}

int RebuildCatalog(const sconce::ServerConfig& config) {
  sconce::ConfigureLog(config.log_format, config.log_level);
  sconce::repository::RepositoryOptions options;
  options.data_dir = config.data_dir;
  const auto report = sconce::repository::RebuildCatalog(options);
  if (!report.ok()) return Fail(report.status(), EXIT_FAILURE);
  std::printf("%s\nThe catalog of %s is rebuilt; start the server as usual.\n",
              sconce::repository::Describe(*report).c_str(), config.data_dir.c_str());
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  ::mallopt(M_TRIM_THRESHOLD, kTrimThresholdBytes);
  ::mallopt(M_TOP_PAD, kTopPadBytes);
  // Debian's Abseil is built with its debugging aids: every lock of ours and of gRPC's would be entered into a graph.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  ::signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = StopSignals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread: they inherit it

  const auto line = sconce::ReadConfig({argv + 1, argv + argc}, sconce::SystemConfigSources());
  if (!line.ok()) return Fail(line.status(), kUsageExit);
  switch (line->action) {
    case sconce::CommandLine::Action::kShowHelp:
      std::fputs(sconce::HelpText().c_str(), stdout);
      return EXIT_SUCCESS;
    case sconce::CommandLine::Action::kShowVersion:
      std::printf("sconced %s\n", sconce::kVersion);
      return EXIT_SUCCESS;
    case sconce::CommandLine::Action::kRebuildCatalog:
      return RebuildCatalog(line->config);
    case sconce::CommandLine::Action::kServe:
      return Serve(line->config);
  }
  return EXIT_FAILURE;
}
