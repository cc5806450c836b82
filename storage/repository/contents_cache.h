#ifndef SCONCE_STORAGE_REPOSITORY_CONTENTS_CACHE_H_
#define SCONCE_STORAGE_REPOSITORY_CONTENTS_CACHE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "base/mutex.h"
#include "storage/catalog/keys.h"

namespace sconce::repository {

struct Contents;  // stored_object.cc

// The manifests and chunk places of the few large versions opened last: a version of 100,000 tensors takes half a
// second to open, and is opened once a page when it is described. Thread-safe.
class ContentsCache {
 public:
  // An object at one generation of its record: any change of the record, quarantine and healing among them, makes it
  // another key.
  struct Key {
    catalog::Owner owner;
    int64_t generation = 0;
  };

  // Null when it is not there.
  std::shared_ptr<const Contents> Find(const Key& key);
  void Insert(const Key& key, std::shared_ptr<const Contents> contents);
  // Lets go of everything: the blobs of what is being deleted must not be held open here.
  void Clear();

 private:
  static constexpr size_t kMaxEntries = 2;

  Mutex mu_;
  std::list<std::pair<Key, std::shared_ptr<const Contents>>> entries_ ABSL_GUARDED_BY(mu_);  // the last used first
};

}  // namespace sconce::repository

#endif  // SCONCE_STORAGE_REPOSITORY_CONTENTS_CACHE_H_
