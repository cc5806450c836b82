#ifndef SCONCE_SERVER_TORCH_RUNTIME_THROWN_H_
#define SCONCE_SERVER_TORCH_RUNTIME_THROWN_H_

#include <string>

#include "absl/strings/string_view.h"

namespace sconce::torch_runtime {

// The line of an exception's text that says what is wrong. The TorchScript interpreter puts a traceback first and the
// message at its end, behind the name of a Python exception ("RuntimeError: mat1 and mat2 shapes ..."); other
// exceptions begin with the message.
std::string EssentialLine(absl::string_view text);

}  // namespace sconce::torch_runtime

#endif  // SCONCE_SERVER_TORCH_RUNTIME_THROWN_H_
