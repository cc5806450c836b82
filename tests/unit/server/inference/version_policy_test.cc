#include "server/inference/version_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>

namespace sconce::inference {
namespace {

VersionAction Load(int64_t version, int64_t generation = 1) {
  return {VersionAction::kLoad, {version, generation}};
}
VersionAction Unload(int64_t version, int64_t generation = 1) {
  return {VersionAction::kUnload, {version, generation}};
}
VersionAction Promote(int64_t version, int64_t generation = 1) {
  return {VersionAction::kPromote, {version, generation}};
}
const VersionAction kNothing;

// Wants `wanted`, and `serving` is what there is.
VersionSnapshot Snapshot(int64_t wanted, int64_t serving) {
  VersionSnapshot now;
  now.wanted.serving = wanted;
  if (serving != 0) {
    now.serving = {serving, 1};
    now.last_served = serving;
    now.loaded = {now.serving};
  }
  return now;
}

TEST(VersionPolicyTest, LoadsWhatIsWantedBesideWhatServesThenSwaps) {
  EXPECT_EQ(NextAction(Snapshot(3, 0)), Load(3));
  EXPECT_EQ(NextAction(Snapshot(3, 2)), Load(3));
  EXPECT_EQ(NextAction(Snapshot(2, 3)), Load(2));  // best may go back
  VersionSnapshot now = Snapshot(3, 2);
  now.loaded.push_back({3, 1});
  EXPECT_EQ(NextAction(now), Promote(3));
  now.serving = {3, 1};
  EXPECT_EQ(NextAction(now), Unload(2));
  now.loaded = {{3, 1}};
  EXPECT_EQ(NextAction(now), kNothing);
}

TEST(VersionPolicyTest, DoesNothingWhileNothingIsKnownToBeWanted) {
  EXPECT_EQ(NextAction(Snapshot(0, 2)), kNothing);
  EXPECT_EQ(NextAction(Snapshot(0, 0)), kNothing);
}

TEST(VersionPolicyTest, ARefusedVersionIsNotTriedAgainAndTheOldOneServes) {
  VersionSnapshot now = Snapshot(3, 2);
  now.refused = {3};
  EXPECT_EQ(NextAction(now), kNothing);
}

TEST(VersionPolicyTest, KeepsThePreviousOneWhenAsked) {
  VersionSnapshot now = Snapshot(3, 3);
  now.loaded = {{2, 1}, {3, 1}};
  now.previous = {2, 1};
  EXPECT_EQ(NextAction(now), Unload(2));
  now.keep_previous = true;
  EXPECT_EQ(NextAction(now), kNothing);
  now.wanted.serving = 2;  // a rollback
  EXPECT_EQ(NextAction(now), Promote(2));
}

TEST(VersionPolicyTest, ToPreserveResourcesTheOldOneGoesFirst) {
  VersionSnapshot now = Snapshot(3, 2);
  now.transition = Transition::kResourcePreserving;
  EXPECT_EQ(NextAction(now), Unload(2));
  now.loaded.clear();
  now.serving = {};
  EXPECT_EQ(NextAction(now), Load(3));
  now.refused = {3};
  EXPECT_EQ(NextAction(now), Load(2));  // what served comes back
  now.refused = {2, 3};
  EXPECT_EQ(NextAction(now), kNothing);
}

TEST(VersionPolicyTest, CanaryAndShadowComeAfterWhatServesAndGoFirst) {
  VersionSnapshot now = Snapshot(3, 0);
  now.wanted.canary = 4;
  now.wanted.shadow = 5;
  EXPECT_EQ(NextAction(now), Load(3));
  now = Snapshot(3, 3);
  now.wanted.canary = 4;
  now.wanted.shadow = 5;
  EXPECT_EQ(NextAction(now), Load(4));
  now.refused = {4};
  EXPECT_EQ(NextAction(now), Load(5));
  now.loaded = {{3, 1}, {5, 1}, {6, 1}};
  EXPECT_EQ(NextAction(now), Unload(6));
}

TEST(VersionPolicyTest, OneThatHasAnotherRoleAlreadyIsNotLoadedTwice) {
  VersionSnapshot now = Snapshot(3, 3);
  now.wanted.canary = 3;
  now.wanted.shadow = 3;
  EXPECT_EQ(NextAction(now), kNothing);
}

TEST(VersionPolicyTest, AChangedDeploymentIsLoadedAgainBesideTheOldOne) {
  VersionSnapshot now = Snapshot(3, 3);
  now.generation = 2;
  EXPECT_EQ(NextAction(now), Load(3, 2));
  now.loaded.push_back({3, 2});
  EXPECT_EQ(NextAction(now), Promote(3, 2));
  now.serving = {3, 2};
  now.previous = {3, 1};
  now.keep_previous = true;  // not across a change: it would be served as it was before
  EXPECT_EQ(NextAction(now), Unload(3, 1));
  VersionSnapshot refused = Snapshot(3, 3);
  refused.generation = 2;
  refused.refused = {3};
  EXPECT_EQ(NextAction(refused), kNothing);
}

TEST(VersionPolicyTest, UnloadedMeansNothingIsInMemory) {
  VersionSnapshot now = Snapshot(3, 3);
  now.wanted.canary = 4;
  now.unloaded = true;
  EXPECT_EQ(NextAction(now), Unload(3));
  now.loaded.clear();
  now.serving = {};
  EXPECT_EQ(NextAction(now), kNothing);
}

// Takes the steps that the policy says until it says nothing, with loads that may fail, and checks what must hold all
// the way: it comes to an end; with availability before memory there is always one that serves once one did.
TEST(VersionPolicyTest, WhateverIsWantedItComesToAnEndAndNeverStopsServing) {
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int64_t>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 3000; ++round) {
    VersionSnapshot now;
    now.transition = below(3) == 0 ? Transition::kResourcePreserving : Transition::kAvailabilityPreserving;
    now.keep_previous = below(2) == 0;
    std::set<int64_t> bad;
    if (below(2) == 0) bad.insert(1 + below(5));
    bool has_served = false;
    for (int change = 0; change < 8; ++change) {
      now.wanted = {1 + below(5), below(5), below(5)};
      if (below(5) == 0) ++now.generation;
      now.refused.clear();
      int steps = 0;
      for (VersionAction action = NextAction(now); action.kind != VersionAction::kNothing; action = NextAction(now)) {
        ASSERT_LT(++steps, 50);
        const auto there = std::find(now.loaded.begin(), now.loaded.end(), action.which);
        if (action.kind == VersionAction::kLoad) {
          ASSERT_EQ(there, now.loaded.end());
          ASSERT_LE(now.loaded.size(), 5u);
          if (bad.count(action.which.version) != 0) {
            now.refused.push_back(action.which.version);
          } else {
            now.loaded.push_back(action.which);
          }
          continue;
        }
        ASSERT_NE(there, now.loaded.end());
        if (action.kind == VersionAction::kPromote) {
          now.previous = now.serving;
          now.serving = action.which;
          now.last_served = action.which.version;
          has_served = true;
          continue;
        }
        if (now.serving == action.which) {
          ASSERT_EQ(now.transition, Transition::kResourcePreserving);
          now.serving = {};
        }
        if (now.previous == action.which) now.previous = {};
        now.loaded.erase(there);
      }
      if (bad.count(now.wanted.serving) == 0) {
        ASSERT_EQ(now.serving, (VersionId{now.wanted.serving, now.generation}));
      }
      ASSERT_TRUE(!has_served || now.serving.version != 0);
    }
  }
}

TEST(CanaryTest, TheSameIdGoesTheSameWayAndTheShareIsTheWeight) {
  int to_canary = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string id = "request-" + std::to_string(i);
    const bool goes = GoesToCanary("net", id, 0.2);
    EXPECT_EQ(goes, GoesToCanary("net", id, 0.2));
    EXPECT_TRUE(!goes || GoesToCanary("net", id, 0.3)) << "a larger share keeps those it had";
    to_canary += goes ? 1 : 0;
  }
  EXPECT_NEAR(to_canary, 4000, 250);
  EXPECT_FALSE(GoesToCanary("net", "a", 0));
  EXPECT_TRUE(GoesToCanary("net", "a", 1));
}

}  // namespace
}  // namespace sconce::inference
