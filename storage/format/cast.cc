#include "storage/format/cast.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/float_convert.h"
#include "storage/format/pattern_set.h"
#include "storage/format/place_walk.h"

namespace sconce::format {
namespace {

constexpr size_t kMaxShownPathBytes = 1000;
constexpr DType kTargets[] = {DType::kFloat16, DType::kBFloat16,     DType::kFloat32,
                              DType::kFloat64, DType::kFloat8E4M3FN, DType::kFloat8E5M2};

// nullopt for "".
absl::StatusOr<std::optional<DType>> ParseTarget(const std::string& name) {
  if (name.empty()) return std::optional<DType>();
  const std::optional<DType> dtype = ParseDType(ToAbsl(name));
  if (dtype.has_value() && CanConvertTo(*dtype)) return dtype;
  return MakeError(Reason::CAST_INVALID,
                   absl::StrCat("tensors cannot be cast to ", Quoted(ToAbsl(name)),
                                dtype.has_value() ? ", only to " : ", which is no dtype, only to ", CastTargets()),
                   {{"dtype", name.substr(0, 200)}});
}

absl::Status TooLarge(absl::string_view what) {
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED, absl::StrCat("after the cast ", what));
}

// Decides about every tensor and storage, then changes the manifest.
class CastPlanner {
 public:
  CastPlanner(const DtypeCast& cast, StorageBytes& bytes, CastPlan& plan)
      : cast_(cast), bytes_(bytes), plan_(plan), manifest_(plan.manifest) {}

  absl::Status Run() {
    SCONCE_RETURN_IF_ERROR(ParseTargets());
    FindUntouched();
    SCONCE_RETURN_IF_ERROR(Decide());
    SCONCE_RETURN_IF_ERROR(ChangeStorages());
    return ChangeTensors();
  }

 private:
  // A storage, or a tensor without one, as the first place that names it sees it. There may be millions, so the place's
  // path is not kept.
  struct Decision {
    bool made = false;
    std::optional<DType> from;  // nullopt: bytes without a dtype
    std::optional<DType> to;    // nullopt: stays
  };

  absl::Status ParseTargets() {
    SCONCE_ASSIGN_OR_RETURN(default_, ParseTarget(cast_.dtype));
    std::vector<std::string> patterns;
    for (const DtypeRule& rule : cast_.rules) {
      SCONCE_ASSIGN_OR_RETURN(const std::optional<DType> target, ParseTarget(rule.dtype));
      targets_.push_back(target);
      patterns.push_back(rule.pattern);
    }
    SCONCE_ASSIGN_OR_RETURN(rules_, PatternSet::Compile(patterns));
    return absl::OkStatus();
  }

  // The nodes that are parts of something whose parts belong together.
  void FindUntouched() {
    untouched_.assign(manifest_.nodes.size(), false);
    for (size_t i = manifest_.nodes.size(); i-- > 0;) {  // parents come after their children
      const Node& node = manifest_.nodes[i];
      const bool whole = node.kind == NodeKind::kQuantizedTensor || node.kind == NodeKind::kTensorSubclass ||
                         node.kind == NodeKind::kNumpyArray;
      if (whole) untouched_[i] = true;
      if (!untouched_[i]) continue;
      for (const NodeIndex child : node.children) untouched_[child] = true;
    }
  }

  absl::Status Decide() {
    decisions_.resize(manifest_.storages.size() + manifest_.tensors.size());
    std::vector<size_t> outcomes;
    for (const std::optional<DType>& target : targets_) {
      outcomes.push_back(target == default_ ? 0 : target.has_value() ? static_cast<size_t>(*target) : 256);
    }
    outcomes_ = std::move(outcomes);
    return ForEachPlace(
        [this](absl::string_view path, NodeIndex node, size_t rule) { return Found(path, node, rule); });
  }

  absl::Status ForEachPlace(absl::FunctionRef<absl::Status(absl::string_view, NodeIndex, size_t)> visit) const {
    const auto wanted = [this](NodeIndex i) {
      return manifest_.nodes[i].tensor != kNoIndex || manifest_.nodes[i].kind == NodeKind::kStorage;
    };
    return WalkPlaces(manifest_, rules_, outcomes_, wanted, visit);
  }

  // The first place that a decision was made at.
  std::string PathOf(size_t decision) const {
    std::string found;
    const absl::Status status = ForEachPlace([&](absl::string_view path, NodeIndex node, size_t) -> absl::Status {
      if (DecisionOf(manifest_.nodes[node]) != decision) return absl::OkStatus();
      found = std::string(path.substr(0, kMaxShownPathBytes));
      return absl::CancelledError();
    });
    SCONCE_CHECK(absl::IsCancelled(status));
    return found;
  }

  size_t DecisionOf(const Node& node) const {
    if (node.kind == NodeKind::kStorage) return static_cast<size_t>(node.integer);
    const StorageIndex storage = manifest_.tensors[node.tensor].storage;
    return storage != kNoIndex ? storage : manifest_.storages.size() + node.tensor;
  }

  std::optional<DType> DtypeOf(const Node& node) const {
    return node.kind == NodeKind::kStorage ? ParseDType(ToAbsl(node.text)) : manifest_.tensors[node.tensor].dtype;
  }

  absl::Status Found(absl::string_view path, NodeIndex index, size_t rule) {
    const Node& node = manifest_.nodes[index];
    const std::optional<DType> from = DtypeOf(node);
    std::optional<DType> to = rule == PatternSet::kNoPattern ? default_ : targets_[rule];
    if (untouched_[index] || !from.has_value() || !CanConvertFrom(*from) || to == from) to.reset();
    const size_t number = DecisionOf(node);
    Decision& decision = decisions_[number];
    if (!decision.made) {
      decision = {true, from, to};
      if (!to.has_value()) return absl::OkStatus();
      order_.push_back(number);
      const auto [row, added] = rows_.emplace(std::make_pair(*from, *to), plan_.changes.size());
      if (added) plan_.changes.push_back({*from, *to, 0, 0, 0, std::string(path.substr(0, kMaxShownPathBytes))});
      return absl::OkStatus();
    }
    if (to == decision.to && (from == decision.from || !to.has_value())) return absl::OkStatus();
    const std::string first = PathOf(number), second(path.substr(0, kMaxShownPathBytes));
    return MakeError(Reason::CAST_RULE_SPLITS_STORAGE,
                     absl::StrCat(Quoted(first), " and ", Quoted(second), " share one storage, but the first ",
                                  Outcome(decision.from, decision.to), " and the second ", Outcome(from, to),
                                  "; cast both alike, or leave both as they are with a rule without dtype"),
                     {{"path", first.substr(0, 200)}, {"other_path", second.substr(0, 200)}});
  }

  static std::string Outcome(std::optional<DType> from, std::optional<DType> to) {
    const absl::string_view was = from.has_value() ? DTypeName(*from) : "untyped";
    return to.has_value() ? absl::StrCat("goes from ", was, " to ", DTypeName(*to)) : absl::StrCat("stays ", was);
  }

  absl::Status ChangeStorages() {
    plan_.storages.resize(manifest_.storages.size());
    int64_t inlined = 0, total = 0;
    bool forget_chunks = false;
    for (const size_t number : order_) {
      const Decision& decision = decisions_[number];
      if (number >= manifest_.storages.size()) continue;  // a tensor without a storage
      const auto index = static_cast<StorageIndex>(number);
      const int64_t before = manifest_.storages[index].size_bytes;
      SCONCE_RETURN_IF_ERROR(ChangeStorage(index, *decision.from, *decision.to, inlined));
      const int64_t after = manifest_.storages[index].size_bytes;
      forget_chunks = forget_chunks || IsBulk(manifest_.storages[index]);
      Count(decision, before, after);
    }
    for (const Storage& storage : manifest_.storages) {
      if (!IsMetaDevice(storage.device) && __builtin_add_overflow(total, storage.size_bytes, &total)) {
        return TooLarge("all storages together would have more than 2^63 bytes");
      }
    }
    if (!forget_chunks) return absl::OkStatus();
    for (Storage& storage : manifest_.storages) storage.chunks.clear();
    return absl::OkStatus();
  }

  absl::Status ChangeStorage(StorageIndex index, DType from, DType to, int64_t& inlined) {
    Storage& storage = manifest_.storages[index];
    const int64_t elements = storage.size_bytes / ElementBytes(from);
    const bool was_bulk = IsBulk(storage);
    if (__builtin_mul_overflow(elements, ElementBytes(to), &storage.size_bytes)) {
      return TooLarge("a storage would have more than 2^63 bytes");
    }
    if (IsMetaDevice(storage.device)) return absl::OkStatus();
    StorageCast& change = plan_.storages[index];
    change.from = from;
    change.to = to;
    std::string source = std::move(storage.inline_bytes);
    storage.inline_bytes.clear();
    storage.chunks.clear();
    if (IsBulk(storage)) {
      change.inline_bytes = std::move(source);
      return absl::OkStatus();
    }
    source.resize(static_cast<size_t>(elements * ElementBytes(from)));
    if (was_bulk) {
      inlined += storage.size_bytes;
      if (inlined > kMaxCastInlineBytes) {
        return TooLarge(absl::StrCat("storages of at most ", kInlineStorageBytes, " bytes would have more than ",
                                     HumanBytes(kMaxCastInlineBytes), " together; select fewer tensors"));
      }
      SCONCE_RETURN_IF_ERROR(
          bytes_.Read(index, 0, absl::MakeSpan(reinterpret_cast<uint8_t*>(source.data()), source.size())));
    }
    storage.inline_bytes.resize(static_cast<size_t>(storage.size_bytes));
    ConvertFloats(from, to, reinterpret_cast<const uint8_t*>(source.data()), static_cast<size_t>(elements),
                  reinterpret_cast<uint8_t*>(storage.inline_bytes.data()));
    return absl::OkStatus();
  }

  void Count(const Decision& decision, int64_t before, int64_t after) {
    CastDtype& row = plan_.changes[rows_.at({*decision.from, *decision.to})];
    ++row.storages;
    if (__builtin_add_overflow(row.bytes_before, before, &row.bytes_before)) row.bytes_before = INT64_MAX;
    if (__builtin_add_overflow(row.bytes_after, after, &row.bytes_after)) row.bytes_after = INT64_MAX;
  }

  absl::Status ChangeTensors() {
    for (size_t i = 0; i < manifest_.nodes.size(); ++i) {
      Node& node = manifest_.nodes[i];
      if (untouched_[i] || (node.tensor == kNoIndex && node.kind != NodeKind::kStorage)) continue;
      const std::optional<DType> to = decisions_[DecisionOf(node)].to;
      if (!to.has_value()) continue;
      if (node.kind == NodeKind::kStorage) {
        node.text = std::string(ToStd(DTypeName(*to)));
        continue;
      }
      TensorView& view = manifest_.tensors[node.tensor];
      view.dtype = *to;
      if (ViewEndBytes(view) < 0) return TooLarge("a tensor would have more than 2^63 bytes");
    }
    return absl::OkStatus();
  }

  const DtypeCast& cast_;
  StorageBytes& bytes_;
  CastPlan& plan_;
  Manifest& manifest_;
  std::optional<DType> default_;
  std::vector<std::optional<DType>> targets_;  // of the rules
  PatternSet rules_;
  std::vector<size_t> outcomes_;                    // of the rules, as WalkPlaces has them
  std::vector<bool> untouched_;                     // for each node
  std::vector<Decision> decisions_;                 // for each storage, then for each tensor in case it has none
  std::vector<size_t> order_;                       // those of them that change, as they were found
  std::map<std::pair<DType, DType>, size_t> rows_;  // to indices of plan_.changes
};

}  // namespace

std::string CastTargets() {
  return absl::StrJoin(kTargets, ", ", [](std::string* out, DType dtype) { absl::StrAppend(out, DTypeName(dtype)); });
}

absl::StatusOr<CastPlan> PlanCast(Manifest manifest, const DtypeCast& cast, StorageBytes& bytes) {
  CastPlan plan;
  plan.manifest = std::move(manifest);
  if (cast.empty()) {
    plan.storages.resize(plan.manifest.storages.size());
    return plan;
  }
  SCONCE_RETURN_IF_ERROR(CastPlanner(cast, bytes, plan).Run());
  plan.manifest.derived = true;
  return plan;
}

}  // namespace sconce::format
