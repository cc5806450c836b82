#include "tests/support/memory_catalog.h"

#include <utility>

namespace sconce::catalog {
namespace {

// A state of the catalog that nobody changes any more.
class FrozenCatalog final : public CatalogReader {
 public:
  explicit FrozenCatalog(std::shared_ptr<const MemoryCatalog::Records> records) : records_(std::move(records)) {}

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override {
    const auto it = records_->find(std::string(key));
    if (it == records_->end()) return std::nullopt;
    return std::optional<std::string>(it->second);
  }

  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    std::vector<std::optional<std::string>> values;
    for (const std::string& key : keys) {
      const auto it = records_->find(key);
      values.push_back(it == records_->end() ? std::nullopt : std::optional<std::string>(it->second));
    }
    return values;
  }

  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    const auto first = records_->lower_bound(std::string(begin));
    const auto last = end.empty() ? records_->end() : records_->lower_bound(std::string(end));
    if (!end.empty() && begin >= end) return absl::OkStatus();
    if (reverse) {
      for (auto it = last; it != first;) {
        --it;
        if (!visit(it->first, it->second)) break;
      }
    } else {
      for (auto it = first; it != last && visit(it->first, it->second);) ++it;
    }
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<const MemoryCatalog::Records> records_;
};

}  // namespace

std::shared_ptr<const MemoryCatalog::Records> MemoryCatalog::Current() const {
  MutexLock lock(&mu_);
  handed_out_ = true;
  return records_;
}

absl::StatusOr<std::optional<std::string>> MemoryCatalog::Get(absl::string_view key) const {
  MutexLock lock(&mu_);
  const auto it = records_->find(std::string(key));
  if (it == records_->end()) return std::nullopt;
  return std::optional<std::string>(it->second);
}

absl::StatusOr<std::vector<std::optional<std::string>>> MemoryCatalog::MultiGet(
    absl::Span<const std::string> keys) const {
  return FrozenCatalog(Current()).MultiGet(keys);
}

absl::Status MemoryCatalog::Scan(absl::string_view begin, absl::string_view end, bool reverse,
                                 absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const {
  return FrozenCatalog(Current()).Scan(begin, end, reverse, visit);
}

absl::StatusOr<int64_t> MemoryCatalog::Apply(const ChangeSet& change) {
  MutexLock lock(&mu_);
  if (!failure_.ok() && spared_-- <= 0) return failure_;
  for (const Condition& condition : change.conditions) {
    const auto it = records_->find(condition.key);
    const bool holds = it == records_->end() ? !condition.value : condition.value == it->second;
    if (!holds) return ConditionFailed(condition.key);
  }
  // Not by use_count(): that it is 1 again does not order this change after what the last reader read.
  if (std::exchange(handed_out_, false)) records_ = std::make_shared<Records>(*records_);
  for (const std::string& key : change.deletes) records_->erase(key);
  for (const auto& [key, value] : change.puts) (*records_)[key] = value;
  for (const std::string& entry : change.log) (*records_)[LogKey(++revision_)] = entry;
  return revision_;
}

std::unique_ptr<CatalogReader> MemoryCatalog::Snapshot() const {
  return std::make_unique<FrozenCatalog>(Current());
}

absl::Status MemoryCatalog::Verify() const {
  MutexLock lock(&mu_);
  return verify_failure_;
}

void MemoryCatalog::FailVerifyForTest(absl::Status status) {
  MutexLock lock(&mu_);
  verify_failure_ = std::move(status);
}

void MemoryCatalog::FailApplyForTest(absl::Status status, int spared) {
  MutexLock lock(&mu_);
  failure_ = std::move(status);
  spared_ = spared;
}

}  // namespace sconce::catalog
