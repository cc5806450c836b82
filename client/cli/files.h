#ifndef SCONCE_CLIENT_CLI_FILES_H_
#define SCONCE_CLIENT_CLI_FILES_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "proto/wire/bulk_message.h"

namespace sconce::cli {

// A file to read, as mapped memory.
absl::StatusOr<wire::SharedBytes> MapFile(const std::string& path);

// A file being downloaded: under `PATH.part` until it is whole, then renamed. "-" is standard output. Destroyed without
// Commit, the partial file is removed.
class OutputFile {
 public:
  static absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path);
  ~OutputFile();
  absl::Status Append(ByteSpan bytes);
  absl::Status Commit();
  bool is_stdout() const { return path_ == "-"; }

 private:
  OutputFile(std::string path, UniqueFd fd);
  const std::string path_;
  UniqueFd fd_;
  bool committed_ = false;
};

// The last part of a path.
std::string BaseName(const std::string& path);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_FILES_H_
