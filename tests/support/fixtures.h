#ifndef SCONCE_TESTS_SUPPORT_FIXTURES_H_
#define SCONCE_TESTS_SUPPORT_FIXTURES_H_

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace sconce {

// The folder of files by real PyTorch releases that developers and CI have beside the checkout, or "" on a user's
// clone: a test that needs it then says so with GTEST_SKIP. SCONCE_SHARED_DIR overrides the place.
inline std::string SharedFixtures() {
  const char* shared = ::getenv("SCONCE_SHARED_DIR");
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  for (const std::string& candidate :
       {std::string(shared != nullptr ? shared : ""), std::string(source != nullptr ? source : ".") + "/../shared"}) {
    const std::string fixtures = candidate + "/fixtures";
    if (!candidate.empty() && std::filesystem::is_directory(fixtures)) return fixtures;
  }
  return "";
}

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_FIXTURES_H_
