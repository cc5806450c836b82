#ifndef SCONCE_STORAGE_FORMAT_TORCH_ARCHIVE_H_
#define SCONCE_STORAGE_FORMAT_TORCH_ARCHIVE_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/strings.h"
#include "storage/format/torch_reader.h"
#include "storage/format/zip_reader.h"

namespace sconce::format {

// A zip archive by torch.save or torch.jit.save: records in one folder, whose name is not part of theirs here. Borrows
// from the file.
class TorchArchive {
 public:
  // Whose pickle it is: torch.save's, or that of a TorchScript archive.
  enum class Dialect { kPython, kScript };

  // Reads the directory, `version` and `byteorder`. Errors as of IndexTorchFile.
  static absl::StatusOr<TorchArchive> Open(ByteSpan file);

  // nullptr when there is none of this name.
  const ZipRecord* Find(absl::string_view name) const;
  const ZipReader& zip() const { return zip_; }
  const std::string& folder() const { return folder_; }  // ends in '/'
  bool big_endian() const { return big_endian_; }

  // The tree that the record `pickle` holds, whose storages are the records `data` + key. FinishIndex is still to be
  // called.
  absl::StatusOr<TorchIndex> ReadTree(absl::string_view pickle, absl::string_view data, Dialect dialect) const;

 private:
  TorchArchive(ZipReader zip, std::string folder) : zip_(std::move(zip)), folder_(std::move(folder)) {}
  absl::StatusOr<std::string> Word(absl::string_view name) const;

  ZipReader zip_;
  std::string folder_;
  bool big_endian_ = false;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_TORCH_ARCHIVE_H_
