#include "storage/format/torch_writer.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/crc32.h"
#include "storage/format/latin1.h"
#include "storage/format/torch_pickle.h"
#include "storage/format/zip_format.h"
#include "storage/format/zip_writer.h"

// The file, in PyTorch's order of records:
//   data.pkl, .format_version, .storage_alignment, byteorder, data/0 ... data/N, version, .data/serialization_id
// all in the folder archive/, which is what torch.save writes when it is not given a file name. The pickle is made at
// once, so that the size of everything is known; then headers, data and descriptors are made one after the other as
// they are asked for.
namespace sconce::format {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 62;
constexpr size_t kSkipPieceBytes = size_t{256} << 10;
constexpr int64_t kInsertPieceBytes = int64_t{64} << 10;

// 40 digits that identify the content: PyTorch compares them to tell files apart. From what the manifest says of it,
// not its bytes.
std::string SerializationId(const Manifest& manifest, const TorchPickle& pickle, absl::string_view identity) {
  Sha256Hasher hasher;
  hasher.Update(AsBytes(pickle.pickle));
  for (const StorageIndex index : pickle.storages) {
    hasher.Update(AsBytes(manifest.storages[index].inline_bytes));
    for (const Chunk& chunk : manifest.storages[index].chunks) hasher.Update(chunk.sha256.bytes);
  }
  hasher.Update(AsBytes(identity));
  const Digest digest = hasher.Finish();
  char digits[41];
  std::snprintf(digits, sizeof digits, "%020" PRIu64 "%020" PRIu64, LoadLittle64(digest.bytes.data()),
                LoadLittle64(digest.bytes.data() + 8));
  return digits;
}

class ZipTorchFileStream : public TorchFileStream {
 public:
  ZipTorchFileStream(const Manifest& manifest, StorageBytes& bytes, TorchPickle pickle, absl::string_view identity)
      : manifest_(manifest), bytes_(bytes) {
    const std::string id = SerializationId(manifest, pickle, identity);
    uint64_t pickle_bytes = pickle.pickle.size();
    for (const TorchPickle::Insert& insert : pickle.inserts) pickle_bytes += insert.utf8_bytes;
    plan_.Add("archive/data.pkl", pickle_bytes);
    sources_.push_back({});  // of the first record nobody asks for it
    AddText(".format_version", "1");
    AddText(".storage_alignment", absl::StrCat(ZipPlan::kAlignment));
    AddText("byteorder", "little");
    for (size_t key = 0; key < pickle.storages.size(); ++key) {
      const StorageIndex index = pickle.storages[key];
      plan_.Add(absl::StrCat("archive/data/", key), static_cast<uint64_t>(manifest.storages[index].size_bytes));
      sources_.push_back({index, ""});
    }
    AddText("version", "3\n");
    AddText(".data/serialization_id", id);
    inserts_ = std::move(pickle.inserts);
    pickle_ = std::move(pickle.pickle);
  }

  int64_t size_bytes() const override { return static_cast<int64_t>(plan_.size_bytes()); }
  int64_t position() const override { return position_; }

  absl::Status Read(absl::Span<uint8_t> out) override {
    SCONCE_RETURN_IF_ERROR(broken_);
    if (out.size() > static_cast<uint64_t>(size_bytes() - position_)) {
      return MakeError(Reason::OFFSET_OUT_OF_RANGE,
                       absl::StrCat("byte ", position_, " + ", out.size(), " is past the end of a file of ",
                                    size_bytes(), " bytes"));
    }
    while (!out.empty()) {
      size_t done = 0;
      if (piece_at_ < piece_.size()) {
        done = std::min(out.size(), piece_.size() - piece_at_);
        std::memcpy(out.data(), piece_.data() + piece_at_, done);
        piece_at_ += done;
      } else if (data_at_ < data_bytes_) {
        done = static_cast<size_t>(std::min<uint64_t>(out.size(), data_bytes_ - data_at_));
        broken_ = ReadData(out.subspan(0, done));
        SCONCE_RETURN_IF_ERROR(broken_);
      } else {
        NextPart();
      }
      position_ += static_cast<int64_t>(done);
      out.remove_prefix(done);
    }
    return absl::OkStatus();
  }

  absl::Status Skip(int64_t n) override {
    if (n < 0 || n > size_bytes() - position_) {
      return MakeError(
          Reason::OFFSET_OUT_OF_RANGE,
          absl::StrCat("byte ", position_, " + ", n, " is past the end of a file of ", size_bytes(), " bytes"));
    }
    std::vector<uint8_t> scratch(static_cast<size_t>(std::min<int64_t>(n, kSkipPieceBytes)));
    while (n > 0) {
      const auto piece = static_cast<size_t>(std::min<int64_t>(n, static_cast<int64_t>(scratch.size())));
      SCONCE_RETURN_IF_ERROR(Read(absl::MakeSpan(scratch.data(), piece)));
      n -= static_cast<int64_t>(piece);
    }
    return absl::OkStatus();
  }

 private:
  enum class Part { kLocalHeader, kData, kDescriptor, kCentralHeader, kEnd };
  struct Source {
    StorageIndex storage = kNoIndex;
    std::string text;  // when it is no storage
  };

  void AddText(absl::string_view name, std::string text) {
    plan_.Add(absl::StrCat("archive/", name), text.size());
    sources_.push_back({kNoIndex, std::move(text)});
  }

  // Makes the next fixed part, or turns to the data of a record.
  void NextPart() {
    piece_.clear();
    piece_at_ = 0;
    data_at_ = data_bytes_ = 0;
    switch (next_) {
      case Part::kLocalHeader:
        piece_ = plan_.LocalHeader(record_);
        next_ = Part::kData;
        break;
      case Part::kData:
        data_bytes_ = plan_.record_bytes(record_);
        crc32_ = 0;
        next_ = Part::kDescriptor;
        break;
      case Part::kDescriptor:
        plan_.set_crc32(record_, crc32_);
        piece_ = plan_.Descriptor(record_);
        ++record_;
        next_ = Part::kLocalHeader;
        if (record_ == plan_.record_count()) {
          record_ = 0;
          next_ = Part::kCentralHeader;
        }
        break;
      case Part::kCentralHeader:
        piece_ = plan_.CentralHeader(record_);
        if (++record_ == plan_.record_count()) next_ = Part::kEnd;
        break;
      case Part::kEnd:
        piece_ = plan_.End();
        break;
    }
  }

  absl::Status ReadData(absl::Span<uint8_t> out) {
    const Source& source = sources_[record_];
    if (record_ == 0) {
      SCONCE_RETURN_IF_ERROR(ReadPickle(out));
    } else if (source.storage == kNoIndex) {
      std::memcpy(out.data(), source.text.data() + data_at_, out.size());
    } else {
      const Storage& storage = manifest_.storages[source.storage];
      if (IsBulk(storage)) {
        SCONCE_RETURN_IF_ERROR(bytes_.Read(source.storage, static_cast<int64_t>(data_at_), out));
      } else if (IsMetaDevice(storage.device)) {
        std::memset(out.data(), 0, out.size());  // torch.load wants a record even where no bytes exist
      } else {
        std::memcpy(out.data(), storage.inline_bytes.data() + data_at_, out.size());
      }
    }
    crc32_ = Crc32(out, crc32_);
    data_at_ += out.size();
    return absl::OkStatus();
  }

  // The pickle's next bytes, with the inserts in their places.
  absl::Status ReadPickle(absl::Span<uint8_t> out) {
    while (!out.empty()) {
      absl::string_view from = absl::string_view(text_).substr(text_at_);
      const bool in_text = !from.empty();
      if (!in_text) {
        const size_t stop = insert_ < inserts_.size() ? inserts_[insert_].at : pickle_.size();
        from = absl::string_view(pickle_).substr(pickle_at_, stop - pickle_at_);
        if (from.empty()) {
          SCONCE_RETURN_IF_ERROR(NextInsertedText());
          continue;
        }
      }
      const size_t size = std::min(out.size(), from.size());
      std::memcpy(out.data(), from.data(), size);
      (in_text ? text_at_ : pickle_at_) += size;
      out.remove_prefix(size);
    }
    return absl::OkStatus();
  }

  // Makes text_ of the next piece of the insert at hand, or turns to what follows it.
  absl::Status NextInsertedText() {
    const TorchPickle::Insert& insert = inserts_[insert_];
    text_.clear();
    text_at_ = 0;
    const int64_t left = manifest_.storages[insert.storage].size_bytes - inserted_;
    if (left == 0) {
      inserted_ = 0;
      inserted_utf8_ = 0;
      ++insert_;
      return absl::OkStatus();
    }
    std::vector<uint8_t> piece(static_cast<size_t>(std::min<int64_t>(left, kInsertPieceBytes)));
    SCONCE_RETURN_IF_ERROR(bytes_.Read(insert.storage, inserted_, absl::MakeSpan(piece)));
    AppendLatin1Utf8(piece, text_);
    inserted_ += static_cast<int64_t>(piece.size());
    inserted_utf8_ += text_.size();
    const bool last = static_cast<int64_t>(piece.size()) == left;
    if (last ? inserted_utf8_ != insert.utf8_bytes : inserted_utf8_ > insert.utf8_bytes) {
      return MakeError(Reason::IO_ERROR,
                       "the bytes of a numpy array changed while they were being written; write the file again");
    }
    return absl::OkStatus();
  }

  const Manifest& manifest_;
  StorageBytes& bytes_;
  ZipPlan plan_;

  std::string pickle_;  // of which pickle_at_ bytes are delivered
  size_t pickle_at_ = 0;
  std::vector<TorchPickle::Insert> inserts_;  // of which insert_ are delivered
  size_t insert_ = 0;
  int64_t inserted_ = 0;        // bytes of that one's storage that became text
  uint64_t inserted_utf8_ = 0;  // and how long all that text is
  std::string text_;            // its last piece, of which text_at_ bytes are delivered
  size_t text_at_ = 0;

  std::vector<Source> sources_;  // of each record

  int64_t position_ = 0;
  Part next_ = Part::kLocalHeader;
  size_t record_ = 0;
  std::string piece_;  // a fixed part, of which piece_at_ bytes are delivered
  size_t piece_at_ = 0;
  uint64_t data_bytes_ = 0;  // of the record at hand, of which data_at_ are delivered
  uint64_t data_at_ = 0;
  uint32_t crc32_ = 0;  // of those
  absl::Status broken_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TorchFileStream>> TorchFileStream::Create(const Manifest& manifest, StorageBytes& bytes,
                                                                         absl::string_view identity) {
  SCONCE_ASSIGN_OR_RETURN(TorchPickle pickle, WriteTorchPickle(manifest, bytes));
  int64_t total = 0;
  for (const StorageIndex index : pickle.storages) {
    if (__builtin_add_overflow(total, manifest.storages[index].size_bytes, &total) || total > kMaxFileBytes) {
      return MakeError(Reason::FILE_UNSUPPORTED,
                       "the file would have more than 4 EiB, since torch.load wants bytes even of meta storages; leave "
                       "those out of the selection");
    }
  }
  return std::make_unique<ZipTorchFileStream>(manifest, bytes, std::move(pickle), identity);
}

}  // namespace sconce::format
