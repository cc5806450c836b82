#ifndef SCONCE_SERVER_WORKER_PROTOCOL_FORK_WORKERS_H_
#define SCONCE_SERVER_WORKER_PROTOCOL_FORK_WORKERS_H_

#include "absl/status/statusor.h"
#include "server/worker_protocol/messages.h"

namespace sconce::worker {

// The template's side of starting workers (docs/adr/0014): to be called once by the only thread of a process that
// sconced has started and that has loaded what every worker needs. It answers Start after Start on kWorkerSocketFd, and
// returns
//   - in each copy of the process, what that was started with: kWorkerSocketFd is the copy's own socket then, and
//     nothing else is open than the template had open;
//   - in the template, WORKER_DIED when sconced has closed the socket, or INTERNAL_ERROR when it broke the protocol.
absl::StatusOr<Start> ForkWorkers();

}  // namespace sconce::worker

#endif  // SCONCE_SERVER_WORKER_PROTOCOL_FORK_WORKERS_H_
