#include "storage/blob/blob_path.h"

#include <gtest/gtest.h>

#include <set>

namespace sconce::blob {
namespace {

BlobId Id() {
  BlobId id;
  id.project_uid = 0x2a;
  for (size_t i = 0; i < id.id.size(); ++i) id.id[i] = static_cast<uint8_t>(0xa0 + i);
  return id;
}

TEST(BlobPathTest, NamesAreThoseOfTheFormatPage) {
  const BlobPaths paths("/data");
  EXPECT_EQ(paths.SealedPath(Id()), "/data/blobs/000000000000002a/a0/a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.blob");
  EXPECT_EQ(paths.PartPath(Id()), "/data/uploads/000000000000002a-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.part");
  EXPECT_EQ(paths.OrphanPath(Id(), absl::FromUnixSeconds(1700000000)),
            "/data/orphans/1700000000-000000000000002a-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.blob");
}

TEST(BlobPathTest, ParsesWhatItMade) {
  EXPECT_EQ(ParseProjectDirName("000000000000002a"), 0x2au);
  EXPECT_EQ(ParseProjectDirName("ffffffffffffffff"), UINT64_MAX);
  EXPECT_EQ(ParseSealedName(0x2a, "a0", "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.blob"), Id());
  const std::optional<Orphan> orphan =
      ParseOrphanName("1700000000-000000000000002a-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.blob");
  ASSERT_TRUE(orphan.has_value());
  EXPECT_EQ(orphan->id, Id());
  EXPECT_EQ(orphan->moved, absl::FromUnixSeconds(1700000000));
}

TEST(BlobPathTest, RefusesNamesItDidNotMake) {
  EXPECT_FALSE(ParseProjectDirName("2a").has_value());
  EXPECT_FALSE(ParseProjectDirName("000000000000002A").has_value());
  EXPECT_FALSE(ParseProjectDirName("lost+found").has_value());
  EXPECT_FALSE(ParseSealedName(1, "a1", "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.blob").has_value());  // another shard's
  EXPECT_FALSE(ParseSealedName(1, "a0", "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.blob~").has_value());
  EXPECT_FALSE(ParseSealedName(1, "a0", "a0a1a2a3a4a5a6a7a8a9aaabacadaeaF.blob").has_value());
  EXPECT_FALSE(ParseSealedName(1, "a0", "a0.blob").has_value());
  EXPECT_FALSE(ParseSealedName(1, "a0", "").has_value());
  EXPECT_FALSE(ParseOrphanName("").has_value());
  EXPECT_FALSE(ParseOrphanName("x-000000000000002a-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.blob").has_value());
  EXPECT_FALSE(ParseOrphanName("000000000000002a-a0a1a2a3a4a5a6a7a8a9aaabacadaeaf.blob").has_value());
}

TEST(BlobPathTest, RandomIdsDiffer) {
  std::set<BlobId> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(RandomBlobId(3));
  EXPECT_EQ(ids.size(), 1000u);
  EXPECT_EQ(ids.begin()->project_uid, 3u);
}

}  // namespace
}  // namespace sconce::blob
