#include "storage/repository/spool.h"

#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "storage/repository/push.h"

namespace sconce::repository {
namespace {

class FileSpool final : public Spool {
 public:
  FileSpool(std::shared_ptr<const Store> store, std::string path, std::unique_ptr<WritableFile> file)
      : store_(std::move(store)), path_(std::move(path)), writer_(std::move(file)) {}
  ~FileSpool() override {
    if (reader_ == nullptr) store_->options.file_system->Remove(path_).IgnoreError();
  }

  absl::Status Append(ByteSpan bytes) override {
    SCONCE_CHECK(writer_ != nullptr);
    SCONCE_RETURN_IF_ERROR(CheckRoom(*store_, static_cast<int64_t>(bytes.size())));
    SCONCE_RETURN_IF_ERROR(writer_->WriteAt(size_bytes_, bytes));
    size_bytes_ += static_cast<int64_t>(bytes.size());
    return absl::OkStatus();
  }
  int64_t size_bytes() const override { return size_bytes_; }

  absl::StatusOr<ByteSpan> Map() override {
    if (reader_ == nullptr) {
      writer_.reset();
      SCONCE_ASSIGN_OR_RETURN(auto reader, store_->options.file_system->OpenRead(path_));
      SCONCE_RETURN_IF_ERROR(store_->options.file_system->Remove(path_));
      reader_ = std::move(reader);
    }
    return reader_->Map();
  }

 private:
  const std::shared_ptr<const Store> store_;
  const std::string path_;
  std::unique_ptr<WritableFile> writer_;  // until Map
  std::shared_ptr<const ReadableFile> reader_;
  int64_t size_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Spool>> MakeSpool(std::shared_ptr<const Store> store) {
  SCONCE_RETURN_IF_ERROR(CheckRoom(*store, 0));
  std::random_device random;
  const std::string path = absl::StrCat(store->options.data_dir, "/uploads/spool-",
                                        absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8));
  CreateOptions options;
  options.mode = 0600;
  SCONCE_ASSIGN_OR_RETURN(auto file, store->options.file_system->Create(path, options));
  return std::make_unique<FileSpool>(std::move(store), path, std::move(file));
}

}  // namespace sconce::repository
