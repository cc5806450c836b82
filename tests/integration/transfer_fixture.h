#ifndef SCONCE_TESTS_INTEGRATION_TRANSFER_FIXTURE_H_
#define SCONCE_TESTS_INTEGRATION_TRANSFER_FIXTURE_H_

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/strings.h"
#include "proto/wire/limits.h"
#include "proto/wire/status.h"
#include "sconce/v1/transfer_service.grpc.pb.h"
#include "server/rpc/runtime.h"
#include "server/services/transfer_service.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/repository.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sconce {

inline std::string RandomBytes(int64_t size_bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(static_cast<size_t>(size_bytes), '\0');
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = random();
    std::copy_n(reinterpret_cast<const char*>(&word), 8, bytes.data() + i);
  }
  return bytes;
}

// A checkpoint as a client has it before a push.
struct Content {
  format::Manifest manifest;
  std::string bulk;
};

// Random bytes for all bulk storages of a manifest.
inline Content Fill(format::Manifest manifest, uint64_t seed) {
  const int64_t bulk_bytes = format::BulkBytes(manifest);
  return {std::move(manifest), RandomBytes(bulk_bytes, seed)};
}

// {"epoch": 3, "model": {"t0": uint8 tensor of sizes[0] bytes, ...}}, the tensors on `device`.
inline Content Tensors(const std::vector<int64_t>& sizes, uint64_t seed = 1, const std::string& device = "cpu") {
  format::ManifestBuilder b;
  // In the order in which a reader of the file meets them, so that manifests can be compared as bytes.
  const format::NodeIndex epoch_key = b.Str("epoch"), epoch = b.Int(3), model_key = b.Str("model");
  format::ManifestBuilder::Items items;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const format::NodeIndex key = b.Str(absl::StrCat("t", i));
    items.emplace_back(key, b.Tensor(b.Storage(sizes[i], device), format::DType::kUInt8, {sizes[i]}));
  }
  const format::NodeIndex model = b.Dict(items);
  b.Dict({{epoch_key, epoch}, {model_key, model}});
  return Fill(b.Build(), seed);
}

// A manifest as it was before the server gave its chunks digests.
inline format::Manifest WithoutDigests(format::Manifest manifest) {
  for (format::Storage& storage : manifest.storages) storage.chunks.clear();
  return manifest;
}

// What a download gave, checked message by message.
template <typename Header>
struct Download {
  absl::Status status;
  Header header;
  std::string manifest;
  std::string data;
  int64_t first_offset = -1;  // of the data; -1: none came
  int messages = 0;
};

// The real service over the real repository behind a real socket.
class TransferTest : public ::testing::Test {
 protected:
  TransferTest() { Start(); }
  ~TransferTest() override { Stop(); }

  void Start() {
    repository::RepositoryOptions options;
    options.data_dir = data_dir();
    options.min_free_bytes = 1 << 20;
    auto opened = repository::Repository::Open(options);
    ASSERT_OK(opened);
    repository_ = *std::move(opened);
    runtime_ = std::make_unique<rpc::CallRuntime>(rpc::RuntimeOptions{});
    service_ = services::MakeTransferService(*runtime_, *repository_);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(service_.get());
    builder.SetMaxReceiveMessageSize(static_cast<int>(wire::kMaxInferenceMessageBytes));
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::TransferService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port_), grpc::InsecureChannelCredentials()));
  }
  // Returns when every call is over and what it left behind is gone.
  void StopServer() {
    if (server_ == nullptr) return;
    server_->Shutdown();
    server_->Wait();
    server_.reset();
    runtime_.reset();
  }
  void Stop() {
    StopServer();
    repository_.reset();
  }

  std::string data_dir() const { return dir_ / "data"; }

  static v1::PushHeader Header(const std::string& run = "r") {
    v1::PushHeader header;
    header.set_parent("projects/default/runs/" + run);
    return header;
  }
  static std::string Name(const std::string& selector = "latest", const std::string& run = "r") {
    return "projects/default/runs/" + run + "/checkpoints/" + selector;
  }
  static std::string ModuleName(const std::string& module) { return "projects/default/runs/r/modules/" + module; }

  // The messages of a push, for a test to change.
  static std::vector<v1::PushCheckpointRequest> PushMessages(const v1::PushHeader& header, const std::string& manifest,
                                                             const std::string& bulk,
                                                             size_t piece = wire::kMaxBulkDataBytes) {
    std::vector<v1::PushCheckpointRequest> messages(1);
    *messages[0].mutable_header() = header;
    for (size_t at = 0; at < manifest.size(); at += wire::kMaxManifestPieceBytes) {
      messages.emplace_back().set_manifest(manifest.substr(at, wire::kMaxManifestPieceBytes));
    }
    for (size_t at = 0; at < bulk.size(); at += piece) {
      v1::PushCheckpointRequest& message = messages.emplace_back();
      message.set_data(bulk.substr(at, piece));
      message.set_offset(static_cast<int64_t>(at));
      message.set_xxh3(std::string(ToStd(Xxh3(AsBytes(ToAbsl(message.data()))).AsKey())));
    }
    return messages;
  }

  template <typename Request, typename Answer>
  absl::StatusOr<Answer> Send(
      std::unique_ptr<grpc::ClientWriter<Request>> (v1::TransferService::Stub::*method)(grpc::ClientContext*, Answer*),
      const std::vector<Request>& messages) {
    grpc::ClientContext context;
    Answer answer;
    const auto writer = ((*stub_).*method)(&context, &answer);
    for (const Request& message : messages) {
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    const absl::Status status = wire::FromGrpcStatus(writer->Finish());
    if (!status.ok()) return status;
    return answer;
  }

  absl::StatusOr<v1::Checkpoint> Push(const std::vector<v1::PushCheckpointRequest>& messages) {
    return Send<v1::PushCheckpointRequest, v1::Checkpoint>(&v1::TransferService::Stub::PushCheckpoint, messages);
  }
  absl::StatusOr<v1::Checkpoint> Push(const v1::PushHeader& header, const Content& content,
                                      size_t piece = wire::kMaxBulkDataBytes) {
    return Push(PushMessages(header, format::EncodeManifest(content.manifest), content.bulk, piece));
  }

  absl::StatusOr<v1::Checkpoint> Import(const v1::ImportCheckpointRequest::Header& header, const std::string& file) {
    return Send<v1::ImportCheckpointRequest, v1::Checkpoint>(&v1::TransferService::Stub::ImportCheckpoint,
                                                             FileMessages<v1::ImportCheckpointRequest>(header, file));
  }
  absl::StatusOr<v1::Checkpoint> Import(const std::string& file, bool opaque = false) {
    v1::ImportCheckpointRequest::Header header;
    *header.mutable_push() = Header();
    header.set_opaque(opaque);
    return Import(header, file);
  }
  absl::StatusOr<v1::Module> PushModule(const v1::PushModuleRequest::Header& header, const std::string& file) {
    return Send<v1::PushModuleRequest, v1::Module>(&v1::TransferService::Stub::PushModule,
                                                   FileMessages<v1::PushModuleRequest>(header, file));
  }

  Download<v1::FetchCheckpointResponse::Header> Fetch(const v1::FetchCheckpointRequest& request) {
    return Receive<v1::FetchCheckpointResponse::Header>(&v1::TransferService::Stub::FetchCheckpoint, request);
  }
  Download<v1::FetchCheckpointResponse::Header> Fetch(const std::string& name) {
    v1::FetchCheckpointRequest request;
    request.set_name(name);
    return Fetch(request);
  }
  Download<v1::ExportCheckpointResponse::Header> Export(const v1::ExportCheckpointRequest& request) {
    return Receive<v1::ExportCheckpointResponse::Header>(&v1::TransferService::Stub::ExportCheckpoint, request);
  }
  Download<v1::ExportCheckpointResponse::Header> Export(const std::string& name) {
    v1::ExportCheckpointRequest request;
    request.set_name(name);
    return Export(request);
  }
  Download<v1::Module> FetchModule(const std::string& name, int64_t offset = 0) {
    v1::FetchModuleRequest request;
    request.set_name(name);
    request.set_offset(offset);
    return Receive<v1::Module>(&v1::TransferService::Stub::FetchModule, request);
  }

  // Everything a client can see and every file of the store: equal before and after a call that changed nothing.
  std::string Snapshot() {
    std::string all;
    const auto runs = repository_->ListRuns("", "", 1000);
    EXPECT_OK(runs);
    for (const repository::Run& run : runs->items) {
      absl::StrAppend(&all, "run ", run.name.run, "\n");
      const auto versions = repository_->ListCheckpoints(run.name, "", 1000);
      EXPECT_OK(versions);
      for (const repository::Checkpoint& checkpoint : versions->items) {
        absl::StrAppend(&all, "  ", checkpoint.version, " ", checkpoint.etag, "\n");
      }
      const auto modules = repository_->ListModules(run.name, "", 1000);
      EXPECT_OK(modules);
      for (const repository::Module& module : modules->items) absl::StrAppend(&all, "  ", module.module, "\n");
    }
    for (const char* folder : {"/blobs", "/uploads", "/orphans"}) {
      if (!std::filesystem::exists(data_dir() + folder)) continue;
      std::vector<std::string> files;
      for (const auto& entry : std::filesystem::recursive_directory_iterator(data_dir() + folder)) {
        if (entry.is_regular_file()) files.push_back(entry.path().filename());
      }
      std::sort(files.begin(), files.end());
      for (const std::string& file : files) absl::StrAppend(&all, folder, " ", file, "\n");
    }
    return all;
  }

  // Flips a bit of a chunk where it is stored.
  void Corrupt(const std::string& selector, format::StorageIndex storage, int64_t chunk) {
    const auto open = repository_->OpenRead({{"default", "r"}, selector});
    ASSERT_OK(open);
    const repository::Extent extent = (*open)->Locate(storage, chunk);
    const std::string path = std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", extent.fd));
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(extent.offset + 1000);
    const int byte = file.get();
    file.seekp(extent.offset + 1000);
    file.put(static_cast<char>(byte ^ 1));
    ASSERT_TRUE(file.good());
  }

  // A file of tests/data.
  static std::string DataFile(const std::string& name) {
    const char* source = ::getenv("SCONCE_SOURCE_DIR");
    std::ifstream file(std::string(source != nullptr ? source : ".") + "/tests/data/" + name, std::ios::binary);
    EXPECT_TRUE(file.good()) << name;
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  template <typename Request, typename Header>
  static std::vector<Request> FileMessages(const Header& header, const std::string& file) {
    std::vector<Request> messages(1);
    *messages[0].mutable_header() = header;
    for (size_t at = 0; at < file.size(); at += wire::kMaxBulkDataBytes) {
      Request& message = messages.emplace_back();
      message.set_data(file.substr(at, wire::kMaxBulkDataBytes));
      message.set_offset(static_cast<int64_t>(at));
    }
    return messages;
  }

 private:
  static void TakeHeader(const v1::FetchCheckpointResponse& message, v1::FetchCheckpointResponse::Header& header) {
    EXPECT_TRUE(message.has_header());
    header = message.header();
  }
  static void TakeHeader(const v1::ExportCheckpointResponse& message, v1::ExportCheckpointResponse::Header& header) {
    EXPECT_TRUE(message.has_header());
    header = message.header();
  }
  static void TakeHeader(const v1::FetchModuleResponse& message, v1::Module& module) {
    EXPECT_TRUE(message.has_module());
    module = message.module();
  }
  static const std::string& ManifestOf(const v1::FetchCheckpointResponse& message) { return message.manifest(); }
  template <typename Response>
  static std::string ManifestOf(const Response&) {
    return "";
  }

  template <typename Header, typename Request, typename Response>
  Download<Header> Receive(std::unique_ptr<grpc::ClientReader<Response>> (v1::TransferService::Stub::*method)(
                               grpc::ClientContext*, const Request&),
                           const Request& request) {
    Download<Header> result;
    grpc::ClientContext context;
    const auto reader = ((*stub_).*method)(&context, request);
    Response message;
    while (reader->Read(&message)) {
      if (result.messages++ == 0) {
        TakeHeader(message, result.header);
        EXPECT_EQ(message.data(), "");
        continue;
      }
      const std::string manifest = ManifestOf(message);
      if (!manifest.empty()) {
        EXPECT_TRUE(result.data.empty() && message.data().empty()) << "manifest after or with data";
        EXPECT_LE(manifest.size(), static_cast<size_t>(wire::kMaxManifestPieceBytes));
        result.manifest += manifest;
        continue;
      }
      EXPECT_FALSE(message.data().empty()) << "an empty message";
      EXPECT_LE(message.data().size(), static_cast<size_t>(wire::kMaxBulkDataBytes));
      EXPECT_EQ(ToAbsl(message.xxh3()), Xxh3(AsBytes(ToAbsl(message.data()))).AsKey());
      if (result.first_offset < 0) result.first_offset = message.offset();
      EXPECT_EQ(message.offset(), result.first_offset + static_cast<int64_t>(result.data.size()));
      result.data += message.data();
    }
    result.status = wire::FromGrpcStatus(reader->Finish());
    return result;
  }

 protected:
  TempDir dir_;
  std::unique_ptr<repository::Repository> repository_;
  std::unique_ptr<rpc::CallRuntime> runtime_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::unique_ptr<v1::TransferService::Stub> stub_;
};

}  // namespace sconce

#endif  // SCONCE_TESTS_INTEGRATION_TRANSFER_FIXTURE_H_
