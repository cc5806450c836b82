#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/command.h"
#include "client/cli/files.h"
#include "client/cli/output.h"
#include "client/cli/tensor_values.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/path.h"

namespace sconce::cli {
namespace {

// Adds the input that "NAME=FILE#PATH" names.
absl::Status AddInput(const std::string& text, inference::ModelInferRequest& request) {
  SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("input", text));
  const size_t hash = pair.second.rfind('#');
  const std::string file_name = pair.second.substr(0, hash);
  const std::string path = hash == std::string::npos ? "" : pair.second.substr(hash + 1);
  SCONCE_ASSIGN_OR_RETURN(const wire::SharedBytes file, MapFile(file_name));
  absl::StatusOr<format::TorchFile> parsed = format::ReadCheckpointFile(file.bytes);
  if (!parsed.ok()) return Annotate(parsed.status(), file_name);
  const format::Manifest& manifest = parsed->manifest;
  absl::StatusOr<format::NodeIndex> found = format::FindPath(manifest, path);
  if (!found.ok()) return Annotate(found.status(), file_name);
  const format::Node* node = &manifest.nodes[*found];
  if (node->kind == format::NodeKind::kParameter) node = &manifest.nodes[node->children[0]];
  if (node->kind != format::NodeKind::kTensor || manifest.tensors[node->tensor].storage == format::kNoIndex) {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("--input ", pair.first, ": ", Quoted(path), " in ", file_name,
                                  " is no tensor with data; name one as FILE#PATH, e.g. ", file_name, "#/x"));
  }
  const format::TensorView& view = manifest.tensors[node->tensor];
  auto& input = *request.add_inputs();
  input.set_name(pair.first);
  SCONCE_ASSIGN_OR_RETURN(*input.mutable_datatype(), ProtocolDatatype(view.dtype));
  for (const int64_t size : view.shape) input.add_shape(size);
  request.add_raw_input_contents(ContiguousBytes(view, parsed->bytes[view.storage]));
  return absl::OkStatus();
}

// The protocol's own JSON form of an answer, with the values as numbers.
absl::Status PrintAsJson(const inference::ModelInferResponse& response) {
  std::vector<std::string> outputs;
  for (int i = 0; i < response.outputs_size(); ++i) {
    const auto& output = response.outputs(i);
    SCONCE_ASSIGN_OR_RETURN(std::vector<std::string> values,
                            ElementTexts(output.datatype(), response.raw_output_contents(i)));
    for (std::string& value : values) {
      if (value == "nan" || value == "inf" || value == "-inf") value = JsonString(value);  // JSON has no such numbers
    }
    outputs.push_back(absl::StrCat(
        "{\"name\": ", JsonString(output.name()), ", \"datatype\": ", JsonString(output.datatype()), ", \"shape\": [",
        absl::StrJoin(output.shape(), ", "), "], \"data\": [", absl::StrJoin(values, ", "), "]}"));
  }
  Print(absl::StrCat("{\"model_name\": ", JsonString(response.model_name()), ", \"model_version\": ",
                     JsonString(response.model_version()), ", \"outputs\": [", absl::StrJoin(outputs, ", "), "]}\n"));
  return absl::OkStatus();
}

absl::Status PrintForPeople(const inference::ModelInferResponse& response) {
  Print(absl::StrCat(response.model_name(), ", version ", response.model_version(), "\n"));
  for (int i = 0; i < response.outputs_size(); ++i) {
    const auto& output = response.outputs(i);
    SCONCE_ASSIGN_OR_RETURN(const std::vector<std::string> values,
                            ElementTexts(output.datatype(), response.raw_output_contents(i)));
    const std::vector<int64_t> shape(output.shape().begin(), output.shape().end());
    Print(absl::StrCat(output.name(), "  ", output.datatype(), " [", absl::StrJoin(shape, ", "), "]\n",
                       RenderNested(shape, values, 64), "\n"));
  }
  return absl::OkStatus();
}

absl::Status Run(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  inference::ModelInferRequest request;
  request.set_model_name(context.args.positional()[0]);
  request.set_model_version(context.args.Get("version"));
  if (!context.args.Has("input"))
    return MakeError(Reason::ARGUMENT_INVALID, "infer needs at least one --input NAME=FILE.pt#/PATH");
  for (const std::string& text : context.args.All("input")) SCONCE_RETURN_IF_ERROR(AddInput(text, request));
  SCONCE_ASSIGN_OR_RETURN(const inference::ModelInferResponse response, context.client.Infer(request));
  if (response.raw_output_contents_size() != response.outputs_size()) {
    return MakeError(Reason::INTERNAL_ERROR, "the server sent outputs without their bytes");
  }
  return format == OutputFormat::kTable ? PrintForPeople(response) : PrintAsJson(response);
}

}  // namespace

Command InferCommand() {
  return {"infer",
          "MODEL --input NAME=FILE.pt#/PATH",
          "run a deployed model on tensors from files",
          "NAME is an argument of the module's forward(), or INPUT__0, INPUT__1 ... by position; PATH is where in the "
          "file the tensor is.",
          {{"input", 'i', "NAME=FILE#PATH", "an input; repeatable", true},
           {"version", 0, "VERSION", "demand this version of the weights (default: the one that serves)"},
           OutputOption()},
          1,
          1,
          Run};
}

}  // namespace sconce::cli
