#ifndef SCONCE_TESTS_SUPPORT_TORCH_TREE_FIXTURE_H_
#define SCONCE_TESTS_SUPPORT_TORCH_TREE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/pickle_reader.h"
#include "storage/format/pickle_writer.h"
#include "storage/format/torch_reader.h"
#include "storage/format/torch_tree.h"

namespace sconce::format {

// Writes a pickle opcode by opcode and reads it as a tree. Storage "0" has 64 bytes, "small" has 4.
class TorchTreeTest : public ::testing::Test {
 protected:
  absl::StatusOr<TorchFile> Read() {
    pickle_ = out_.Finish();
    SCONCE_ASSIGN_OR_RETURN(const PickleGraph graph, ReadPickle(AsBytes(pickle_), "data.pkl"));
    SCONCE_ASSIGN_OR_RETURN(TorchIndex index,
                            BuildTorchTree(graph, [this](absl::string_view key) -> absl::StatusOr<RecordSource> {
                              const auto it = records_.find(std::string(ToStd(key)));
                              if (it == records_.end()) return MakeError(Reason::FILE_MALFORMED, "no record");
                              return RecordSource::Plain(AsBytes(it->second));
                            }));
    SCONCE_RETURN_IF_ERROR(FinishIndex(false, index));
    return LoadRecords(std::move(index));
  }
  // Calls a function with what the caller put above the last Mark().
  void Mark(absl::string_view module, absl::string_view name) {
    out_.Global(module, name);
    out_.Op(PickleOp::kMark);
  }
  void Call() {
    out_.Op(PickleOp::kTuple);
    out_.Op(PickleOp::kReduce);
  }
  void StorageId(const std::string& type, const std::string& key, const std::string& device, int64_t elements) {
    out_.Op(PickleOp::kMark);
    out_.Str("storage");
    out_.Global(type == "UntypedStorage" ? "torch.storage" : "torch", type);
    out_.Str(key);
    out_.Str(device);
    out_.Int(elements);
    out_.Op(PickleOp::kTuple);
    out_.Op(PickleOp::kBinPersId);
  }
  void Ints(const std::vector<int64_t>& numbers) {
    out_.Op(PickleOp::kMark);
    for (const int64_t number : numbers) out_.Int(number);
    out_.Op(PickleOp::kTuple);
  }
  void Hooks() {
    out_.Global("collections", "OrderedDict");
    out_.Tuple(0);
    out_.Op(PickleOp::kReduce);
  }
  void Tensor(const std::vector<int64_t>& shape, const std::vector<int64_t>& stride, int64_t offset = 0) {
    Mark("torch._utils", "_rebuild_tensor_v2");
    StorageId("FloatStorage", "0", "cpu", 16);
    out_.Int(offset);
    Ints(shape);
    Ints(stride);
    out_.Bool(false);
    Hooks();
    Call();
  }

  void Layout(const std::string& name) {
    Mark("torch.serialization", "_get_layout");
    out_.Str("torch." + name);
    Call();
  }
  // Of the 4 bytes of storage "small"; `parameters` writes the quantizer's.
  template <typename Parameters>
  void Quantized(const std::string& type, const std::vector<int64_t>& shape, const std::vector<int64_t>& stride,
                 Parameters parameters) {
    Mark("torch._utils", "_rebuild_qtensor");
    StorageId(type, "small", "cpu", 4);
    out_.Int(0);
    Ints(shape);
    Ints(stride);
    out_.Op(PickleOp::kMark);
    parameters();
    out_.Op(PickleOp::kTuple);
    out_.Bool(false);
    Hooks();
    Call();
  }
  void NumpyDtype(const std::string& name, const std::string& order) {
    Mark("numpy", "dtype");
    out_.Str(name);
    out_.Bool(false);
    out_.Bool(true);
    Call();
    out_.Op(PickleOp::kMark);
    out_.Int(3);
    out_.Str(order);
    for (int i = 0; i < 3; ++i) out_.Op(PickleOp::kNone);
    for (const int number : {-1, -1, 0}) out_.Int(number);
    out_.Op(PickleOp::kTuple);
    out_.Op(PickleOp::kBuild);
  }

  PickleWriter out_;
  std::string pickle_;
  std::map<std::string, std::string> records_ = {{"0", std::string(64, 'x')}, {"small", "abcd"}};
};

}  // namespace sconce::format

#endif  // SCONCE_TESTS_SUPPORT_TORCH_TREE_FIXTURE_H_
