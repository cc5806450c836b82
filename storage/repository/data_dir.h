#ifndef SCONCE_STORAGE_REPOSITORY_DATA_DIR_H_
#define SCONCE_STORAGE_REPOSITORY_DATA_DIR_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/file_system.h"
#include "base/unique_fd.h"

namespace sconce::repository {

// The number in DATA_DIR/VERSION: the layout of the directory as a whole.
inline constexpr int kDataDirVersion = 1;

// A data directory that this process alone has open; the lock goes with the object (or with the process).
class DataDir {
 public:
  // Makes the directory and its parts when they are missing. DATA_DIR_LOCKED says which process has it;
  // DATA_DIR_INCOMPATIBLE for another version, or for a directory that holds other things than a data directory.
  static absl::StatusOr<DataDir> Open(const std::string& path, FileSystem& file_system);

  const std::string& path() const { return path_; }
  std::string catalog_path() const { return path_ + "/catalog"; }
  std::string uploads_path() const { return path_ + "/uploads"; }

 private:
  DataDir(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_DATA_DIR_H_
