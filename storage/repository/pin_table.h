#ifndef SCONCE_STORAGE_REPOSITORY_PIN_TABLE_H_
#define SCONCE_STORAGE_REPOSITORY_PIN_TABLE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/mutex.h"

namespace sconce::repository {

// Which chunks pushes in progress rely on, so that the collector does not drop a chunk between the moment a push found
// it stored and the commit that refers to it. A push pins every chunk before it looks it up; the collector condemns
// chunks while it drops their records, and pinning one of those waits for the (short) end of that. In memory: pushes do
// not survive a restart either. Thread-safe.
class PinTable {
 public:
  // May wait for the collector.
  void Pin(uint64_t project_uid, absl::Span<const Digest> chunks);
  void Unpin(uint64_t project_uid, absl::Span<const Digest> chunks);

  // For the collector. Condemns the chunks that nobody has pinned, and says which those are. Follow with Absolve.
  std::vector<bool> Condemn(uint64_t project_uid, absl::Span<const Digest> chunks);
  void Absolve(uint64_t project_uid, absl::Span<const Digest> chunks, const std::vector<bool>& condemned);

 private:
  static constexpr int kCondemned = -1;
  using Key = std::pair<uint64_t, Digest>;

  Mutex mu_;
  CondVar absolved_;
  absl::flat_hash_map<Key, int> pins_ ABSL_GUARDED_BY(mu_);  // how many pushes, or kCondemned
};

// The pins of one push, released together. Thread-safe.
class PinSet {
 public:
  PinSet(PinTable& table, uint64_t project_uid) : table_(table), project_uid_(project_uid) {}
  ~PinSet() { table_.Unpin(project_uid_, chunks_); }
  PinSet(const PinSet&) = delete;
  PinSet& operator=(const PinSet&) = delete;

  // Requires: a chunk is added once.
  void Add(absl::Span<const Digest> chunks);

 private:
  PinTable& table_;
  const uint64_t project_uid_;
  Mutex mu_;
  std::vector<Digest> chunks_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_PIN_TABLE_H_
