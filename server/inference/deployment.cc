#include "server/inference/deployment.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "server/worker_protocol/byte_codec.h"

namespace sconce::inference {
namespace {

constexpr uint8_t kFormat = 2;
constexpr uint8_t kFormatWithoutRules = 1;  // release 0.1
constexpr size_t kMaxText = size_t{64} << 10;

void WriteMatching(const WeightsRef& weights, worker::ByteWriter& writer) {
  writer.U32(static_cast<uint32_t>(weights.rules.strip_prefixes.size()));
  for (const std::string& prefix : weights.rules.strip_prefixes) writer.Text(prefix);
  writer.Text(weights.rules.add_prefix);
  writer.U32(static_cast<uint32_t>(weights.rules.renames.size()));
  for (const format::RenameRule& rename : weights.rules.renames) {
    writer.Text(rename.from);
    writer.Text(rename.to);
  }
  writer.U8(weights.match.lenient ? 1 : 0);
  writer.F64(weights.match.min_match);
}

void ReadMatching(worker::ByteReader& reader, WeightsRef& weights) {
  for (uint32_t left = reader.Count(4); left > 0; --left) {
    weights.rules.strip_prefixes.push_back(reader.Text(kMaxText));
  }
  weights.rules.add_prefix = reader.Text(kMaxText);
  for (uint32_t left = reader.Count(8); left > 0; --left) {
    std::string from = reader.Text(kMaxText);
    weights.rules.renames.push_back({std::move(from), reader.Text(kMaxText)});
  }
  weights.match.lenient = reader.U8() != 0;
  weights.match.min_match = reader.F64();
}

}  // namespace

std::string EncodeDeployment(const DeploymentRecord& record) {
  worker::ByteWriter writer;
  writer.U8(kFormat);
  writer.Text(record.spec.module_run.project);
  writer.Text(record.spec.module_run.run);
  writer.Text(record.spec.module);
  writer.U8(record.spec.weights.has_value() ? 1 : 0);
  const WeightsRef weights = record.spec.weights.value_or(WeightsRef{});
  writer.Text(weights.run.project);
  writer.Text(weights.run.run);
  writer.Text(weights.selector);
  writer.Text(weights.path);
  WriteMatching(weights, writer);
  writer.Text(record.spec.device);
  writer.Text(record.request_id);
  writer.I64(absl::ToUnixMicros(record.create_time));
  return writer.Take();
}

absl::StatusOr<DeploymentRecord> DecodeDeployment(const std::string& bytes) {
  worker::ByteReader reader(AsBytes(bytes));
  const uint8_t format = reader.U8();
  if (reader.ok() && format != kFormat && format != kFormatWithoutRules) {
    return MakeError(Reason::CATALOG_CORRUPT,
                     absl::StrCat("a deployment is recorded in format ", format, ", which this release does not know"));
  }
  DeploymentRecord record;
  record.spec.module_run.project = reader.Text(kMaxText);
  record.spec.module_run.run = reader.Text(kMaxText);
  record.spec.module = reader.Text(kMaxText);
  const bool has_weights = reader.U8() != 0;
  WeightsRef weights;
  weights.run.project = reader.Text(kMaxText);
  weights.run.run = reader.Text(kMaxText);
  weights.selector = reader.Text(kMaxText);
  weights.path = reader.Text(kMaxText);
  if (format != kFormatWithoutRules) ReadMatching(reader, weights);
  if (has_weights) record.spec.weights = weights;
  record.spec.device = reader.Text(kMaxText);
  record.request_id = reader.Text(kMaxText);
  record.create_time = absl::FromUnixMicros(reader.I64());
  if (!reader.ok() || reader.remaining() != 0) {
    return MakeError(Reason::CATALOG_CORRUPT, "the record of a deployment is damaged");
  }
  return record;
}

}  // namespace sconce::inference
