#ifndef SCONCE_SERVER_SERVICES_PAGING_H_
#define SCONCE_SERVER_SERVICES_PAGING_H_

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "proto/wire/page_token.h"
#include "server/services/convert.h"

namespace sconce::services {

// An answer ends early when it has grown to this: clients take 4 MiB by default.
inline constexpr size_t kFullAnswerBytes = size_t{1} << 20;
// How many items are asked for at once. With all labels and metrics an item has at most some 60 KiB.
inline constexpr int64_t kItemsPerStep = 40;

// Answers a list call: `list(start, limit)` gives repository pages, each item is added to the repeated field `items`,
// and `next_page_token` is set when there is more. A repository page that is short and yet not the last one means that
// the call has looked at enough.
template <typename Request, typename Items, typename List>
absl::Status FillPage(const Request& request, Items* items, std::string* next_page_token, List list) {
  SCONCE_ASSIGN_OR_RETURN(const int64_t page_size, wire::PageSize(request.page_size()));
  SCONCE_ASSIGN_OR_RETURN(std::string start, wire::DecodePageToken(request));
  size_t bytes = 0;
  bool enough = false;
  do {
    const int64_t limit = std::min<int64_t>(page_size - items->size(), kItemsPerStep);
    SCONCE_ASSIGN_OR_RETURN(auto page, list(start, limit));
    for (const auto& item : page.items) {
      *items->Add() = ToProto(item);
      bytes += items->Get(items->size() - 1).ByteSizeLong();
    }
    enough = static_cast<int64_t>(page.items.size()) < limit || bytes >= kFullAnswerBytes;
    start = page.next;
  } while (!start.empty() && items->size() < page_size && !enough);
  *next_page_token = wire::EncodePageToken(request, start);
  return absl::OkStatus();
}

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_PAGING_H_
