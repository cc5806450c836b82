#ifndef SCONCE_SERVER_INFERENCE_MODEL_STATE_H_
#define SCONCE_SERVER_INFERENCE_MODEL_STATE_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "server/inference/model_manager.h"

// What a ModelManager keeps of one deployment; shared by its source files. All of it is guarded by the manager's
// lock, but for `model`, which is constant.
namespace sconce::inference {

struct ModelManager::Deployment {
  struct Version {
    std::shared_ptr<const ServingModel> serving;
    absl::Time since;
  };
  struct Refusal {
    absl::Status why;
    absl::Time since;
  };

  std::string model;
  DeploymentRecord record;
  std::shared_ptr<const DeploymentSpec> spec;  // of the record
  int64_t generation = 1;                      // of the spec, as far as loading is concerned
  std::string etag;

  bool deploying = false;  // by an operator who waits; following starts afterwards
  bool removed = false;
  bool changing = false;                    // somebody writes a new record down
  bool busy = false;                        // a thread of the pool is at it
  absl::Time due = absl::InfiniteFuture();  // when to look at it again
  absl::Duration backoff;                   // before the next retry

  WantedVersions wanted;  // as resolved last
  std::map<VersionId, Version> loaded;
  VersionId serving, previous;         // of those loaded
  int64_t last_served = 0;             // also when it is not loaded any more
  int64_t before = 0;                  // what served before that
  std::shared_ptr<Departure> leaving;  // what has to be gone before the next is loaded
  VersionId loading;
  absl::Time loading_since;
  std::map<int64_t, Refusal> refused;  // for good, as the spec is now
  std::string reason;

  // Makes a record the deployment's.
  void Take(DeploymentRecord taken, const std::string& bytes);
};

// In Triton's words, which people search for.
inline absl::Status NoSuchModel(const std::string& model) {
  return MakeError(Reason::MODEL_NOT_FOUND, absl::StrCat("Request for unknown model: '", model, "' is not found"),
                   {{"model", model}});
}

inline absl::Status NoSuchVersion(const std::string& model, int64_t version) {
  return MakeError(Reason::MODEL_VERSION_NOT_FOUND, absl::StrCat("'", model, "' version ", version, " is not found"),
                   {{"model", model}});
}

inline absl::Status VersionNotReady(const std::string& model, const std::string& version) {
  return MakeError(Reason::MODEL_NOT_READY, absl::StrCat("'", model, "' version ", version, " is not at ready state"));
}

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_MODEL_STATE_H_
