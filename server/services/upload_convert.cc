#include "server/services/upload_convert.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "proto/wire/resource_name.h"
#include "server/services/convert.h"

namespace sconce::services {

absl::StatusOr<repository::UploadRef> UploadRefFromName(absl::string_view name) {
  SCONCE_ASSIGN_OR_RETURN(const wire::ChildRef ref, wire::ParseUpload(name));
  return repository::UploadRef{ToRunName(ref.run), ref.id};
}

v1::Upload ToProto(const repository::Upload& upload) {
  const repository::RunName& run = upload.ref.run;
  v1::Upload proto;
  proto.set_name(wire::FormatUpload(ToAbsl(run.project), ToAbsl(run.run), ToAbsl(upload.ref.upload)));
  proto.set_expected_parts(static_cast<int32_t>(upload.expected_parts));
  size_t room = kMaxChunkRanges;
  for (const repository::UploadPart& part : upload.parts) {
    v1::Upload::Part& added = *proto.add_parts();
    added.set_part(static_cast<int32_t>(part.part));
    added.set_manifest_complete(true);
    added.set_chunk_count(part.chunk_count);
    added.set_manifest_sha256(part.manifest_digest.Hex());
    AddRanges(part.durable, room, *added.mutable_durable_chunks());
    room -= std::min(room, part.durable.size());
  }
  *proto.mutable_expire_time() = TimeToProto(upload.expire_time);
  if (upload.version > 0) {
    proto.set_checkpoint(wire::FormatCheckpoint(ToAbsl(run.project), ToAbsl(run.run), absl::StrCat(upload.version)));
  }
  return proto;
}

void AddRanges(const std::vector<repository::ChunkRange>& ranges, size_t limit,
               google::protobuf::RepeatedPtrField<v1::ChunkRange>& out) {
  for (size_t i = 0; i < std::min(limit, ranges.size()); ++i) {
    v1::ChunkRange& range = *out.Add();
    range.set_first(ranges[i].first);
    range.set_last(ranges[i].last);
  }
}

}  // namespace sconce::services
