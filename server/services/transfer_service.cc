#include "server/services/transfer_service.h"

#include <grpcpp/impl/service_type.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <utility>

#include "sconce/v1/transfer_service.grpc.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/dialog_reactor.h"
#include "server/rpc/download_reactor.h"
#include "server/rpc/unary.h"
#include "server/rpc/upload_reactor.h"
#include "server/services/transfer_calls.h"
#include "server/services/upload_calls.h"

namespace sconce::services {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;

constexpr char kService[] = "sconce.v1.TransferService";

constexpr rpc::CallSpec Spec(const char* method, rpc::CallKind kind) {
  return {kService, method, kind, wire::kMaxMessageBytes, rpc::Admission::kWhenServing};
}
constexpr rpc::CallSpec kPushCheckpoint = Spec("PushCheckpoint", rpc::CallKind::kClientStream);
constexpr rpc::CallSpec kImportCheckpoint = Spec("ImportCheckpoint", rpc::CallKind::kClientStream);
constexpr rpc::CallSpec kPushModule = Spec("PushModule", rpc::CallKind::kClientStream);
constexpr rpc::CallSpec kFetchCheckpoint = Spec("FetchCheckpoint", rpc::CallKind::kServerStream);
constexpr rpc::CallSpec kExportCheckpoint = Spec("ExportCheckpoint", rpc::CallKind::kServerStream);
constexpr rpc::CallSpec kFetchModule = Spec("FetchModule", rpc::CallKind::kServerStream);
constexpr rpc::CallSpec kBeginUpload = Spec("BeginUpload", rpc::CallKind::kUnary);
constexpr rpc::CallSpec kUploadChunks = Spec("UploadChunks", rpc::CallKind::kBidiStream);
constexpr rpc::CallSpec kCommitUpload = Spec("CommitUpload", rpc::CallKind::kUnary);
constexpr rpc::CallSpec kAbortUpload = Spec("AbortUpload", rpc::CallKind::kUnary);
constexpr rpc::CallSpec kGetUpload = Spec("GetUpload", rpc::CallKind::kUnary);

// Each method once: one that is registered twice makes the server refuse to start.
template <typename Base>
using Raw = v1::TransferService::WithRawCallbackMethod_PushCheckpoint<
    v1::TransferService::WithRawCallbackMethod_FetchCheckpoint<
        v1::TransferService::WithRawCallbackMethod_ImportCheckpoint<
            v1::TransferService::WithRawCallbackMethod_ExportCheckpoint<
                v1::TransferService::WithRawCallbackMethod_PushModule<
                    v1::TransferService::WithRawCallbackMethod_FetchModule<
                        v1::TransferService::WithRawCallbackMethod_UploadChunks<Base>>>>>>>;
template <typename Base>
using Typed = v1::TransferService::WithCallbackMethod_BeginUpload<v1::TransferService::WithCallbackMethod_CommitUpload<
    v1::TransferService::WithCallbackMethod_AbortUpload<v1::TransferService::WithCallbackMethod_GetUpload<Base>>>>;

class TransferService final : public Raw<Typed<v1::TransferService::Service>> {
 public:
  TransferService(repository::Repository& repository, rpc::CallRuntime& runtime)
      : repository_(repository), runtime_(runtime) {}

  grpc::ServerReadReactor<ByteBuffer>* PushCheckpoint(CallbackServerContext* context, ByteBuffer* response) override {
    return Upload(context, kPushCheckpoint, response, NewPushSink(repository_));
  }
  grpc::ServerReadReactor<ByteBuffer>* ImportCheckpoint(CallbackServerContext* context, ByteBuffer* response) override {
    return Upload(context, kImportCheckpoint, response, NewImportSink(repository_));
  }
  grpc::ServerReadReactor<ByteBuffer>* PushModule(CallbackServerContext* context, ByteBuffer* response) override {
    return Upload(context, kPushModule, response, NewModuleSink(repository_));
  }

  grpc::ServerWriteReactor<ByteBuffer>* FetchCheckpoint(CallbackServerContext* context,
                                                        const ByteBuffer* request) override {
    return Download(context, kFetchCheckpoint, request, NewFetchSource(repository_, *request));
  }
  grpc::ServerWriteReactor<ByteBuffer>* ExportCheckpoint(CallbackServerContext* context,
                                                         const ByteBuffer* request) override {
    return Download(context, kExportCheckpoint, request, NewExportSource(repository_, *request));
  }
  grpc::ServerWriteReactor<ByteBuffer>* FetchModule(CallbackServerContext* context,
                                                    const ByteBuffer* request) override {
    return Download(context, kFetchModule, request, NewModuleSource(repository_, *request));
  }

  grpc::ServerBidiReactor<ByteBuffer, ByteBuffer>* UploadChunks(CallbackServerContext* context) override {
    return new rpc::DialogReactor(runtime_, context, kUploadChunks, [this](rpc::Dialog::Say say) {
      return NewUploadDialog(repository_, std::move(say));
    });
  }

  grpc::ServerUnaryReactor* BeginUpload(CallbackServerContext* context, const v1::BeginUploadRequest* request,
                                        v1::Upload* response) override {
    return Answer(context, kBeginUpload, request, response, services::BeginUpload);
  }
  grpc::ServerUnaryReactor* CommitUpload(CallbackServerContext* context, const v1::CommitUploadRequest* request,
                                         v1::Checkpoint* response) override {
    return Answer(context, kCommitUpload, request, response, services::CommitUpload);
  }
  grpc::ServerUnaryReactor* AbortUpload(CallbackServerContext* context, const v1::AbortUploadRequest* request,
                                        google::protobuf::Empty* response) override {
    return Answer(context, kAbortUpload, request, response, services::AbortUpload);
  }
  grpc::ServerUnaryReactor* GetUpload(CallbackServerContext* context, const v1::GetUploadRequest* request,
                                      v1::Upload* response) override {
    return Answer(context, kGetUpload, request, response, services::GetUpload);
  }

 private:
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Answer(CallbackServerContext* context, const rpc::CallSpec& spec, const Request* request,
                                   Response* response,
                                   absl::Status (*call)(repository::Repository&, rpc::CallScope&, const Request&,
                                                        Response&)) {
    return rpc::HandleUnary(runtime_, context, spec, request, response,
                            [this, call](rpc::CallScope& scope, const Request& req, Response& resp) {
                              return call(repository_, scope, req, resp);
                            });
  }
  rpc::UploadReactor* Upload(CallbackServerContext* context, const rpc::CallSpec& spec, ByteBuffer* response,
                             std::unique_ptr<rpc::UploadSink> sink) {
    return new rpc::UploadReactor(runtime_, context, spec, response, std::move(sink));
  }
  rpc::DownloadReactor* Download(CallbackServerContext* context, const rpc::CallSpec& spec, const ByteBuffer* request,
                                 std::unique_ptr<rpc::DownloadSource> source) {
    return new rpc::DownloadReactor(runtime_, context, spec, static_cast<int64_t>(request->Length()),
                                    std::move(source));
  }

  repository::Repository& repository_;
  rpc::CallRuntime& runtime_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeTransferService(rpc::CallRuntime& runtime, repository::Repository& repository) {
  return std::make_unique<TransferService>(repository, runtime);
}

}  // namespace sconce::services
