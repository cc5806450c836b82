#ifndef SCONCE_STORAGE_REPOSITORY_COLLECT_STEP_H_
#define SCONCE_STORAGE_REPOSITORY_COLLECT_STEP_H_

#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "storage/catalog/catalog.h"
#include "storage/repository/removal_gate.h"

// What the stages of the collector's pass share. A stage is a class with a method
//
//   absl::Status Run(const StopSignal& stop, CollectReport& report);
//
// that is called by one pass at a time. It works in bounded batches, each of which leaves the catalog consistent, looks
// at `stop` between them, and finds what remains to be done in the catalog: so it may end anywhere.
namespace sconce::repository {

// Says that a pass should end: the repository is closing, or `gate` (if any, it outlives this) is wanted by a backup.
// Thread-safe.
class StopSignal {
 public:
  explicit StopSignal(const RemovalGate* gate = nullptr) : gate_(gate) {}
  void Request();
  bool Requested() const;
  // Returns after `timeout`, or at once when the repository closes: then true.
  bool WaitFor(absl::Duration timeout) const;

 private:
  const RemovalGate* const gate_;
  mutable Mutex mu_;
  mutable CondVar changed_;
  bool requested_ ABSL_GUARDED_BY(mu_) = false;
};

// How a stage that may take long gives way; without functions it does not.
struct Pace {
  std::function<void(absl::Duration)> wait;  // between two pieces; may return early, when there is reason to hurry
  std::function<bool()> yield;               // true: end after the piece in work, there is something else to do
};

inline constexpr size_t kStep = 1000;  // chunks, or keys, of a batch

using KeyAndValue = std::pair<std::string, std::string>;

// The first `limit` of the prefix.
absl::StatusOr<std::vector<KeyAndValue>> FirstOf(const catalog::CatalogReader& reader, const std::string& prefix,
                                                 size_t limit);

// Visits the prefix in order, kStep entries read at a time, so `visit` may change the catalog; it sees what was there
// when its step was read. Ends with the first error, or quietly when `stop` is requested.
absl::Status VisitInSteps(const catalog::CatalogReader& reader, const std::string& prefix, const StopSignal& stop,
                          absl::FunctionRef<absl::Status(const std::string& key, const std::string& value)> visit);

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_COLLECT_STEP_H_
