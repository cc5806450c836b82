#include "server/services/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/descriptor_database.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "sconce/v1/checkpoint_service.pb.h"
#include "tests/support/in_process_server.h"
#include "tests/support/status_matchers.h"

namespace sconce::services {
namespace {

using ::testing::HasSubstr;

struct V1 {
  using Service = grpc::reflection::v1::ServerReflection;
  using Request = grpc::reflection::v1::ServerReflectionRequest;
  using Response = grpc::reflection::v1::ServerReflectionResponse;
};
struct V1Alpha {
  using Service = grpc::reflection::v1alpha::ServerReflection;
  using Request = grpc::reflection::v1alpha::ServerReflectionRequest;
  using Response = grpc::reflection::v1alpha::ServerReflectionResponse;
};

// Both services are there at once, as in the real server; each test runs through one of them.
template <typename Version>
class ReflectionServiceTest : public ::testing::Test {
 protected:
  using Request = typename Version::Request;
  using Response = typename Version::Response;

  Response Ask(const Request& request) {
    EXPECT_TRUE(stream_->Write(request));
    Response response;
    EXPECT_TRUE(stream_->Read(&response));
    return response;
  }
  // The files of an answer, by name, in a pool built from nothing else.
  static void Load(const Response& response, google::protobuf::SimpleDescriptorDatabase& files) {
    for (const std::string& bytes : response.file_descriptor_response().file_descriptor_proto()) {
      google::protobuf::FileDescriptorProto file;
      EXPECT_TRUE(file.ParseFromString(bytes));
      files.Add(file);
    }
  }

  const std::vector<std::string> names_ = {"sconce.v1.CheckpointService", "grpc.health.v1.Health"};
  rpc::CallRuntime runtime_{rpc::RuntimeOptions()};
  std::unique_ptr<grpc::Service> v1_ = MakeReflectionService(runtime_, names_);
  std::unique_ptr<grpc::Service> alpha_ = MakeReflectionAlphaService(runtime_, names_);
  InProcessServer server_{{v1_.get(), alpha_.get()}};
  std::unique_ptr<typename Version::Service::Stub> stub_ = Version::Service::NewStub(server_.channel());
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<Request, Response>> stream_ = stub_->ServerReflectionInfo(&context_);
};

using Versions = ::testing::Types<V1, V1Alpha>;
TYPED_TEST_SUITE(ReflectionServiceTest, Versions);

TYPED_TEST(ReflectionServiceTest, ListsTheServices) {
  typename TypeParam::Request request;
  request.set_host("h");
  request.set_list_services("");
  const auto response = this->Ask(request);
  EXPECT_EQ(response.valid_host(), "h");
  EXPECT_EQ(response.original_request().host(), "h");
  std::vector<std::string> names;
  for (const auto& service : response.list_services_response().service()) names.push_back(service.name());
  EXPECT_EQ(names, this->names_);
}

TYPED_TEST(ReflectionServiceTest, ASymbolsFileComesWithAllItImports) {
  for (const char* symbol : {"sconce.v1.CheckpointService", "sconce.v1.CheckpointService.GetRun", "sconce.v1.Run",
                             "sconce.v1.Checkpoint.State", "google.rpc.ErrorInfo"}) {
    typename TypeParam::Request request;
    request.set_file_containing_symbol(symbol);
    const auto response = this->Ask(request);
    google::protobuf::SimpleDescriptorDatabase files;
    this->Load(response, files);
    google::protobuf::DescriptorPool pool(&files);
    EXPECT_NE(pool.FindFileContainingSymbol(symbol), nullptr) << symbol;
  }
}

TYPED_TEST(ReflectionServiceTest, AFileIsFoundByItsNameAndComesFirst) {
  typename TypeParam::Request request;
  request.set_file_by_filename("sconce/v1/checkpoint_service.proto");
  const auto response = this->Ask(request);
  ASSERT_GT(response.file_descriptor_response().file_descriptor_proto_size(), 3);
  google::protobuf::FileDescriptorProto first;
  ASSERT_TRUE(first.ParseFromString(response.file_descriptor_response().file_descriptor_proto(0)));
  EXPECT_EQ(first.name(), "sconce/v1/checkpoint_service.proto");
}

TYPED_TEST(ReflectionServiceTest, WhatIsNotThereIsAnAnswerAndTheStreamGoesOn) {
  typename TypeParam::Request request;
  request.set_file_by_filename("nope.proto");
  EXPECT_EQ(this->Ask(request).error_response().error_code(), 5);
  request.set_file_containing_symbol("no.Such");
  const auto symbol = this->Ask(request);
  EXPECT_EQ(symbol.error_response().error_code(), 5);
  EXPECT_THAT(symbol.error_response().error_message(), HasSubstr("no.Such"));
  request.mutable_file_containing_extension()->set_containing_type("sconce.v1.Run");
  request.mutable_file_containing_extension()->set_extension_number(7);
  EXPECT_EQ(this->Ask(request).error_response().error_code(), 5);
  request.set_all_extension_numbers_of_type("no.Such");
  EXPECT_EQ(this->Ask(request).error_response().error_code(), 5);
  request.set_all_extension_numbers_of_type("sconce.v1.Run");
  const auto none = this->Ask(request);
  EXPECT_EQ(none.all_extension_numbers_response().base_type_name(), "sconce.v1.Run");
  EXPECT_EQ(none.all_extension_numbers_response().extension_number_size(), 0);
  EXPECT_EQ(this->Ask({}).error_response().error_code(), 3);
  request.set_list_services("");
  EXPECT_TRUE(this->Ask(request).has_list_services_response());
}

TYPED_TEST(ReflectionServiceTest, TheStreamEndsWellWhenTheClientHasNoMoreQuestions) {
  this->stream_->WritesDone();
  typename TypeParam::Response response;
  EXPECT_FALSE(this->stream_->Read(&response));
  EXPECT_TRUE(this->stream_->Finish().ok());
}

}  // namespace
}  // namespace sconce::services
