#ifndef SCONCE_TESTS_CONTRACT_BLOB_STORE_CONTRACT_H_
#define SCONCE_TESTS_CONTRACT_BLOB_STORE_CONTRACT_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "base/error.h"
#include "base/file_system.h"
#include "storage/blob/blob_store.h"
#include "storage/blob/footer.h"
#include "tests/support/status_matchers.h"

// What every BlobStore promises. A test program names its store with a harness and instantiates the suite:
//
//   struct MyHarness {
//     BlobStore& store();              // empty and recovered at first
//     void Reopen();                   // as a restart of the process, before DropUnsealed; unsealed writers are gone
//     void CorruptByte(const BlobId& id, int64_t offset);   // damages a sealed blob that nobody has open
//   };
//   INSTANTIATE_TYPED_TEST_SUITE_P(My, BlobStoreContract, MyHarness);
namespace sconce::blob {

inline constexpr uint64_t kProject = 7;

inline std::string Pattern(int64_t size_bytes, int seed) {
  std::string bytes(static_cast<size_t>(size_bytes), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / 251 + static_cast<size_t>(seed));
  return bytes;
}

inline std::string Text(ByteSpan bytes) {
  return std::string(ToStd(AsText(bytes)));
}

// What a sort asked about.
struct SortQuestions {
  std::vector<BlobId> asked;

  KnownBlobs Answering(bool known) {
    return [this, known](absl::Span<const BlobId> blobs) -> absl::StatusOr<std::vector<bool>> {
      asked.insert(asked.end(), blobs.begin(), blobs.end());
      return std::vector<bool>(blobs.size(), known);
    };
  }
};

template <typename Harness>
class BlobStoreContract : public ::testing::Test {
 protected:
  BlobStore& store() { return harness_.store(); }

  std::unique_ptr<BlobWriter> Create(uint64_t project = kProject) {
    absl::StatusOr<std::unique_ptr<BlobWriter>> writer = store().Create(project);
    EXPECT_OK(writer);
    return writer.ok() ? *std::move(writer) : nullptr;
  }

  // Appends `bytes` from an aligned buffer, whose rest is filled with rubbish, and returns where they stand.
  static int64_t Append(BlobWriter& writer, const std::string& bytes, bool mappable) {
    const auto size = static_cast<int64_t>(bytes.size());
    AlignedBuffer buffer((size + 2 * kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment);
    std::memset(buffer.data(), 0xEE, static_cast<size_t>(buffer.capacity()));
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
    absl::StatusOr<int64_t> offset = writer.Append(buffer, size, mappable);
    EXPECT_OK(offset);
    return offset.value_or(-1);
  }

  static int64_t AppendPacked(BlobWriter& writer, const std::string& bytes) {
    absl::StatusOr<int64_t> offset = writer.AppendPacked(AsBytes(bytes));
    EXPECT_OK(offset);
    return offset.value_or(-1);
  }

  // A sealed blob of one chunk.
  BlobId Sealed(const std::string& bytes = "content", const std::string& footer = "footer",
                uint64_t project = kProject) {
    const std::unique_ptr<BlobWriter> writer = Create(project);
    Append(*writer, bytes, true);
    EXPECT_OK(writer->Seal(AsBytes(footer)));
    return writer->id();
  }

  std::vector<BlobId> SealedSorted(int count) {
    std::vector<BlobId> ids;
    for (int i = 0; i < count; ++i) ids.push_back(Sealed());
    std::sort(ids.begin(), ids.end());
    return ids;
  }

  static void ExpectRead(const Blob& blob, int64_t offset, const std::string& bytes) {
    absl::StatusOr<ByteSpan> read = blob.Read(offset, static_cast<int64_t>(bytes.size()));
    ASSERT_OK(read);
    EXPECT_TRUE(Text(*read) == bytes) << "at offset " << offset;
  }

  Harness harness_;
};

TYPED_TEST_SUITE_P(BlobStoreContract);

TYPED_TEST_P(BlobStoreContract, WhatWasAppendedIsReadBack) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  const std::string big = Pattern(300'000, 1), small = Pattern(100, 2), other = Pattern(70'000, 3);
  const int64_t big_at = this->Append(*writer, big, true);
  const int64_t small_at = this->AppendPacked(*writer, small);
  const int64_t other_at = this->Append(*writer, other, true);
  const std::string footer = Pattern(5'000, 4);
  ASSERT_OK(writer->Seal(AsBytes(footer)));

  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  EXPECT_EQ(blob->id(), writer->id());
  this->ExpectRead(*blob, big_at, big);
  this->ExpectRead(*blob, small_at, small);
  this->ExpectRead(*blob, other_at, other);
  ASSERT_OK_AND_ASSIGN(const ByteSpan read_footer, blob->Footer());
  EXPECT_EQ(Text(read_footer), footer);
}

TYPED_TEST_P(BlobStoreContract, MappableChunksStandAtPagesAndSmallOnesAreAlignedAndApart) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  std::vector<std::pair<int64_t, std::string>> chunks;
  for (int i = 0; i < 300; ++i) {
    const std::string packed = Pattern(1 + i * 211 % 65'000, i);
    const std::string mapped = Pattern(1 + i * 977 % 20'000, i + 1);
    const std::string copied = Pattern(1 + i * 13, i + 2);
    chunks.emplace_back(this->AppendPacked(*writer, packed), packed);
    EXPECT_EQ(chunks.back().first % kPackAlignment, 0);
    if (i % 3 == 0) {
      chunks.emplace_back(this->Append(*writer, mapped, true), mapped);
      EXPECT_EQ(chunks.back().first % kDirectAlignment, 0);
    }
    chunks.emplace_back(this->Append(*writer, copied, false), copied);
    EXPECT_EQ(chunks.back().first % kPackAlignment, 0);
  }
  ASSERT_OK_AND_ASSIGN(const int64_t footer_at, writer->FooterOffset());
  EXPECT_EQ(footer_at % kPackAlignment, 0);
  ASSERT_OK(writer->Seal(AsBytes("the end")));

  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  for (const auto& [offset, bytes] : chunks) {
    this->ExpectRead(*blob, offset, bytes);
    EXPECT_LE(offset + static_cast<int64_t>(bytes.size()), footer_at);
  }
  this->ExpectRead(*blob, footer_at, "the end");
  EXPECT_EQ(blob->footer_offset(), footer_at);
}

TYPED_TEST_P(BlobStoreContract, PaddingBehindAMappableChunkIsZero) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  const int64_t first = this->Append(*writer, Pattern(100, 1), true);
  this->Append(*writer, Pattern(100, 2), true);
  ASSERT_OK(writer->Seal(AsBytes("f")));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  this->ExpectRead(*blob, first + 100, std::string(kDirectAlignment - 100, '\0'));
}

TYPED_TEST_P(BlobStoreContract, ABigChunkNotMarkedMappableIsStillTaken) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  const std::string bytes = Pattern(3'000'001, 9);
  const int64_t offset = this->Append(*writer, bytes, false);
  EXPECT_EQ(offset % kPackAlignment, 0);
  ASSERT_OK(writer->Seal(AsBytes("f")));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  this->ExpectRead(*blob, offset, bytes);
}

TYPED_TEST_P(BlobStoreContract, ABlobMayBeAFooterAlone) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  ASSERT_OK_AND_ASSIGN(const int64_t offset, writer->FooterOffset());
  EXPECT_EQ(offset, 0);
  ASSERT_OK(writer->Seal(AsBytes("only me")));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  ASSERT_OK_AND_ASSIGN(const ByteSpan footer, blob->Footer());
  EXPECT_EQ(Text(footer), "only me");
}

TYPED_TEST_P(BlobStoreContract, AFooterOfManyMegabytesFits) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  this->AppendPacked(*writer, "small");
  const std::string footer = Pattern((int64_t{5} << 20) + 3, 6);
  ASSERT_OK(writer->Seal(AsBytes(footer)));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  ASSERT_OK_AND_ASSIGN(const ByteSpan read, blob->Footer());
  EXPECT_TRUE(Text(read) == footer);
}

TYPED_TEST_P(BlobStoreContract, AFooterOfAnySizeEndsWhole) {
  // Every way the footer can meet the end of a page, with and without a small chunk before it.
  for (const int64_t size : {0, 1, 63, 3999, 4000, 4001, 4095, 4096, 4097, 8096, 1048480, 1048576, 1048577}) {
    for (const bool chunk : {false, true}) {
      const std::unique_ptr<BlobWriter> writer = this->Create();
      if (chunk) this->AppendPacked(*writer, Pattern(65, 1));
      const std::string footer = Pattern(size, 2);
      ASSERT_OK(writer->Seal(AsBytes(footer)));
      ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
      ASSERT_OK_AND_ASSIGN(const ByteSpan read, blob->Footer());
      EXPECT_TRUE(Text(read) == footer) << size;
    }
  }
}

TYPED_TEST_P(BlobStoreContract, AnUnsealedBlobIsInvisible) {
  std::unique_ptr<BlobWriter> writer = this->Create();
  const BlobId id = writer->id();
  this->Append(*writer, Pattern(100'000, 1), true);
  EXPECT_THAT(this->store().Open(id), FailsWith(Reason::CHUNK_CORRUPT));
  ASSERT_OK_AND_ASSIGN(const std::vector<BlobId> during, this->store().List());
  EXPECT_THAT(during, ::testing::IsEmpty());
  writer.reset();
  EXPECT_THAT(this->store().Open(id), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_EQ(this->store().GetStats().blobs, 0);
  EXPECT_EQ(this->store().GetStats().physical_bytes, 0);
}

TYPED_TEST_P(BlobStoreContract, ProjectsAreApart) {
  const BlobId mine = this->Sealed("mine", "f", 1);
  const BlobId theirs = this->Sealed("theirs", "f", 2);
  EXPECT_EQ(mine.project_uid, 1);
  EXPECT_EQ(theirs.project_uid, 2);
  BlobId crossed = mine;
  crossed.project_uid = 2;
  EXPECT_THAT(this->store().Open(crossed), FailsWith(Reason::CHUNK_CORRUPT));
  ASSERT_OK(this->store().Remove(crossed));
  EXPECT_OK(this->store().Open(mine));
  ASSERT_OK_AND_ASSIGN(const std::vector<BlobId> ids, this->store().List());
  EXPECT_THAT(ids, ::testing::UnorderedElementsAre(mine, theirs));
}

TYPED_TEST_P(BlobStoreContract, OpeningTwiceSharesOneDescriptor) {
  const BlobId id = this->Sealed();
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> one, this->store().Open(id));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> two, this->store().Open(id));
  EXPECT_EQ(one.get(), two.get());
  EXPECT_EQ(one->fd(), two->fd());
}

TYPED_TEST_P(BlobStoreContract, TheDescriptorMapsAChunkAndCannotWrite) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  const std::string bytes = Pattern(100'000, 5);
  this->Append(*writer, Pattern(5000, 1), true);
  const int64_t offset = this->Append(*writer, bytes, true);
  ASSERT_OK(writer->Seal(AsBytes("f")));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  void* mapping = ::mmap(nullptr, bytes.size(), PROT_READ, MAP_PRIVATE, blob->fd(), offset);
  ASSERT_NE(mapping, MAP_FAILED);
  EXPECT_EQ(std::memcmp(mapping, bytes.data(), bytes.size()), 0);
  ::munmap(mapping, bytes.size());
  EXPECT_EQ(::pwrite(blob->fd(), "x", 1, 0), -1);
}

TYPED_TEST_P(BlobStoreContract, RemoveTakesTheBlobButNotItsReaders) {
  const BlobId id = this->Sealed("still here");
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> reader, this->store().Open(id));
  ASSERT_OK(this->store().Remove(id));
  this->ExpectRead(*reader, 0, "still here");
  EXPECT_OK(reader->Footer());
  EXPECT_THAT(this->store().Open(id), FailsWith(Reason::CHUNK_CORRUPT));
  ASSERT_OK_AND_ASSIGN(const std::vector<BlobId> ids, this->store().List());
  EXPECT_THAT(ids, ::testing::IsEmpty());
}

TYPED_TEST_P(BlobStoreContract, RemovingWhatIsAbsentIsOk) {
  const BlobId id = this->Sealed();
  ASSERT_OK(this->store().Remove(id));
  EXPECT_OK(this->store().Remove(id));
  EXPECT_EQ(this->store().GetStats().blobs, 0);
  EXPECT_EQ(this->store().GetStats().physical_bytes, 0);
}

TYPED_TEST_P(BlobStoreContract, StatsFollowSealAndRemove) {
  const BlobId first = this->Sealed(Pattern(100'000, 1));
  const BlobStats one = this->store().GetStats();
  EXPECT_EQ(one.blobs, 1);
  EXPECT_GE(one.physical_bytes, 100'000);
  this->Sealed(Pattern(50'000, 1));
  EXPECT_EQ(this->store().GetStats().blobs, 2);
  ASSERT_OK(this->store().Remove(first));
  const BlobStats left = this->store().GetStats();
  EXPECT_EQ(left.blobs, 1);
  EXPECT_GE(left.physical_bytes, 50'000);
  EXPECT_LT(left.physical_bytes, one.physical_bytes);
}

TYPED_TEST_P(BlobStoreContract, StatsCountWhatTheBlobsTake) {
  int64_t expected = 0;
  for (int i = 0; i < 20; ++i) {
    const std::unique_ptr<BlobWriter> writer = i % 2 == 0 ? this->Create() : *this->store().CreateInReserve(kProject);
    this->AppendPacked(*writer, Pattern(100 + i * 3000, i));
    this->Append(*writer, Pattern(70'000, i), true);  // leaves a hole behind the packed chunk
    this->AppendPacked(*writer, Pattern(60'000, i));
    ASSERT_OK(writer->Seal(AsBytes("footer")));
    ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
    EXPECT_LE(blob->allocated_bytes(), blob->size_bytes());
    expected += blob->allocated_bytes();
  }
  EXPECT_EQ(this->store().GetStats().physical_bytes, expected);
}

TYPED_TEST_P(BlobStoreContract, AResumableBlobGoesOnBehindWhatWasSynced) {
  const std::string large = Pattern(70'000, 1), small = Pattern(100, 2), lost = Pattern(5000, 3);
  const std::string later = Pattern(300, 4), last = Pattern(70'001, 5);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<BlobWriter> writer, this->store().CreateResumable(kProject));
  const BlobId id = writer->id();
  const int64_t large_at = this->Append(*writer, large, true), small_at = this->AppendPacked(*writer, small);
  ASSERT_OK(writer->Sync());
  const int64_t end = std::max(large_at + 70'000, small_at + 100);
  this->AppendPacked(*writer, lost);
  writer.reset();
  EXPECT_THAT(this->store().Open(id), FailsWith(Reason::CHUNK_CORRUPT));  // not sealed

  ASSERT_OK_AND_ASSIGN(writer, this->store().Resume(id, end));
  EXPECT_EQ(writer->id(), id);
  const int64_t later_at = this->AppendPacked(*writer, later);
  EXPECT_GE(later_at, end);
  ASSERT_OK(writer->Sync());
  const int64_t last_at = this->Append(*writer, last, true), after_at = this->AppendPacked(*writer, small);
  ASSERT_OK(writer->FooterOffset());
  ASSERT_OK(writer->Seal(AsBytes("footer")));
  writer.reset();
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(id));
  const auto read = [&](int64_t at, const std::string& expected) {
    const auto bytes = blob->Read(at, static_cast<int64_t>(expected.size()));
    ASSERT_OK(bytes);
    EXPECT_EQ(AsText(*bytes), expected);
  };
  read(large_at, large);
  read(small_at, small);
  read(later_at, later);
  read(last_at, last);
  read(after_at, small);
  ASSERT_OK_AND_ASSIGN(const ByteSpan footer, blob->Footer());
  EXPECT_EQ(AsText(footer), "footer");
  EXPECT_THAT(this->store().Resume(id, 0), FailsWith(Reason::CHUNK_CORRUPT));  // sealed for ever
  EXPECT_EQ(this->store().GetStats().physical_bytes, blob->allocated_bytes());
}

TYPED_TEST_P(BlobStoreContract, SyncMayRunBesideAppends) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<BlobWriter> writer, this->store().CreateResumable(kProject));
  constexpr int kThreads = 3, kEach = 200;
  std::array<std::vector<int64_t>, kThreads> at;
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const auto appended = writer->AppendPacked(AsBytes(Pattern(3000 + i, t * kEach + i)));
        EXPECT_OK(appended);
        at[static_cast<size_t>(t)].push_back(appended.value_or(0));
      }
      --running;
    });
  }
  while (running > 0) EXPECT_OK(writer->Sync());
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(writer->Sync());
  ASSERT_OK(writer->Seal(AsBytes("footer")));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  for (int t = 0; t < kThreads; ++t) {
    for (int i = 0; i < kEach; ++i) {
      const std::string expected = Pattern(3000 + i, t * kEach + i);
      ASSERT_OK_AND_ASSIGN(const ByteSpan bytes, blob->Read(at[static_cast<size_t>(t)][static_cast<size_t>(i)],
                                                            static_cast<int64_t>(expected.size())));
      EXPECT_EQ(AsText(bytes), expected);
    }
  }
}

TYPED_TEST_P(BlobStoreContract, RemoveTakesAResumableBlob) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<BlobWriter> writer, this->store().CreateResumable(kProject));
  this->AppendPacked(*writer, Pattern(100, 1));
  ASSERT_OK(writer->Sync());
  const BlobId id = writer->id();
  writer.reset();
  ASSERT_OK(this->store().Remove(id));
  EXPECT_THAT(this->store().Resume(id, 0), FailsWith(Reason::CHUNK_CORRUPT));
  ASSERT_OK(this->store().Remove(id));
}

TYPED_TEST_P(BlobStoreContract, RecoverKeepsResumableBlobsThatAreNamed) {
  std::vector<BlobId> ids;
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<BlobWriter> writer, this->store().CreateResumable(kProject));
    this->AppendPacked(*writer, Pattern(100, i));
    ASSERT_OK(writer->Sync());
    ids.push_back(writer->id());
  }
  std::vector<BlobId> asked;
  const auto none = [](const BlobId&) { return false; };
  ASSERT_OK(this->store().Recover(none, [&](const BlobId& id) {
    asked.push_back(id);
    return id == ids[0];
  }));
  EXPECT_EQ(asked.size(), 2u);
  EXPECT_OK(this->store().Resume(ids[0], 100));
  EXPECT_THAT(this->store().Resume(ids[1], 100), FailsWith(Reason::CHUNK_CORRUPT));
}

TYPED_TEST_P(BlobStoreContract, RecoverKeepsTheKnownAndSetsTheRestAside) {
  const BlobId known = this->Sealed("known");
  const BlobId unknown = this->Sealed("unknown");
  const BlobStats before = this->store().GetStats();
  this->harness_.Reopen();
  EXPECT_THAT(this->store().Recover([&](const BlobId& id) { return id == known; }), IsOk());
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(known));
  this->ExpectRead(*blob, 0, "known");
  EXPECT_THAT(this->store().Open(unknown), FailsWith(Reason::CHUNK_CORRUPT));
  EXPECT_EQ(this->store().GetStats().blobs, 1);
  EXPECT_EQ(this->store().GetStats().physical_bytes, before.physical_bytes / 2);
}

TYPED_TEST_P(BlobStoreContract, RecoverCountsWhatItSetAside) {
  for (int i = 0; i < 3; ++i) this->Sealed();
  this->harness_.Reopen();
  ASSERT_OK_AND_ASSIGN(const int64_t moved, this->store().Recover([](const BlobId&) { return false; }));
  EXPECT_EQ(moved, 3);
  ASSERT_OK_AND_ASSIGN(const int64_t again, this->store().Recover([](const BlobId&) { return false; }));
  EXPECT_EQ(again, 0);
}

TYPED_TEST_P(BlobStoreContract, TheSortAsksInStepsAboutEachOldBlobOnce) {
  const std::vector<BlobId> old = this->SealedSorted(5);
  this->harness_.Reopen();
  ASSERT_OK(this->store().DropUnsealed([](const BlobId&) { return false; }));
  SortQuestions questions;
  SortStep step;
  while (!step.ended) {
    ASSERT_OK_AND_ASSIGN(step, this->store().SortSealed(questions.Answering(true), 2));
    EXPECT_LE(step.looked_at, 2);
    EXPECT_EQ(step.moved, 0);
  }
  EXPECT_EQ(questions.asked, old);
  EXPECT_EQ(this->store().GetStats().blobs, 5);
  EXPECT_TRUE(this->store().GetStats().complete);
}

TYPED_TEST_P(BlobStoreContract, TheSortNeverAsksAboutABlobMadeSinceTheStart) {
  const std::vector<BlobId> old = this->SealedSorted(3);
  this->harness_.Reopen();
  ASSERT_OK(this->store().DropUnsealed([](const BlobId&) { return false; }));
  std::vector<BlobId> made = this->SealedSorted(10);
  SortQuestions questions;
  const KnownBlobs unknown = [&](absl::Span<const BlobId> blobs) {
    made.push_back(this->Sealed());  // between the reading of the names and the look into the catalog
    return questions.Answering(false)(blobs);
  };
  int64_t moved = 0;
  for (SortStep step; !step.ended; moved += step.moved) {
    ASSERT_OK_AND_ASSIGN(step, this->store().SortSealed(unknown, 1));
    made.push_back(this->Sealed());
  }
  EXPECT_EQ(questions.asked, old);
  EXPECT_EQ(moved, 3);
  for (const BlobId& id : made) EXPECT_OK(this->store().Open(id));
  EXPECT_EQ(this->store().GetStats().blobs, static_cast<int64_t>(made.size()));
}

TYPED_TEST_P(BlobStoreContract, TheSortLeavesABlobThatGoesOnAlone) {
  BlobId id;
  {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<BlobWriter> writer, this->store().CreateResumable(kProject));
    this->AppendPacked(*writer, Pattern(100, 1));
    ASSERT_OK(writer->Sync());
    id = writer->id();
  }
  this->harness_.Reopen();
  ASSERT_OK(this->store().DropUnsealed([](const BlobId&) { return true; }));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<BlobWriter> writer, this->store().Resume(id, 100));
  ASSERT_OK(writer->FooterOffset());
  ASSERT_OK(writer->Seal(AsBytes("f")));
  SortQuestions questions;
  ASSERT_OK_AND_ASSIGN(const SortStep step, this->store().SortSealed(questions.Answering(false), 100));
  EXPECT_TRUE(step.ended);
  EXPECT_TRUE(questions.asked.empty());
  EXPECT_OK(this->store().Open(id));
  EXPECT_EQ(this->store().GetStats().blobs, 1);
}

TYPED_TEST_P(BlobStoreContract, AFailedStepOfTheSortIsTakenAgain) {
  const std::vector<BlobId> old = this->SealedSorted(2);
  this->harness_.Reopen();
  ASSERT_OK(this->store().DropUnsealed([](const BlobId&) { return false; }));
  const KnownBlobs failing = [](absl::Span<const BlobId>) -> absl::StatusOr<std::vector<bool>> {
    return MakeError(Reason::IO_ERROR, "the catalog cannot be read");
  };
  EXPECT_THAT(this->store().SortSealed(failing, 2), FailsWith(Reason::IO_ERROR));
  EXPECT_FALSE(this->store().GetStats().complete);
  SortQuestions questions;
  for (SortStep step; !step.ended;) {
    ASSERT_OK_AND_ASSIGN(step, this->store().SortSealed(questions.Answering(true), 2));
  }
  EXPECT_EQ(questions.asked, old);
  EXPECT_EQ(this->store().GetStats().blobs, 2);
}

TYPED_TEST_P(BlobStoreContract, WhatIsRemovedBeforeAndWhileItIsSortedIsNotCounted) {
  const std::vector<BlobId> old = this->SealedSorted(4);
  const int64_t bytes_of_one = this->store().GetStats().physical_bytes / 4;
  this->harness_.Reopen();
  ASSERT_OK(this->store().DropUnsealed([](const BlobId&) { return false; }));
  ASSERT_OK(this->store().Remove(old[1]));
  SortQuestions questions;
  const KnownBlobs removing = [&](absl::Span<const BlobId> blobs) {
    EXPECT_OK(this->store().Remove(old[2]));
    return questions.Answering(true)(blobs);
  };
  for (SortStep step; !step.ended;) {
    ASSERT_OK_AND_ASSIGN(step, this->store().SortSealed(removing, 4));
  }
  EXPECT_EQ(this->store().GetStats().blobs, 2);
  EXPECT_EQ(this->store().GetStats().physical_bytes, 2 * bytes_of_one);
  ASSERT_OK(this->store().Remove(old[0]));
  EXPECT_EQ(this->store().GetStats().blobs, 1);
}

TYPED_TEST_P(BlobStoreContract, SeveralThreadsAppendToOneBlob) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  constexpr int kThreads = 4, kRounds = 60;
  std::vector<std::vector<std::pair<int64_t, std::string>>> made(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        const bool mappable = (i + t) % 2 == 0;
        std::string bytes = Pattern(1 + (i * 7919 + t * 104729) % (mappable ? 200'000 : 60'000), t * 1000 + i);
        const int64_t offset = mappable ? this->Append(*writer, bytes, true) : this->AppendPacked(*writer, bytes);
        made[static_cast<size_t>(t)].emplace_back(offset, std::move(bytes));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(writer->Seal(AsBytes("f")));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  for (const auto& chunks : made) {
    for (const auto& [offset, bytes] : chunks) this->ExpectRead(*blob, offset, bytes);
  }
}

TYPED_TEST_P(BlobStoreContract, SeveralThreadsSealAndOpenAtOnce) {
  std::vector<std::thread> threads;
  std::vector<BlobId> ids(8);
  for (size_t t = 0; t < ids.size(); ++t) {
    threads.emplace_back([&, t] {
      ids[t] = this->Sealed(Pattern(1000, static_cast<int>(t)), "f", t % 2);
      absl::StatusOr<std::shared_ptr<const Blob>> blob = this->store().Open(ids[t]);
      ASSERT_OK(blob);
      this->ExpectRead(**blob, 0, Pattern(1000, static_cast<int>(t)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK_AND_ASSIGN(const std::vector<BlobId> listed, this->store().List());
  EXPECT_THAT(listed, ::testing::UnorderedElementsAreArray(ids));
}

TYPED_TEST_P(BlobStoreContract, ADamagedFooterIsNotGivenOut) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  this->Append(*writer, Pattern(100, 1), true);
  ASSERT_OK_AND_ASSIGN(const int64_t footer_at, writer->FooterOffset());
  ASSERT_OK(writer->Seal(AsBytes("a footer with a checksum")));
  this->harness_.CorruptByte(writer->id(), footer_at + 5);
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(writer->id()));
  EXPECT_THAT(blob->Footer(), FailsWith(Reason::CHUNK_CORRUPT));
}

TYPED_TEST_P(BlobStoreContract, TheStoredFileIsWhatTheDiskHas) {
  const BlobId id = this->Sealed(Pattern(10'000, 1), "the footer");
  AlignedBuffer buffer(3 * kDirectAlignment);
  {
    const auto file = this->store().OpenStored(id);
    ASSERT_OK(file);
    const auto blob = this->store().Open(id);
    ASSERT_OK(blob);
    EXPECT_EQ((*file)->size_bytes(), (*blob)->size_bytes());
    ASSERT_OK((*file)->ReadAt(0, absl::MakeSpan(buffer.data(), static_cast<size_t>(buffer.capacity()))));
    EXPECT_EQ(Text(ByteSpan(buffer.data(), 10'000)), Pattern(10'000, 1));
    ASSERT_OK((*file)->ReadAt((*file)->size_bytes() - kDirectAlignment,
                              absl::MakeSpan(buffer.data(), static_cast<size_t>(kDirectAlignment))));
    EXPECT_TRUE(absl::StartsWith(AsText(ByteSpan(buffer.data() + kDirectAlignment - kTrailerBytes, 8)), "SCNBLOB"));
  }
  this->harness_.CorruptByte(id, 100);
  const auto file = this->store().OpenStored(id);
  ASSERT_OK(file);
  ASSERT_OK((*file)->ReadAt(0, absl::MakeSpan(buffer.data(), static_cast<size_t>(kDirectAlignment))));
  EXPECT_NE(Text(ByteSpan(buffer.data(), 4096)), Pattern(10'000, 1).substr(0, 4096));
  ASSERT_OK(this->store().Remove(id));
  EXPECT_THAT(this->store().OpenStored(id), FailsWith(Reason::CHUNK_CORRUPT));
}

TYPED_TEST_P(BlobStoreContract, ReadingOutsideTheBlobFails) {
  const BlobId id = this->Sealed();
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, this->store().Open(id));
  const int64_t size = blob->size_bytes();
  EXPECT_OK(blob->Read(0, size));
  EXPECT_OK(blob->Read(size, 0));
  EXPECT_THAT(blob->Read(0, size + 1), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(blob->Read(size, 1), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(blob->Read(-1, 1), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(blob->Read(0, -1), FailsWith(Reason::IO_ERROR));
  EXPECT_THAT(blob->Read(INT64_MAX, INT64_MAX), FailsWith(Reason::IO_ERROR));
}

TYPED_TEST_P(BlobStoreContract, MisuseIsAnErrorOfOurs) {
  const std::unique_ptr<BlobWriter> writer = this->Create();
  AlignedBuffer buffer(kDirectAlignment);
  EXPECT_THAT(writer->Append(buffer, 0, true), FailsWith(Reason::INTERNAL_ERROR));
  EXPECT_THAT(writer->Append(buffer, kDirectAlignment + 1, true), FailsWith(Reason::INTERNAL_ERROR));
  EXPECT_THAT(writer->AppendPacked({}), FailsWith(Reason::INTERNAL_ERROR));
  EXPECT_THAT(writer->AppendPacked(AsBytes(Pattern(kMappableBytes, 1))), FailsWith(Reason::INTERNAL_ERROR));
  ASSERT_OK(writer->FooterOffset());
  EXPECT_THAT(writer->AppendPacked(AsBytes("late")), FailsWith(Reason::INTERNAL_ERROR));
  EXPECT_THAT(writer->Append(buffer, kDirectAlignment, true), FailsWith(Reason::INTERNAL_ERROR));
  ASSERT_OK(writer->Seal(AsBytes("f")));
  EXPECT_THAT(writer->Seal(AsBytes("f")), FailsWith(Reason::INTERNAL_ERROR));
  EXPECT_OK(this->store().Open(writer->id()));
}

REGISTER_TYPED_TEST_SUITE_P(BlobStoreContract, WhatWasAppendedIsReadBack,
                            MappableChunksStandAtPagesAndSmallOnesAreAlignedAndApart, PaddingBehindAMappableChunkIsZero,
                            ABigChunkNotMarkedMappableIsStillTaken, ABlobMayBeAFooterAlone, AFooterOfManyMegabytesFits,
                            AFooterOfAnySizeEndsWhole, AnUnsealedBlobIsInvisible, ProjectsAreApart,
                            OpeningTwiceSharesOneDescriptor, TheDescriptorMapsAChunkAndCannotWrite,
                            RemoveTakesTheBlobButNotItsReaders, RemovingWhatIsAbsentIsOk, StatsFollowSealAndRemove,
                            AResumableBlobGoesOnBehindWhatWasSynced, SyncMayRunBesideAppends, RemoveTakesAResumableBlob,
                            RecoverKeepsResumableBlobsThatAreNamed, StatsCountWhatTheBlobsTake,
                            RecoverKeepsTheKnownAndSetsTheRestAside, RecoverCountsWhatItSetAside,
                            TheSortAsksInStepsAboutEachOldBlobOnce, TheSortNeverAsksAboutABlobMadeSinceTheStart,
                            TheSortLeavesABlobThatGoesOnAlone, AFailedStepOfTheSortIsTakenAgain,
                            WhatIsRemovedBeforeAndWhileItIsSortedIsNotCounted, SeveralThreadsAppendToOneBlob,
                            SeveralThreadsSealAndOpenAtOnce, ADamagedFooterIsNotGivenOut, TheStoredFileIsWhatTheDiskHas,
                            ReadingOutsideTheBlobFails, MisuseIsAnErrorOfOurs);

}  // namespace sconce::blob

#endif  // SCONCE_TESTS_CONTRACT_BLOB_STORE_CONTRACT_H_
