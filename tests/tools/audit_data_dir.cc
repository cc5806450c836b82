// Computes anew what a data directory should look like, and says where it does not:
//
//   audit_data_dir DIR [--leaks-allowed]
//
// One line for each finding on the standard output; ends with 1 when there are any, with 2 when it cannot tell. No
// process may have the directory open.
#include <iostream>

#include "base/log.h"
#include "tests/support/store_audit.h"

int main(int argc, char** argv) {
  const bool leaks_allowed = argc == 3 && std::string(argv[2]) == "--leaks-allowed";
  if (argc != 2 && !leaks_allowed) {
    std::cerr << "usage: audit_data_dir DIR [--leaks-allowed]\n";
    return 2;
  }
  const auto audit = sconce::AuditDataDir(argv[1]);
  if (!audit.ok()) {
    std::cerr << audit.status() << "\n";
    return 2;
  }
  for (const std::string& one : audit->contradictions) std::cout << "contradiction: " << one << "\n";
  for (const std::string& one : audit->leaks) std::cout << "leak: " << one << "\n";
  std::cerr << audit->versions << " versions, " << audit->references << " references, " << audit->chunks << " chunks, "
            << audit->blobs << " blobs\n";
  return audit->contradictions.empty() && (leaks_allowed || audit->leaks.empty()) ? 0 : 1;
}
