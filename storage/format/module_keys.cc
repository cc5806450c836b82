#include "storage/format/module_keys.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "storage/format/module_file.h"
#include "storage/format/pickle_globals.h"
#include "storage/format/record_source.h"
#include "storage/format/script_pickle.h"
#include "storage/format/torch_archive.h"

namespace sconce::format {
namespace {

using Kind = ScriptValue::Kind;

constexpr int64_t kMaxCodeBytes = int64_t{64} << 20;  // of one file in code/
constexpr int64_t kMaxPickleBytes = int64_t{64} << 20;
constexpr size_t kMaxModules = 1'000'000;
constexpr size_t kMaxAllKeyBytes = size_t{128} << 20;

absl::Status Invalid(absl::string_view what) {
  return MakeError(Reason::MODULE_INVALID, absl::StrCat(what, "; write the module again with torch.jit.save"));
}

absl::Status Compiled() {
  return MakeError(
      Reason::MODULE_INVALID,
      "a compiled package (.pt2) says what it holds to those alone who run it; plan against a file with the "
      "model's own state_dict");
}

// What the code of a class says about its attributes.
struct ScriptClass {
  absl::flat_hash_set<std::string> parameters;
  absl::flat_hash_set<std::string> buffers;
  bool lists_buffers = false;  // archives before PyTorch 1.5 do not; then every other tensor is one
};

// The words in quotes of `["weight", "bias", ]`.
absl::flat_hash_set<std::string> QuotedWords(absl::string_view text) {
  absl::flat_hash_set<std::string> words;
  for (size_t at = 0; (at = text.find('"', at)) != absl::string_view::npos;) {
    const size_t end = text.find('"', at + 1);
    if (end == absl::string_view::npos) break;
    words.emplace(text.substr(at + 1, end - at - 1));
    at = end + 1;
  }
  return words;
}

// The classes of an archive, each file of code/ read when the first of its classes is asked for.
class ScriptClasses {
 public:
  explicit ScriptClasses(const TorchArchive& archive) : archive_(archive) {}

  // `global` is "__torch__.torch.nn.modules.linear\nLinear" as in the pickle; null when the code has no such class.
  absl::StatusOr<const ScriptClass*> Find(absl::string_view global) {
    const size_t end = global.find('\n');
    const std::string file = absl::StrCat(absl::StrReplaceAll(global.substr(0, end), {{".", "/"}}), ".py");
    if (files_.insert(file).second) SCONCE_RETURN_IF_ERROR(ReadFile(file));
    const auto found = classes_.find(absl::StrCat(file, ":", global.substr(end + 1)));
    return found == classes_.end() ? nullptr : &found->second;
  }

 private:
  absl::Status ReadFile(const std::string& file) {
    const ZipRecord* const record = archive_.Find(absl::StrCat("code/", file));
    if (record == nullptr) return absl::OkStatus();
    SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(*record));
    SCONCE_ASSIGN_OR_RETURN(const RecordPiece code, ReadWholeRecord(source, kMaxCodeBytes));
    ScriptClass* current = nullptr;
    absl::string_view rest = AsText(code.bytes);
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      absl::string_view line = rest.substr(0, end);
      rest = end == absl::string_view::npos ? absl::string_view() : rest.substr(end + 1);
      if (absl::ConsumePrefix(&line, "class ")) {
        current = &classes_[absl::StrCat(file, ":", line.substr(0, line.find_first_of("(:")))];
      } else if (current != nullptr && absl::ConsumePrefix(&line, "  __parameters__ = ")) {
        current->parameters = QuotedWords(line);
      } else if (current != nullptr && absl::ConsumePrefix(&line, "  __buffers__ = ")) {
        current->buffers = QuotedWords(line);
        current->lists_buffers = true;
      }
    }
    return absl::OkStatus();
  }

  const TorchArchive& archive_;
  absl::flat_hash_set<std::string> files_;
  absl::flat_hash_map<std::string, ScriptClass> classes_;  // by file and name
};

// Walks the objects of a module without recursion, a module's own tensors before its children.
class ModuleWalk {
 public:
  ModuleWalk(const ScriptPickle& pickle, ScriptClasses& classes) : values_(pickle.values), classes_(classes) {}

  absl::StatusOr<LoadTarget> Run(uint32_t root) {
    if (values_[root].kind != Kind::kObject) return Invalid("the archive holds no module");
    std::vector<std::pair<std::string, uint32_t>> pending = {{"", root}};  // the next one last
    size_t modules = 0;
    while (!pending.empty()) {
      const auto [prefix, object] = std::move(pending.back());
      pending.pop_back();
      if (++modules > kMaxModules || pending.size() > kMaxModules || target_.keys.size() > kMaxTargetKeys ||
          prefix.size() > kMaxTargetKeyBytes || (bytes_ += prefix.size()) > kMaxAllKeyBytes) {
        return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                         "the module has too many parameters or submodules, or too long names");
      }
      SCONCE_RETURN_IF_ERROR(Visit(prefix, values_[object], pending));
    }
    target_.scripted = true;
    return std::move(target_);
  }

 private:
  absl::Status Visit(const std::string& prefix, const ScriptValue& object,
                     std::vector<std::pair<std::string, uint32_t>>& pending) {
    if (object.argument == ScriptValue::kAbsent) return absl::OkStatus();
    const ScriptValue& type = values_[object.callee];
    const ScriptValue& state = values_[object.argument];
    if (type.kind != Kind::kGlobal || state.kind != Kind::kDict) return absl::OkStatus();  // packed by code of its own
    SCONCE_ASSIGN_OR_RETURN(const ScriptClass* const known, classes_.Find(type.text));
    if (known == nullptr) return Invalid("the code of a class is missing");
    for (const bool parameters : {true, false}) {
      for (size_t i = 0; i + 1 < state.items.size(); i += 2) {
        const ScriptValue& name = values_[state.items[i]];
        const ScriptValue& value = values_[state.items[i + 1]];
        if (name.kind != Kind::kStr || value.kind != Kind::kCall) continue;
        const bool is_parameter = known->parameters.contains(name.text);
        const bool is_buffer = !is_parameter && (known->lists_buffers ? known->buffers.contains(name.text) : true);
        if (parameters ? !is_parameter : !is_buffer) continue;
        const absl::string_view callee = values_[value.callee].text;
        if (!absl::StartsWith(callee, "torch._utils\n_rebuild_")) continue;
        SCONCE_RETURN_IF_ERROR(AddTensor(absl::StrCat(prefix, name.text), callee, value.argument));
      }
    }
    for (size_t i = state.items.size() - state.items.size() % 2; i >= 2; i -= 2) {
      const ScriptValue& name = values_[state.items[i - 2]];
      if (name.kind != Kind::kStr || values_[state.items[i - 1]].kind != Kind::kObject) continue;
      pending.emplace_back(absl::StrCat(prefix, name.text, "."), state.items[i - 1]);
    }
    return absl::OkStatus();
  }

  // Element `i` of a tuple; null.
  const ScriptValue* Element(uint32_t tuple, size_t i) const {
    if (tuple >= values_.size() || values_[tuple].kind != Kind::kTuple || values_[tuple].items.size() <= i) {
      return nullptr;
    }
    return &values_[values_[tuple].items[i]];
  }

  absl::Status AddTensor(std::string key, absl::string_view callee, uint32_t arguments) {
    TargetKey added;
    const ScriptValue* storage = nullptr;
    const ScriptValue* size = nullptr;
    if (callee == "torch._utils\n_rebuild_tensor_v2" || callee == "torch._utils\n_rebuild_qtensor") {
      // (storage, offset, size, stride, ...)
      storage = Element(arguments, 0);
      size = Element(arguments, 2);
    } else if (callee == "torch._utils\n_rebuild_sparse_tensor") {
      // (layout, (indices, values, size, ...)); the dtype is that of the values
      const ScriptValue* parts = Element(arguments, 1);
      if (parts != nullptr && parts->items.size() >= 3 && parts->kind == Kind::kTuple) {
        size = &values_[parts->items[2]];
        const ScriptValue& elements = values_[parts->items[1]];
        if (elements.kind == Kind::kCall) storage = Element(elements.argument, 0);
      }
    }
    if (size == nullptr || size->kind != Kind::kTuple || size->items.size() > kMaxRank) {
      return MakeError(Reason::FILE_UNSUPPORTED,
                       absl::StrCat("parameter ", Quoted(key), " of the module is of a kind that is not read"));
    }
    for (const uint32_t item : size->items) {
      if (values_[item].kind != Kind::kInt || values_[item].integer < 0) {
        return Invalid(absl::StrCat("the shape of ", Quoted(key), " makes no sense"));
      }
      added.shape.push_back(values_[item].integer);
    }
    // The persistent id: ("storage", class, key, device, elements).
    if (storage != nullptr && storage->kind == Kind::kPersistent) {
      const ScriptValue* type = Element(storage->argument, 1);
      if (type != nullptr && type->kind == Kind::kGlobal) added.dtype = DTypeOfStorage(type->text);
    }
    if (!seen_.insert(key).second) return Invalid(absl::StrCat("parameter ", Quoted(key), " is there twice"));
    bytes_ += key.size();
    added.key = std::move(key);
    target_.keys.push_back(std::move(added));
    return absl::OkStatus();
  }

  // "float32" for "torch\nFloatStorage"; "" for what is not known.
  static std::string DTypeOfStorage(absl::string_view global) {
    const size_t end = global.find('\n');
    const std::optional<PickleGlobal> known = FindPickleGlobal(global.substr(0, end), global.substr(end + 1));
    if (!known.has_value() || known->tag != PickleTag::kStorageType) return "";
    const std::optional<DType> dtype = DTypeFromNumber(known->number);
    return dtype.has_value() ? std::string(DTypeName(*dtype)) : "";
  }

  const std::vector<ScriptValue>& values_;
  ScriptClasses& classes_;
  LoadTarget target_;
  absl::flat_hash_set<std::string> seen_;
  size_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<LoadTarget> TargetOfModule(ByteSpan archive) {
  SCONCE_ASSIGN_OR_RETURN(const TorchArchive module, TorchArchive::Open(archive));
  if (ModuleKindOf(module.zip()).value_or(ModuleKind::kTorchScript) == ModuleKind::kCompiled) return Compiled();
  if (module.Find("constants.pkl") == nullptr) return Invalid("not a TorchScript module: it has no constants.pkl");
  const ZipRecord* const tree = module.Find("data.pkl");
  if (tree == nullptr) return Invalid("the module has no data.pkl");
  SCONCE_ASSIGN_OR_RETURN(const RecordSource source, ZipReader::Source(*tree));
  SCONCE_ASSIGN_OR_RETURN(const RecordPiece pickle, ReadWholeRecord(source, kMaxPickleBytes));
  SCONCE_ASSIGN_OR_RETURN(const ScriptPickle values, ReadScriptPickle(pickle.bytes));
  ScriptClasses classes(module);
  return ModuleWalk(values, classes).Run(values.root);
}

}  // namespace sconce::format
