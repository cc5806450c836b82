#include "storage/repository/change_notifier.h"

#include <gtest/gtest.h>

#include <vector>

#include "absl/synchronization/notification.h"

namespace sconce::repository {
namespace {

TEST(ChangeNotifierTest, ChangesThatWaitBecomeOneCall) {
  ChangeNotifier notifier;
  absl::Notification entered, release, second;
  std::vector<RunName> calls;
  notifier.Start([&](const RunName& run) {
    calls.push_back(run);
    if (calls.size() == 1) {
      entered.Notify();
      release.WaitForNotification();
    } else {
      second.Notify();
    }
  });
  notifier.Notify({"p", "first"});
  entered.WaitForNotification();
  for (int i = 0; i < 5; ++i) notifier.Notify({"p", "second"});
  release.Notify();
  second.WaitForNotification();
  notifier.Stop();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0], (RunName{"p", "first"}));
  EXPECT_EQ(calls[1], (RunName{"p", "second"}));
}

TEST(ChangeNotifierTest, WithoutAListenerNothingHappens) {
  ChangeNotifier notifier;
  notifier.Notify({"p", "r"});
  notifier.Stop();
}

TEST(ChangeNotifierTest, AfterStopNobodyIsCalled) {
  ChangeNotifier notifier;
  int calls = 0;
  notifier.Start([&](const RunName&) { ++calls; });
  notifier.Stop();
  notifier.Notify({"p", "r"});
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace sconce::repository
