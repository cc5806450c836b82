#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "server/observability/metrics.h"
#include "server/observability/metrics_endpoint.h"
#include "server/observability/process_metrics.h"
#include "server/rpc_metrics.h"
#include "tests/support/status_matchers.h"

namespace sconce::observability {
namespace {

using ::testing::HasSubstr;

// What a GET of `path` answers.
std::string Get(int port, const std::string& path) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n");
  EXPECT_EQ(::write(fd.get(), request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t n; (n = ::read(fd.get(), buffer, sizeof buffer)) > 0;) answer.append(buffer, static_cast<size_t>(n));
  return answer;
}

TEST(MetricsTest, TheTextIsThatOfPrometheus) {
  Family family{"a_total", "How many.", Family::Type::kCounter, {}};
  family.Add({{"kind", "x\"y"}}, 3);
  EXPECT_EQ(ToText({family, Gauge("b", "Now.", 0.5)}),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total{kind=\"x\\\"y\"} 3\n"
            "# HELP b Now.\n# TYPE b gauge\nb 0.5\n");
}

TEST(MetricsEndpointTest, ServesWhatIsCollectedAtThatMoment) {
  int asked = 0;
  ASSERT_OK_AND_ASSIGN(const auto endpoint, MetricsEndpoint::Start("localhost:0", [&asked] {
                         return std::vector<Family>{Counter("asked_total", "Scrapes.", ++asked)};
                       }));
  EXPECT_THAT(Get(endpoint->port(), "/metrics"), HasSubstr("\nasked_total 1\n"));
  EXPECT_THAT(Get(endpoint->port(), "/metrics"), HasSubstr("\nasked_total 2\n"));
  EXPECT_THAT(Get(endpoint->port(), "/elsewhere"), HasSubstr(" 404 "));
  EXPECT_THAT(
      MetricsEndpoint::Start(absl::StrCat("127.0.0.1:", endpoint->port()), [] { return std::vector<Family>(); }),
      FailsWith(Reason::ADDRESS_UNAVAILABLE));
}

TEST(ProcessMetricsTest, TellOfThisProcess) {
  const std::string text = ToText(ProcessMetrics());
  for (const char* name : {"process_cpu_seconds_total ", "process_open_fds ", "process_resident_memory_bytes ",
                           "process_start_time_seconds ", "process_threads "}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("\n", name)));
  }
  for (const Family& family : ProcessMetrics()) {
    if (family.name == "process_resident_memory_bytes") {
      EXPECT_GT(family.samples[0].value, 1 << 20);
    } else if (family.name == "process_start_time_seconds") {
      EXPECT_GT(family.samples[0].value, 1.6e9);
    }
  }
}

TEST(RpcMetricsTest, CountsCallsByMethodAndCode) {
  RpcMetrics metrics;
  const rpc::CallSpec fetch = {"sconce.v1.TransferService", "FetchCheckpoint", rpc::CallKind::kServerStream};
  rpc::CallResult result;
  result.duration = absl::Milliseconds(20);
  result.messages_out = 5;
  result.bytes_out = 1000;
  for (int i = 0; i < 2; ++i) metrics.OnStart(fetch);
  metrics.OnDone(fetch, result);
  result.code = absl::StatusCode::kDataLoss;
  result.duration = absl::Hours(1);
  metrics.OnDone(fetch, result);
  const std::string text = ToText(metrics.Collect());
  const std::string labels =
      "grpc_method=\"FetchCheckpoint\",grpc_service=\"sconce.v1.TransferService\",grpc_type=\"server_stream\"";
  EXPECT_THAT(text, HasSubstr(absl::StrCat("grpc_server_started_total{", labels, "} 2\n")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("grpc_server_handled_total{", labels, ",grpc_code=\"DataLoss\"} 1\n")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("grpc_server_msg_sent_total{", labels, "} 10\n")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("grpc_server_handling_seconds_bucket{", labels, ",le=\"0.025\"} 1\n")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("grpc_server_handling_seconds_bucket{", labels, ",le=\"+Inf\"} 2\n")));
  EXPECT_THAT(text, HasSubstr("\nsconce_download_bytes_total 2000\n"));
}

}  // namespace
}  // namespace sconce::observability
