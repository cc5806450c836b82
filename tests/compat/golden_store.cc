#include "tests/compat/golden_store.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "tests/support/store_dump.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {
namespace {

const RunName kResNet{"default", "resnet"}, kBert{"vision", "bert-base"}, kGone{"vision", "gone"};

TurnedClock& Now() {
  static TurnedClock* const clock = new TurnedClock;
  return *clock;
}

absl::StatusOr<Checkpoint> PushTensors(Repository& repository, const PushOptions& options,
                                       const std::vector<std::string>& contents,
                                       const std::vector<std::pair<std::string, double>>& scalars) {
  Now().Turn(absl::Seconds(60));
  SCONCE_ASSIGN_OR_RETURN(const auto push, repository.BeginPush(options, TensorManifest(contents, scalars)));
  SCONCE_RETURN_IF_ERROR(push->Write(AsBytes(BulkOf(contents))));
  return push->Commit();
}

PushOptions Options(const RunName& run, Metrics metrics, Labels labels) {
  PushOptions options;
  options.run = run;
  options.metrics = std::move(metrics);
  options.labels = std::move(labels);
  return options;
}

absl::Status PushModule(Repository& repository, const std::string& module, const std::string& bytes) {
  SCONCE_ASSIGN_OR_RETURN(
      const auto push,
      repository.BeginModulePush(kResNet, module, static_cast<int64_t>(bytes.size()), {{"made", "by hand"}}, true));
  SCONCE_RETURN_IF_ERROR(push->Write(AsBytes(bytes)));
  return push->Commit().status();
}

// Contents that several versions share: a frozen layer of two pages, and tensors small enough to be packed.
std::string Frozen() {
  return RandomBytes(8192, 100);
}
std::string Small(uint64_t seed) {
  return RandomBytes(1100 + seed % 7, seed);
}

// Flips a bit of the first chunk of the version's storage, and has the repository find it.
absl::Status Damage(Repository& repository, const CheckpointRef& ref, format::StorageIndex storage) {
  SCONCE_ASSIGN_OR_RETURN(const auto open, repository.OpenRead(ref));
  const Extent extent = open->Locate(storage, 0);
  const std::string path = std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", extent.fd));
  SCONCE_CHECK(::chmod(path.c_str(), 0640) == 0);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(extent.offset + 5);
    const char flipped = static_cast<char>(file.get() ^ 1);
    file.seekp(extent.offset + 5);
    file.put(flipped);
    SCONCE_CHECK(file.good());
  }
  SCONCE_CHECK(::chmod(path.c_str(), 0440) == 0);
  SCONCE_CHECK(!open->ReadChunk(storage, 0).ok());
  return absl::OkStatus();
}

// What is later found in a table file of the catalog.
absl::Status FirstHalf(Repository& repository) {
  SCONCE_RETURN_IF_ERROR(repository
                             .CreateRun(kResNet, {{"team", "vision"}, {"owner", "ann"}},
                                        {"accuracy", MetricGoal::kMaximize}, {100, 5, 1000, absl::Hours(24)}, {})
                             .status());
  SCONCE_RETURN_IF_ERROR(PushGolden(repository, GoldenRequest()).status());
  SCONCE_RETURN_IF_ERROR(PushTensors(repository,
                                     Options(kResNet, {{"accuracy", 0.75}, {"loss", 0.5}}, {{"stage", "warm"}}),
                                     {Frozen(), Small(2), Small(3), "inline"}, {{"epoch", 2}, {"step", 200}})
                             .status());
  SCONCE_RETURN_IF_ERROR(PushModule(repository, "scripted", RandomBytes(3000, 7)));
  SCONCE_RETURN_IF_ERROR(PushModule(repository, "tiny", "less than a kibibyte"));
  PushOptions opaque = Options(kBert, {}, {{"format", "whole module"}});
  opaque.kind = CheckpointKind::kOpaque;
  Now().Turn(absl::Seconds(60));
  const std::string pickle = RandomBytes(5000, 8);
  format::ManifestBuilder b;
  format::Node root;
  root.kind = format::NodeKind::kStorage;
  root.text = "untyped";
  root.integer = b.Storage(static_cast<int64_t>(pickle.size()));
  b.Add(root);
  SCONCE_ASSIGN_OR_RETURN(const auto push, repository.BeginPush(opaque, b.Build()));
  SCONCE_RETURN_IF_ERROR(push->Write(AsBytes(pickle)));
  return push->Commit().status();
}

// What is only in the catalog's log; then the push that pins the deleted version's chunk is left hanging.
absl::StatusOr<std::unique_ptr<CheckpointPush>> SecondHalf(Repository& repository) {
  for (uint64_t i = 3; i <= 6; ++i) {
    PushOptions options = Options(kResNet, {{"accuracy", 0.5 + 0.05 * static_cast<double>(i)}}, {});
    options.parent = 2;
    options.pinned = i == 4;
    SCONCE_RETURN_IF_ERROR(PushTensors(repository, options, {Frozen(), Small(i), Small(i + 1)},
                                       {{"epoch", static_cast<double>(i)}, {"loss", 1.0 / static_cast<double>(i)}})
                               .status());
  }
  SCONCE_RETURN_IF_ERROR(
      PushTensors(repository, Options(kBert, {{"loss", 2.0}}, {}), {Frozen(), Small(50)}, {}).status());
  SCONCE_RETURN_IF_ERROR(PushTensors(repository, Options(kBert, {{"loss", 1.5}}, {}), {Small(51)}, {}).status());
  SCONCE_RETURN_IF_ERROR(PushTensors(repository, Options(kGone, {{"loss", 1.0}}, {}), {Small(60)}, {}).status());

  SCONCE_RETURN_IF_ERROR(repository.SetAlias(kResNet, "prod", "5", "", false).status());
  SCONCE_RETURN_IF_ERROR(repository.SetAlias(kResNet, "canary", "latest", "", false).status());
  SCONCE_RETURN_IF_ERROR(repository.SetAlias(kResNet, "prod", "3", "", false).status());
  CheckpointUpdate update;
  update.labels = Labels{{"reviewed", "yes"}};
  update.expire_time = std::optional<absl::Time>(Now().Now() + absl::Hours(24 * 365 * 100));
  update.add_metrics = {{"f1", 0.625}};
  SCONCE_RETURN_IF_ERROR(repository.UpdateCheckpoint({kResNet, "5"}, update).status());
  SCONCE_RETURN_IF_ERROR(repository.PutDeployment("resnet-live", "opaque record", true));

  SCONCE_RETURN_IF_ERROR(Damage(repository, {kBert, "3"}, 0));
  SCONCE_RETURN_IF_ERROR(repository.DeleteRun(kGone, "", true));
  SCONCE_RETURN_IF_ERROR(repository.DeleteCheckpoint({kResNet, "2"}, "", false, false));
  SCONCE_RETURN_IF_ERROR(repository.CollectGarbage().status());

  // Sends the content of version 6 in another run of the project, so that its deletion cannot end.
  SCONCE_ASSIGN_OR_RETURN(auto hanging, repository.BeginPush(Options({"default", "hanging"}, {}, {}),
                                                             TensorManifest({RandomBytes(65'536, 6)})));
  const std::string bytes = RandomBytes(65'536, 6);
  SCONCE_RETURN_IF_ERROR(hanging->Write(AsBytes(bytes)));
  SCONCE_RETURN_IF_ERROR(
      PushTensors(repository, Options(kResNet, {{"accuracy", 0.99}}, {}), {bytes}, {{"epoch", 7}}).status());
  SCONCE_RETURN_IF_ERROR(repository.DeleteCheckpoint({kResNet, "7"}, "", false, false));
  SCONCE_ASSIGN_OR_RETURN(const CollectReport report, repository.CollectGarbage());
  if (report.postponed != 1) return MakeError(Reason::INTERNAL_ERROR, "the tombstone should have stayed");
  return hanging;
}

}  // namespace

const Clock& GoldenClock() {
  static TurnedClock* const clock = [] {
    auto* made = new TurnedClock;
    made->Turn(absl::Hours(1));
    return made;
  }();
  return *clock;
}

RepositoryOptions GoldenOptions(const std::string& data_dir) {
  RepositoryOptions options;
  options.data_dir = data_dir;
  options.clock = &GoldenClock();
  options.min_free_bytes = 1 << 20;
  return options;
}

PushOptions GoldenRequest() {
  PushOptions options = Options(kResNet, {{"accuracy", 0.5}}, {{"stage", "cold"}});
  options.request = {"ann", "PushCheckpoint", "request-1"};
  return options;
}

absl::StatusOr<Checkpoint> PushGolden(Repository& repository, const PushOptions& options) {
  return PushTensors(repository, options, {Frozen(), Small(1), Small(2)}, {{"epoch", 1}, {"loss", 1.0}});
}

absl::Status MakeGoldenStore(const std::string& work, const std::string& data_dir) {
  RepositoryOptions options = GoldenOptions(work);
  options.clock = &Now();
  {
    SCONCE_ASSIGN_OR_RETURN(const auto repository, Repository::Open(options));
    SCONCE_RETURN_IF_ERROR(FirstHalf(*repository));
  }
  SCONCE_ASSIGN_OR_RETURN(const auto repository, Repository::Open(options));
  SCONCE_ASSIGN_OR_RETURN(const auto hanging, SecondHalf(*repository));
  std::filesystem::create_directories(data_dir);
  std::filesystem::copy(work, data_dir, std::filesystem::copy_options::recursive);
  std::filesystem::remove(data_dir + "/LOCK");
  // A crash leaves any part of it; the smallest will do.
  for (const auto& entry : std::filesystem::directory_iterator(data_dir + "/uploads")) {
    std::filesystem::resize_file(entry.path(), 4096);
  }
  // RocksDB's diary names the machine and says nothing of the data.
  for (const auto& entry : std::filesystem::directory_iterator(data_dir + "/catalog")) {
    const std::string name = entry.path().filename();
    if (name.rfind("LOG", 0) == 0 || name == "LOCK" || name == "IDENTITY") std::filesystem::remove(entry.path());
  }
  std::ofstream(data_dir + "/expected.txt") << DumpStore(*repository);
  return absl::OkStatus();
}

}  // namespace sconce::repository
