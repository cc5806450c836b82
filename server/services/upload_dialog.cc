// UploadChunks: holds the order of its messages (transfer_service.proto) and hands what is in them to a PartStream.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/bulk_message.h"
#include "proto/wire/limits.h"
#include "proto/wire/upload_message.h"
#include "server/services/upload_calls.h"
#include "server/services/upload_convert.h"

namespace sconce::services {
namespace {

absl::Status Violated(absl::string_view what) {
  return MakeError(Reason::STREAM_PROTOCOL_VIOLATED, what);
}

absl::Status NoDigest(absl::string_view field, int64_t chunk, size_t given, size_t needed) {
  return MakeError(Reason::ARGUMENT_INVALID,
                   absl::StrCat(field, " of chunk ", chunk, " has ", given, " bytes; give its ", needed),
                   {{"field", std::string(field)}, {"chunk", absl::StrCat(chunk)}});
}

v1::UploadChunksResponse::Verdict::Action ToProto(repository::ChunkVerdict verdict) {
  switch (verdict) {
    case repository::ChunkVerdict::kSend:
      return v1::UploadChunksResponse::Verdict::SEND;
    case repository::ChunkVerdict::kProve:
      return v1::UploadChunksResponse::Verdict::PROVE;
    case repository::ChunkVerdict::kHave:
      return v1::UploadChunksResponse::Verdict::HAVE;
  }
  return v1::UploadChunksResponse::Verdict::ACTION_UNSPECIFIED;
}

class UploadDialog final : public rpc::Dialog {
 public:
  UploadDialog(repository::Repository& repository, Say say) : repository_(repository), say_(std::move(say)) {}

  absl::Status Take(rpc::CallScope& call, const grpc::ByteBuffer& buffer) override {
    SCONCE_ASSIGN_OR_RETURN(const wire::UploadMessage message, wire::UploadMessage::Decode(buffer));
    if (!started_) return Start(call, message);
    if (message.fields().has_start()) return Violated("a second start; a stream has one, in its first message");
    if (part_ == nullptr) return TakeManifest(message);
    if (!message.manifest().empty())
      return Violated("a piece of the manifest after all of it; see Start.manifest_bytes");
    return TakeChunks(message);
  }

  absl::Status End(rpc::CallScope& call) override {
    SCONCE_RETURN_IF_ERROR(call.CheckCancelled());
    if (!started_) return Violated("the stream ended before its first message; send a start first");
    if (part_ == nullptr) {
      return Violated(absl::StrCat("the stream ended after ", manifest_.size(), " of the manifest's ", manifest_bytes_,
                                   " bytes; send all of it"));
    }
    return part_->Flush();  // reports what became durable
  }

 private:
  absl::Status Start(rpc::CallScope& call, const wire::UploadMessage& message) {
    const v1::UploadChunksRequest& fields = message.fields();
    if (!fields.has_start()) return Violated("the first message has no start; say first which part this is");
    if (!message.manifest().empty() || !message.data().empty() || !fields.proposals().empty() ||
        !fields.proofs().empty()) {
      return Violated("the first message has more than a start; send the rest in messages of its own");
    }
    started_ = true;
    call.SetResource(ToAbsl(fields.start().upload()));
    SCONCE_ASSIGN_OR_RETURN(upload_, UploadRefFromName(ToAbsl(fields.start().upload())));
    part_number_ = fields.start().part();
    manifest_bytes_ = fields.start().manifest_bytes();
    if (manifest_bytes_ < 0) {
      return MakeError(Reason::ARGUMENT_INVALID, "start.manifest_bytes is negative; give the manifest's size, or 0",
                       {{"field", "start.manifest_bytes"}});
    }
    if (manifest_bytes_ > wire::kMaxManifestBytes) {
      return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                       absl::StrCat("the manifest has ", manifest_bytes_, " bytes, more than the limit of ",
                                    wire::kMaxManifestBytes, "; store the checkpoint in several parts"),
                       {{"limit", absl::StrCat(wire::kMaxManifestBytes)}});
    }
    // Said before a manifest comes in vain.
    SCONCE_RETURN_IF_ERROR(repository_.GetUpload(upload_).status());
    return manifest_bytes_ == 0 ? BeginPart() : absl::OkStatus();
  }

  absl::Status TakeManifest(const wire::UploadMessage& message) {
    const v1::UploadChunksRequest& fields = message.fields();
    if (!message.data().empty() || !fields.proposals().empty() || !fields.proofs().empty()) {
      return Violated("chunks before the end of the manifest; send all of it first, then wait for the first answer");
    }
    for (const ByteSpan piece : message.manifest()) {
      manifest_.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    }
    const auto have = static_cast<int64_t>(manifest_.size());
    if (have > manifest_bytes_) return Violated("more manifest came than start.manifest_bytes said");
    return have == manifest_bytes_ ? BeginPart() : absl::OkStatus();
  }

  // When all of the manifest is there.
  absl::Status BeginPart() {
    const auto durable = [say = say_](const std::vector<repository::ChunkRange>& ranges) {
      v1::UploadChunksResponse answer;
      AddRanges(ranges, kMaxChunkRanges, *answer.mutable_durable_chunks());
      say(wire::EncodeMessage(answer));
    };
    SCONCE_ASSIGN_OR_RETURN(part_, repository_.BeginPart(upload_, part_number_, AsBytes(ToAbsl(manifest_)), durable));
    std::string().swap(manifest_);
    v1::UploadChunksResponse first;
    first.set_chunk_count(part_->chunk_count());
    // Of a part in so many pieces the rest is found when it is proposed.
    AddRanges(part_->durable(), kMaxChunkRanges, *first.mutable_durable_chunks());
    say_(wire::EncodeMessage(first));
    return absl::OkStatus();
  }

  absl::Status TakeChunks(const wire::UploadMessage& message) {
    v1::UploadChunksResponse answer;
    SCONCE_RETURN_IF_ERROR(TakeProposals(message.fields(), answer));
    SCONCE_RETURN_IF_ERROR(TakeProofs(message.fields(), answer));
    if (!answer.verdicts().empty()) say_(wire::EncodeMessage(answer));
    if (message.data().empty()) return absl::OkStatus();
    return TakeData(message.fields().chunk(), message.fields().offset(), message.data());
  }

  absl::Status TakeData(int64_t chunk, int64_t offset, const std::vector<ByteSpan>& pieces) {
    if (pieces.size() == 1) return part_->Write(chunk, offset, pieces[0]);
    data_.clear();
    for (const ByteSpan piece : pieces) data_.insert(data_.end(), piece.begin(), piece.end());
    return part_->Write(chunk, offset, data_);
  }

  absl::Status TakeProposals(const v1::UploadChunksRequest& fields, v1::UploadChunksResponse& answer) {
    if (fields.proposals().empty()) return absl::OkStatus();
    std::vector<repository::ChunkProposal> proposals;
    proposals.reserve(static_cast<size_t>(fields.proposals_size()));
    for (const v1::UploadChunksRequest::Proposal& given : fields.proposals()) {
      repository::ChunkProposal& proposal = proposals.emplace_back();
      proposal.chunk = given.chunk();
      proposal.size_bytes = given.size_bytes();
      if (!Fingerprint::FromBytes(ToAbsl(given.xxh3()), proposal.xxh3)) {
        return NoDigest("proposals.xxh3", given.chunk(), given.xxh3().size(), proposal.xxh3.bytes.size());
      }
    }
    SCONCE_ASSIGN_OR_RETURN(const std::vector<repository::ChunkVerdict> verdicts, part_->Propose(proposals));
    for (size_t i = 0; i < verdicts.size(); ++i) AddVerdict(proposals[i].chunk, verdicts[i], answer);
    return absl::OkStatus();
  }

  absl::Status TakeProofs(const v1::UploadChunksRequest& fields, v1::UploadChunksResponse& answer) {
    if (fields.proofs().empty()) return absl::OkStatus();
    std::vector<repository::ChunkProof> proofs;
    proofs.reserve(static_cast<size_t>(fields.proofs_size()));
    for (const v1::UploadChunksRequest::Proof& given : fields.proofs()) {
      repository::ChunkProof& proof = proofs.emplace_back();
      proof.chunk = given.chunk();
      if (!Digest::FromBytes(ToAbsl(given.sha256()), proof.sha256)) {
        return NoDigest("proofs.sha256", given.chunk(), given.sha256().size(), proof.sha256.bytes.size());
      }
    }
    SCONCE_ASSIGN_OR_RETURN(const std::vector<repository::ChunkVerdict> verdicts, part_->Prove(proofs));
    for (size_t i = 0; i < verdicts.size(); ++i) AddVerdict(proofs[i].chunk, verdicts[i], answer);
    return absl::OkStatus();
  }

  static void AddVerdict(int64_t chunk, repository::ChunkVerdict action, v1::UploadChunksResponse& answer) {
    v1::UploadChunksResponse::Verdict& verdict = *answer.add_verdicts();
    verdict.set_chunk(chunk);
    verdict.set_action(ToProto(action));
  }

  repository::Repository& repository_;
  const Say say_;
  bool started_ = false;
  repository::UploadRef upload_;
  int64_t part_number_ = 0;
  int64_t manifest_bytes_ = 0;
  std::string manifest_;  // until the part begins
  std::vector<uint8_t> data_;
  std::unique_ptr<repository::PartStream> part_;  // last: it says what is durable until it is gone
};

}  // namespace

std::unique_ptr<rpc::Dialog> NewUploadDialog(repository::Repository& repository, rpc::Dialog::Say say) {
  return std::make_unique<UploadDialog>(repository, std::move(say));
}

}  // namespace sconce::services
