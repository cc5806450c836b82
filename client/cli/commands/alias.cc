#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "client/cli/all_pages.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/refs.h"
#include "client/cli/table.h"

namespace sconce::cli {
namespace {

absl::Status List(Context& context, const std::string& run) {
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  v1::ListAliasesRequest request;
  request.set_parent(run);
  SCONCE_ASSIGN_OR_RETURN(const v1::ListAliasesResponse all,
                          AllPages(context.client, &client::Client::ListAliases, request));
  if (format == OutputFormat::kJson) {
    PrintJson(all);
    return absl::OkStatus();
  }
  Table table({{"ALIAS"}, {"VERSION", Align::kRight}, {"MOVED"}});
  for (const v1::Alias& alias : all.aliases()) {
    if (format == OutputFormat::kName) {
      Print(absl::StrCat(alias.name(), "\n"));
    } else {
      table.AddRow({alias.name().substr(alias.name().find_last_of('/') + 1), absl::StrCat(alias.version()),
                    HumanAge(ToTime(alias.update_time()), absl::Now())});
    }
  }
  if (format == OutputFormat::kName) return absl::OkStatus();
  if (table.empty()) {
    Note(absl::StrCat("no aliases; set one with: sconce alias ", ShortName(run), " NAME SELECTOR"));
  } else {
    Print(table.Render());
  }
  return absl::OkStatus();
}

absl::Status Run(Context& context) {
  const std::vector<std::string>& words = context.args.positional();
  SCONCE_ASSIGN_OR_RETURN(const std::string run, FullRunName(words[0]));
  if (words.size() == 1) return List(context, run);
  const std::string name = absl::StrCat(run, "/aliases/", words[1]);
  v1::Alias alias;
  if (words.size() == 2) {
    v1::GetAliasRequest request;
    request.set_name(name);
    SCONCE_ASSIGN_OR_RETURN(alias, context.client.GetAlias(request));
  } else {
    v1::SetAliasRequest request;
    request.set_name(name);
    request.set_selector(words[2]);
    request.set_etag(context.args.Get("etag"));
    request.set_must_be_new(context.args.Has("new"));
    SCONCE_ASSIGN_OR_RETURN(alias, context.client.SetAlias(request));
  }
  SCONCE_ASSIGN_OR_RETURN(const OutputFormat format, ChosenFormat(context.args));
  if (format == OutputFormat::kJson) {
    PrintJson(alias);
  } else if (format == OutputFormat::kName) {
    Print(absl::StrCat(alias.name(), "\n"));
  } else {
    Print(absl::StrCat(words[1], " -> ", ShortName(absl::StrCat(run, "/checkpoints/", alias.version())), "\n"));
  }
  return absl::OkStatus();
}

absl::Status Remove(Context& context) {
  SCONCE_ASSIGN_OR_RETURN(const std::string run, FullRunName(context.args.positional()[0]));
  v1::DeleteAliasRequest request;
  request.set_name(absl::StrCat(run, "/aliases/", context.args.positional()[1]));
  request.set_etag(context.args.Get("etag"));
  SCONCE_RETURN_IF_ERROR(context.client.DeleteAlias(request));
  Print(absl::StrCat("deleted alias ", context.args.positional()[1], "\n"));
  return absl::OkStatus();
}

}  // namespace

Command AliasCommand() {
  return {"alias",
          "[PROJECT/]RUN [NAME [SELECTOR]]",
          "list aliases, show one, or point one at a version",
          "",
          {{"etag", 0, "ETAG", "only if the alias still has this etag (compare-and-swap)"},
           {"new", 0, "", "only if there is no such alias yet"},
           OutputOption()},
          1,
          3,
          Run};
}

Command AliasRmCommand() {
  return {"alias rm",
          "[PROJECT/]RUN NAME",
          "delete an alias",
          "",
          {{"etag", 0, "ETAG", "only if the alias still has this etag"}},
          2,
          2,
          Remove};
}

}  // namespace sconce::cli
