#ifndef SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_UPLOAD_FIXTURE_H_
#define SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_UPLOAD_FIXTURE_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/format/manifest_codec.h"
#include "storage/repository/upload.h"
#include "tests/unit/storage/repository/repository_fixture.h"

namespace sconce::repository {

// A part as a client has it: a dict of one tensor for each content, named `prefix` and a number.
struct ClientPart {
  ClientPart(const std::string& prefix, const std::vector<std::string>& contents) {
    format::ManifestBuilder b;
    format::ManifestBuilder::Items items;
    for (size_t i = 0; i < contents.size(); ++i) {
      const auto size = static_cast<int64_t>(contents[i].size());
      const bool bulk = size > format::kInlineStorageBytes;
      const auto storage = bulk ? b.Storage(size) : b.InlineStorage(contents[i]);
      items.emplace_back(b.Str(absl::StrCat(prefix, i)), b.Tensor(storage, format::DType::kUInt8, {size}));
      if (!bulk) continue;
      for (size_t at = 0; at < contents[i].size(); at += format::kChunkBytes) {
        chunks.push_back(contents[i].substr(at, format::kChunkBytes));
      }
    }
    b.Dict(items);
    manifest = format::EncodeManifest(b.Build());
  }

  ChunkProposal Proposal(int64_t chunk) const {
    const std::string& bytes = chunks[static_cast<size_t>(chunk)];
    return {chunk, static_cast<int64_t>(bytes.size()), Xxh3(AsBytes(bytes))};
  }
  ChunkProof Proof(int64_t chunk) const { return {chunk, Sha256(AsBytes(chunks[static_cast<size_t>(chunk)]))}; }

  std::string manifest;
  std::vector<std::string> chunks;
};

inline std::vector<int64_t> Numbers(const std::vector<ChunkRange>& ranges) {
  std::vector<int64_t> numbers;
  for (const ChunkRange& range : ranges) {
    for (int64_t n = range.first; n <= range.last; ++n) numbers.push_back(n);
  }
  return numbers;
}

// What a client moved.
struct Moved {
  int64_t resumed = 0;  // chunks that were durable already
  int64_t skipped = 0;  // HAVE
  int64_t sent = 0;
};

// Brings all of a part over one stream, as a good client does.
inline absl::StatusOr<Moved> SendPart(Repository& repository, const UploadRef& ref, int64_t part,
                                      const ClientPart& client, bool with_manifest = true) {
  auto stream = repository.BeginPart(ref, part, with_manifest ? AsBytes(client.manifest) : ByteSpan(), nullptr);
  if (!stream.ok()) return stream.status();
  Moved moved;
  std::vector<bool> durable(client.chunks.size());
  for (const int64_t n : Numbers((*stream)->durable())) durable[static_cast<size_t>(n)] = true;
  std::vector<ChunkProposal> proposals;
  for (size_t n = 0; n < durable.size(); ++n) {
    if (durable[n]) {
      ++moved.resumed;
    } else {
      proposals.push_back(client.Proposal(static_cast<int64_t>(n)));
    }
  }
  const auto verdicts = (*stream)->Propose(proposals);
  if (!verdicts.ok()) return verdicts.status();
  std::vector<ChunkProof> proofs;
  std::vector<int64_t> to_send;
  for (size_t i = 0; i < proposals.size(); ++i) {
    if ((*verdicts)[i] == ChunkVerdict::kProve) {
      proofs.push_back(client.Proof(proposals[i].chunk));
    } else if ((*verdicts)[i] == ChunkVerdict::kSend) {
      to_send.push_back(proposals[i].chunk);
    }
  }
  const auto proved = (*stream)->Prove(proofs);
  if (!proved.ok()) return proved.status();
  for (size_t i = 0; i < proofs.size(); ++i) {
    if ((*proved)[i] == ChunkVerdict::kHave) {
      ++moved.skipped;
    } else {
      to_send.push_back(proofs[i].chunk);
    }
  }
  std::sort(to_send.begin(), to_send.end());
  for (const int64_t n : to_send) {
    const absl::Status written = (*stream)->Write(n, 0, AsBytes(client.chunks[static_cast<size_t>(n)]));
    if (!written.ok()) return written;
    ++moved.sent;
  }
  const absl::Status flushed = (*stream)->Flush();
  if (!flushed.ok()) return flushed;
  return moved;
}

class UploadTest : public RepositoryTest {
 protected:
  static PushOptions Request(const std::string& run, const std::string& request_id) {
    PushOptions options = To(run);
    options.request = {"alice", "PushCheckpoint", request_id};
    return options;
  }

  UploadRef Begin(const PushOptions& options, const std::string& id = "", int64_t parts = 1) {
    const auto upload = repository_->BeginUpload(options, id, parts);
    EXPECT_OK(upload);
    return upload.ok() ? upload->ref : UploadRef();
  }

  // All of an upload of one part.
  absl::StatusOr<Checkpoint> UploadAll(const PushOptions& options, const ClientPart& client, Moved* moved = nullptr) {
    const auto upload = repository_->BeginUpload(options, "", 1);
    if (!upload.ok()) return upload.status();
    const auto sent = SendPart(*repository_, upload->ref, 0, client);
    if (!sent.ok()) return sent.status();
    if (moved != nullptr) *moved = *sent;
    return repository_->CommitUpload(upload->ref);
  }

  // Deletes the run and expects that nothing is left of anything.
  void ExpectAllSpaceBack(const std::vector<std::string>& runs) {
    for (const std::string& run : runs) EXPECT_OK(repository_->DeleteRun({"default", run}, "", true));
    EXPECT_OK(repository_->CollectGarbage());
    EXPECT_OK(repository_->CollectGarbage());
    EXPECT_EQ(Stats().blobs, 0);
    EXPECT_EQ(Stats().physical_bytes, 0);
    EXPECT_THAT(Audit(), IsClean());
    if (GetParam() == Backend::kDisk) {
      EXPECT_TRUE(std::filesystem::is_empty(dir_ / "data/uploads"));
      return;
    }
    for (const char* prefix : {"k", "f", "i", "b", "g", "t", "y", "z"}) {
      EXPECT_OK(memory_catalog_->Scan(prefix, catalog::PrefixEnd(prefix), false,
                                      [&](absl::string_view key, absl::string_view) {
                                        ADD_FAILURE() << "left: " << prefix << " " << ToHex(AsBytes(key));
                                        return true;
                                      }));
    }
  }
};

}  // namespace sconce::repository

#endif  // SCONCE_TESTS_UNIT_STORAGE_REPOSITORY_UPLOAD_FIXTURE_H_
