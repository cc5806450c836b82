#ifndef SCONCE_CLIENT_CPP_RAW_STREAM_H_
#define SCONCE_CLIENT_CPP_RAW_STREAM_H_

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "base/mutex.h"

namespace sconce::client {

// One call of any streaming kind with messages as raw buffers, so that bulk bytes are sent and received without a
// generated message in between. Blocking; at most one thread writes and one reads at a time. Destroyed early, the call
// is cancelled.
class RawStream {
 public:
  // `method` is a full method name, "/sconce.v1.TransferService/PushCheckpoint". The context is the caller's to fill
  // beforehand.
  static std::unique_ptr<RawStream> Start(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                                          std::unique_ptr<grpc::ClientContext> context);
  ~RawStream();
  RawStream(const RawStream&) = delete;
  RawStream& operator=(const RawStream&) = delete;

  // False when the call is over: ask Finish() why.
  bool Write(const grpc::ByteBuffer& message);
  bool Read(grpc::ByteBuffer& message);
  void WritesDone();
  // Waits for the end of the call. To be called once, after Read returned false or when no more is to be read.
  grpc::Status Finish();
  grpc::ClientContext& context();

 private:
  class Reactor;
  explicit RawStream(std::unique_ptr<Reactor> reactor);
  std::unique_ptr<Reactor> reactor_;
};

}  // namespace sconce::client

#endif  // SCONCE_CLIENT_CPP_RAW_STREAM_H_
