#ifndef SCONCE_SERVER_SERVER_H_
#define SCONCE_SERVER_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/config.h"

namespace sconce {

// The composition root: a whole sconced in one object. Opens the repository, wires the services, listens, and ends all
// of it in the right order. Start and Drain are for one thread; nothing else needs locking.
class Server {
 public:
  // Serving, and healthy, when it returns. The errors of Repository::Open; ADDRESS_UNAVAILABLE.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerConfig& config);
  // Drains without grace unless that was done.
  ~Server();

  // Where it listens, as clients write it, with the real ports: "127.0.0.1:7433", "unix:/run/sconce".
  const std::vector<std::string>& addresses() const;

  // Ends in good order: says NOT_SERVING; serves on for the grace period, so that load balancers see it; refuses new
  // calls (SERVER_DRAINING); waits for those under way until the drain timeout, then cancels them; closes the
  // repository. `wait` sleeps for the grace period; it may return early.
  void Drain(const std::function<void(absl::Duration)>& wait);

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);

  const std::unique_ptr<Parts> parts_;
};

}  // namespace sconce

#endif  // SCONCE_SERVER_SERVER_H_
