#ifndef SCONCE_CLIENT_CLI_PROGRESS_H_
#define SCONCE_CLIENT_CLI_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "client/cpp/client.h"

namespace sconce::cli {

// A bar on standard error for a transfer that takes over a second; nothing when standard error is no terminal or
// SCONCE_DISABLE_PROGRESS_BARS is set. Erased when destroyed.
class ProgressBar {
 public:
  explicit ProgressBar(std::string what);
  ~ProgressBar();
  client::Progress AsCallback();

 private:
  void Update(int64_t done, int64_t total);

  const std::string what_;
  const bool enabled_;
  const absl::Time start_;
  absl::Time last_;
  bool drawn_ = false;
};

// "resnet50.pt   42% [########            ]  42.0 MiB of 100.0 MiB  84.1 MiB/s  0:01 left"
std::string RenderProgress(const std::string& what, int64_t done, int64_t total, absl::Duration elapsed);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_PROGRESS_H_
