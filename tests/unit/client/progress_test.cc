#include "client/cli/progress.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <string>

#include "absl/time/clock.h"

namespace sconce::cli {
namespace {

TEST(ProgressTest, ABarSaysHowFarHowFastAndHowLong) {
  EXPECT_EQ(RenderProgress("a.pt", 25 << 20, 100 << 20, absl::Seconds(1)),
            "a.pt   25% [#####               ]  25.0 MiB of 100.0 MiB  25.0 MiB/s  0:03 left");
  EXPECT_EQ(RenderProgress("a.pt", 100 << 20, 100 << 20, absl::Seconds(4)),
            "a.pt  100% [####################]  100.0 MiB of 100.0 MiB  25.0 MiB/s");
  EXPECT_EQ(RenderProgress("a.pt", 1 << 20, 0, absl::Seconds(1)), "a.pt  1.0 MiB  1.0 MiB/s");
  EXPECT_EQ(RenderProgress("a.pt", 0, 1 << 20, absl::ZeroDuration()),
            "a.pt    0% [                    ]  0 B of 1.0 MiB  0 B/s");
}

// Runs `transfer` with standard error on `fd`.
void WithStandardError(int fd, void (*transfer)()) {
  const int saved = ::dup(STDERR_FILENO);
  ::dup2(fd, STDERR_FILENO);
  transfer();
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
}

// What was written to a pseudo-terminal, whose terminal side is closed by now. One read may give less than all of it.
std::string ReadToEnd(int controller) {
  std::string shown;
  char piece[4096];
  for (ssize_t got = 0; (got = ::read(controller, piece, sizeof(piece))) > 0;)
    shown.append(piece, static_cast<size_t>(got));
  return shown;
}

TEST(ProgressTest, OnATerminalATransferOverASecondShowsABarAndWipesIt) {
  int controller = -1, terminal = -1;
  ASSERT_EQ(::openpty(&controller, &terminal, nullptr, nullptr, nullptr), 0);
  WithStandardError(terminal, [] {
    ProgressBar bar("a.pt");
    const client::Progress progress = bar.AsCallback();
    ASSERT_TRUE(progress);
    progress(1, 100);  // within the first second: nothing
    for (const absl::Time start = absl::Now(); absl::Now() - start < absl::Milliseconds(1100);) progress(50, 100);
  });
  ::close(terminal);
  const std::string shown = ReadToEnd(controller);
  EXPECT_NE(shown.find("a.pt   50%"), std::string::npos) << shown;
  EXPECT_EQ(shown.find("  1%"), std::string::npos) << shown;
  EXPECT_EQ(shown.substr(shown.size() - 4), "\r\x1b[K");
  ::close(controller);
}

TEST(ProgressTest, WithoutATerminalThereIsNone) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  WithStandardError(ends[1], [] { EXPECT_FALSE(ProgressBar("a.pt").AsCallback()); });
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace sconce::cli
