#include "storage/format/zip_writer.h"

#include <utility>

#include "storage/format/zip_format.h"

namespace sconce::format {
namespace {

constexpr uint64_t kAllOnes32 = 0xffffffff;
constexpr uint64_t kAllOnes16 = 0xffff;
constexpr uint16_t kVersionNeeded = 20;    // 4.4.3: a data descriptor
constexpr uint16_t kVersionNeeded64 = 45;  // zip64
constexpr uint32_t kDosTime = 0x00210000;  // 4.4.6: 1980-01-01 00:00, so that equal content makes equal files

bool Fits32(uint64_t number) {
  return number < kAllOnes32;
}
uint64_t Clamp(uint64_t number, uint64_t all_ones) {
  return number < all_ones ? number : all_ones;
}

int Zip64Bytes(uint64_t size_bytes, uint64_t local_offset) {
  const int numbers = (Fits32(size_bytes) ? 0 : 2) + (Fits32(local_offset) ? 0 : 1);
  return numbers == 0 ? 0 : kZipExtraHeaderBytes + 8 * numbers;
}

uint64_t DescriptorBytes(uint64_t size_bytes, uint64_t local_offset) {
  if (size_bytes == 0) return 0;
  return Fits32(size_bytes) && Fits32(local_offset) ? ZipDescriptor::kBytes : ZipDescriptor::kBytes64;
}

uint16_t Flags(uint64_t size_bytes) {
  return size_bytes == 0 ? kZipFlagUtf8 : kZipFlagUtf8 | kZipFlagDescriptor;
}

}  // namespace

void ZipPlan::Add(std::string name, uint64_t size_bytes) {
  Record record;
  record.size_bytes = size_bytes;
  record.local_offset = records_end_;
  // PyTorch can compute where a record's data starts from the sizes before it (calculate_storage_offsets): it counts on
  // room for zip64 fields, of the local offset too, and on a padding field that is there even when nothing needs to be
  // padded.
  const uint64_t start = record.local_offset + ZipLocal::kBytes + name.size() +
                         Zip64Bytes(size_bytes, record.local_offset) + kZipExtraHeaderBytes;
  record.data_offset = (start + kAlignment - 1) / kAlignment * kAlignment;
  records_end_ = record.data_offset + size_bytes + DescriptorBytes(size_bytes, record.local_offset);
  central_bytes_ += ZipCentral::kBytes + name.size() + Zip64Bytes(size_bytes, record.local_offset);
  record.name = std::move(name);
  records_.push_back(std::move(record));
}

std::string ZipPlan::LocalHeader(size_t i) const {
  const Record& record = records_[i];
  const bool large = !Fits32(record.size_bytes);
  const uint64_t extra = record.data_offset - record.local_offset - ZipLocal::kBytes - record.name.size();
  std::string out;
  AppendLittle(out, ZipLocal::kSignature, 4);
  AppendLittle(out, large ? kVersionNeeded64 : kVersionNeeded, 2);
  AppendLittle(out, Flags(record.size_bytes), 2);
  AppendLittle(out, kZipStored, 2);
  AppendLittle(out, kDosTime, 4);
  AppendLittle(out, 0, 4);  // the checksum follows in the descriptor, and so do the sizes
  AppendLittle(out, large ? kAllOnes32 : 0, 4);
  AppendLittle(out, large ? kAllOnes32 : 0, 4);
  AppendLittle(out, record.name.size(), 2);
  AppendLittle(out, extra, 2);
  out += record.name;
  uint64_t padding = extra;
  if (large) {
    AppendLittle(out, kZipExtraZip64, 2);
    AppendLittle(out, 16, 2);
    AppendLittle(out, record.size_bytes, 8);
    AppendLittle(out, record.size_bytes, 8);
    padding -= kZipExtraHeaderBytes + 16;
  }
  AppendLittle(out, kZipExtraPadding, 2);
  AppendLittle(out, padding - kZipExtraHeaderBytes, 2);
  out.append(padding - kZipExtraHeaderBytes, 'Z');
  return out;
}

std::string ZipPlan::Descriptor(size_t i) const {
  const Record& record = records_[i];
  std::string out;
  const uint64_t bytes = DescriptorBytes(record.size_bytes, record.local_offset);
  if (bytes == 0) return out;
  const int width = bytes == ZipDescriptor::kBytes ? 4 : 8;
  AppendLittle(out, ZipDescriptor::kSignature, 4);
  AppendLittle(out, record.crc32, 4);
  AppendLittle(out, record.size_bytes, width);
  AppendLittle(out, record.size_bytes, width);
  return out;
}

std::string ZipPlan::CentralHeader(size_t i) const {
  const Record& record = records_[i];
  const int extra = Zip64Bytes(record.size_bytes, record.local_offset);
  const uint16_t version = extra != 0 ? kVersionNeeded64 : kVersionNeeded;
  std::string out;
  AppendLittle(out, ZipCentral::kSignature, 4);
  AppendLittle(out, version, 2);  // made by: MS-DOS, no file attributes
  AppendLittle(out, version, 2);
  AppendLittle(out, Flags(record.size_bytes), 2);
  AppendLittle(out, kZipStored, 2);
  AppendLittle(out, kDosTime, 4);
  AppendLittle(out, record.crc32, 4);
  AppendLittle(out, Clamp(record.size_bytes, kAllOnes32), 4);
  AppendLittle(out, Clamp(record.size_bytes, kAllOnes32), 4);
  AppendLittle(out, record.name.size(), 2);
  AppendLittle(out, extra, 2);
  out.append(2 + 2 + 2 + 4, '\0');  // comment, disk, internal and external attributes
  AppendLittle(out, Clamp(record.local_offset, kAllOnes32), 4);
  out += record.name;
  if (extra != 0) {
    AppendLittle(out, kZipExtraZip64, 2);
    AppendLittle(out, extra - kZipExtraHeaderBytes, 2);
    if (!Fits32(record.size_bytes)) {
      AppendLittle(out, record.size_bytes, 8);
      AppendLittle(out, record.size_bytes, 8);
    }
    if (!Fits32(record.local_offset)) AppendLittle(out, record.local_offset, 8);
  }
  return out;
}

std::string ZipPlan::End() const {
  std::string out;
  AppendLittle(out, ZipEnd64::kSignature, 4);
  AppendLittle(out, ZipEnd64::kBytes - 12, 8);  // of what follows
  AppendLittle(out, kVersionNeeded64, 2);
  AppendLittle(out, kVersionNeeded64, 2);
  AppendLittle(out, 0, 8);  // this disk, the directory's disk
  AppendLittle(out, records_.size(), 8);
  AppendLittle(out, records_.size(), 8);
  AppendLittle(out, central_bytes_, 8);
  AppendLittle(out, records_end_, 8);

  AppendLittle(out, ZipLocator64::kSignature, 4);
  AppendLittle(out, 0, 4);
  AppendLittle(out, records_end_ + central_bytes_, 8);
  AppendLittle(out, 1, 4);

  AppendLittle(out, ZipEnd::kSignature, 4);
  AppendLittle(out, 0, 4);
  AppendLittle(out, Clamp(records_.size(), kAllOnes16), 2);
  AppendLittle(out, Clamp(records_.size(), kAllOnes16), 2);
  AppendLittle(out, Clamp(central_bytes_, kAllOnes32), 4);
  AppendLittle(out, Clamp(records_end_, kAllOnes32), 4);
  AppendLittle(out, 0, 2);
  return out;
}

}  // namespace sconce::format
