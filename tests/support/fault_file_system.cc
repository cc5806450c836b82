#include "tests/support/fault_file_system.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"

namespace sconce {
namespace {

constexpr size_t kPage = 4096;

// A file system that a test can fill is not one it may lose files on by accident.
template <typename T>
T MustOk(absl::StatusOr<T> result) {
  SCONCE_CHECK(result.ok());
  return *std::move(result);
}
void MustOk(const absl::Status& status) {
  SCONCE_CHECK(status.ok());
}

std::string Parent(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}
std::string Name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

class FaultWritableFile final : public WritableFile {
 public:
  FaultWritableFile(FaultFileSystem& fs, std::unique_ptr<WritableFile> file, bool direct,
                    FaultFileSystem::InodePtr inode, int64_t boot)
      : fs_(fs), file_(std::move(file)), direct_(direct), inode_(std::move(inode)), boot_(boot) {}

  absl::Status WriteAt(int64_t offset, ByteSpan data) override {
    MutexLock lock(&fs_.mu_);
    if (direct_ && (offset % kDirectAlignment != 0 || data.size() % kDirectAlignment != 0 ||
                    reinterpret_cast<uintptr_t>(data.data()) % kDirectAlignment != 0)) {
      return ErrnoToStatus(EINVAL, absl::StrCat("cannot write ", inode_->path, " directly without alignment"));
    }
    if (absl::Status failure = Begin("write"); !failure.ok()) {
      const size_t half = direct_ ? data.size() / 2 / kPage * kPage : data.size() / 2;
      if (Alive()) {
        MustOk(file_->WriteAt(offset, data.first(half)));
        Dirty(offset, half);
      }
      return failure;
    }
    Dirty(offset, data.size());
    return file_->WriteAt(offset, data);
  }
  absl::Status Truncate(int64_t size_bytes) override {
    MutexLock lock(&fs_.mu_);
    SCONCE_RETURN_IF_ERROR(Begin("truncate"));
    inode_->dirty.emplace_back(size_bytes, INT64_MAX);  // if it grows again, other bytes stand there
    return file_->Truncate(size_bytes);
  }
  absl::Status SetMode(uint32_t mode) override {
    MutexLock lock(&fs_.mu_);
    SCONCE_RETURN_IF_ERROR(Begin("set the mode of"));
    return file_->SetMode(mode);
  }
  absl::Status Sync() override {
    MutexLock lock(&fs_.mu_);
    if (absl::Status failure = Begin("sync"); !failure.ok()) {
      if (Alive()) inode_->lost_bytes = true;
      return failure;
    }
    if (!inode_->path.empty() && !inode_->lost_bytes) fs_.TakeDirtyBytes(*inode_);
    return absl::OkStatus();
  }

 private:
  void Dirty(int64_t offset, size_t size_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(fs_.mu_) {
    inode_->dirty.emplace_back(offset, offset + static_cast<int64_t>(size_bytes));
  }
  bool Alive() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(fs_.mu_) { return !fs_.power_is_off_ && boot_ == fs_.boots_; }
  absl::Status Begin(const char* operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(fs_.mu_) {
    const std::string what = absl::StrCat("cannot ", operation, " ", inode_->path);
    if (boot_ != fs_.boots_) return ErrnoToStatus(EIO, absl::StrCat(what, ": opened before the power failed"));
    return fs_.Begin(what);
  }

  FaultFileSystem& fs_;
  const std::unique_ptr<WritableFile> file_;
  const bool direct_;
  const FaultFileSystem::InodePtr inode_;
  const int64_t boot_;
};

FaultFileSystem::FaultFileSystem(const std::string& root) : root_(root), base_(PosixFileSystem()) {
  SCONCE_CHECK(MustOk(base_.List(root)).empty());
  directories_.insert(root);
}

int64_t FaultFileSystem::operations() const {
  MutexLock lock(&mu_);
  return operations_;
}

void FaultFileSystem::CutPowerAt(int64_t n) {
  MutexLock lock(&mu_);
  cut_at_ = operations_ + n;
}

bool FaultFileSystem::power_is_off() const {
  MutexLock lock(&mu_);
  return power_is_off_;
}

void FaultFileSystem::FailAt(int64_t n, int error_number) {
  MutexLock lock(&mu_);
  fail_at_ = operations_ + n;
  fail_errno_ = error_number;
}

bool FaultFileSystem::failed() const {
  MutexLock lock(&mu_);
  return operations_ >= fail_at_;
}

void FaultFileSystem::Disarm() {
  MutexLock lock(&mu_);
  cut_at_ = INT64_MAX;
  fail_at_ = INT64_MAX;
}

void FaultFileSystem::SetFreeBytes(std::optional<int64_t> bytes) {
  MutexLock lock(&mu_);
  free_bytes_ = bytes;
}

absl::Status FaultFileSystem::CheckPower(const std::string& what) const {
  return power_is_off_ ? ErrnoToStatus(EIO, absl::StrCat(what, ": the power is off")) : absl::OkStatus();
}

absl::Status FaultFileSystem::Begin(const std::string& what) {
  SCONCE_RETURN_IF_ERROR(CheckPower(what));
  ++operations_;
  if (operations_ == cut_at_) power_is_off_ = true;
  if (operations_ == fail_at_) return ErrnoToStatus(fail_errno_, absl::StrCat(what, ": on purpose"));
  return CheckPower(what);
}

FaultFileSystem::Entries FaultFileSystem::LiveEntries(const std::string& directory) const {
  Entries entries;
  for (const auto& [path, inode] : files_) {
    if (Parent(path) == directory) entries[Name(path)] = inode;
  }
  for (const std::string& path : directories_) {
    if (Parent(path) == directory) entries[Name(path)] = nullptr;
  }
  return entries;
}

std::string FaultFileSystem::LiveBytes(const Inode& inode) const {
  const std::shared_ptr<const ReadableFile> file = MustOk(base_.OpenRead(inode.path));
  std::string bytes(static_cast<size_t>(file->size_bytes()), '\0');
  MustOk(file->ReadAt(0, absl::MakeSpan(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size())));
  return bytes;
}

void FaultFileSystem::TakeDirtyBytes(Inode& inode) const {
  const std::shared_ptr<const ReadableFile> file = MustOk(base_.OpenRead(inode.path));
  inode.synced.resize(static_cast<size_t>(file->size_bytes()));
  for (auto [begin, end] : std::exchange(inode.dirty, {})) {
    end = std::min(end, file->size_bytes());
    if (begin >= end) continue;  // truncated since
    auto* const bytes = reinterpret_cast<uint8_t*>(inode.synced.data() + begin);
    MustOk(file->ReadAt(begin, absl::MakeSpan(bytes, static_cast<size_t>(end - begin))));
  }
}

std::string FaultFileSystem::SurvivingBytes(const Inode& inode, Loss loss, uint32_t seed) const {
  if (loss != Loss::kTornBytes || inode.path.empty() || inode.lost_bytes) return inode.synced;
  std::string torn = LiveBytes(inode);
  std::string old = inode.synced;
  old.resize(torn.size());
  std::mt19937 random(seed);
  for (size_t at = 0; at < torn.size(); at += kPage) {
    const size_t n = std::min(kPage, torn.size() - at);
    if (random() % 2 == 0) torn.replace(at, n, old, at, n);
  }
  return torn;
}

void FaultFileSystem::RestorePower(Loss loss, uint32_t seed) {
  MutexLock lock(&mu_);
  // What survives, from the root down: a directory that nothing durable names is lost with all below it.
  std::map<std::string, std::string> contents;
  std::vector<std::string> directories = {root_};
  for (size_t i = 0; i < directories.size(); ++i) {
    const std::string directory = directories[i];
    for (const auto& [name, inode] : loss == Loss::kUnsynced ? synced_[directory] : LiveEntries(directory)) {
      const std::string path = absl::StrCat(directory, "/", name);
      if (inode == nullptr) {
        directories.push_back(path);
      } else {
        contents[path] = SurvivingBytes(*inode, loss, seed++);
      }
    }
  }

  for (const auto& entry : std::filesystem::directory_iterator(root_)) std::filesystem::remove_all(entry.path());
  files_.clear();
  for (const std::string& directory : directories) MustOk(base_.CreateDirectories(directory));
  for (const auto& [path, bytes] : contents) {
    MustOk(MustOk(base_.Create(path, {}))->WriteAt(0, AsBytes(bytes)));
    files_[path] = std::make_shared<Inode>(Inode{path, bytes, {}, false});
  }
  directories_ = std::set<std::string>(directories.begin(), directories.end());
  synced_.clear();
  for (const std::string& directory : directories) synced_[directory] = LiveEntries(directory);
  power_is_off_ = false;
  cut_at_ = INT64_MAX;
  ++boots_;
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::Create(const std::string& path,
                                                                      const CreateOptions& options) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(Begin(absl::StrCat("cannot create ", path)));
  CreateOptions buffered = options;
  buffered.direct = false;
  SCONCE_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, base_.Create(path, buffered));
  auto inode = std::make_shared<Inode>();
  inode->path = path;
  files_[path] = inode;
  return std::make_unique<FaultWritableFile>(*this, std::move(file), options.direct, std::move(inode), boots_);
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultFileSystem::OpenWrite(const std::string& path) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(Begin(absl::StrCat("cannot open ", path)));
  SCONCE_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, base_.OpenWrite(path));
  return std::make_unique<FaultWritableFile>(*this, std::move(file), false, files_.at(path), boots_);
}

absl::Status FaultFileSystem::Link(const std::string& from, const std::string& to) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(Begin(absl::StrCat("cannot link ", from)));
  SCONCE_RETURN_IF_ERROR(base_.Link(from, to));
  files_[to] = files_.at(from);
  return absl::OkStatus();
}

void FaultFileSystem::DropName(const std::string& path) {
  const auto found = files_.find(path);
  if (found == files_.end()) return;
  const InodePtr inode = found->second;
  files_.erase(found);
  if (inode->path != path) return;
  const auto other =
      std::find_if(files_.begin(), files_.end(), [&](const auto& entry) { return entry.second == inode; });
  inode->path = other == files_.end() ? "" : other->first;
}

absl::StatusOr<std::shared_ptr<const ReadableFile>> FaultFileSystem::OpenRead(const std::string& path) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(CheckPower(absl::StrCat("cannot open ", path)));
  return base_.OpenRead(path);
}

absl::Status FaultFileSystem::Rename(const std::string& from, const std::string& to) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(Begin(absl::StrCat("cannot rename ", from)));
  SCONCE_RETURN_IF_ERROR(base_.Rename(from, to));
  if (directories_.count(from) == 1) {
    RenameDirectory(from, to);
    return absl::OkStatus();
  }
  const InodePtr moved = files_.at(from);
  DropName(to);
  files_[to] = moved;
  files_.erase(from);
  if (moved->path == from) moved->path = to;
  return absl::OkStatus();
}

// What is durable below it goes along: the move is one change, of a name in its parent.
void FaultFileSystem::RenameDirectory(const std::string& from, const std::string& to) {
  const auto moved = [&](const std::string& path) { return to + path.substr(from.size()); };
  const auto below = [&](const std::string& path) { return path == from || path.rfind(from + "/", 0) == 0; };
  std::map<std::string, InodePtr> files;
  for (const auto& [path, inode] : files_) {
    files[below(path) ? moved(path) : path] = inode;
    if (below(path) && inode->path == path) inode->path = moved(path);
  }
  std::set<std::string> directories;
  for (const std::string& path : directories_) directories.insert(below(path) ? moved(path) : path);
  std::map<std::string, Entries> synced;
  for (const auto& [path, entries] : synced_) {
    synced[path] = entries;
    if (below(path)) synced[moved(path)] = entries;
  }
  files_ = std::move(files);
  directories_ = std::move(directories);
  synced_ = std::move(synced);
}

absl::Status FaultFileSystem::Remove(const std::string& path) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(Begin(absl::StrCat("cannot remove ", path)));
  SCONCE_RETURN_IF_ERROR(base_.Remove(path));
  DropName(path);
  return absl::OkStatus();
}

absl::Status FaultFileSystem::CreateDirectories(const std::string& path) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(Begin(absl::StrCat("cannot create directory ", path)));
  SCONCE_RETURN_IF_ERROR(base_.CreateDirectories(path));
  for (std::string directory = path; directory.size() > root_.size(); directory = Parent(directory)) {
    directories_.insert(directory);
  }
  return absl::OkStatus();
}

absl::Status FaultFileSystem::RemoveDirectory(const std::string& path) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(Begin(absl::StrCat("cannot remove directory ", path)));
  SCONCE_RETURN_IF_ERROR(base_.RemoveDirectory(path));
  directories_.erase(path);
  return absl::OkStatus();
}

absl::Status FaultFileSystem::SyncDirectory(const std::string& path) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(Begin(absl::StrCat("cannot sync directory ", path)));
  if (directories_.count(path) == 0) return ErrnoToStatus(ENOENT, absl::StrCat("cannot open directory ", path));
  synced_[path] = LiveEntries(path);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FaultFileSystem::List(const std::string& path) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(CheckPower(absl::StrCat("cannot list ", path)));
  return base_.List(path);
}

absl::StatusOr<int64_t> FaultFileSystem::FreeBytes(const std::string& path) {
  MutexLock lock(&mu_);
  SCONCE_RETURN_IF_ERROR(CheckPower(absl::StrCat("cannot inspect ", path)));
  if (free_bytes_.has_value()) return *free_bytes_;
  return base_.FreeBytes(path);
}

}  // namespace sconce
