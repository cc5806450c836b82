#include "server/inference/batch_tensors.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"

namespace sconce::inference {
namespace {

// Whether forward() takes this argument as a tensor; else it takes a number that a tensor carries.
bool TakenAsTensor(const std::string& name, const ModelSignature& signature) {
  const auto found = std::find_if(signature.inputs.begin(), signature.inputs.end(),
                                  [&](const ModelArgument& argument) { return argument.name == name; });
  return found != signature.inputs.end() && (found->type == "Tensor" || found->type == "Optional[Tensor]");
}

void AppendKey(const HostTensor& input, bool joined, std::string& key) {
  // Lengths first: no two requests may come to the same key by chance.
  absl::StrAppend(&key, input.name.size(), ":", input.name, ":", static_cast<int>(input.dtype), ":");
  const size_t first = joined ? 1 : 0;
  for (size_t i = first; i < input.shape.size(); ++i) absl::StrAppend(&key, input.shape[i], ",");
  if (!joined) {
    absl::StrAppend(&key, "=", input.bytes.size(), ":");
    key.append(reinterpret_cast<const char*>(input.bytes.data()), input.bytes.size());
  }
  key.push_back(';');
}

}  // namespace

BatchShape ShapeOf(const std::vector<HostTensor>& inputs, const ModelSignature& signature) {
  BatchShape shape;
  bool agree = true, any = false;
  for (const HostTensor& input : inputs) {
    const bool joined = TakenAsTensor(input.name, signature);
    if (joined) {
      const int64_t rows = input.shape.empty() ? -1 : input.shape[0];
      agree = agree && rows >= 0 && (!any || rows == shape.rows);
      if (!any) shape.rows = rows;
      any = true;
    }
    AppendKey(input, joined, shape.key);
  }
  if (!any || !agree) shape.rows = -1;
  if (shape.rows <= 0) shape.key.clear();
  return shape;
}

std::vector<HostTensor> Join(absl::Span<const std::vector<HostTensor>* const> requests,
                             const ModelSignature& signature) {
  std::vector<HostTensor> joined = *requests[0];
  for (size_t i = 0; i < joined.size(); ++i) {
    if (!TakenAsTensor(joined[i].name, signature)) continue;
    size_t size = 0;
    for (const std::vector<HostTensor>* request : requests) size += (*request)[i].bytes.size();
    const std::shared_ptr<uint8_t[]> memory(new uint8_t[size]);  // not cleared: all of it is written
    size_t end = 0;
    joined[i].shape[0] = 0;
    for (const std::vector<HostTensor>* request : requests) {
      const HostTensor& part = (*request)[i];
      if (!part.bytes.empty()) std::memcpy(memory.get() + end, part.bytes.data(), part.bytes.size());
      end += part.bytes.size();
      joined[i].shape[0] += part.shape[0];
    }
    joined[i].bytes = ByteSpan(memory.get(), size);
    joined[i].owner = memory;
  }
  return joined;
}

absl::Status CheckRows(const std::vector<HostTensor>& outputs, int64_t rows) {
  for (const HostTensor& output : outputs) {
    if (!output.shape.empty() && output.shape[0] == rows) continue;
    return MakeError(Reason::MODEL_FAILED,
                     absl::StrCat("output '", output.name, "' has shape [", absl::StrJoin(output.shape, ","), "] for ",
                                  rows, " rows of input: it cannot be divided among the requests of a batch"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<HostTensor>>> Divide(const std::vector<HostTensor>& outputs,
                                                            absl::Span<const int64_t> rows) {
  const int64_t all_rows = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  SCONCE_RETURN_IF_ERROR(CheckRows(outputs, all_rows));
  std::vector<std::vector<HostTensor>> divided(rows.size());
  for (const HostTensor& output : outputs) {
    const size_t row_bytes = all_rows > 0 ? output.bytes.size() / static_cast<size_t>(all_rows) : 0;
    size_t start = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      HostTensor part = output;
      part.shape[0] = rows[i];
      part.bytes = output.bytes.subspan(start, row_bytes * static_cast<size_t>(rows[i]));
      start += part.bytes.size();
      divided[i].push_back(std::move(part));
    }
  }
  return divided;
}

}  // namespace sconce::inference
