#ifndef SCONCE_STORAGE_FORMAT_PYTHON_TEXT_H_
#define SCONCE_STORAGE_FORMAT_PYTHON_TEXT_H_

#include <complex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// What Python makes of a str: bytes, by a codec, and complex numbers.
namespace sconce::format {

// text.encode(codec, errors), for the codecs that have no tables: ASCII, Latin-1, UTF-8, UTF-16 and UTF-32 with their
// variants, under any name that Python knows them by. `text` is UTF-8 with lone surrogates.
//
// FILE_MALFORMED for what Python does not encode either; FILE_UNSUPPORTED for another codec, and for the error handler
// that needs the names of characters. INPUT_LIMIT_EXCEEDED when the result is longer than `max_bytes`.
absl::StatusOr<std::string> EncodeText(absl::string_view text, absl::string_view codec, absl::string_view errors,
                                       size_t max_bytes);

// complex(text): "1+2j", " (1e5-nanj) ", "1_000". nullopt for what Python refuses, and for the digits and spaces that
// other scripts than Latin have.
std::optional<std::complex<double>> ParseComplex(absl::string_view text);

// The float of an int beyond 64 bits, little-endian two's complement, rounded to the nearest, ties to even; infinite
// when it is beyond all floats. Requires more than 8 bytes, as short as can be.
double LongToDouble(absl::string_view bytes);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PYTHON_TEXT_H_
