#ifndef SCONCE_TESTS_SUPPORT_TEMP_DIR_H_
#define SCONCE_TESTS_SUPPORT_TEMP_DIR_H_

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace sconce {

// A fresh directory on a real disk (TMPDIR, else /tmp), removed with all in it at the end.
class TempDir {
 public:
  TempDir() {
    const char* base = ::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/sconce-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) ::abort();
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_TEMP_DIR_H_
