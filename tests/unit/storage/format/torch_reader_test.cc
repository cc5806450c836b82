#include "storage/format/torch_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "storage/format/manifest_codec.h"
#include "tests/support/expected_tree.h"
#include "tests/support/fixtures.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string DataFolder() {
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  return std::string(source != nullptr ? source : ".") + "/tests/data";
}

// Of kinds that are not read yet.
const std::set<std::string>& Later() {
  static const auto& later = *new std::set<std::string>{"legacy_general.pt", "sparse.pt", "quantized.pt"};
  return later;
}

// Reads every file of the folder's expected.json, and compares.
void CheckFolder(const std::string& folder, int& checked) {
  const auto expected = nlohmann::json::parse(ReadWholeFile(folder + "/expected.json"));
  for (const auto& [name, entry] : expected.items()) {
    SCOPED_TRACE(folder + "/" + name);
    const std::string file = ReadWholeFile(folder + "/" + name);
    ASSERT_FALSE(file.empty());
    const auto read = ReadTorchFile(AsBytes(file));
    if (Later().count(name) != 0) {
      EXPECT_THAT(read, Not(IsOk()));
      continue;
    }
    ++checked;
    if (entry.contains("error")) {
      EXPECT_THAT(read, FailsWith(Reason::PICKLE_GLOBAL_REFUSED));
      continue;
    }
    ASSERT_OK(read);
    EXPECT_EQ(ExpectedTree(*read).Compare(entry.at("tree")), "");
    // Written again and read again it is the same, byte for byte.
    FileBytes bytes(read->bytes);
    ASSERT_OK_AND_ASSIGN(const std::string written, WriteTorchFile(read->manifest, bytes, 4099));
    ASSERT_OK_AND_ASSIGN(const TorchFile again, ReadTorchFile(AsBytes(written)));
    const bool has_meta = name == "meta.pt";
    EXPECT_TRUE(has_meta || EncodeManifest(again.manifest) == EncodeManifest(read->manifest));
    EXPECT_EQ(ExpectedTree(again).Compare(entry.at("tree")), "");
    ASSERT_EQ(again.bytes.size(), read->bytes.size());
    for (size_t i = 0; i < again.bytes.size(); ++i) EXPECT_EQ(again.bytes[i], read->bytes[i]) << "storage " << i;
  }
}

TEST(ReadTorchFileTest, OwnFilesReadAsPyTorchSawThem) {
  int checked = 0;
  CheckFolder(DataFolder(), checked);
  EXPECT_EQ(checked, 9);
}

TEST(ReadTorchFileTest, AllFilesOfAllReleasesReadAsPyTorchSawThem) {
  const std::string fixtures = SharedFixtures();
  if (fixtures.empty()) GTEST_SKIP() << "the shared fixtures are not beside this checkout (SCONCE_SHARED_DIR)";
  int checked = 0;
  for (const char* release : {"torch-1.13", "torch-2.6", "torch-2.14"}) CheckFolder(fixtures + "/" + release, checked);
  EXPECT_GE(checked, 55);
}

TEST(ReadTorchFileTest, RefusedGlobalsAreNamed) {
  const std::string file = ReadWholeFile(DataFolder() + "/evil_system.pt");
  const auto read = ReadTorchFile(AsBytes(file));
  EXPECT_THAT(read, FailsWith(Reason::PICKLE_GLOBAL_REFUSED, HasSubstr("posix.system")));
  EXPECT_EQ(GetErrorDetail(read.status())->metadata.at(0).second, "posix.system");
}

TEST(ReadTorchFileTest, BytesLieInTheFileAndSmallOnesInTheManifestToo) {
  const std::string file = ReadWholeFile(DataFolder() + "/state_dict.pt");
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadTorchFile(AsBytes(file)));
  const auto* start = reinterpret_cast<const uint8_t*>(file.data());
  int bulk = 0;
  for (size_t i = 0; i < read.bytes.size(); ++i) {
    const Storage& storage = read.manifest.storages[i];
    EXPECT_GE(read.bytes[i].data(), start);
    EXPECT_LE(read.bytes[i].data() + read.bytes[i].size(), start + file.size());
    EXPECT_EQ(static_cast<int64_t>(read.bytes[i].size()), storage.size_bytes);
    EXPECT_TRUE(storage.chunks.empty());
    if (IsBulk(storage)) {
      ++bulk;
      EXPECT_TRUE(storage.inline_bytes.empty());
    } else {
      EXPECT_EQ(storage.inline_bytes, ToStd(AsText(read.bytes[i])));
    }
  }
  EXPECT_EQ(bulk, 5);
}

std::string Archive(const std::string& byteorder, const std::string& version) {
  std::vector<std::pair<std::string, std::string>> records = {{"a/data.pkl", "\x80\x02N."}};
  if (!byteorder.empty()) records.emplace_back("a/byteorder", byteorder);
  if (!version.empty()) records.emplace_back("a/version", version);
  return MakeZip(records);
}

TEST(ReadTorchFileTest, RecordsBesideTheTreeAreOptional) {
  EXPECT_OK(ReadTorchFile(AsBytes(Archive("", ""))));
  EXPECT_OK(ReadTorchFile(AsBytes(Archive("little", "3\n"))));
  EXPECT_OK(ReadTorchFile(AsBytes(Archive("little", "10"))));
}

TEST(ReadTorchFileTest, UnsupportedVersionAndByteOrderAreNamed) {
  EXPECT_THAT(ReadTorchFile(AsBytes(Archive("", "11"))), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("11")));
  EXPECT_THAT(ReadTorchFile(AsBytes(Archive("", "x"))), FailsWith(Reason::FILE_UNSUPPORTED));
  EXPECT_THAT(ReadTorchFile(AsBytes(Archive("big", "3"))), FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("big")));
}

TEST(ReadTorchFileTest, TreeMustBeInTheFolderOfTheFirstRecord) {
  EXPECT_THAT(ReadTorchFile(AsBytes(MakeZip({}))), FailsWith(Reason::FILE_MALFORMED, HasSubstr("empty")));
  EXPECT_THAT(ReadTorchFile(AsBytes(MakeZip({{"a/x", ""}, {"b/data.pkl", "\x80\x02N."}}))),
              FailsWith(Reason::FILE_MALFORMED, HasSubstr("a/data.pkl")));
}

TEST(ReadTorchFileTest, EveryTruncationIsAnError) {
  const std::string file = ReadWholeFile(DataFolder() + "/views_and_ties.pt");
  ASSERT_FALSE(file.empty());
  for (size_t length = 0; length < file.size(); ++length)
    EXPECT_THAT(ReadTorchFile(AsBytes(file).subspan(0, length)), Not(IsOk())) << length;
}

TEST(ReadTorchFileTest, DamageIsFoundOrHarmless) {
  const std::string file = ReadWholeFile(DataFolder() + "/views_and_ties.pt");
  ASSERT_OK_AND_ASSIGN(const TorchFile good, ReadTorchFile(AsBytes(file)));
  for (size_t at = 0; at < file.size(); ++at) {
    for (const int flip : {0x01, 0x10, 0xff}) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      const auto read = ReadTorchFile(AsBytes(damaged));
      // What is still accepted was no part of the content: padding, dates, records that are not read.
      EXPECT_TRUE(!read.ok() || EncodeManifest(read->manifest) == EncodeManifest(good.manifest)) << at;
    }
  }
}

}  // namespace
}  // namespace sconce::format
