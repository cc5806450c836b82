#include "proto/wire/page_token.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/escaping.h"
#include "base/error.h"
#include "sconce/v1/checkpoint_service.pb.h"
#include "tests/support/status_matchers.h"

namespace sconce::wire {
namespace {

using ::testing::HasSubstr;

v1::ListCheckpointsRequest Request(const std::string& parent, const std::string& token = "", int32_t page_size = 0) {
  v1::ListCheckpointsRequest request;
  request.set_parent(parent);
  request.set_page_token(token);
  request.set_page_size(page_size);
  return request;
}

TEST(PageTokenTest, ATokenSaysWhereToGoOn) {
  const std::string start("p/r\0\xFF/17", 9);
  const std::string token = EncodePageToken(Request("a"), start);
  EXPECT_EQ(DecodePageToken(Request("a", token)).value(), start);
  EXPECT_EQ(token.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
            std::string::npos)
      << token << " would have to be escaped in an URL";
}

TEST(PageTokenTest, TheEndIsTheEmptyToken) {
  EXPECT_EQ(EncodePageToken(Request("a"), ""), "");
  EXPECT_EQ(DecodePageToken(Request("a")).value(), "");
}

TEST(PageTokenTest, OnlyThePageSizeMayChange) {
  const std::string token = EncodePageToken(Request("a", "", 10), "17");
  EXPECT_EQ(DecodePageToken(Request("a", token, 500)).value(), "17");
  EXPECT_THAT(DecodePageToken(Request("b", token, 10)),
              FailsWith(Reason::PAGE_TOKEN_INVALID, HasSubstr("another request")));
  v1::ListModulesRequest other_call;  // the same fields with the same values
  other_call.set_parent("a");
  other_call.set_page_token(token);
  EXPECT_THAT(DecodePageToken(other_call), FailsWith(Reason::PAGE_TOKEN_INVALID));
}

TEST(PageTokenTest, TheOrderOfMapEntriesDoesNotMatter) {
  v1::DescribeCheckpointRequest request;
  for (int i = 0; i < 50; ++i)
    (*request.mutable_device_mapping()->mutable_remap())["cuda:" + std::to_string(i)] = "cpu";
  v1::DescribeCheckpointRequest again;
  for (int i = 49; i >= 0; --i) (*again.mutable_device_mapping()->mutable_remap())["cuda:" + std::to_string(i)] = "cpu";
  again.set_page_token(EncodePageToken(request, "1:50"));
  EXPECT_EQ(DecodePageToken(again).value(), "1:50");
}

TEST(PageTokenTest, EveryChangedByteIsNoticed) {
  const std::string token = EncodePageToken(Request("a"), "some place");
  std::string raw;
  ASSERT_TRUE(absl::WebSafeBase64Unescape(token, &raw));
  for (size_t i = 0; i < raw.size(); ++i) {
    std::string damaged = raw;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_THAT(DecodePageToken(Request("a", absl::WebSafeBase64Escape(damaged))),
                FailsWith(Reason::PAGE_TOKEN_INVALID))
        << "byte " << i;
  }
}

TEST(PageTokenTest, EveryCutAndEveryRubbishIsNoticed) {
  const std::string token = EncodePageToken(Request("a"), "some place");
  for (size_t size = 1; size < token.size(); ++size) {
    EXPECT_THAT(DecodePageToken(Request("a", token.substr(0, size))), FailsWith(Reason::PAGE_TOKEN_INVALID)) << size;
  }
  for (const char* rubbish : {"x", "!!!!", "AAAAAAAAAAAAAAAAAAAAAAAA", "17"}) {
    EXPECT_THAT(DecodePageToken(Request("a", rubbish)), FailsWith(Reason::PAGE_TOKEN_INVALID)) << rubbish;
  }
}

TEST(PageTokenTest, PageSizes) {
  EXPECT_EQ(PageSize(0).value(), 50);
  EXPECT_EQ(PageSize(1).value(), 1);
  EXPECT_EQ(PageSize(1000).value(), 1000);
  EXPECT_EQ(PageSize(100000).value(), 1000);
  EXPECT_THAT(PageSize(-1), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("page_size")));
}

}  // namespace
}  // namespace sconce::wire
