#include "server/rpc/upload_reactor.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"

namespace sconce::rpc {
namespace {

absl::Status Violated(absl::string_view what) {
  return MakeError(Reason::STREAM_PROTOCOL_VIOLATED, what);
}

}  // namespace

absl::Status UploadSink::TakeManifest(const std::vector<ByteSpan>&) {
  return Violated("this stream has no manifest; send `data` after the header");
}

UploadReactor::UploadReactor(CallRuntime& runtime, grpc::CallbackServerContext* context, const CallSpec& spec,
                             grpc::ByteBuffer* response, std::unique_ptr<UploadSink> sink)
    : StreamCall(runtime, context, spec), response_(response), sink_(std::move(sink)) {
  if (Begin()) StartRead(&arriving_);
}

void UploadReactor::OnReadDone(bool ok) {
  const absl::Status taken =
      ok ? scope().TakeMessage(static_cast<int64_t>(arriving_.Length())) : scope().CheckCancelled();
  {
    MutexLock lock(&state_mu_);
    if (!taken.ok()) {
      failure_ = taken;
    } else if (ok) {
      waiting_.Swap(&arriving_);
      waiting_full_ = true;
    } else {
      all_read_ = true;
    }
  }
  arriving_.Clear();
  Advance();
}

void UploadReactor::OnCancel() {
  // The sink may have files to remove, so a step ends the call, not this reaction.
  scope().MarkCancelled();
  {
    MutexLock lock(&state_mu_);
    failure_ = scope().CheckCancelled();
  }
  Advance();
}

void UploadReactor::Advance() {
  {
    MutexLock lock(&state_mu_);
    if (stepping_ || (!waiting_full_ && !all_read_ && failure_.ok())) return;
    stepping_ = true;
  }
  // False: the call is ending all the same, and the destructor clears up.
  (void)RunBlocking([this] { Step(); });
}

void UploadReactor::Step() {
  grpc::ByteBuffer buffer;
  bool is_message = false;
  absl::Status status;
  {
    MutexLock lock(&state_mu_);
    status = failure_;
    if (status.ok() && waiting_full_) {
      buffer.Swap(&waiting_);
      waiting_full_ = false;
      is_message = true;
    }
  }
  bool answered = false;
  if (status.ok() && is_message) {
    StartRead(&arriving_);
    status = Handle(buffer);
  } else if (status.ok() && phase_ == Phase::kHeader) {
    status = Violated("the stream ended before its first message; send a header first");
  } else if (status.ok()) {
    absl::StatusOr<std::optional<grpc::ByteBuffer>> answer = sink_->End(scope());
    status = answer.status();
    if (answer.ok() && answer->has_value()) {
      response_->Swap(&**answer);
      answered = true;
    }
  }
  if (answered || !status.ok()) {
    sink_.reset();
    FinishOnce(status);
    return;
  }
  buffer.Clear();
  {
    MutexLock lock(&state_mu_);
    stepping_ = false;
  }
  Advance();
}

absl::Status UploadReactor::Handle(const grpc::ByteBuffer& buffer) {
  SCONCE_ASSIGN_OR_RETURN(const wire::BulkMessage message, wire::BulkMessage::Decode(buffer));
  const wire::BulkFields& fields = message.fields();
  if (phase_ != Phase::kHeader) return HandlePiece(message);
  if (!fields.header.has_value())
    return Violated("the first message has no header; send a header first, then the rest");
  if (!fields.manifest.empty() || !fields.data.empty()) {
    return Violated("the first message has more than a header; send manifest and data in messages of their own");
  }
  phase_ = Phase::kManifest;
  return sink_->Begin(scope(), message);
}

absl::Status UploadReactor::HandlePiece(const wire::BulkMessage& message) {
  const wire::BulkFields& fields = message.fields();
  if (fields.header.has_value()) return Violated("a second header; a stream has one, in its first message");
  if (!fields.manifest.empty()) {
    if (!fields.data.empty()) return Violated("manifest and data in one message; send one after the other");
    if (phase_ == Phase::kData) return Violated("a piece of the manifest after data; send all of the manifest first");
    return sink_->TakeManifest(fields.manifest);
  }
  phase_ = Phase::kData;
  if (const int64_t offset = fields.offset.value_or(data_bytes_); offset != data_bytes_) {
    return MakeError(Reason::OFFSET_MISMATCH,
                     absl::StrCat("data for offset ", offset, " where offset ", data_bytes_,
                                  " is next; send all bytes in order, each once"),
                     {{"expected", absl::StrCat(data_bytes_)}, {"actual", absl::StrCat(offset)}});
  }
  if (fields.data.empty()) return absl::OkStatus();
  SCONCE_RETURN_IF_ERROR(message.CheckData());
  data_bytes_ += fields.data_bytes();
  return sink_->TakeData(scope(), fields.data);
}

}  // namespace sconce::rpc
