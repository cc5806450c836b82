#ifndef SCONCE_SERVER_SERVICES_PLAN_ANSWER_H_
#define SCONCE_SERVER_SERVICES_PLAN_ANSWER_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "sconce/v1/checkpoint_service.pb.h"
#include "server/rpc/call.h"
#include "storage/format/load_plan.h"
#include "storage/repository/repository.h"

namespace sconce::services {

// A plan that was made, and how far its lists have been told. Used by one thread at a time.
class PlanAnswer {
 public:
  // What PlanLoad can fail with.
  static absl::StatusOr<std::unique_ptr<PlanAnswer>> Make(repository::Repository& repository, rpc::CallScope& scope,
                                                          const v1::PlanLoadRequest& request);

  // Adds what comes next, the summary first, until the response has about `max_bytes` or `max_keys` keys.
  void Fill(size_t max_bytes, size_t max_keys, v1::PlanLoadResponse& response);
  // True when all of it was told.
  bool done() const { return list_ == kLists; }

 private:
  static constexpr int kLists = 5;  // matched, missing, unexpected, mismatched, defaulted

  PlanAnswer() = default;
  // Adds entry `next_` of list `list_`, and says how large it is.
  size_t AddNext(v1::PlanLoadResponse& response) const;
  size_t SizeOfList() const;

  v1::PlanLoadResponse::Summary summary_;
  bool summary_told_ = false;
  format::StateDict source_;
  format::LoadTarget target_;
  format::LoadPlan plan_;
  int list_ = 0;
  size_t next_ = 0;
};

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_PLAN_ANSWER_H_
