#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "server/rpc/stream.h"
#include "server/services/admin_calls.h"
#include "server/services/convert.h"

namespace sconce::services {
namespace {

constexpr rpc::CallSpec kVerify = {"sconce.v1.AdminService", "Verify", rpc::CallKind::kServerStream};
constexpr absl::Duration kBetweenMessages = absl::Seconds(1);
// A task of the stream pool ends after this, so that transfers have their turn.
constexpr absl::Duration kTurn = absl::Milliseconds(100);
constexpr size_t kMaxNames = 1000;  // in a message

absl::StatusOr<repository::VerifyScope> ScopeFromName(const std::string& name) {
  repository::VerifyScope scope;
  if (name.empty()) return scope;
  const size_t parts = std::vector<std::string>(absl::StrSplit(name, '/')).size();
  if (parts <= 2) {
    SCONCE_ASSIGN_OR_RETURN(scope.project, wire::ParseProject(name));
  } else if (parts <= 4) {
    SCONCE_ASSIGN_OR_RETURN(const wire::RunRef run, wire::ParseRun(name));
    scope.project = run.project;
    scope.run = run.run;
  } else {
    SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef checkpoint, wire::ParseCheckpoint(name));
    scope.project = checkpoint.run.project;
    scope.run = checkpoint.run.run;
    scope.selector = checkpoint.id;
  }
  return scope;
}

std::string NameOf(const repository::ObjectName& name) {
  if (name.version == 0) return wire::FormatModule(name.run.project, name.run.run, name.module);
  return wire::FormatCheckpoint(name.run.project, name.run.run, std::to_string(name.version));
}

// Works in turns on the stream pool; a turn ends with a message when it is time for one.
class VerifyCall final : public rpc::StreamCall<grpc::ServerWriteReactor<v1::VerifyResponse>> {
 public:
  VerifyCall(rpc::CallRuntime& runtime, repository::Repository& repository, grpc::CallbackServerContext* context,
             const v1::VerifyRequest& request)
      : StreamCall(runtime, context, kVerify), repository_(repository), name_(request.name()) {
    scope().SetResource(name_);
    if (!Begin()) return;
    const absl::Status taken = scope().TakeMessage(static_cast<int64_t>(request.ByteSizeLong()));
    if (taken.ok()) {
      GoOn();
    } else {
      FinishOnce(taken);
    }
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      FinishOnce(MakeError(Reason::CALL_CANCELLED, "the client went away before the end of the stream"));
    } else if (message_.done()) {
      FinishOnce(absl::OkStatus());
    } else {
      GoOn();
    }
  }

 private:
  void GoOn() {
    RunBlocking([this] {
      const absl::Status status = Turn();
      if (!status.ok()) FinishOnce(status);
    });
  }

  absl::Status Turn() {
    if (verification_ == nullptr) {
      SCONCE_ASSIGN_OR_RETURN(const repository::VerifyScope what, ScopeFromName(name_));
      SCONCE_ASSIGN_OR_RETURN(verification_, repository_.BeginVerify(what));
      last_message_ = runtime().clock().Now();
    }
    const absl::Time begin = runtime().clock().Now();
    for (absl::Time now = begin; now - begin < kTurn; now = runtime().clock().Now()) {
      SCONCE_RETURN_IF_ERROR(scope().CheckCancelled());
      SCONCE_ASSIGN_OR_RETURN(const repository::VerifyProgress progress, verification_->Step());
      for (const repository::ObjectName& name : progress.damaged) names_.push_back(NameOf(name));
      const bool full = names_.size() >= kMaxNames;
      if (!progress.done && !full && now - last_message_ < kBetweenMessages) continue;
      last_message_ = now;
      Send(progress);
      return absl::OkStatus();
    }
    GoOn();
    return absl::OkStatus();
  }

  void Send(const repository::VerifyProgress& progress) {
    message_.Clear();
    message_.set_verified_bytes(progress.verified_bytes);
    message_.set_total_bytes(progress.total_bytes);
    for (std::string& name : names_) message_.add_quarantined(std::move(name));
    names_.clear();
    message_.set_blob_count(progress.blobs);
    message_.set_chunk_count(progress.chunks);
    message_.set_damaged_footer_count(progress.damaged_footers);
    message_.set_done(progress.done);
    scope().CountSent(static_cast<int64_t>(message_.ByteSizeLong()));
    StartWrite(&message_);
  }

  repository::Repository& repository_;
  const std::string name_;
  // Of one turn, or one write, at a time.
  std::unique_ptr<repository::Verification> verification_;
  absl::Time last_message_;
  std::vector<std::string> names_;  // to be told
  v1::VerifyResponse message_;      // gRPC's between StartWrite and OnWriteDone
};

}  // namespace

grpc::ServerWriteReactor<v1::VerifyResponse>* StartVerify(rpc::CallRuntime& runtime, repository::Repository& repository,
                                                          grpc::CallbackServerContext* context,
                                                          const v1::VerifyRequest* request) {
  return new VerifyCall(runtime, repository, context, *request);
}

}  // namespace sconce::services
