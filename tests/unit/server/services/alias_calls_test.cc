#include <string>
#include <vector>

#include "tests/unit/server/services/service_fixture.h"

namespace sconce::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kRun[] = "projects/default/runs/r";

class AliasCallsTest : public CheckpointServiceTest {
 protected:
  AliasCallsTest() {
    Push("r", SmallTree(0.5));
    Push("r", SmallTree(0.9));
  }
  static v1::SetAliasRequest Set(const std::string& alias, const std::string& selector) {
    v1::SetAliasRequest request;
    request.set_name(std::string(kRun) + "/aliases/" + alias);
    request.set_selector(selector);
    return request;
  }
};

TEST_F(AliasCallsTest, AnAliasPointsWhereTheSelectorPointedThen) {
  ASSERT_OK_AND_ASSIGN(const v1::Alias set, Call(&Stub::SetAlias, Set("stable", "best")));
  EXPECT_EQ(set.name(), "projects/default/runs/r/aliases/stable");
  EXPECT_EQ(set.version(), 1);
  EXPECT_FALSE(set.etag().empty());
  EXPECT_GT(set.update_time().seconds(), 1'600'000'000);
  Push("r", SmallTree(0.1));
  v1::GetAliasRequest get;
  get.set_name(set.name());
  ASSERT_OK_AND_ASSIGN(const v1::Alias got, Call(&Stub::GetAlias, get));
  EXPECT_EQ(got.SerializeAsString(), set.SerializeAsString());
}

TEST_F(AliasCallsTest, CompareAndSwap) {
  ASSERT_OK_AND_ASSIGN(const v1::Alias first, Call(&Stub::SetAlias, Set("a", "1")));
  v1::SetAliasRequest move = Set("a", "2");
  move.set_must_be_new(true);
  EXPECT_THAT(Call(&Stub::SetAlias, move), FailsWith(Reason::ETAG_MISMATCH));
  move.set_must_be_new(false);
  move.set_etag(first.etag());
  ASSERT_OK_AND_ASSIGN(const v1::Alias second, Call(&Stub::SetAlias, move));
  EXPECT_EQ(second.version(), 2);
  EXPECT_THAT(Call(&Stub::SetAlias, move), FailsWith(Reason::ETAG_MISMATCH)) << "the first etag is spent";
}

TEST_F(AliasCallsTest, ListIsByNameAndPaged) {
  for (const char* alias : {"c", "a", "b"}) ASSERT_OK(Call(&Stub::SetAlias, Set(alias, "1")));
  v1::ListAliasesRequest request;
  request.set_parent(kRun);
  request.set_page_size(2);
  std::vector<std::string> names;
  do {
    ASSERT_OK_AND_ASSIGN(const v1::ListAliasesResponse page, Call(&Stub::ListAliases, request));
    for (const v1::Alias& alias : page.aliases()) names.push_back(alias.name().substr(alias.name().rfind('/') + 1));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(names, ElementsAre("a", "b", "c"));
}

TEST_F(AliasCallsTest, WrongNamesAndMissingThingsAreSaid) {
  EXPECT_THAT(Call(&Stub::SetAlias, Set("best", "1")), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(Call(&Stub::SetAlias, Set("a", "")), FailsWith(Reason::SELECTOR_INVALID));
  EXPECT_THAT(Call(&Stub::SetAlias, Set("a", "9")), FailsWith(Reason::CHECKPOINT_NOT_FOUND));
  v1::SetAliasRequest set = Set("a", "1");
  set.set_name("projects/default/runs/nobody/aliases/a");
  EXPECT_THAT(Call(&Stub::SetAlias, set), FailsWith(Reason::RUN_NOT_FOUND));
  v1::GetAliasRequest get;
  get.set_name(std::string(kRun) + "/aliases/nobody");
  EXPECT_THAT(Call(&Stub::GetAlias, get), FailsWith(Reason::ALIAS_NOT_FOUND, HasSubstr("nobody")));
}

TEST_F(AliasCallsTest, DeleteChecksTheEtag) {
  ASSERT_OK_AND_ASSIGN(const v1::Alias alias, Call(&Stub::SetAlias, Set("a", "1")));
  v1::DeleteAliasRequest request;
  request.set_name(alias.name());
  request.set_etag("\"stale\"");
  EXPECT_THAT(Call(&Stub::DeleteAlias, request), FailsWith(Reason::ETAG_MISMATCH));
  request.set_etag(alias.etag());
  EXPECT_OK(Call(&Stub::DeleteAlias, request));
  request.clear_etag();
  EXPECT_THAT(Call(&Stub::DeleteAlias, request), FailsWith(Reason::ALIAS_NOT_FOUND));
}

}  // namespace
}  // namespace sconce::services
