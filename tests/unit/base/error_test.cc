#include "base/error.h"

#include <cerrno>

#include "tests/support/status_matchers.h"

namespace sconce {
namespace {

using ::testing::HasSubstr;

TEST(ErrorTest, CarriesReasonCodeAndMetadata) {
  const absl::Status status = MakeError(Reason::RUN_NOT_FOUND, "no run", {{"run", "a"}, {"empty", ""}});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  const auto detail = GetErrorDetail(status);
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->reason, "RUN_NOT_FOUND");
  EXPECT_EQ(detail->metadata, (ErrorMetadata{{"run", "a"}, {"empty", ""}}));
}

TEST(ErrorTest, AnnotateKeepsCodeAndDetail) {
  const absl::Status status = Annotate(MakeError(Reason::ETAG_MISMATCH, "stale"), "updating run/7");
  EXPECT_THAT(status, FailsWith(Reason::ETAG_MISMATCH, HasSubstr("updating run/7: stale")));
  EXPECT_OK(Annotate(absl::OkStatus(), "anything"));
}

TEST(ErrorTest, AFullDiskHasItsOwnReason) {
  EXPECT_THAT(ErrnoToStatus(ENOSPC, "cannot write x"), FailsWith(Reason::DISK_FULL));
  EXPECT_THAT(ErrnoToStatus(EIO, "cannot write x"), FailsWith(Reason::IO_ERROR));
}

TEST(ErrorTest, AStatusMadeElsewhereHasNoDetail) {
  EXPECT_FALSE(GetErrorDetail(absl::InternalError("x")).has_value());
}

}  // namespace
}  // namespace sconce
