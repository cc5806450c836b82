#ifndef SCONCE_CLIENT_CPP_STATE_H_
#define SCONCE_CLIENT_CPP_STATE_H_

#include <memory>

#include "client/cpp/connection.h"
#include "inference/grpc_service.grpc.pb.h"
#include "sconce/v1/admin_service.grpc.pb.h"
#include "sconce/v1/checkpoint_service.grpc.pb.h"
#include "sconce/v1/model_service.grpc.pb.h"
#include "sconce/v1/transfer_service.grpc.pb.h"

namespace sconce::client {

// A Client's connection and the stubs over it.
struct Client::State {
  explicit State(const ClientOptions& options)
      : connection(options),
        checkpoints(v1::CheckpointService::NewStub(connection.channel())),
        models(v1::ModelService::NewStub(connection.channel())),
        transfer(v1::TransferService::NewStub(connection.channel())),
        admin(v1::AdminService::NewStub(connection.channel())),
        inference(inference::GRPCInferenceService::NewStub(connection.channel())) {}

  Connection connection;
  const std::unique_ptr<v1::CheckpointService::Stub> checkpoints;
  const std::unique_ptr<v1::ModelService::Stub> models;
  const std::unique_ptr<v1::TransferService::Stub> transfer;
  const std::unique_ptr<v1::AdminService::Stub> admin;
  const std::unique_ptr<inference::GRPCInferenceService::Stub> inference;
};

}  // namespace sconce::client

#endif  // SCONCE_CLIENT_CPP_STATE_H_
