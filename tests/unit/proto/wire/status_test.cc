#include "proto/wire/status.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "proto/wire/limits.h"
#include "tests/support/status_matchers.h"

namespace sconce::wire {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::vector<Reason>& AllReasons() {
  static const auto& all = *new std::vector<Reason>{
#define SCONCE_TEST_REASON_(code, name) Reason::name,
      SCONCE_REASONS(SCONCE_TEST_REASON_)
#undef SCONCE_TEST_REASON_
  };
  return all;
}

template <typename Detail>
std::vector<Detail> DetailsOf(const grpc::Status& status) {
  google::rpc::Status rich;
  EXPECT_TRUE(rich.ParseFromString(status.error_details()));
  std::vector<Detail> found;
  for (const auto& any : rich.details()) {
    Detail detail;
    if (any.UnpackTo(&detail)) found.push_back(detail);
  }
  return found;
}

TEST(StatusTest, OkIsOkBothWays) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
}

TEST(StatusTest, EveryReasonComesBackWithCodeSentenceAndMetadata) {
  for (const Reason reason : AllReasons()) {
    const absl::Status sent = MakeError(reason, "run \"a\" is not there", {{"run", "a"}, {"version", "7"}});
    const grpc::Status wire = ToGrpcStatus(sent, "id-1");
    EXPECT_EQ(static_cast<int>(wire.error_code()), static_cast<int>(ReasonCode(reason)));
    const absl::Status received = FromGrpcStatus(wire);
    EXPECT_THAT(received, FailsWith(reason, "run \"a\" is not there"));
    EXPECT_EQ(GetErrorDetail(received)->metadata, GetErrorDetail(sent)->metadata);
  }
}

TEST(StatusTest, DetailsHoldOneErrorInfoOfOurDomainAndTheSameMessage) {
  const grpc::Status wire = ToGrpcStatus(MakeError(Reason::RUN_NOT_FOUND, "no such run", {{"run", "a"}}), "id-1");
  google::rpc::Status rich;
  ASSERT_TRUE(rich.ParseFromString(wire.error_details()));
  EXPECT_EQ(rich.code(), 5);
  EXPECT_EQ(rich.message(), wire.error_message()) << "grpcio-status refuses details with another message";
  const auto infos = DetailsOf<google::rpc::ErrorInfo>(wire);
  ASSERT_EQ(infos.size(), 1u);
  EXPECT_EQ(infos[0].domain(), "sconce.dev");
  EXPECT_EQ(infos[0].reason(), "RUN_NOT_FOUND");
  ASSERT_EQ(DetailsOf<google::rpc::RequestInfo>(wire).size(), 1u);
  EXPECT_EQ(DetailsOf<google::rpc::RequestInfo>(wire)[0].request_id(), "id-1");
}

TEST(StatusTest, OnlyUnavailableSaysWhenToRetry) {
  for (const Reason reason : AllReasons()) {
    const bool unavailable = ReasonCode(reason) == absl::StatusCode::kUnavailable;
    const auto delay = RetryDelay(ToGrpcStatus(MakeError(reason, "x")));
    EXPECT_EQ(delay.has_value(), unavailable) << ReasonName(reason);
    EXPECT_GE(delay.value_or(absl::Seconds(1)), absl::Seconds(1));
  }
}

// A status without a reason is a bug of ours, unless its code says all there is to say.
TEST(StatusTest, AStatusWithoutAReasonGetsTheOneOfItsCode) {
  const std::vector<std::pair<absl::StatusCode, Reason>> grid = {
      {absl::StatusCode::kCancelled, Reason::CALL_CANCELLED},
      {absl::StatusCode::kUnknown, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kInvalidArgument, Reason::ARGUMENT_INVALID},
      {absl::StatusCode::kDeadlineExceeded, Reason::CALL_DEADLINE_EXCEEDED},
      {absl::StatusCode::kNotFound, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kAlreadyExists, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kPermissionDenied, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kResourceExhausted, Reason::INPUT_LIMIT_EXCEEDED},
      {absl::StatusCode::kFailedPrecondition, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kAborted, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kOutOfRange, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kUnimplemented, Reason::NOT_IMPLEMENTED},
      {absl::StatusCode::kInternal, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kUnavailable, Reason::SERVER_OVERLOADED},
      {absl::StatusCode::kDataLoss, Reason::INTERNAL_ERROR},
      {absl::StatusCode::kUnauthenticated, Reason::INTERNAL_ERROR},
  };
  ASSERT_EQ(grid.size(), 16u) << "every code but OK";
  for (const auto& [code, reason] : grid) {
    EXPECT_THAT(FromGrpcStatus(ToGrpcStatus(absl::Status(code, "bare"))), FailsWith(reason, "bare")) << CodeName(code);
  }
}

TEST(StatusTest, AStatusNoServerOfOursMadeKeepsItsCode) {
  const absl::Status broken = FromGrpcStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "failed to connect"));
  EXPECT_THAT(broken, FailsWith(Reason::SERVER_UNREACHABLE, "failed to connect"));
  const absl::Status unknown = FromGrpcStatus(grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "proxy says no"));
  EXPECT_EQ(unknown.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(GetErrorDetail(unknown)->reason, "INTERNAL_ERROR");
  EXPECT_EQ(FromGrpcStatus(grpc::Status(grpc::StatusCode::DO_NOT_USE, "odd")).code(), absl::StatusCode::kUnknown);
}

TEST(StatusTest, AReasonOfANewerServerIsKept) {
  google::rpc::ErrorInfo info;
  info.set_reason("SOMETHING_NEW");
  google::rpc::Status rich;
  rich.add_details()->PackFrom(info);
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::ABORTED, "try later", rich.SerializeAsString()));
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(GetErrorDetail(status)->reason, "SOMETHING_NEW");
}

TEST(StatusTest, DamagedDetailsAreAsNone) {
  const absl::Status status = FromGrpcStatus(grpc::Status(grpc::StatusCode::INTERNAL, "x", std::string("\x0a\xff", 2)));
  EXPECT_THAT(status, FailsWith(Reason::INTERNAL_ERROR, "x"));
}

TEST(StatusTest, EverythingFitsIntoTheMetadataOfTheCall) {
  ErrorMetadata many;
  for (int i = 0; i < 100; ++i) many.emplace_back("key" + std::to_string(i), std::string(500, 'v'));
  for (const std::string& unit : {std::string("a"), std::string("\xC3\xA4"), std::string("\xFF"), std::string("\n")}) {
    std::string message = "the first words matter ";
    for (int i = 0; i < 10000; ++i) message += unit;
    const grpc::Status wire = ToGrpcStatus(MakeError(Reason::MANIFEST_INVALID, message, many), std::string(128, 'r'));
    EXPECT_LE(wire.error_message().size() + wire.error_details().size(), kMaxErrorBytes);
    const absl::Status received = FromGrpcStatus(wire);
    EXPECT_THAT(received, FailsWith(Reason::MANIFEST_INVALID, StartsWith("the first words matter")));
    EXPECT_THAT(std::string(received.message()), HasSubstr("..."));
    EXPECT_EQ(DetailsOf<google::rpc::RequestInfo>(wire).size(), 1u);
  }
}

TEST(StatusTest, WhatIsNotUtf8IsReplacedSinceMessagesMustBe) {
  const grpc::Status wire = ToGrpcStatus(MakeError(Reason::NAME_INVALID, "bad \xFF name", {{"name", "\xC0"}}));
  EXPECT_EQ(wire.error_message(), "bad \xEF\xBF\xBD name");
  EXPECT_EQ(DetailsOf<google::rpc::ErrorInfo>(wire)[0].metadata().at("name"), "\xEF\xBF\xBD");
}

TEST(StatusTest, CodeNamesAreGrpcs) {
  EXPECT_EQ(CodeName(absl::StatusCode::kOk), "OK");
  EXPECT_EQ(CodeName(absl::StatusCode::kNotFound), "NOT_FOUND");
  EXPECT_EQ(CodeName(absl::StatusCode::kDataLoss), "DATA_LOSS");
}

}  // namespace
}  // namespace sconce::wire
