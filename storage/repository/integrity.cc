#include "storage/repository/integrity.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "storage/catalog/keys.h"

namespace sconce::repository {

template <typename Change>
void IntegrityMonitor::Update(Change change) {
  MutexLock lock(&mu_);
  change(state_);
  if (listener_) listener_(state_);
}

void IntegrityMonitor::SetListener(std::function<void(const Integrity&)> listener) {
  MutexLock lock(&mu_);
  listener_ = std::move(listener);
  listener_(state_);
}

Integrity IntegrityMonitor::state() const {
  MutexLock lock(&mu_);
  return state_;
}

void IntegrityMonitor::CountFailure() {
  Update([](Integrity& state) { ++state.failures; });
}

void IntegrityMonitor::Refresh(const catalog::CatalogReader& reader) {
  int64_t count = 0, versions = 0;
  const std::string prefix = catalog::QuarantinePrefix();
  const absl::Status scanned =
      reader.Scan(prefix, catalog::PrefixEnd(prefix), false, [&](absl::string_view key, absl::string_view) {
        const auto owner = catalog::ParseQuarantineKey(key);
        if (owner && owner->kind == catalog::Owner::Kind::kVersion) ++versions;
        return ++count > 0;
      });
  NoteCatalog(scanned);
  if (scanned.ok())
    Update([count, versions](Integrity& state) {
      state.quarantined = count;
      state.quarantined_versions = versions;
    });
}

void IntegrityMonitor::NoteCatalog(const absl::Status& status) {
  if (status.ok() || !HasReason(status, Reason::CATALOG_CORRUPT)) return;
  bool first = false;
  Update([&first](Integrity& state) {
    first = !std::exchange(state.catalog_corrupt, true);
    if (first) ++state.failures;
  });
  if (first) Log(Severity::kError, "catalog_corrupt", {{"reason", status.message()}});
}

void IntegrityMonitor::SetDamagedFooters(int64_t count) {
  Update([count](Integrity& state) { state.damaged_footers = count; });
}

void IntegrityMonitor::NoteDamagedFooterGone() {
  Update([](Integrity& state) { state.damaged_footers = std::max<int64_t>(0, state.damaged_footers - 1); });
}

void IntegrityMonitor::NoteRound(absl::Time ended) {
  Update([ended](Integrity& state) { state.last_scrub_time = ended; });
}

}  // namespace sconce::repository
