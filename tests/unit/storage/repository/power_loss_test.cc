#include <cerrno>
#include <mutex>

#include "tests/support/parallel_boundaries.h"
#include "tests/unit/storage/repository/power_story.h"

// The power goes, or the disk fails or is full, at every single operation of what a repository does: blobs, catalog and
// all. What was acknowledged is there and whole; what was not is there once under its request id or not at all; nothing
// is left behind after one collection.
namespace sconce::repository {
namespace {

using Loss = FaultFileSystem::Loss;

const std::string& Content(int i) {
  static const std::vector<std::string>* const contents =
      new std::vector<std::string>{RandomBytes(100'000, 1), RandomBytes(70'000, 2), RandomBytes(3000, 3),
                                   RandomBytes(5000, 4), RandomBytes(1500, 5)};
  return (*contents)[static_cast<size_t>(i)];
}

// More chunks than one batch of the collector takes.
PowerStory::Contents Many(uint64_t first) {
  PowerStory::Contents contents;
  for (uint64_t i = first; i < first + 2000; ++i) contents.push_back(RandomBytes(1056, 1000 + i));
  return contents;
}

struct Scenario {
  const char* name;
  void (*steps)(PowerStory&);
};

const Scenario kScenarios[] = {
    {"PushesThatShare",
     [](PowerStory& story) {
       story.Push("r", {Content(0), Content(2)});
       story.Push("r", {Content(0), Content(3)});
       story.Push("s", {Content(3), Content(1)});
     }},
    {"UpdatesAndAliases",
     [](PowerStory& story) {
       story.Push("r", {Content(2)});
       story.AddMetric("r", 1, "loss", 0.5);
       story.SetAlias("r", "stable", 1);
       story.Push("r", {Content(3)});
       story.SetAlias("r", "stable", 2);
       story.DeleteAlias("r", "stable");
     }},
    {"DeletionAndCollection",
     [](PowerStory& story) {
       story.Push("r", {Content(0), Content(2)});
       story.Push("r", {Content(0), Content(3)});
       story.Delete("r", 1);
       story.Collect();
       story.Delete("r", 2);
       story.Collect();
       story.Push("r", {Content(0), Content(2)});
     }},
    {"DeletionOfARun",
     [](PowerStory& story) {
       story.Push("r", {Content(0)});
       story.Push("s", {Content(0), Content(2)});
       story.DeleteRun("r");
       story.Collect();
       story.Push("s", {Content(1)});
     }},
    {"Modules",
     [](PowerStory& story) {
       story.PushModule("r", "net", Content(1));
       story.Push("r", {Content(1)});
       story.DeleteModule("r", "net");
       story.Collect();
     }},
    {"QuarantineAndHealing",
     [](PowerStory& story) {
       story.Push("r", {Content(0)});
       story.Push("r", {Content(0), Content(2)});
       story.Damage("r", 1);
       story.Push("r", {Content(0), Content(3)});
       story.Collect();
     }},
    {"Compaction",  // of what two dead versions left, and of a living one's blob after healing
     [](PowerStory& story) {
       story.Push("r", {Content(0), Content(2)});
       story.Push("r", {Content(1), Content(3)});
       story.Push("s", {Content(2), Content(3)});
       story.Delete("r", 1);
       story.Delete("r", 2);
       story.Collect();
       story.ExpectCompacted();
       story.Damage("s", 1);
       story.Push("s", {Content(2), Content(4)});
       story.Collect();
     }},
    {"Retention",
     [](PowerStory& story) {
       story.Push("r", {Content(2)});
       story.AddMetric("r", 1, "loss", 0.5);  // the best
       story.Hold("r", 1);
       story.Push("r", {Content(3)});
       story.SetAlias("r", "stable", 2);
       story.Hold("r", 2);
       story.Push("r", {Content(4)});
       story.Pin("r", 3);
       story.Hold("r", 3);
       story.KeepLast("r", 2);
       story.Push("r", {Content(0), Content(2)});
       story.Push("r", {Content(1)});
       story.Push("r", {Content(0), Content(3)});  // takes the fourth
       story.Collect();
       story.ExpectVersions("r", {1, 2, 3, 5, 6});
       story.Release("r", 2);
       story.DeleteAlias("r", "stable");
       story.Release("r", 1);
       story.AddMetric("r", 5, "loss", 0.1);
       story.Hold("r", 5);
       story.Collect();
       story.ExpectVersions("r", {3, 5, 6});
       story.Push("r", {Content(2)});
       story.ExpectVersions("r", {3, 5, 6, 7});
       story.Push("r", {Content(4)});
       story.ExpectVersions("r", {3, 5, 7, 8});
     }},
    {"RetentionOfLargeVersions",  // whose references go in several batches
     [](PowerStory& story) {
       story.Push("r", Many(0));
       story.Push("r", Many(1000));  // shares the second half
       story.KeepLast("r", 1);
       story.Collect();
       story.ExpectVersions("r", {2});
       story.Push("r", {Content(2)});
       story.Collect();
       story.ExpectVersions("r", {3});
     }},
    {"UploadsThatShare",  // parts skip chunks of a version that goes before they are committed
     [](PowerStory& story) {
       story.Push("r", {Content(0), Content(2)});
       const std::string one = story.SendUpload("r", {{Content(0), Content(3)}, {Content(2), Content(1)}});
       const std::string two = story.SendUpload("s", {{Content(3), Content(2)}});
       story.Delete("r", 1);
       story.Collect();
       story.CommitUpload(one);
       story.Collect();
       story.CommitUpload(two);
       story.Push("r", {Content(1)});
     }},
    {"UploadsThatEnd",  // aborted, and dropped when nobody touched them
     [](PowerStory& story) {
       story.Push("r", {Content(0)});
       const std::string one = story.SendUpload("r", {{Content(0), Content(2)}, {Content(3)}});
       story.SendUpload("s", {{Content(0)}, {Content(1), Content(4)}});
       story.Delete("r", 1);
       story.AbortUpload(one);
       story.Collect();
       story.LetUploadsExpire();
       story.ExpectNoBlobs();
       story.Push("r", {Content(0)});
     }},
    {"Backups",
     [](PowerStory& story) {
       story.Push("r", {Content(0), Content(2)});
       story.SetAlias("r", "stable", 1);
       story.Backup("first");
       story.Push("r", {Content(0), Content(3)});
       story.SendUpload("s", {{Content(0), Content(1)}});  // is not in it
       story.Backup("second");
       story.Delete("r", 2);
       story.Collect();
       story.Push("s", {Content(4)});
     }},
};

class PowerLossTest : public ::testing::TestWithParam<Scenario> {};
INSTANTIATE_TEST_SUITE_P(Scenarios, PowerLossTest, ::testing::ValuesIn(kScenarios),
                         [](const auto& scenario) { return std::string(scenario.param.name); });

TEST_P(PowerLossTest, AtAnyOperationLosesNothingAndLeavesNothing) {
  for (const Loss loss : {Loss::kUnsynced, Loss::kUnsyncedBytes, Loss::kTornBytes}) {
    const int kind = static_cast<int>(loss);
    ForEachBoundary(
        [&](int n) {
          SCOPED_TRACE(testing::Message() << "power cut at operation " << n << ", loss " << kind);
          PowerStory story;
          story.files().CutPowerAt(n);
          if (story.Open().ok()) GetParam().steps(story);
          const bool cut = story.files().power_is_off();
          if (!cut) {
            EXPECT_OK(story.first_failure());
          }
          story.Close();
          story.files().RestorePower(loss, static_cast<uint32_t>(n));
          EXPECT_OK(story.Open());
          if (testing::Test::HasFailure()) return cut;
          story.ExpectAcknowledged();
          story.RetryPushes();
          story.ExpectCleanAfterOneCollection();
          return cut;
        },
        SampleStride(11), 1 + kind * 3);
  }
}

// One operation fails; reads go on, and whatever follows works, without a restart. The restart finds a clean store.
void FailEverywhere(const Scenario& scenario, int error_number, Reason reason, int first) {
  ForEachBoundary(
      [&](int n) {
        SCOPED_TRACE(testing::Message() << "errno " << error_number << " at operation " << n);
        PowerStory story;
        EXPECT_OK(story.Open());
        story.GoOnAfterFailures();
        story.files().FailAt(n, error_number);
        scenario.steps(story);
        const bool failed = story.files().failed();
        story.files().Disarm();
        const absl::Status& failure = story.first_failure();
        if (!failure.ok() && !HasReason(failure, Reason::CHECKPOINT_NOT_FOUND)) {
          EXPECT_THAT(failure, FailsWith(reason));
        }
        story.ExpectAcknowledged();
        if (story.needs_restart()) {  // rare: see RocksDbCatalogImpl::Resume
          EXPECT_OK(story.Open());
          if (testing::Test::HasFailure()) return failed;
          story.ExpectAcknowledged();  // also finds again what damage could not be recorded
        }
        story.RetryPushes();
        story.ExpectAcknowledged();
        story.Close();
        EXPECT_OK(story.Open());
        if (testing::Test::HasFailure()) return failed;
        story.ExpectAcknowledged();
        story.ExpectCleanAfterOneCollection();
        return failed;
      },
      SampleStride(9), first);
}

TEST_P(PowerLossTest, AFullDiskAtAnyOperationIsSaidAndPasses) {
  FailEverywhere(GetParam(), ENOSPC, Reason::DISK_FULL, 1);
}

TEST_P(PowerLossTest, AFailingDiskAtAnyOperationIsSaidAndPasses) {
  FailEverywhere(GetParam(), EIO, Reason::IO_ERROR, 5);
}

}  // namespace
}  // namespace sconce::repository
