// PlanLoad: in one call when the target is small, else streamed both ways. A small target can still have a large
// answer; the server then says MESSAGE_TOO_LARGE, and the stream is asked.
#include <utility>
#include <vector>

#include "base/error.h"
#include "client/cpp/client.h"
#include "client/cpp/state.h"

namespace sconce::client {
namespace {

constexpr int kMaxUnaryKeys = 10'000;
constexpr int kKeysOfPiece = 4'000;
constexpr size_t kMaxUnaryBytes = size_t{3} << 20;  // default servers and ours take 4 MiB
constexpr size_t kMaxPieceBytes = size_t{1} << 20;

// The request without its keys, then the keys in pieces.
std::vector<v1::PlanLoadRequest> Split(const v1::PlanLoadRequest& request) {
  std::vector<v1::PlanLoadRequest> pieces(1, request);
  pieces[0].mutable_plan()->clear_target_keys();
  size_t bytes = kMaxPieceBytes;
  for (const v1::TargetKey& key : request.plan().target_keys()) {
    if (bytes >= kMaxPieceBytes || pieces.back().plan().target_keys_size() == kKeysOfPiece) {
      pieces.emplace_back();
      bytes = 0;
    }
    *pieces.back().mutable_plan()->add_target_keys() = key;
    bytes += key.ByteSizeLong() + 8;
  }
  return pieces;
}

absl::StatusOr<v1::PlanLoadResponse> StreamOnce(v1::CheckpointService::Stub& stub,
                                                const std::vector<v1::PlanLoadRequest>& pieces) {
  grpc::ClientContext context;  // without a deadline: its progress is what matters
  const auto stream = stub.PlanLargeLoad(&context);
  for (const v1::PlanLoadRequest& piece : pieces) {
    if (!stream->Write(piece)) break;  // Finish says why
  }
  stream->WritesDone();
  v1::PlanLoadResponse all;
  v1::PlanLoadResponse piece;
  while (stream->Read(&piece)) all.MergeFrom(piece);
  const absl::Status status = wire::FromGrpcStatus(stream->Finish());
  if (!status.ok()) return status;
  return all;
}

}  // namespace

absl::StatusOr<v1::PlanLoadResponse> Client::PlanLoad(const v1::PlanLoadRequest& request) {
  if (request.plan().target_keys_size() <= kMaxUnaryKeys && request.ByteSizeLong() <= kMaxUnaryBytes) {
    absl::StatusOr<v1::PlanLoadResponse> answer =
        state_->connection.Call<v1::CheckpointService::Stub, v1::PlanLoadRequest, v1::PlanLoadResponse>(
            *state_->checkpoints, &v1::CheckpointService::Stub::PlanLoad, request, /*repeatable=*/true);
    if (!HasReason(answer.status(), Reason::MESSAGE_TOO_LARGE)) return answer;
  }
  const std::vector<v1::PlanLoadRequest> pieces = Split(request);
  RetryLoop retry(state_->connection.options().retry);
  while (true) {
    absl::StatusOr<v1::PlanLoadResponse> answer = StreamOnce(*state_->checkpoints, pieces);
    if (answer.ok() || !retry.ShouldRetry(answer.status())) return answer;
  }
}

}  // namespace sconce::client
