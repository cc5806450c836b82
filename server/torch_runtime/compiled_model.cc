#include "server/torch_runtime/compiled_model.h"

#include <ATen/ATen.h>
#include <ATen/DynamicLibrary.h>
#include <torch/csrc/inductor/aoti_runner/model_container_runner_cpu.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/torch_runtime/call_spec.h"
#include "server/torch_runtime/compiled_constants.h"
#include "server/torch_runtime/library_file.h"
#include "server/torch_runtime/loading.h"
#include "server/torch_runtime/said_text.h"
#include "server/torch_runtime/tensor_bridge.h"
#include "server/torch_runtime/thrown.h"
#include "server/torch_runtime/weight_match.h"

// From a package to a model:
//
//   1. Weights are mapped and the descriptors of their files closed: from 4 on a stranger's code runs.
//   2. The library is copied into a file in memory. Nothing is written anywhere else.
//   3. Standard output and error lead nowhere.
//   4. The library is loaded from under Sandbox::LibraryPath: its constructors run, and it makes its constants.
//   5. Sandbox::Close.
//   6. The constants are compared with the weights, by the names that they had in the module the package was compiled
//      from. All of them go into the inactive buffer, those that keep their values too, and the buffers are swapped.
//
// A package has no train mode: export bakes in the one the module was in, and leaves nothing to tell which.
namespace sconce::torch_runtime {
namespace {

constexpr char kWhatItIs[] = "the compiled package";
constexpr char kHint[] =
    "A package has what its graph uses; tensors of 8 elements or less are compiled into the code, unless "
    "torch._inductor.config.always_keep_tensor_constants is set for it. ";

// A tensor that the code refers to.
struct Constant {
  std::string name;   // the package's own
  std::string key;    // of the state_dict; empty for what tracing made up
  at::Tensor tensor;  // with the value that the package brings
};

absl::Status Invalid(absl::string_view why) {
  return MakeError(Reason::MODULE_INVALID, absl::StrCat("the package cannot be loaded: ", why));
}

class Runner final : public torch::inductor::AOTIModelContainerRunnerCpu {
 public:
  using AOTIModelContainerRunnerCpu::AOTIModelContainerRunnerCpu;

  // `made` are the tensors that were made when this was constructed.
  absl::StatusOr<std::vector<Constant>> ListConstants(const std::vector<at::Tensor>& made) {
    constexpr int32_t kTensorConstant = 3, kFoldedConstant = 4;  // of torch::aot_inductor::ConstantType
    const auto type_of = reinterpret_cast<decltype(&AOTInductorModelContainerGetConstantType)>(
        model_so_->sym("AOTInductorModelContainerGetConstantType"));
    const auto is_folded = reinterpret_cast<decltype(&AOTInductorModelContainerGetConstantFromFolded)>(
        model_so_->sym("AOTInductorModelContainerGetConstantFromFolded"));
    size_t count = 0;
    if (get_num_constants_func_(container_handle_, &count) != 0) return Invalid("it cannot count its constants");
    std::vector<Constant> constants;
    for (size_t i = 0; i < count; ++i) {
      const char* name = nullptr;
      const char* key = nullptr;
      int32_t type = 0;
      bool folded = false;
      if (get_constant_name_func_(container_handle_, i, &name) != 0 ||
          get_constant_original_fqn_func_(container_handle_, i, &key) != 0 ||
          type_of(container_handle_, i, &type) != 0 || is_folded(container_handle_, i, &folded) != 0) {
        return Invalid("it cannot list its constants");
      }
      if (folded || type == kFoldedConstant) continue;  // computed from the others when it first runs
      const size_t position = constants.size();
      if (position >= made.size()) return Invalid("it makes fewer constants than it lists");
      constants.push_back({name, type == kTensorConstant || key == nullptr ? "" : key, made[position]});
    }
    if (constants.size() != made.size()) return Invalid("it makes more constants than it lists");
    return constants;
  }

  // Each under its name, instead of those there are.
  void Swap(const std::vector<std::pair<std::string, at::Tensor>>& constants) {
    torch::inductor::TensorConstantMap map;
    // The container of some releases takes the tensors it is given as its own, that of others does not; so they are
    // never freed, which costs as many pointers as there are constants, once in a process's life.
    for (const auto& [name, tensor] : constants) map[name] = new at::Tensor(tensor);
    update_constant_buffer(map, /*use_inactive=*/true, /*validate_full_updates=*/true);
    swap_constant_buffer();
  }
};

// The counter of batch normalization, which no graph uses.
bool IsBatchCounter(const NamedWeight& weight) {
  return absl::EndsWith(absl::StrCat(".", weight.name), ".num_batches_tracked") && weight.tensor.numel() == 1;
}

// Tied weights have several keys, and export keeps one of them.
bool IsAnotherNameOfOne(const at::Tensor& weight, const Findings& findings) {
  return std::any_of(findings.pairs.begin(), findings.pairs.end(), [&](const Findings::Pair& pair) {
    return weight.data_ptr() == pair.weight.data_ptr() && weight.sizes() == pair.weight.sizes() &&
           weight.strides() == pair.weight.strides() && weight.scalar_type() == pair.weight.scalar_type();
  });
}

Findings Compare(const std::vector<NamedWeight>& weights, bool take_dtype, const std::vector<Constant>& constants) {
  const WeightsByName by_name = IndexByName(weights);
  Findings findings;
  std::unordered_set<std::string> wanted;
  for (const Constant& constant : constants) {
    if (constant.key.empty()) continue;
    wanted.insert(constant.key);
    MatchOne(constant.key, constant.tensor, by_name, findings);
  }
  for (const NamedWeight& weight : weights) {
    if (wanted.count(weight.name) == 0 && !IsBatchCounter(weight) && !IsAnotherNameOfOne(weight.tensor, findings)) {
      findings.unexpected.push_back(weight.name);
    }
  }
  for (const Findings::Pair& pair : findings.pairs) {
    if (pair.target.layout() != at::kStrided) {
      findings.mismatches.push_back(absl::StrCat("layout mismatch for ", pair.name,
                                                 ": the package has it in a form of its own (compiled with freezing), "
                                                 "for which no weight can be put."));
    } else if (take_dtype && pair.weight.is_floating_point() && pair.target.is_floating_point() &&
               pair.weight.scalar_type() != pair.target.scalar_type()) {
      findings.mismatches.push_back(absl::StrCat(
          "dtype mismatch for ", pair.name, ": the weight is cast to ", c10::toString(pair.weight.scalar_type()),
          ", the package was compiled for ", c10::toString(pair.target.scalar_type()), "."));
    }
  }
  return findings;
}

// `weight` as the code expects it, which knows dtype and strides: where it has them, as it lies.
at::Tensor Fitting(const at::Tensor& target, const at::Tensor& weight) {
  if (CanReplace(target, weight)) return weight;
  at::Tensor fitting = at::empty_strided(target.sizes(), target.strides(), target.options());
  return fitting.copy_(weight);
}

absl::Status SwapConstants(const std::vector<NamedWeight>& weights, const MatchPolicy& policy,
                           const std::vector<Constant>& constants, Runner& runner) {
  const Findings findings = Compare(weights, policy.take_dtype, constants);
  SCONCE_RETURN_IF_ERROR(CheckFindings(findings, policy, kWhatItIs, kHint));
  std::unordered_map<std::string, const Findings::Pair*> pairs;
  for (const Findings::Pair& pair : findings.pairs) pairs[pair.name] = &pair;
  std::vector<std::pair<std::string, at::Tensor>> wanted;
  for (const Constant& constant : constants) {
    const auto pair = pairs.find(constant.key);
    wanted.emplace_back(constant.name,
                        pair == pairs.end() ? constant.tensor : Fitting(constant.tensor, pair->second->weight));
  }
  if (!wanted.empty()) runner.Swap(wanted);
  return absl::OkStatus();
}

class CompiledModel final : public TorchModel {
 public:
  CompiledModel(std::unique_ptr<Runner> runner, CallSpec spec, SaidText* said)
      : runner_(std::move(runner)), spec_(std::move(spec)), said_(said) {}

  worker::Loaded Describe() const override {
    worker::Loaded loaded;
    for (const std::string& name : spec_.arguments) loaded.arguments.push_back({name, "Tensor", true});
    loaded.outputs = spec_.outputs;
    return loaded;
  }

  absl::StatusOr<Outputs> Run(const worker::Infer& infer, const std::shared_ptr<const void>& owner) override {
    said_->Take();
    try {
      const c10::InferenceMode inference_mode;
      SCONCE_ASSIGN_OR_RETURN(const std::vector<at::Tensor> inputs, InOrder(infer, owner));
      const std::vector<at::Tensor> given = runner_->run(inputs);
      if (given.size() != spec_.outputs.size()) {
        return MakeError(Reason::MODEL_FAILED,
                         absl::StrCat("the package gave ", given.size(), " tensors instead of the ",
                                      spec_.outputs.size(), " that forward() gives"));
      }
      std::vector<std::pair<std::string, at::Tensor>> named;
      for (size_t i = 0; i < given.size(); ++i) named.emplace_back(spec_.outputs[i], given[i]);
      return MakeOutputs(named);
    } catch (const std::exception& error) {
      const std::string said = said_->Take();
      return ErrorSaying(Reason::MODEL_FAILED, "", CauseOf(said, error.what()), said + error.what());
    }
  }

 private:
  absl::StatusOr<std::vector<at::Tensor>> InOrder(const worker::Infer& infer,
                                                  const std::shared_ptr<const void>& owner) const {
    std::vector<at::Tensor> inputs(spec_.arguments.size());
    for (const worker::Tensor& input : infer.inputs) {
      const auto found = std::find(spec_.arguments.begin(), spec_.arguments.end(), input.name);
      if (found == spec_.arguments.end()) {
        return MakeError(Reason::MODEL_INPUT_INVALID, "forward() has no input " + Quoted(input.name));
      }
      SCONCE_ASSIGN_OR_RETURN(inputs[static_cast<size_t>(found - spec_.arguments.begin())], InputTensor(input, owner));
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].defined()) continue;
      return MakeError(Reason::MODEL_INPUT_INVALID, absl::StrCat("input ", Quoted(spec_.arguments[i]), " is missing"));
    }
    return inputs;
  }

  const std::unique_ptr<Runner> runner_;
  const CallSpec spec_;
  SaidText* const said_;  // lives as long as the process
};

// Standard output and error become what standard input is, /dev/null to be read. False when they cannot.
bool Silence() {
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    ::close(fd);
    if (::dup(STDIN_FILENO) != fd) return false;
  }
  return true;
}

struct LoadedLibrary {
  std::unique_ptr<Runner> runner;
  std::vector<Constant> constants;
  CallSpec spec;
};

// Runs the package's code: its constructors, and what makes its constants, before `sandbox` is closed; the rest after.
absl::StatusOr<LoadedLibrary> LoadLibrary(const std::string& path, bool with_constants, Sandbox& sandbox) {
  LoadedLibrary library;
  const ConstantRecorder recorder;
  library.runner = std::make_unique<Runner>(path, /*num_models=*/1);
  if (!sandbox.Close()) return MakeError(Reason::INTERNAL_ERROR, "the worker cannot close its walls");
  if (with_constants) {
    SCONCE_ASSIGN_OR_RETURN(library.constants, library.runner->ListConstants(recorder.constants()));
  }
  const std::vector<std::string> spec = library.runner->get_call_spec();
  if (spec.size() != 2) return Invalid("it does not say what it takes and gives");
  SCONCE_ASSIGN_OR_RETURN(library.spec, ReadCallSpec(spec[0], spec[1]));
  return library;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TorchModel>> LoadCompiledModel(const worker::Load& load, std::vector<UniqueFd>& files,
                                                              const worker::Body& body, PrivateBytes archive,
                                                              Sandbox& sandbox) {
  if (load.device != "cpu") {
    return MakeError(Reason::DEVICE_UNAVAILABLE,
                     absl::StrCat("a compiled package runs on cpu here, not on ", Quoted(load.device)),
                     {{"device", load.device}});
  }
  std::vector<NamedWeight> weights;
  if (load.has_weights) {
    SCONCE_ASSIGN_OR_RETURN(weights, MakeWeights(load, files, body));
  }
  SCONCE_ASSIGN_OR_RETURN(const UniqueFd file,
                          CopyLibrary(ByteSpan(archive.data, static_cast<size_t>(archive.size_bytes))));
  archive = PrivateBytes();
  files.clear();
  const std::string path = sandbox.LibraryPath(file.get());
  if (path.empty()) {
    return MakeError(Reason::TORCH_UNAVAILABLE,
                     "the module is a compiled package (.pt2), whose code this machine has no wall for: that takes "
                     "seccomp, and Landlock (Linux 5.13) or user namespaces; push the module as TorchScript instead");
  }
  if (!Silence()) return MakeError(Reason::INTERNAL_ERROR, "the worker cannot close its standard output");
  static SaidText* const said = new SaidText;  // for good: std::cerr refers to it
  std::optional<LoadedLibrary> library;
  try {
    SCONCE_ASSIGN_OR_RETURN(library, LoadLibrary(path, load.has_weights, sandbox));
  } catch (const std::exception& error) {
    const std::string text = said->Take();
    return ErrorSaying(Reason::MODULE_INVALID, "the package cannot be loaded: ", CauseOf(text, error.what()),
                       text + error.what());
  }
  if (load.has_weights) {
    SCONCE_RETURN_IF_ERROR(Guarded(Reason::MODEL_WEIGHTS_MISMATCH, "the weights cannot be put into the package: ", [&] {
      return SwapConstants(weights, PolicyOf(load), library->constants, *library->runner);
    }));
  }
  return std::make_unique<CompiledModel>(std::move(library->runner), std::move(library->spec), said);
}

}  // namespace sconce::torch_runtime
