#ifndef SCONCE_SERVER_SERVICES_MODEL_WATCH_H_
#define SCONCE_SERVER_SERVICES_MODEL_WATCH_H_

#include <grpcpp/support/server_callback.h>

#include <memory>

namespace grpc {
class CallbackServerContext;
}
namespace sconce::v1 {
class Model;
class WatchModelsRequest;
}  // namespace sconce::v1
namespace sconce::inference {
class ModelManager;
}
namespace sconce::rpc {
class CallRuntime;
}

namespace sconce::services {

// ModelService.WatchModels for any number of watchers.
//
// A watcher remembers what it was last told of each model, and has one message on its way; when that has left, it is
// told of the next model that looks otherwise now. So one that reads slowly misses what passed meanwhile, and costs
// nobody anything. Thread-safe.
class ModelWatches {
 public:
  // Takes the manager's listener. The references are borrowed and outlive this.
  ModelWatches(rpc::CallRuntime& runtime, inference::ModelManager& models);
  // Requires: all watches have ended (the gRPC server is down).
  ~ModelWatches();

  grpc::ServerWriteReactor<v1::Model>* Watch(grpc::CallbackServerContext* context,
                                             const v1::WatchModelsRequest* request);

  // Ends all watches with SERVER_DRAINING, and cancels those whose client does not read. New ones end likewise. Returns
  // at once.
  void EndWatches();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_MODEL_WATCH_H_
