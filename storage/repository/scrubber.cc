#include "storage/repository/scrubber.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "storage/catalog/keys.h"
#include "storage/repository/lookup.h"
#include "storage/repository/object_check.h"

namespace sconce::repository {
namespace {

// What a version's records count against the rate: they are read through the catalog's cache and the page cache.
constexpr int64_t kObjectBytes = 4096;
constexpr absl::Duration kBetweenSaves = absl::Minutes(1);
constexpr absl::Duration kAfterError = absl::Minutes(1);

}  // namespace

Scrubber::Scrubber(Store& store, int64_t bytes_per_second)
    : store_(store), bytes_per_second_(bytes_per_second), rate_(bytes_per_second, *store.options.clock) {}

Scrubber::~Scrubber() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Scrubber::Start() {
  if (bytes_per_second_ > 0) thread_ = std::thread([this] { Work(); });
}

bool Scrubber::WaitFor(absl::Duration time) {
  const absl::Time until = absl::Now() + time;
  MutexLock lock(&mu_);
  while (!stopping_ && absl::Now() < until) wake_.WaitWithTimeout(&mu_, until - absl::Now());
  return !stopping_;
}

void Scrubber::Work() {
  ::pthread_setname_np(::pthread_self(), "scrubber");
  absl::Duration wait = absl::ZeroDuration();
  while (WaitFor(wait)) {
    const absl::StatusOr<absl::Duration> next = Step();
    wait = next.value_or(kAfterError);
    if (!next.ok()) Log(Severity::kError, "scrub_failed", {{"reason", next.status().ToString()}});
  }
}

absl::StatusOr<absl::Duration> Scrubber::Step() {
  MutexLock lock(&step_mu_);
  const auto step = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mu_) -> absl::StatusOr<absl::Duration> {
    if (!loaded_) SCONCE_RETURN_IF_ERROR(Load());
    if (position_.round_begin_ns() != 0 && position_.ended()) {
      const int64_t next = position_.round_begin_ns() + absl::ToInt64Nanoseconds(kRoundInterval);
      if (const int64_t left = next - store_.NowNanos(); left > 0) return absl::Nanoseconds(left);
    }
    if (position_.round_begin_ns() == 0 || position_.ended()) {
      position_.Clear();
      position_.set_round_begin_ns(store_.NowNanos());
      BeginWalk();
    }
    return position_.blobs_done() ? StepObjects() : StepBlobs();
  };
  absl::StatusOr<absl::Duration> wait = step();
  if (!wait.ok()) {
    store_.integrity.NoteCatalog(wait.status());
    blob_.reset();
    loaded_ = false;  // from where it was saved
  }
  return wait;
}

absl::Status Scrubber::Load() {
  SCONCE_ASSIGN_OR_RETURN(const auto stored, ReadRecord<records::ScrubRecord>(*store_.catalog, catalog::ScrubKey()));
  position_ = stored ? stored->record : records::ScrubRecord();
  BeginWalk();
  loaded_ = true;
  return absl::OkStatus();
}

absl::Status Scrubber::Save() {
  position_.set_damaged_footers(findings_.damaged_footers);
  catalog::ChangeSet change;
  change.puts.emplace_back(catalog::ScrubKey(), position_.SerializeAsString());
  saved_ = store_.options.clock->Now();
  return store_.catalog->Apply(change).status();
}

void Scrubber::BeginWalk() {
  findings_ = {};
  findings_.damaged_footers = position_.damaged_footers();
  blobs_.emplace(*store_.catalog, catalog::BlobPrefix(), position_.after_blob());
  owners_.emplace(*store_.catalog, 0, position_.run_uid());
}

absl::StatusOr<absl::Duration> Scrubber::StepBlobs() {
  if (!blob_) {
    SCONCE_ASSIGN_OR_RETURN(const auto entry, blobs_->Next());
    if (!entry) {
      position_.set_blobs_done(true);
      position_.clear_after_blob();
      buffer_.reset();
      SCONCE_RETURN_IF_ERROR(Save());
      return absl::ZeroDuration();
    }
    blob_key_ = entry->first;
    const auto fields = catalog::ParseBlobKey(entry->first);
    if (!fields) return MakeError(Reason::CATALOG_CORRUPT, "the key of a blob does not parse");
    if (buffer_ == nullptr) buffer_ = std::make_unique<blob::AlignedBuffer>(BlobCheck::kBufferBytes);
    blob_.emplace(store_, blob::BlobId{fields->project_uid, fields->id}, nullptr, *buffer_, findings_);
  }
  SCONCE_ASSIGN_OR_RETURN(const int64_t bytes, blob_->Step());
  if (blob_->done()) {
    blob_.reset();
    position_.set_after_blob(blob_key_);
    if (store_.options.clock->Now() - saved_ >= kBetweenSaves) SCONCE_RETURN_IF_ERROR(Save());
  }
  return rate_.Take(bytes);
}

absl::StatusOr<absl::Duration> Scrubber::StepObjects() {
  SCONCE_ASSIGN_OR_RETURN(const auto item, owners_->Next());
  if (!item) {
    SCONCE_RETURN_IF_ERROR(EndRound());
    return absl::ZeroDuration();
  }
  SCONCE_RETURN_IF_ERROR(CheckObject(store_, item->project_uid, item->owner).status());
  if (position_.run_uid() != item->owner.run_uid) {
    position_.set_run_uid(item->owner.run_uid);
    if (store_.options.clock->Now() - saved_ >= kBetweenSaves) SCONCE_RETURN_IF_ERROR(Save());
  }
  return rate_.Take(kObjectBytes);
}

absl::Status Scrubber::EndRound() {
  SCONCE_RETURN_IF_ERROR(store_.catalog->Verify());
  position_.set_ended(true);
  SCONCE_RETURN_IF_ERROR(Save());
  store_.integrity.SetDamagedFooters(findings_.damaged_footers);
  store_.integrity.NoteRound(store_.options.clock->Now());
  Log(Severity::kInfo, "scrubbed",
      {{"blobs", findings_.blobs},
       {"chunks", findings_.chunks},
       {"quarantined", store_.integrity.state().quarantined}});
  return absl::OkStatus();
}

}  // namespace sconce::repository
