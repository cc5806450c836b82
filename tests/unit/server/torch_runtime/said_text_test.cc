#include "server/torch_runtime/said_text.h"

#include <gtest/gtest.h>

#include <iostream>
#include <string>

namespace sconce::torch_runtime {
namespace {

TEST(SaidTextTest, TakesWhatIsWrittenToStandardErrorOnceAndNotAllOfIt) {
  std::streambuf* const before = std::cerr.rdbuf();
  {
    SaidText said;
    std::cerr << "Error: " << 7 << std::endl;
    EXPECT_EQ(said.Take(), "Error: 7\n");
    EXPECT_EQ(said.Take(), "");
    for (int i = 0; i < 1000; ++i) std::cerr << std::string(1000, 'x');
    EXPECT_EQ(said.Take().size(), size_t{16} << 10);
  }
  EXPECT_EQ(std::cerr.rdbuf(), before);
}

TEST(SaidTextTest, TheCauseIsWhatLibTorchSaidThenWhatTheModuleSaidThenWhatWasThrown) {
  EXPECT_EQ(
      CauseOf("[E1130 shim.cpp:478] Exception in aoti_torch: shapes differ\nframe #0\nError: run failed", "thrown"),
      "shapes differ");
  EXPECT_EQ(CauseOf("[WARNING] slow\nError: no such input\n", "thrown"), "no such input");
  EXPECT_EQ(CauseOf("", "thrown\nat line 3"), "thrown");
}

}  // namespace
}  // namespace sconce::torch_runtime
