#include "client/cli/upload_target.h"

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce::cli {
namespace {

using ::testing::HasSubstr;

v1::PushHeader Header() {
  v1::PushHeader header;
  header.set_parent("projects/default/runs/r");
  for (const char* name : {"a", "b", "c", "d"}) (*header.mutable_checkpoint()->mutable_labels())[name] = "x";
  return header;
}

TEST(UploadTargetTest, TheSameWordsAndFileGiveTheSameIdAndAnythingElseAnother) {
  const FileIdentity file{"/data/a.pt", 1000, 123456789};
  const std::string id = UploadIdFor(Header(), file);
  EXPECT_THAT(id, ::testing::MatchesRegex("push-[0-9a-f]{32}"));
  EXPECT_EQ(UploadIdFor(Header(), file), id);
  EXPECT_NE(UploadIdFor(Header(), {"/data/b.pt", 1000, 123456789}), id);
  EXPECT_NE(UploadIdFor(Header(), {"/data/a.pt", 1001, 123456789}), id);
  EXPECT_NE(UploadIdFor(Header(), {"/data/a.pt", 1000, 123456790}), id);
  v1::PushHeader other = Header();
  other.set_parent("projects/default/runs/q");
  EXPECT_NE(UploadIdFor(other, file), id);
  other = Header();
  (*other.mutable_checkpoint()->mutable_labels())["a"] = "y";
  EXPECT_NE(UploadIdFor(other, file), id);
  other = Header();
  other.set_request_id("7b6a2f0e-5a0e-4b53-9d8c-2f7f3a1c0b11");
  EXPECT_NE(UploadIdFor(other, file), id);
}

TEST(UploadTargetTest, AFileIsTheSameByEveryWayToIt) {
  const TempDir dir;
  std::ofstream(dir / "a.pt") << "content";
  std::filesystem::create_symlink(dir / "a.pt", dir / "link.pt");
  ASSERT_OK_AND_ASSIGN(const FileIdentity direct, IdentifyFile(dir / "a.pt"));
  ASSERT_OK_AND_ASSIGN(const FileIdentity linked, IdentifyFile(dir / "link.pt"));
  EXPECT_EQ(direct.path, linked.path);
  EXPECT_EQ(direct.size_bytes, 7);
  EXPECT_EQ(direct.modified_ns, linked.modified_ns);
  EXPECT_GT(direct.modified_ns, int64_t{1'000'000'000'000'000'000});
  EXPECT_THAT(IdentifyFile(dir / "none.pt"), FailsWith(Reason::IO_ERROR, HasSubstr("none.pt")));
}

absl::StatusOr<UploadTarget> Parse(const std::vector<std::string>& words) {
  const absl::StatusOr<Args> args = ParseArgs(UploadOptions(), words);
  EXPECT_OK(args);
  return UploadTargetFrom(*args, Header(), {"/data/a.pt", 1000, 1});
}

TEST(UploadTargetTest, APartHasItsNumberAndTheUploadItsName) {
  ASSERT_OK_AND_ASSIGN(const UploadTarget own, Parse({}));
  EXPECT_EQ(own.upload_id, UploadIdFor(Header(), {"/data/a.pt", 1000, 1}));
  EXPECT_EQ(own.expected_parts, 1);
  EXPECT_FALSE(own.shared);
  ASSERT_OK_AND_ASSIGN(const UploadTarget part, Parse({"--part", "3/4", "--upload", "step-1000"}));
  EXPECT_EQ(part.upload_id, "step-1000");
  EXPECT_EQ(part.part, 3);
  EXPECT_EQ(part.expected_parts, 4);
  EXPECT_TRUE(part.shared);
}

TEST(UploadTargetTest, PartsThatCannotBeAreRefused) {
  for (const char* part : {"4/4", "-1/4", "0/0", "1", "a/2", "1/2/3", "0/10001", ""}) {
    EXPECT_THAT(Parse({"--part", part, "--upload", "u"}), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("K/N")));
  }
  EXPECT_THAT(Parse({"--part", "0/2"}), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("go together")));
  EXPECT_THAT(Parse({"--upload", "u"}), FailsWith(Reason::ARGUMENT_INVALID, HasSubstr("go together")));
  EXPECT_THAT(Parse({"--part", "0/2", "--upload", "../u"}), FailsWith(Reason::NAME_INVALID));
}

}  // namespace
}  // namespace sconce::cli
