#ifndef SCONCE_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define SCONCE_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/error.h"
#include "base/strings.h"

namespace sconce {

inline const absl::Status& GetStatus(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

MATCHER(IsOk, "is OK") {
  *result_listener << GetStatus(arg).ToString();
  return GetStatus(arg).ok();
}

// The status has this reason (and so its code).
MATCHER_P(FailsWith, reason, std::string("fails with ") + std::string(ToStd(ReasonName(reason)))) {
  *result_listener << GetStatus(arg).ToString();
  return HasReason(GetStatus(arg), reason) && GetStatus(arg).code() == ReasonCode(reason);
}

// The status has this reason, and `message_matcher` (e.g. HasSubstr) holds for its message.
MATCHER_P2(FailsWith, reason, message_matcher, std::string("fails with ") + std::string(ToStd(ReasonName(reason)))) {
  *result_listener << GetStatus(arg).ToString();
  return HasReason(GetStatus(arg), reason) &&
         ::testing::ExplainMatchResult(message_matcher, std::string(ToStd(GetStatus(arg).message())), result_listener);
}

}  // namespace sconce

#define ASSERT_OK(expr) ASSERT_THAT((expr), ::sconce::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT((expr), ::sconce::IsOk())
#define SCONCE_TEST_CONCAT_INNER_(a, b) a##b
#define SCONCE_TEST_CONCAT_(a, b) SCONCE_TEST_CONCAT_INNER_(a, b)
#define ASSERT_OK_AND_ASSIGN_IMPL_(var, lhs, rexpr) \
  auto var = (rexpr);                               \
  ASSERT_THAT(var, ::sconce::IsOk());               \
  lhs = std::move(var).value()
#define ASSERT_OK_AND_ASSIGN(lhs, rexpr) \
  ASSERT_OK_AND_ASSIGN_IMPL_(SCONCE_TEST_CONCAT_(sconce_test_statusor_, __COUNTER__), lhs, rexpr)

#endif  // SCONCE_TESTS_SUPPORT_STATUS_MATCHERS_H_
