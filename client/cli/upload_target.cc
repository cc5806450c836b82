#include "client/cli/upload_target.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"

namespace sconce::cli {
namespace {

constexpr int kMaxParts = 10'000;  // the server's limit too

// The same for equal messages, also where they hold maps.
std::string Canonical(const google::protobuf::MessageLite& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializePartialToCodedStream(&coded);
  }
  return bytes;
}

absl::StatusOr<std::pair<int, int>> ParsePart(const std::string& text) {
  const std::vector<std::string> words = absl::StrSplit(text, '/');
  int part = 0, parts = 0;
  if (words.size() == 2 && absl::SimpleAtoi(words[0], &part) && absl::SimpleAtoi(words[1], &parts) && part >= 0 &&
      part < parts && parts <= kMaxParts) {
    return std::pair(part, parts);
  }
  return MakeError(
      Reason::ARGUMENT_INVALID,
      absl::StrCat("--part takes K/N, the part's number from 0 and how many there are, as 0/4 to 3/4, not ",
                   Quoted(text)));
}

}  // namespace

absl::StatusOr<FileIdentity> IdentifyFile(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  struct stat status {};
  if (real == nullptr || ::stat(real.get(), &status) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  }
  return FileIdentity{real.get(), status.st_size,
                      int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

std::string UploadIdFor(const v1::PushHeader& header, const FileIdentity& file) {
  const std::string words = Canonical(header);
  const std::string all =
      absl::StrCat(words.size(), "/", words, file.path.size(), "/", file.path, file.size_bytes, "/", file.modified_ns);
  return absl::StrCat("push-", Sha256(AsBytes(ToAbsl(all))).Hex().substr(0, 32));
}

std::vector<Option> UploadOptions() {
  return {
      {"part", 0, "K/N", "the file is part K (from 0) of the N parts of one checkpoint, as ranks of a job have them"},
      {"upload", 0, "ID", "the upload that the parts share, the same for all ranks"}};
}

absl::StatusOr<UploadTarget> UploadTargetFrom(const Args& args, const v1::PushHeader& header,
                                              const FileIdentity& file) {
  if (args.Has("part") != args.Has("upload")) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     "--part and --upload go together: all ranks give the same --upload, each its own --part");
  }
  UploadTarget target;
  if (!args.Has("part")) {
    target.upload_id = UploadIdFor(header, file);
    return target;
  }
  SCONCE_ASSIGN_OR_RETURN(std::tie(target.part, target.expected_parts), ParsePart(args.Get("part")));
  target.upload_id = args.Get("upload");
  target.shared = true;
  SCONCE_RETURN_IF_ERROR(wire::CheckId("upload", target.upload_id));
  return target;
}

}  // namespace sconce::cli
