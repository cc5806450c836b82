#ifndef SCONCE_CLIENT_CPP_PART_UPLOAD_H_
#define SCONCE_CLIENT_CPP_PART_UPLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cpp/chunk_plan.h"
#include "client/cpp/client.h"
#include "client/cpp/raw_stream.h"
#include "proto/wire/bulk_message.h"
#include "storage/format/manifest.h"

namespace sconce::client {

// One part of an upload on its way to the server, over as many streams as it takes: each goes on where the last one
// broke. Not thread-safe; borrows manifest, source and progress.
//
// Memory: the manifest, and at most 64 MiB of chunks that wait for the server's verdict. Those of a file that is mapped
// and stored plainly stay where they are.
class PartUpload {
 public:
  // `upload`: its full name.
  PartUpload(std::string upload, int part, const format::Manifest& manifest, const PushSource& source,
             const Progress& progress);

  // The SHA-256 that Upload.Part.manifest_sha256 has when the server has this manifest.
  const std::string& manifest_sha256() const { return manifest_sha256_; }

  // One stream, from its start to its end. `send_manifest` false: the server has it. OK when all chunks are with the
  // server, durably; otherwise why the stream ended (UNAVAILABLE: try another), or what is wrong on this side, e.g.
  // FILE_MALFORMED for a record that is damaged.
  absl::Status Run(RawStream& stream, bool send_manifest);

  // Chunks known to be with the server: more of them is progress.
  int64_t settled_chunks() const { return plan_.settled_chunks(); }
  // Complete after Run returned OK.
  const UploadReport& report() const { return report_; }

 private:
  class Conversation;

  const std::string upload_;
  const int part_;
  const format::Manifest& manifest_;
  const PushSource& source_;
  const Progress& progress_;
  const wire::SharedBytes encoded_;
  const std::string manifest_sha256_;
  ChunkPlan plan_;
  std::vector<bool> sent_;  // by chunk: its bytes went over the wire from here
  UploadReport report_;
};

}  // namespace sconce::client

#endif  // SCONCE_CLIENT_CPP_PART_UPLOAD_H_
