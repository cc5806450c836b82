#ifndef SCONCE_SERVER_SERVICES_TRANSFER_CALLS_H_
#define SCONCE_SERVER_SERVICES_TRANSFER_CALLS_H_

#include <grpcpp/support/byte_buffer.h>

#include <memory>

#include "server/rpc/download_reactor.h"
#include "server/rpc/upload_reactor.h"
#include "storage/repository/repository.h"

// The six bulk streams of TransferService, one file each. `repository` is borrowed and outlives what is made. `request`
// is the encoded request; it is parsed on the pool, with the first message.
namespace sconce::services {

std::unique_ptr<rpc::UploadSink> NewPushSink(repository::Repository& repository);
std::unique_ptr<rpc::UploadSink> NewImportSink(repository::Repository& repository);
std::unique_ptr<rpc::UploadSink> NewModuleSink(repository::Repository& repository);

std::unique_ptr<rpc::DownloadSource> NewFetchSource(repository::Repository& repository, grpc::ByteBuffer request);
std::unique_ptr<rpc::DownloadSource> NewExportSource(repository::Repository& repository, grpc::ByteBuffer request);
std::unique_ptr<rpc::DownloadSource> NewModuleSource(repository::Repository& repository, grpc::ByteBuffer request);

}  // namespace sconce::services

#endif  // SCONCE_SERVER_SERVICES_TRANSFER_CALLS_H_
