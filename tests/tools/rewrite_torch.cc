// Reads a checkpoint file and writes what it holds as a new one, for PyTorch to judge:
//
//   rewrite_torch INPUT OUTPUT
//   rewrite_torch --batch        for each line "INPUT<tab>OUTPUT" of the standard input; answers a line "INPUT<tab>ok"
//   or
//                                "INPUT<tab>refused<tab>why" each
#include <fstream>
#include <iostream>

#include "absl/strings/str_replace.h"
#include "base/file_system.h"
#include "base/strings.h"
#include "storage/format/open_checkpoint.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

absl::Status Rewrite(const std::string& input, const std::string& output) {
  SCONCE_ASSIGN_OR_RETURN(const auto file, PosixFileSystem().OpenRead(input));
  SCONCE_ASSIGN_OR_RETURN(const ByteSpan mapping, file->Map());
  SCONCE_ASSIGN_OR_RETURN(const TorchFile torch, ReadCheckpointFile(mapping));
  FileBytes bytes(torch.bytes);
  SCONCE_ASSIGN_OR_RETURN(const std::string written, WriteTorchFile(torch.manifest, bytes, 12345));
  std::ofstream out(output, std::ios::binary);
  out << written;
  out.close();
  return out ? absl::OkStatus() : absl::UnknownError("cannot write " + output);
}

void RewriteBatch() {
  for (std::string line; std::getline(std::cin, line);) {
    const size_t tab = line.find('\t');
    const absl::Status status = Rewrite(line.substr(0, tab), line.substr(tab + 1));
    std::cout << line.substr(0, tab) << (status.ok() ? "\tok" : "\trefused\t")
              << absl::StrReplaceAll(status.message(), {{"\n", " "}}) << std::endl;
  }
}

}  // namespace
}  // namespace sconce::format

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--batch") {
    sconce::format::RewriteBatch();
    return 0;
  }
  if (argc != 3) {
    std::cerr << "usage: rewrite_torch INPUT OUTPUT | --batch\n";
    return 2;
  }
  const absl::Status status = sconce::format::Rewrite(argv[1], argv[2]);
  if (!status.ok()) std::cerr << argv[1] << ": " << sconce::ToStd(status.message()) << "\n";
  return status.ok() ? 0 : 1;
}
