#include "server/torch_runtime/compiled_constants.h"

#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>

namespace sconce::torch_runtime {
namespace {

thread_local ConstantRecorder* g_recorder = nullptr;

}  // namespace

ConstantRecorder::ConstantRecorder() {
  g_recorder = this;
}

ConstantRecorder::~ConstantRecorder() {
  g_recorder = nullptr;
}

namespace {

void NoteConstant(AtenTensorHandle handle) {
  if (g_recorder != nullptr) g_recorder->Note(*torch::aot_inductor::tensor_handle_to_tensor_pointer(handle));
}

}  // namespace
}  // namespace sconce::torch_runtime

// Found before LibTorch's own by every library that is loaded, since the program exports it (CMakeLists.txt).
AOTITorchError aoti_torch_create_tensor_from_blob_v2(void* data, int64_t ndim, const int64_t* sizes_ptr,
                                                     const int64_t* strides_ptr, int64_t storage_offset, int32_t dtype,
                                                     int32_t device_type, int32_t device_index, AtenTensorHandle* ret,
                                                     int32_t layout, const uint8_t* opaque_metadata,
                                                     int64_t opaque_metadata_size) {
  static const auto original = reinterpret_cast<decltype(&aoti_torch_create_tensor_from_blob_v2)>(
      ::dlsym(RTLD_NEXT, "aoti_torch_create_tensor_from_blob_v2"));
  if (original == nullptr) return AOTI_TORCH_FAILURE;
  const AOTITorchError error = original(data, ndim, sizes_ptr, strides_ptr, storage_offset, dtype, device_type,
                                        device_index, ret, layout, opaque_metadata, opaque_metadata_size);
  if (error == AOTI_TORCH_SUCCESS) sconce::torch_runtime::NoteConstant(*ret);
  return error;
}
