#include "proto/wire/page_token.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/strings.h"
#include "proto/wire/limits.h"

// A token is base64url, without padding, of
//   version (1 byte, 1) | request hash (8 bytes) | start (any bytes) | checksum of all before (4 bytes)
// where both hashes are the first bytes of an XXH3-128. It is no secret and no signature: whoever makes one up can ask
// for nothing that a request without it could not.
namespace sconce::wire {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr char kVersion = 1;
constexpr size_t kHashBytes = 8;
constexpr size_t kChecksumBytes = 4;

const FieldDescriptor* Field(const Message& request, const char* name) {
  const FieldDescriptor* field = request.GetDescriptor()->FindFieldByName(name);
  SCONCE_CHECK(field != nullptr);
  return field;
}

std::string HashOf(absl::string_view bytes, size_t size) {
  return std::string(Xxh3(AsBytes(bytes)).AsKey().substr(0, size));
}

// The type and all fields but the paging ones; map entries in a fixed order.
std::string RequestHash(const Message& request) {
  const std::unique_ptr<Message> rest(request.New());
  rest->CopyFrom(request);
  rest->GetReflection()->ClearField(rest.get(), Field(*rest, "page_token"));
  rest->GetReflection()->ClearField(rest.get(), Field(*rest, "page_size"));
  std::string bytes = request.GetDescriptor()->full_name() + '\0';
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    rest->SerializeToCodedStream(&coded);
  }
  return HashOf(bytes, kHashBytes);
}

}  // namespace

std::string EncodePageToken(const Message& request, absl::string_view start) {
  if (start.empty()) return "";
  std::string token = absl::StrCat(std::string(1, kVersion), RequestHash(request), start);
  token += HashOf(token, kChecksumBytes);
  return absl::WebSafeBase64Escape(token);
}

absl::StatusOr<std::string> DecodePageToken(const Message& request) {
  const std::string text = request.GetReflection()->GetString(request, Field(request, "page_token"));
  if (text.empty()) return std::string();
  const auto invalid = [](absl::string_view why) {
    return MakeError(
        Reason::PAGE_TOKEN_INVALID,
        absl::StrCat("page_token ", why, "; pass back next_page_token unchanged, or start again without one"));
  };
  std::string token;
  if (!absl::WebSafeBase64Unescape(text, &token) || token.size() <= 1 + kHashBytes + kChecksumBytes ||
      token[0] != kVersion) {
    return invalid("is not one of this server's");
  }
  const absl::string_view body = absl::string_view(token).substr(0, token.size() - kChecksumBytes);
  if (HashOf(body, kChecksumBytes) != token.substr(body.size())) return invalid("is damaged");
  if (body.substr(1, kHashBytes) != RequestHash(request)) {
    return invalid("belongs to another request: only page_size may change from page to page");
  }
  return std::string(body.substr(1 + kHashBytes));
}

absl::StatusOr<int64_t> PageSize(int32_t page_size) {
  if (page_size < 0) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("page_size is ", page_size, "; give a positive number, or 0 for ", kDefaultPageSize),
                     {{"field", "page_size"}});
  }
  if (page_size == 0) return kDefaultPageSize;
  return std::min(page_size, kMaxPageSize);
}

}  // namespace sconce::wire
