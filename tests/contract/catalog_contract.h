#ifndef SCONCE_TESTS_CONTRACT_CATALOG_CONTRACT_H_
#define SCONCE_TESTS_CONTRACT_CATALOG_CONTRACT_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/catalog/catalog.h"
#include "tests/support/status_matchers.h"

// What every Catalog promises. Instantiate with a type that has `std::unique_ptr<Catalog> Open()` (the same contents
// each time where `kDurable`; the catalog opened before is gone by then) and `static constexpr bool kDurable`. A
// catalog that is kept in a directory also has `std::string NewPath()`, a name in a directory that is there, and
// `std::unique_ptr<CatalogReader> OpenCopy(path)`, of what Checkpoint made; a place without them, a `kDurable` of
// false.
namespace sconce::catalog {

using Pairs = std::vector<std::pair<std::string, std::string>>;

inline Pairs ScanAll(const CatalogReader& reader, const std::string& begin, const std::string& end,
                     bool reverse = false, size_t limit = SIZE_MAX) {
  Pairs found;
  EXPECT_OK(reader.Scan(begin, end, reverse, [&](absl::string_view key, absl::string_view value) {
    found.emplace_back(std::string(key), std::string(value));
    return found.size() < limit;
  }));
  return found;
}

inline ChangeSet Puts(Pairs puts) {
  ChangeSet change;
  change.puts = std::move(puts);
  return change;
}

template <typename Place>
class CatalogContract : public ::testing::Test {
 protected:
  Place place_;
  std::unique_ptr<Catalog> catalog_ = place_.Open();
};

TYPED_TEST_SUITE_P(CatalogContract);

TYPED_TEST_P(CatalogContract, GetFindsWhatWasPutAndNothingElse) {
  ASSERT_OK(
      this->catalog_->Apply(Puts({{"xa", "1"}, {std::string("x\0b", 3), std::string("\0\xff", 2)}, {"xempty", ""}})));
  ASSERT_OK_AND_ASSIGN(auto a, this->catalog_->Get("xa"));
  EXPECT_EQ(a, "1");
  ASSERT_OK_AND_ASSIGN(auto binary, this->catalog_->Get(absl::string_view("x\0b", 3)));
  EXPECT_EQ(binary, std::string("\0\xff", 2));
  ASSERT_OK_AND_ASSIGN(auto empty, this->catalog_->Get("xempty"));
  EXPECT_EQ(empty, "");
  ASSERT_OK_AND_ASSIGN(auto absent, this->catalog_->Get("x"));
  EXPECT_EQ(absent, std::nullopt);
}

TYPED_TEST_P(CatalogContract, MultiGetKeepsTheOrderOfItsKeys) {
  ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}, {"xb", "2"}})));
  const std::vector<std::string> keys = {"xb", "xnone", "xa", "xb"};
  ASSERT_OK_AND_ASSIGN(const auto values, this->catalog_->MultiGet(keys));
  EXPECT_THAT(values,
              ::testing::ElementsAre(::testing::Optional(std::string("2")), ::testing::Eq(std::nullopt),
                                     ::testing::Optional(std::string("1")), ::testing::Optional(std::string("2"))));
}

TYPED_TEST_P(CatalogContract, ScanVisitsTheHalfOpenRangeBothWays) {
  ASSERT_OK(this->catalog_->Apply(Puts({{"xb", "2"}, {"xa", "1"}, {"xc", "3"}, {"xb\x01", "4"}, {"xd", "5"}})));
  EXPECT_EQ(ScanAll(*this->catalog_, "xa", "xd"), (Pairs{{"xa", "1"}, {"xb", "2"}, {"xb\x01", "4"}, {"xc", "3"}}));
  EXPECT_EQ(ScanAll(*this->catalog_, "xa", "xd", true),
            (Pairs{{"xc", "3"}, {"xb\x01", "4"}, {"xb", "2"}, {"xa", "1"}}));
  EXPECT_EQ(ScanAll(*this->catalog_, "xc", ""), (Pairs{{"xc", "3"}, {"xd", "5"}}));
  EXPECT_EQ(ScanAll(*this->catalog_, "xc", "", true), (Pairs{{"xd", "5"}, {"xc", "3"}}));
  EXPECT_EQ(ScanAll(*this->catalog_, "xb", "xb"), Pairs{});
  EXPECT_EQ(ScanAll(*this->catalog_, "xe", ""), Pairs{});
}

TYPED_TEST_P(CatalogContract, ScanStopsWhenToldTo) {
  ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}, {"xb", "2"}, {"xc", "3"}})));
  EXPECT_EQ(ScanAll(*this->catalog_, "x", "y", false, 2), (Pairs{{"xa", "1"}, {"xb", "2"}}));
  EXPECT_EQ(ScanAll(*this->catalog_, "x", "y", true, 1), (Pairs{{"xc", "3"}}));
}

TYPED_TEST_P(CatalogContract, DeletesAndPutsAreOneStep) {
  ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}, {"xb", "2"}})));
  ChangeSet change = Puts({{"xc", "3"}, {"xb", "new"}});
  change.deletes = {"xa", "xb", "xnever"};
  ASSERT_OK(this->catalog_->Apply(change));
  EXPECT_EQ(ScanAll(*this->catalog_, "x", "y"), (Pairs{{"xb", "new"}, {"xc", "3"}}));
}

TYPED_TEST_P(CatalogContract, AFailedConditionNamesItsKeyAndChangesNothing) {
  ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}, {"xb", "2"}})));
  const std::vector<Condition> broken = {{"xa", "2"}, {"xa", std::nullopt}, {"xnone", "1"}, {"xa", ""}};
  for (const Condition& condition : broken) {
    ChangeSet change = Puts({{"xb", "changed"}});
    change.conditions = {{"xb", "2"}, condition};
    change.deletes = {"xa"};
    change.log = {"entry"};
    const auto result = this->catalog_->Apply(change);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kAborted);
    EXPECT_EQ(FailedConditionKey(result.status()), condition.key);
    EXPECT_EQ(ScanAll(*this->catalog_, "x", "y"), (Pairs{{"xa", "1"}, {"xb", "2"}}));
    EXPECT_EQ(ScanAll(*this->catalog_, "l", "m"), Pairs{});
  }
}

TYPED_TEST_P(CatalogContract, ConditionsThatHoldLetTheChangeThrough) {
  ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}})));
  ChangeSet change = Puts({{"xa", "2"}, {"xb", "new"}});
  change.conditions = {{"xa", "1"}, {"xb", std::nullopt}};
  ASSERT_OK(this->catalog_->Apply(change));
  EXPECT_EQ(ScanAll(*this->catalog_, "x", "y"), (Pairs{{"xa", "2"}, {"xb", "new"}}));
  EXPECT_EQ(this->catalog_->Apply(change).status().code(), absl::StatusCode::kAborted);
}

TYPED_TEST_P(CatalogContract, LogEntriesGetConsecutiveRevisions) {
  ChangeSet two = Puts({{"xa", "1"}});
  two.log = {"first", "second"};
  ASSERT_OK_AND_ASSIGN(const int64_t second, this->catalog_->Apply(two));
  EXPECT_EQ(second, 2);
  ASSERT_OK_AND_ASSIGN(const int64_t unchanged, this->catalog_->Apply(Puts({{"xa", "2"}})));
  EXPECT_EQ(unchanged, 2);
  ChangeSet one;
  one.log = {"third"};
  ASSERT_OK_AND_ASSIGN(const int64_t third, this->catalog_->Apply(one));
  EXPECT_EQ(third, 3);
  EXPECT_EQ(ScanAll(*this->catalog_, "l", "m"),
            (Pairs{{LogKey(1), "first"}, {LogKey(2), "second"}, {LogKey(3), "third"}}));
}

TYPED_TEST_P(CatalogContract, ASnapshotDoesNotSeeLaterChanges) {
  ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}, {"xb", "2"}})));
  const std::unique_ptr<CatalogReader> snapshot = this->catalog_->Snapshot();
  ChangeSet change = Puts({{"xa", "changed"}, {"xc", "3"}});
  change.deletes = {"xb"};
  ASSERT_OK(this->catalog_->Apply(change));
  EXPECT_EQ(ScanAll(*snapshot, "x", "y"), (Pairs{{"xa", "1"}, {"xb", "2"}}));
  ASSERT_OK_AND_ASSIGN(const auto a, snapshot->Get("xa"));
  EXPECT_EQ(a, "1");
  EXPECT_EQ(ScanAll(*this->catalog_, "x", "y"), (Pairs{{"xa", "changed"}, {"xc", "3"}}));
}

TYPED_TEST_P(CatalogContract, ConcurrentIncrementsLoseNothing) {
  constexpr int kThreads = 8, kIncrements = 25;
  ASSERT_OK(this->catalog_->Apply(Puts({{"xcount", "0"}})));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      for (int done = 0; done < kIncrements;) {
        const auto before = this->catalog_->Get("xcount");
        ASSERT_OK(before);
        ChangeSet change = Puts({{"xcount", absl::StrCat(std::stoi(before->value()) + 1)}});
        change.conditions = {{"xcount", *before}};
        change.log = {absl::StrCat(t)};
        const auto applied = this->catalog_->Apply(change);
        if (applied.ok()) {
          ++done;
        } else {
          ASSERT_EQ(FailedConditionKey(applied.status()), "xcount");
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK_AND_ASSIGN(const auto count, this->catalog_->Get("xcount"));
  EXPECT_EQ(count, absl::StrCat(kThreads * kIncrements));
  EXPECT_EQ(ScanAll(*this->catalog_, "l", "m").size(), size_t{kThreads * kIncrements});
}

TYPED_TEST_P(CatalogContract, AHugeChangeIsOneStep) {
  constexpr int kRecords = 100000;
  ChangeSet change;
  for (int i = 0; i < kRecords; ++i) {
    const std::string key = absl::StrCat("x", i, std::string(40, 'k'));
    change.conditions.push_back({key, std::nullopt});
    change.puts.emplace_back(key, std::string(64, 'v'));
    change.puts.emplace_back(absl::StrCat("y", i, std::string(50, 'r')), "");
  }
  change.log = {"huge"};
  ASSERT_OK(this->catalog_->Apply(change));
  EXPECT_EQ(ScanAll(*this->catalog_, "x", "y").size(), size_t{kRecords});
  EXPECT_EQ(ScanAll(*this->catalog_, "y", "z").size(), size_t{kRecords});
  EXPECT_EQ(FailedConditionKey(this->catalog_->Apply(change).status()), change.conditions[0].key);
}

TYPED_TEST_P(CatalogContract, WhatWasAppliedIsThereAfterReopening) {
  if (!TypeParam::kDurable) GTEST_SKIP() << "this catalog forgets by design";
  for (int64_t round = 1; round <= 3; ++round) {
    ChangeSet change = Puts({{absl::StrCat("x", round), "v"}});
    change.log = {absl::StrCat("entry ", round)};
    ASSERT_OK_AND_ASSIGN(const int64_t revision, this->catalog_->Apply(change));
    EXPECT_EQ(revision, round);
    this->catalog_.reset();
    this->catalog_ = this->place_.Open();
    EXPECT_EQ(ScanAll(*this->catalog_, "x", "y").size(), size_t(round));
    EXPECT_EQ(ScanAll(*this->catalog_, "l", "m").size(), size_t(round));
  }
}

TYPED_TEST_P(CatalogContract, WhatNobodyDamagedVerifies) {
  EXPECT_OK(this->catalog_->Verify());
  ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}, {"xb", "2"}})));
  EXPECT_OK(this->catalog_->Verify());
}

TYPED_TEST_P(CatalogContract, ACheckpointIsACatalogOfItsOwnAsOfOneMoment) {
  if constexpr (!TypeParam::kDurable) {
    EXPECT_THAT(this->catalog_->Checkpoint("/nowhere"), FailsWith(Reason::NOT_IMPLEMENTED));
  } else {
    ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}, {"xb", "1"}})));
    const std::string path = this->place_.NewPath();
    ASSERT_OK(this->catalog_->Checkpoint(path));
    const Pairs then = ScanAll(*this->catalog_, "", "");
    ChangeSet later = Puts({{"xa", "2"}});
    later.deletes = {"xb"};
    ASSERT_OK(this->catalog_->Apply(later));
    {
      const auto copy = this->place_.OpenCopy(path);
      EXPECT_EQ(ScanAll(*copy, "", ""), then);
    }
    // An empty one, and one of nothing new.
    ASSERT_OK(this->catalog_->Checkpoint(this->place_.NewPath()));
    ASSERT_OK(this->catalog_->Checkpoint(this->place_.NewPath()));
    ASSERT_OK_AND_ASSIGN(const auto a, this->catalog_->Get("xa"));
    EXPECT_EQ(a, "2") << "the original goes on";
    EXPECT_OK(this->catalog_->Verify());
  }
}

TYPED_TEST_P(CatalogContract, ACheckpointDoesNotWriteWhereSomethingIs) {
  if constexpr (TypeParam::kDurable) {
    ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "1"}})));
    const std::string path = this->place_.NewPath();
    ASSERT_OK(this->catalog_->Checkpoint(path));
    ASSERT_OK(this->catalog_->Apply(Puts({{"xa", "2"}})));
    EXPECT_FALSE(this->catalog_->Checkpoint(path).ok());
    ASSERT_OK_AND_ASSIGN(const auto a, this->place_.OpenCopy(path)->Get("xa"));
    EXPECT_EQ(a, "1") << "the first copy stays as it was";
    ASSERT_OK(this->catalog_->Apply(Puts({{"xb", "3"}}))) << "changes go on after a refusal";
  }
}

// Each change moves one unit between two keys and counts itself in a third: whatever is missing shows.
TYPED_TEST_P(CatalogContract, CheckpointsAmongChangesHoldAllOfEachChangeOrNothing) {
  if constexpr (TypeParam::kDurable) {
    constexpr int kChanges = 300;
    ASSERT_OK(this->catalog_->Apply(Puts({{"xfrom", absl::StrCat(kChanges)}, {"xto", "0"}})));
    std::atomic<int> applied{0};
    std::thread writer([&] {
      for (int i = 1; i <= kChanges; ++i) {
        ChangeSet change = Puts({{"xfrom", absl::StrCat(kChanges - i)}, {"xto", absl::StrCat(i)}});
        change.puts.emplace_back("xpadding", std::string(2000, static_cast<char>('a' + i % 26)));
        change.log.push_back(absl::StrCat("entry ", i));
        ASSERT_OK(this->catalog_->Apply(change));
        applied = i;
      }
    });
    std::vector<std::pair<int, std::string>> copies;  // and how many changes were acknowledged before
    while (applied < kChanges) {
      const int before = applied;
      copies.emplace_back(before, this->place_.NewPath());
      const absl::Status made = this->catalog_->Checkpoint(copies.back().second);
      EXPECT_OK(made);
      if (!made.ok()) break;
    }
    writer.join();
    for (const auto& [before, path] : copies) {
      const auto copy = this->place_.OpenCopy(path);
      ASSERT_OK_AND_ASSIGN(const auto from, copy->Get("xfrom"));
      ASSERT_OK_AND_ASSIGN(const auto to, copy->Get("xto"));
      const int moved = std::stoi(*to);
      EXPECT_GE(moved, before) << "an acknowledged change is missing";
      EXPECT_EQ(std::stoi(*from) + moved, kChanges) << "half a change";
      EXPECT_EQ(ScanAll(*copy, "l", "m").size(), static_cast<size_t>(moved));
    }
    EXPECT_GE(copies.size(), 1u);
  }
}

REGISTER_TYPED_TEST_SUITE_P(CatalogContract, GetFindsWhatWasPutAndNothingElse, MultiGetKeepsTheOrderOfItsKeys,
                            ScanVisitsTheHalfOpenRangeBothWays, ScanStopsWhenToldTo, DeletesAndPutsAreOneStep,
                            AFailedConditionNamesItsKeyAndChangesNothing, ConditionsThatHoldLetTheChangeThrough,
                            LogEntriesGetConsecutiveRevisions, ASnapshotDoesNotSeeLaterChanges,
                            ConcurrentIncrementsLoseNothing, AHugeChangeIsOneStep, WhatWasAppliedIsThereAfterReopening,
                            WhatNobodyDamagedVerifies, ACheckpointIsACatalogOfItsOwnAsOfOneMoment,
                            ACheckpointDoesNotWriteWhereSomethingIs,
                            CheckpointsAmongChangesHoldAllOfEachChangeOrNothing);

}  // namespace sconce::catalog

#endif  // SCONCE_TESTS_CONTRACT_CATALOG_CONTRACT_H_
