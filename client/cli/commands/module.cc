#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "client/cli/all_pages.h"
#include "client/cli/command.h"
#include "client/cli/files.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"
#include "storage/format/module_file.h"

namespace sconce::cli {
namespace {

absl::Status Push(Context& context) {
  const std::string& path = context.args.positional()[0];
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::PushModuleRequest::Header header;
  SCONCE_ASSIGN_OR_RETURN(*header.mutable_name(), FullModuleName(context.args.positional()[1]));
  for (const std::string& text : context.args.All("label")) {
    SCONCE_ASSIGN_OR_RETURN(const auto pair, SplitPair("label", text));
    (*header.mutable_labels())[pair.first] = pair.second;
  }
  header.set_no_create(context.args.Has("no-create"));
  SCONCE_ASSIGN_OR_RETURN(const wire::SharedBytes file, MapFile(path));
  SCONCE_RETURN_IF_ERROR(Annotate(format::CheckModuleFile(file.bytes), path));  // told here, before a byte moves
  absl::StatusOr<v1::Module> module;
  {
    ProgressBar bar(BaseName(path));
    module = context.client.PushModule(header, file, bar.AsCallback());
  }
  if (!module.ok()) return Annotate(module.status(), absl::StrCat("pushing ", path));
  if (format == OutputFormat::kJson) {
    PrintJson(*module);
  } else if (format == OutputFormat::kName) {
    Print(absl::StrCat(module->name(), "\n"));
  } else {
    Print(absl::StrCat(ShortName(module->name()), "  ", HumanBytes(module->size_bytes()), ", sha256 ",
                       module->sha256().substr(0, 12), "\n"));
  }
  return absl::OkStatus();
}

absl::Status Pull(Context& context) {
  if (!context.args.Has("output"))
    return MakeError(Reason::ARGUMENT_INVALID, "module pull needs -o FILE (\"-\" is standard output)");
  v1::FetchModuleRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullModuleName(context.args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file, OutputFile::Create(context.args.Get("output")));
  absl::StatusOr<v1::Module> module;
  {
    ProgressBar bar(context.args.positional()[0]);
    module = context.client.FetchModule(
        request, [&](ByteSpan bytes) { return file->Append(bytes); }, bar.AsCallback());
  }
  if (!module.ok()) return Annotate(module.status(), absl::StrCat("pulling ", context.args.positional()[0]));
  SCONCE_RETURN_IF_ERROR(file->Commit());
  if (!file->is_stdout())
    Print(absl::StrCat(ShortName(module->name()), " -> ", context.args.Get("output"), "  ",
                       HumanBytes(module->size_bytes()), "\n"));
  return absl::OkStatus();
}

absl::Status List(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::ListModulesRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_parent(), FullRunName(context.args.positional()[0]));
  SCONCE_ASSIGN_OR_RETURN(const v1::ListModulesResponse all,
                          AllPages(context.client, &client::Client::ListModules, request));
  if (format == OutputFormat::kJson) {
    PrintJson(all);
    return absl::OkStatus();
  }
  Table table({{"MODULE"}, {"CREATED"}, {"SIZE", Align::kRight}, {"SHA-256"}, {"LABELS"}});
  for (const v1::Module& module : all.modules()) {
    if (format == OutputFormat::kName) {
      Print(absl::StrCat(module.name(), "\n"));
    } else {
      table.AddRow({ShortName(module.name()), HumanAge(ToTime(module.create_time()), absl::Now()),
                    HumanBytes(module.size_bytes()), module.sha256().substr(0, 12), JoinPairs(module.labels())});
    }
  }
  if (format == OutputFormat::kName) return absl::OkStatus();
  if (table.empty()) {
    Note(absl::StrCat("no modules; push one with: sconce module push FILE ", ShortName(request.parent()), "@NAME"));
  } else {
    Print(table.Render());
  }
  return absl::OkStatus();
}

absl::Status Remove(Context& context) {
  v1::DeleteModuleRequest request;
  SCONCE_ASSIGN_OR_RETURN(*request.mutable_name(), FullModuleName(context.args.positional()[0]));
  SCONCE_RETURN_IF_ERROR(context.client.DeleteModule(request));
  Print(absl::StrCat("deleted module ", ShortName(request.name()), "\n"));
  return absl::OkStatus();
}

}  // namespace

Command ModulePushCommand() {
  return {"module push",
          "FILE [PROJECT/]RUN@MODULE",
          "store a TorchScript archive (torch.jit.save) or a compiled package (.pt2)",
          "A module is write-once: the same name with other content is refused.",
          {{"label", 0, "KEY=VALUE", "a label; repeatable", true},
           {"no-create", 0, "", "fail when the run does not exist yet"},
           OutputOption()},
          2,
          2,
          Push};
}
Command ModulePullCommand() {
  return {"module pull",
          "[PROJECT/]RUN@MODULE -o FILE",
          "fetch a module's file, byte for byte",
          "",
          {{"output", 'o', "FILE", "where to; - is standard output"}},
          1,
          1,
          Pull};
}
Command ModuleLsCommand() {
  return {"module ls", "[PROJECT/]RUN", "list the modules of a run", "", {OutputOption()}, 1, 1, List};
}
Command ModuleRmCommand() {
  return {"module rm", "[PROJECT/]RUN@MODULE", "delete a module", "", {}, 1, 1, Remove};
}

}  // namespace sconce::cli
