// Flips a bit at every byte of a small blob that is not a chunk's, and at a sample of those that are. Whoever reads
// then gets exactly what was pushed or DATA_LOSS; verification finds what matters, which is all but the zeros between;
// and pushing the same content again makes the store whole.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "storage/blob/footer.h"
#include "storage/blob/local_blob_store.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

namespace fs = std::filesystem;

enum class Region { kChunk, kPadding, kFooterHeader, kChunkTable, kManifest, kRecord, kTail, kTrailer };

const char* NameOf(Region region) {
  constexpr const char* kNames[] = {"chunk",    "padding", "footer's header", "chunk table",
                                    "manifest", "record",  "zeros behind",    "trailer"};
  return kNames[static_cast<int>(region)];
}

// A store with one version in one blob file, whose catalog, in memory, can be had again as it was.
class BlobFlipsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Start(catalog::ChangeSet());
    ASSERT_OK(Push());
    const auto open = repository_->OpenRead(ref_);
    ASSERT_OK(open);
    manifest_ = std::string(ToStd(AsText((*open)->manifest_bytes())));
    ASSERT_OK(catalog_->Scan("", "", false, [&](absl::string_view key, absl::string_view value) {
      records_.puts.emplace_back(std::string(key), std::string(value));
      return true;
    }));
    for (const auto& entry : fs::recursive_directory_iterator(dir_ / "data/blobs")) {
      if (entry.is_regular_file()) file_ = entry.path();
    }
    std::ifstream stream(file_, std::ios::binary);
    bytes_ = std::string((std::istreambuf_iterator<char>(stream)), {});
    ASSERT_GT(bytes_.size(), 70'000u);
    const auto size = static_cast<int64_t>(bytes_.size());
    const auto trailer =
        blob::DecodeTrailer(AsBytes(absl::string_view(bytes_).substr(bytes_.size() - blob::kTrailerBytes)), size);
    ASSERT_OK(trailer);
    trailer_ = *trailer;
    const auto footer =
        blob::DecodeFooter(AsBytes(absl::string_view(bytes_).substr(static_cast<size_t>(trailer_.footer_offset),
                                                                    static_cast<size_t>(trailer_.footer_size_bytes))),
                           trailer_.footer_offset);
    ASSERT_OK(footer);
    chunks_ = footer->chunks;
    manifest_offset_ = footer->manifest_offset;
    ASSERT_EQ(chunks_.size(), 3u);
  }

  // The repository with these records, and with the blobs that lie on the disk.
  void Start(const catalog::ChangeSet& records) {
    repository_ = nullptr;
    auto catalog = std::make_unique<catalog::MemoryCatalog>();
    catalog_ = catalog.get();
    if (!records.puts.empty()) {
      ASSERT_OK(catalog->Apply(records));
    }
    fs::create_directories(dir_ / "data/uploads");
    blob::LocalBlobStoreOptions blob_options;
    blob_options.data_dir = dir_ / "data";
    auto blobs = blob::LocalBlobStore::Open(blob_options);
    ASSERT_OK(blobs);
    blobs_ = blobs->get();
    RepositoryOptions options;
    options.data_dir = dir_ / "data";
    options.min_free_bytes = 0;
    auto assembled = LocalRepository::Assemble(options, std::nullopt, std::move(catalog), *std::move(blobs));
    ASSERT_OK(assembled);
    repository_ = *std::move(assembled);
  }

  // The one blob, with a bit of this byte flipped, and a repository that has not looked at it yet.
  void StartFlipped(size_t at) {
    repository_ = nullptr;
    if (std::exchange(healed_, false)) fs::remove_all(dir_ / "data");  // other blobs came
    fs::create_directories(file_.parent_path());
    fs::remove(file_);
    std::string flipped = bytes_;
    flipped[at] = static_cast<char>(flipped[at] ^ 1 << at % 8);
    std::ofstream(file_, std::ios::binary) << flipped;
    Start(records_);
  }

  absl::Status Push() {
    PushOptions options;
    options.run = ref_.run;
    auto push = repository_->BeginPush(options, TensorManifest(contents_));
    if (!push.ok()) return push.status();
    const absl::Status written = (*push)->Write(AsBytes(BulkOf(contents_)));
    return written.ok() ? (*push)->Commit().status() : written;
  }

  // OK when everything was delivered as it was pushed.
  absl::Status Read(const CheckpointRef& ref) {
    const auto open = repository_->OpenRead(ref);
    if (!open.ok()) return open.status();
    EXPECT_TRUE(AsText((*open)->manifest_bytes()) == ToAbsl(manifest_));
    std::string bulk;
    const format::Manifest& manifest = (*open)->manifest();
    for (format::StorageIndex s = 0; s < manifest.storages.size(); ++s) {
      if (manifest.storages[s].chunks.empty()) continue;
      const auto bytes = (*open)->ReadChunk(s, 0);
      if (!bytes.ok()) return bytes.status();
      bulk.append(AsText(bytes->bytes).data(), bytes->bytes.size());
    }
    EXPECT_TRUE(bulk == BulkOf(contents_)) << "other bytes than were pushed";
    return absl::OkStatus();
  }

  struct Found {
    size_t damaged = 0;
    int64_t footers = 0;
  };
  Found Verify() {
    Found found;
    const auto verification = repository_->BeginVerify({});
    EXPECT_OK(verification);
    for (bool done = false; !done;) {
      const auto progress = (*verification)->Step();
      EXPECT_OK(progress);
      if (!progress.ok()) return found;
      found.damaged += progress->damaged.size();
      found.footers = progress->damaged_footers;
      done = progress->done;
    }
    return found;
  }

  Region RegionAt(size_t position) const {
    const auto at = static_cast<int64_t>(position);
    const auto size = static_cast<int64_t>(bytes_.size());
    if (at >= size - blob::kTrailerBytes) return Region::kTrailer;
    if (at >= trailer_.footer_offset + trailer_.footer_size_bytes) return Region::kTail;
    const auto manifest_end = manifest_offset_ + static_cast<int64_t>(manifest_.size());
    if (at >= manifest_end) return Region::kRecord;
    if (at >= manifest_offset_) return Region::kManifest;
    const int64_t table = manifest_offset_ - 64 * static_cast<int64_t>(chunks_.size());
    if (at >= table) return Region::kChunkTable;
    if (at >= trailer_.footer_offset) return Region::kFooterHeader;
    for (const blob::FooterChunk& chunk : chunks_) {
      if (at >= chunk.offset && at < chunk.offset + chunk.size_bytes) return Region::kChunk;
    }
    return Region::kPadding;
  }

  void FlipAt(size_t at, bool heal) {
    const Region region = RegionAt(at);
    SCOPED_TRACE(testing::Message() << "bit flipped at " << at << " of " << bytes_.size() << ", in the "
                                    << NameOf(region));
    const bool in_footer = region == Region::kFooterHeader || region == Region::kChunkTable ||
                           region == Region::kManifest || region == Region::kRecord;
    const bool needed = region == Region::kChunk || region == Region::kManifest || region == Region::kTrailer;
    ASSERT_NO_FATAL_FAILURE(StartFlipped(at));
    const absl::Status read = Read(ref_);
    EXPECT_EQ(read.code(), needed ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk) << read;
    EXPECT_EQ(repository_->GetIntegrity().quarantined, needed ? 1 : 0);

    ASSERT_NO_FATAL_FAILURE(StartFlipped(at));  // nobody has read it
    const Found found = Verify();
    EXPECT_EQ(found.damaged, needed ? 1u : 0u);
    EXPECT_EQ(found.footers, in_footer ? 1 : 0);
    EXPECT_EQ(repository_->GetIntegrity().failures > 0, needed || in_footer);
    if (!heal) return;
    healed_ = true;
    ASSERT_OK(Push());
    ASSERT_OK(repository_->CollectGarbage());
    EXPECT_EQ(repository_->GetIntegrity().quarantined, 0);
    EXPECT_EQ(repository_->GetIntegrity().damaged_footers, 0);
    EXPECT_OK(Read(ref_));
    EXPECT_OK(Read({ref_.run, "2"}));
    const Found after = Verify();
    EXPECT_EQ(after.damaged, 0u);
    EXPECT_EQ(after.footers, 0);
    EXPECT_THAT(AuditStore(*catalog_, *blobs_), IsClean());
  }

  const CheckpointRef ref_{{"default", "r"}, "1"};
  // Two that are packed, one that is mapped alone, and one that lies in the manifest.
  const std::vector<std::string> contents_ = {RandomBytes(1500, 1), RandomBytes(3001, 2), RandomBytes(66'001, 3),
                                              RandomBytes(200, 4)};
  TempDir dir_;
  std::unique_ptr<Repository> repository_;
  catalog::MemoryCatalog* catalog_ = nullptr;
  blob::LocalBlobStore* blobs_ = nullptr;
  catalog::ChangeSet records_;
  fs::path file_;
  bool healed_ = false;
  std::string bytes_, manifest_;
  blob::Trailer trailer_;
  int64_t manifest_offset_ = 0;
  std::vector<blob::FooterChunk> chunks_;
};

TEST_F(BlobFlipsTest, AFlipInAChunkOrBetweenThemIsFoundOrHarmless) {
  std::map<Region, int> met;
  for (size_t at = 0; at < static_cast<size_t>(trailer_.footer_offset); at += 211) {
    ++met[RegionAt(at)];
    FlipAt(at, at % 8 == 0);
    if (HasFailure()) return;
  }
  for (const blob::FooterChunk& chunk : chunks_) {  // the first and the last byte of each, and those around
    for (const int64_t at :
         {chunk.offset - 1, chunk.offset, chunk.offset + chunk.size_bytes - 1, chunk.offset + chunk.size_bytes}) {
      if (at >= 0) FlipAt(static_cast<size_t>(at), true);
    }
  }
  EXPECT_GT(met[Region::kChunk], 100);
  EXPECT_GT(met[Region::kPadding], 5);
}

TEST_F(BlobFlipsTest, AFlipAtAnyByteBehindTheChunksIsFoundOrHarmless) {
  std::map<Region, int> met;
  Region last = Region::kPadding;
  for (auto at = static_cast<size_t>(trailer_.footer_offset); at < bytes_.size(); ++at) {
    const Region region = RegionAt(at);
    ++met[region];
    // The zeros are many and all alike.
    if (region == Region::kTail && region == last && at % 64 != 0) continue;
    FlipAt(at, region != last || at % 16 == 0);
    last = region;
    if (HasFailure()) return;
  }
  for (const Region region : {Region::kFooterHeader, Region::kChunkTable, Region::kManifest, Region::kRecord,
                              Region::kTail, Region::kTrailer}) {
    EXPECT_GT(met[region], 0) << NameOf(region);
  }
}

}  // namespace
}  // namespace sconce::repository
