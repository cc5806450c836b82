#ifndef SCONCE_BASE_CHECK_H_
#define SCONCE_BASE_CHECK_H_

namespace sconce {
// Logs `what` with its place and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* what);
}  // namespace sconce

// An invariant of ours: false means a bug, and the process ends. Bad input and a bad environment are a Status instead.
#define SCONCE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::sconce::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // SCONCE_BASE_CHECK_H_
