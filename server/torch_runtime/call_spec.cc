#include "server/torch_runtime/call_spec.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/json_scanner.h"

namespace sconce::torch_runtime {
namespace {

using format::JsonScanner;

constexpr int kMaxDepth = 3;  // the call, its positional arguments, one of them: deeper ones are refused anyway

struct Tree {
  std::string type;     // "builtins.dict"; empty for a leaf
  std::string context;  // JSON; of a dict its keys
  std::vector<Tree> children;
};

absl::Status Unreadable(absl::string_view why) {
  return MakeError(Reason::MODULE_INVALID,
                   absl::StrCat("the package does not say what it takes and gives in a way that is read here: ", why));
}

absl::StatusOr<std::string> StringOrNull(JsonScanner& json) {
  if (json.TakeWord("null")) return std::string();
  return json.String();
}

// Recurses to kMaxDepth.
absl::StatusOr<Tree> ReadTree(JsonScanner& json, int depth) {
  if (depth > kMaxDepth) return json.Malformed("tensors are nested too deep");
  Tree tree;
  SCONCE_RETURN_IF_ERROR(json.Expect('{'));
  do {
    SCONCE_ASSIGN_OR_RETURN(const std::string key, json.String());
    SCONCE_RETURN_IF_ERROR(json.Expect(':'));
    if (key == "type") {
      SCONCE_ASSIGN_OR_RETURN(tree.type, StringOrNull(json));
    } else if (key == "context") {
      SCONCE_ASSIGN_OR_RETURN(tree.context, StringOrNull(json));
    } else if (key == "children_spec") {
      SCONCE_RETURN_IF_ERROR(json.Expect('['));
      if (json.Take(']')) continue;
      do {
        SCONCE_ASSIGN_OR_RETURN(Tree child, ReadTree(json, depth + 1));
        tree.children.push_back(std::move(child));
      } while (json.Take(','));
      SCONCE_RETURN_IF_ERROR(json.Expect(']'));
    } else {
      return json.Malformed(absl::StrCat("an unknown field ", Quoted(key)));
    }
  } while (json.Take(','));
  SCONCE_RETURN_IF_ERROR(json.Expect('}'));
  return tree;
}

absl::StatusOr<Tree> ReadSpec(absl::string_view text) {
  JsonScanner json(text);
  SCONCE_RETURN_IF_ERROR(json.Expect('['));
  SCONCE_ASSIGN_OR_RETURN(const int64_t version, json.Integer());
  if (version != 1) return json.Malformed("a version that is not 1");
  SCONCE_RETURN_IF_ERROR(json.Expect(','));
  SCONCE_ASSIGN_OR_RETURN(Tree tree, ReadTree(json, 0));
  SCONCE_RETURN_IF_ERROR(json.Expect(']'));
  if (!json.AtEnd()) return json.Malformed("text behind its end");
  return tree;
}

// The keys of a dict, as many as it has children.
absl::StatusOr<std::vector<std::string>> Keys(const Tree& dict) {
  JsonScanner json(dict.context);
  std::vector<std::string> keys;
  SCONCE_RETURN_IF_ERROR(json.Expect('['));
  if (!json.Take(']')) {
    do {
      SCONCE_ASSIGN_OR_RETURN(std::string key, json.String());
      keys.push_back(std::move(key));
    } while (json.Take(','));
    SCONCE_RETURN_IF_ERROR(json.Expect(']'));
  }
  if (keys.size() != dict.children.size()) return json.Malformed("a dict with another number of keys than of values");
  return keys;
}

bool IsLeaf(const Tree& tree) {
  return tree.type.empty();
}

bool HasOnlyLeaves(const Tree& tree) {
  return std::all_of(tree.children.begin(), tree.children.end(), IsLeaf);
}

absl::StatusOr<std::vector<std::string>> Arguments(absl::string_view text) {
  SCONCE_ASSIGN_OR_RETURN(const Tree call, ReadSpec(text));
  if (call.children.size() != 2) return Unreadable("a call is no pair of arguments by position and by name");
  const Tree& by_position = call.children[0];
  const Tree& by_name = call.children[1];
  if (!HasOnlyLeaves(by_position) || !HasOnlyLeaves(by_name)) {
    return MakeError(Reason::MODULE_INVALID,
                     "forward() takes lists or dicts of tensors, which no request can give; let it take tensors");
  }
  std::vector<std::string> arguments;
  for (size_t i = 0; i < by_position.children.size(); ++i) arguments.push_back(absl::StrCat("INPUT__", i));
  SCONCE_ASSIGN_OR_RETURN(std::vector<std::string> names, Keys(by_name));
  std::move(names.begin(), names.end(), std::back_inserter(arguments));
  return arguments;
}

absl::StatusOr<std::vector<std::string>> Outputs(absl::string_view text) {
  SCONCE_ASSIGN_OR_RETURN(const Tree result, ReadSpec(text));
  if (IsLeaf(result)) return std::vector<std::string>{"OUTPUT__0"};
  if (result.children.empty() || !HasOnlyLeaves(result)) {
    return MakeError(Reason::MODULE_INVALID,
                     absl::StrCat("forward() gives a ", Quoted(result.type),
                                  " of other things than tensors; it must give a tensor, or a tuple, list or dict (by "
                                  "str) of tensors"));
  }
  if (result.type == "builtins.dict") return Keys(result);
  std::vector<std::string> outputs;
  for (size_t i = 0; i < result.children.size(); ++i) outputs.push_back(absl::StrCat("OUTPUT__", i));
  return outputs;
}

absl::StatusOr<std::vector<std::string>> Readable(absl::StatusOr<std::vector<std::string>> names) {
  if (names.ok() || HasReason(names.status(), Reason::MODULE_INVALID)) return names;
  return Unreadable(names.status().message());
}

}  // namespace

absl::StatusOr<CallSpec> ReadCallSpec(absl::string_view inputs, absl::string_view outputs) {
  CallSpec spec;
  SCONCE_ASSIGN_OR_RETURN(spec.arguments, Readable(Arguments(inputs)));
  SCONCE_ASSIGN_OR_RETURN(spec.outputs, Readable(Outputs(outputs)));
  return spec;
}

}  // namespace sconce::torch_runtime
