#include "client/cli/refs.h"

#include "tests/support/status_matchers.h"

namespace sconce::cli {
namespace {

TEST(RefsTest, ShortNamesBecomeFullOnes) {
  EXPECT_EQ(*FullRunName("resnet50"), "projects/default/runs/resnet50");
  EXPECT_EQ(*FullRunName("vision/resnet50"), "projects/vision/runs/resnet50");
  EXPECT_EQ(*FullCheckpointName("resnet50"), "projects/default/runs/resnet50/checkpoints/latest");
  EXPECT_EQ(*FullCheckpointName("vision/resnet50@best"), "projects/vision/runs/resnet50/checkpoints/best");
  EXPECT_EQ(*FullModuleName("vision/resnet50@Net.v1"), "projects/vision/runs/resnet50/modules/Net.v1");
  EXPECT_EQ(*FullUploadName("vision/resnet50@push-1"), "projects/vision/runs/resnet50/uploads/push-1");
  EXPECT_EQ(*FullModelName("bnnet"), "models/bnnet");
}

TEST(RefsTest, WhatIsPrintedCanBeTypedAgain) {
  for (const char* name :
       {"projects/vision/runs/resnet50/checkpoints/12", "projects/default/runs/a/checkpoints/best"}) {
    EXPECT_EQ(*FullCheckpointName(name), name);
    EXPECT_EQ(*FullCheckpointName(ShortName(name)), name);
  }
  EXPECT_EQ(*FullModuleName(ShortName("projects/p/runs/r/modules/M")), "projects/p/runs/r/modules/M");
  EXPECT_EQ(*FullModuleName("projects/p/runs/r/modules/M"), "projects/p/runs/r/modules/M");
  EXPECT_EQ(*FullModelName("models/m"), "models/m");
}

TEST(RefsTest, BadNamesAreRefusedBeforeTheyTravel) {
  EXPECT_THAT(FullRunName("a/../b"), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(FullRunName("a@best"), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(FullModuleName("a"), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(FullModelName("a/b"), FailsWith(Reason::NAME_INVALID));
  EXPECT_THAT(FullCheckpointName("a@0"), FailsWith(Reason::SELECTOR_INVALID));
}

}  // namespace
}  // namespace sconce::cli
