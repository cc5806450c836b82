// How sealed blobs that an earlier process left are told from those of this one, while this one goes on making more.
// An old blob that the catalog does not know is of a push that died before its batch: it goes to orphans/. One that was
// made a moment ago is not in the catalog either, and must stay.
//
//   1. Before this process makes the file of a new blob, or goes on with an unsealed one, it enters the id here (Made).
//   2. The walk reads the names of one shard directory (Next). A file that this process sealed was entered before it
//      had a name there, so whatever is read and not entered was sealed by an earlier process.
//   3. Those not entered are looked up, after the directory was read: in the catalog as it is now, and among the files
//      of the uploads there were at the start (LocalRepository, BlobSorter).
//   4. What is found is counted, what is not is renamed into orphans/. Nobody comes to know such a blob between 3 and
//      4: only who made a blob, or went on with one, ever names it, and both are entered.
//   5. orphans/ is synced, then the directory they came from: a crash in between may show a blob twice and loses none.
//   6. The walk is past these blobs (Advance). A new blob whose id is not ahead of the walk need not be entered.
//
// A crash at any moment loses nothing: the next process walks from the beginning. Nor does anything depend on when the
// walk takes place: an unknown blob is only space.
//
// What is removed meanwhile: a blob that was read in 2 and is gone in 4 is passed over. Whether a removed blob has been
// counted is what Looked says; LocalBlobStore holds its lock of removals over the counting and 6, so the two agree.
#include "storage/blob/sealed_sort.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sconce::blob {

void SealedSort::Made(const BlobId& id) {
  MutexLock lock(&mu_);
  if (ended_ || (behind_ && !(*behind_ < id))) return;
  made_.insert(id);
}

bool SealedSort::Looked(const BlobId& id) const {
  MutexLock lock(&mu_);
  return ended_ || (behind_ && !(*behind_ < id)) || made_.contains(id);
}

bool SealedSort::ended() const {
  MutexLock lock(&mu_);
  return ended_;
}

absl::StatusOr<bool> SealedSort::LoadShard() {
  if (!projects_read_) {
    SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(paths_.BlobsDir()));
    for (const std::string& name : names) {
      if (const std::optional<uint64_t> uid = ParseProjectDirName(name)) projects_.push_back(*uid);
    }
    std::reverse(projects_.begin(), projects_.end());
    projects_read_ = true;
  }
  while (true) {
    while (!shards_.empty()) {
      const std::string& shard = shards_.back();
      SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                              fs_.List(absl::StrCat(paths_.ProjectDir(project_uid_), "/", shard)));
      names_.clear();
      for (const std::string& name : names) {
        if (const std::optional<BlobId> id = ParseSealedName(project_uid_, shard, name)) names_.push_back(*id);
      }
      next_ = taken_ = 0;
      shards_.pop_back();
      if (!names_.empty()) return true;
    }
    if (projects_.empty()) return false;
    SCONCE_ASSIGN_OR_RETURN(shards_, fs_.List(paths_.ProjectDir(projects_.back())));
    shards_.erase(
        std::remove_if(shards_.begin(), shards_.end(), [](const std::string& name) { return name.size() != 2; }),
        shards_.end());
    std::reverse(shards_.begin(), shards_.end());
    project_uid_ = projects_.back();
    projects_.pop_back();
  }
}

absl::StatusOr<std::vector<BlobId>> SealedSort::Next(int64_t at_most) {
  while (!ended()) {
    if (next_ == names_.size()) {
      SCONCE_ASSIGN_OR_RETURN(const bool more, LoadShard());
      if (!more) break;
    }
    std::vector<BlobId> old;
    MutexLock lock(&mu_);
    for (taken_ = next_; taken_ < names_.size() && static_cast<int64_t>(old.size()) < at_most; ++taken_) {
      if (!made_.contains(names_[taken_])) old.push_back(names_[taken_]);
    }
    if (!old.empty()) return old;
    next_ = taken_;
  }
  MutexLock lock(&mu_);
  ended_ = true;
  made_ = {};
  return std::vector<BlobId>();
}

void SealedSort::Advance() {
  MutexLock lock(&mu_);
  if (taken_ > next_) behind_ = names_[taken_ - 1];
  next_ = taken_;
}

}  // namespace sconce::blob
