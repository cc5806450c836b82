#ifndef SCONCE_SERVER_TORCH_RUNTIME_SAID_TEXT_H_
#define SCONCE_SERVER_TORCH_RUNTIME_SAID_TEXT_H_

#include <mutex>
#include <streambuf>
#include <string>

#include "absl/strings/string_view.h"

namespace sconce::torch_runtime {

// Takes what is written to std::cerr, for good: there a compiled module, and LibTorch on its behalf, say what is wrong,
// and only that something is in what they throw. Thread-safe.
class SaidText final : public std::streambuf {
 public:
  SaidText();
  ~SaidText() override;

  // What was written since the last call, up to some KiB of it.
  std::string Take();

 private:
  std::streamsize xsputn(const char* text, std::streamsize count) override;
  int_type overflow(int_type c) override;

  std::streambuf* const before_;
  std::mutex mu_;
  std::string text_;  // guarded by mu_
};

// The line of `said` that names the cause: the first that LibTorch or the module wrote of an exception, else `thrown`.
std::string CauseOf(absl::string_view said, absl::string_view thrown);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_SAID_TEXT_H_
