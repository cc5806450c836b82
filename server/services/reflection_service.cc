#include "server/services/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/server_context.h>

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/rpc/stream.h"

// Both versions have the same messages under different packages, so one template answers both.
//
// Errors about one question (no such file, symbol, extension) are answers with error_response; the stream goes on.
namespace sconce::services {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

constexpr int kNotFound = 5;
constexpr int kInvalidArgument = 3;

// `file` and everything it imports, each once, imports first.
void CollectFiles(const FileDescriptor* file, std::set<const FileDescriptor*>& seen,
                  std::vector<const FileDescriptor*>& files) {
  if (!seen.insert(file).second) return;
  for (int i = 0; i < file->dependency_count(); ++i) CollectFiles(file->dependency(i), seen, files);
  files.push_back(file);
}

template <typename Response>
void SetError(Response& response, int code, absl::string_view what, absl::string_view name) {
  response.mutable_error_response()->set_error_code(code);
  response.mutable_error_response()->set_error_message(absl::StrCat(what, " ", Quoted(name), " is not known here"));
}

template <typename Response>
void SetFile(Response& response, const FileDescriptor* file, absl::string_view what, absl::string_view name) {
  if (file == nullptr) return SetError(response, kNotFound, what, name);
  std::set<const FileDescriptor*> seen;
  std::vector<const FileDescriptor*> files;
  CollectFiles(file, seen, files);
  // The file that was asked for comes first.
  for (auto it = files.rbegin(); it != files.rend(); ++it) {
    google::protobuf::FileDescriptorProto proto;
    (*it)->CopyTo(&proto);
    (*it)->CopyJsonNameTo(&proto);  // else a client that prints JSON writes the names as the .proto file has them
    *response.mutable_file_descriptor_response()->add_file_descriptor_proto() = proto.SerializeAsString();
  }
}

template <typename Request, typename Response>
void AnswerQuestion(const Request& request, const std::vector<std::string>& services, Response& response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  response.Clear();
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case Request::kListServices:
      response.mutable_list_services_response();
      for (const std::string& name : services) response.mutable_list_services_response()->add_service()->set_name(name);
      return;
    case Request::kFileByFilename:
      return SetFile(response, pool.FindFileByName(request.file_by_filename()), "file", request.file_by_filename());
    case Request::kFileContainingSymbol:
      return SetFile(response, pool.FindFileContainingSymbol(request.file_containing_symbol()), "symbol",
                     request.file_containing_symbol());
    case Request::kFileContainingExtension: {
      const auto& wanted = request.file_containing_extension();
      const auto* type = pool.FindMessageTypeByName(wanted.containing_type());
      const FieldDescriptor* extension =
          type == nullptr ? nullptr : pool.FindExtensionByNumber(type, wanted.extension_number());
      return SetFile(response, extension == nullptr ? nullptr : extension->file(), "extension",
                     absl::StrCat(wanted.containing_type(), ":", wanted.extension_number()));
    }
    case Request::kAllExtensionNumbersOfType: {
      const std::string& name = request.all_extension_numbers_of_type();
      const auto* type = pool.FindMessageTypeByName(name);
      if (type == nullptr) return SetError(response, kNotFound, "type", name);
      auto& numbers = *response.mutable_all_extension_numbers_response();
      numbers.set_base_type_name(name);
      std::vector<const FieldDescriptor*> extensions;
      pool.FindAllExtensions(type, &extensions);
      for (const FieldDescriptor* extension : extensions) numbers.add_extension_number(extension->number());
      return;
    }
    default:
      response.mutable_error_response()->set_error_code(kInvalidArgument);
      response.mutable_error_response()->set_error_message("the request asks nothing: set one of its fields");
  }
}

// Reads a question, answers it, reads the next.
template <typename Request, typename Response>
class Reflector final : public rpc::StreamCall<grpc::ServerBidiReactor<Request, Response>> {
 public:
  Reflector(rpc::CallRuntime& runtime, grpc::CallbackServerContext* context, const rpc::CallSpec& spec,
            const std::vector<std::string>& services)
      : rpc::StreamCall<grpc::ServerBidiReactor<Request, Response>>(runtime, context, spec), services_(services) {
    if (this->Begin()) this->StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return this->FinishOnce(this->scope().CheckCancelled());  // no more questions, or nobody to ask them
    const absl::Status taken = this->scope().TakeMessage(static_cast<int64_t>(request_.ByteSizeLong()));
    if (!taken.ok()) return this->FinishOnce(taken);
    AnswerQuestion(request_, services_, response_);
    this->scope().CountSent(static_cast<int64_t>(response_.ByteSizeLong()));
    this->StartWrite(&response_);
  }

  void OnWriteDone(bool ok) override {
    if (ok) this->StartRead(&request_);
  }

 private:
  ~Reflector() override = default;

  const std::vector<std::string>& services_;  // the service's, which outlives its calls
  Request request_;
  Response response_;
};

template <typename Service, typename Request, typename Response>
class ReflectionService final : public Service::CallbackService {
 public:
  ReflectionService(rpc::CallRuntime& runtime, std::vector<std::string> services)
      : runtime_(runtime), services_(std::move(services)) {}

  grpc::ServerBidiReactor<Request, Response>* ServerReflectionInfo(grpc::CallbackServerContext* context) override {
    // service_full_name() is a literal: the name outlives the call.
    const rpc::CallSpec spec = {Service::service_full_name(), "ServerReflectionInfo", rpc::CallKind::kBidiStream,
                                wire::kMaxMessageBytes, rpc::Admission::kAlways};
    return new Reflector<Request, Response>(runtime_, context, spec, services_);
  }

 private:
  rpc::CallRuntime& runtime_;
  const std::vector<std::string> services_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeReflectionService(rpc::CallRuntime& runtime, std::vector<std::string> services) {
  using namespace grpc::reflection::v1;  // NOLINT: one function long
  return std::make_unique<ReflectionService<ServerReflection, ServerReflectionRequest, ServerReflectionResponse>>(
      runtime, std::move(services));
}

std::unique_ptr<grpc::Service> MakeReflectionAlphaService(rpc::CallRuntime& runtime,
                                                          std::vector<std::string> services) {
  using namespace grpc::reflection::v1alpha;  // NOLINT: one function long
  return std::make_unique<ReflectionService<ServerReflection, ServerReflectionRequest, ServerReflectionResponse>>(
      runtime, std::move(services));
}

}  // namespace sconce::services
