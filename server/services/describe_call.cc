// The tree of a version, page by page.
//
// A selector may come to mean another version between two pages, so the page token holds the number that the first page
// resolved it to, beside the number of the next entry: "12:500".
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "proto/wire/page_token.h"
#include "proto/wire/tree_codec.h"
#include "server/services/checkpoint_calls.h"
#include "server/services/convert.h"
#include "server/services/paging.h"

namespace sconce::services {
namespace {

constexpr int64_t kEntriesPerStep = 256;

struct Position {
  std::string version;  // "" on the first page
  int64_t entry = 0;
};

absl::StatusOr<Position> ParsePosition(const std::string& start) {
  if (start.empty()) return Position{};
  const std::vector<std::string> parts = absl::StrSplit(start, ':');
  Position position;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &position.entry) || position.entry <= 0) {
    return MakeError(Reason::PAGE_TOKEN_INVALID,
                     "page_token does not belong to DescribeCheckpoint; start again without one");
  }
  position.version = parts[0];
  return position;
}

// The manifest as selected and mapped.
struct View {
  std::optional<format::Manifest> changed;  // absent: the stored one as it is
  std::vector<format::MappedDevice> mapped;
};

absl::StatusOr<View> MakeView(const format::Manifest& stored, const v1::DescribeCheckpointRequest& request) {
  View view;
  const format::Selection selection = wire::FromProto(request.selection());
  const format::DeviceMapping mapping = wire::FromProto(request.device_mapping());
  if (!selection.empty()) {
    SCONCE_ASSIGN_OR_RETURN(format::Selected selected, format::Select(stored, selection));
    view.changed = std::move(selected.manifest);
  }
  if (!mapping.empty()) {
    if (!view.changed.has_value()) view.changed = stored;
    SCONCE_ASSIGN_OR_RETURN(view.mapped, format::MapDevices(mapping, *view.changed));
  }
  return view;
}

}  // namespace

absl::Status DescribeCheckpoint(Repository& repository, CallScope& scope, const v1::DescribeCheckpointRequest& request,
                                v1::DescribeCheckpointResponse& response) {
  SCONCE_ASSIGN_OR_RETURN(repository::CheckpointRef ref, CheckpointRefFromName(request.name()));
  SCONCE_ASSIGN_OR_RETURN(const int64_t page_size, wire::PageSize(request.page_size()));
  SCONCE_ASSIGN_OR_RETURN(const std::string start, wire::DecodePageToken(request));
  SCONCE_ASSIGN_OR_RETURN(const Position position, ParsePosition(start));
  scope.SetResource(request.name());
  if (!position.version.empty()) ref.selector = position.version;

  SCONCE_ASSIGN_OR_RETURN(const std::shared_ptr<const repository::OpenCheckpoint> open, repository.OpenRead(ref));
  const repository::Checkpoint& info = open->info();
  *response.mutable_checkpoint() = ToProto(info);
  scope.SetResource(response.checkpoint().name());
  if (info.kind == repository::CheckpointKind::kOpaque) {
    return MakeError(Reason::CHECKPOINT_OPAQUE,
                     absl::StrCat("version ", info.version, " of run ", info.run.run,
                                  " holds opaque bytes, which have no tree; use ExportCheckpoint to get them"),
                     {{"checkpoint", response.checkpoint().name()}});
  }

  SCONCE_ASSIGN_OR_RETURN(const View view, MakeView(open->manifest(), request));
  const format::Manifest& manifest = view.changed.has_value() ? *view.changed : open->manifest();
  if (position.entry == 0) {
    *response.mutable_totals() = wire::ToProto(format::CountTotals(manifest));
    for (const format::MappedDevice& mapped : view.mapped) *response.add_mapped_devices() = wire::ToProto(mapped);
  }

  int64_t next = position.entry;
  size_t bytes = 0;
  while (next >= 0 && response.entries_size() < page_size && bytes < kFullAnswerBytes) {
    SCONCE_RETURN_IF_ERROR(scope.CheckCancelled());
    SCONCE_ASSIGN_OR_RETURN(
        const format::EntryPage page,
        format::ListEntries(manifest, next, std::min(page_size - response.entries_size(), kEntriesPerStep)));
    int64_t taken = 0;
    for (const format::Entry& entry : page.entries) {
      *response.add_entries() = wire::ToProto(entry);
      bytes += response.entries(response.entries_size() - 1).ByteSizeLong();
      ++taken;
      if (bytes >= kFullAnswerBytes) break;
    }
    const bool all_taken = taken == static_cast<int64_t>(page.entries.size());
    next = all_taken ? page.next : next + taken;
  }
  if (next >= 0) {
    *response.mutable_next_page_token() = wire::EncodePageToken(request, absl::StrCat(info.version, ":", next));
  }
  return absl::OkStatus();
}

}  // namespace sconce::services
