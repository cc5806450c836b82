#ifndef SCONCE_SERVER_WORKER_PROTOCOL_MESSAGES_H_
#define SCONCE_SERVER_WORKER_PROTOCOL_MESSAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/error.h"
#include "base/strings.h"
#include "storage/format/manifest.h"

// What sconced and a worker process say to each other.
//
//   0. sconced starts `sconce-torch-worker` with one end of a SOCK_SEQPACKET pair as descriptor 3: the template, which
//      loads its libraries and sends Hello. For each worker sconced sends it Files with one end of another pair, and
//      Start; it answers Started, or Failure, under the same id. It ends when its socket is closed.
//   1. The worker is a copy of the template and a child of sconced (fork_workers.h), with that end as descriptor 3.
//   2. It sends Hello. Another protocol number ends the conversation: the two programs are not of one release.
//   3. sconced sends Files as often as needed: each carries descriptors, which both sides number 0, 1, 2 ... in order.
//   4. sconced sends Load: the module's file and the state_dict, as extents of those files or inline.
//   5. The worker answers Loaded (what forward() takes) or Failure, after which it ends itself.
//   6. Then, one at a time, sconced sends Infer and the worker answers Result or Failure under the same id.
//   7. The worker ends when its socket is closed; sconced kills it whenever it breaks a rule or a deadline.
//
// A packet (channel.h) is a fixed header and a body. Bodies that carry bulk bytes are a table, whose length comes
// first, and a data section behind it, 64-byte aligned, to which the table points by offset and size.
//
// Neither side trusts the other: decoders check every number against what is really there, and a body cannot change
// while it is read (channel.h). The structs below refer into the body they were decoded from.
namespace sconce::worker {

inline constexpr uint16_t kProtocolVersion = 7;
inline constexpr int kWorkerSocketFd = 3;
inline constexpr int64_t kMaxBodyBytes = int64_t{1} << 30;
inline constexpr size_t kMaxNameBytes = 4096;
inline constexpr size_t kMaxMessageBytes = size_t{64} << 10;
inline constexpr size_t kMaxDims = 64;
inline constexpr uint32_t kMaxThreads = 4096;
inline constexpr size_t kDataAlignment = 64;

enum class MessageType : uint16_t {
  kHello = 1,
  kFiles = 2,  // no body, only descriptors
  kLoad = 3,
  kLoaded = 4,
  kInfer = 5,
  kResult = 6,
  kFailure = 7,
  kStart = 8,
  kStarted = 9,
};

struct Hello {
  std::string torch_version;
};

struct Start {
  uint32_t threads = 0;  // of one operation; 0: as many as there are cores
};

struct Started {
  int64_t pid = 0;
};

// A piece of a file that was sent with Files.
struct Extent {
  uint32_t file = 0;
  int64_t offset = 0;
  int64_t size_bytes = 0;
};

// Bytes that lie in files, piece after piece, or right here.
struct StoredBytes {
  int64_t size_bytes = 0;
  std::vector<Extent> extents;  // their sizes add up to size_bytes, unless there are none
  ByteSpan inline_bytes;        // then these are all size_bytes of them
};

// One entry of the state_dict; view.storage numbers Load::storages.
struct StateEntry {
  std::string name;
  format::TensorView view;
};

struct Load {
  std::string device;
  int64_t memory_bytes = 0;  // that the worker may allocate beside module and weights; 0: no limit
  StoredBytes module;        // its file
  bool has_weights = false;  // false: the module keeps its own, and all that follows is zero or empty
  bool lenient = false;      // missing and unexpected keys are tolerated, unless nothing matches
  double min_match = 0;      // the share of the module's keys that must match, 0 to 1
  bool take_dtype = false;   // the module's floats become of the weights' dtype, not the other way round
  std::vector<StateEntry> entries;
  std::vector<StoredBytes> storages;
};

struct Argument {
  std::string name;
  std::string type;  // as TorchScript writes it: "Tensor", "Optional[Tensor]", "int"
  bool required = true;
};

struct Loaded {
  std::vector<Argument> arguments;   // of forward(), without self
  std::vector<std::string> outputs;  // OUTPUT__0 ...; empty when only a run can tell (a list or a dict)
};

// Row-major, without gaps.
struct Tensor {
  std::string name;
  format::DType dtype = format::DType::kFloat32;
  format::Dims shape;
  ByteSpan bytes;
};

struct Infer {
  std::vector<Tensor> inputs;  // named as forward()'s arguments
};

struct Result {
  std::vector<Tensor> outputs;
};

// What can go wrong in a worker. Numbers are part of the protocol.
enum class FailureKind : uint8_t {
  kModuleInvalid = 1,
  kWeightsMismatch = 2,
  kTrainingModeFrozen = 3,
  kDeviceUnavailable = 4,
  kInputInvalid = 5,
  kModelFailed = 6,
  kOutOfMemory = 7,
  kTorchUnavailable = 8,
};

struct Failure {
  FailureKind kind = FailureKind::kModelFailed;
  std::string message;  // for the caller
  std::string detail;   // for the log: all that was thrown
};

// The status a caller gets: MODULE_INVALID, MODEL_WEIGHTS_MISMATCH, TRAINING_MODE_FROZEN, DEVICE_UNAVAILABLE,
// TORCH_UNAVAILABLE, MODEL_INPUT_INVALID, MODEL_FAILED or WORKER_MEMORY_EXCEEDED.
absl::Status ToStatus(const Failure& failure);

// A body to be sent: the parts follow each other. They may refer to memory of the encoded message, which must live
// until the packet is made.
struct EncodedBody {
  std::string table;
  std::vector<ByteSpan> data;  // each starts at the next multiple of kDataAlignment
  bool sectioned = false;      // false: the body is `table` alone
};

EncodedBody Encode(const Hello& message);
EncodedBody Encode(const Start& message);
EncodedBody Encode(const Started& message);
EncodedBody Encode(const Load& message);
EncodedBody Encode(const Loaded& message);
EncodedBody Encode(const Infer& message);
EncodedBody Encode(const Result& message);
EncodedBody Encode(const Failure& message);

// INTERNAL_ERROR saying what is wrong: the other side broke the protocol. Views are inside their storages, storages and
// extents have consistent sizes, tensors have the bytes that dtype and shape ask for, text is valid UTF-8.
// `file_count` is how many descriptors came with Files.
absl::StatusOr<Hello> DecodeHello(ByteSpan body);
absl::StatusOr<Start> DecodeStart(ByteSpan body);
absl::StatusOr<Started> DecodeStarted(ByteSpan body);
absl::StatusOr<Load> DecodeLoad(ByteSpan body, uint32_t file_count);
absl::StatusOr<Loaded> DecodeLoaded(ByteSpan body);
absl::StatusOr<Infer> DecodeInfer(ByteSpan body);
absl::StatusOr<Result> DecodeResult(ByteSpan body);
absl::StatusOr<Failure> DecodeFailure(ByteSpan body);

// `s` with every byte that is not part of valid UTF-8 replaced by '?'.
std::string MakeUtf8(absl::string_view s);

}  // namespace sconce::worker

#endif  // SCONCE_SERVER_WORKER_PROTOCOL_MESSAGES_H_
