#ifndef SCONCE_CLIENT_CLI_UPLOAD_TARGET_H_
#define SCONCE_CLIENT_CLI_UPLOAD_TARGET_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/cli/args.h"
#include "sconce/v1/transfer_service.pb.h"

// Which upload a push goes into (client/cpp/client.h, BeginUpload).
namespace sconce::cli {

// One part of an upload.
struct UploadTarget {
  std::string upload_id;
  int part = 0;
  int expected_parts = 1;
  bool shared = false;  // named with --upload: other ranks bring other parts
};

// A file as it lies there, for telling whether it is still the same.
struct FileIdentity {
  std::string path;  // absolute, without symbolic links
  int64_t size_bytes = 0;
  int64_t modified_ns = 0;  // since 1970
};
// IO_ERROR, also for no such file.
absl::StatusOr<FileIdentity> IdentifyFile(const std::string& path);

// The id under which the same file is pushed with the same words, so that a command that was killed finds what it left
// when it is given again: "push-" and 32 hex digits of a hash of all that.
std::string UploadIdFor(const v1::PushHeader& header, const FileIdentity& file);

std::vector<Option> UploadOptions();
// What --part and --upload say, else an upload of UploadIdFor. ARGUMENT_INVALID for a --part that is not K/N with
// 0 <= K < N, or that comes without --upload, or the other way round.
absl::StatusOr<UploadTarget> UploadTargetFrom(const Args& args, const v1::PushHeader& header, const FileIdentity& file);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_UPLOAD_TARGET_H_
