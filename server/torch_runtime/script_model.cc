#include "server/torch_runtime/script_model.h"

#include <ATen/ATen.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "server/torch_runtime/loading.h"
#include "server/torch_runtime/state_dict_apply.h"
#include "server/torch_runtime/tensor_bridge.h"
#include "server/torch_runtime/thrown.h"
#include "server/torch_runtime/train_mode_check.h"

namespace sconce::torch_runtime {
namespace {

using torch::jit::IValue;
using torch::jit::Module;

// Lets the archive be read where it lies.
class MemoryReader final : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit MemoryReader(PrivateBytes bytes) : bytes_(std::move(bytes)) {}
  size_t size() const override { return static_cast<size_t>(bytes_.size_bytes); }
  size_t read(uint64_t position, void* out, size_t count, const char*) const override {
    if (position >= size()) return 0;
    const size_t given = std::min(count, size() - static_cast<size_t>(position));
    std::memcpy(out, bytes_.data + position, given);
    return given;
  }

 private:
  const PrivateBytes bytes_;
};

// The optimizing executor rewrites the graph after the first runs, which changes last bits between one request and the
// next; without it all runs are alike. For this thread.
void UsePlainExecutor() {
  torch::jit::setGraphExecutorOptimize(false);
}

absl::StatusOr<c10::Device> FindDevice(const std::string& name) {
  const auto unavailable = [&] {
    return MakeError(Reason::DEVICE_UNAVAILABLE,
                     absl::StrCat("device ", Quoted(name), " is not on this machine; deploy to cpu"),
                     {{"device", name}});
  };
  try {
    const c10::Device device(name);
    if (device.is_cpu()) return c10::Device(at::kCPU);
    if (!device.is_cuda() || !at::hasCUDA() ||
        (device.has_index() && device.index() >= static_cast<int>(at::detail::getCUDAHooks().getNumGPUs()))) {
      return unavailable();
    }
    return device;
  } catch (const std::exception&) {
    return unavailable();
  }
}

// The kinds of arguments that a tensor in a request can become.
enum class ArgumentKind { kTensor, kInt, kFloat, kBool, kOther };

ArgumentKind KindOf(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return ArgumentKind::kTensor;
    case c10::TypeKind::IntType:
      return ArgumentKind::kInt;
    case c10::TypeKind::FloatType:
      return ArgumentKind::kFloat;
    case c10::TypeKind::BoolType:
      return ArgumentKind::kBool;
    case c10::TypeKind::OptionalType:
      return KindOf(type->expectRef<c10::OptionalType>().getElementType());
    default:
      return ArgumentKind::kOther;
  }
}

absl::StatusOr<IValue> ToArgument(const c10::Argument& argument, const at::Tensor& tensor) {
  const ArgumentKind kind = KindOf(argument.type());
  if (kind == ArgumentKind::kTensor) return IValue(tensor);
  if (kind == ArgumentKind::kOther || tensor.numel() != 1) {
    return MakeError(Reason::MODEL_INPUT_INVALID,
                     absl::StrCat("input '", argument.name(), "' is a ", argument.type()->annotation_str(),
                                  ": give it as a tensor of one element"));
  }
  if (kind == ArgumentKind::kInt) return IValue(tensor.item<int64_t>());
  if (kind == ArgumentKind::kFloat) return IValue(tensor.item<double>());
  return IValue(tensor.item<bool>());
}

// The outputs' names as far as the return type tells.
std::vector<std::string> OutputNames(const c10::FunctionSchema& schema) {
  std::vector<std::string> names;
  if (schema.returns().size() != 1) return names;
  const c10::TypePtr type = schema.returns()[0].type();
  if (type->kind() == c10::TypeKind::TensorType) return {"OUTPUT__0"};
  const auto tuple = type->cast<c10::TupleType>();
  if (!tuple) return names;
  for (const c10::TypePtr& element : tuple->elements()) {
    if (element->kind() != c10::TypeKind::TensorType) return {};
    names.push_back(absl::StrCat("OUTPUT__", names.size()));
  }
  return names;
}

class ScriptModel final : public TorchModel {
 public:
  explicit ScriptModel(Module module) : module_(std::move(module)), forward_(module_.get_method("forward")) {}

  worker::Loaded Describe() const override {
    worker::Loaded loaded;
    const c10::FunctionSchema& schema = forward_.function().getSchema();
    for (size_t i = 1; i < schema.arguments().size(); ++i) {  // 0 is self
      const c10::Argument& argument = schema.arguments()[i];
      loaded.arguments.push_back(
          {argument.name(), argument.type()->annotation_str(), !argument.default_value().has_value()});
    }
    loaded.outputs = OutputNames(schema);
    return loaded;
  }

  // MODULE_INVALID when some argument that must be given is none that a request can give.
  absl::Status CheckArguments() const {
    const c10::FunctionSchema& schema = forward_.function().getSchema();
    for (size_t i = 1; i < schema.arguments().size(); ++i) {
      const c10::Argument& argument = schema.arguments()[i];
      if (argument.default_value().has_value() || KindOf(argument.type()) != ArgumentKind::kOther) continue;
      return MakeError(Reason::MODULE_INVALID,
                       absl::StrCat("forward() takes '", argument.name(), "', a ", argument.type()->annotation_str(),
                                    ", which no request can give; it may take tensors, int, float and bool"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Outputs> Run(const worker::Infer& infer, const std::shared_ptr<const void>& owner) override {
    UsePlainExecutor();
    return Guarded(Reason::MODEL_FAILED, "", [&]() -> absl::StatusOr<Outputs> {
      const c10::InferenceMode inference_mode;
      torch::jit::Kwargs arguments;
      for (const worker::Tensor& input : infer.inputs) {
        SCONCE_ASSIGN_OR_RETURN(at::Tensor tensor, InputTensor(input, owner));
        const auto position = forward_.function().getSchema().argumentIndexWithName(input.name);
        if (!position) return MakeError(Reason::MODEL_INPUT_INVALID, "forward() has no input " + Quoted(input.name));
        const c10::Argument& argument = forward_.function().getSchema().arguments()[static_cast<size_t>(*position)];
        SCONCE_ASSIGN_OR_RETURN(IValue value, ToArgument(argument, tensor.to(device_)));
        arguments[input.name] = std::move(value);
      }
      return Collect(forward_({}, arguments));
    });
  }

  void set_device(const c10::Device& device) { device_ = device; }

 private:
  static absl::StatusOr<Outputs> Collect(const IValue& value) {
    std::vector<std::pair<std::string, IValue>> named;
    if (value.isTensor()) {
      named.emplace_back("OUTPUT__0", value);
    } else if (value.isTuple()) {
      for (const IValue& element : value.toTupleRef().elements()) {
        named.emplace_back(absl::StrCat("OUTPUT__", named.size()), element);
      }
    } else if (value.isList()) {
      for (const IValue& element : value.toListRef()) {
        named.emplace_back(absl::StrCat("OUTPUT__", named.size()), element);
      }
    } else if (value.isGenericDict()) {
      for (const auto& entry : value.toGenericDict()) {
        named.emplace_back(entry.key().isString() ? entry.key().toStringRef() : "", entry.value());
      }
    }
    const bool all_tensors = !named.empty() && std::all_of(named.begin(), named.end(), [](const auto& output) {
      return !output.first.empty() && output.second.isTensor();
    });
    if (!all_tensors) {
      return MakeError(Reason::MODEL_FAILED,
                       absl::StrCat("forward() gave a ", value.type()->annotation_str(),
                                    "; it must give a tensor, or a tuple, list or dict (by str) of tensors"));
    }
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    for (const auto& [name, output] : named) tensors.emplace_back(name, output.toTensor());
    return MakeOutputs(tensors);
  }

  Module module_;
  torch::jit::Method forward_;
  c10::Device device_ = c10::Device(at::kCPU);
};

}  // namespace

absl::StatusOr<std::unique_ptr<TorchModel>> LoadScriptModel(const worker::Load& load,
                                                            const std::vector<UniqueFd>& files,
                                                            const worker::Body& body, PrivateBytes archive) {
  UsePlainExecutor();
  SCONCE_ASSIGN_OR_RETURN(const c10::Device device, FindDevice(load.device));
  std::optional<Module> module;
  SCONCE_RETURN_IF_ERROR(Guarded(Reason::MODULE_INVALID, "the module is no TorchScript archive that loads: ", [&] {
    module = torch::jit::load(std::make_shared<MemoryReader>(std::move(archive)), device);
    if (module->find_method("forward")) return absl::OkStatus();
    return MakeError(Reason::MODULE_INVALID, "the module has no forward(); export a module that has");
  }));
  if (load.has_weights) {
    SCONCE_ASSIGN_OR_RETURN(const std::vector<NamedWeight> weights, MakeWeights(load, files, body));
    SCONCE_RETURN_IF_ERROR(Guarded(Reason::MODEL_WEIGHTS_MISMATCH, "the weights cannot be put into the module: ", [&] {
      return ApplyStateDict(weights, PolicyOf(load), *module);
    }));
  }
  return Guarded(Reason::MODULE_INVALID,
                 "the module cannot be made ready: ", [&]() -> absl::StatusOr<std::unique_ptr<TorchModel>> {
                   module->eval();
                   SCONCE_RETURN_IF_ERROR(CheckEvalMode(*module));
                   auto model = std::make_unique<ScriptModel>(*module);
                   SCONCE_RETURN_IF_ERROR(model->CheckArguments());
                   model->set_device(device);
                   return std::unique_ptr<TorchModel>(std::move(model));
                 });
}

}  // namespace sconce::torch_runtime
