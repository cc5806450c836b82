#include "storage/repository/rebuild.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "storage/blob/footer.h"
#include "storage/blob/local_blob_store.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/catalog_snapshots.h"
#include "storage/repository/record_codec.h"
#include "tests/support/store_dump.h"
#include "tests/unit/storage/repository/repository_fixture.h"
#include "tests/unit/storage/repository/upload_fixture.h"

namespace sconce::repository {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RebuildTest : public RepositoryTest {
 protected:
  static DumpOptions Lasting() { return {false, false}; }  // a rebuild gives new etags

  std::string Data(const std::string& name) const { return dir_ / "data/" + name; }

  // As an hour later: the collector's next pass takes one.
  void TakeSnapshot() {
    clock_.Turn(absl::Hours(2));
    ASSERT_OK(repository_->CollectGarbage());
    ASSERT_FALSE(ListSnapshots(PosixFileSystem(), dir_ / "data")->empty());
  }

  RebuildReport Rebuild() {
    repository_ = nullptr;
    const auto report = RebuildCatalog(Options());
    EXPECT_OK(report);
    return report.value_or(RebuildReport());
  }
  RebuildReport LoseCatalogAndRebuild() {
    repository_ = nullptr;
    std::filesystem::remove_all(Data("catalog"));
    return Rebuild();
  }

  std::vector<std::string> BlobFiles() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(Data("blobs"))) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    return files;
  }
  void FlipByte(const std::string& path, int64_t from_end) {
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-from_end, std::ios::end);
    const char flipped = static_cast<char>(file.get() ^ 1);
    file.seekp(-from_end, std::ios::end);
    file.put(flipped);
    ASSERT_TRUE(file.good());
  }

  absl::Status PushModule(const RunName& run, const std::string& module, const std::string& bytes) {
    auto push = repository_->BeginModulePush(run, module, static_cast<int64_t>(bytes.size()), {{"k", "v"}}, true);
    if (!push.ok()) return push.status();
    if (absl::Status written = (*push)->Write(AsBytes(bytes)); !written.ok()) return written;
    return (*push)->Commit().status();
  }

  std::vector<repository::Run> Runs() {
    auto page = repository_->ListRuns("", "", 100);
    EXPECT_OK(page);
    return page.ok() ? std::move(page->items) : std::vector<repository::Run>();
  }

  // One random change of a store with a few projects, runs and contents that recur. Most calls succeed.
  void Step(std::mt19937& random) {
    const auto below = [&](uint32_t limit) { return random() % limit; };
    const RunName run{absl::StrCat("p", below(2)), absl::StrCat("run", below(3))};
    const std::string selector = absl::StrCat(1 + below(6));
    clock_.Turn(absl::Seconds(1));
    switch (below(10)) {
      case 0:
        repository_->DeleteCheckpoint({run, selector}, "", below(2) == 0, false).IgnoreError();
        return;
      case 1:
        if (below(6) == 0) repository_->DeleteRun(run, "", true).IgnoreError();
        return;
      case 2:
        PushModule(run, absl::StrCat("m", below(3)), RandomBytes(900 + below(2) * 5000, below(4))).IgnoreError();
        return;
      case 3:
        repository_->DeleteModule(run, absl::StrCat("m", below(3))).IgnoreError();
        return;
      default: {
        PushOptions options;
        options.run = run;
        options.metrics = {{"loss", static_cast<double>(below(5))}, {"acc", below(2) == 0 ? std::nan("") : 0.5}};
        options.labels = {{"n", absl::StrCat(below(9))}};
        options.pinned = below(8) == 0;
        options.request = {"me", "PushCheckpoint", below(2) == 0 ? absl::StrCat("request", below(30)) : ""};
        std::vector<std::string> contents;
        for (uint32_t i = 0; i < 1 + below(3); ++i) contents.push_back(RandomBytes(500 + below(3) * 50'000, below(6)));
        PushContents(options, contents, {{"epoch", below(100)}}).status().IgnoreError();
      }
    }
  }
  // What only the catalog knows of.
  void ChangeWhatFootersDoNotKnow() {
    for (const repository::Run& run : Runs()) {
      repository_->SetAlias(run.name, "prod", "latest", "", false).status().IgnoreError();
      CheckpointUpdate update;
      update.add_metrics = {{"late", 1.0}};
      update.labels = Labels{{"reviewed", "yes"}};
      repository_->UpdateCheckpoint({run.name, "latest"}, update).status().IgnoreError();
      RunUpdate settings;
      settings.best_rule = BestRule{"acc", MetricGoal::kMaximize};
      settings.labels = Labels{{"team", "x"}};
      ASSERT_OK(repository_->UpdateRun(run.name, settings));
    }
    ASSERT_OK(repository_->CreateRun({"p0", "empty"}, {}, {}, {}, {}));
    ASSERT_OK(repository_->PutDeployment("model", "record", true));
  }
};
SCONCE_DISK_ONLY(RebuildTest);

TEST_P(RebuildTest, RandomStoresComeBackWithEveryAnswer) {
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    repository_ = nullptr;
    std::filesystem::remove_all(dir_ / "data");
    Open();
    std::mt19937 random(seed);
    for (int i = 0; i < 60; ++i) Step(random);
    ChangeWhatFootersDoNotKnow();
    TakeSnapshot();
    for (int i = 0; i < 25; ++i) Step(random);
    ASSERT_OK(repository_->CollectGarbage());
    const std::string before = DumpStore(*repository_, Lasting());
    const RebuildReport report = LoseCatalogAndRebuild();
    EXPECT_EQ(report.quarantined.count, 0) << Describe(report);
    EXPECT_GT(report.snapshot_seconds, 0);
    EXPECT_EQ(report.kept_as, "");
    EXPECT_THAT(AuditDataDir(dir_ / "data"), IsConsistent()) << "seed " << seed;
    Open();
    // An alias of a version that was deleted since the snapshot went with it; one set since is not known.
    EXPECT_EQ(DumpStore(*repository_, Lasting()), before) << "seed " << seed << Describe(report);
    for (int i = 0; i < 10; ++i) Step(random);
    for (const repository::Run& run : Runs()) {
      ASSERT_OK(repository_->DeleteRun(run.name, "", true));
    }
    ASSERT_OK(repository_->CollectGarbage());
    EXPECT_EQ(Stats().blobs, 0) << "seed " << seed;
  }
}

TEST_P(RebuildTest, NumbersAreNotGivenTwiceAndRequestsAreAnsweredAgain) {
  PushOptions options = To("r");
  options.request = {"me", "PushCheckpoint", "id"};
  ASSERT_OK(PushContents(options, {RandomBytes(70'000, 1)}));
  PushMetrics("r", {});
  PushMetrics("r", {});
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "3"}, "", false, false));
  ASSERT_OK(repository_->CollectGarbage());
  const std::string uid = repository_->GetRun({"default", "r"})->uid;
  const RebuildReport report = LoseCatalogAndRebuild();
  EXPECT_EQ(report.versions, 2);
  EXPECT_EQ(report.request_ids, 1);
  EXPECT_EQ(report.unsure.count, 1);  // there is no snapshot: the newest might be
  Open();
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, PushContents(options, {RandomBytes(70'000, 1)}));
  EXPECT_EQ(again.version, 1);
  EXPECT_THAT(PushContents(options, {RandomBytes(70'000, 2)}), FailsWith(Reason::REQUEST_ID_REUSED));
  EXPECT_EQ(PushMetrics("r", {}), 4);
  EXPECT_EQ(repository_->GetRun({"default", "r"})->uid, uid);
  ASSERT_OK(repository_->CreateRun({"default", "other"}, {}, {}, {}, {}));
  EXPECT_NE(repository_->GetRun({"default", "other"})->uid, uid);
}

TEST_P(RebuildTest, AVersionSealedButNeverAcknowledgedIsRestoredAndNamed) {
  PushMetrics("r", {});
  TakeSnapshot();
  PushMetrics("r", {});
  const RebuildReport report = LoseCatalogAndRebuild();
  EXPECT_THAT(report.unsure.lines, ElementsAre("default/r version 2: newer than the snapshot"));
  EXPECT_THAT(Describe(report), HasSubstr("perhaps never acknowledged"));
  Open();
  EXPECT_EQ(Resolve("r", "latest"), 2);
}

TEST_P(RebuildTest, OfTwoSealedForOneRequestTheOneThatAnsweredItStays) {
  PushMetrics("r", {});
  repository_ = nullptr;
  std::filesystem::copy(Data("catalog"), dir_ / "old", std::filesystem::copy_options::recursive);
  Open();
  PushMetrics("r", {});
  const std::vector<std::string> without = BlobFiles();
  PushOptions options = To("r");
  options.request = {"me", "PushCheckpoint", "id"};
  ASSERT_OK(PushContents(options, {RandomBytes(70'000, 1)}));  // version 3, of which the catalog then knows nothing
  repository_ = nullptr;
  std::filesystem::path sealed;
  for (const std::string& file : BlobFiles()) {
    if (std::find(without.begin(), without.end(), file) == without.end()) sealed = file;
  }
  std::filesystem::copy(sealed, dir_ / "sealed");
  std::filesystem::remove_all(Data("catalog"));
  std::filesystem::rename(dir_ / "old", Data("catalog"));
  clock_.Turn(absl::Minutes(1));
  Open();
  ASSERT_OK(repository_->CollectGarbage());  // whose first pass moves to orphans/ what this catalog does not know
  ASSERT_OK_AND_ASSIGN(const Checkpoint retried, PushContents(options, {RandomBytes(70'000, 1)}));
  EXPECT_EQ(retried.version, 2);
  repository_ = nullptr;
  std::filesystem::create_directories(sealed.parent_path());
  std::filesystem::copy(dir_ / "sealed", sealed);
  const RebuildReport report = LoseCatalogAndRebuild();
  EXPECT_EQ(report.versions, 2);
  EXPECT_THAT(report.not_restored.lines, ElementsAre(HasSubstr("version 3: sealed, but never committed")));
  Open();
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, PushContents(options, {RandomBytes(70'000, 1)}));
  EXPECT_EQ(again.version, 2);
}

TEST_P(RebuildTest, ADamagedFooterQuarantinesItsOwnVersionAlone) {
  const std::string shared = RandomBytes(100'000, 1);
  ASSERT_OK(PushContents(To("r"), {shared}));
  const std::string first = BlobFiles().at(0);
  ASSERT_OK(PushContents(To("r"), {shared, RandomBytes(70'000, 2)}));
  TakeSnapshot();
  repository_ = nullptr;
  FlipByte(first, 20);
  const RebuildReport report = LoseCatalogAndRebuild();
  EXPECT_EQ(report.not_restored.count, 1);
  EXPECT_THAT(report.quarantined.lines, ElementsAre(HasSubstr("default/r version 1")));
  Open();
  EXPECT_EQ(repository_->GetIntegrity().quarantined, 1);
  EXPECT_THAT(Read("r", "1"), FailsWith(Reason::CHECKPOINT_QUARANTINED));
  EXPECT_EQ(Resolve("r", "latest"), 2);
  EXPECT_TRUE(std::filesystem::exists(first));
  EXPECT_THAT(Read("r", "2"), FailsWith(Reason::CHUNK_CORRUPT)) << "it shares a chunk that lies in there";
  ASSERT_OK(PushContents(To("s"), {shared}));
  for (const char* version : {"1", "2"}) {
    ASSERT_OK_AND_ASSIGN(const std::string healed, Read("r", version));
    EXPECT_TRUE(healed.substr(0, shared.size()) == shared) << version;
  }
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Audit(), IsClean());
}

TEST_P(RebuildTest, AVersionWhoseChunkIsNowhereIsQuarantinedAndHealedByAPush) {
  const std::string shared = RandomBytes(100'000, 1);
  ASSERT_OK(PushContents(To("r"), {shared}));
  const std::string first = BlobFiles().at(0);
  ASSERT_OK(PushContents(To("r"), {shared, RandomBytes(70'000, 2)}));
  PushMetrics("r", {});
  repository_ = nullptr;
  std::filesystem::remove(first);
  const RebuildReport report = LoseCatalogAndRebuild();
  EXPECT_THAT(report.quarantined.lines, ElementsAre(HasSubstr("default/r version 2: 1 chunks are missing")));
  Open();
  EXPECT_THAT(Read("r", "2"), FailsWith(Reason::CHECKPOINT_QUARANTINED));
  ASSERT_OK(PushContents(To("r"), {shared}));
  ASSERT_OK_AND_ASSIGN(const std::string healed, Read("r", "2"));
  EXPECT_TRUE(healed == shared + RandomBytes(70'000, 2));
}

TEST_P(RebuildTest, WhatTheSnapshotKnowsToBeQuarantinedStaysSo) {
  ASSERT_OK(PushContents(To("r"), {RandomBytes(100'000, 1)}));
  ASSERT_OK(PushContents(To("r"), {RandomBytes(100'000, 2)}));
  {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "r"}, "2"}));
    Corrupt(*open, 0, 0);
    EXPECT_THAT(open->ReadChunk(0, 0), FailsWith(Reason::CHUNK_CORRUPT));
  }
  TakeSnapshot();
  const std::string before = DumpStore(*repository_, Lasting());
  EXPECT_EQ(LoseCatalogAndRebuild().quarantined.count, 1);
  Open();
  EXPECT_EQ(DumpStore(*repository_, Lasting()), before);
}

TEST_P(RebuildTest, AStartWithoutACatalogIsRefusedAndTouchesNothing) {
  PushMetrics("r", {});
  repository_ = nullptr;
  for (const bool whole : {false, true}) {
    for (const auto& entry : std::filesystem::directory_iterator(Data("catalog"))) {
      std::filesystem::remove(entry.path());
    }
    if (whole) std::filesystem::remove_all(Data("catalog"));
    EXPECT_THAT(Repository::Open(Options()), FailsWith(Reason::CATALOG_CORRUPT, HasSubstr("--rebuild-catalog")));
    EXPECT_EQ(BlobFiles().size(), 1u);
  }
}

TEST_P(RebuildTest, TheOldCatalogIsKeptAndARebuildMayBeRepeated) {
  PushMetrics("r", {{"loss", 1}});
  const std::string before = DumpStore(*repository_, Lasting());
  std::set<std::string> kept;
  for (int i = 0; i < 3; ++i) {
    const RebuildReport report = Rebuild();
    EXPECT_TRUE(std::filesystem::exists(report.kept_as + "/CURRENT"));
    kept.insert(report.kept_as);
    Open();
    EXPECT_EQ(DumpStore(*repository_, Lasting()), before);
  }
  EXPECT_EQ(kept.size(), 3u);
}

TEST_P(RebuildTest, ADirectoryThatIsNoneIsRefused) {
  RepositoryOptions options = Options();
  options.data_dir = dir_ / "elsewhere";
  EXPECT_THAT(RebuildCatalog(options), FailsWith(Reason::DATA_DIR_INCOMPATIBLE));
  EXPECT_FALSE(std::filesystem::exists(options.data_dir));
  EXPECT_THAT(RebuildCatalog(Options()), FailsWith(Reason::DATA_DIR_LOCKED));
}

TEST_P(RebuildTest, KilledAtAnyMomentItBeginsAnew) {
  std::mt19937 random(7);
  for (int i = 0; i < 40; ++i) Step(random);
  ASSERT_OK(repository_->CollectGarbage());
  const std::string before = DumpStore(*repository_, Lasting());
  repository_ = nullptr;
  std::filesystem::remove_all(Data("catalog"));
  const absl::Time start = absl::Now();
  Rebuild();
  const auto whole = absl::ToInt64Microseconds(absl::Now() - start);
  int killed = 0;
  for (int i = 0; i < 12; ++i) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(RebuildCatalog(Options()).ok() ? 0 : 1);
    ::usleep(static_cast<useconds_t>(random() % static_cast<uint32_t>(whole)));  // the moment of the kill, not a wait
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    killed += WIFSIGNALED(status);
  }
  EXPECT_GT(killed, 0);
  Rebuild();
  Open();
  EXPECT_EQ(DumpStore(*repository_, Lasting()), before);
}

TEST_P(RebuildTest, ChunksInTheBlobsOfFurtherPartsAreFound) {
  PushMetrics("r", {});
  const uint64_t run_uid = std::stoull(repository_->GetRun({"default", "r"})->uid, nullptr, 16);
  repository_ = nullptr;
  blob::LocalBlobStoreOptions options;
  options.data_dir = dir_ / "data";
  ASSERT_OK_AND_ASSIGN(const auto blobs, blob::LocalBlobStore::Open(options));
  ASSERT_OK_AND_ASSIGN(const auto ids, blobs->List());
  const uint64_t project_uid = ids.at(0).project_uid;
  const std::string content = RandomBytes(5000, 1);
  format::Manifest manifest = TensorManifest({content});
  manifest.storages[0].chunks = {{Sha256(AsBytes(content)), Xxh3(AsBytes(content))}};
  records::FooterRecord part;
  part.set_project("default");
  part.set_run("r");
  part.set_run_uid(run_uid);
  part.mutable_part()->set_version(2);
  part.mutable_part()->set_part(1);
  records::FooterRecord primary;
  primary.set_project("default");
  primary.set_run("r");
  primary.set_run_uid(run_uid);
  primary.mutable_checkpoint()->set_version(2);
  primary.mutable_checkpoint()->set_kind(records::CHECKPOINT_KIND_STATE);
  for (const records::FooterRecord* footer : {&part, &primary}) {
    ASSERT_OK_AND_ASSIGN(const auto writer, blobs->Create(project_uid));
    std::vector<blob::FooterChunk> chunks;
    if (footer == &part) {
      ASSERT_OK_AND_ASSIGN(const int64_t offset, writer->AppendPacked(AsBytes(content)));
      chunks.push_back({Sha256(AsBytes(content)), Xxh3(AsBytes(content)), offset, 5000});
    }
    ASSERT_OK_AND_ASSIGN(const int64_t at, writer->FooterOffset());
    const std::string bytes = footer == &part ? "" : format::EncodeManifest(manifest);
    records::ManifestLocation& location = *primary.mutable_checkpoint()->mutable_manifest();
    location.set_blob_id(RawId(writer->id()));
    location.set_offset(blob::ManifestOffset(at, chunks.size()));
    location.set_size_bytes(static_cast<int64_t>(bytes.size()));
    location.set_digest(std::string(Sha256(AsBytes(bytes)).AsKey()));
    const std::string record = footer->SerializeAsString();
    ASSERT_OK(writer->Seal(AsBytes(blob::EncodeFooter(chunks, AsBytes(bytes), AsBytes(record), at).bytes)));
  }
  EXPECT_EQ(LoseCatalogAndRebuild().versions, 2);
  EXPECT_THAT(AuditDataDir(dir_ / "data"), IsConsistent());
  Open();
  ASSERT_OK_AND_ASSIGN(const std::string read, Read("r", "2"));
  EXPECT_TRUE(read == content);
  EXPECT_EQ(Stats().blobs, 3);
}

TEST_P(RebuildTest, WhatCompactionMovedComesBack) {
  const std::string shared = RandomBytes(300'000, 1), other = RandomBytes(5000, 2);
  ASSERT_OK(PushContents(To("r"), {shared, RandomBytes(900'000, 3)}));
  ASSERT_OK(PushContents(To("r"), {other, RandomBytes(800'000, 4)}));
  ASSERT_OK(PushContents(To("r"), {shared, other, RandomBytes(2000, 5)}));
  ASSERT_OK(PushContents(To("s", {{"loss", 1}}), {other, RandomBytes(70'000, 6)}));
  ASSERT_OK(PushModule({"default", "s"}, "net", RandomBytes(70'000, 6)));
  for (const char* version : {"1", "2"}) {
    ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, version}, "", false, false));
  }
  ASSERT_OK(repository_->CollectGarbage());
  ASSERT_LT(Stats().physical_bytes, 800'000) << "nothing was compacted: the test tests nothing";
  // And a blob whose owner lives: the module goes, and its version stays with half of the bytes.
  ASSERT_OK(PushContents(To("t"), {RandomBytes(70'000, 7), RandomBytes(900'000, 8)}));
  {
    ASSERT_OK_AND_ASSIGN(const auto open, repository_->OpenRead({{"default", "t"}, "1"}));
    Corrupt(*open, 1, 0);
    EXPECT_THAT(open->ReadChunk(1, 0), FailsWith(Reason::CHUNK_CORRUPT));
  }
  ASSERT_OK(PushContents(To("t"), {RandomBytes(900'000, 8)}));
  ASSERT_OK(repository_->CollectGarbage());
  ASSERT_LT(Stats().physical_bytes, 1'900'000) << "nothing was compacted: the test tests nothing";

  const std::string before = DumpStore(*repository_, Lasting());
  for (const bool snapshot : {false, true}) {
    if (snapshot) TakeSnapshot();
    const RebuildReport report = LoseCatalogAndRebuild();
    EXPECT_EQ(report.quarantined.count + report.not_restored.count, 0) << Describe(report);
    EXPECT_THAT(AuditDataDir(dir_ / "data"), IsConsistent());
    Open();
    EXPECT_EQ(DumpStore(*repository_, Lasting()), before) << Describe(report);
    ASSERT_OK(repository_->CollectGarbage());
    EXPECT_THAT(Audit(), IsClean());
  }
  for (const char* run : {"r", "s", "t"}) ASSERT_OK(repository_->DeleteRun({"default", run}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(RebuildTest, VersionsOfSeveralPartsComeBackAndTheirRequestsAreAnswered) {
  const std::string shared = RandomBytes(100'000, 1);
  ASSERT_OK(PushContents(To("r"), {shared}));
  PushOptions options = To("r", {{"loss", 0.5}});
  options.request = {"me", "PushCheckpoint", "ranks"};
  const std::vector<ClientPart> parts = {ClientPart("a", {RandomBytes(70'000, 2), shared}),
                                         ClientPart("b", {RandomBytes(3000, 3), RandomBytes(5 << 20, 4)}),
                                         ClientPart("c", {shared})};  // whose blob holds nothing
  const auto send = [&](const PushOptions& how, const std::string& id, int64_t count) -> absl::Status {
    const auto upload = repository_->BeginUpload(how, id, 3);
    if (!upload.ok()) return upload.status();
    for (int64_t part = 0; part < count && upload->version == 0; ++part) {
      const auto moved = SendPart(*repository_, upload->ref, part, parts[static_cast<size_t>(part)]);
      if (!moved.ok()) return moved.status();
    }
    return absl::OkStatus();
  };
  ASSERT_OK(send(options, "u", 3));
  ASSERT_OK_AND_ASSIGN(const Checkpoint committed, repository_->CommitUpload({{"default", "r"}, "u"}));
  ASSERT_OK(send(To("r"), "open", 2));  // goes with the catalog
  ASSERT_OK(repository_->DeleteCheckpoint({{"default", "r"}, "1"}, "", false, false));
  ASSERT_OK(repository_->CollectGarbage());
  const std::string before = DumpStore(*repository_, Lasting());

  const RebuildReport report = LoseCatalogAndRebuild();
  EXPECT_EQ(report.versions, 1);
  EXPECT_EQ(report.quarantined.count, 0) << Describe(report);
  EXPECT_EQ(report.request_ids, 1);
  Open();
  EXPECT_EQ(DumpStore(*repository_, Lasting()), before) << Describe(report);
  EXPECT_THAT(repository_->GetUpload({{"default", "r"}, "open"}), FailsWith(Reason::UPLOAD_NOT_FOUND));
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_THAT(Audit(), IsClean());
  // The ranks come back with their request.
  ASSERT_OK(send(options, "u", 3));
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, repository_->CommitUpload({{"default", "r"}, "u"}));
  EXPECT_EQ(again.version, committed.version);
  ASSERT_OK(repository_->DeleteRun({"default", "r"}, "", true));
  ASSERT_OK(repository_->CollectGarbage());
  ASSERT_OK(repository_->CollectGarbage());
  EXPECT_EQ(Stats().blobs, 0);
}

TEST_P(RebuildTest, TheCollectorKeepsTheNewestTwoSnapshots) {
  for (int i = 0; i < 4; ++i) TakeSnapshot();
  ASSERT_OK_AND_ASSIGN(const auto there, ListSnapshots(PosixFileSystem(), dir_ / "data"));
  ASSERT_EQ(there.size(), 2u);
  EXPECT_EQ(there[0] - there[1], 7200);
  repository_ = nullptr;
  // A snapshot that cannot be read is passed over.
  std::filesystem::remove(absl::StrCat(SnapshotPath(dir_ / "data", there[0]), "/CURRENT"));
  EXPECT_EQ(Rebuild().snapshot_seconds, there[1]);
}

}  // namespace
}  // namespace sconce::repository
