#include "server/services/checkpoint_calls.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/server/services/service_fixture.h"

namespace sconce::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using CheckpointCallsTest = CheckpointServiceTest;

v1::GetCheckpointRequest Get(const std::string& selector) {
  v1::GetCheckpointRequest request;
  request.set_name("projects/default/runs/r/checkpoints/" + selector);
  return request;
}

TEST_F(CheckpointCallsTest, GetAnswersWithTheNumberWhateverTheSelector) {
  repository::PushOptions options;
  options.epoch = 3;
  options.labels = {{"k", "v"}};
  Push("r", SmallTree(0.5), options);
  Push("r", SmallTree(0.9));
  ASSERT_OK(repository_->SetAlias({"default", "r"}, "stable", "1", "", false));

  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint best, Call(&Stub::GetCheckpoint, Get("best")));
  EXPECT_EQ(best.name(), "projects/default/runs/r/checkpoints/1");
  EXPECT_EQ(best.version(), 1);
  EXPECT_EQ(best.kind(), v1::Checkpoint::STATE);
  EXPECT_EQ(best.state(), v1::Checkpoint::COMMITTED);
  EXPECT_EQ(best.epoch(), 3);
  EXPECT_FALSE(best.has_step());
  EXPECT_EQ(best.metrics().at("loss"), 0.5);
  EXPECT_EQ(best.labels().at("k"), "v");
  EXPECT_EQ(best.tensor_count(), 2);
  EXPECT_EQ(best.logical_bytes(), 24);
  EXPECT_GT(best.manifest_bytes(), 0);
  EXPECT_EQ(best.manifest_sha256().size(), 64u);
  EXPECT_FALSE(best.has_expire_time());
  EXPECT_THAT(best.aliases(), ElementsAre("stable"));
  EXPECT_FALSE(best.etag().empty());

  EXPECT_EQ(Call(&Stub::GetCheckpoint, Get("latest"))->version(), 2);
  EXPECT_EQ(Call(&Stub::GetCheckpoint, Get("stable"))->version(), 1);
  EXPECT_EQ(Call(&Stub::GetCheckpoint, Get("2"))->version(), 2);
}

TEST_F(CheckpointCallsTest, GetSaysWhatIsMissing) {
  EXPECT_THAT(Call(&Stub::GetCheckpoint, Get("latest")), FailsWith(Reason::RUN_NOT_FOUND));
  ASSERT_OK(repository_->CreateRun({"default", "r"}, {}, {}, {}, {}));
  EXPECT_THAT(Call(&Stub::GetCheckpoint, Get("latest")), FailsWith(Reason::LATEST_UNDEFINED));
  EXPECT_THAT(Call(&Stub::GetCheckpoint, Get("best")), FailsWith(Reason::BEST_UNDEFINED));
  EXPECT_THAT(Call(&Stub::GetCheckpoint, Get("1")), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
  EXPECT_THAT(Call(&Stub::GetCheckpoint, Get("stable")), FailsWith(Reason::ALIAS_NOT_FOUND));
  EXPECT_THAT(Call(&Stub::GetCheckpoint, Get("0")), FailsWith(Reason::SELECTOR_INVALID));
  EXPECT_THAT(Call(&Stub::GetCheckpoint, Get("v1")), FailsWith(Reason::SELECTOR_INVALID, HasSubstr("\"1\"")));
  EXPECT_THAT(Call(&Stub::GetCheckpoint, {}), FailsWith(Reason::NAME_INVALID, HasSubstr("{version}")));
}

TEST_F(CheckpointCallsTest, ListIsNewestFirstPageByPage) {
  for (int i = 0; i < 5; ++i) Push("r", SmallTree(i));
  v1::ListCheckpointsRequest request;
  request.set_parent("projects/default/runs/r");
  request.set_page_size(2);
  std::vector<int64_t> versions;
  do {
    ASSERT_OK_AND_ASSIGN(const v1::ListCheckpointsResponse page, Call(&Stub::ListCheckpoints, request));
    EXPECT_LE(page.checkpoints_size(), 2);
    for (const v1::Checkpoint& checkpoint : page.checkpoints()) versions.push_back(checkpoint.version());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(versions, ElementsAre(5, 4, 3, 2, 1));

  request.set_page_token("rubbish");
  EXPECT_THAT(Call(&Stub::ListCheckpoints, request), FailsWith(Reason::PAGE_TOKEN_INVALID));
  request.Clear();
  request.set_parent("projects/default/runs/nobody");
  EXPECT_THAT(Call(&Stub::ListCheckpoints, request), FailsWith(Reason::RUN_NOT_FOUND));
}

TEST_F(CheckpointCallsTest, ListTakesAFilterAndAnOrderAndTokensGoWithThem) {
  for (int i = 1; i <= 6; ++i) {
    repository::PushOptions options;
    options.labels = {{"parity", i % 2 == 0 ? "even" : "odd"}};
    Push("r", SmallTree(1.0 / i), options);
  }
  v1::ListCheckpointsRequest request;
  request.set_parent("projects/default/runs/r");
  request.set_page_size(2);
  request.set_filter("labels.parity = even OR metrics.loss >= 1");
  request.set_order_by("metrics.loss");
  ASSERT_OK_AND_ASSIGN(v1::ListCheckpointsResponse page, Call(&Stub::ListCheckpoints, request));
  ASSERT_EQ(page.checkpoints_size(), 2);
  EXPECT_EQ(page.checkpoints(0).version(), 6);
  EXPECT_EQ(page.checkpoints(1).version(), 4);

  request.set_page_token(page.next_page_token());
  for (const auto& [filter, order_by] : std::vector<std::pair<std::string, std::string>>{
           {"labels.parity = even", request.order_by()}, {request.filter(), "metrics.loss desc"}, {"", ""}}) {
    v1::ListCheckpointsRequest other = request;
    other.set_filter(filter);
    other.set_order_by(order_by);
    EXPECT_THAT(Call(&Stub::ListCheckpoints, other), FailsWith(Reason::PAGE_TOKEN_INVALID));
  }
  ASSERT_OK_AND_ASSIGN(page, Call(&Stub::ListCheckpoints, request));
  ASSERT_EQ(page.checkpoints_size(), 2);
  EXPECT_EQ(page.checkpoints(0).version(), 2);
  EXPECT_EQ(page.checkpoints(1).version(), 1);
  EXPECT_EQ(page.next_page_token(), "");

  request.clear_page_token();
  request.set_filter("losss < 1");
  EXPECT_THAT(Call(&Stub::ListCheckpoints, request),
              FailsWith(Reason::FILTER_INVALID, HasSubstr("byte 1: unknown field")));
  request.set_filter("");
  request.set_order_by("loss");
  EXPECT_THAT(Call(&Stub::ListCheckpoints, request), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("metrics.NAME")));
}

TEST_F(CheckpointCallsTest, UpdateSetsLabelsPinExpiryAndAddsMetrics) {
  Push("r", SmallTree(0.5));
  Push("r", SmallTree(0.4));
  v1::UpdateCheckpointRequest update;
  v1::Checkpoint& given = *update.mutable_checkpoint();
  given.set_name("projects/default/runs/r/checkpoints/1");
  (*given.mutable_labels())["k"] = "v";
  given.set_pinned(true);
  given.mutable_expire_time()->set_seconds(2'000'000'000);
  given.mutable_expire_time()->set_nanos(5);
  (*given.mutable_metrics())["accuracy"] = 0.9;
  (*given.mutable_metrics())["odd"] = std::nan("");
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint updated, Call(&Stub::UpdateCheckpoint, update));
  EXPECT_EQ(updated.labels().at("k"), "v");
  EXPECT_TRUE(updated.pinned());
  EXPECT_EQ(updated.expire_time().seconds(), 2'000'000'000);
  EXPECT_EQ(updated.metrics().at("accuracy"), 0.9);
  EXPECT_EQ(updated.metrics().at("loss"), 0.5) << "metrics are added, not replaced";
  EXPECT_TRUE(std::isnan(updated.metrics().at("odd")));

  update.Clear();
  update.mutable_checkpoint()->set_name("projects/default/runs/r/checkpoints/1");
  for (const char* path : {"pinned", "expire_time"}) update.mutable_update_mask()->add_paths(path);
  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint cleared, Call(&Stub::UpdateCheckpoint, update));
  EXPECT_FALSE(cleared.pinned());
  EXPECT_FALSE(cleared.has_expire_time());
  EXPECT_EQ(cleared.labels().at("k"), "v");
}

TEST_F(CheckpointCallsTest, UpdateRefusesWhatCannotChange) {
  const repository::Checkpoint pushed = Push("r", SmallTree(0.5));
  v1::UpdateCheckpointRequest update;
  v1::Checkpoint& given = *update.mutable_checkpoint();
  given.set_name("projects/default/runs/r/checkpoints/latest");
  (*given.mutable_metrics())["loss"] = 0.1;
  EXPECT_THAT(Call(&Stub::UpdateCheckpoint, update), FailsWith(Reason::METRIC_ALREADY_SET));
  given.clear_metrics();
  given.set_pinned(true);
  given.set_etag("\"stale\"");
  EXPECT_THAT(Call(&Stub::UpdateCheckpoint, update), FailsWith(Reason::ETAG_MISMATCH));
  given.clear_etag();
  for (const char* path : {"epoch", "step", "parent_version", "labels.k"}) {
    update.mutable_update_mask()->clear_paths();
    update.mutable_update_mask()->add_paths(path);
    EXPECT_THAT(Call(&Stub::UpdateCheckpoint, update), FailsWith(Reason::UPDATE_MASK_INVALID)) << path;
  }
  update.clear_update_mask();
  given.mutable_expire_time()->set_nanos(-1);
  EXPECT_THAT(Call(&Stub::UpdateCheckpoint, update), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("expire_time")));
  given.clear_expire_time();
  (*given.mutable_metrics())[""] = 1;
  EXPECT_THAT(Call(&Stub::UpdateCheckpoint, update), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("metrics")));

  ASSERT_OK_AND_ASSIGN(const v1::Checkpoint unchanged, Call(&Stub::GetCheckpoint, Get("1")));
  EXPECT_EQ(unchanged.etag(), pushed.etag);
  EXPECT_FALSE(unchanged.pinned());
}

TEST_F(CheckpointCallsTest, DeleteRespectsAliasesPinsAndEtags) {
  const repository::Checkpoint pushed = Push("r", SmallTree(0.5));
  ASSERT_OK(repository_->SetAlias({"default", "r"}, "stable", "1", "", false));
  v1::DeleteCheckpointRequest request;
  request.set_name("projects/default/runs/r/checkpoints/1");
  EXPECT_THAT(Call(&Stub::DeleteCheckpoint, request), FailsWith(Reason::CHECKPOINT_PROTECTED, HasSubstr("stable")));
  request.set_force(true);
  request.set_etag("\"stale\"");
  EXPECT_THAT(Call(&Stub::DeleteCheckpoint, request), FailsWith(Reason::ETAG_MISMATCH));
  request.clear_etag();
  request.set_validate_only(true);
  EXPECT_OK(Call(&Stub::DeleteCheckpoint, request));
  EXPECT_OK(Call(&Stub::GetCheckpoint, Get("1"))) << "validate_only changes nothing";
  request.set_validate_only(false);
  EXPECT_OK(Call(&Stub::DeleteCheckpoint, request));
  EXPECT_THAT(Call(&Stub::GetCheckpoint, Get("1")), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
  EXPECT_THAT(Call(&Stub::DeleteCheckpoint, request), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
  request.set_allow_missing(true);
  EXPECT_OK(Call(&Stub::DeleteCheckpoint, request));
}

}  // namespace
}  // namespace sconce::services
