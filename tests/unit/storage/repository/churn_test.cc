#include <iostream>
#include <map>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/unit/storage/repository/repository_fixture.h"

// Thousands of versions come and go with overlapping content; then every reference is recomputed from scratch, and the
// disk has hardly more than is needed.
namespace sconce::repository {
namespace {

// One thread's share: runs of its own in projects that all threads use, content from a pool that all share.
class Churner {
 public:
  Churner(Repository& repository, const std::vector<std::string>& pool, uint64_t seed)
      : repository_(repository), pool_(pool), random_(seed), name_(absl::StrCat("run", seed)) {}

  void Run(int versions) {
    for (int i = 0; i < versions; ++i) {
      Push();
      while (live_.size() > 25) DeleteOne();
      if (i % 50 == 7) PushModule(i);
      if (i % 20 == 3) {
        const auto& [run, version] = live_.begin()->first;
        EXPECT_OK(repository_.SetAlias(run_[run], "keep", absl::StrCat(version), "", false));
      }
      if (i % 120 == 100) {
        EXPECT_OK(repository_.DeleteRun(run_[0], "", true));
        for (auto it = live_.begin(); it != live_.end();) it = it->first.first == 0 ? live_.erase(it) : std::next(it);
      }
    }
  }
  void CheckContents() {
    for (const auto& [key, bulk] : live_) {
      const auto open = repository_.OpenRead({run_[key.first], absl::StrCat(key.second)});
      ASSERT_OK(open);
      std::string read;
      for (format::StorageIndex s = 0; s < (*open)->manifest().storages.size(); ++s) {
        for (size_t c = 0; c < (*open)->manifest().storages[s].chunks.size(); ++c) {
          const auto bytes = (*open)->ReadChunk(s, static_cast<int64_t>(c));
          ASSERT_OK(bytes);
          read += ToStd(AsText(bytes->bytes));
        }
      }
      ASSERT_TRUE(read == bulk);
    }
  }

 private:
  void Push() {
    const size_t run = random_() % 3;
    std::vector<std::string> contents;
    // Mostly what was there lately, as a training job's frozen layers are, and some that is anybody's.
    const size_t center = random_() % pool_.size();
    for (size_t n = 1 + random_() % 6; n > 0; --n) contents.push_back(pool_[(center + random_() % 12) % pool_.size()]);
    if (random_() % 3 == 0) contents.push_back(RandomBytes(1100 + random_() % 90'000, random_()));
    PushOptions options;
    options.run = run_[run];
    options.metrics["loss"] = static_cast<double>(random_() % 1000);
    const std::string bulk = BulkOf(contents);
    auto push = repository_.BeginPush(options, TensorManifest(contents));
    ASSERT_OK(push);
    ASSERT_OK((*push)->Write(AsBytes(bulk)));
    if (random_() % 40 == 0) return;  // given up
    const auto committed = (*push)->Commit();
    ASSERT_OK(committed);
    live_[{run, committed->version}] = bulk;
  }
  void DeleteOne() {
    const auto victim = std::next(live_.begin(), static_cast<ptrdiff_t>(random_() % live_.size()));
    const auto& [run, version] = victim->first;
    ASSERT_OK(repository_.DeleteCheckpoint({run_[run], absl::StrCat(version)}, "", true, false));
    live_.erase(victim);
  }
  void PushModule(int i) {
    const std::string archive = RandomBytes(70'000, static_cast<uint64_t>(i % 100));
    auto push = repository_.BeginModulePush(run_[1], absl::StrCat("net", i), 70'000, {}, true);
    ASSERT_OK(push);
    ASSERT_OK((*push)->Write(AsBytes(archive)));
    ASSERT_OK((*push)->Commit());
    if (i % 100 != 57) return;
    ASSERT_OK(repository_.DeleteModule(run_[1], absl::StrCat("net", i - 50)));
  }

  Repository& repository_;
  const std::vector<std::string>& pool_;
  std::mt19937_64 random_;
  const std::string name_;
  std::vector<RunName> run_ = {{"vision", name_}, {"speech", name_}, {"speech", name_ + "-b"}};
  std::map<std::pair<size_t, int64_t>, std::string> live_;
};

class ChurnTest : public RepositoryTest {};
SCONCE_DISK_ONLY(ChurnTest);

TEST_P(ChurnTest, AfterThousandsOfVersionsEveryReferenceIsRightAndTheDiskHoldsLittleElse) {
  std::vector<std::string> pool;
  for (uint64_t i = 0; i < 400; ++i) {
    pool.push_back(RandomBytes(1100 + i * i * 7919 % (i % 10 == 0 ? 300'000 : 40'000), 7000 + i));
  }
  constexpr int kThreads = 4, kVersionsEach = 600;
  std::vector<std::unique_ptr<Churner>> churners;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    churners.push_back(std::make_unique<Churner>(*repository_, pool, t));
    threads.emplace_back([&, t] { churners[t]->Run(kVersionsEach); });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(repository_->CollectGarbage());
  for (const auto& churner : churners) churner->CheckContents();
  churners.clear();
  const auto audit = Audit();
  ASSERT_THAT(audit, IsClean());
  EXPECT_GT(audit->versions, 50);
  EXPECT_GT(audit->modules, 4);
  EXPECT_LE(static_cast<double>(audit->physical_bytes), 1.05 * static_cast<double>(audit->live_bytes));
  RecordProperty("physical_bytes", absl::StrCat(audit->physical_bytes));
  RecordProperty("live_bytes", absl::StrCat(audit->live_bytes));
  std::cout << "physical " << audit->physical_bytes << " live " << audit->live_bytes << " blobs " << audit->blobs
            << "\n";
}

}  // namespace
}  // namespace sconce::repository
