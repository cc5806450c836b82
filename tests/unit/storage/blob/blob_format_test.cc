#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file_system.h"
#include "storage/blob/footer.h"
#include "storage/blob/local_blob_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

// docs/formats/blob.md and the code say the same.
namespace sconce::blob {
namespace {

// The example's file, from the pieces: chunk, footer, zeros, trailer.
std::string ExampleFile() {
  const std::string content = "hello";
  const FooterChunk chunk{Sha256(AsBytes(content)), Xxh3(AsBytes(content)), 0, 5};
  const EncodedFooter footer = EncodeFooter({chunk}, AsBytes("M"), AsBytes("rec"), 64);
  Trailer trailer;
  trailer.id.project_uid = 42;
  for (size_t i = 0; i < 16; ++i) trailer.id.id[i] = static_cast<uint8_t>(0xa0 + i);
  trailer.footer_offset = 64;
  trailer.footer_size_bytes = static_cast<int64_t>(footer.bytes.size());
  trailer.file_size_bytes = SealedSize(64, trailer.footer_size_bytes);
  trailer.footer_xxh3 = Xxh3(AsBytes(footer.bytes));
  std::string file(static_cast<size_t>(trailer.file_size_bytes), '\0');
  file.replace(0, content.size(), content);
  file.replace(64, footer.bytes.size(), footer.bytes);
  const auto end = EncodeTrailer(trailer);
  file.replace(file.size() - end.size(), end.size(), std::string(end.begin(), end.end()));
  return file;
}

// Lines of 16 bytes as the page shows them; those of zeros are left out.
std::string Dump(const std::string& bytes) {
  std::string dump;
  for (size_t at = 0; at < bytes.size(); at += 16) {
    const std::string line = bytes.substr(at, 16);
    if (line == std::string(16, '\0')) continue;
    absl::StrAppendFormat(&dump, "%04x ", at);
    for (const char c : line) absl::StrAppendFormat(&dump, " %02x", static_cast<uint8_t>(c));
    dump += "  ";
    for (const char c : line) dump += c >= 0x20 && c < 0x7f ? c : '.';
    dump += '\n';
  }
  return dump;
}

std::string Page() {
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  std::ifstream file(std::string(source != nullptr ? source : ".") + "/docs/formats/blob.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(BlobFormatTest, TheExampleOfThePageIsWhatTheCodeWrites) {
  EXPECT_EQ(ExampleFile().size(), 4096u);
  EXPECT_THAT(Page(), ::testing::HasSubstr("```\n" + Dump(ExampleFile()) + "```\n"));
}

// Version 1 for ever: these bytes are in files that people keep.
TEST(BlobFormatTest, TheExampleOfThePageIsRead) {
  const std::string page = Page();
  const size_t begin = page.find("```\n0000  68 65");
  ASSERT_NE(begin, std::string::npos);
  std::string file(4096, '\0');
  std::istringstream lines(page.substr(begin + 4, page.find("```", begin + 4) - begin - 4));
  for (std::string line; std::getline(lines, line);) {
    std::string bytes;
    std::string hex = line.substr(6, 47);
    hex.erase(std::remove(hex.begin(), hex.end(), ' '), hex.end());
    ASSERT_TRUE(FromHex(hex, bytes)) << line;
    file.replace(std::stoul(line.substr(0, 4), nullptr, 16), 16, bytes);
  }
  ASSERT_OK_AND_ASSIGN(const Trailer trailer, DecodeTrailer(AsBytes(file).last(kTrailerBytes), 4096));
  EXPECT_EQ(trailer.id.project_uid, 42u);
  EXPECT_EQ(trailer.id.Hex(), "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
  const ByteSpan footer =
      AsBytes(file).subspan(static_cast<size_t>(trailer.footer_offset), static_cast<size_t>(trailer.footer_size_bytes));
  EXPECT_EQ(Xxh3(footer), trailer.footer_xxh3);
  ASSERT_OK_AND_ASSIGN(const FooterView view, DecodeFooter(footer, trailer.footer_offset));
  EXPECT_EQ(AsText(view.manifest), "M");
  EXPECT_EQ(AsText(view.record), "rec");
  ASSERT_EQ(view.chunks.size(), 1u);
  EXPECT_EQ(view.chunks[0].sha256, Sha256(AsBytes("hello")));
  EXPECT_EQ(view.chunks[0].size_bytes, 5);
}

TEST(BlobFormatTest, TheStoreWritesJustThat) {
  const TempDir directory;
  LocalBlobStoreOptions options;
  options.data_dir = directory.path();
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalBlobStore> store, LocalBlobStore::Open(options));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<BlobWriter> writer, store->Create(42));
  ASSERT_OK_AND_ASSIGN(const int64_t offset, writer->AppendPacked(AsBytes("hello")));
  ASSERT_OK_AND_ASSIGN(const int64_t footer_offset, writer->FooterOffset());
  const FooterChunk chunk{Sha256(AsBytes("hello")), Xxh3(AsBytes("hello")), offset, 5};
  ASSERT_OK(writer->Seal(AsBytes(EncodeFooter({chunk}, AsBytes("M"), AsBytes("rec"), footer_offset).bytes)));

  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Blob> blob, store->Open(writer->id()));
  ASSERT_OK_AND_ASSIGN(const ByteSpan bytes, blob->Read(0, blob->size_bytes()));
  // All but the random id and the checksum over it.
  const std::string expected = ExampleFile();
  ASSERT_EQ(bytes.size(), expected.size());
  EXPECT_EQ(AsText(bytes.first(4096 - 32)), ToAbsl(expected).substr(0, 4096 - 32));
}

}  // namespace
}  // namespace sconce::blob
