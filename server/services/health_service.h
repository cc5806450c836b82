#ifndef SCONCE_SERVER_SERVICES_HEALTH_SERVICE_H_
#define SCONCE_SERVER_SERVICES_HEALTH_SERVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "server/rpc/runtime.h"

namespace grpc {
class Service;
}

namespace sconce::services {

// grpc.health.v1.Health: our own, since gRPC's starts as SERVING and cannot be described by reflection. It answers for
// "" (the whole server) and for each named service, all NOT_SERVING until SetServing(true). Thread-safe.
class HealthService {
 public:
  // `runtime` is borrowed and outlives the service.
  HealthService(rpc::CallRuntime& runtime, const std::vector<std::string>& services);
  ~HealthService();

  // To be registered with the server; owned here, dies with this.
  grpc::Service* service();

  // Sets all services at once and tells those who watch.
  void SetServing(bool serving);
  // Whether one of the named services is well; all are at first. One that is not stays NOT_SERVING, whatever the others
  // and the server as a whole say.
  void SetHealthy(const std::string& service, bool healthy);
  // Ends the watches with SERVER_DRAINING once they have been told the state of now: they never end by themselves, and
  // a server that shuts down would wait for them. New ones end likewise.
  void EndWatches();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_HEALTH_SERVICE_H_
