#ifndef SCONCE_STORAGE_REPOSITORY_LOCAL_REPOSITORY_H_
#define SCONCE_STORAGE_REPOSITORY_LOCAL_REPOSITORY_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/repository/collector.h"
#include "storage/repository/ingest.h"
#include "storage/repository/lookup.h"
#include "storage/repository/repository.h"
#include "storage/repository/scrubber.h"
#include "storage/repository/store.h"
#include "storage/repository/uploads.h"

namespace sconce::repository {

// The repository over any catalog and blob store. Its calls are in runs.cc, checkpoints.cc, aliases.cc, modules.cc and
// local_repository.cc; what is behind them is in files of their own.
class LocalRepository final : public Repository {
 public:
  // A repository over parts that are open already: what was never sealed is dropped first, and the blobs the catalog
  // does not know are moved away later, by the collector. Tests give fakes; `options.data_dir` must exist (spooled
  // imports go to its uploads/).
  static absl::StatusOr<std::unique_ptr<Repository>> Assemble(const RepositoryOptions& options,
                                                              std::optional<DataDir> data_dir,
                                                              std::unique_ptr<catalog::Catalog> catalog,
                                                              std::unique_ptr<blob::BlobStore> blobs);

  explicit LocalRepository(std::shared_ptr<Store> store);
  Store& StoreForTest() { return *store_; }
  // Requires: every push and spool has ended. Objects open for reading may live on.
  ~LocalRepository() override;

  absl::StatusOr<Run> CreateRun(const RunName& name, const Labels& labels, const BestRule& best,
                                const RetentionRule& retention, const RequestKey& request) override;
  absl::StatusOr<Run> GetRun(const RunName& name) override;
  absl::StatusOr<Page<Run>> ListRuns(const std::string& project, const std::string& start, int64_t limit) override;
  absl::StatusOr<Run> UpdateRun(const RunName& name, const RunUpdate& update) override;
  absl::Status DeleteRun(const RunName& name, const std::string& etag, bool force) override;

  absl::StatusOr<std::unique_ptr<CheckpointPush>> BeginPush(const PushOptions& options,
                                                            format::Manifest manifest) override;
  absl::StatusOr<Checkpoint> GetCheckpoint(const CheckpointRef& ref) override;
  absl::StatusOr<std::shared_ptr<const OpenCheckpoint>> OpenRead(const CheckpointRef& ref) override;
  using Repository::ListCheckpoints;
  absl::StatusOr<Page<Checkpoint>> ListCheckpoints(const RunName& run, const CheckpointQuery& query,
                                                   const std::string& start, int64_t limit) override;
  absl::StatusOr<Checkpoint> UpdateCheckpoint(const CheckpointRef& ref, const CheckpointUpdate& update) override;
  absl::Status DeleteCheckpoint(const CheckpointRef& ref, const std::string& etag, bool force,
                                bool validate_only) override;

  absl::StatusOr<Alias> SetAlias(const RunName& run, const std::string& alias, const std::string& selector,
                                 const std::string& etag, bool must_be_new) override;
  absl::StatusOr<Alias> GetAlias(const RunName& run, const std::string& alias) override;
  absl::StatusOr<Page<Alias>> ListAliases(const RunName& run, const std::string& start, int64_t limit) override;
  absl::Status DeleteAlias(const RunName& run, const std::string& alias, const std::string& etag) override;

  absl::StatusOr<std::unique_ptr<ModulePush>> BeginModulePush(const RunName& run, const std::string& module,
                                                              int64_t size_bytes, const Labels& labels,
                                                              bool create_run) override;
  absl::StatusOr<Module> GetModule(const RunName& run, const std::string& module) override;
  absl::StatusOr<std::shared_ptr<const OpenModule>> OpenReadModule(const RunName& run,
                                                                   const std::string& module) override;
  absl::StatusOr<Page<Module>> ListModules(const RunName& run, const std::string& start, int64_t limit) override;
  absl::Status DeleteModule(const RunName& run, const std::string& module) override;

  absl::Status PutDeployment(const std::string& model, const std::string& record, bool must_be_new) override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ListDeployments() override;
  absl::Status DeleteDeployment(const std::string& model) override;

  absl::StatusOr<Upload> BeginUpload(const PushOptions& options, const std::string& upload_id,
                                     int64_t expected_parts) override;
  absl::StatusOr<std::unique_ptr<PartStream>> BeginPart(const UploadRef& upload, int64_t part, ByteSpan manifest,
                                                        DurableCallback durable) override;
  absl::StatusOr<Checkpoint> CommitUpload(const UploadRef& upload) override;
  absl::Status AbortUpload(const UploadRef& upload) override;
  absl::StatusOr<Upload> GetUpload(const UploadRef& upload) override;

  void StartRetention() override;
  absl::StatusOr<Page<RetentionDecision>> PreviewRetention(const RunName& run, const std::optional<RetentionRule>& rule,
                                                           const std::string& start, int64_t limit) override;

  absl::StatusOr<ChangePage> ReadChanges(int64_t after, const ChangeFilter& filter, int64_t limit) override;
  absl::StatusOr<int64_t> GetRevision() override;
  void SetRevisionListener(std::function<void()> listener) override;

  absl::StatusOr<std::unique_ptr<Spool>> NewSpool() override;
  absl::StatusOr<RepositoryStats> GetStats() override;
  absl::StatusOr<CollectReport> CollectGarbage() override;
  absl::StatusOr<CollectReport> PreviewGarbage() override;
  absl::StatusOr<std::unique_ptr<Verification>> BeginVerify(const VerifyScope& scope) override;
  Integrity GetIntegrity() override;
  void SetIntegrityListener(std::function<void(const Integrity&)> listener) override;
  absl::StatusOr<BackupReport> Backup(const std::string& directory) override;
  void SetChangeListener(std::function<void(const RunName&)> listener) override;
  void SetProtector(std::function<bool(const RunName&, int64_t version)> protect) override;

 private:
  absl::StatusOr<Run> Describe(const catalog::CatalogReader& reader, const records::RunRecord& record) const;
  absl::Status CheckDeletable(const catalog::CatalogReader& reader, const FoundCheckpoint& found, bool force) const;
  absl::Status CheckRunDeletable(const catalog::CatalogReader& reader, const records::RunRecord& run, bool force) const;

  const std::shared_ptr<Store> store_;
  IngestPool pool_;
  Collector collector_;
  Uploads uploads_;
  Scrubber scrubber_;
};

// ARGUMENT_INVALID unless there may be a page of `limit` items.
absl::Status CheckLimit(int64_t limit);
absl::Status BadPageStart(const std::string& start);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_LOCAL_REPOSITORY_H_
