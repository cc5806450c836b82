// Any pattern, replacement and key, with NULs in between: what comes out is not longer than what went in together, and
// the rules that were checked apply.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "storage/format/key_rules.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> parts = absl::StrSplit(input, absl::MaxSplits('\0', 2));
  parts.resize(3);
  const sconce::format::KeyRules rules{{}, "", {{parts[0], parts[1]}}};
  const bool sound = sconce::format::CheckKeyRules(rules).ok();
  const auto keys = sconce::format::ApplyKeyRules(rules, {parts[2]});
  if (keys.ok() && !sound) std::abort();
  if (keys.ok() && (*keys)[0].size() > parts[1].size() + parts[2].size()) std::abort();
  return 0;
}
