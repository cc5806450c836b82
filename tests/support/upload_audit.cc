#include "tests/support/upload_audit.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/catalog/records.pb.h"

namespace sconce {
namespace {

namespace records = ::sconce::storage::v1;

struct Upload {
  catalog::Owner owner;
  uint64_t project_uid = 0;
};

blob::BlobId ToId(uint64_t project_uid, const std::string& raw) {
  blob::BlobId id;
  id.project_uid = project_uid;
  if (raw.size() == id.id.size()) std::copy(raw.begin(), raw.end(), id.id.begin());
  return id;
}

uint64_t UidAt1(absl::string_view key) {
  uint64_t uid = 0;
  for (size_t i = 1; i <= 8 && i < key.size(); ++i) uid = uid << 8 | static_cast<uint8_t>(key[i]);
  return uid;
}

absl::Status Each(const catalog::CatalogReader& catalog, const std::string& prefix,
                  absl::FunctionRef<void(absl::string_view, absl::string_view)> visit) {
  return catalog.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view value) {
    visit(key, value);
    return true;
  });
}

}  // namespace

absl::StatusOr<OpenUploads> ReadOpenUploads(const catalog::CatalogReader& catalog) {
  OpenUploads open;
  std::map<uint64_t, Upload> uploads;
  SCONCE_RETURN_IF_ERROR(Each(catalog, catalog::UploadPrefix(), [&](absl::string_view key, absl::string_view value) {
    const auto fields = catalog::ParseUploadKey(key);
    records::UploadRecord record;
    if (!fields || !record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      open.leaks.push_back(absl::StrCat("upload ", Quoted(key), " does not parse"));
      return;
    }
    if (record.state() != records::UPLOAD_STATE_OPEN && record.state() != records::UPLOAD_STATE_COMMITTING) return;
    uploads[record.uid()] = {{catalog::Owner::Kind::kUpload, fields->run_uid, record.uid()}, record.project_uid()};
  }));
  SCONCE_RETURN_IF_ERROR(Each(catalog, catalog::PartPrefix(), [&](absl::string_view key, absl::string_view value) {
    records::PartRecord record;
    if (uploads.count(UidAt1(key)) == 0 || !record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      open.leaks.push_back(absl::StrCat("part of upload ", UidAt1(key), ", which has ended"));
      return;
    }
    open.blobs.insert(ToId(record.project_uid(), record.blob_id()));
    open.blobs.insert(ToId(record.project_uid(), record.manifest_blob_id()));
  }));
  std::set<std::string> references;
  SCONCE_RETURN_IF_ERROR(Each(catalog, catalog::JournalPrefix(), [&](absl::string_view key, absl::string_view value) {
    const auto upload = uploads.find(UidAt1(key));
    records::JournalRecord record;
    if (upload == uploads.end() || !record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      open.leaks.push_back(absl::StrCat("journal of upload ", UidAt1(key), ", which has ended"));
      return;
    }
    for (const records::JournalEntry& entry : record.entries()) {
      Digest chunk;
      if (!entry.shared() || !Digest::FromBytes(entry.sha256(), chunk)) continue;
      references.insert(catalog::ReferenceKey(upload->second.project_uid, chunk, upload->second.owner));
    }
  }));
  open.references.assign(references.begin(), references.end());
  return open;
}

}  // namespace sconce
