#include "server/services/model_watch.h"

#include <grpcpp/server_context.h>

#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/mutex.h"
#include "proto/wire/resource_name.h"
#include "sconce/v1/model_service.pb.h"
#include "server/inference/model_manager.h"
#include "server/rpc/stream.h"
#include "server/services/model_convert.h"

namespace sconce::services {
namespace {

constexpr rpc::CallSpec kWatch = {"sconce.v1.ModelService", "WatchModels", rpc::CallKind::kServerStream};

absl::Status Draining() {
  return MakeError(Reason::SERVER_DRAINING, "the server is shutting down; watch another one, or this one later");
}

}  // namespace

class ModelWatches::Impl {
 public:
  Impl(rpc::CallRuntime& runtime, inference::ModelManager& models) : runtime_(runtime), models_(models) {
    models_.SetListener([this] { PokeAll(); });
  }
  ~Impl() { models_.SetListener(nullptr); }

  class Watcher;
  grpc::ServerWriteReactor<v1::Model>* Watch(grpc::CallbackServerContext* context, const std::string& name);
  void EndWatches() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void PokeAll() ABSL_LOCKS_EXCLUDED(mu_);
  // True unless the watches have ended.
  bool Add(Watcher* watcher) ABSL_LOCKS_EXCLUDED(mu_);
  void Forget(Watcher* watcher) ABSL_LOCKS_EXCLUDED(mu_);

  rpc::CallRuntime& runtime_;
  inference::ModelManager& models_;

  Mutex mu_;  // taken before a watcher's own, and that before the manager's
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::set<Watcher*> watchers_ ABSL_GUARDED_BY(mu_);
};

// gRPC deletes it through OnDone.
class ModelWatches::Impl::Watcher final : public rpc::StreamCall<grpc::ServerWriteReactor<v1::Model>> {
 public:
  Watcher(Impl& hub, grpc::CallbackServerContext* context, std::string name)
      : StreamCall(hub.runtime_, context, kWatch), hub_(hub), context_(context), name_(std::move(name)) {
    scope().SetResource(name_);
    if (!Begin()) return;
    const absl::Status valid = name_.empty() ? absl::OkStatus() : wire::ParseModel(name_).status();
    if (!valid.ok()) {
      FinishOnce(valid);
    } else if (!hub_.Add(this)) {
      FinishOnce(Draining());
    } else {
      Poke();
    }
  }

  // Sends the next that looks otherwise than it was told, unless something is on its way.
  void Poke() ABSL_LOCKS_EXCLUDED(state_mu_) {
    if (!Hold()) return;
    bool write = false;
    {
      MutexLock lock(&state_mu_);
      if (!writing_) write = writing_ = TakeNews();
    }
    if (write) StartWrite(&leaving_);
    Release();
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&state_mu_);
      writing_ = false;
    }
    if (ok) {
      Poke();
    } else {
      FinishOnce(scope().CheckCancelled());
    }
  }

  void EndWatch() ABSL_LOCKS_EXCLUDED(state_mu_) {
    bool stuck;
    {
      MutexLock lock(&state_mu_);
      stuck = writing_;
    }
    FinishOnce(Draining());
    if (stuck) context_->TryCancel();  // what it is sent is small: it does not read
  }

  void OnDone() override {
    hub_.Forget(this);
    StreamCall::OnDone();
  }

 private:
  ~Watcher() override = default;

  // Puts the next message into leaving_. False when there is none.
  bool TakeNews() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mu_) {
    std::set<std::string> gone;
    for (const auto& [name, told] : told_) gone.insert(name);
    for (const inference::DeploymentStatus& status : hub_.models_.List()) {
      v1::Model model = ModelToProto(status);
      if (!name_.empty() && model.name() != name_) continue;
      gone.erase(model.name());
      std::string bytes = model.SerializeAsString();
      std::string& told = told_[model.name()];
      if (told == bytes) continue;
      told = std::move(bytes);
      leaving_ = std::move(model);
      return true;
    }
    if (gone.empty()) return false;
    leaving_.Clear();
    leaving_.set_name(*gone.begin());
    leaving_.set_state(v1::Model::UNLOADING);
    told_.erase(*gone.begin());
    return true;
  }

  Impl& hub_;
  grpc::CallbackServerContext* const context_;
  const std::string name_;  // "": all

  Mutex state_mu_;
  bool writing_ ABSL_GUARDED_BY(state_mu_) = false;
  std::map<std::string, std::string> told_ ABSL_GUARDED_BY(state_mu_);  // by name, as it was encoded
  v1::Model leaving_;  // gRPC's while writing_, else guarded by state_mu_
};

grpc::ServerWriteReactor<v1::Model>* ModelWatches::Impl::Watch(grpc::CallbackServerContext* context,
                                                               const std::string& name) {
  return new Watcher(*this, context, name);
}

bool ModelWatches::Impl::Add(Watcher* watcher) {
  MutexLock lock(&mu_);
  if (!ended_) watchers_.insert(watcher);
  return !ended_;
}

void ModelWatches::Impl::Forget(Watcher* watcher) {
  MutexLock lock(&mu_);
  watchers_.erase(watcher);
}

void ModelWatches::Impl::PokeAll() {
  MutexLock lock(&mu_);
  for (Watcher* watcher : watchers_) watcher->Poke();
}

void ModelWatches::Impl::EndWatches() {
  MutexLock lock(&mu_);
  ended_ = true;
  for (Watcher* watcher : watchers_) watcher->EndWatch();
}

ModelWatches::ModelWatches(rpc::CallRuntime& runtime, inference::ModelManager& models)
    : impl_(std::make_unique<Impl>(runtime, models)) {}

ModelWatches::~ModelWatches() = default;

grpc::ServerWriteReactor<v1::Model>* ModelWatches::Watch(grpc::CallbackServerContext* context,
                                                         const v1::WatchModelsRequest* request) {
  return impl_->Watch(context, request->name());
}

void ModelWatches::EndWatches() {
  impl_->EndWatches();
}

}  // namespace sconce::services
