// What serving a model costs at the least, for serving_bench.py: the bare forward() in a process that does nothing
// else, and a gRPC call that takes the same bytes and gives the same bytes and does nothing in between, or, when it
// names the model "elsewhere", has another process send them back: the least that a model behind a wall can cost.
//
//   serving_floor MODULE INPUT SHAPE OUTPUTS
//
// Prints its address, then answers each line "N" on standard input with how long N runs of forward() took, as JSON, in
// microseconds. OUTPUTS is how many floats an answer has. Ends with its standard input.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <grpcpp/grpcpp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "inference/grpc_service.grpc.pb.h"

namespace sconce {
namespace {

namespace oip = ::inference;

// A process that answers the bytes it gets with `answer_bytes` bytes. For one caller.
class Elsewhere {
 public:
  // While there is but one thread.
  explicit Elsewhere(size_t answer_bytes) : answer_(answer_bytes) {
    int ends[2];
    SCONCE_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    const pid_t child = ::fork();
    SCONCE_CHECK(child >= 0);
    socket_ = ends[child == 0 ? 1 : 0];
    ::close(ends[child == 0 ? 0 : 1]);
    if (child != 0) return;
    std::vector<char> asked(size_t{64} << 10);
    while (::recv(socket_, asked.data(), asked.size(), 0) > 0) {
      if (::send(socket_, answer_.data(), answer_.size(), MSG_NOSIGNAL) < 0) break;
    }
    ::_exit(0);
  }

  void Ask(const std::string& bytes) {
    SCONCE_CHECK(::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    SCONCE_CHECK(::recv(socket_, answer_.data(), answer_.size(), 0) == static_cast<ssize_t>(answer_.size()));
  }

 private:
  std::vector<char> answer_;
  int socket_ = -1;
};

class Empty final : public oip::GRPCInferenceService::CallbackService {
 public:
  Empty(int64_t floats, Elsewhere& elsewhere) : elsewhere_(elsewhere) {
    answer_.set_model_name("mlp");
    answer_.set_model_version("1");
    auto& output = *answer_.add_outputs();
    output.set_name("OUTPUT__0");
    output.set_datatype("FP32");
    output.add_shape(1);
    output.add_shape(floats);
    answer_.add_raw_output_contents(std::string(static_cast<size_t>(floats) * sizeof(float), '\0'));
  }

 private:
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context, const oip::ModelInferRequest* request,
                                       oip::ModelInferResponse* response) override {
    if (request->model_name() == "elsewhere") elsewhere_.Ask(request->raw_input_contents(0));
    *response = answer_;
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  Elsewhere& elsewhere_;
  oip::ModelInferResponse answer_;
};

double Micros() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

class Forward {
 public:
  Forward(const std::string& module, const std::string& input, const std::string& shape)
      : module_(torch::jit::load(module)) {
    module_.eval();
    std::vector<int64_t> extents;
    for (const absl::string_view extent : absl::StrSplit(shape, ',')) {
      SCONCE_CHECK(absl::SimpleAtoi(extent, &extents.emplace_back()));
    }
    x_ = at::empty(extents);
    std::ifstream file(input, std::ios::binary);
    file.read(static_cast<char*>(x_.data_ptr()), static_cast<std::streamsize>(x_.nbytes()));
    SCONCE_CHECK(file.good());
  }

  void Measure(int runs) {
    const c10::InferenceMode inference_mode;
    std::vector<double> times;
    for (int i = 0; i < runs; ++i) {
      const double start = Micros();
      const at::Tensor y = module_.forward({x_}).toTensor();
      times.push_back(Micros() - start);
      // As far apart as calls are: whoever serves finds his weights where others have left them.
      const timespec pause{0, 200'000};
      ::nanosleep(&pause, nullptr);
    }
    std::sort(times.begin(), times.end());
    const auto at = [&](double share) { return times[static_cast<size_t>(share * static_cast<double>(runs - 1))]; };
    ::printf("{\"p50\": %.1f, \"p99\": %.1f}\n", at(0.5), at(0.99));
    ::fflush(stdout);
  }

 private:
  torch::jit::Module module_;
  at::Tensor x_;
};

int Main(char** arguments) {
  int64_t outputs = 0;
  SCONCE_CHECK(absl::SimpleAtoi(arguments[4], &outputs));
  Elsewhere elsewhere(static_cast<size_t>(outputs) * sizeof(float));
  Forward forward(arguments[1], arguments[2], arguments[3]);
  Empty service(outputs, elsewhere);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  SCONCE_CHECK(server != nullptr);
  ::printf("127.0.0.1:%d\n", port);
  ::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    int runs = 0;
    SCONCE_CHECK(absl::SimpleAtoi(line, &runs) && runs > 0);
    forward.Measure(runs);
  }
  server->Shutdown();
  return 0;
}

}  // namespace
}  // namespace sconce

int main(int argc, char** argv) {
  if (argc != 5) {
    ::fputs("serving_floor MODULE INPUT SHAPE OUTPUTS: started by serving_bench.py\n", stderr);
    return 2;
  }
  return sconce::Main(argv);
}
