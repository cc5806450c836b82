// AdminService.PreviewRetention, over a real channel: what it answers is what the next commit does.
#include <string>
#include <vector>

#include "sconce/v1/admin_service.grpc.pb.h"
#include "server/services/admin_service.h"
#include "tests/unit/server/services/service_fixture.h"

namespace sconce::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AdminRetentionTest : public CheckpointServiceTest {
 protected:
  AdminRetentionTest() {
    admin_ = MakeAdminService(runtime_, *repository_, "test");
    admin_server_ = std::make_unique<InProcessServer>(std::vector<grpc::Service*>{admin_.get()});
    admin_stub_ = v1::AdminService::NewStub(admin_server_->channel());
    // 1 has an alias, 2 nothing, 3 is pinned, 4 the best, 5 nothing, 6 the newest.
    for (const double loss : {0.9, 0.8, 0.7, 0.1, 0.6, 0.5}) {
      repository::PushOptions options;
      options.pinned = loss == 0.7;
      Push("r", SmallTree(loss), options);
    }
    EXPECT_OK(repository_->SetAlias({"default", "r"}, "prod", "1", "", false));
  }

  absl::StatusOr<v1::PreviewRetentionResponse> Preview(const v1::PreviewRetentionRequest& request) {
    grpc::ClientContext context;
    v1::PreviewRetentionResponse response;
    const absl::Status status = wire::FromGrpcStatus(admin_stub_->PreviewRetention(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  static v1::PreviewRetentionRequest KeepLast(int64_t count) {
    v1::PreviewRetentionRequest request;
    request.set_run("projects/default/runs/r");
    request.mutable_retention()->set_keep_last(count);
    return request;
  }

  // "6 newest version" or "-5 no rule", newest first.
  static std::vector<std::string> Lines(const v1::PreviewRetentionResponse& response) {
    std::vector<std::string> lines;
    for (const auto& decision : response.decisions()) {
      const std::string& name = decision.checkpoint();
      EXPECT_EQ(name.rfind("projects/default/runs/r/checkpoints/", 0), 0u) << name;
      lines.push_back((decision.deleted() ? "-" : "") + name.substr(name.rfind('/') + 1) + " " + decision.reason());
    }
    return lines;
  }

  std::unique_ptr<grpc::Service> admin_;
  std::unique_ptr<InProcessServer> admin_server_;
  std::unique_ptr<v1::AdminService::Stub> admin_stub_;
};

TEST_F(AdminRetentionTest, APolicyIsTriedAndNothingGoes) {
  ASSERT_OK_AND_ASSIGN(const auto tried, Preview(KeepLast(1)));
  EXPECT_THAT(Lines(tried), ElementsAre(HasSubstr("6 the newest version"), HasSubstr("-5 no rule keeps it"),
                                        HasSubstr("4 what `best` means"), HasSubstr("3 pinned"),
                                        HasSubstr("-2 no rule keeps it"), HasSubstr("1 named by alias prod")));
  EXPECT_EQ(tried.next_page_token(), "");
  ASSERT_OK_AND_ASSIGN(const auto there, repository_->ListCheckpoints({"default", "r"}, "", 10));
  EXPECT_EQ(there.items.size(), 6u);
}

TEST_F(AdminRetentionTest, WithoutAPolicyTheRunsOwnCounts) {
  v1::PreviewRetentionRequest request;
  request.set_run("projects/default/runs/r");
  ASSERT_OK_AND_ASSIGN(const auto none, Preview(request));
  for (const auto& decision : none.decisions()) EXPECT_FALSE(decision.deleted()) << "a run without rules keeps all";
  repository::RunUpdate update;
  update.retention = repository::RetentionRule{2, 0, 0, {}};
  // Set, and not yet looked at by a commit: what is shown goes then.
  ASSERT_OK(repository_->UpdateRun({"default", "r"}, update));
  ASSERT_OK_AND_ASSIGN(const auto own, Preview(request));
  for (const auto& decision : own.decisions()) {
    const bool second = decision.checkpoint() == "projects/default/runs/r/checkpoints/2";
    EXPECT_EQ(decision.deleted(), second) << decision.checkpoint();
  }
}

TEST_F(AdminRetentionTest, PagesGoOnWhereTheyStopped) {
  v1::PreviewRetentionRequest request = KeepLast(1);
  request.set_page_size(4);
  ASSERT_OK_AND_ASSIGN(const auto first, Preview(request));
  ASSERT_EQ(first.decisions_size(), 4);
  request.set_page_token(first.next_page_token());
  ASSERT_OK_AND_ASSIGN(const auto second, Preview(request));
  EXPECT_THAT(Lines(second), ElementsAre(HasSubstr("-2 "), HasSubstr("1 ")));
  EXPECT_EQ(second.next_page_token(), "");
  v1::PreviewRetentionRequest other = KeepLast(2);
  other.set_page_token(first.next_page_token());
  EXPECT_THAT(Preview(other), FailsWith(Reason::PAGE_TOKEN_INVALID)) << "the token of another policy";
}

TEST_F(AdminRetentionTest, WhatCannotBeIsRefused) {
  v1::PreviewRetentionRequest request = KeepLast(-1);
  EXPECT_THAT(Preview(request), FailsWith(Reason::ARGUMENT_INVALID));
  request = KeepLast(1);
  request.set_run("projects/default/runs/none");
  EXPECT_THAT(Preview(request), FailsWith(Reason::RUN_NOT_FOUND));
  request.set_run("r");
  EXPECT_THAT(Preview(request), FailsWith(Reason::NAME_INVALID));
  request = KeepLast(1);
  request.set_page_size(-1);
  EXPECT_FALSE(Preview(request).ok());
}

}  // namespace
}  // namespace sconce::services
