#include "tests/support/store_dump.h"

#include <cstdio>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/strings.h"
#include "storage/repository/names.h"

namespace sconce::repository {
namespace {

constexpr int64_t kPage = 2;  // small, so that paging is part of what is compared

std::string Why(const absl::Status& status) {
  const auto detail = GetErrorDetail(status);
  return detail ? std::string(detail->reason) : status.ToString();
}
std::string HexFloat(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%a", value);
  return text;
}
std::string Nanos(absl::Time time) {
  return absl::StrCat(absl::ToUnixNanos(time));
}
std::string Optional(const std::optional<int64_t>& value) {
  return value ? absl::StrCat(*value) : "-";
}
std::string LabelText(const Labels& labels) {
  return absl::StrCat("{", absl::StrJoin(labels, ",", absl::PairFormatter("=")), "}");
}

// All items of a paged list; the error's reason ends it.
template <typename T, typename List>
std::vector<T> All(std::string& out, List list) {
  std::vector<T> items;
  std::string start;
  do {
    auto page = list(start);
    if (!page.ok()) {
      absl::StrAppend(&out, "  cannot list: ", Why(page.status()), "\n");
      break;
    }
    for (T& item : page->items) items.push_back(std::move(item));
    SCONCE_CHECK(page->next.empty() || page->next != start);
    start = page->next;
  } while (!start.empty());
  return items;
}

std::string Content(const absl::Status& opened, const StoredObject* object) {
  if (!opened.ok()) return Why(opened);
  Sha256Hasher bulk;
  const format::Manifest& manifest = object->manifest();
  for (format::StorageIndex s = 0; s < manifest.storages.size(); ++s) {
    for (size_t c = 0; c < manifest.storages[s].chunks.size(); ++c) {
      const auto bytes = object->ReadChunk(s, static_cast<int64_t>(c));
      if (!bytes.ok()) return Why(bytes.status());
      bulk.Update(bytes->bytes);
    }
  }
  return absl::StrCat(Sha256(object->manifest_bytes()).Hex(), " ", bulk.Finish().Hex());
}

void DumpCheckpoint(Repository& repository, const Checkpoint& c, const DumpOptions& options, std::string& out) {
  absl::StrAppend(&out, "  version ", c.version, c.kind == CheckpointKind::kOpaque ? " opaque" : " state",
                  c.state == CheckpointState::kQuarantined ? " quarantined" : " committed", c.pinned ? " pinned" : "",
                  "\n    epoch ", Optional(c.epoch), " step ", Optional(c.step), " parent ", c.parent, " metrics {");
  for (const auto& [name, value] : c.metrics) absl::StrAppend(&out, name, "=", HexFloat(value), ",");
  absl::StrAppend(&out, "} labels ", LabelText(c.labels), "\n    logical ", c.logical_bytes, " stored ", c.stored_bytes,
                  " deduplicated ", c.deduplicated_bytes, " tensors ", c.tensor_count, " manifest ", c.manifest_bytes,
                  " ", c.manifest_digest.Hex(), "\n    created ", Nanos(c.create_time), " expires ",
                  c.expire_time ? Nanos(*c.expire_time) : "-", " aliases ", absl::StrJoin(c.aliases, ","),
                  options.etags ? absl::StrCat(" etag ", c.etag) : "", "\n");
  const auto open = repository.OpenRead({c.run, absl::StrCat(c.version)});
  absl::StrAppend(&out, "    content ", Content(open.status(), open.ok() ? open->get() : nullptr), "\n");
}

void DumpRun(Repository& repository, const Run& run, const DumpOptions& options, std::string& out) {
  absl::StrAppend(&out, "run ", Display(run.name), " uid ", run.uid, " labels ", LabelText(run.labels), "\n  best by ",
                  run.best_rule.metric, run.best_rule.goal == MetricGoal::kMaximize ? " max" : " min", " keep ",
                  run.retention.keep_last, " ", run.retention.keep_best, " ", run.retention.keep_every_steps, " ",
                  absl::ToInt64Nanoseconds(run.retention.keep_younger_than), " created ", Nanos(run.create_time),
                  options.update_times ? absl::StrCat(" updated ", Nanos(run.update_time)) : "",
                  options.etags ? absl::StrCat(" etag ", run.etag) : "", "\n  count ", run.checkpoint_count, " latest ",
                  run.latest_version, " best ", run.best_version, "\n");
  std::vector<std::string> selectors = {"latest", "best"};
  for (const Alias& alias :
       All<Alias>(out, [&](const std::string& start) { return repository.ListAliases(run.name, start, kPage); })) {
    absl::StrAppend(&out, "  alias ", alias.alias, " -> ", alias.version,
                    options.update_times ? absl::StrCat(" updated ", Nanos(alias.update_time)) : "",
                    options.etags ? absl::StrCat(" etag ", alias.etag) : "", "\n");
    selectors.push_back(alias.alias);
  }
  for (const std::string& selector : selectors) {
    const auto found = repository.GetCheckpoint({run.name, selector});
    absl::StrAppend(&out, "  ", selector, " is ", found.ok() ? absl::StrCat(found->version) : Why(found.status()),
                    "\n");
  }
  for (const Checkpoint& checkpoint : All<Checkpoint>(
           out, [&](const std::string& start) { return repository.ListCheckpoints(run.name, start, kPage); })) {
    DumpCheckpoint(repository, checkpoint, options, out);
  }
  for (const Module& module :
       All<Module>(out, [&](const std::string& start) { return repository.ListModules(run.name, start, kPage); })) {
    const auto open = repository.OpenReadModule(run.name, module.module);
    absl::StrAppend(&out, "  module ", module.module, " ", module.size_bytes, " ", module.digest.Hex(), " created ",
                    Nanos(module.create_time), " labels ", LabelText(module.labels), "\n    content ",
                    Content(open.status(), open.ok() ? open->get() : nullptr), "\n");
  }
}

}  // namespace

std::string DumpStore(Repository& repository, const DumpOptions& options) {
  std::string out;
  for (const Run& run :
       All<Run>(out, [&](const std::string& start) { return repository.ListRuns("", start, kPage); })) {
    DumpRun(repository, run, options, out);
  }
  const auto deployments = repository.ListDeployments();
  if (!deployments.ok()) return absl::StrCat(out, "deployments: ", Why(deployments.status()), "\n");
  for (const auto& [model, record] : *deployments) {
    absl::StrAppend(&out, "deployment ", model, " ", ToHex(AsBytes(record)), "\n");
  }
  return out;
}

}  // namespace sconce::repository
