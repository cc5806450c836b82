#include "server/services/plan_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "proto/wire/tree_codec.h"
#include "server/services/convert.h"
#include "server/services/warm_start.h"
#include "storage/format/selection.h"

namespace sconce::services {
namespace {

constexpr size_t kMaxErrorTextBytes = size_t{64} << 10;
constexpr size_t kMaxClassNameBytes = 256;
constexpr size_t kEntryOverhead = 8;  // tag and length of one of a list's entries

// What a fetch of the matched keys moves: whole storages, each once.
int64_t TransferBytes(const format::Manifest& matched) {
  int64_t bytes = 0;
  for (const format::Storage& storage : matched.storages) {
    if (!format::IsMetaDevice(storage.device)) bytes += storage.size_bytes;
  }
  return bytes;
}

std::string Valid(const std::string& text) {
  return ToValidUtf8(ToAbsl(text));
}

// The name in the checkpoint, where it is another.
std::string SourceName(const format::SourceKey& source, const format::TargetKey& target) {
  return source.key == target.key ? "" : Valid(source.key);
}

template <typename Item>
int64_t Count(const std::vector<Item>& list) {
  return static_cast<int64_t>(list.size());
}

}  // namespace

absl::StatusOr<std::unique_ptr<PlanAnswer>> PlanAnswer::Make(repository::Repository& repository, rpc::CallScope& scope,
                                                             const v1::PlanLoadRequest& request) {
  SCONCE_ASSIGN_OR_RETURN(const repository::CheckpointRef ref, CheckpointRefFromName(ToAbsl(request.name())));
  scope.SetResource(ToAbsl(request.name()));
  if (request.target_class().size() > kMaxClassNameBytes) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("target_class is longer than ", kMaxClassNameBytes, " bytes"),
                     {{"field", "target_class"}});
  }
  SCONCE_ASSIGN_OR_RETURN(WarmStart wanted, ReadLoadPlan(repository, request.plan()));
  if (!wanted.target.has_value()) {
    return MakeError(Reason::ARGUMENT_INVALID, "there is no target; give plan.module or plan.target_keys",
                     {{"field", "plan.target_keys"}});
  }
  SCONCE_RETURN_IF_ERROR(scope.CheckCancelled());
  SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const repository::OpenCheckpoint> open, repository.OpenRead(ref));
  std::unique_ptr<PlanAnswer> answer(new PlanAnswer());
  v1::PlanLoadResponse::Summary& summary = answer->summary_;
  *summary.mutable_checkpoint() = ToProto(open->info());
  scope.SetResource(ToAbsl(summary.checkpoint().name()));
  if (open->info().kind == repository::CheckpointKind::kOpaque) {
    return MakeError(
        Reason::CHECKPOINT_OPAQUE,
        absl::StrCat(summary.checkpoint().name(), " holds opaque bytes, in which no state_dict can be seen"),
        {{"checkpoint", summary.checkpoint().name()}});
  }
  SCONCE_ASSIGN_OR_RETURN(const format::Selected selected,
                          format::Select(open->manifest(), wire::FromProto(request.selection())));
  answer->target_ = *std::move(wanted.target);
  const format::LoadTarget& target = answer->target_;
  SCONCE_ASSIGN_OR_RETURN(answer->source_,
                          format::ReadStateDict(selected.manifest, ToAbsl(request.selection().root())));
  SCONCE_ASSIGN_OR_RETURN(answer->plan_, format::PlanLoad(selected.manifest, answer->source_, wanted.rules, target));
  const format::LoadPlan& plan = answer->plan_;
  const std::string class_name =
      request.target_class().empty() ? std::string(ToStd(DefaultClassName(target))) : request.target_class();
  SCONCE_RETURN_IF_ERROR(CheckAgainst(wanted, target, plan, ToAbsl(class_name)));

  summary.set_target_key_count(Count(target.keys));
  summary.set_source_key_count(Count(answer->source_.keys));
  summary.set_matched_count(Count(plan.matched));
  summary.set_missing_count(Count(plan.missing));
  summary.set_unexpected_count(Count(plan.unexpected));
  summary.set_mismatched_count(Count(plan.mismatched));
  int64_t converted = 0;
  for (const format::LoadPlan::Match& match : plan.matched) converted += match.converts ? 1 : 0;
  summary.set_converted_count(converted);
  summary.set_match_rate(plan.match_rate());
  summary.set_transfer_bytes(
      TransferBytes(format::KeepMatched(selected.manifest, answer->source_, plan, target).manifest));
  summary.set_error(Valid(format::LoadError(plan, target, /*strict=*/true, ToAbsl(class_name), kMaxErrorTextBytes)));
  summary.set_hint(Valid(format::SuggestRules(plan, target)));
  return answer;
}

size_t PlanAnswer::SizeOfList() const {
  const size_t sizes[kLists] = {plan_.matched.size(), plan_.missing.size(), plan_.unexpected.size(),
                                plan_.mismatched.size(), plan_.defaulted.size()};
  return sizes[list_];
}

size_t PlanAnswer::AddNext(v1::PlanLoadResponse& response) const {
  switch (list_) {
    case 0: {
      const format::LoadPlan::Match& match = plan_.matched[next_];
      const format::SourceKey& source = source_.keys[match.source];
      const format::TargetKey& target = target_.keys[match.target];
      v1::MatchedKey& added = *response.add_matched();
      added.set_key(target.key);
      added.set_source_key(SourceName(source, target));
      if (match.converts) {
        added.set_source_dtype(source.dtype);
        added.set_target_dtype(target.dtype);
      }
      return added.ByteSizeLong();
    }
    case 1:
      response.add_missing_keys(target_.keys[plan_.missing[next_]].key);
      return response.missing_keys().rbegin()->size();
    case 2:
      response.add_unexpected_keys(Valid(plan_.keys[plan_.unexpected[next_]]));
      return response.unexpected_keys().rbegin()->size();
    case 3: {
      const format::LoadPlan::Mismatch& mismatch = plan_.mismatched[next_];
      const format::SourceKey& source = source_.keys[mismatch.source];
      const format::TargetKey& target = target_.keys[mismatch.target];
      v1::MismatchedKey& added = *response.add_mismatched();
      added.set_key(target.key);
      added.set_source_key(SourceName(source, target));
      added.set_message(Valid(mismatch.message));
      *added.mutable_source_shape() = {source.shape.begin(), source.shape.end()};
      *added.mutable_target_shape() = {target.shape.begin(), target.shape.end()};
      added.set_source_dtype(Valid(source.dtype));
      added.set_target_dtype(target.dtype);
      return added.ByteSizeLong();
    }
    default:
      response.add_defaulted_keys(target_.keys[plan_.defaulted[next_]].key);
      return response.defaulted_keys().rbegin()->size();
  }
}

void PlanAnswer::Fill(size_t max_bytes, size_t max_keys, v1::PlanLoadResponse& response) {
  if (!std::exchange(summary_told_, true)) *response.mutable_summary() = summary_;
  size_t bytes = response.ByteSizeLong();
  for (size_t keys = 0;; ++keys, ++next_) {
    for (; list_ < kLists && next_ == SizeOfList(); ++list_) next_ = 0;
    if (list_ == kLists || keys == max_keys || bytes >= max_bytes) return;
    bytes += kEntryOverhead + AddNext(response);
  }
}

}  // namespace sconce::services
