#include "storage/format/open_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/fixtures.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Data(const std::string& name) {
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  return ReadWholeFile(std::string(source != nullptr ? source : ".") + "/tests/data/" + name);
}

TEST(OpenCheckpointTest, TorchFilesAreRead) {
  const std::string file = Data("adamw_full.pth");
  EXPECT_OK(ReadCheckpointFile(AsBytes(file)));
  EXPECT_FALSE(IsTorchScriptArchive(AsBytes(file)));
  EXPECT_THAT(CheckTorchScriptArchive(AsBytes(file)), FailsWith(Reason::MODULE_INVALID, HasSubstr("constants.pkl")));
}

TEST(OpenCheckpointTest, TorchScriptModulesAreToldApart) {
  const std::string file = Data("bnnet_scripted_train_mode.pt");
  EXPECT_TRUE(IsTorchScriptArchive(AsBytes(file)));
  EXPECT_OK(CheckTorchScriptArchive(AsBytes(file)));
  EXPECT_OK(ReadCheckpointFile(AsBytes(file)));
}

TEST(OpenCheckpointTest, BrokenModulesAreRefused) {
  std::string file = Data("bnnet_scripted_train_mode.pt");
  EXPECT_THAT(CheckTorchScriptArchive(AsBytes(file.substr(0, file.size() / 2))), FailsWith(Reason::FILE_TRUNCATED));
  EXPECT_THAT(CheckTorchScriptArchive(AsBytes("text")), FailsWith(Reason::MODULE_INVALID));
  EXPECT_THAT(CheckTorchScriptArchive({}), FailsWith(Reason::MODULE_INVALID));
  EXPECT_THAT(CheckTorchScriptArchive(AsBytes(MakeZip({{"m/constants.pkl", ""}}))),
              FailsWith(Reason::MODULE_INVALID, HasSubstr("data.pkl")));
  EXPECT_THAT(CheckTorchScriptArchive(AsBytes(MakeZip({{"m/constants.pkl", ""}, {"m/data.pkl", ""}}))),
              FailsWith(Reason::MODULE_INVALID, HasSubstr("code")));
  file[file.find("data/0") + 200] ^= 1;  // in the first weight
  EXPECT_THAT(CheckTorchScriptArchive(AsBytes(file)), FailsWith(Reason::FILE_MALFORMED, HasSubstr("CRC-32")));
}

TEST(OpenCheckpointTest, OtherKindsAreNamedWithWhatToDo) {
  EXPECT_THAT(ReadCheckpointFile(AsBytes("\x80\x04N.")), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("pickle")));
  std::string tar(1024, '\0');
  tar.replace(0, 6, "a_file");
  uint32_t sum = 8 * ' ';
  for (const char c : tar) sum += static_cast<uint8_t>(c);
  char octal[8];
  std::snprintf(octal, sizeof octal, "%06o", sum);
  tar.replace(148, 6, octal, 6);
  EXPECT_THAT(ReadCheckpointFile(AsBytes(tar)), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("tar")));
  tar[0] = 'b';
  EXPECT_THAT(ReadCheckpointFile(AsBytes(tar)), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(ReadCheckpointFile(AsBytes("hello, world")), FailsWith(Reason::FILE_MALFORMED));
  EXPECT_THAT(ReadCheckpointFile({}), FailsWith(Reason::FILE_TRUNCATED));
  EXPECT_THAT(ReadCheckpointFile(AsBytes("PK")), FailsWith(Reason::FILE_TRUNCATED));
}

// One that hangs is ended by ctest.
TEST(OpenCheckpointTest, HostileFilesMeetTheirExpectations) {
  const std::string fixtures = SharedFixtures();
  if (fixtures.empty()) GTEST_SKIP() << "the shared fixtures are not beside this checkout (SCONCE_SHARED_DIR)";
  const auto expected = nlohmann::json::parse(ReadWholeFile(fixtures + "/hostile/expected.json"));
  for (const auto& [name, entry] : expected.items()) {
    SCOPED_TRACE(name + ": " + entry.at("why").get<std::string>());
    const std::string file = ReadWholeFile(fixtures + "/hostile/" + name);
    const auto read = ReadCheckpointFile(AsBytes(file));
    if (entry.at("expect") == "ok") {
      EXPECT_OK(read);
    }
    if (entry.at("expect") == "error") {
      EXPECT_THAT(read, Not(IsOk()));
      EXPECT_TRUE(GetErrorDetail(read.status()).has_value()) << "an error without a reason";
    }
  }
  EXPECT_GT(expected.size(), 80u);
}

}  // namespace
}  // namespace sconce::format
