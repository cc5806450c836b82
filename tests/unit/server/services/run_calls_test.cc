#include <string>
#include <vector>

#include "tests/unit/server/services/service_fixture.h"

namespace sconce::services {
namespace {

using ::testing::HasSubstr;
using RunCallsTest = CheckpointServiceTest;

v1::CreateRunRequest Create(const std::string& id, const std::string& request_id = "") {
  v1::CreateRunRequest request;
  request.set_run_id(id);
  request.set_request_id(request_id);
  return request;
}

v1::GetRunRequest Get(const std::string& id) {
  v1::GetRunRequest request;
  request.set_name("projects/default/runs/" + id);
  return request;
}

TEST_F(RunCallsTest, ACreatedRunHasWhatWasGivenAndTheDefaults) {
  v1::CreateRunRequest request = Create("resnet");
  request.set_parent("projects/vision");
  (*request.mutable_run()->mutable_labels())["team"] = "a";
  request.mutable_run()->mutable_best_rule()->set_metric("accuracy");
  request.mutable_run()->mutable_best_rule()->set_goal(v1::BestRule::MAXIMIZE);
  request.mutable_run()->mutable_retention()->set_keep_last(3);
  request.mutable_run()->mutable_retention()->mutable_keep_younger_than()->set_seconds(90);
  ASSERT_OK_AND_ASSIGN(const v1::Run run, Call(&Stub::CreateRun, request));
  EXPECT_EQ(run.name(), "projects/vision/runs/resnet");
  EXPECT_FALSE(run.uid().empty());
  EXPECT_FALSE(run.etag().empty());
  EXPECT_EQ(run.labels().at("team"), "a");
  EXPECT_EQ(run.best_rule().metric(), "accuracy");
  EXPECT_EQ(run.best_rule().goal(), v1::BestRule::MAXIMIZE);
  EXPECT_EQ(run.retention().keep_last(), 3);
  EXPECT_EQ(run.retention().keep_younger_than().seconds(), 90);
  EXPECT_GT(run.create_time().seconds(), 1'600'000'000);

  ASSERT_OK_AND_ASSIGN(const v1::Run plain, Call(&Stub::CreateRun, Create("plain")));
  EXPECT_EQ(plain.name(), "projects/default/runs/plain");
  EXPECT_EQ(plain.best_rule().metric(), "loss");
  EXPECT_EQ(plain.best_rule().goal(), v1::BestRule::MINIMIZE);
  EXPECT_FALSE(plain.has_retention());

  v1::GetRunRequest get;
  get.set_name(run.name());
  ASSERT_OK_AND_ASSIGN(const v1::Run got, Call(&Stub::GetRun, get));
  EXPECT_EQ(got.SerializeAsString(), run.SerializeAsString());
}

TEST_F(RunCallsTest, CreatingTwiceIsAnErrorUnlessItIsTheSameRequest) {
  ASSERT_OK_AND_ASSIGN(const v1::Run run, Call(&Stub::CreateRun, Create("r", "id-1")));
  ASSERT_OK_AND_ASSIGN(const v1::Run again, Call(&Stub::CreateRun, Create("r", "id-1")));
  EXPECT_EQ(again.uid(), run.uid());
  EXPECT_THAT(Call(&Stub::CreateRun, Create("r", "id-2")), FailsWith(Reason::RUN_ALREADY_EXISTS));
  EXPECT_THAT(Call(&Stub::CreateRun, Create("other", "id-1")), FailsWith(Reason::REQUEST_ID_REUSED));
}

TEST_F(RunCallsTest, BadArgumentsOfCreateAreNamedAndChangeNothing) {
  EXPECT_THAT(Call(&Stub::CreateRun, Create("..")), FailsWith(Reason::NAME_INVALID, HasSubstr("run id \"..\"")));
  EXPECT_THAT(Call(&Stub::CreateRun, Create("")), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(Call(&Stub::CreateRun, Create("r", "two words")),
              FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("request_id")));
  v1::CreateRunRequest request = Create("r");
  request.set_parent("projects/-");
  EXPECT_THAT(Call(&Stub::CreateRun, request), FailsWith(Reason::NAME_INVALID));

  request = Create("r");
  (*request.mutable_run()->mutable_labels())[std::string(64, 'k')] = "";
  EXPECT_THAT(Call(&Stub::CreateRun, request), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("labels")));
  request = Create("r");
  (*request.mutable_run()->mutable_labels())["k"] = std::string(256, 'v');
  EXPECT_THAT(Call(&Stub::CreateRun, request), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("labels")));
  request = Create("r");
  for (int i = 0; i < 65; ++i) (*request.mutable_run()->mutable_labels())["k" + std::to_string(i)] = "v";
  EXPECT_THAT(Call(&Stub::CreateRun, request), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("at most 64")));
  request = Create("r");
  request.mutable_run()->mutable_best_rule()->set_goal(static_cast<v1::BestRule::Goal>(9));
  EXPECT_THAT(Call(&Stub::CreateRun, request), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("best_rule.goal")));
  request = Create("r");
  request.mutable_run()->mutable_retention()->set_keep_last(-1);
  EXPECT_THAT(Call(&Stub::CreateRun, request), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("retention")));

  EXPECT_THAT(Call(&Stub::GetRun, Get("r")), FailsWith(Reason::RUN_NOT_FOUND, HasSubstr("r")));
}

TEST_F(RunCallsTest, ListsGoThroughAllPagesOfOneProjectOrAll) {
  for (const char* project : {"projects/a", "projects/b"}) {
    for (int i = 0; i < 3; ++i) {
      v1::CreateRunRequest request = Create("r" + std::to_string(i));
      request.set_parent(project);
      ASSERT_OK(Call(&Stub::CreateRun, request));
    }
  }
  const auto list = [this](const std::string& parent, int32_t page_size) {
    std::vector<std::string> names;
    v1::ListRunsRequest request;
    request.set_parent(parent);
    request.set_page_size(page_size);
    do {
      const auto page = Call(&Stub::ListRuns, request);
      EXPECT_OK(page);
      if (!page.ok()) break;
      EXPECT_LE(page->runs_size(), page_size);
      for (const v1::Run& run : page->runs()) names.push_back(run.name());
      request.set_page_token(page->next_page_token());
    } while (!request.page_token().empty());
    return names;
  };
  const std::vector<std::string> all = {"projects/a/runs/r0", "projects/a/runs/r1", "projects/a/runs/r2",
                                        "projects/b/runs/r0", "projects/b/runs/r1", "projects/b/runs/r2"};
  for (const int32_t page_size : {1, 2, 4, 6, 50}) {
    EXPECT_EQ(list("", page_size), all);
    EXPECT_EQ(list("projects/-", page_size), all);
    EXPECT_EQ(list("projects/a", page_size), std::vector<std::string>(all.begin(), all.begin() + 3));
  }
  EXPECT_TRUE(list("projects/nobody", 10).empty());

  v1::ListRunsRequest request;
  request.set_page_size(-1);
  EXPECT_THAT(Call(&Stub::ListRuns, request), FailsWith(Reason::ARGUMENT_INVALID));
  request.set_page_size(2);
  ASSERT_OK_AND_ASSIGN(const v1::ListRunsResponse page, Call(&Stub::ListRuns, request));
  request.set_page_token(page.next_page_token());
  request.set_parent("projects/a");
  EXPECT_THAT(Call(&Stub::ListRuns, request), FailsWith(Reason::PAGE_TOKEN_INVALID));
}

TEST_F(RunCallsTest, APageOfLargeRunsEndsBeforeTheAnswerIsTooLarge) {
  for (int i = 0; i < 120; ++i) {
    v1::CreateRunRequest request = Create("run" + std::to_string(i));
    for (int k = 0; k < 64; ++k) (*request.mutable_run()->mutable_labels())[std::to_string(k)] = std::string(255, 'v');
    ASSERT_OK(Call(&Stub::CreateRun, request));
  }
  v1::ListRunsRequest request;
  request.set_page_size(1000);
  int runs = 0;
  int pages = 0;
  do {
    ASSERT_OK_AND_ASSIGN(const v1::ListRunsResponse page, Call(&Stub::ListRuns, request));
    EXPECT_LT(page.ByteSizeLong(), size_t{4} << 20);
    runs += page.runs_size();
    ++pages;
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(runs, 120);
  EXPECT_GT(pages, 1);
}

TEST_F(RunCallsTest, UpdateChangesWhatTheMaskNames) {
  v1::CreateRunRequest create = Create("r");
  (*create.mutable_run()->mutable_labels())["old"] = "1";
  create.mutable_run()->mutable_retention()->set_keep_last(5);
  ASSERT_OK_AND_ASSIGN(const v1::Run run, Call(&Stub::CreateRun, create));

  v1::UpdateRunRequest update;
  update.mutable_run()->set_name(run.name());
  (*update.mutable_run()->mutable_labels())["new"] = "2";
  ASSERT_OK_AND_ASSIGN(const v1::Run relabelled, Call(&Stub::UpdateRun, update));
  EXPECT_EQ(relabelled.labels().count("old"), 0u) << "the populated field replaces";
  EXPECT_EQ(relabelled.labels().at("new"), "2");
  EXPECT_EQ(relabelled.retention().keep_last(), 5) << "the unset field stays";
  EXPECT_NE(relabelled.etag(), run.etag());

  update.Clear();
  update.mutable_run()->set_name(run.name());
  update.mutable_update_mask()->add_paths("labels");
  ASSERT_OK_AND_ASSIGN(const v1::Run emptied, Call(&Stub::UpdateRun, update));
  EXPECT_TRUE(emptied.labels().empty()) << "named and empty is cleared";

  update.mutable_update_mask()->clear_paths();
  update.mutable_update_mask()->add_paths("*");
  ASSERT_OK_AND_ASSIGN(const v1::Run reset, Call(&Stub::UpdateRun, update));
  EXPECT_FALSE(reset.has_retention());
  EXPECT_EQ(reset.best_rule().metric(), "loss");
}

TEST_F(RunCallsTest, UpdateChecksEtagAndMask) {
  ASSERT_OK_AND_ASSIGN(const v1::Run run, Call(&Stub::CreateRun, Create("r")));
  v1::UpdateRunRequest update;
  *update.mutable_run() = run;
  update.mutable_run()->set_etag("\"stale\"");
  EXPECT_THAT(Call(&Stub::UpdateRun, update), FailsWith(Reason::ETAG_MISMATCH));
  update.mutable_run()->set_etag(run.etag());
  EXPECT_OK(Call(&Stub::UpdateRun, update));

  update.mutable_run()->clear_etag();
  for (const char* path : {"name", "uid", "create_time", "etag"}) update.mutable_update_mask()->add_paths(path);
  EXPECT_OK(Call(&Stub::UpdateRun, update)) << "output-only fields are ignored";
  update.mutable_update_mask()->add_paths("colour");
  EXPECT_THAT(Call(&Stub::UpdateRun, update), FailsWith(Reason::UPDATE_MASK_INVALID, HasSubstr("\"colour\"")));

  update.Clear();
  update.mutable_run()->set_name("projects/default/runs/nobody");
  EXPECT_THAT(Call(&Stub::UpdateRun, update), FailsWith(Reason::RUN_NOT_FOUND));
  update.mutable_run()->clear_name();
  EXPECT_THAT(Call(&Stub::UpdateRun, update), FailsWith(Reason::NAME_INVALID));
}

TEST_F(RunCallsTest, DeleteNeedsForceWhenThereIsSomethingInIt) {
  Push("r", SmallTree(0.5));
  v1::DeleteRunRequest request;
  request.set_name("projects/default/runs/r");
  EXPECT_THAT(Call(&Stub::DeleteRun, request), FailsWith(Reason::RUN_NOT_EMPTY));
  request.set_etag("\"stale\"");
  request.set_force(true);
  EXPECT_THAT(Call(&Stub::DeleteRun, request), FailsWith(Reason::ETAG_MISMATCH));
  EXPECT_OK(Call(&Stub::GetRun, Get("r")));
  request.clear_etag();
  EXPECT_OK(Call(&Stub::DeleteRun, request));
  EXPECT_THAT(Call(&Stub::GetRun, Get("r")), FailsWith(Reason::RUN_NOT_FOUND));
  EXPECT_THAT(Call(&Stub::DeleteRun, request), FailsWith(Reason::RUN_NOT_FOUND));
  request.set_allow_missing(true);
  EXPECT_OK(Call(&Stub::DeleteRun, request));
}

}  // namespace
}  // namespace sconce::services
