#include "storage/repository/store_totals.h"

#include <gtest/gtest.h>

#include "storage/catalog/keys.h"
#include "storage/repository/record_codec.h"
#include "tests/support/memory_catalog.h"
#include "tests/support/status_matchers.h"

namespace sconce::repository {
namespace {

// Counts the records it gives, in a place that outlives it.
class CountingReader final : public catalog::CatalogReader {
 public:
  CountingReader(std::unique_ptr<catalog::CatalogReader> inner, int64_t& visited, bool& alive)
      : inner_(std::move(inner)), visited_(visited), alive_(alive) {
    alive_ = true;
  }
  ~CountingReader() override { alive_ = false; }
  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override { return inner_->Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    return inner_->MultiGet(keys);
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    return inner_->Scan(begin, end, reverse, [&](absl::string_view key, absl::string_view value) {
      ++visited_;
      return visit(key, value);
    });
  }

 private:
  const std::unique_ptr<catalog::CatalogReader> inner_;
  int64_t& visited_;
  bool& alive_;
};

std::string RunBytes(uint64_t uid, int64_t checkpoints, bool hidden = false) {
  records::RunRecord run;
  run.set_uid(uid);
  run.set_checkpoint_count(checkpoints);
  run.set_hidden(hidden);
  return run.SerializeAsString();
}

class StoreTotalsTest : public ::testing::Test {
 protected:
  StoreTotalsTest() {
    catalog::ChangeSet change;
    change.puts.emplace_back(catalog::ProjectKey("p"), "");
    for (uint64_t uid = 1; uid <= 4; ++uid) {
      change.puts.emplace_back(catalog::RunKey(uid), RunBytes(uid, 10, uid == 4));
    }
    EXPECT_OK(catalog_.Apply(change));
    totals_.Begin(std::make_unique<CountingReader>(catalog_.Snapshot(), visited_, alive_));
  }
  // Run 1 has `count` versions now, and had `before`.
  void Note(int64_t before, int64_t count) {
    catalog::ChangeSet change;
    change.conditions.push_back({catalog::RunKey(1), RunBytes(1, before)});
    change.puts.emplace_back(catalog::RunKey(1), RunBytes(1, before));  // of a key put twice, the last put counts
    change.puts.emplace_back(catalog::RunKey(1), RunBytes(1, count));
    EXPECT_OK(catalog_.Apply(change));
    totals_.Note(change);
  }

  int64_t visited_ = 0;
  bool alive_ = false;
  catalog::MemoryCatalog catalog_;
  StoreTotals totals_;
};

TEST_F(StoreTotalsTest, ReadTheCatalogOnceAndLetItGo) {
  EXPECT_EQ(visited_, 0);
  ASSERT_OK_AND_ASSIGN(const StoreTotals::Totals first, totals_.Get());
  EXPECT_EQ(first.projects, 1);
  EXPECT_EQ(first.runs, 3);
  EXPECT_EQ(first.checkpoints, 30);
  EXPECT_EQ(visited_, 5);
  EXPECT_FALSE(alive_);
  Note(10, 12);
  ASSERT_OK_AND_ASSIGN(const StoreTotals::Totals second, totals_.Get());
  EXPECT_EQ(second.checkpoints, 32);
  EXPECT_EQ(visited_, 5);
}

TEST_F(StoreTotalsTest, AChangeBeforeTheFirstCountIsCountedOnce) {
  Note(10, 12);
  ASSERT_OK_AND_ASSIGN(const StoreTotals::Totals totals, totals_.Get());
  EXPECT_EQ(totals.runs, 3);
  EXPECT_EQ(totals.checkpoints, 32);
}

TEST_F(StoreTotalsTest, AHiddenRunCountsFromItsFirstVersionOn) {
  catalog::ChangeSet change;
  change.conditions.push_back({catalog::RunKey(4), RunBytes(4, 0, true)});
  change.puts.emplace_back(catalog::RunKey(4), RunBytes(4, 1));
  totals_.Note(change);
  change = {};
  change.conditions.push_back({catalog::RunKey(1), RunBytes(1, 10)});
  change.deletes.push_back(catalog::RunKey(1));
  totals_.Note(change);
  ASSERT_OK_AND_ASSIGN(const StoreTotals::Totals totals, totals_.Get());
  EXPECT_EQ(totals.runs, 3);
  EXPECT_EQ(totals.checkpoints, 21);
}

}  // namespace
}  // namespace sconce::repository
