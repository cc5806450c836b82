#include "storage/repository/checkpoint_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/version_index.h"
#include "storage/repository/local_repository.h"
#include "storage/repository/lookup.h"
#include "tests/support/memory_blob_store.h"
#include "tests/support/memory_catalog.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::repository {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Counts the keys that are read.
class CountingReader : public catalog::CatalogReader {
 public:
  CountingReader(std::unique_ptr<catalog::CatalogReader> reader, std::atomic<int64_t>& count)
      : reader_(std::move(reader)), count_(count) {}

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override {
    ++count_;
    return reader_->Get(key);
  }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    count_ += static_cast<int64_t>(keys.size());
    return reader_->MultiGet(keys);
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    return reader_->Scan(begin, end, reverse, [&](absl::string_view key, absl::string_view value) {
      ++count_;
      return visit(key, value);
    });
  }

 private:
  std::unique_ptr<catalog::CatalogReader> reader_;
  std::atomic<int64_t>& count_;
};

// A catalog in memory whose snapshots count.
class CountingCatalog final : public catalog::Catalog {
 public:
  explicit CountingCatalog(std::atomic<int64_t>& count) : count_(count) {}

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override { return catalog_.Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    return catalog_.MultiGet(keys);
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    return catalog_.Scan(begin, end, reverse, visit);
  }
  absl::StatusOr<int64_t> Apply(const catalog::ChangeSet& change) override { return catalog_.Apply(change); }
  absl::Status Verify() const override { return catalog_.Verify(); }
  std::unique_ptr<catalog::CatalogReader> Snapshot() const override {
    return std::make_unique<CountingReader>(catalog_.Snapshot(), count_);
  }

 private:
  catalog::MemoryCatalog catalog_;
  std::atomic<int64_t>& count_;
};

void AddMetric(const std::string& name, double value, records::CheckpointRecord& record) {
  records::MetricEntry& metric = *record.add_metrics();
  metric.set_name(name);
  metric.set_value(value);
}
void AddLabel(const std::string& key, const std::string& value, records::CheckpointRecord& record) {
  records::LabelEntry& label = *record.add_labels();
  label.set_key(key);
  label.set_value(value);
}
void Put(uint64_t run_uid, const records::CheckpointRecord& record, catalog::ChangeSet& change) {
  change.puts.emplace_back(catalog::CheckpointKey(run_uid, record.version()), record.SerializeAsString());
  catalog::Reindex(run_uid, nullptr, &record, change);
}

// All pages of the list.
absl::StatusOr<std::vector<int64_t>> All(const catalog::CatalogReader& reader, const records::RunRecord& run,
                                         const CheckpointQuery& query, int64_t limit) {
  std::vector<int64_t> versions;
  std::string start;
  do {
    auto page = ListByQuery(reader, run, query, start, limit);
    if (!page.ok()) return page.status();
    EXPECT_LE(page->items.size(), limit);
    EXPECT_TRUE(page->next.empty() || page->next != start);
    for (const Checkpoint& checkpoint : page->items) versions.push_back(checkpoint.version);
    start = page->next;
  } while (!start.empty());
  return versions;
}

// A repository with one run of 10,000 versions, and what a page of its list reads.
class ListCostTest : public ::testing::Test {
 protected:
  static constexpr int64_t kVersions = 10'000;
  static constexpr int64_t kPage = 20;

  ListCostTest() {
    auto catalog = std::make_unique<CountingCatalog>(reads_);
    catalog::Catalog* const records = catalog.get();
    RepositoryOptions options;
    options.data_dir = dir_ / "data";
    std::filesystem::create_directories(dir_ / "data/uploads");
    auto assembled =
        LocalRepository::Assemble(options, std::nullopt, std::move(catalog), std::make_unique<blob::MemoryBlobStore>());
    EXPECT_OK(assembled);
    repository_ = *std::move(assembled);
    EXPECT_OK(repository_->CreateRun(kRun, {}, {}, {}, {}));
    auto run = FindRun(*records, kRun);
    EXPECT_OK(run);
    run->record.set_next_version(kVersions + 1);
    run->record.set_checkpoint_count(kVersions);
    catalog::ChangeSet change;
    change.puts.emplace_back(run->key, run->record.SerializeAsString());
    for (int64_t i = 1; i <= kVersions; ++i) Put(run->record.uid(), Version(i), change);
    EXPECT_OK(records->Apply(change));
    EXPECT_OK(repository_->SetAlias(kRun, "prod", "42", "", false));
  }

  static records::CheckpointRecord Version(int64_t i) {
    records::CheckpointRecord record;
    record.set_version(i);
    record.set_step(10 * i);
    record.set_create_time_ns(i * 1'000'000'000);
    AddMetric("loss", static_cast<double>(i * 7919 % kVersions) / kVersions, record);
    if (i % 1000 == 0) AddMetric("val", 1 / static_cast<double>(i), record);
    AddLabel("stage", i % 2000 == 1 ? "final" : "warm", record);
    AddLabel("sweep", absl::StrCat(i % 100), record);
    record.set_pinned(i == 77);
    record.set_manifest_corrupt(i == 99);
    if (i == 5000) record.set_kind(records::CHECKPOINT_KIND_OPAQUE);
    return record;
  }

  // The first page, and that it took at most `reads` reads.
  Page<Checkpoint> Read(const std::string& filter, const std::string& order_by, int64_t reads,
                        const std::string& start = "") {
    const auto query = ParseCheckpointQuery(filter, order_by);
    EXPECT_OK(query);
    reads_ = 0;
    const auto page = repository_->ListCheckpoints(kRun, *query, start, kPage);
    EXPECT_OK(page);
    EXPECT_LE(reads_, reads) << filter << " by " << order_by;
    return page.value_or(Page<Checkpoint>());
  }
  static std::vector<int64_t> Versions(const Page<Checkpoint>& page) {
    std::vector<int64_t> versions;
    for (const Checkpoint& checkpoint : page.items) versions.push_back(checkpoint.version);
    return versions;
  }

  const RunName kRun{"default", "r"};
  const TempDir dir_;
  std::atomic<int64_t> reads_{0};
  std::unique_ptr<Repository> repository_;
};

constexpr int64_t kLookups = 5;  // project, run name, run, the alias

TEST_F(ListCostTest, APageWithoutAFilterReadsThePage) {
  const Page<Checkpoint> page = Read("", "", kLookups + kPage + 1);
  EXPECT_EQ(page.items.size(), kPage);
  EXPECT_EQ(page.items[0].version, kVersions);
  EXPECT_EQ(Read("", "version", kLookups + kPage + 1).items[0].version, 1);
}

TEST_F(ListCostTest, ASelectiveConditionReadsWhatItSelects) {
  const auto selects = [&](const std::string& filter, std::vector<int64_t> expected) {
    const Page<Checkpoint> page = Read(filter, "", kLookups + 2 * static_cast<int64_t>(expected.size()) + 2);
    EXPECT_EQ(Versions(page), expected) << filter;
    EXPECT_EQ(page.next, "") << filter;
  };
  selects("labels.stage = final", {8001, 6001, 4001, 2001, 1});
  selects("labels.stage < g", {8001, 6001, 4001, 2001, 1});
  selects("metrics.val:*", {10000, 9000, 8000, 7000, 6000, 5000, 4000, 3000, 2000, 1000});
  selects("metrics.val < 0.00015", {10000, 9000, 8000, 7000});
  selects("metrics.loss < 0.0003", {10000, 7679, 5358});
  selects("step >= 50 AND step < 100", {9, 8, 7, 6, 5});
  selects("step = 70", {7});
  selects("create_time < 1970-01-01T00:00:03.5Z", {3, 2, 1});
  selects("pinned = true", {77});
  selects("state = QUARANTINED", {99});
  selects("kind = OPAQUE", {5000});
  selects("aliases:prod", {42});
  selects("labels.stage = none", {});
  EXPECT_THAT(Versions(Read("state = QUARANTINED AND metrics.loss >= 0", "", kLookups + 70)), ElementsAre(99));
  selects("version = 6 OR labels.stage = final OR step = 130", {8001, 6001, 4001, 2001, 13, 6, 1});
}

TEST_F(ListCostTest, OneThatSelectsManyReadsAPageOfThem) {
  // Key and record of each, one more, and a first look at what would be a small set.
  const int64_t page = kLookups + 2 * (kPage + 1);
  EXPECT_THAT(Versions(Read("labels.sweep = 7", "", page)).back(), 10'000 - 93 - 19 * 100);
  EXPECT_EQ(Read("labels.stage = warm", "", page).items.size(), kPage);
  EXPECT_EQ(Read("metrics.loss >= 0", "", page + 65).items.size(), kPage);
  EXPECT_EQ(Read("step > 5 AND labels:stage AND metrics.loss < 1", "", page + 3 * 65).items.size(), kPage);
  EXPECT_EQ(Read("version < 5000 AND version > 10", "", page).items[0].version, 4999);
}

TEST_F(ListCostTest, AnOrderByValueReadsItsIndex) {
  const int64_t page = kLookups + 2 * (kPage + 1);
  EXPECT_EQ(Read("", "metrics.loss", page).items[0].metrics.at("loss"), 0);
  EXPECT_EQ(Read("", "metrics.loss desc", page + kPage).items[0].metrics.at("loss"), 0.9999);
  EXPECT_EQ(Read("", "step", page).items[0].version, 1);
  EXPECT_EQ(Read("step > 500", "step", page).items[0].version, 51);
  EXPECT_EQ(Read("", "create_time desc", page + kPage).items[0].version, kVersions);
  EXPECT_THAT(Versions(Read("", "epoch", kLookups)), IsEmpty());
  EXPECT_THAT(Versions(Read("labels.stage = final", "metrics.val", page)), IsEmpty());
  EXPECT_THAT(Versions(Read("labels.stage = final AND step < 50000", "metrics.loss", page)),
              ElementsAre(4001, 2001, 1));
  EXPECT_EQ(Read("labels.stage = warm", "metrics.loss", page + 65).items.size(), kPage);
}

TEST_F(ListCostTest, WhatNoIndexHasIsLookedForInBoundedSteps) {
  // Only version 1 is like that, and nothing says so but the records.
  int64_t calls = 0;
  std::vector<int64_t> found;
  std::string start;
  do {
    const Page<Checkpoint> page = Read("NOT step >= 20", "", kLookups + static_cast<int64_t>(kMaxLooks) + 2, start);
    for (const int64_t version : Versions(page)) found.push_back(version);
    start = page.next;
    ++calls;
  } while (!start.empty());
  EXPECT_THAT(found, ElementsAre(1));
  EXPECT_EQ(calls, kVersions / static_cast<int64_t>(kMaxLooks));
}

TEST_F(ListCostTest, AnIndexedConditionOnOldVersionsIsFoundAtOnce) {
  // 3000 versions, none among the newest 6000: too many for the first look, few enough for the second.
  const Page<Checkpoint> page = Read("step > 10000 AND step <= 40000", "", 5000);
  EXPECT_EQ(page.items.size(), kPage);
  EXPECT_EQ(page.items[0].version, 4000);
}

TEST_F(ListCostTest, APlaceOfAnotherListIsRefused) {
  const auto by_loss = ParseCheckpointQuery("", "metrics.loss");
  ASSERT_OK(by_loss);
  for (const char* bad : {"7", "x.7", "7.x", "7.0", ".7", "7.", "-1.7", "1.2.3"}) {
    EXPECT_THAT(repository_->ListCheckpoints(kRun, *by_loss, bad, 1), FailsWith(Reason::PAGE_TOKEN_INVALID)) << bad;
  }
  EXPECT_THAT(repository_->ListCheckpoints(kRun, CheckpointQuery(), "1.7", 1), FailsWith(Reason::PAGE_TOKEN_INVALID));
}

// Random runs and random filters, against the plain answer.
class Randomly {
 public:
  explicit Randomly(uint64_t seed) : random_(seed) {}

  int64_t Below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(random_); }
  template <typename T>
  const T& OneOf(const std::vector<T>& choices) {
    return choices[static_cast<size_t>(Below(static_cast<int64_t>(choices.size())))];
  }

  records::CheckpointRecord Version(int64_t version) {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    records::CheckpointRecord record;
    record.set_version(version);
    record.set_create_time_ns(1'000'000'000 * (version / 3 + Below(3)));
    if (Below(3) > 0) record.set_epoch(version / 500);
    if (Below(5) > 0) record.set_step(Below(2000) - 1000);
    if (Below(4) > 0) AddMetric("loss", static_cast<double>(Below(1000)) / 100 - 5, record);
    if (Below(3) == 0) AddMetric("acc", OneOf<double>({-kInf, -1, 0, -0.0, 0.5, 1, kInf, std::nan("")}), record);
    if (Below(200) == 0) AddMetric("rare", static_cast<double>(Below(5)), record);
    if (Below(2) == 0) AddLabel("stage", OneOf<std::string>({"", "final", "warm", "warmer"}), record);
    if (Below(300) == 0) AddLabel("rare", absl::StrCat(Below(3)), record);
    record.set_pinned(Below(100) == 0);
    record.set_manifest_corrupt(Below(50) == 0);
    if (Below(40) == 0) record.set_kind(records::CHECKPOINT_KIND_OPAQUE);
    return record;
  }

  std::string Filter(int depth = 0) {
    if (depth < 3 && Below(2) == 0) {
      std::string text = Filter(depth + 1);
      const std::string joined = OneOf<std::string>({" AND ", " AND ", " OR "});
      for (int64_t more = Below(3); more >= 0; --more) absl::StrAppend(&text, joined, Filter(depth + 1));
      return absl::StrCat(Below(6) == 0 ? "NOT (" : "(", text, ")");
    }
    return absl::StrCat(Below(8) == 0 ? "-" : "", Comparison());
  }

  std::string Order() {
    return absl::StrCat(OneOf<std::string>({"version", "version", "create_time", "epoch", "step", "metrics.loss",
                                            "metrics.acc", "metrics.rare"}),
                        OneOf<std::string>({"", " desc"}));
  }

 private:
  std::string Comparator() { return OneOf<std::string>({" = ", " != ", " < ", " <= ", " > ", " >= ", ":"}); }
  std::string Comparison() {
    switch (Below(12)) {
      case 0:
        return absl::StrCat("version", Comparator(), Below(7000) - 100);
      case 1:
        return absl::StrCat("epoch", Comparator(), Below(14));
      case 2:
        return absl::StrCat("step", Comparator(), Below(2000) - 1000);
      case 3:
        return absl::StrCat("metrics.loss", Comparator(), static_cast<double>(Below(1000)) / 100 - 5);
      case 4:
        return absl::StrCat("metrics.acc", Comparator(), OneOf<std::string>({"-inf", "-1", "0", "0.7", "inf"}));
      case 5:
        return absl::StrCat("metrics.rare", Comparator(), Below(5));
      case 6:
        return absl::StrCat("labels.stage", Comparator(), OneOf<std::string>({"''", "final", "warm", "'warmer'"}));
      case 7:
        return absl::StrCat("labels.rare", Comparator(), Below(3));
      case 8:
        return absl::StrCat("create_time", Comparator(),
                            absl::FormatTime(absl::FromUnixSeconds(Below(2100)), absl::UTCTimeZone()));
      case 9:
        return OneOf<std::string>({"state = QUARANTINED", "kind = OPAQUE", "pinned = true", "pinned != false",
                                   "state != COMMITTED", "kind = STATE", "state:*"});
      case 10:
        return OneOf<std::string>({"labels:stage", "labels:rare", "metrics:acc", "metrics:rare", "epoch:*", "step:*",
                                   "metrics.acc:*", "labels.rare:*"});
      default:
        return OneOf<std::string>({"aliases:prod", "aliases:none", "aliases:second"});
    }
  }

  std::mt19937_64 random_;
};

// Whether the order lists it, and by what.
std::optional<double> Value(const Checkpoint& c, const CheckpointOrder& order) {
  const auto whole = [](const std::optional<int64_t>& n) {
    return n ? std::optional<double>(static_cast<double>(*n)) : std::nullopt;
  };
  if (order.field == FilterField::kVersion) return static_cast<double>(c.version);
  if (order.field == FilterField::kEpoch) return whole(c.epoch);
  if (order.field == FilterField::kTrainStep) return whole(c.step);
  if (order.field == FilterField::kCreateTime) return absl::ToDoubleSeconds(c.create_time - absl::UnixEpoch());
  const auto metric = c.metrics.find(order.metric);
  if (metric == c.metrics.end() || std::isnan(metric->second)) return std::nullopt;
  return metric->second;
}

std::vector<int64_t> Plainly(const std::vector<Checkpoint>& versions, const CheckpointQuery& query) {
  std::vector<std::pair<double, int64_t>> listed;
  for (const Checkpoint& checkpoint : versions) {
    const std::optional<double> value = Value(checkpoint, query.order);
    if (value && Matches(query.filter, checkpoint)) listed.emplace_back(*value, checkpoint.version);
  }
  std::sort(listed.begin(), listed.end(), [&](const auto& a, const auto& b) {
    if (a.first != b.first) return query.order.descending ? a.first > b.first : a.first < b.first;
    return a.second > b.second;
  });
  std::vector<int64_t> answer;
  for (const auto& entry : listed) answer.push_back(entry.second);
  return answer;
}

class RandomListTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(RandomListTest, PagesAddUpToThePlainAnswer) {
  constexpr int64_t kVersions = 6000;  // more than any bound of a call
  Randomly random(GetParam());
  records::RunRecord run;
  run.set_uid(9);
  run.set_next_version(kVersions + 1);
  catalog::MemoryCatalog catalog;
  catalog::ChangeSet change;
  std::vector<Checkpoint> versions;
  for (int64_t version = 1; version <= kVersions; ++version) {
    if (random.Below(10) == 0) continue;  // deleted
    const records::CheckpointRecord record = random.Version(version);
    Put(run.uid(), record, change);
    versions.push_back(ToCheckpoint({}, record));
  }
  for (const char* alias : {"prod", "second"}) {
    Checkpoint& named = versions[static_cast<size_t>(random.Below(static_cast<int64_t>(versions.size())))];
    named.aliases.push_back(alias);
    records::AliasRecord record;
    record.set_version(named.version);
    change.puts.emplace_back(catalog::AliasKey(run.uid(), alias), record.SerializeAsString());
  }
  ASSERT_OK(catalog.Apply(change));
  const auto snapshot = catalog.Snapshot();
  int64_t listed = 0;
  for (int i = 0; i < 60; ++i) {
    std::string text = random.Filter();
    while (!ParseCheckpointFilter(text).ok()) text = random.Filter();  // some fields do not take some comparators
    const std::string order = random.Order();
    const auto query = ParseCheckpointQuery(text, order);
    ASSERT_OK(query);
    const int64_t limit = random.OneOf<int64_t>({7, 40, 300, 1000});
    const auto pages = All(*snapshot, run, *query, limit);
    ASSERT_OK(pages);
    ASSERT_EQ(*pages, Plainly(versions, *query)) << text << " by " << order << ", pages of " << limit;
    listed += static_cast<int64_t>(pages->size());
  }
  EXPECT_GT(listed, 10'000);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomListTest, ::testing::Range(uint64_t{1}, uint64_t{9}));

}  // namespace
}  // namespace sconce::repository
