#include "storage/format/torch_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "storage/format/manifest_codec.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/pickle_writer.h"
#include "storage/format/zip_reader.h"
#include "tests/support/deflated_zip.h"
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

// Written again and read again, a file is the same, byte for byte.
void CheckRewritten(const TorchFile& read, const nlohmann::json& tree) {
  FileBytes bytes(read.bytes);
  ASSERT_OK_AND_ASSIGN(const std::string written, WriteTorchFile(read.manifest, bytes, 4099));
  ASSERT_OK_AND_ASSIGN(const TorchFile again, ReadTorchFile(AsBytes(written)));
  const bool has_meta = std::any_of(read.manifest.tensors.begin(), read.manifest.tensors.end(),
                                    [](const TensorView& view) { return view.storage == kNoIndex; });
  EXPECT_TRUE(has_meta || EncodeManifest(again.manifest) == EncodeManifest(read.manifest));
  EXPECT_EQ(ExpectedTree(again).Compare(tree), "");
  ASSERT_EQ(again.bytes.size(), read.bytes.size());
  for (size_t i = 0; i < again.bytes.size(); ++i) EXPECT_EQ(again.bytes[i], read.bytes[i]) << "storage " << i;
}

// Reads every file of the folder's expected.json, and compares.
void CheckFolder(const std::string& folder, int& checked) {
  const auto expected = nlohmann::json::parse(ReadWholeFile(folder + "/expected.json"));
  for (const auto& [name, entry] : expected.items()) {
    SCOPED_TRACE(folder + "/" + name);
    const std::string file = ReadWholeFile(folder + "/" + name);
    ASSERT_FALSE(file.empty());
    const auto read = ReadCheckpointFile(AsBytes(file));
    ++checked;
    if (entry.contains("refused")) {
      EXPECT_THAT(read, FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr(entry.at("refused").get<std::string>())));
      continue;
    }
    if (entry.contains("error")) {
      EXPECT_THAT(read, FailsWith(Reason::PICKLE_GLOBAL_REFUSED));
      continue;
    }
    ASSERT_OK(read);
    EXPECT_EQ(ExpectedTree(*read).Compare(entry.at("tree")), "");
    CheckRewritten(*read, entry.at("tree"));
  }
}

TEST(ReadTorchFileTest, OwnFilesReadAsPyTorchSawThem) {
  int checked = 0;
  CheckFolder(DataFolder(), checked);
  EXPECT_EQ(checked, 9);
}

// Written by tests/data/values/make_values.py.
TEST(ReadTorchFileTest, ValuesOfEveryKindReadAsPyTorchSawThem) {
  int checked = 0;
  for (const char* release : {"torch-1.13", "torch-2.6", "torch-2.14"})
    CheckFolder(DataFolder() + "/values/" + release, checked);
  EXPECT_GE(checked, 25);
}

TEST(ReadTorchFileTest, AllFilesOfAllReleasesReadAsPyTorchSawThem) {
  const std::string fixtures = SharedFixtures();
  if (fixtures.empty()) GTEST_SKIP() << "the shared fixtures are not beside this checkout (SCONCE_SHARED_DIR)";
  int checked = 0;
  for (const char* release : {"torch-1.13", "torch-2.6", "torch-2.14"}) CheckFolder(fixtures + "/" + release, checked);
  EXPECT_GE(checked, 64);
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
  EXPECT_THAT(ReadTorchFile(AsBytes(Archive("middle", "3"))), FailsWith(Reason::FILE_MALFORMED, HasSubstr("middle")));
}

using Records = std::vector<std::pair<std::string, std::string>>;

Records RecordsOf(const std::string& file) {
  Records records;
  const auto zip = ZipReader::Open(AsBytes(file));
  EXPECT_OK(zip);
  for (const ZipRecord& record : zip->records())
    records.emplace_back(std::string(ToStd(record.name)), std::string(ToStd(AsText(record.data))));
  return records;
}

void ExpectSame(const TorchFile& a, const TorchFile& b) {
  EXPECT_EQ(EncodeManifest(a.manifest), EncodeManifest(b.manifest));
  ASSERT_EQ(a.bytes.size(), b.bytes.size());
  for (size_t i = 0; i < a.bytes.size(); ++i) EXPECT_EQ(a.bytes[i], b.bytes[i]) << "storage " << i;
}

TEST(ReadTorchFileTest, RepackedArchivesAreRead) {
  for (const char* name : {"state_dict.pt", "adamw_full.pth", "containers.pt"}) {
    SCOPED_TRACE(name);
    const std::string file = ReadWholeFile(DataFolder() + "/" + name);
    const std::string deflated = MakeDeflatedZip(RecordsOf(file));
    ASSERT_OK_AND_ASSIGN(const TorchFile before, ReadTorchFile(AsBytes(file)));
    ASSERT_OK_AND_ASSIGN(const TorchFile after, ReadTorchFile(AsBytes(deflated)));
    ExpectSame(before, after);
  }
}

TEST(ReadTorchFileTest, ArchivesThatUnpackToFarMoreThanTheyAreAreRefused) {
  EXPECT_OK(
      ReadTorchFile(AsBytes(MakeDeflatedZip({{"a/data.pkl", "\x80\x02N."}, {"a/x", std::string(1 << 20, '\0')}}))));
  const std::string bomb = MakeDeflatedZip({{"a/data.pkl", "\x80\x02N."}, {"a/x", std::string(2 << 20, '\0')}});
  EXPECT_THAT(ReadTorchFile(AsBytes(bomb)), FailsWith(Reason::INPUT_LIMIT_EXCEEDED, HasSubstr("zip -0")));
}

// The file as a big-endian machine writes it: `widths` says how the storages' elements are turned around.
std::string BigEndian(const std::string& file, const std::map<std::string, size_t>& widths) {
  Records records = RecordsOf(file);
  const std::string folder = records[0].first.substr(0, records[0].first.find('/'));
  bool marked = false;
  for (auto& [name, data] : records) {
    if (name == folder + "/byteorder") {
      data = "big";
      marked = true;
    }
    const auto width = widths.find(name.substr(name.rfind('/') + 1));
    if (name.rfind(folder + "/data/", 0) == 0 && width != widths.end())
      SwapElements(absl::MakeSpan(reinterpret_cast<uint8_t*>(data.data()), data.size()), width->second);
  }
  if (!marked) records.emplace_back(folder + "/byteorder", "big");
  return MakeZip(records);
}

TEST(ReadTorchFileTest, BigEndianFilesReadAsTheirLittleEndianTwins) {
  const std::string file = ReadWholeFile(DataFolder() + "/general_sgd.tar");
  ASSERT_OK_AND_ASSIGN(const TorchFile little, ReadTorchFile(AsBytes(file)));
  std::map<std::string, size_t> widths;
  ASSERT_OK_AND_ASSIGN(const TorchIndex index, IndexTorchFile(AsBytes(file)));
  for (const TensorView& view : little.manifest.tensors) {
    const std::string name(ToStd(index.records[view.storage].name));
    widths[name.substr(name.rfind('/') + 1)] = static_cast<size_t>(ElementBytes(view.dtype));
  }
  const std::string swapped = BigEndian(file, widths);
  ASSERT_OK_AND_ASSIGN(const TorchFile big, ReadTorchFile(AsBytes(swapped)));
  ExpectSame(little, big);
}

// {"x": a tensor, "y": another} of one untyped storage, seen as these dtypes: _rebuild_tensor_v3.
std::string TwoViews(const std::string& first, const std::string& second, const std::string& bytes) {
  PickleWriter out;
  out.Op(PickleOp::kEmptyDict);
  for (const auto& [key, dtype] : {std::make_pair("x", first), std::make_pair("y", second)}) {
    out.Str(key);
    out.Global("torch._utils", "_rebuild_tensor_v3");
    out.Op(PickleOp::kMark);
    out.Op(PickleOp::kMark);
    out.Str("storage");
    out.Global("torch.storage", "UntypedStorage");
    out.Str("0");
    out.Str("cpu");
    out.Int(static_cast<int64_t>(bytes.size()));
    out.Op(PickleOp::kTuple);
    out.Op(PickleOp::kBinPersId);
    out.Int(0);
    out.Int(1);
    out.Tuple(1);
    out.Int(1);
    out.Tuple(1);
    out.Bool(false);
    out.Global("collections", "OrderedDict");
    out.Tuple(0);
    out.Op(PickleOp::kReduce);
    out.Global("torch", dtype);
    out.Op(PickleOp::kTuple);
    out.Op(PickleOp::kReduce);
    out.Op(PickleOp::kSetItem);
  }
  return MakeZip({{"a/data.pkl", out.Finish()}, {"a/byteorder", "big"}, {"a/data/0", bytes}});
}

TEST(ReadTorchFileTest, BigEndianStoragesAreTurnedAroundByTheDtypeOfTheirTensors) {
  ASSERT_OK_AND_ASSIGN(const TorchFile halves, ReadTorchFile(AsBytes(TwoViews("uint16", "bfloat16", "abcdefgh"))));
  EXPECT_EQ(halves.manifest.storages[0].inline_bytes, "badcfehg");
  // The parts of a complex number keep their order.
  ASSERT_OK_AND_ASSIGN(const TorchFile complex, ReadTorchFile(AsBytes(TwoViews("complex64", "uint32", "abcdefgh"))));
  EXPECT_EQ(complex.manifest.storages[0].inline_bytes, "dcbahgfe");
  EXPECT_THAT(ReadTorchFile(AsBytes(TwoViews("uint16", "uint32", "abcdefgh"))),
              FailsWith(Reason::FILE_UNSUPPORTED, HasSubstr("a/data/0")));
}

TEST(IndexTorchFileTest, BytesOfTensorsAreNotLookedAt) {
  std::string file = ReadWholeFile(DataFolder() + "/state_dict.pt");
  const size_t largest = file.find("/data/4") + 2000;  // 120 x 400 floats
  file[largest] = static_cast<char>(file[largest] ^ 1);
  ASSERT_OK_AND_ASSIGN(TorchIndex index, IndexTorchFile(AsBytes(file)));
  for (size_t i = 0; i < index.records.size(); ++i)
    EXPECT_EQ(index.records[i].size_bytes, index.manifest.storages[i].size_bytes);
  EXPECT_THAT(LoadRecords(std::move(index)), FailsWith(Reason::FILE_MALFORMED, HasSubstr("/data/4")));
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
