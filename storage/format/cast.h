#ifndef SCONCE_STORAGE_FORMAT_CAST_H_
#define SCONCE_STORAGE_FORMAT_CAST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/format/dtype.h"
#include "storage/format/manifest.h"
#include "storage/format/storage_bytes.h"

// Converting floating-point tensors on the way out: first a plan, which is a manifest and what to do with each storage;
// then the bytes, as they are asked for.
namespace sconce::format {

// Tensors whose path matches `pattern` (glob.h; one without wildcards also means all below it) become `dtype`.
struct DtypeRule {
  std::string pattern;
  std::string dtype;  // "" leaves them as they are
};

struct DtypeCast {
  std::string dtype;             // of the tensors that no rule matches; "" leaves them as they are
  std::vector<DtypeRule> rules;  // the first that matches a path counts

  bool empty() const { return dtype.empty() && rules.empty(); }
};

// Storages that went from one dtype to another.
struct CastDtype {
  DType from = DType::kFloat32, to = DType::kFloat32;
  int64_t storages = 0;
  int64_t bytes_before = 0, bytes_after = 0;
  std::string first_path;  // the first place in tree order that such a storage is found at
};

// What is done with one storage.
struct StorageCast {
  DType from = DType::kFloat32, to = DType::kFloat32;  // equal: nothing
  std::string inline_bytes;                            // what there is to convert, when it was inline and is no longer
};

struct CastPlan {
  Manifest manifest;                  // the result
  std::vector<StorageCast> storages;  // of `manifest`, in the same order as in the original
  std::vector<CastDtype> changes;     // in order of first_path
};

// Plans the conversion of `manifest`, whose bulk storages `bytes` reads (only of those that become inline). The result
// is valid, marked derived unless the cast is empty, and has no chunk digests where bulk bytes change: they are not
// known.
//
// What is converted: strided tensors and Parameters of a dtype that CanConvertFrom (float_convert.h), the values of
// sparse tensors, buffers of nested ones, shards, typed bare storages, tensors without bytes (meta: only the dtype and
// the size of the storage change). What is not: integers, bool, complex, the rarer dtypes; numpy values; quantized
// tensors with their scales and zero points, and what a tensor subclass is made of, for these mean something only
// together; untyped bare storages. A lazily negated tensor keeps its bit: the conversions are symmetric.
//
// Whole storages are converted, whatever part of them tensors see, so ties, strides and offsets (in elements) stay; the
// bytes of an incomplete last element are dropped. A storage that is at most kInlineStorageBytes afterwards is inline,
// and one that is larger is not, whatever it was before. All tensors of a storage must come to the same:
// CAST_RULE_SPLITS_STORAGE, naming two of their paths, when rules disagree or when one that changes is also seen as
// another dtype.
//
// CAST_INVALID for a dtype that CanConvertTo denies, PATTERN_INVALID for a rule, INPUT_LIMIT_EXCEEDED when the tree has
// too many paths (path.h; without rules, what is shared counts once), when sizes overflow, or when more than
// kMaxCastInlineBytes would become inline; any error of `bytes`. Requires a valid manifest.
absl::StatusOr<CastPlan> PlanCast(Manifest manifest, const DtypeCast& cast, StorageBytes& bytes);

// What a plan may add to a manifest by storages that become inline.
inline constexpr int64_t kMaxCastInlineBytes = int64_t{256} << 20;

// "float16, bfloat16, float32, float64, float8_e4m3fn, float8_e5m2".
std::string CastTargets();

// The bytes of a plan's bulk storages, converted piece by piece as they are read: any range of them, also one that
// begins or ends within an element. Not thread-safe.
class CastBytes final : public StorageBytes {
 public:
  // Both are borrowed and outlive this; `source` reads the storages of the original.
  CastBytes(const CastPlan& plan, StorageBytes& source) : plan_(plan), source_(source) {}

  absl::Status Read(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override;

 private:
  absl::Status ReadSource(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out);

  const CastPlan& plan_;
  StorageBytes& source_;
  std::vector<uint8_t> scratch_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_CAST_H_
