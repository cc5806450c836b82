#include "storage/repository/collect_step.h"

#include "base/status_macros.h"
#include "storage/catalog/keys.h"

namespace sconce::repository {
namespace {

absl::StatusOr<std::vector<KeyAndValue>> Between(const catalog::CatalogReader& reader, const std::string& begin,
                                                 const std::string& end, size_t limit) {
  std::vector<KeyAndValue> found;
  SCONCE_RETURN_IF_ERROR(reader.Scan(begin, end, false, [&](absl::string_view key, absl::string_view value) {
    found.emplace_back(std::string(key), std::string(value));
    return found.size() < limit;
  }));
  return found;
}

}  // namespace

void StopSignal::Request() {
  MutexLock lock(&mu_);
  requested_ = true;
  changed_.SignalAll();
}

bool StopSignal::Requested() const {
  if (gate_ != nullptr && gate_->Wanted()) return true;
  MutexLock lock(&mu_);
  return requested_;
}

bool StopSignal::WaitFor(absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(&mu_);
  while (!requested_) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) break;
    changed_.WaitWithTimeout(&mu_, left);
  }
  return requested_;
}

absl::StatusOr<std::vector<KeyAndValue>> FirstOf(const catalog::CatalogReader& reader, const std::string& prefix,
                                                 size_t limit) {
  return Between(reader, prefix, catalog::PrefixEnd(prefix), limit);
}

absl::Status VisitInSteps(const catalog::CatalogReader& reader, const std::string& prefix, const StopSignal& stop,
                          absl::FunctionRef<absl::Status(const std::string& key, const std::string& value)> visit) {
  std::string begin = prefix;
  while (true) {
    SCONCE_ASSIGN_OR_RETURN(const auto step, Between(reader, begin, catalog::PrefixEnd(prefix), kStep));
    for (const auto& [key, value] : step) {
      if (stop.Requested()) return absl::OkStatus();
      SCONCE_RETURN_IF_ERROR(visit(key, value));
    }
    if (step.size() < kStep) return absl::OkStatus();
    begin = step.back().first + '\0';
  }
}

}  // namespace sconce::repository
