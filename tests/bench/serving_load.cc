// Asks a model over the Open Inference Protocol and checks each answer: the load generator of serving_bench.py. Its own
// cost is small: the request is made once, answers are taken by one thread, and nothing is allocated for a measurement.
//
//   serving_load TARGET MODEL --input FILE [--shape 1,256] [--expect FILE | --versions]
//                [--callers N | --rate PER_SECOND] [--calls N | --until-eof]
//
//   --callers  closed loop: each asks again when it was answered. --rate: open loop, at fixed times; a latency counts
//              from when its request was due, so that a stall is paid for by all that it holds up.
//   --input    the raw floats of one request after the other; caller (or call) i sends the i-th, over and over.
//   --expect   the raw floats of their answers, to 1e-4 of each.
//   --versions the answers are those of serving_models.py's Versioned: each number of output "marks" is the version
//              that the answer names, and "y" is what that version's weights make of the ones that were sent.
//
// Prints one line of JSON. A failed or wrong answer is counted there; the exit code is 0 all the same.
#include <grpcpp/create_channel.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "base/log.h"
#include "inference/grpc_service.grpc.pb.h"

namespace sconce {
namespace {

namespace oip = ::inference;

struct Options {
  std::string target, model;
  std::vector<std::string> inputs, expected;  // one after the other, raw
  std::vector<int64_t> shape;
  bool versions = false;
  int callers = 1;
  double rate = 0;
  int64_t calls = 0;  // 0: until the end of standard input
};

int64_t Nanos() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void SleepUntil(int64_t nanos) {
  const timespec until{nanos / 1'000'000'000, nanos % 1'000'000'000};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

std::vector<float> Floats(const std::string& raw) {
  std::vector<float> floats(raw.size() / sizeof(float));
  ::memcpy(floats.data(), raw.data(), floats.size() * sizeof(float));
  return floats;
}

bool Near(double value, double expected) {
  return std::abs(value - expected) <= 1e-4 * std::max(1.0, std::abs(expected));
}

// "" or what is wrong.
std::string Compare(const oip::ModelInferResponse& response, const std::string& expected) {
  if (response.outputs_size() != 1) return "not one output";
  const auto& typed = response.outputs(0).contents().fp32_contents();  // some servers answer in kind only
  std::vector<float> got(typed.begin(), typed.end());
  if (response.raw_output_contents_size() == 1) got = Floats(response.raw_output_contents(0));
  const std::vector<float> wanted = Floats(expected);
  if (got.size() != wanted.size()) return absl::StrCat(got.size(), " numbers, not ", wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (!Near(got[i], wanted[i])) return absl::StrCat("number ", i, " is ", got[i], ", not ", wanted[i]);
  }
  return "";
}

std::string CheckVersion(const oip::ModelInferResponse& response, int64_t version) {
  std::vector<float> y, marks;
  for (int i = 0; i < response.outputs_size() && i < response.raw_output_contents_size(); ++i) {
    (response.outputs(i).name() == "y" ? y : marks) = Floats(response.raw_output_contents(i));
  }
  if (y.empty() || marks.empty()) return "no y or no marks";
  for (const float mark : marks) {
    if (mark != static_cast<float>(version)) return absl::StrCat("a weight of version ", mark, " in one of ", version);
  }
  const double v = static_cast<double>(version);
  double expected = 1;
  for (int layer = 0; layer < 3; ++layer) expected = expected * v + v;
  for (const float value : y) {
    if (!Near(value, expected)) return absl::StrCat("version ", version, " answers ", value, ", not ", expected);
  }
  return "";
}

struct Call {
  size_t input = 0;
  int64_t since = 0;
  std::unique_ptr<grpc::ClientContext> context;
  oip::ModelInferResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<oip::ModelInferResponse>> reader;
};

class Load {
 public:
  explicit Load(const Options& options) : options_(options) {
    for (const std::string& input : options.inputs) {
      oip::ModelInferRequest& request = requests_.emplace_back();
      request.set_model_name(options.model);
      auto& tensor = *request.add_inputs();
      tensor.set_name("x");
      tensor.set_datatype("FP32");
      for (const int64_t extent : options.shape) tensor.add_shape(extent);
      request.add_raw_input_contents(input);
    }
    // A connection for every 16 callers, as so many processes would have several.
    const int channels = options.rate > 0 ? 2 : (options.callers + 15) / 16;
    for (int i = 0; i < channels; ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt("grpc.use_local_subchannel_pool", 1);
      const auto channel = grpc::CreateCustomChannel(options.target, grpc::InsecureChannelCredentials(), arguments);
      SCONCE_CHECK(channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(20)));
      stubs_.push_back(oip::GRPCInferenceService::NewStub(channel));
    }
    latencies_.reserve(size_t{1} << 20);
  }

  void Run() {
    std::thread until_eof;
    if (options_.calls == 0) until_eof = std::thread([this] { AwaitEof(); });
    const int64_t start = Nanos();
    if (options_.rate > 0) {
      std::thread taker([this] { Take(); });
      Dispatch(start);
      taker.join();
    } else {
      for (int i = 0; i < options_.callers; ++i) Begin(new Call, Nanos());
      Take();
    }
    seconds_ = static_cast<double>(Nanos() - start) / 1e9;
    if (until_eof.joinable()) until_eof.join();
  }

  void Print() {
    std::sort(latencies_.begin(), latencies_.end());
    const auto at = [&](double share) {
      if (latencies_.empty()) return 0.0;
      return static_cast<double>(latencies_[static_cast<size_t>(share * static_cast<double>(latencies_.size() - 1))]) /
             1e3;
    };
    ::printf(
        "{\"calls\": %zu, \"failed\": %ld, \"wrong\": %ld, \"problem\": %s, \"seconds\": %.3f, \"versions\": %zu, "
        "\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}\n",
        latencies_.size(), failed_, wrong_, JsonString(problem_).c_str(), seconds_, versions_.size(), at(0.5), at(0.9),
        at(0.99), at(0.999), at(1));
    ::fflush(stdout);
  }

 private:
  void AwaitEof() {
    char byte;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {
    }
    over_ = true;
  }

  // False when no call is to begin any more.
  bool Begin(Call* call, int64_t since) {
    const int64_t number = begun_.fetch_add(1);
    if (over_ || (options_.calls > 0 && number >= options_.calls)) {
      delete call;
      if (number_open_.load() == 0 && options_.rate <= 0) queue_.Shutdown();
      return false;
    }
    ++number_open_;
    const auto index = static_cast<size_t>(number);
    call->input = index % requests_.size();
    call->since = since;
    call->context = std::make_unique<grpc::ClientContext>();
    call->context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    call->response.Clear();
    call->reader = stubs_[index % stubs_.size()]->AsyncModelInfer(call->context.get(), requests_[call->input], &queue_);
    call->reader->Finish(&call->response, &call->status, call);
    return true;
  }

  void Dispatch(int64_t start) {
    for (int64_t i = 0;; ++i) {
      const int64_t due = start + static_cast<int64_t>(static_cast<double>(i) * 1e9 / options_.rate);
      SleepUntil(due);
      if (!Begin(new Call, due)) break;
    }
    while (number_open_.load() > 0) SleepUntil(Nanos() + 1'000'000);
    queue_.Shutdown();
  }

  void Take() {
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
      auto* call = static_cast<Call*>(tag);
      latencies_.push_back(Nanos() - call->since);
      Judge(*call);
      --number_open_;
      if (options_.rate > 0) {
        delete call;
      } else {
        Begin(call, Nanos());
      }
    }
  }

  void Judge(const Call& call) {
    if (!call.status.ok()) {
      ++failed_;
      if (problem_.empty()) {
        problem_ = absl::StrCat("code ", static_cast<int>(call.status.error_code()), ": ", call.status.error_message());
      }
      return;
    }
    std::string wrong;
    if (options_.versions) {
      int64_t version = 0;
      SCONCE_CHECK(absl::SimpleAtoi(call.response.model_version(), &version));
      versions_.insert(version);
      wrong = CheckVersion(call.response, version);
    } else if (!options_.expected.empty()) {
      wrong = Compare(call.response, options_.expected[call.input]);
    }
    if (wrong.empty()) return;
    ++wrong_;
    if (problem_.empty()) problem_ = wrong;
  }

  const Options options_;
  std::vector<oip::ModelInferRequest> requests_;
  std::vector<std::unique_ptr<oip::GRPCInferenceService::Stub>> stubs_;
  grpc::CompletionQueue queue_;
  std::atomic<bool> over_{false};
  std::atomic<int64_t> begun_{0}, number_open_{0};
  // Of the thread that takes answers.
  std::vector<int64_t> latencies_;  // nanoseconds
  std::set<int64_t> versions_;
  int64_t failed_ = 0, wrong_ = 0;
  std::string problem_;
  double seconds_ = 0;
};

std::vector<std::string> ReadPieces(const std::string& path, size_t count) {
  std::ifstream file(path, std::ios::binary);
  SCONCE_CHECK(file.good());
  const std::string all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  SCONCE_CHECK(count > 0 && !all.empty() && all.size() % count == 0);
  std::vector<std::string> pieces;
  for (size_t i = 0; i < count; ++i) pieces.push_back(all.substr(i * (all.size() / count), all.size() / count));
  return pieces;
}

int Main(const std::vector<std::string>& words) {
  if (words.size() < 2) {
    ::fputs("serving_load TARGET MODEL --input FILE ...: started by serving_bench.py\n", stderr);
    return 2;
  }
  Options options;
  options.target = words[0];
  options.model = words[1];
  std::string input, expect, shape = "1,256";
  for (size_t i = 2; i < words.size(); ++i) {
    const std::string& word = words[i];
    const auto value = [&] {
      SCONCE_CHECK(i + 1 < words.size());
      return words[++i];
    };
    if (word == "--input")
      input = value();
    else if (word == "--expect")
      expect = value();
    else if (word == "--shape")
      shape = value();
    else if (word == "--versions")
      options.versions = true;
    else if (word == "--until-eof")
      options.calls = 0;
    else if (word == "--callers")
      SCONCE_CHECK(absl::SimpleAtoi(value(), &options.callers));
    else if (word == "--rate")
      SCONCE_CHECK(absl::SimpleAtod(value(), &options.rate));
    else if (word == "--calls")
      SCONCE_CHECK(absl::SimpleAtoi(value(), &options.calls));
    else
      SCONCE_CHECK(false);
  }
  int64_t elements = 1;
  for (const absl::string_view extent : absl::StrSplit(shape, ',')) {
    int64_t number = 0;
    SCONCE_CHECK(absl::SimpleAtoi(extent, &number) && number > 0);
    options.shape.push_back(number);
    elements *= number;
  }
  std::ifstream sized(input, std::ios::binary | std::ios::ate);
  SCONCE_CHECK(sized.good());
  const size_t count = static_cast<size_t>(sized.tellg()) / (static_cast<size_t>(elements) * sizeof(float));
  options.inputs = ReadPieces(input, count);
  if (!expect.empty()) options.expected = ReadPieces(expect, count);
  Load load(options);
  load.Run();
  load.Print();
  return 0;
}

}  // namespace
}  // namespace sconce

int main(int argc, char** argv) {
  return sconce::Main(std::vector<std::string>(argv + 1, argv + argc));
}
