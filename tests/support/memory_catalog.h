#ifndef SCONCE_TESTS_SUPPORT_MEMORY_CATALOG_H_
#define SCONCE_TESTS_SUPPORT_MEMORY_CATALOG_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "storage/catalog/catalog.h"

namespace sconce::catalog {

// A Catalog in memory, for tests: passes the contract suite but for durability. Thread-safe.
class MemoryCatalog final : public Catalog {
 public:
  using Records = std::map<std::string, std::string>;

  absl::StatusOr<std::optional<std::string>> Get(absl::string_view key) const override;
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) const override;
  absl::Status Scan(absl::string_view begin, absl::string_view end, bool reverse,
                    absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const override;
  absl::StatusOr<int64_t> Apply(const ChangeSet& change) override;
  absl::Status Verify() const override;
  std::unique_ptr<CatalogReader> Snapshot() const override;

  // What Verify says from now on.
  void FailVerifyForTest(absl::Status status);

  // Every following Apply, but for the next `spared`, fails with this status and changes nothing; OK ends it.
  void FailApplyForTest(absl::Status status, int spared = 0);

 private:
  std::shared_ptr<const Records> Current() const;

  mutable Mutex mu_;
  // Copied before the next change once a reader has it.
  std::shared_ptr<Records> records_ ABSL_GUARDED_BY(mu_) = std::make_shared<Records>();
  mutable bool handed_out_ ABSL_GUARDED_BY(mu_) = false;
  int64_t revision_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  absl::Status verify_failure_ ABSL_GUARDED_BY(mu_);
  int spared_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sconce::catalog

#endif  // SCONCE_TESTS_SUPPORT_MEMORY_CATALOG_H_
