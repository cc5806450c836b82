#include "client/cli/progress.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/strings.h"

namespace sconce::cli {

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)),
      enabled_(::isatty(STDERR_FILENO) == 1 && std::getenv("SCONCE_DISABLE_PROGRESS_BARS") == nullptr),
      start_(absl::Now()),
      last_(start_) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

client::Progress ProgressBar::AsCallback() {
  if (!enabled_) return nullptr;
  return [this](int64_t done, int64_t total) { Update(done, total); };
}

void ProgressBar::Update(int64_t done, int64_t total) {
  const absl::Time now = absl::Now();
  if (now - start_ < absl::Seconds(1) || now - last_ < absl::Milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  std::fprintf(stderr, "\r%s\x1b[K", RenderProgress(what_, done, total, now - start_).c_str());
  std::fflush(stderr);
}

std::string RenderProgress(const std::string& what, int64_t done, int64_t total, absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string line = what;
  if (total > 0) {
    constexpr int kWidth = 20;
    const double share = static_cast<double>(done) / static_cast<double>(total);
    const int filled = static_cast<int>(share * kWidth);
    absl::StrAppendFormat(&line, "  %3d%% [%s%s]  %s of %s", static_cast<int>(share * 100),
                          std::string(static_cast<size_t>(filled), '#'),
                          std::string(static_cast<size_t>(kWidth - filled), ' '), HumanBytes(done), HumanBytes(total));
  } else {
    absl::StrAppend(&line, "  ", HumanBytes(done));
  }
  absl::StrAppend(&line, "  ", HumanBytes(static_cast<int64_t>(rate)), "/s");
  if (total > done && rate > 0) {
    const auto left = static_cast<int64_t>(static_cast<double>(total - done) / rate);
    absl::StrAppendFormat(&line, "  %d:%02d left", left / 60, left % 60);
  }
  return line;
}

}  // namespace sconce::cli
