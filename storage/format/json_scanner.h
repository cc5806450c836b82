#ifndef SCONCE_STORAGE_FORMAT_JSON_SCANNER_H_
#define SCONCE_STORAGE_FORMAT_JSON_SCANNER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sconce::format {

// Takes JSON (RFC 8259) apart token by token, for a reader that knows what must come next: so nothing recurses, and
// what is not expected is an error. Borrows the text. Errors are FILE_MALFORMED with the byte.
class JsonScanner {
 public:
  explicit JsonScanner(absl::string_view text) : text_(text) {}

  // Takes `c` (one of {}[]:,) if it comes next, after white space.
  bool Take(char c);
  absl::Status Expect(char c);
  // Takes `word` ("null") if it comes next.
  bool TakeWord(absl::string_view word);
  // A string, its escapes resolved. Escapes of surrogates must form pairs; the text must be UTF-8.
  absl::StatusOr<std::string> String();
  // A number that is an integer from 0 to INT64_MAX, without fraction or exponent.
  absl::StatusOr<int64_t> Integer();
  // Nothing but white space is left.
  bool AtEnd();

  absl::Status Malformed(absl::string_view what) const;

 private:
  void SkipSpace();
  absl::StatusOr<uint32_t> Hex4();
  absl::Status Escape(std::string& out);

  const absl::string_view text_;
  size_t at_ = 0;
};

// Appends `text` as a JSON string, escaped as little as can be. Requires UTF-8 without surrogates.
void AppendJsonString(absl::string_view text, std::string& out);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_JSON_SCANNER_H_
