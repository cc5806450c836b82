#include "server/inference/model_manager.h"

#include <atomic>
#include <cmath>
#include <thread>

#include "tests/unit/server/inference/model_manager_fixture.h"

namespace sconce::inference {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(ModelManagerTest, ADeployedModelAnswersWithTheWeightsOfItsSelector) {
  source_.Move("best", 7);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus status, manager.Deploy("net", Following("best"), ""));
  EXPECT_EQ(status.state, ModelState::kReady);
  ASSERT_THAT(status.versions, SizeIs(1));
  EXPECT_EQ(status.versions[0].version, 7);
  ASSERT_OK_AND_ASSIGN(const auto serving, manager.Acquire("net", ""));
  ASSERT_OK_AND_ASSIGN(const float answer, Ask(*serving));
  EXPECT_EQ(answer, 7);
  EXPECT_OK(manager.Acquire("net", "7"));
}

TEST_F(ModelManagerTest, AModuleWithItsOwnWeightsIsVersionOne) {
  ModelManager manager(options_, source_, runtime_);
  DeploymentSpec spec = Following("best");
  spec.weights.reset();
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus status, manager.Deploy("net", spec, ""));
  EXPECT_EQ(status.versions[0].version, 1);
}

TEST_F(ModelManagerTest, KeysAreRenamedBeforeTheRuntimeSeesThem) {
  source_.Move("best", 7);
  source_.SetBadVersion(7);  // its key is "other"
  ModelManager manager(options_, source_, runtime_);
  DeploymentSpec spec = Following("best");
  EXPECT_THAT(manager.Deploy("net", spec, ""), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH));
  spec.weights->rules.renames = {{"other", "w"}};
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus status, manager.Deploy("net", spec, ""));
  EXPECT_EQ(status.versions[0].version, 7);
  EXPECT_TRUE(status.spec == spec);
}

TEST_F(ModelManagerTest, TheRuntimeIsToldHowWeightsHaveToFit) {
  source_.Move("best", 7);
  source_.SetBadVersion(7);
  ModelManager manager(options_, source_, runtime_);
  DeploymentSpec spec = Following("best");
  spec.weights->match = {true, 0.5};
  ASSERT_OK(manager.Deploy("net", spec, ""));
  EXPECT_TRUE(runtime_.last_match() == spec.weights->match);
}

TEST_F(ModelManagerTest, AcquireSaysInTritonsWordsWhatIsNotThere) {
  source_.Move("best", 7);
  ModelManager manager(options_, source_, runtime_);
  EXPECT_THAT(manager.Acquire("net", ""),
              FailsWith(Reason::MODEL_NOT_FOUND, HasSubstr("Request for unknown model: 'net' is not found")));
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  EXPECT_THAT(manager.Acquire("net", "3"),
              FailsWith(Reason::MODEL_VERSION_NOT_FOUND, HasSubstr("'net' version 3 is not found")));
  for (const char* version : {"x", "-1", "0", "+7", "7.0", "99999999999999999999"}) {
    EXPECT_THAT(manager.Acquire("net", version),
                FailsWith(Reason::MODEL_INPUT_INVALID, HasSubstr("failed to get model version")))
        << version;
  }
}

TEST_F(ModelManagerTest, AFailedDeploymentIsNotKept) {
  source_.Move("best", 7);
  source_.SetBadVersion(7);
  ModelManager manager(options_, source_, runtime_);
  EXPECT_THAT(manager.Deploy("net", Following("best"), ""),
              FailsWith(Reason::MODEL_WEIGHTS_MISMATCH, HasSubstr("Unexpected key(s)")));
  EXPECT_THAT(manager.Get("net"), FailsWith(Reason::MODEL_NOT_FOUND));
  ASSERT_OK_AND_ASSIGN(const auto records, source_.ListDeployments());
  EXPECT_THAT(records, IsEmpty());
  EXPECT_THAT(manager.Deploy("net", Following("alias"), ""), FailsWith(Reason::ALIAS_NOT_FOUND));
  source_.SetModule("m", "frozen");
  EXPECT_THAT(manager.Deploy("net", Following("3"), ""), FailsWith(Reason::TRAINING_MODE_FROZEN));
  source_.SetModule("m", "scale");
  EXPECT_OK(manager.Deploy("net", Following("3"), ""));
}

TEST_F(ModelManagerTest, ARepeatedRequestAnswersTheSameModelAndAnotherIsRefused) {
  source_.Move("best", 7);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus first, manager.Deploy("net", Following("best"), "id-1"));
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus again, manager.Deploy("net", Following("best"), "id-1"));
  EXPECT_EQ(again.create_time, first.create_time);
  EXPECT_EQ(runtime_.loads(), 1);
  EXPECT_THAT(manager.Deploy("net", Following("7"), "id-1"), FailsWith(Reason::REQUEST_ID_REUSED));
  EXPECT_THAT(manager.Deploy("net", Following("best"), "id-2"), FailsWith(Reason::MODEL_ALREADY_EXISTS));
  EXPECT_THAT(manager.Deploy("net", Following("best"), ""), FailsWith(Reason::MODEL_ALREADY_EXISTS));
}

TEST_F(ModelManagerTest, ItFollowsItsSelector) {
  source_.Move("best", 1);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  for (int64_t version = 2; version <= 5; ++version) {
    source_.Move("best", version);
    AwaitVersion(manager, version);
  }
  AwaitAlive(runtime_, 1);
}

TEST_F(ModelManagerTest, ANumberIsNotFollowed) {
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("3"), ""));
  source_.Move("best", 4);
  source_.Move("latest", 4);
  ASSERT_OK(manager.Undeploy("net"));
  EXPECT_EQ(runtime_.loads(), 1);
}

// Every answer is from one version or the next, never an error and never a mixture, and a request that began on the old
// version finishes on it.
TEST_F(ModelManagerTest, SwappingUnderLoadLosesNoRequest) {
  source_.Move("best", 1);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<const ServingModel> held, manager.Acquire("net", ""));
  std::atomic<bool> stop{false};
  std::atomic<int> answers{0}, wrong{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      int64_t last = 0;
      while (!stop) {
        const auto serving = manager.Acquire("net", "");
        const auto answer = serving.ok() ? Ask(**serving) : absl::StatusOr<float>(serving.status());
        const bool right =
            answer.ok() && static_cast<int64_t>(*answer) == (*serving)->version && (*serving)->version >= last;
        if (!right) ++wrong;
        if (serving.ok()) last = (*serving)->version;
        ++answers;
      }
    });
  }
  for (int64_t version = 2; version <= 30; ++version) {
    source_.Move("best", version);
    AwaitVersion(manager, version);
    for (const int before = answers; answers == before;) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
  ASSERT_OK_AND_ASSIGN(const float answer, Ask(*held));
  EXPECT_EQ(answer, 1);
  held.reset();
  AwaitAlive(runtime_, 1);
}

TEST_F(ModelManagerTest, ARefusedVersionLeavesTheOldOneServingAndSaysWhy) {
  source_.Move("best", 1);
  source_.SetBadVersion(2);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  source_.Move("best", 2);
  const DeploymentStatus status =
      Await(manager, [](const DeploymentStatus& now) { return now.versions.size() == 2 && !now.reason.empty(); });
  EXPECT_EQ(status.state, ModelState::kReady);
  EXPECT_EQ(status.versions[0].version, 1);
  EXPECT_EQ(status.versions[1].version, 2);
  EXPECT_EQ(status.versions[1].state, ModelState::kFailed);
  EXPECT_THAT(status.reason, HasSubstr("version 2: Error(s) in loading state_dict"));
  ASSERT_OK_AND_ASSIGN(const auto serving, manager.Acquire("net", ""));
  ASSERT_OK_AND_ASSIGN(const float answer, Ask(*serving));
  EXPECT_EQ(answer, 1);
  // It is not tried again, and the next good one clears the reason.
  const int loads = runtime_.loads();
  source_.Move("best", 2);
  source_.Move("best", 3);
  AwaitVersion(manager, 3);
  EXPECT_LE(runtime_.loads(), loads + 1);
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus after, manager.Get("net"));
  EXPECT_EQ(after.reason, "");
}

TEST_F(ModelManagerTest, ALoadThatFailsForAWhileIsTriedAgain) {
  source_.Move("best", 1);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  source_.FailNext(3);
  source_.Move("best", 2);
  AwaitVersion(manager, 2);
}

TEST_F(ModelManagerTest, DeploymentsComeBackAfterARestart) {
  source_.Move("best", 4);
  std::string etag;
  {
    ModelManager manager(options_, source_, runtime_);
    ASSERT_OK_AND_ASSIGN(const DeploymentStatus status, manager.Deploy("net", Following("best"), "id-1"));
    etag = status.etag;
  }
  AwaitAlive(runtime_, 0);
  FakeRuntime runtime;
  std::atomic<bool> go{false};
  runtime.SetBeforeLoad([&] {
    while (!go) std::this_thread::yield();
  });
  source_.SetRecord("broken", "\x7f");
  ModelManager manager(options_, source_, runtime);
  ASSERT_OK(manager.Restore());
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus loading, manager.Get("net"));
  EXPECT_EQ(loading.state, ModelState::kLoading);
  EXPECT_EQ(loading.etag, etag);
  EXPECT_THAT(manager.Acquire("net", ""), FailsWith(Reason::MODEL_NOT_READY));
  EXPECT_THAT(manager.Get("broken"), FailsWith(Reason::MODEL_NOT_FOUND));
  go = true;
  AwaitVersion(manager, 4);
  EXPECT_OK(manager.Deploy("net", Following("best"), "id-1"));  // a retry that outlived the restart
}

TEST_F(ModelManagerTest, ARestoredDeploymentThatCannotLoadSaysWhy) {
  source_.Move("best", 4);
  { ASSERT_OK(ModelManager(options_, source_, runtime_).Deploy("net", Following("best"), "")); }
  FakeRuntime runtime;
  source_.SetModule("m", "frozen");
  ModelManager manager(options_, source_, runtime);
  ASSERT_OK(manager.Restore());
  const DeploymentStatus status =
      Await(manager, [](const DeploymentStatus& now) { return now.state == ModelState::kFailed; });
  EXPECT_THAT(status.reason, HasSubstr("train=True"));
  EXPECT_THAT(manager.Acquire("net", ""), FailsWith(Reason::MODEL_NOT_READY, HasSubstr("train=True")));
  EXPECT_OK(manager.Undeploy("net"));
}

TEST_F(ModelManagerTest, WhatIsServedIsProtected) {
  source_.Move("best", 4);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  EXPECT_TRUE(manager.Serves({"p", "r"}, 4));
  EXPECT_FALSE(manager.Serves({"p", "r"}, 3));
  EXPECT_FALSE(manager.Serves({"q", "r"}, 4));
  source_.Move("best", 5);
  AwaitVersion(manager, 5);
  EXPECT_FALSE(manager.Serves({"p", "r"}, 4));
  EXPECT_TRUE(manager.Serves({"p", "r"}, 5));
  ASSERT_OK(manager.Undeploy("net"));
  EXPECT_FALSE(manager.Serves({"p", "r"}, 5));
}

TEST_F(ModelManagerTest, UndeployingUnloadsAfterTheLastRequest) {
  source_.Move("best", 4);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<const ServingModel> held, manager.Acquire("net", ""));
  ASSERT_OK(manager.Undeploy("net"));
  EXPECT_THAT(manager.Undeploy("net"), FailsWith(Reason::MODEL_NOT_FOUND));
  AwaitAlive(runtime_, 1);
  EXPECT_OK(Ask(*held));
  held.reset();
  AwaitAlive(runtime_, 0);
  ASSERT_OK_AND_ASSIGN(const auto records, source_.ListDeployments());
  EXPECT_THAT(records, IsEmpty());
}

}  // namespace
}  // namespace sconce::inference
