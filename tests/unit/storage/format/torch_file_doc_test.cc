// Holds the allow-list of docs/formats/torch_file.md against the code's.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "storage/format/pickle_globals.h"

namespace sconce::format {
namespace {

// The names of the page's one ```globals block: lines of "module: name name ...".
std::vector<std::string> DocumentedGlobals() {
  const char* source = std::getenv("SCONCE_SOURCE_DIR");
  std::ifstream page(std::string(source != nullptr ? source : ".") + "/docs/formats/torch_file.md");
  EXPECT_TRUE(page.good());
  std::vector<std::string> names;
  std::string line;
  bool inside = false;
  while (std::getline(page, line)) {
    if (line.rfind("```", 0) == 0) {
      inside = line == "```globals";
    } else if (inside) {
      std::istringstream words(line.substr(line.find(':') + 1));
      for (std::string word; words >> word;) names.push_back(line.substr(0, line.find(':')) + " " + word);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(TorchFileDocTest, AllowListIsTheCodes) {
  const std::vector<std::string> documented = DocumentedGlobals();
  EXPECT_GT(documented.size(), 100u);
  EXPECT_THAT(documented, ::testing::ElementsAreArray(AllPickleGlobals()));
}

// The list of PyTorch 2.14 itself.
TEST(TorchFileDocTest, EverythingThatWeightsOnlyAllowsIsOnTheList) {
  const char* source = std::getenv("SCONCE_SOURCE_DIR");
  std::ifstream list(std::string(source != nullptr ? source : ".") + "/tests/data/weights_only_globals.txt");
  size_t names = 0;
  for (std::string name; std::getline(list, name);) {
    if (name.empty() || name[0] == '#' || name == "imported") continue;
    ++names;
    const size_t dot = name.rfind('.');
    const std::optional<PickleGlobal> global = FindPickleGlobal(name.substr(0, dot), name.substr(dot + 1));
    ASSERT_TRUE(global.has_value()) << name;
    EXPECT_EQ(PickleGlobalName(*global), name);
    EXPECT_TRUE(FindGlobalByName(name).has_value()) << name;
    EXPECT_EQ(IsGlobalNode(name), global->tag != PickleTag::kDtype && global->tag != PickleTag::kQScheme) << name;
  }
  EXPECT_GE(names, 220u);
}

TEST(AllPickleGlobalsTest, EachIsFound) {
  for (const std::string& name : AllPickleGlobals()) {
    const size_t space = name.find(' ');
    EXPECT_TRUE(FindPickleGlobal(name.substr(0, space), name.substr(space + 1)).has_value()) << name;
  }
}

}  // namespace
}  // namespace sconce::format
