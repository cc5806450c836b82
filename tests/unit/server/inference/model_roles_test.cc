// What a ModelManager does with several versions of one model, and when it is changed.
#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "tests/unit/server/inference/model_manager_fixture.h"

namespace sconce::inference {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

bool HasRefused(const DeploymentStatus& status) {
  return std::any_of(status.versions.begin(), status.versions.end(),
                     [](const VersionStatus& version) { return version.state == ModelState::kFailed; });
}

class ModelRolesTest : public ModelManagerTest {
 protected:
  // A change of the deployment, from a function on its spec.
  template <typename Edit>
  absl::StatusOr<DeploymentStatus> Update(ModelManager& manager, Edit edit, const std::string& etag = "") {
    return manager.Update("net", etag, [&](const DeploymentSpec& now) -> absl::StatusOr<DeploymentSpec> {
      DeploymentSpec changed = now;
      edit(changed);
      return changed;
    });
  }
  static const VersionStatus* Find(const DeploymentStatus& status, VersionRole role) {
    for (const VersionStatus& version : status.versions) {
      if (version.role == role) return &version;
    }
    return nullptr;
  }
  void AwaitRole(ModelManager& manager, VersionRole role, int64_t number) {
    Await(manager, [&](const DeploymentStatus& status) {
      const VersionStatus* version = Find(status, role);
      return version != nullptr && version->version == number && version->state == ModelState::kReady;
    });
  }
  static int64_t Routed(ModelManager& manager, const std::string& id, int64_t min_version = 0) {
    const auto routed = manager.Route("net", VersionRequest{"", min_version, id});
    EXPECT_OK(routed.status());
    return routed.ok() ? routed->serving->version : 0;
  }
};

TEST_F(ModelRolesTest, ARollbackIsInstantWhileTheOldOneIsHeldAndLasts) {
  source_.Move("best", 1);
  DeploymentSpec spec = Following("best");
  spec.keep_previous = true;
  {
    ModelManager manager(options_, source_, runtime_);
    ASSERT_OK(manager.Deploy("net", spec, ""));
    source_.Move("best", 2);
    AwaitVersion(manager, 2);
    AwaitRole(manager, VersionRole::kPrevious, 1);
    const int loads = runtime_.loads();
    ASSERT_OK_AND_ASSIGN(const DeploymentStatus back, manager.Rollback("net", "", 0));
    EXPECT_EQ(back.versions[0].version, 1);
    EXPECT_EQ(back.spec.pinned_version, 1);
    EXPECT_EQ(Routed(manager, "a"), 1);
    EXPECT_EQ(runtime_.loads(), loads);
    // It stays there whatever becomes best.
    source_.Move("best", 3);
    ASSERT_OK_AND_ASSIGN(const DeploymentStatus there, manager.Rollback("net", "", 0));  // and forth
    EXPECT_EQ(there.versions[0].version, 2);
    ASSERT_OK(manager.Rollback("net", "", 1));
  }
  FakeRuntime runtime;
  ModelManager manager(options_, source_, runtime);
  ASSERT_OK(manager.Restore());
  AwaitVersion(manager, 1);
  ASSERT_OK(Update(manager, [](DeploymentSpec& changed) { changed.pinned_version = 0; }));
  AwaitVersion(manager, 3);
}

TEST_F(ModelRolesTest, ARollbackToWhatIsNotHeldLoadsItFirst) {
  source_.Move("best", 2);
  source_.SetBadVersion(9);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  EXPECT_THAT(manager.Rollback("net", "", 0), FailsWith(Reason::MODEL_VERSION_NOT_FOUND, HasSubstr("name the one")));
  EXPECT_THAT(manager.Rollback("net", "", 9), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH));
  EXPECT_EQ(Routed(manager, "a"), 2);
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus unchanged, manager.Get("net"));
  EXPECT_EQ(unchanged.spec.pinned_version, 0);
  ASSERT_OK(manager.Rollback("net", "", 5));
  EXPECT_EQ(Routed(manager, "a"), 5);
  AwaitAlive(runtime_, 1);  // 2 is not kept
}

TEST_F(ModelRolesTest, TheCanaryGetsItsShareStickyById) {
  source_.Move("best", 1);
  source_.Move("latest", 2);
  DeploymentSpec spec = Following("best");
  spec.canary = Canary{"latest", 0.25};
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", spec, ""));
  AwaitRole(manager, VersionRole::kCanary, 2);
  int to_canary = 0, by_chance = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string id = absl::StrCat("id-", i);
    const int64_t version = Routed(manager, id);
    EXPECT_EQ(version, Routed(manager, id));
    to_canary += version == 2 ? 1 : 0;
    by_chance += Routed(manager, "") == 2 ? 1 : 0;
  }
  EXPECT_NEAR(to_canary, 500, 100);
  EXPECT_NEAR(by_chance, 500, 150);
  ASSERT_OK_AND_ASSIGN(const auto asked, manager.Acquire("net", ""));
  EXPECT_EQ(asked->version, 1);  // metadata is never the canary's
  // It becomes what serves when best means it, without another load.
  const int loads = runtime_.loads();
  source_.Move("best", 2);
  AwaitVersion(manager, 2);
  EXPECT_EQ(runtime_.loads(), loads);
}

TEST_F(ModelRolesTest, ABadCanaryLeavesTheModelAlone) {
  source_.Move("best", 1);
  source_.SetBadVersion(2);
  DeploymentSpec spec = Following("best");
  spec.canary = Canary{"2", 1};
  spec.shadow = "nobody";
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", spec, ""));
  const auto status = Await(manager, [](const DeploymentStatus& now) { return HasRefused(now); });
  EXPECT_EQ(status.state, ModelState::kReady);
  EXPECT_THAT(status.reason, HasSubstr("version 2"));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Routed(manager, absl::StrCat(i)), 1);
}

TEST_F(ModelRolesTest, TheShadowIsGivenWhatTheOthersGet) {
  source_.Move("best", 1);
  DeploymentSpec spec = Following("best");
  spec.shadow = "3";
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", spec, ""));
  AwaitRole(manager, VersionRole::kShadow, 3);
  ASSERT_OK_AND_ASSIGN(const auto routed, manager.Route("net", VersionRequest{}));
  EXPECT_EQ(routed.serving->version, 1);
  ASSERT_NE(routed.shadow, nullptr);
  EXPECT_EQ(routed.shadow->version, 3);
  ASSERT_OK_AND_ASSIGN(const auto exact, manager.Route("net", VersionRequest{"3", 0, ""}));
  EXPECT_EQ(exact.serving->version, 3);
  EXPECT_EQ(exact.shadow, nullptr);
  EXPECT_TRUE(manager.Serves({"p", "r"}, 3));
}

TEST_F(ModelRolesTest, ARequestMayAskForAMinimum) {
  source_.Move("best", 4);
  DeploymentSpec spec = Following("best");
  spec.canary = Canary{"6", 0};
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", spec, ""));
  AwaitRole(manager, VersionRole::kCanary, 6);
  EXPECT_EQ(Routed(manager, "a", 3), 4);
  EXPECT_EQ(Routed(manager, "a", 4), 4);
  EXPECT_EQ(Routed(manager, "a", 5), 6);
  EXPECT_THAT(manager.Route("net", VersionRequest{"", 7, "a"}),
              FailsWith(Reason::MODEL_NOT_READY, HasSubstr("'net' version >= 7 is not at ready state")));
}

TEST_F(ModelRolesTest, AVersionForWhichThereIsNoRoomIsNotLoadedAndTheOldOneServes) {
  source_.Move("best", 1);
  std::atomic<int64_t> available{1000};
  options_.available_memory = [&] { return available.load(); };
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  available = 3;
  source_.Move("best", 2);
  const auto status = Await(manager, [](const DeploymentStatus& now) { return !now.reason.empty(); });
  EXPECT_THAT(status.reason, HasSubstr("version 2 needs 9 bytes beside what is loaded, and 3 are available"));
  EXPECT_EQ(Routed(manager, "a"), 1);
  EXPECT_THAT(manager.Deploy("other", Following("best"), ""), FailsWith(Reason::MODEL_MEMORY_EXCEEDED));
  available = 1000;  // it is tried again
  AwaitVersion(manager, 2);
}

TEST_F(ModelRolesTest, ToPreserveResourcesThereAreNeverTwo) {
  source_.Move("best", 1);
  DeploymentSpec spec = Following("best");
  spec.transition = Transition::kResourcePreserving;
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", spec, ""));
  std::atomic<int> most{0};
  runtime_.SetBeforeLoad([&] { most = std::max(most.load(), runtime_.alive()); });
  source_.Move("best", 2);
  AwaitVersion(manager, 2);
  EXPECT_EQ(most, 0);
  source_.SetBadVersion(3);
  source_.Move("best", 3);
  Await(manager, [](const DeploymentStatus& now) { return HasRefused(now) && now.state == ModelState::kReady; });
  EXPECT_EQ(Routed(manager, "a"), 2);  // it came back
}

TEST_F(ModelRolesTest, ToPreserveResourcesTheNextWaitsForTheLastRequest) {
  source_.Move("best", 1);
  DeploymentSpec spec = Following("best");
  spec.transition = Transition::kResourcePreserving;
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", spec, ""));
  std::atomic<int> most{0};
  runtime_.SetBeforeLoad([&] { most = std::max(most.load(), runtime_.alive()); });
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<const ServingModel> request, manager.Acquire("net", ""));
  source_.Move("best", 2);
  Await(manager, [](const DeploymentStatus& now) {
    return now.versions.size() == 1 && now.versions[0].version == 2 && now.versions[0].state == ModelState::kLoading;
  });
  EXPECT_OK(Ask(*request));
  request.reset();
  AwaitVersion(manager, 2);
  EXPECT_EQ(most, 0);
}

TEST_F(ModelRolesTest, AManagerThatEndsDoesNotWaitForTheLastRequest) {
  source_.Move("best", 1);
  DeploymentSpec spec = Following("best");
  spec.transition = Transition::kResourcePreserving;
  std::shared_ptr<const ServingModel> request;
  {
    ModelManager manager(options_, source_, runtime_);
    ASSERT_OK(manager.Deploy("net", spec, ""));
    ASSERT_OK_AND_ASSIGN(request, manager.Acquire("net", ""));
    source_.Move("best", 2);
    Await(manager, [](const DeploymentStatus& now) { return now.state != ModelState::kReady; });
  }
  EXPECT_OK(Ask(*request));
}

TEST_F(ModelRolesTest, InstancesShareTheWork) {
  source_.Move("best", 1);
  DeploymentSpec spec = Following("best");
  spec.instances = 3;
  spec.batching.max_batch_size = 8;
  spec.cast.dtype = "bfloat16";
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus status, manager.Deploy("net", spec, ""));
  EXPECT_THAT(status.versions[0].note, HasSubstr("no warm-up"));
  AwaitAlive(runtime_, 3);
  EXPECT_EQ(source_.last_cast(), "bfloat16");
  ASSERT_OK_AND_ASSIGN(const auto serving, manager.Acquire("net", ""));
  EXPECT_EQ(serving->loaded->instance_count(), 3u);
  EXPECT_EQ(serving->loaded->policy().max_batch_size, 8);
}

TEST_F(ModelRolesTest, ValidatingKeepsNothing) {
  source_.Move("best", 1);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus status, manager.Deploy("net", Following("best"), "", true));
  EXPECT_EQ(status.state, ModelState::kReady);
  EXPECT_THAT(manager.Get("net"), FailsWith(Reason::MODEL_NOT_FOUND));
  AwaitAlive(runtime_, 0);
  ASSERT_OK_AND_ASSIGN(const auto records, source_.ListDeployments());
  EXPECT_THAT(records, IsEmpty());
}

TEST_F(ModelRolesTest, AnUpdateReloadsWhatItMustAndKeepsServing) {
  source_.Move("best", 1);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus before, manager.Deploy("net", Following("best"), ""));
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus selector,
                       Update(manager, [](DeploymentSpec& spec) { spec.weights->selector = "1"; }));
  EXPECT_NE(selector.etag, before.etag);
  ASSERT_OK(Update(manager, [](DeploymentSpec& spec) { spec.instances = 2; }));
  while (runtime_.alive() != 2 || runtime_.loads() != 3) {
    EXPECT_EQ(Routed(manager, "a"), 1);
  }
  EXPECT_THAT(Update(
                  manager, [](DeploymentSpec&) {}, before.etag),
              FailsWith(Reason::ETAG_MISMATCH));
  EXPECT_THAT(Update(manager, [](DeploymentSpec& spec) { spec.module = "n"; }), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(Update(manager, [](DeploymentSpec& spec) { spec.weights->run.run = "s"; }),
              FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(Update(manager, [](DeploymentSpec& spec) { spec.weights.reset(); }), FailsWith(Reason::ARGUMENT_INVALID));
  // What cannot work leaves what works.
  ASSERT_OK(Update(manager, [](DeploymentSpec& spec) { spec.device = "cuda:9"; }));
  const auto refused = Await(manager, [](const DeploymentStatus& now) { return HasRefused(now); });
  EXPECT_EQ(refused.state, ModelState::kReady);
  EXPECT_THAT(refused.reason, HasSubstr("only cpu"));
  EXPECT_EQ(Routed(manager, "a"), 1);
}

TEST_F(ModelRolesTest, UnloadedItIsKeptOverARestartAndComesBackWhenLoaded) {
  source_.Move("best", 1);
  {
    ModelManager manager(options_, source_, runtime_);
    ASSERT_OK(manager.Deploy("net", Following("best"), ""));
    ASSERT_OK(manager.Unload("net"));
    AwaitAlive(runtime_, 0);
    EXPECT_THAT(manager.Route("net", VersionRequest{}),
                FailsWith(Reason::MODEL_NOT_READY, HasSubstr("it is unloaded")));
    ASSERT_OK(manager.Unload("net"));
    EXPECT_THAT(manager.Unload("nobody"), FailsWith(Reason::MODEL_NOT_FOUND));
  }
  FakeRuntime runtime;
  ModelManager manager(options_, source_, runtime);
  ASSERT_OK(manager.Restore());
  source_.Move("best", 2);
  ASSERT_OK_AND_ASSIGN(const DeploymentStatus unloaded, manager.Get("net"));
  EXPECT_EQ(unloaded.state, ModelState::kUnloaded);
  ASSERT_OK(manager.LoadAgain("net"));
  EXPECT_EQ(Routed(manager, "a"), 2);
  ASSERT_OK(manager.LoadAgain("net"));  // already there
  ASSERT_OK(manager.Unload("net"));
  source_.SetBadVersion(2);
  EXPECT_THAT(manager.LoadAgain("net"), FailsWith(Reason::MODEL_WEIGHTS_MISMATCH));
}

TEST_F(ModelRolesTest, TheListenerHearsOfChanges) {
  source_.Move("best", 1);
  ModelManager manager(options_, source_, runtime_);
  std::atomic<int> heard{0};
  manager.SetListener([&] { ++heard; });
  ASSERT_OK(manager.Deploy("net", Following("best"), ""));
  while (heard == 0) std::this_thread::yield();
  manager.SetListener(nullptr);
  const int before = heard;
  ASSERT_OK(manager.Undeploy("net"));
  EXPECT_EQ(heard, before);
}

TEST_F(ModelRolesTest, RollbacksUnderLoadLoseNoRequest) {
  source_.Move("best", 1);
  DeploymentSpec spec = Following("best");
  spec.keep_previous = true;
  spec.canary = Canary{"latest", 0.5};
  source_.Move("latest", 2);
  ModelManager manager(options_, source_, runtime_);
  ASSERT_OK(manager.Deploy("net", spec, ""));
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, answers{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      while (!stop) {
        const auto routed = manager.Route("net", VersionRequest{});
        const auto answer = routed.ok() ? Ask(*routed->serving) : absl::StatusOr<float>(routed.status());
        if (!answer.ok() || static_cast<int64_t>(*answer) != routed->serving->version) ++wrong;
        ++answers;
      }
    });
  }
  for (int64_t version = 2; version <= 20; ++version) {
    source_.Move("best", version);
    ASSERT_OK(manager.Rollback("net", "", version));
    ASSERT_OK(manager.Rollback("net", "", 0));
    source_.Move("latest", version + 1);
    for (const int before = answers; answers == before;) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace sconce::inference
