#ifndef SCONCE_SERVER_INFERENCE_DATATYPE_H_
#define SCONCE_SERVER_INFERENCE_DATATYPE_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "storage/format/dtype.h"

namespace sconce::inference {

// The Open Inference Protocol's datatypes that torch tensors have: BOOL UINT8 INT8 INT16 INT32 INT64 FP16 BF16 FP32
// FP64. UINT16, UINT32, UINT64 and BYTES have no such tensor and give nullopt, as does everything unknown.
std::optional<format::DType> DTypeOfDatatype(absl::string_view datatype);
// "" for a dtype that the protocol has no name for (complex numbers, quantized integers).
absl::string_view DatatypeOfDType(format::DType dtype);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_DATATYPE_H_
