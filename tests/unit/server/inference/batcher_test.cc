#include "server/inference/batcher.h"

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "tests/contract/runtime_contract.h"
#include "tests/support/fake_runtime.h"
#include "tests/support/manual_model.h"
#include "tests/support/status_matchers.h"

namespace sconce::inference {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two instances of each model behind a batcher keep the contract of one.
class BatchedRuntime final : public ModelRuntime {
 public:
  absl::StatusOr<std::shared_ptr<LoadedModel>> Load(const ModelSpec& spec) override {
    std::vector<std::shared_ptr<LoadedModel>> instances;
    for (int i = 0; i < 2; ++i) {
      auto loaded = fake_.Load(spec);
      if (!loaded.ok()) return loaded;
      instances.push_back(*std::move(loaded));
    }
    BatcherOptions options;
    options.policy.max_batch_size = int64_t{1} << 30;
    options.timer = timer_;
    return std::shared_ptr<LoadedModel>(Batcher::Make(options, std::move(instances)));
  }
  void CancelLoads() override { fake_.CancelLoads(); }

 private:
  FakeRuntime fake_;
  const std::shared_ptr<BatchTimer> timer_ = std::make_shared<BatchTimer>();
};

struct BatchedHarness {
  BatchedRuntime batched;
  ModelRuntime& runtime() { return batched; }
  std::string Module(const std::string& what) { return what; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Batched, RuntimeContract, BatchedHarness);

class BatcherTest : public ::testing::Test {
 protected:
  void Make(int64_t max_batch, int delay_ms = 0, int instances = 1, ManualModel::Forward forward = ManualModel::Twice) {
    options_.model = "net";
    options_.policy.max_batch_size = max_batch;
    options_.policy.max_queue_delay = absl::Milliseconds(delay_ms);
    options_.clock = &clock_;
    std::vector<std::shared_ptr<LoadedModel>> loaded;
    for (int i = 0; i < instances; ++i) {
      models_.push_back(std::make_shared<ManualModel>(forward));
      loaded.push_back(models_.back());
    }
    batcher_ = Batcher::Make(options_, loaded);
  }
  // Asks for `values` as a column, and keeps the answer under the number it returns.
  int Ask(std::vector<float> values, absl::Time deadline = absl::InfiniteFuture(),
          absl::Time queue_deadline = absl::InfiniteFuture(), absl::Duration patience = absl::ZeroDuration()) {
    const int number = next_++;
    QueuedRequest request;
    const auto rows = static_cast<int64_t>(values.size());
    request.inputs = {FloatTensor({rows, 1}, std::move(values))};
    request.deadline = deadline;
    request.queue_deadline = queue_deadline;
    request.patience = patience;
    request.cancelled = [this, number] { return cancelled_ == number; };
    request.done = [this, number](InferResult result) {
      const bool is_new = answers_.emplace(number, std::move(result)).second;
      EXPECT_TRUE(is_new) << "answered twice";
    };
    batcher_->Infer(std::move(request));
    return number;
  }
  bool Answered(int number) const { return answers_.count(number) != 0; }
  std::vector<float> AnswerTo(int number) {
    const auto found = answers_.find(number);
    if (found == answers_.end() || !found->second.ok()) {
      ADD_FAILURE() << "no answer to " << number << ": "
                    << (found == answers_.end() ? "" : found->second.status().ToString());
      return {};
    }
    return FloatsOf((*found->second)[0]);
  }
  absl::Status ErrorOf(int number) { return answers_.at(number).status(); }
  void Pass(int ms) {
    clock_.Advance(absl::Milliseconds(ms));
    batcher_->Tick();
  }

  ManualClock clock_;
  BatcherOptions options_;
  std::vector<std::shared_ptr<ManualModel>> models_;
  std::shared_ptr<Batcher> batcher_;
  std::map<int, InferResult> answers_;
  int next_ = 0;
  int cancelled_ = -1;
};

TEST_F(BatcherTest, ABatchGrowsWhileTheInstanceIsBusy) {
  Make(8);
  const int first = Ask({1});
  EXPECT_THAT(models_[0]->running(), ElementsAre(format::Dims{1, 1}));
  const int second = Ask({2}), third = Ask({3, 4});
  EXPECT_EQ(models_[0]->runs(), 1);
  models_[0]->Answer();
  EXPECT_THAT(AnswerTo(first), ElementsAre(2));
  EXPECT_THAT(models_[0]->running(), ElementsAre(format::Dims{3, 1}));
  models_[0]->Answer();
  EXPECT_THAT(AnswerTo(second), ElementsAre(4));
  EXPECT_THAT(AnswerTo(third), ElementsAre(6, 8));
}

TEST_F(BatcherTest, WithoutBatchingEachRunsAlone) {
  Make(0);
  Ask({1});
  Ask({2});
  Ask({3});
  EXPECT_TRUE(models_[0]->Answer());
  EXPECT_THAT(models_[0]->running(), ElementsAre(format::Dims{1, 1}));
}

TEST_F(BatcherTest, TheFirstWaitsForOthersWhileAnInstanceIsFree) {
  Make(4, /*delay_ms=*/10);
  Ask({1});
  EXPECT_EQ(models_[0]->runs(), 0);
  Pass(9);
  Ask({2});
  EXPECT_EQ(models_[0]->runs(), 0);
  Pass(1);
  EXPECT_THAT(models_[0]->running(), ElementsAre(format::Dims{2, 1}));
  models_[0]->Answer();
  Ask({1, 2});
  Ask({3, 4});  // full: no delay
  EXPECT_THAT(models_[0]->running(), ElementsAre(format::Dims{4, 1}));
}

TEST_F(BatcherTest, TheTimerLetsItGo) {
  options_.timer = std::make_shared<BatchTimer>();
  options_.model = "net";
  options_.policy.max_batch_size = 8;
  options_.policy.max_queue_delay = absl::Milliseconds(1);
  models_ = {std::make_shared<ManualModel>()};
  batcher_ = Batcher::Make(options_, {models_[0]});
  Ask({1});
  while (models_[0]->running().empty()) std::this_thread::yield();
  models_[0]->Answer();
  EXPECT_THAT(AnswerTo(0), ElementsAre(2));
}

TEST_F(BatcherTest, EveryFreeInstanceRunsItsOwnBatch) {
  Make(2, 0, /*instances=*/2);
  for (int i = 0; i < 5; ++i) Ask({static_cast<float>(i)});
  EXPECT_THAT(models_[0]->running(), ElementsAre(format::Dims{1, 1}));
  EXPECT_THAT(models_[1]->running(), ElementsAre(format::Dims{1, 1}));
  models_[1]->Answer();
  EXPECT_THAT(models_[1]->running(), ElementsAre(format::Dims{2, 1}));
  models_[0]->Answer();
  EXPECT_THAT(models_[0]->running(), ElementsAre(format::Dims{1, 1}));
}

TEST_F(BatcherTest, AnInstanceThatIsDownGetsNothingWhileAnotherIsUp) {
  Make(1, 0, /*instances=*/2);
  models_[0]->SetHealth(MakeError(Reason::WORKER_DIED, "it fell"));
  EXPECT_OK(batcher_->Health());
  const int first = Ask({1}), second = Ask({2});
  EXPECT_EQ(models_[1]->runs(), 1);
  EXPECT_FALSE(Answered(second));  // it waits for the one that is up
  models_[1]->Answer();
  models_[1]->Answer();
  EXPECT_THAT(AnswerTo(first), ElementsAre(2));
  EXPECT_THAT(AnswerTo(second), ElementsAre(4));
  models_[1]->SetHealth(MakeError(Reason::WORKER_DIED, "it fell too"));
  EXPECT_THAT(batcher_->Health(), FailsWith(Reason::WORKER_DIED));
  EXPECT_THAT(ErrorOf(Ask({3})), FailsWith(Reason::WORKER_DIED));
}

TEST_F(BatcherTest, AFullQueueTurnsAwayAtOnce) {
  options_.policy.max_queue_size = 2;
  Make(1);
  Ask({1});  // runs
  Ask({2});
  Ask({3});
  const int fourth = Ask({4});
  ASSERT_TRUE(Answered(fourth));
  EXPECT_THAT(ErrorOf(fourth), FailsWith(Reason::MODEL_OVERLOADED, HasSubstr("2 requests waiting")));
  EXPECT_EQ(ErrorOf(fourth).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(batcher_->statistics().overloaded, 1u);
  models_[0]->Answer();
  EXPECT_FALSE(Answered(Ask({5})));
}

TEST_F(BatcherTest, TheQueueIsLimitedByBytesToo) {
  options_.policy.max_queue_bytes = 12;
  Make(1);
  Ask({1});
  Ask({2});
  EXPECT_THAT(ErrorOf([&] {
                options_.policy.max_batch_size = 0;
                return Ask({3, 4, 5});
              }()),
              FailsWith(Reason::MODEL_INPUT_INVALID));
  Ask({3});
  Ask({4});
  EXPECT_THAT(ErrorOf(Ask({5})), FailsWith(Reason::MODEL_OVERLOADED));
}

TEST_F(BatcherTest, RequestsThatNobodyWaitsForMakeRoomAndAreNotRun) {
  options_.policy.max_queue_size = 1;
  Make(1);
  Ask({1});
  const int second = Ask({2});
  cancelled_ = second;
  const int third = Ask({3});
  EXPECT_THAT(ErrorOf(second), FailsWith(Reason::CALL_CANCELLED));
  models_[0]->Answer();
  models_[0]->Answer();
  EXPECT_THAT(AnswerTo(third), ElementsAre(6));
  EXPECT_EQ(models_[0]->runs(), 2);
}

TEST_F(BatcherTest, ARequestGivesUpAtItsOwnTime) {
  Make(1);
  Ask({1});
  const int call = Ask({2}, clock_.Now() + absl::Milliseconds(5));
  const int timeout = Ask({3}, absl::InfiniteFuture(), clock_.Now() + absl::Milliseconds(6));
  Pass(5);
  EXPECT_THAT(ErrorOf(call), FailsWith(Reason::CALL_DEADLINE_EXCEEDED));
  EXPECT_FALSE(Answered(timeout));
  Pass(1);
  EXPECT_THAT(ErrorOf(timeout), FailsWith(Reason::MODEL_OVERLOADED, HasSubstr("within its timeout")));
  models_[0]->Answer();
  EXPECT_EQ(models_[0]->runs(), 1);
}

TEST_F(BatcherTest, MoreRowsThanABatchMayHaveAreRefusedInTritonsWords) {
  Make(2);
  EXPECT_THAT(ErrorOf(Ask({1, 2, 3})),
              FailsWith(Reason::MODEL_INPUT_INVALID, HasSubstr("inference request batch-size must be <= 2 for 'net'")));
}

TEST_F(BatcherTest, AnOutputThatCannotBeDividedEndsBatchingAndFailsNobody) {
  Make(8, 0, 1, [](const std::vector<HostTensor>& inputs) -> InferResult {
    float sum = 0;
    for (const float value : FloatsOf(inputs[0])) sum += value;
    return std::vector<HostTensor>{FloatTensor({1}, {sum}, "OUTPUT__0")};
  });
  Ask({1});
  const int second = Ask({2}), third = Ask({3, 4});
  models_[0]->Answer();
  EXPECT_EQ(batcher_->unbatched_reason(), "");
  models_[0]->Answer();  // second and third together
  EXPECT_FALSE(Answered(second));
  EXPECT_THAT(batcher_->unbatched_reason(), HasSubstr("output 'OUTPUT__0' has shape [1] for 3 rows"));
  models_[0]->Answer();
  models_[0]->Answer();
  EXPECT_THAT(AnswerTo(second), ElementsAre(2));
  EXPECT_THAT(AnswerTo(third), ElementsAre(7));
  Ask({1});
  Ask({1});
  Ask({1});
  models_[0]->Answer();
  EXPECT_THAT(models_[0]->running(), ElementsAre(format::Dims{1, 1}));
}

TEST_F(BatcherTest, ABadRequestFailsAlone) {
  Make(8, 0, 1, [](const std::vector<HostTensor>& inputs) -> InferResult {
    for (const float value : FloatsOf(inputs[0])) {
      if (value == 13) return MakeError(Reason::MODEL_FAILED, "unlucky");
    }
    return ManualModel::Twice(inputs);
  });
  Ask({1});
  const int good = Ask({2}), bad = Ask({13}), fine = Ask({3});
  models_[0]->Answer();
  while (models_[0]->Answer()) {
  }
  EXPECT_THAT(AnswerTo(good), ElementsAre(4));
  EXPECT_THAT(ErrorOf(bad), FailsWith(Reason::MODEL_FAILED, HasSubstr("unlucky")));
  EXPECT_THAT(AnswerTo(fine), ElementsAre(6));
  EXPECT_EQ(batcher_->unbatched_reason(), "");
}

TEST_F(BatcherTest, AThreadIsLentToTheRequestItBringsAndToNoOther) {
  Make(1);
  const absl::Time never = absl::InfiniteFuture();
  int second = -1, third = -1;
  models_[0]->SetLent([&] {
    second = Ask({2});
    third = Ask({3}, never, never, absl::Milliseconds(2));  // its turn has not come
    models_[0]->Answer();
  });
  const int first = Ask({1}, never, never, absl::Milliseconds(1));
  EXPECT_THAT(AnswerTo(first), ElementsAre(2));
  EXPECT_THAT(models_[0]->lends(), ElementsAre(absl::Milliseconds(1)));
  EXPECT_EQ(models_[0]->runs(), 2) << "the thread has started the second";
  models_[0]->Answer();
  models_[0]->Answer();
  EXPECT_THAT(AnswerTo(second), ElementsAre(4));
  EXPECT_THAT(AnswerTo(third), ElementsAre(6));
  EXPECT_EQ(models_[0]->lends().size(), 1u);
}

TEST_F(BatcherTest, ADeathIsToldToAllThatRodeAlong) {
  Make(8);
  Ask({1});
  const int second = Ask({2}), third = Ask({3});
  models_[0]->Answer();
  models_[0]->Answer(MakeError(Reason::WORKER_DIED, "killed"));
  EXPECT_THAT(ErrorOf(second), FailsWith(Reason::WORKER_DIED));
  EXPECT_THAT(ErrorOf(third), FailsWith(Reason::WORKER_DIED));
}

TEST_F(BatcherTest, StatisticsCountRequestsRowsAndRuns) {
  Make(8);
  Ask({1});
  Ask({2});
  Ask({3, 4});
  clock_.Advance(absl::Milliseconds(5));
  models_[0]->Answer();
  clock_.Advance(absl::Milliseconds(7));
  models_[0]->Answer();
  Ask({5});
  models_[0]->Answer(MakeError(Reason::MODEL_FAILED, "no"));
  const InferStatistics statistics = batcher_->statistics();
  EXPECT_EQ(statistics.inference_count, 4u);
  EXPECT_EQ(statistics.execution_count, 2u);
  EXPECT_EQ(statistics.success.count, 3u);
  EXPECT_EQ(statistics.success.total, absl::Milliseconds(5 + 12 + 12));
  EXPECT_EQ(statistics.fail.count, 1u);
  EXPECT_EQ(statistics.queue.total, absl::Milliseconds(0 + 5 + 5));
  EXPECT_EQ(statistics.compute.infer.total, absl::Milliseconds(5 + 7 + 7));
  ASSERT_EQ(statistics.by_batch_size.size(), 2u);
  EXPECT_EQ(statistics.by_batch_size.at(1).infer.count, 1u);
  EXPECT_EQ(statistics.by_batch_size.at(3).infer.total, absl::Milliseconds(7));
}

// Whatever the policy, the sizes, the order of answers and the companions: everyone gets what it would get alone, once.
TEST(BatcherPropertyTest, AnAnswerDoesNotDependOnTheBatch) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    ManualClock clock;
    BatcherOptions options;
    options.policy.max_batch_size = below(6);
    options.policy.max_queue_delay = absl::Milliseconds(below(3));
    options.clock = &clock;
    std::vector<std::shared_ptr<ManualModel>> models;
    const bool sums = below(4) == 0;  // then outputs cannot be divided
    for (int i = 0; i <= below(3); ++i) {
      models.push_back(std::make_shared<ManualModel>([sums](const std::vector<HostTensor>& inputs) -> InferResult {
        const std::vector<float> values = FloatsOf(inputs[0]);
        if (std::find(values.begin(), values.end(), 13.0F) != values.end()) {
          return MakeError(Reason::MODEL_FAILED, "unlucky");
        }
        if (!sums) return ManualModel::Twice(inputs);
        float sum = 0;
        for (const float value : values) sum += value;
        return std::vector<HostTensor>{FloatTensor({1}, {sum}, "OUTPUT__0")};
      }));
    }
    const auto batcher = Batcher::Make(options, {models.begin(), models.end()});
    std::vector<std::vector<float>> asked;
    std::map<size_t, InferResult> answers;
    for (int step = 0; step < 60; ++step) {
      if (below(3) != 0) {
        const int64_t columns = 1 + below(2);
        const int64_t rows =
            1 + below(options.policy.max_batch_size > 0 ? static_cast<int>(options.policy.max_batch_size) : 4);
        std::vector<float> values;
        for (int64_t i = 0; i < rows * columns; ++i) values.push_back(static_cast<float>(below(40)));
        asked.push_back(values);
        QueuedRequest request;
        request.inputs = {FloatTensor({rows, columns}, std::move(values))};
        request.done = [&answers, number = asked.size() - 1](InferResult result) {
          EXPECT_TRUE(answers.emplace(number, std::move(result)).second);
        };
        batcher->Infer(std::move(request));
      }
      if (below(2) == 0) models[static_cast<size_t>(below(static_cast<int>(models.size())))]->Answer();
      if (below(3) == 0) clock.Advance(absl::Milliseconds(1));
      batcher->Tick();
    }
    for (int round = 0; answers.size() < asked.size() && round < 1000; ++round) {
      clock.Advance(absl::Seconds(1));
      batcher->Tick();
      for (const auto& model : models) model->Answer();
    }
    ASSERT_EQ(answers.size(), asked.size()) << "seed " << seed;
    for (size_t i = 0; i < asked.size(); ++i) {
      const bool unlucky = std::find(asked[i].begin(), asked[i].end(), 13.0F) != asked[i].end();
      ASSERT_EQ(answers.at(i).ok(), !unlucky) << "seed " << seed;
      if (unlucky) continue;
      std::vector<float> alone = asked[i];
      for (float& value : alone) value *= 2;
      if (sums) {
        float sum = 0;
        for (const float value : asked[i]) sum += value;
        alone = {sum};
      }
      ASSERT_EQ(FloatsOf((*answers.at(i))[0]), alone) << "seed " << seed << ", request " << i;
    }
  }
}

TEST(BatcherThreadsTest, ManyAskersAndAnInstanceThatDiesNowAndThen) {
  BatcherOptions options;
  options.policy.max_batch_size = 4;
  options.policy.max_queue_delay = absl::Microseconds(50);
  options.timer = std::make_shared<BatchTimer>();
  auto model = std::make_shared<ManualModel>();
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    for (int i = 0; !stop; ++i) {
      const bool dies = i % 50 == 49;
      if (!model->Answer(dies ? MakeError(Reason::WORKER_DIED, "killed") : absl::OkStatus())) std::this_thread::yield();
    }
  });
  std::atomic<int> answered{0}, wrong{0};
  {
    const auto batcher = Batcher::Make(options, {model});
    std::vector<std::thread> askers;
    for (int asker = 0; asker < 4; ++asker) {
      askers.emplace_back([&, asker] {
        for (int i = 0; i < 200; ++i) {
          const auto x = static_cast<float>(asker * 1000 + i);
          const InferResult result = Ask(*batcher, {FloatTensor({1, 1}, {x})});
          ++answered;
          const bool right = result.ok() ? FloatsOf((*result)[0]) == std::vector<float>{2 * x}
                                         : HasReason(result.status(), Reason::WORKER_DIED);
          if (!right) ++wrong;
        }
      });
    }
    for (std::thread& asker : askers) asker.join();
  }
  stop = true;
  worker.join();
  EXPECT_EQ(answered, 800);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace sconce::inference
