#ifndef SCONCE_SERVER_TORCH_RUNTIME_THROWN_H_
#define SCONCE_SERVER_TORCH_RUNTIME_THROWN_H_

#include <exception>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/error.h"

namespace sconce::torch_runtime {

// The line of an exception's text that says what is wrong. The TorchScript interpreter puts a traceback first and the
// message at its end, behind the name of a Python exception ("RuntimeError: mat1 and mat2 shapes ..."); other
// exceptions begin with the message.
std::string EssentialLine(absl::string_view text);

// `reason` with the context and the line that says what is wrong; WORKER_MEMORY_EXCEEDED when `all` that was said is
// that memory ran out. Metadata "detail" is all of it.
absl::Status ErrorSaying(Reason reason, absl::string_view context, absl::string_view line, absl::string_view all);

// The same of an exception.
absl::Status ThrownError(Reason reason, absl::string_view context, const std::exception& error);

// Runs `work`, turning what torch throws into an error.
template <typename Work>
auto Guarded(Reason reason, absl::string_view context, Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::exception& error) {  // c10::Error is one
    return ThrownError(reason, context, error);
  } catch (...) {
    return MakeError(reason, absl::StrCat(context, "an exception of unknown type"));
  }
}

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_THROWN_H_
