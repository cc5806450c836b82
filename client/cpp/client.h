#ifndef SCONCE_CLIENT_CPP_CLIENT_H_
#define SCONCE_CLIENT_CPP_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/strings.h"
#include "client/cpp/retry_policy.h"
#include "inference/grpc_service.pb.h"
#include "proto/wire/bulk_message.h"
#include "sconce/v1/admin_service.pb.h"
#include "sconce/v1/checkpoint_service.pb.h"
#include "sconce/v1/model_service.pb.h"
#include "sconce/v1/transfer_service.pb.h"
#include "storage/format/manifest.h"
#include "storage/format/record_source.h"

namespace sconce::client {

struct ClientOptions {
  std::string target = "127.0.0.1:7433";       // HOST:PORT or unix:PATH
  absl::Duration timeout = absl::Seconds(60);  // of a unary call; transfers have none
  RetryPolicy retry;
  int upload_attempts = 12;  // as retry.max_attempts, of an upload's streams; counted from the start after progress
};

// Called as bytes move; `total` is 0 while it is not known. On the calling thread, often: be quick.
using Progress = std::function<void(int64_t done, int64_t total)>;

// Takes the bytes of a download in order. A failure ends the download and is returned from it.
using ByteSink = std::function<absl::Status(ByteSpan)>;

// The bytes of a manifest's storages, in memory or in a mapped file. Checksums in the records are checked as the bytes
// are sent.
struct PushSource {
  std::vector<format::RecordSource> records;  // for each storage of the manifest
  std::shared_ptr<const void> owner;
};

// What an upload of a part moved.
struct UploadReport {
  int64_t bulk_bytes = 0;    // the part's tensors
  int64_t sent_bytes = 0;    // of them sent, what had to be sent again after a break counted again
  int64_t reused_bytes = 0;  // of them not sent: stored, or durable from an earlier try
};

// A whole checkpoint in memory.
struct FetchedCheckpoint {
  v1::FetchCheckpointResponse::Header header;
  format::Manifest manifest;
  std::vector<std::vector<uint8_t>> bytes;  // for each storage, its bytes; empty for a meta storage
};

// A connection to a Sconce server. Thread-safe. Every call blocks; errors carry the server's Reason (base/error.h), or
// SERVER_UNREACHABLE. Calls that change nothing, and those made safe by a request_id, are tried again on UNAVAILABLE as
// the retry policy says.
//
//   const auto client = Client::Connect(options);
//   v1::GetCheckpointRequest request;
//   request.set_name("projects/default/runs/resnet50/checkpoints/best");
//   absl::StatusOr<v1::Checkpoint> best = client->GetCheckpoint(request);
class Client {
 public:
  // Does not wait for the server: the first call finds out.
  static std::unique_ptr<Client> Connect(const ClientOptions& options);
  ~Client();

  absl::StatusOr<v1::Run> CreateRun(const v1::CreateRunRequest& request);
  absl::StatusOr<v1::Run> GetRun(const v1::GetRunRequest& request);
  absl::StatusOr<v1::ListRunsResponse> ListRuns(const v1::ListRunsRequest& request);
  absl::StatusOr<v1::Run> UpdateRun(const v1::UpdateRunRequest& request);
  absl::Status DeleteRun(const v1::DeleteRunRequest& request);

  absl::StatusOr<v1::Checkpoint> GetCheckpoint(const v1::GetCheckpointRequest& request);
  absl::StatusOr<v1::ListCheckpointsResponse> ListCheckpoints(const v1::ListCheckpointsRequest& request);
  absl::StatusOr<v1::Checkpoint> UpdateCheckpoint(const v1::UpdateCheckpointRequest& request);
  absl::Status DeleteCheckpoint(const v1::DeleteCheckpointRequest& request);
  absl::StatusOr<v1::DescribeCheckpointResponse> DescribeCheckpoint(const v1::DescribeCheckpointRequest& request);

  // A target of any size: a large one goes, and a large answer comes, in pieces.
  absl::StatusOr<v1::PlanLoadResponse> PlanLoad(const v1::PlanLoadRequest& request);

  absl::StatusOr<v1::Alias> SetAlias(const v1::SetAliasRequest& request);
  absl::StatusOr<v1::Alias> GetAlias(const v1::GetAliasRequest& request);
  absl::StatusOr<v1::ListAliasesResponse> ListAliases(const v1::ListAliasesRequest& request);
  absl::Status DeleteAlias(const v1::DeleteAliasRequest& request);

  // Calls `on_message` with every change and heartbeat, on this thread, until it returns false (then OK) or the watch
  // fails. A broken stream is continued after the last revision seen, as the retry policy says.
  absl::Status WatchCheckpoints(v1::WatchCheckpointsRequest request,
                                const std::function<bool(const v1::WatchCheckpointsResponse&)>& on_message);

  absl::StatusOr<v1::Module> GetModule(const v1::GetModuleRequest& request);
  absl::StatusOr<v1::ListModulesResponse> ListModules(const v1::ListModulesRequest& request);
  absl::Status DeleteModule(const v1::DeleteModuleRequest& request);

  absl::StatusOr<v1::Model> DeployModel(const v1::DeployModelRequest& request);
  absl::StatusOr<v1::Model> GetModel(const v1::GetModelRequest& request);
  absl::StatusOr<v1::ListModelsResponse> ListModels(const v1::ListModelsRequest& request);
  absl::StatusOr<v1::Model> UpdateModel(const v1::UpdateModelRequest& request);
  absl::StatusOr<v1::Model> RollbackModel(const v1::RollbackModelRequest& request);
  absl::Status UndeployModel(const v1::UndeployModelRequest& request);
  absl::StatusOr<inference::ModelInferResponse> Infer(const inference::ModelInferRequest& request);
  absl::StatusOr<inference::ModelMetadataResponse> GetModelMetadata(const inference::ModelMetadataRequest& request);

  absl::StatusOr<v1::Stats> GetStats(const v1::GetStatsRequest& request);
  // Waits for the end of the verification. `quarantined` of the result has all of them, and the numbers are the final
  // ones.
  absl::StatusOr<v1::VerifyResponse> Verify(const v1::VerifyRequest& request, const Progress& progress = nullptr);
  absl::StatusOr<v1::CollectGarbageResponse> CollectGarbage(const v1::CollectGarbageRequest& request);
  absl::StatusOr<v1::PreviewRetentionResponse> PreviewRetention(const v1::PreviewRetentionRequest& request);
  absl::StatusOr<v1::BackupResponse> Backup(const v1::BackupRequest& request);
  // OK when the server says SERVING for `service` ("" is the server as a whole); SERVER_UNREACHABLE, or UNAVAILABLE
  // when it says otherwise.
  absl::Status CheckHealth(absl::string_view service);

  // A push that resumes and sends no byte that is stored, as one part of an upload:
  //
  //   v1::BeginUploadRequest request;                    // the same in all ranks; a part each
  //   request.mutable_header()->set_parent("projects/default/runs/r");
  //   request.set_upload_id("step-1000");
  //   request.set_expected_parts(4);
  //   absl::StatusOr<v1::Upload> upload = client->BeginUpload(request);
  //   ... client->UploadPart(upload->name(), rank, manifest, source) ...
  //   v1::CommitUploadRequest commit;
  //   commit.set_name(upload->name());
  //   ... client->CommitUpload(commit) ...               // UPLOAD_INCOMPLETE while other ranks are at it
  //
  // All of them are safe to repeat, and are tried again on UNAVAILABLE. BeginUpload makes an upload_id when there is
  // none.
  absl::StatusOr<v1::Upload> BeginUpload(const v1::BeginUploadRequest& request);
  absl::StatusOr<v1::Upload> GetUpload(const v1::GetUploadRequest& request);
  absl::StatusOr<v1::Checkpoint> CommitUpload(const v1::CommitUploadRequest& request);
  absl::Status AbortUpload(const v1::AbortUploadRequest& request);
  // Returns OK when all of part `part` (from 0) of the upload of that full name is durable. A stream that breaks is
  // followed by another, which sends what is not durable yet. Bytes are sent from where they are, as in PushCheckpoint;
  // a record that is damaged is FILE_MALFORMED.
  absl::StatusOr<UploadReport> UploadPart(const std::string& upload, int part, const format::Manifest& manifest,
                                          const PushSource& source, const Progress& progress = nullptr);

  // Pushes a version in one call, which always sends all bytes: the manifest, and for each of its storages all its
  // bytes (only those of bulk storages are read). A request_id is made when the header has none, and the push is tried
  // again as the retry policy says. The bytes are sent from where they are: `source.owner` keeps them until gRPC lets
  // go of them, which can be after the return. A record that is damaged is FILE_MALFORMED, and nothing is stored.
  absl::StatusOr<v1::Checkpoint> PushCheckpoint(v1::PushHeader header, const format::Manifest& manifest,
                                                const PushSource& source, const Progress& progress = nullptr);
  // Pushes a file as it is, for the server to parse or (opaque) to keep untouched.
  absl::StatusOr<v1::Checkpoint> ImportCheckpoint(v1::ImportCheckpointRequest::Header header,
                                                  const wire::SharedBytes& file, const Progress& progress = nullptr);
  // Fetches a version into memory. A broken stream is continued where it broke.
  absl::StatusOr<FetchedCheckpoint> FetchCheckpoint(v1::FetchCheckpointRequest request,
                                                    const Progress& progress = nullptr);
  // Downloads a version as a file. A broken stream is continued where it broke: `sink` sees every byte once, in order.
  absl::StatusOr<v1::ExportCheckpointResponse::Header> ExportCheckpoint(v1::ExportCheckpointRequest request,
                                                                        const ByteSink& sink,
                                                                        const Progress& progress = nullptr);
  absl::StatusOr<v1::Module> PushModule(const v1::PushModuleRequest::Header& header, const wire::SharedBytes& archive,
                                        const Progress& progress = nullptr);
  absl::StatusOr<v1::Module> FetchModule(v1::FetchModuleRequest request, const ByteSink& sink,
                                         const Progress& progress = nullptr);

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A random UUID (version 4), for request ids.
std::string NewRequestId();

}  // namespace sconce::client

#endif  // SCONCE_CLIENT_CPP_CLIENT_H_
