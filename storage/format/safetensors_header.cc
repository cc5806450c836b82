#include "storage/format/safetensors_header.h"

#include <algorithm>
#include <limits>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/json_scanner.h"
#include "storage/format/zip_format.h"

namespace sconce::format {
namespace {

constexpr SafetensorsDType kDTypes[] = {
    {"BOOL", DType::kBool, 0},
    {"F4", DType::kFloat4E2M1FNX2, 1},
    {"U8", DType::kUInt8, 4},
    {"I8", DType::kInt8, 5},
    {"F8_E5M2", DType::kFloat8E5M2, 6},
    {"F8_E4M3", DType::kFloat8E4M3FN, 7},
    {"F8_E8M0", DType::kFloat8E8M0FNU, 8},
    {"F8_E4M3FNUZ", DType::kFloat8E4M3FNUZ, 9},
    {"F8_E5M2FNUZ", DType::kFloat8E5M2FNUZ, 10},
    {"I16", DType::kInt16, 11},
    {"U16", DType::kUInt16, 12},
    {"F16", DType::kFloat16, 13},
    {"BF16", DType::kBFloat16, 14},
    {"I32", DType::kInt32, 15},
    {"U32", DType::kUInt32, 16},
    {"F32", DType::kFloat32, 17},
    {"C64", DType::kComplex64, 18},
    {"F64", DType::kFloat64, 19},
    {"I64", DType::kInt64, 20},
    {"U64", DType::kUInt64, 21},
};

constexpr size_t kAlignment = 8;  // of the data

absl::Status Malformed(absl::string_view what) {
  return MakeError(Reason::FILE_MALFORMED, absl::StrCat("damaged safetensors file: ", what, "; write it again"));
}

// Parses the object.
class HeaderParser {
 public:
  explicit HeaderParser(absl::string_view text) : json_(text) {}

  absl::Status Parse(SafetensorsHeader& header) {
    SCONCE_RETURN_IF_ERROR(Members([&](std::string name) -> absl::Status {
      if (name == kSafetensorsMetadataKey) return Metadata(header);
      SafetensorsEntry entry;
      entry.name = std::move(name);
      SCONCE_RETURN_IF_ERROR(Entry(entry));
      header.entries.push_back(std::move(entry));
      return absl::OkStatus();
    }));
    return json_.AtEnd() ? absl::OkStatus() : json_.Malformed("something follows the object");
  }

 private:
  // An object: `member` is called with each key and takes the value.
  template <typename Member>
  absl::Status Members(Member member) {
    absl::flat_hash_set<std::string> seen;
    SCONCE_RETURN_IF_ERROR(json_.Expect('{'));
    if (json_.Take('}')) return absl::OkStatus();
    do {
      SCONCE_ASSIGN_OR_RETURN(std::string key, json_.String());
      if (!seen.insert(key).second) return json_.Malformed(absl::StrCat("key ", Quoted(key), " is there twice"));
      SCONCE_RETURN_IF_ERROR(json_.Expect(':'));
      SCONCE_RETURN_IF_ERROR(member(std::move(key)));
    } while (json_.Take(','));
    return json_.Expect('}');
  }

  absl::Status Metadata(SafetensorsHeader& header) {
    if (json_.TakeWord("null")) return absl::OkStatus();
    header.metadata.emplace();
    return Members([&](std::string key) -> absl::Status {
      SCONCE_ASSIGN_OR_RETURN(std::string value, json_.String());
      header.metadata->emplace_back(std::move(key), std::move(value));
      return absl::OkStatus();
    });
  }

  absl::Status Entry(SafetensorsEntry& entry) {
    int fields = 0;
    const SafetensorsDType* dtype = nullptr;
    SCONCE_RETURN_IF_ERROR(Members([&](const std::string& field) -> absl::Status {
      ++fields;
      if (field == "dtype") {
        SCONCE_ASSIGN_OR_RETURN(const std::string name, json_.String());
        dtype = FindSafetensorsDType(name);
        if (dtype != nullptr) return absl::OkStatus();
        return MakeError(Reason::FILE_UNSUPPORTED,
                         absl::StrCat("tensor ", Quoted(entry.name), " has dtype ", Quoted(name),
                                      ", which PyTorch does not have; convert it before saving"));
      }
      if (field == "shape") return Numbers(kMaxRank, entry.shape);
      if (field == "data_offsets") {
        Dims offsets;
        SCONCE_RETURN_IF_ERROR(Numbers(2, offsets));
        if (offsets.size() != 2) return json_.Malformed("data_offsets are not two numbers");
        entry.begin = offsets[0];
        entry.end = offsets[1];
        return absl::OkStatus();
      }
      return MakeError(Reason::FILE_UNSUPPORTED,
                       absl::StrCat("tensor ", Quoted(entry.name), " has an unknown field ", Quoted(field),
                                    "; write the file with the safetensors library"));
    }));
    if (fields != 3) return json_.Malformed(absl::StrCat("tensor ", Quoted(entry.name), " lacks a field"));
    entry.dtype = dtype->dtype;
    return absl::OkStatus();
  }

  absl::Status Numbers(size_t most, Dims& out) {
    SCONCE_RETURN_IF_ERROR(json_.Expect('['));
    if (json_.Take(']')) return absl::OkStatus();
    do {
      if (out.size() == most) return json_.Malformed(absl::StrCat("more than ", most, " numbers"));
      SCONCE_ASSIGN_OR_RETURN(const int64_t number, json_.Integer());
      out.push_back(number);
    } while (json_.Take(','));
    return json_.Expect(']');
  }

  JsonScanner json_;
};

// The shape as PyTorch has it, and whether the bytes are as many as it takes.
absl::Status CheckEntry(SafetensorsEntry& entry) {
  const std::string name = absl::StrCat("tensor ", Quoted(entry.name));
  if (entry.dtype == DType::kFloat4E2M1FNX2) {
    if (entry.shape.empty() || entry.shape.back() % 2 != 0) {
      return MakeError(Reason::FILE_UNSUPPORTED,
                       absl::StrCat(name, " has an odd number of 4-bit numbers in a row, PyTorch has only pairs"));
    }
    entry.shape.back() /= 2;
  }
  const int64_t elements = ElementCount(entry.shape);
  int64_t bytes = 0;
  if (elements < 0 || __builtin_mul_overflow(elements, ElementBytes(entry.dtype), &bytes))
    return Malformed(absl::StrCat("the shape of ", name, " overflows"));
  if (entry.end < entry.begin || entry.end - entry.begin != bytes)
    return Malformed(absl::StrCat(name, " does not have the ", bytes, " bytes that its shape takes"));
  return absl::OkStatus();
}

// The tensors, in the order of their offsets, fill the data exactly.
absl::Status CheckLayout(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes) {
  std::vector<const SafetensorsEntry*> order;
  order.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const SafetensorsEntry* a, const SafetensorsEntry* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
  });
  int64_t at = 0;
  for (const SafetensorsEntry* entry : order) {
    if (entry->begin != at) {
      return Malformed(absl::StrCat("tensor ", Quoted(entry->name), " starts at byte ", entry->begin,
                                    " of the data, and the one before ends at ", at));
    }
    at = entry->end;
  }
  if (static_cast<uint64_t>(at) > data_bytes) {
    return MakeError(Reason::FILE_TRUNCATED, absl::StrCat("the tensors take ", at, " bytes, and the file has only ",
                                                          data_bytes, " after its header; copy it again"));
  }
  if (static_cast<uint64_t>(at) < data_bytes) return Malformed("bytes follow the last tensor");
  return absl::OkStatus();
}

}  // namespace

const SafetensorsDType* FindSafetensorsDType(absl::string_view name) {
  for (const SafetensorsDType& one : kDTypes) {
    if (one.name == name) return &one;
  }
  return nullptr;
}

const SafetensorsDType* FindSafetensorsDType(DType dtype) {
  for (const SafetensorsDType& one : kDTypes) {
    if (one.dtype == dtype) return &one;
  }
  return nullptr;
}

bool IsSafetensorsFile(ByteSpan file) {
  constexpr uint64_t kMost = uint64_t{1} << 48;  // beyond it, the bytes are no length but something else
  return file.size() > kSafetensorsLengthBytes && file[kSafetensorsLengthBytes] == '{' &&
         LoadLittle64(file.data()) < kMost;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(ByteSpan file) {
  if (file.size() < kSafetensorsLengthBytes)
    return MakeError(Reason::FILE_TRUNCATED, "the file ends before its header; copy it again");
  const uint64_t length = LoadLittle64(file.data());
  if (length > kMaxSafetensorsHeaderBytes) {
    return Malformed(
        absl::StrCat("its header should have ", length, " bytes, more than the limit of ", kMaxSafetensorsHeaderBytes));
  }
  if (length > file.size() - kSafetensorsLengthBytes)
    return MakeError(Reason::FILE_TRUNCATED, "the header reaches past the end of the file; copy it again");
  SafetensorsHeader header;
  header.data_offset = static_cast<int64_t>(kSafetensorsLengthBytes + length);
  SCONCE_RETURN_IF_ERROR(HeaderParser(AsText(file.subspan(kSafetensorsLengthBytes, length))).Parse(header));
  for (SafetensorsEntry& entry : header.entries) SCONCE_RETURN_IF_ERROR(CheckEntry(entry));
  SCONCE_RETURN_IF_ERROR(CheckLayout(header.entries, file.size() - kSafetensorsLengthBytes - length));
  return header;
}

std::string WriteSafetensorsHeader(const SafetensorsHeader& header) {
  std::string text = "{";
  const auto key = [&](absl::string_view name) {
    if (text.size() > 1) text.push_back(',');
    AppendJsonString(name, text);
    text.push_back(':');
  };
  if (header.metadata.has_value()) {
    key(kSafetensorsMetadataKey);
    const char* separator = "{";
    for (const auto& [name, value] : *header.metadata) {
      text += separator;
      AppendJsonString(name, text);
      text.push_back(':');
      AppendJsonString(value, text);
      separator = ",";
    }
    text += header.metadata->empty() ? "{}" : "}";
  }
  for (const SafetensorsEntry& entry : header.entries) {
    key(entry.name);
    absl::StrAppend(&text, "{\"dtype\":\"", FindSafetensorsDType(entry.dtype)->name, "\",\"shape\":[");
    for (size_t i = 0; i < entry.shape.size(); ++i) {
      const bool pairs = entry.dtype == DType::kFloat4E2M1FNX2 && i + 1 == entry.shape.size();
      absl::StrAppend(&text, i == 0 ? "" : ",", entry.shape[i] * (pairs ? 2 : 1));
    }
    absl::StrAppend(&text, "],\"data_offsets\":[", entry.begin, ",", entry.end, "]}");
  }
  text += "}";
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  std::string out;
  AppendLittle(out, text.size(), kSafetensorsLengthBytes);
  return out + text;
}

}  // namespace sconce::format
