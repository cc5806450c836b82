#ifndef SCONCE_SERVER_SERVICES_WATCH_HUB_H_
#define SCONCE_SERVER_SERVICES_WATCH_HUB_H_

#include <grpcpp/support/server_callback.h>

#include <memory>

#include "absl/time/time.h"

namespace grpc {
class CallbackServerContext;
}
namespace sconce::v1 {
class WatchCheckpointsRequest;
class WatchCheckpointsResponse;
}  // namespace sconce::v1
namespace sconce::repository {
class Repository;
}
namespace sconce::rpc {
class CallRuntime;
}

namespace sconce::services {

struct WatchOptions {
  // A watcher that was sent nothing for so long gets a heartbeat.
  absl::Duration heartbeat_interval = absl::Seconds(15);
};

// CheckpointService.WatchCheckpoints for any number of watchers (each counts as a call in flight).
//
// A watcher is a position in the change log and the one message that is on its way to it: it reads its next entry from
// the log when the last one has left. So one that does not read costs nothing but its position, and holds up nobody.
// One thread takes each watcher that can go on a step further, in turn; it is woken by the repository's revisions and
// by messages that have left. Thread-safe.
class WatchHub {
 public:
  // Takes the repository's revision listener. The references are borrowed and outlive this.
  WatchHub(rpc::CallRuntime& runtime, repository::Repository& repository, const WatchOptions& options = {});
  // Requires: all watches have ended (the gRPC server is down).
  ~WatchHub();

  grpc::ServerWriteReactor<v1::WatchCheckpointsResponse>* Watch(grpc::CallbackServerContext* context,
                                                                const v1::WatchCheckpointsRequest* request);

  // Ends all watches with SERVER_DRAINING, and a moment later cancels those whose client does not read: they never end
  // by themselves, and a server that shuts down would wait for them. New ones end likewise. Returns at once.
  void EndWatches();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_WATCH_HUB_H_
