// WatchCheckpoints over real sockets.
#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "proto/wire/status.h"
#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "server/rpc/runtime.h"
#include "server/services/checkpoint_service.h"
#include "server/services/watch_hub.h"
#include "storage/repository/repository.h"
#include "tests/support/in_process_server.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::services {
namespace {

using ::testing::ElementsAre;
using Message = v1::WatchCheckpointsResponse;

// A client's watch. It reads only as far as it is told to.
class Watch final : public grpc::ClientReadReactor<Message> {
 public:
  Watch(v1::CheckpointService::Stub& stub, const std::string& parent, int64_t after, bool reads = true) {
    request_.set_parent(parent);
    request_.set_after_revision(after);
    stub.async()->WatchCheckpoints(&context_, &request_, this);
    if (reads) StartRead(&message_);
    AddHold();  // for Cancel
    StartCall();
  }
  ~Watch() override {
    Cancel();
    End().IgnoreError();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    {
      MutexLock lock(&mu_);
      if (message_.event() == Message::EVENT_UNSPECIFIED) {
        ++heartbeats_;
      } else {
        events_.push_back(message_);
      }
      last_revision_ = message_.revision();
      changed_.SignalAll();
    }
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override {
    MutexLock lock(&mu_);
    status_ = wire::FromGrpcStatus(status);
    done_ = true;
    changed_.SignalAll();
  }

  std::vector<Message> WaitForEvents(size_t count) {
    MutexLock lock(&mu_);
    while (events_.size() < count && !done_) changed_.Wait(&mu_);
    return events_;
  }
  int64_t WaitForHeartbeats(int count) {
    MutexLock lock(&mu_);
    while (heartbeats_ < count && !done_) changed_.Wait(&mu_);
    return last_revision_;
  }
  void Cancel() {
    if (!std::exchange(released_, true)) {
      context_.TryCancel();
      RemoveHold();
    }
  }
  // How it ended.
  absl::Status End() {
    if (!std::exchange(released_, true)) RemoveHold();
    MutexLock lock(&mu_);
    while (!done_) changed_.Wait(&mu_);
    return status_;
  }

 private:
  grpc::ClientContext context_;
  v1::WatchCheckpointsRequest request_;
  Message message_;
  bool released_ = false;
  Mutex mu_;
  CondVar changed_;
  std::vector<Message> events_ ABSL_GUARDED_BY(mu_);
  int heartbeats_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t last_revision_ ABSL_GUARDED_BY(mu_) = 0;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

class WatchTest : public ::testing::Test {
 protected:
  explicit WatchTest(WatchOptions options = {}) : options_(options) { Start(); }
  ~WatchTest() override { Stop(); }

  void Start() {
    repository::RepositoryOptions options;
    options.data_dir = folder_ / "data";
    options.min_free_bytes = 0;
    auto opened = repository::Repository::Open(options);
    SCONCE_CHECK(opened.ok());
    repository_ = *std::move(opened);
    runtime_ = std::make_unique<rpc::CallRuntime>(rpc::RuntimeOptions());
    hub_ = std::make_unique<WatchHub>(*runtime_, *repository_, options_);
    service_ = MakeCheckpointService(*runtime_, *repository_, *hub_);
    server_ = std::make_unique<InProcessServer>(std::vector<grpc::Service*>{service_.get()});
    stub_ = v1::CheckpointService::NewStub(server_->channel());
  }
  void Stop() {
    hub_->EndWatches();
    stub_.reset();
    server_.reset();
    service_.reset();
    hub_.reset();
    runtime_.reset();
    repository_.reset();
  }

  int64_t Push(const std::string& run, double loss, const std::string& label = "") {
    repository::PushOptions options;
    options.run = {"default", run};
    options.metrics = {{"loss", loss}};
    if (!label.empty()) options.labels["text"] = label;
    format::ManifestBuilder b;
    b.Dict(format::ManifestBuilder::Items{});
    auto push = repository_->BeginPush(options, b.Build());
    SCONCE_CHECK(push.ok());
    const auto committed = (*push)->Commit();
    SCONCE_CHECK(committed.ok());
    return committed->version;
  }
  std::unique_ptr<Watch> Begin(const std::string& parent, int64_t after = 0, bool reads = true) {
    return std::make_unique<Watch>(*stub_, parent, after, reads);
  }

  const WatchOptions options_;
  const TempDir folder_;
  std::unique_ptr<repository::Repository> repository_;
  std::unique_ptr<rpc::CallRuntime> runtime_;
  std::unique_ptr<WatchHub> hub_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<InProcessServer> server_;
  std::unique_ptr<v1::CheckpointService::Stub> stub_;
};

constexpr char kRun[] = "projects/default/runs/r";

TEST_F(WatchTest, EventsComeInOrderAndResumeAcrossARestart) {
  Push("r", 0.5);
  auto watch = Begin(kRun);
  const int64_t begin = watch->WaitForHeartbeats(1);
  Push("s", 0.1);
  Push("r", 0.25);
  ASSERT_OK(repository_->SetAlias({"default", "r"}, "stable", "1", "", false));
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "2"}, "", false, false));
  const std::vector<Message> events = watch->WaitForEvents(5);
  std::vector<Message::Event> kinds;
  for (const Message& event : events) kinds.push_back(event.event());
  EXPECT_THAT(kinds, ElementsAre(Message::COMMITTED, Message::ALIAS_MOVED, Message::ALIAS_MOVED, Message::DELETED,
                                 Message::ALIAS_MOVED));
  EXPECT_EQ(events[0].run(), kRun);
  EXPECT_EQ(events[0].checkpoint().name(), absl::StrCat(kRun, "/checkpoints/2"));
  EXPECT_EQ(events[1].alias(), "best");
  EXPECT_EQ(events[1].checkpoint().version(), 2);
  EXPECT_EQ(events[2].alias(), "stable");
  EXPECT_EQ(events[2].checkpoint().metrics().at("loss"), 0.5);
  EXPECT_EQ(events[4].checkpoint().version(), 1);
  watch.reset();
  Stop();
  Start();
  auto again = Begin(kRun, begin);
  const std::vector<Message> repeated = again->WaitForEvents(5);
  ASSERT_EQ(repeated.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(repeated[i].revision(), events[i].revision());
  auto project = Begin("projects/default", events[4].revision());
  Push("new", 1);
  EXPECT_EQ(project->WaitForEvents(1)[0].run(), "projects/default/runs/new");
}

TEST_F(WatchTest, WhatCannotBeWatchedIsSaid) {
  Push("r", 1);
  EXPECT_THAT(Begin("projects/default/runs/none")->End(), FailsWith(Reason::RUN_NOT_FOUND));
  EXPECT_THAT(Begin("runs/none")->End(), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(Begin(kRun, -1)->End(), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(Begin(kRun, 1000)->End(), FailsWith(Reason::REVISION_NOT_KEPT));
}

TEST_F(WatchTest, ACancelledWatchEnds) {
  Push("r", 1);
  auto watch = Begin(kRun);
  watch->WaitForHeartbeats(1);
  watch->Cancel();
  EXPECT_EQ(watch->End().code(), absl::StatusCode::kCancelled);
}

TEST_F(WatchTest, AServerThatStopsEndsItsWatches) {
  Push("r", 1);
  auto watch = Begin(kRun);
  watch->WaitForHeartbeats(1);
  hub_->EndWatches();
  EXPECT_THAT(watch->End(), FailsWith(Reason::SERVER_DRAINING));
  EXPECT_THAT(Begin(kRun)->End(), FailsWith(Reason::SERVER_DRAINING));
}

TEST_F(WatchTest, AThousandWatchersAndThoseThatDoNotReadHoldUpNobody) {
  Push("r", 1);
  const auto begin = repository_->GetRevision();
  ASSERT_OK(begin);
  std::vector<std::unique_ptr<Watch>> readers, sleepers;
  for (int i = 0; i < 1000; ++i) readers.push_back(Begin(kRun, *begin));
  for (int i = 0; i < 100; ++i) sleepers.push_back(Begin(kRun, *begin, /*reads=*/false));
  // More than a stream's window takes: those that do not read are stuck.
  const std::string label(1000, 'x');
  constexpr size_t kPushes = 100;
  for (size_t i = 0; i < kPushes; ++i) Push("r", 2, label);
  for (const auto& reader : readers) {
    const std::vector<Message> events = reader->WaitForEvents(kPushes);
    ASSERT_EQ(events.size(), kPushes) << reader->End();
    for (size_t i = 0; i < kPushes; ++i) ASSERT_EQ(events[i].checkpoint().version(), static_cast<int64_t>(i) + 2);
  }
  // Stopping does not wait for those who do not read, either.
  hub_->EndWatches();
  for (const auto& reader : readers) EXPECT_THAT(reader->End(), FailsWith(Reason::SERVER_DRAINING));
}

class HeartbeatTest : public WatchTest {
 protected:
  HeartbeatTest() : WatchTest({absl::Milliseconds(50)}) {}
};

TEST_F(HeartbeatTest, AQuietWatchHearsHowFarItIs) {
  Push("r", 1);
  auto watch = Begin(kRun);
  const int64_t begin = watch->WaitForHeartbeats(1);
  Push("other", 1);
  int64_t at = begin;
  for (int i = 2; at == begin && i < 1000; ++i) at = watch->WaitForHeartbeats(i);
  EXPECT_GT(at, begin);  // what the filter does not take was looked at too
  EXPECT_TRUE(watch->WaitForEvents(0).empty());
}

}  // namespace
}  // namespace sconce::services
