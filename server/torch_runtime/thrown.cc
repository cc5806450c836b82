#include "server/torch_runtime/thrown.h"

#include <new>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace sconce::torch_runtime {
namespace {

// "RuntimeError: ..." or "builtins.ValueError: ...": where the message begins, else npos.
size_t MessageBehindExceptionName(absl::string_view line) {
  const size_t colon = line.find(": ");
  if (colon == absl::string_view::npos || colon == 0) return absl::string_view::npos;
  const absl::string_view name = line.substr(0, colon);
  for (const char c : name) {
    const bool in_name =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    if (!in_name) return absl::string_view::npos;
  }
  return absl::EndsWith(name, "Error") || absl::EndsWith(name, "Exception") ? colon + 2 : absl::string_view::npos;
}

// Of std::bad_alloc, and of torch's allocators in their several ways.
bool SaysThatMemoryRanOut(absl::string_view text) {
  return absl::StrContains(text, "can't allocate memory") || absl::StrContains(text, "not enough memory") ||
         absl::StrContains(text, "std::bad_alloc");
}

}  // namespace

std::string EssentialLine(absl::string_view text) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  if (absl::StrContains(lines[0], "TorchScript interpreter")) {
    for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
      const size_t begin = MessageBehindExceptionName(*line);
      if (begin != absl::string_view::npos) return std::string(line->substr(begin));
    }
  }
  for (const absl::string_view line : lines) {
    const absl::string_view shown = absl::StripAsciiWhitespace(line);
    if (!shown.empty()) return std::string(shown);
  }
  return "an exception without a message";
}

absl::Status ErrorSaying(Reason reason, absl::string_view context, absl::string_view line, absl::string_view all) {
  const std::string detail(all.data(), all.size());
  if (SaysThatMemoryRanOut(all)) {
    return MakeError(Reason::WORKER_MEMORY_EXCEEDED,
                     absl::StrCat(context,
                                  "the module wants more memory than a worker may have; send a smaller batch, "
                                  "or give workers more (--worker-memory-limit): ",
                                  line),
                     {{"detail", detail}});
  }
  return MakeError(reason, absl::StrCat(context, line), {{"detail", detail}});
}

absl::Status ThrownError(Reason reason, absl::string_view context, const std::exception& error) {
  const bool is_memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
  return ErrorSaying(reason, context, EssentialLine(error.what()), is_memory ? "std::bad_alloc" : error.what());
}

}  // namespace sconce::torch_runtime
