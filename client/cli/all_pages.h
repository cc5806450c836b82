#ifndef SCONCE_CLIENT_CLI_ALL_PAGES_H_
#define SCONCE_CLIENT_CLI_ALL_PAGES_H_

#include <utility>

#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "client/cpp/client.h"

namespace sconce::cli {

// The pages of a paged call of the client, merged into one answer without a token:
//
//   AllPages(context.client, &client::Client::ListRuns, request)
template <typename Request, typename Response>
absl::StatusOr<Response> AllPages(client::Client& client,
                                  absl::StatusOr<Response> (client::Client::*call)(const Request&), Request request) {
  constexpr int kPageSize = 1000;
  request.set_page_size(kPageSize);
  Response all;
  do {
    SCONCE_ASSIGN_OR_RETURN(const Response page, (client.*call)(request));
    all.MergeFrom(page);
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  all.clear_next_page_token();
  return all;
}

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_ALL_PAGES_H_
