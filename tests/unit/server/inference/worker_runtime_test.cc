#include "server/inference/worker_runtime.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/inference/priority.h"
#include "tests/contract/runtime_contract.h"
#include "tests/support/fake_runtime.h"
#include "tests/support/temp_dir.h"

namespace sconce::inference {
namespace {

using ::testing::HasSubstr;

std::string FakeWorker() {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "fake_worker").string();
}

WorkerOptions Options() {
  WorkerOptions options;
  options.program = FakeWorker();
  options.restart_backoff = absl::Milliseconds(1);
  options.max_restart_backoff = absl::Milliseconds(20);
  options.gives_way_for = absl::ZeroDuration();  // the machine may be busy
  return options;
}

struct FakeHarness {
  FakeRuntime fake;
  ModelRuntime& runtime() { return fake; }
  std::string Module(const std::string& what) { return what; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Fake, RuntimeContract, FakeHarness);

struct FakeWorkerHarness {
  WorkerRuntime workers{Options()};
  ModelRuntime& runtime() { return workers; }
  std::string Module(const std::string& what) { return what; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(FakeWorker, RuntimeContract, FakeWorkerHarness);

// The process ids of our children, zombies included.
std::set<pid_t> Children() {
  std::set<pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream list(entry.path() / "children");
    pid_t pid;
    while (list >> pid) children.insert(pid);
  }
  return children;
}

// What a process is called, "torch-template" for the one that workers are copied from. Empty when it is gone.
std::string NameOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/comm"));
  std::string name;
  std::getline(file, name);
  return name;
}

std::set<pid_t> ChildrenThatAre(bool the_template) {
  std::set<pid_t> found;
  for (const pid_t pid : Children()) {
    if ((NameOf(pid) == "torch-template") == the_template) found.insert(pid);
  }
  return found;
}
std::set<pid_t> Workers() {
  return ChildrenThatAre(false);
}

int OpenDescriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

class WorkerRuntimeTest : public ::testing::Test {
 protected:
  static ModelSpec Spec(const std::string& behaviour) {
    ModelSpec spec;
    spec.name = "net";
    spec.device = "cpu";
    spec.module = {static_cast<int64_t>(behaviour.size()), {}, behaviour};
    return spec;
  }
  static int PolicyOfTheWorker() {
    const std::set<pid_t> workers = Workers();
    return workers.size() == 1 ? ::sched_getscheduler(*workers.begin()) : -1;
  }
  static int NiceOfTheWorker() {
    const std::set<pid_t> workers = Workers();
    return workers.size() == 1 ? ::getpriority(PRIO_PROCESS, static_cast<id_t>(*workers.begin())) : -100;
  }
  // Asks with a harmless input until it is answered: the worker comes back by itself.
  static InferResult AskUntilItAnswers(LoadedModel& model) {
    const absl::Time give_up = absl::Now() + absl::Seconds(30);
    for (;;) {
      InferResult result = Ask(model, {FloatInput({0})});
      if (result.ok() || absl::Now() > give_up) return result;
      EXPECT_THAT(result, FailsWith(Reason::WORKER_DIED));
      std::this_thread::yield();
    }
  }
};

TEST_F(WorkerRuntimeTest, WhatIsNotTriedOutYetGivesWayToWhatServes) {
  const int ours = ::getpriority(PRIO_PROCESS, 0);
  const int low = MayRaisePriority() ? SCHED_IDLE : SCHED_OTHER;  // else it could never be raised
  WorkerOptions options = Options();
  options.gives_way_for = absl::InfiniteDuration();
  WorkerRuntime runtime(options);
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<LoadedModel> model, runtime.Load(Spec("dies")));
  EXPECT_EQ(PolicyOfTheWorker(), low);
  ASSERT_OK(AskUntilItAnswers(*model));
  EXPECT_EQ(PolicyOfTheWorker(), low) << "the warm-up";
  model->BeginServing();
  EXPECT_EQ(PolicyOfTheWorker(), SCHED_OTHER);
  EXPECT_EQ(NiceOfTheWorker(), ours);
  EXPECT_THAT(Ask(*model, {FloatInput({1})}), FailsWith(Reason::WORKER_DIED));
  ASSERT_OK(AskUntilItAnswers(*model));
  EXPECT_EQ(PolicyOfTheWorker(), SCHED_OTHER) << "one that takes the place of one that served";
  EXPECT_EQ(NiceOfTheWorker(), ours);
  EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), ours);
  EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
}

TEST_F(WorkerRuntimeTest, WhatIsLongInBeingTriedOutGivesWayLess) {
  if (!MayRaisePriority()) GTEST_SKIP() << "we may not raise a priority";
  WorkerOptions options = Options();
  options.gives_way_for = absl::Milliseconds(1);
  WorkerRuntime runtime(options);
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<LoadedModel> model, runtime.Load(Spec("scale")));
  ASSERT_OK(
      AskUntilItAnswers(*model));  // the supervising thread looks at the time when something happens, or it is due
  while (PolicyOfTheWorker() != SCHED_OTHER) std::this_thread::yield();
  EXPECT_GE(NiceOfTheWorker(), 15);
  model->BeginServing();
  EXPECT_EQ(NiceOfTheWorker(), ::getpriority(PRIO_PROCESS, 0));
}

TEST_F(WorkerRuntimeTest, AWorkerOutlivesWhatItWasCopiedFrom) {
  WorkerRuntime runtime(Options());
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("dies")));
  std::vector<std::shared_ptr<LoadedModel>> others;
  for (int i = 0; i < 3; ++i) {
    const std::set<pid_t> copied_from = ChildrenThatAre(true);
    ASSERT_EQ(copied_from.size(), 1u);
    const std::set<pid_t> workers = Workers();
    ::kill(*copied_from.begin(), SIGKILL);
    siginfo_t ended{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(*copied_from.begin()), &ended, WEXITED | WNOWAIT), 0);
    EXPECT_OK(Ask(*model, {FloatInput({0})}));
    EXPECT_EQ(Workers(), workers);
    EXPECT_THAT(Ask(*model, {FloatInput({1})}), FailsWith(Reason::WORKER_DIED));
    EXPECT_OK(AskUntilItAnswers(*model));  // by a copy of a new one
    ASSERT_OK_AND_ASSIGN(others.emplace_back(), runtime.Load(Spec("scale")));
  }
}

TEST_F(WorkerRuntimeTest, NothingIsKeptToCopyFromWhenThereIsNoModel) {
  WorkerRuntime runtime(Options());
  ASSERT_OK_AND_ASSIGN(auto model, runtime.Load(Spec("scale")));
  EXPECT_EQ(ChildrenThatAre(true).size(), 1u);
  model.reset();
  while (!Children().empty()) std::this_thread::yield();
  EXPECT_OK(runtime.Load(Spec("scale")));
}

TEST_F(WorkerRuntimeTest, AMissingProgramSaysWhatToInstall) {
  WorkerOptions options = Options();
  options.program = "/nonexistent/sconce-torch-worker";
  WorkerRuntime runtime(options);
  EXPECT_THAT(runtime.Load(Spec("scale")), FailsWith(Reason::TORCH_UNAVAILABLE, HasSubstr("libtorch-dev")));
  WorkerRuntime beside({});  // no sconce-torch-worker is beside the tests
  EXPECT_THAT(beside.Load(Spec("scale")), FailsWith(Reason::TORCH_UNAVAILABLE));
}

TEST_F(WorkerRuntimeTest, AProgramThatCannotFindItsLibrariesSaysWhatToInstall) {
  TempDir folder;
  const std::string program = folder / "worker";
  std::ofstream(program) << "#!/bin/sh\nexit 127\n";
  ASSERT_EQ(::chmod(program.c_str(), 0755), 0);
  WorkerOptions options = Options();
  options.program = program;
  WorkerRuntime runtime(options);
  EXPECT_THAT(runtime.Load(Spec("scale")), FailsWith(Reason::TORCH_UNAVAILABLE, HasSubstr("a library")));
}

TEST_F(WorkerRuntimeTest, AProgramThatIsNoWorkerIsRefused) {
  WorkerOptions options = Options();
  options.program = "/bin/true";
  WorkerRuntime runtime(options);
  EXPECT_THAT(runtime.Load(Spec("scale")), FailsWith(Reason::WORKER_DIED, HasSubstr("exited with status 0")));
}

TEST_F(WorkerRuntimeTest, AWorkerThatDiesWhileLoadingSaysHow) {
  WorkerRuntime runtime(Options());
  EXPECT_THAT(runtime.Load(Spec("dies_loading")), FailsWith(Reason::WORKER_DIED, HasSubstr("signal 11")));
}

TEST_F(WorkerRuntimeTest, ALoadThatTakesTooLongIsEnded) {
  WorkerOptions options = Options();
  options.load_timeout = absl::Milliseconds(200);
  WorkerRuntime runtime(options);
  EXPECT_THAT(runtime.Load(Spec("hangs_loading")), FailsWith(Reason::WORKER_DEADLINE_EXCEEDED));
}

TEST_F(WorkerRuntimeTest, CancelLoadsEndsALoadUnderWay) {
  WorkerRuntime runtime(Options());
  absl::Status status;
  std::thread loading([&] { status = runtime.Load(Spec("hangs_loading")).status(); });
  while (Children().empty()) std::this_thread::yield();
  runtime.CancelLoads();
  loading.join();
  EXPECT_THAT(status, FailsWith(Reason::SERVER_DRAINING));
}

TEST_F(WorkerRuntimeTest, ADyingWorkerCostsItsRequestAndComesBack) {
  WorkerRuntime runtime(Options());
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("dies")));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(Ask(*model, {FloatInput({1})}), FailsWith(Reason::WORKER_DIED, HasSubstr("signal 6")));
    EXPECT_OK(AskUntilItAnswers(*model));
  }
  EXPECT_OK(model->Health());
}

TEST_F(WorkerRuntimeTest, ALentThreadGivesTheAnswer) {
  WorkerRuntime runtime(Options());
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("scale")));
  std::thread::id answerer;
  std::promise<void> answered;
  const auto ask = [&] {
    answered = {};
    model->Infer({FloatInput({1})}, absl::InfiniteFuture(), [&](const InferResult& result) {
      EXPECT_OK(result);
      answerer = std::this_thread::get_id();
      answered.set_value();
    });
  };
  ask();
  answered.get_future().get();  // so that it is known to be quick
  // An answer that is there before the thread is lent wakes the other.
  const absl::Time give_up = absl::Now() + absl::Seconds(30);
  do {
    ask();
    model->LendThread(absl::Seconds(1));
    answered.get_future().get();
  } while (answerer != std::this_thread::get_id() && absl::Now() < give_up);
  EXPECT_EQ(answerer, std::this_thread::get_id());
}

TEST_F(WorkerRuntimeTest, ALentThreadComesBackWithoutAnAnswer) {
  WorkerOptions options = Options();
  options.run_timeout = absl::Seconds(2);
  WorkerRuntime runtime(options);
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("hangs")));
  ASSERT_OK(Ask(*model, {FloatInput({0})}));
  std::promise<InferResult> slow;
  model->Infer({FloatInput({1})}, absl::InfiniteFuture(),
               [&](InferResult result) { slow.set_value(std::move(result)); });
  std::future<InferResult> answer = slow.get_future();
  model->LendThread(absl::Milliseconds(50));
  EXPECT_EQ(answer.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  EXPECT_THAT(answer.get(), FailsWith(Reason::WORKER_DEADLINE_EXCEEDED));
  ASSERT_OK(AskUntilItAnswers(*model));
}

TEST_F(WorkerRuntimeTest, ALentThreadIsNotKeptByADeadWorker) {
  WorkerRuntime runtime(Options());
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("dies")));
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(AskUntilItAnswers(*model));
    EXPECT_THAT(AskLending(*model, {FloatInput({1})}), FailsWith(Reason::WORKER_DIED, HasSubstr("signal 6")));
  }
}

TEST_F(WorkerRuntimeTest, ALentThreadSeesABrokenProtocol) {
  WorkerRuntime runtime(Options());
  for (const char* behaviour : {"wrong_id", "garbage"}) {
    ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec(behaviour)));
    for (int i = 0; i < 3; ++i) {
      ASSERT_OK(AskUntilItAnswers(*model));
      EXPECT_THAT(AskLending(*model, {FloatInput({1})}), FailsWith(Reason::INTERNAL_ERROR)) << behaviour;
    }
  }
}

TEST_F(WorkerRuntimeTest, AKilledWorkerComesBackUnderLoad) {
  WorkerRuntime runtime(Options());
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("scale")));
  std::atomic<bool> stop{false};
  std::atomic<int> answered{0}, died{0}, other{0};
  std::vector<std::thread> askers;
  for (int i = 0; i < 3; ++i) {
    askers.emplace_back([&, lends = i > 0] {
      while (!stop) {
        const InferResult result = lends ? AskLending(*model, {FloatInput({1})}) : Ask(*model, {FloatInput({1})});
        ++(result.ok() ? answered : HasReason(result.status(), Reason::WORKER_DIED) ? died : other);
      }
    });
  }
  for (int kill = 0; kill < 5; ++kill) {
    const int before = answered;
    while (answered == before) std::this_thread::yield();
    for (const pid_t pid : Workers()) ::kill(pid, SIGKILL);
    const int died_before = died;
    while (died == died_before) std::this_thread::yield();
  }
  const int before = answered;
  while (answered == before) std::this_thread::yield();
  stop = true;
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(other, 0);
}

TEST_F(WorkerRuntimeTest, ARequestThatRunsTooLongIsEndedAndThoseWaitingAreToldToRetry) {
  WorkerOptions options = Options();
  options.run_timeout = absl::Milliseconds(200);
  WorkerRuntime runtime(options);
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("hangs")));
  std::promise<InferResult> slow, waiting;
  model->Infer({FloatInput({1})}, absl::InfiniteFuture(),
               [&](InferResult result) { slow.set_value(std::move(result)); });
  model->Infer({FloatInput({0})}, absl::InfiniteFuture(),
               [&](InferResult result) { waiting.set_value(std::move(result)); });
  EXPECT_THAT(slow.get_future().get(), FailsWith(Reason::WORKER_DEADLINE_EXCEEDED));
  EXPECT_THAT(waiting.get_future().get(), FailsWith(Reason::WORKER_DIED));
  EXPECT_OK(AskUntilItAnswers(*model));
}

TEST_F(WorkerRuntimeTest, ARequestWhoseTurnDoesNotComeInTimeIsAnswered) {
  WorkerOptions options = Options();
  options.run_timeout = absl::Seconds(2);
  WorkerRuntime runtime(options);
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("hangs")));
  std::promise<InferResult> slow;
  model->Infer({FloatInput({1})}, absl::InfiniteFuture(),
               [&](InferResult result) { slow.set_value(std::move(result)); });
  EXPECT_THAT(Ask(*model, {FloatInput({0})}, absl::Now() + absl::Milliseconds(50)),
              FailsWith(Reason::CALL_DEADLINE_EXCEEDED));
  EXPECT_THAT(slow.get_future().get(), FailsWith(Reason::WORKER_DEADLINE_EXCEEDED));
}

TEST_F(WorkerRuntimeTest, AFullQueueIsOverloaded) {
  WorkerOptions options = Options();
  options.max_queue = 2;
  options.run_timeout = absl::Seconds(2);
  WorkerRuntime runtime(options);
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("hangs")));
  std::atomic<int> overloaded{0}, others{0};
  for (int i = 0; i < 10; ++i) {
    model->Infer({FloatInput({1})}, absl::InfiniteFuture(), [&](InferResult result) {
      ++(HasReason(result.status(), Reason::MODEL_OVERLOADED) ? overloaded : others);
    });
  }
  EXPECT_GE(overloaded, 7);  // one may run, two wait
  while (overloaded + others < 10) std::this_thread::yield();
}

TEST_F(WorkerRuntimeTest, AWorkerThatBreaksTheProtocolIsEnded) {
  for (const char* behaviour : {"wrong_id", "garbage", "unsealed", "lies"}) {
    WorkerRuntime runtime(Options());
    ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec(behaviour)));
    EXPECT_THAT(Ask(*model, {FloatInput({1})}), FailsWith(Reason::INTERNAL_ERROR)) << behaviour;
  }
}

TEST_F(WorkerRuntimeTest, NothingIsLeftBehind) {
  const int before = OpenDescriptors();
  {
    WorkerRuntime runtime(Options());
    for (int i = 0; i < 5; ++i) {
      ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("scale")));
      ASSERT_OK(Ask(*model, {FloatInput(std::vector<float>(100000, 1))}));
      EXPECT_THAT(runtime.Load(Spec("frozen")), FailsWith(Reason::TRAINING_MODE_FROZEN));
    }
  }
  EXPECT_TRUE(Children().empty());
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(WorkerRuntimeTest, TheLastToLetGoMayBeTheModelsOwnThread) {
  WorkerRuntime runtime(Options());
  auto loaded = runtime.Load(Spec("scale"));
  ASSERT_OK(loaded);
  std::promise<void> done;
  auto held = std::make_shared<std::shared_ptr<LoadedModel>>(*loaded);
  LoadedModel& model = **loaded;
  loaded = absl::UnknownError("let go");
  model.Infer({FloatInput({1})}, absl::InfiniteFuture(), [held, &done](const InferResult&) {
    held->reset();
    done.set_value();
  });
  done.get_future().get();
}

TEST_F(WorkerRuntimeTest, AWorkerSeesNoSecretsAndNoDescriptorsOfOurs) {
  ::setenv("SCONCE_TOKEN", "secret", 1);
  WorkerRuntime runtime(Options());
  const UniqueFd ours(::dup(0));  // inherited unless it is closed
  ASSERT_OK_AND_ASSIGN(const auto model, runtime.Load(Spec("scale")));
  const std::set<pid_t> workers = Workers();
  ASSERT_EQ(workers.size(), 1u);
  const std::string process = absl::StrCat("/proc/", *workers.begin());
  std::ifstream environment(process + "/environ");
  const std::string variables((std::istreambuf_iterator<char>(environment)), std::istreambuf_iterator<char>());
  EXPECT_EQ(variables.find("secret"), std::string::npos);
  std::set<std::string> open;
  for (const auto& entry : std::filesystem::directory_iterator(process + "/fd")) {
    const std::string what = std::filesystem::read_symlink(entry.path());
    if (what.rfind("/memfd:sconce-buffer", 0) != 0) open.insert(entry.path().filename());  // its own
  }
  EXPECT_THAT(open, ::testing::ElementsAre("0", "1", "2", "3"));
  ::unsetenv("SCONCE_TOKEN");
}

}  // namespace
}  // namespace sconce::inference
