#include "server/services/update_mask.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/status_matchers.h"

namespace sconce::services {
namespace {

using ::testing::HasSubstr;

constexpr absl::string_view kUpdatable[] = {"labels", "pinned"};
constexpr absl::string_view kOutputOnly[] = {"name", "etag"};

absl::StatusOr<std::set<std::string>> Fields(const std::vector<std::string>& paths,
                                             const std::set<std::string>& populated) {
  google::protobuf::FieldMask mask;
  for (const std::string& path : paths) mask.add_paths(path);
  return FieldsToUpdate(mask, kUpdatable, kOutputOnly, populated);
}

TEST(UpdateMaskTest, AnEmptyMaskMeansWhatIsPopulated) {
  EXPECT_EQ(Fields({}, {"pinned"}).value(), (std::set<std::string>{"pinned"}));
}

TEST(UpdateMaskTest, AMaskDecidesAloneWhateverIsPopulated) {
  EXPECT_EQ(Fields({"labels"}, {"pinned"}).value(), (std::set<std::string>{"labels"}));
  EXPECT_EQ(Fields({"*"}, {}).value(), (std::set<std::string>{"labels", "pinned"}));
}

TEST(UpdateMaskTest, OutputOnlyFieldsAreIgnored) {
  EXPECT_EQ(Fields({"name", "etag", "pinned"}, {}).value(), (std::set<std::string>{"pinned"}));
}

TEST(UpdateMaskTest, AnythingElseIsRefusedWithWhatWouldBeRight) {
  for (const char* path : {"colour", "labels.a", "", "Labels"}) {
    EXPECT_THAT(Fields({path}, {}), FailsWith(Reason::UPDATE_MASK_INVALID, HasSubstr("labels, pinned"))) << path;
  }
}

}  // namespace
}  // namespace sconce::services
