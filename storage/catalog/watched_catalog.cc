#include "storage/catalog/watched_catalog.h"

#include <utility>

namespace sconce::catalog {
namespace {

using OnError = std::function<void(const absl::Status&)>;

// What a reader and a catalog share: `Base` is the interface, `inner` what is asked.
template <typename Base>
class Watched : public Base {
 public:
  Watched(std::unique_ptr<Base> inner, std::shared_ptr<const OnError> on_error)
      : inner_(std::move(inner)), on_error_(std::move(on_error)) {}

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override {
    auto result = inner_->Get(key);
    Tell(result.status());
    return result;
  }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override {
    auto result = inner_->MultiGet(keys);
    Tell(result.status());
    return result;
  }
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override {
    absl::Status status = inner_->Scan(begin, end, reverse, visit);
    Tell(status);
    return status;
  }

 protected:
  void Tell(const absl::Status& status) const {
    if (!status.ok() && !FailedConditionKey(status)) (*on_error_)(status);
  }

  const std::unique_ptr<Base> inner_;
  const std::shared_ptr<const OnError> on_error_;
};

class WatchedCatalog final : public Watched<Catalog> {
 public:
  WatchedCatalog(std::unique_ptr<Catalog> inner, std::shared_ptr<const OnError> on_error,
                 std::function<void(const ChangeSet&)> on_applied)
      : Watched(std::move(inner), std::move(on_error)), on_applied_(std::move(on_applied)) {}

  absl::StatusOr<int64_t> Apply(const ChangeSet& change) override {
    auto result = inner_->Apply(change);
    Tell(result.status());
    if (result.ok()) on_applied_(change);
    return result;
  }
  absl::Status Checkpoint(const std::string& directory) override {
    absl::Status status = inner_->Checkpoint(directory);
    Tell(status);
    return status;
  }
  absl::Status Verify() const override {
    absl::Status status = inner_->Verify();
    Tell(status);
    return status;
  }
  std::unique_ptr<CatalogReader> Snapshot() const override {
    return std::make_unique<Watched<CatalogReader>>(inner_->Snapshot(), on_error_);
  }

 private:
  const std::function<void(const ChangeSet&)> on_applied_;
};

}  // namespace

std::unique_ptr<Catalog> Watch(std::unique_ptr<Catalog> catalog, std::function<void(const absl::Status&)> on_error,
                               std::function<void(const ChangeSet&)> on_applied) {
  return std::make_unique<WatchedCatalog>(std::move(catalog), std::make_shared<const OnError>(std::move(on_error)),
                                          std::move(on_applied));
}

}  // namespace sconce::catalog
