#include "tests/support/memory_blob_store.h"

#include "tests/contract/blob_store_contract.h"

namespace sconce::blob {
namespace {

class MemoryHarness {
 public:
  BlobStore& store() { return store_; }
  void Reopen() {}
  void CorruptByte(const BlobId& id, int64_t offset) { store_.CorruptForTest(id, offset); }

 private:
  MemoryBlobStore store_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Memory, BlobStoreContract, MemoryHarness);

TEST(MemoryBlobStoreTest, AFullStoreSaysSoAndHasRoomAgainOnceTheBlobIsDropped) {
  MemoryBlobStore store;
  store.SetCapacityForTest(10'000);
  {
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<BlobWriter> writer, store.Create(1));
    ASSERT_OK(writer->AppendPacked(AsBytes(Pattern(9'000, 1))));
    EXPECT_THAT(writer->AppendPacked(AsBytes(Pattern(9'000, 1))), FailsWith(Reason::DISK_FULL));
    EXPECT_THAT(writer->Seal(AsBytes("f")), FailsWith(Reason::DISK_FULL));
  }
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<BlobWriter> writer, store.Create(1));
  ASSERT_OK(writer->AppendPacked(AsBytes(Pattern(5'000, 1))));
  EXPECT_OK(writer->Seal(AsBytes("f")));
}

}  // namespace
}  // namespace sconce::blob
