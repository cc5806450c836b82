#include "client/cli/serving_options.h"

#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<std::vector<std::string>> Set(const std::vector<std::string>& words, v1::Model& model) {
  const absl::StatusOr<Args> args = ParseArgs(ServingOptions(), words);
  if (!args.ok()) return args.status();
  return SetServing(*args, model);
}

TEST(ServingOptionsTest, WithoutAnyNothingIsSet) {
  v1::Model model;
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> fields, Set({}, model));
  EXPECT_THAT(fields, IsEmpty());
  EXPECT_EQ(model.ByteSizeLong(), 0);
}

TEST(ServingOptionsTest, WhatIsGivenIsSetAndNamed) {
  v1::Model model;
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> fields,
                       Set({"--weights", "digits@best",       "--path",         "/model",  "--lenient",
                            "--dtype",   "bfloat16",          "--instances",    "2",       "--max-batch",
                            "16",        "--batch-delay",     "1500us",         "--input", "x=FP32[-1,784]",
                            "--output",  "OUTPUT__0=INT64[]", "--warm-up-runs", "3",       "--transition",
                            "resource",  "--keep-previous",   "--pin",          "7",       "--canary",
                            "best=0.25", "--shadow",          "latest"},
                           model));
  EXPECT_THAT(fields, ElementsAre("weights", "cast", "instance_count", "batching", "inputs", "outputs", "warm_up",
                                  "transition", "keep_previous", "pinned_version", "canary", "shadow"));
  EXPECT_EQ(model.weights().checkpoint(), "projects/default/runs/digits/checkpoints/best");
  EXPECT_EQ(model.weights().path(), "/model");
  EXPECT_TRUE(model.weights().lenient());
  EXPECT_EQ(model.cast().dtype(), "bfloat16");
  EXPECT_EQ(model.instance_count(), 2);
  EXPECT_EQ(model.batching().max_batch_size(), 16);
  EXPECT_EQ(model.batching().max_queue_delay().seconds(), 0);
  EXPECT_EQ(model.batching().max_queue_delay().nanos(), 1'500'000);
  ASSERT_EQ(model.inputs_size(), 1);
  EXPECT_EQ(model.inputs(0).name(), "x");
  EXPECT_EQ(model.inputs(0).datatype(), "FP32");
  EXPECT_THAT(model.inputs(0).shape(), ElementsAre(-1, 784));
  EXPECT_THAT(model.outputs(0).shape(), IsEmpty());
  EXPECT_EQ(model.warm_up().runs(), 3);
  EXPECT_EQ(model.transition(), v1::Model::RESOURCE_PRESERVING);
  EXPECT_TRUE(model.keep_previous());
  EXPECT_EQ(model.pinned_version(), 7);
  EXPECT_EQ(model.canary().checkpoint(), "best");
  EXPECT_EQ(model.canary().weight(), 0.25);
  EXPECT_EQ(model.shadow().checkpoint(), "latest");
}

TEST(ServingOptionsTest, AChangeLeavesWhatIsNotGivenAndTurnsOffWhatIs) {
  v1::Model model;
  ASSERT_OK(Set({"--weights", "digits@best", "--path", "/model", "--lenient", "--rename", "a=b", "--max-batch", "16",
                 "--max-queue", "9", "--keep-previous", "--pin", "7", "--canary", "best=0.25", "--shadow", "latest"},
                model));
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> fields,
                       Set({"--strict", "--add-prefix", "p.", "--max-batch", "0", "--no-keep-previous", "--follow",
                            "--no-canary", "--no-shadow"},
                           model));
  EXPECT_THAT(fields, ElementsAre("weights", "batching", "keep_previous", "pinned_version", "canary", "shadow"));
  EXPECT_EQ(model.weights().path(), "/model");
  EXPECT_FALSE(model.weights().lenient());
  EXPECT_EQ(model.weights().rules().add_prefix(), "p.");
  EXPECT_EQ(model.weights().rules().renames_size(), 0);
  EXPECT_EQ(model.batching().max_batch_size(), 0);
  EXPECT_EQ(model.batching().max_queue_size(), 9);
  EXPECT_FALSE(model.keep_previous());
  EXPECT_EQ(model.pinned_version(), 0);
  EXPECT_FALSE(model.has_canary());
  EXPECT_FALSE(model.has_shadow());
}

TEST(ServingOptionsTest, WhatMakesNoSenseIsRefusedWithTheOptionsName) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--path", "/model"},
                                             {"--lenient", "--strict"},
                                             {"--max-batch", "-1"},
                                             {"--batch-delay", "5"},
                                             {"--batch-delay", "-5ms"},
                                             {"--instances", "two"},
                                             {"--input", "x=FP32"},
                                             {"--input", "FP32[1]"},
                                             {"--input", "x=FP32[a]"},
                                             {"--output", "y="},
                                             {"--transition", "fast"},
                                             {"--pin", "0"},
                                             {"--pin", "3", "--follow"},
                                             {"--canary", "best"},
                                             {"--canary", "best=much"},
                                             {"--shadow", "1", "--no-shadow"}}) {
    v1::Model model;
    const auto set = Set(words, model);
    EXPECT_THAT(set, FailsWith(Reason::ARGUMENT_INVALID)) << words[0];
    EXPECT_THAT(set.status().message(), HasSubstr(words[0])) << words[0];
  }
}

}  // namespace
}  // namespace sconce::cli
