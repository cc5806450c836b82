#include "storage/catalog/keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "storage/catalog/catalog.h"

namespace sconce::catalog {
namespace {

const std::string kZero = std::string(1, '\0');

void ExpectAscending(const std::vector<std::string>& keys) {
  for (size_t i = 1; i < keys.size(); ++i) EXPECT_LT(keys[i - 1], keys[i]) << "at " << i;
}

TEST(KeysTest, IntegersSortByValue) {
  ExpectAscending({CheckpointKey(1, 1), CheckpointKey(1, 2), CheckpointKey(1, 255), CheckpointKey(1, 256),
                   CheckpointKey(1, int64_t{1} << 40), CheckpointKey(2, 1), CheckpointKey(256, 1)});
  ExpectAscending({LogKey(0), LogKey(1), LogKey(256), LogKey(std::numeric_limits<int64_t>::max())});
}

TEST(KeysTest, NamesSortAsTheyReadAndNoneIsAPrefixOfAnother) {
  const std::vector<std::string> names = {"",      kZero, kZero + "a", "a",   "a" + kZero, "a" + kZero + "\xff",
                                          "a\x01", "ab",  "b",         "\xff"};
  std::vector<std::string> keys;
  for (const std::string& name : names) keys.push_back(AliasKey(7, name));
  ExpectAscending(keys);
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(ParseAliasKey(keys[i]), names[i]);
    for (size_t j = 0; j < names.size(); ++j) {
      EXPECT_EQ(i == j, keys[j].compare(0, keys[i].size(), keys[i]) == 0) << i << " " << j;
    }
  }
}

TEST(KeysTest, MetricsSortByValueThenNewestFirst) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::vector<double> values = {-kInf,  -1e300, -2,  -1, -1e-300, -5e-324, 0.0,
                                      5e-324, 1e-300, 0.5, 1,  1e300,   kInf};
  std::vector<std::string> keys;
  for (const double value : values) {
    keys.push_back(MetricKey(3, "loss", value, 9));
    keys.push_back(MetricKey(3, "loss", value, 2));
  }
  ExpectAscending(keys);
  EXPECT_EQ(MetricKey(3, "loss", -0.0, 1), MetricKey(3, "loss", 0.0, 1));
}

TEST(KeysTest, EveryIndexIsOrderedByValueAndNewerFirstAndEndsWithTheVersion) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  std::vector<std::string> keys;
  for (const double value : {-kInf, -1.5, 0.0, 2.0, kInf, std::nan("")}) {
    keys.push_back(LoserMetricKey(3, "loss", value, 9));
    keys.push_back(LoserMetricKey(3, "loss", value, 2));
    EXPECT_EQ(OrderOfIndexKey(keys.back()), OrderOfNumber(value));
  }
  for (const int64_t value : {INT64_MIN, int64_t{-2}, int64_t{0}, int64_t{7}, INT64_MAX}) {
    keys.push_back(NumberKey(3, NumberField::kStep, value, 9));
    keys.push_back(NumberKey(3, NumberField::kStep, value, 2));
    EXPECT_EQ(OrderOfIndexKey(keys.back()), OrderOfNumber(value));
  }
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
  keys.clear();
  for (const std::string& value : {std::string(), kZero, std::string("a"), "a" + kZero, std::string("ab")}) {
    keys.push_back(LabelKey(3, "k", value, 9));
    keys.push_back(LabelKey(3, "k", value, 2));
    EXPECT_EQ(VersionOfIndexKey(keys.back()), 2);
  }
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
  EXPECT_EQ(LoserMetricKey(3, "loss", -std::nan("7"), 1), LoserMetricKey(3, "loss", std::nan(""), 1));
}

TEST(KeysTest, MetricKeysParse) {
  const std::vector<double> values = {-1.5, 0, 3.25, std::numeric_limits<double>::infinity()};
  for (const double value : values) {
    const auto fields = ParseMetricKey(MetricKey(3, "val/a" + kZero + "cc", value, 12));
    ASSERT_TRUE(fields);
    EXPECT_EQ(fields->metric, "val/a" + kZero + "cc");
    EXPECT_EQ(fields->value, value);
    EXPECT_EQ(fields->version, 12);
  }
}

TEST(KeysTest, PrefixesCoverTheirKeysAndNoOthers) {
  const auto covers = [](const std::string& prefix, const std::string& key) {
    return key >= prefix && (PrefixEnd(prefix).empty() || key < PrefixEnd(prefix));
  };
  EXPECT_TRUE(covers(MetricPrefix(3), MetricKey(3, "a", -1, 1)));
  EXPECT_TRUE(covers(MetricPrefix(3, "a"), MetricKey(3, "a", 1, 1)));
  EXPECT_FALSE(covers(MetricPrefix(3, "a"), MetricKey(3, "ab", 1, 1)));
  EXPECT_FALSE(covers(MetricPrefix(3), MetricKey(4, "a", 1, 1)));
  EXPECT_TRUE(covers(MetricPrefix(3, "a", 1), MetricKey(3, "a", 1, 77)));
  EXPECT_FALSE(covers(MetricPrefix(3, "a", 1), MetricKey(3, "a", 1.5, 77)));
  const Digest digest = Sha256(AsBytes("x"));
  EXPECT_TRUE(covers(ReferencePrefix(1, digest), ReferenceKey(1, digest, {Owner::Kind::kModule, 2, 3})));
  EXPECT_FALSE(covers(ReferencePrefix(2, digest), ReferenceKey(1, digest, {Owner::Kind::kModule, 2, 3})));
  EXPECT_TRUE(covers(CheckpointPrefix(UINT64_MAX), CheckpointKey(UINT64_MAX, 5)));
  EXPECT_EQ(PrefixEnd("a\xff\xff"), "b");
  EXPECT_EQ(PrefixEnd("\xff"), "");
}

TEST(KeysTest, EveryParsedKeyGivesItsFieldsBack) {
  const Digest digest = Sha256(AsBytes("x"));
  const Owner owner{Owner::Kind::kModule, 5, 77};
  const auto reference = ParseReferenceKey(ReferenceKey(9, digest, owner));
  ASSERT_TRUE(reference);
  EXPECT_EQ(reference->project_uid, 9u);
  EXPECT_EQ(reference->chunk, digest);
  EXPECT_EQ(reference->owner, owner);
  EXPECT_EQ(ParseTombstoneKey(TombstoneKey(owner)), owner);
  EXPECT_EQ(Owner::Decode(owner.Encode()), owner);
  RawBlobId id{};
  id[0] = 1;
  id[15] = 255;
  const auto blob = ParseBlobKey(BlobKey(4, id));
  ASSERT_TRUE(blob);
  EXPECT_EQ(blob->project_uid, 4u);
  EXPECT_EQ(blob->id, id);
  ASSERT_TRUE(ParseSuspectBlobKey(SuspectBlobKey(4, id)));
  ASSERT_TRUE(ParseWasteKey(WasteKey(4, id)));
  EXPECT_EQ(ParseProjectKey(ProjectKey("vision")), "vision");
  EXPECT_EQ(ParseRunNameKey(RunNameKey(1, "resnet")), "resnet");
  EXPECT_EQ(ParseModuleKey(ModuleKey(1, "net")), "net");
  EXPECT_EQ(ParseDeploymentKey(DeploymentKey("m")), "m");
  EXPECT_EQ(ParseRunTombstoneKey(RunTombstoneKey(8)), 8u);
  EXPECT_EQ(ParseLogKey(LogKey(12)), 12);
}

TEST(KeysTest, MomentsOfRetentionSortByTimeAndGiveTheirFieldsBack) {
  constexpr int64_t kForever = std::numeric_limits<int64_t>::max();
  ExpectAscending({RetentionKey(0, 7), RetentionKey(1, 5), RetentionKey(255, 9), RetentionKey(256, 1),
                   RetentionKey(256, 2), RetentionKey(1'700'000'000'000'000'000, 1), RetentionKey(kForever, 0)});
  for (const int64_t due : {int64_t{0}, int64_t{1'700'000'000'000'000'000}, kForever}) {
    for (const uint64_t run : {uint64_t{0}, uint64_t{3}, UINT64_MAX}) {
      const std::string key = RetentionKey(due, run);
      const auto fields = ParseRetentionKey(key);
      ASSERT_TRUE(fields);
      EXPECT_EQ(fields->due_ns, due);
      EXPECT_EQ(fields->run_uid, run);
      EXPECT_TRUE(key >= RetentionPrefix() && key < PrefixEnd(RetentionPrefix()));
      for (size_t size = 0; size < key.size(); ++size) EXPECT_FALSE(ParseRetentionKey(key.substr(0, size)));
      EXPECT_FALSE(ParseRetentionKey(key + "x"));
    }
  }
  EXPECT_EQ(RetentionKey(-5, 3), RetentionKey(0, 3)) << "what is before 1970 is due";
  EXPECT_FALSE(ParseRetentionKey(CheckpointKey(1, 2)));
  EXPECT_EQ(ToHex(AsBytes(RetentionKey(258, 3))), "6500000000000001020000000000000003");
  EXPECT_EQ(ToHex(AsBytes(RetentionKey(kForever, 0))), "657fffffffffffffff0000000000000000");
}

TEST(KeysTest, KeysOfUploadsGiveTheirFieldsBack) {
  const Digest chunk = Sha256(AsBytes("x"));
  const Fingerprint xxh3 = Xxh3(AsBytes("x"));
  const auto indexed = ParseFingerprintKey(FingerprintKey(3, xxh3, chunk));
  ASSERT_TRUE(indexed);
  EXPECT_EQ(indexed->project_uid, 3u);
  EXPECT_EQ(indexed->xxh3, xxh3);
  EXPECT_EQ(indexed->chunk, chunk);
  EXPECT_EQ(FingerprintKey(3, xxh3, chunk).rfind(FingerprintPrefix(3, xxh3), 0), 0u);
  EXPECT_FALSE(ParseFingerprintKey(FingerprintKey(3, xxh3, chunk) + "x"));
  const auto stored = ParseChunkKey(ChunkKey(3, chunk));
  ASSERT_TRUE(stored);
  EXPECT_EQ(stored->project_uid, 3u);
  EXPECT_EQ(stored->chunk, chunk);
  const auto upload = ParseUploadKey(UploadKey(4, "step-1"));
  ASSERT_TRUE(upload);
  EXPECT_EQ(upload->run_uid, 4u);
  EXPECT_EQ(upload->upload, "step-1");
  const auto part = ParsePartKey(PartKey(5, 300));
  ASSERT_TRUE(part);
  EXPECT_EQ(part->upload_uid, 5u);
  EXPECT_EQ(part->part, 300);
  EXPECT_EQ(ParseJournalKey(JournalKey(5, 2, 77)), 77);
  EXPECT_FALSE(ParseJournalKey(PartKey(5, 2)));
  ExpectAscending({JournalKey(5, 2, 0), JournalKey(5, 2, 1), JournalKey(5, 2, 256), JournalKey(5, 3, 0)});
  const Owner owner{Owner::Kind::kUpload, 4, 5};
  EXPECT_EQ(Owner::Decode(owner.Encode()), owner);
}

TEST(KeysTest, TheBytesAreThoseOfTheDocument) {
  EXPECT_EQ(ToHex(AsBytes(RunNameKey(1, "resnet"))), "5200000000000000017265736e65740001");
  EXPECT_EQ(ToHex(AsBytes(CheckpointKey(2, 3))), "6300000000000000020000000000000003");
  EXPECT_EQ(ToHex(AsBytes(MetricKey(2, "loss", 0.25, 3))),
            "6d00000000000000026c6f73730001bfd0000000000000fffffffffffffffc");
  const Digest chunk = Sha256(AsBytes("x"));
  EXPECT_EQ(ToHex(AsBytes(ChunkKey(1, chunk))), "6b0000000000000001" + chunk.Hex());
  EXPECT_EQ(ToHex(AsBytes(ReferenceKey(1, chunk, {Owner::Kind::kVersion, 2, 3}))),
            "660000000000000001" + chunk.Hex() + "6300000000000000020000000000000003");
}

TEST(KeysTest, ParsersRefuseOtherAndTruncatedKeys) {
  const std::string key = ReferenceKey(9, Sha256(AsBytes("x")), {Owner::Kind::kVersion, 1, 2});
  for (size_t size = 0; size < key.size(); ++size) EXPECT_FALSE(ParseReferenceKey(key.substr(0, size)));
  EXPECT_FALSE(ParseReferenceKey(key + "x"));
  EXPECT_FALSE(ParseReferenceKey(CheckpointKey(1, 2)));
  EXPECT_FALSE(Owner::Decode("zzzzzzzzzzzzzzzzz"));
  EXPECT_FALSE(ParseAliasKey(ModuleKey(1, "a")));
  EXPECT_FALSE(ParseLogKey("l"));
}

}  // namespace
}  // namespace sconce::catalog
