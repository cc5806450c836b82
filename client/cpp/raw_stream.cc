#include "client/cpp/raw_stream.h"

#include <utility>

namespace sconce::client {

// The callback stub's reactions only note what happened and wake whoever waits: each operation has one slot, idle,
// pending or done.
class RawStream::Reactor final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Reactor(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
          std::unique_ptr<grpc::ClientContext> context)
      : context_(std::move(context)), stub_(channel) {
    stub_.PrepareBidiStreamingCall(context_.get(), method, {}, this);
    AddHold();  // operations start outside reactions
    StartCall();
  }

  bool Write(const grpc::ByteBuffer& message) {
    {
      MutexLock lock(&mu_);
      if (finished_) return false;
      write_pending_ = true;
    }
    StartWrite(&message);  // `message` lives until the wait below is over
    MutexLock lock(&mu_);
    while (write_pending_) changed_.Wait(&mu_);
    return write_ok_;
  }

  bool Read(grpc::ByteBuffer& message) {
    {
      MutexLock lock(&mu_);
      if (finished_) return false;
      read_pending_ = true;
    }
    StartRead(&message);
    MutexLock lock(&mu_);
    while (read_pending_) changed_.Wait(&mu_);
    return read_ok_;
  }

  void WritesDone() {
    {
      MutexLock lock(&mu_);
      if (finished_) return;
      write_pending_ = true;
    }
    StartWritesDone();
    MutexLock lock(&mu_);
    while (write_pending_) changed_.Wait(&mu_);
  }

  grpc::Status Finish() {
    RemoveHold();
    MutexLock lock(&mu_);
    while (!finished_) changed_.Wait(&mu_);
    return status_;
  }

  void Abandon() {
    context_->TryCancel();
    Finish();
  }
  bool finish_called = false;  // used by the owner's thread only

  grpc::ClientContext& context() { return *context_; }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    write_pending_ = false;
    write_ok_ = ok;
    changed_.SignalAll();
  }
  void OnWritesDoneDone(bool ok) override { OnWriteDone(ok); }
  void OnReadDone(bool ok) override {
    MutexLock lock(&mu_);
    read_pending_ = false;
    read_ok_ = ok;
    changed_.SignalAll();
  }
  void OnDone(const grpc::Status& status) override {
    MutexLock lock(&mu_);
    status_ = status;
    finished_ = true;
    changed_.SignalAll();
  }

 private:
  const std::unique_ptr<grpc::ClientContext> context_;
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub_;
  Mutex mu_;
  CondVar changed_;
  bool write_pending_ ABSL_GUARDED_BY(mu_) = false;
  bool write_ok_ ABSL_GUARDED_BY(mu_) = false;
  bool read_pending_ ABSL_GUARDED_BY(mu_) = false;
  bool read_ok_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mu_);
};

RawStream::RawStream(std::unique_ptr<Reactor> reactor) : reactor_(std::move(reactor)) {}

std::unique_ptr<RawStream> RawStream::Start(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                                            std::unique_ptr<grpc::ClientContext> context) {
  return std::unique_ptr<RawStream>(new RawStream(std::make_unique<Reactor>(channel, method, std::move(context))));
}

RawStream::~RawStream() {
  if (!reactor_->finish_called) reactor_->Abandon();
}

bool RawStream::Write(const grpc::ByteBuffer& message) {
  return reactor_->Write(message);
}
bool RawStream::Read(grpc::ByteBuffer& message) {
  return reactor_->Read(message);
}
void RawStream::WritesDone() {
  reactor_->WritesDone();
}
grpc::Status RawStream::Finish() {
  reactor_->finish_called = true;
  return reactor_->Finish();
}
grpc::ClientContext& RawStream::context() {
  return reactor_->context();
}

}  // namespace sconce::client
