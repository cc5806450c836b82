#include "server/worker_protocol/messages.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/worker_protocol/byte_codec.h"
#include "storage/format/utf8.h"

namespace sconce::worker {
namespace {

using format::Dims;
using format::DType;

absl::Status Broken(absl::string_view message, absl::string_view what) {
  return MakeError(Reason::INTERNAL_ERROR, absl::StrCat("worker protocol: bad ", message, ": ", what,
                                                        "; sconced and sconce-torch-worker must be of one release"));
}

int64_t Aligned(int64_t offset) {
  const auto alignment = static_cast<int64_t>(kDataAlignment);
  return (offset + alignment - 1) / alignment * alignment;
}

// Where the data section's parts come to lie, while the table that points to them is written.
class DataPlacer {
 public:
  explicit DataPlacer(std::vector<ByteSpan>& data) : data_(data) {}
  void Add(ByteSpan bytes, ByteWriter& table) {
    table.I64(next_);
    table.I64(static_cast<int64_t>(bytes.size()));
    data_.push_back(bytes);
    next_ = Aligned(next_ + static_cast<int64_t>(bytes.size()));
  }

 private:
  std::vector<ByteSpan>& data_;
  int64_t next_ = 0;
};

// A body with a data section: u64 length of the table, counted from the body's start; the table; the section.
EncodedBody Sectioned(ByteWriter& writer, std::vector<ByteSpan> data) {
  ByteWriter head;
  std::string rest = writer.Take();
  head.U64(8 + rest.size());
  EncodedBody body;
  body.table = head.Take() + rest;
  body.data = std::move(data);
  body.sectioned = true;
  return body;
}

struct Sections {
  ByteSpan table;
  ByteSpan data;
};

std::optional<Sections> Split(ByteSpan body) {
  ByteReader head(body);
  const uint64_t table_bytes = head.U64();
  if (!head.ok() || table_bytes < 8 || table_bytes > body.size()) return std::nullopt;
  const auto data_start = static_cast<size_t>(Aligned(static_cast<int64_t>(table_bytes)));
  return Sections{body.subspan(8, table_bytes - 8), data_start < body.size() ? body.subspan(data_start) : ByteSpan()};
}

ByteSpan ReadData(ByteReader& table, ByteSpan data) {
  const int64_t offset = table.I64();
  const int64_t size = table.I64();
  const auto limit = static_cast<int64_t>(data.size());
  if (size < 0 || size > limit || offset < 0 || (size > 0 && offset > limit - size)) table.Fail();
  if (!table.ok() || size == 0) return {};
  return data.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
}

std::string ReadText(ByteReader& reader, size_t max_bytes) {
  std::string text = reader.Text(max_bytes);
  if (!format::IsUtf8(text, /*allow_surrogates=*/false)) reader.Fail();
  return text;
}

void WriteDims(const Dims& dims, ByteWriter& writer) {
  writer.U32(static_cast<uint32_t>(dims.size()));
  for (const int64_t dim : dims) writer.I64(dim);
}

Dims ReadDims(ByteReader& reader) {
  const uint32_t count = reader.Count(8);
  Dims dims;
  if (count > kMaxDims) {
    reader.Fail();
    return dims;
  }
  for (uint32_t i = 0; i < count; ++i) {
    dims.push_back(reader.I64());
    if (dims.back() < 0) reader.Fail();
  }
  return dims;
}

DType ReadDType(ByteReader& reader) {
  const std::optional<DType> dtype = format::DTypeFromNumber(reader.U8());
  if (!dtype.has_value()) reader.Fail();
  return dtype.value_or(DType::kFloat32);
}

void WriteStored(const StoredBytes& stored, DataPlacer& placer, ByteWriter& writer) {
  writer.I64(stored.size_bytes);
  writer.U32(static_cast<uint32_t>(stored.extents.size()));
  for (const Extent& extent : stored.extents) {
    writer.U32(extent.file);
    writer.I64(extent.offset);
    writer.I64(extent.size_bytes);
  }
  placer.Add(stored.inline_bytes, writer);
}

StoredBytes ReadStored(ByteReader& reader, ByteSpan data, uint32_t file_count) {
  StoredBytes stored;
  stored.size_bytes = reader.I64();
  const uint32_t count = reader.Count(20);
  stored.extents.reserve(count);
  int64_t left = stored.size_bytes;
  for (uint32_t i = 0; i < count; ++i) {
    Extent extent;
    extent.file = reader.U32();
    extent.offset = reader.I64();
    extent.size_bytes = reader.I64();
    if (extent.file >= file_count || extent.offset < 0 || extent.size_bytes <= 0 || extent.size_bytes > left ||
        extent.offset > INT64_MAX - extent.size_bytes) {
      reader.Fail();
      return stored;
    }
    left -= extent.size_bytes;
    stored.extents.push_back(extent);
  }
  stored.inline_bytes = ReadData(reader, data);
  const bool complete = stored.extents.empty() ? static_cast<int64_t>(stored.inline_bytes.size()) == stored.size_bytes
                                               : left == 0 && stored.inline_bytes.empty();
  if (!complete) reader.Fail();
  return stored;
}

void WriteTensors(const std::vector<Tensor>& tensors, DataPlacer& placer, ByteWriter& writer) {
  writer.U32(static_cast<uint32_t>(tensors.size()));
  for (const Tensor& tensor : tensors) {
    writer.Text(tensor.name);
    writer.U8(static_cast<uint8_t>(tensor.dtype));
    WriteDims(tensor.shape, writer);
    placer.Add(tensor.bytes, writer);
  }
}

std::vector<Tensor> ReadTensors(ByteReader& reader, ByteSpan data) {
  const uint32_t count = reader.Count(25);
  std::vector<Tensor> tensors;
  tensors.reserve(count);
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    Tensor tensor;
    tensor.name = ReadText(reader, kMaxNameBytes);
    tensor.dtype = ReadDType(reader);
    tensor.shape = ReadDims(reader);
    tensor.bytes = ReadData(reader, data);
    const int64_t elements = format::ElementCount(tensor.shape);
    const auto bytes = static_cast<int64_t>(tensor.bytes.size());
    const int64_t element_bytes = format::ElementBytes(tensor.dtype);
    if (elements < 0 || bytes % element_bytes != 0 || bytes / element_bytes != elements) reader.Fail();
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

void WriteView(const format::TensorView& view, ByteWriter& writer) {
  writer.U8(static_cast<uint8_t>(view.dtype));
  writer.U32(view.storage);
  writer.I64(view.offset);
  WriteDims(view.shape, writer);
  WriteDims(view.stride, writer);
}

format::TensorView ReadView(ByteReader& reader, const std::vector<StoredBytes>& storages) {
  format::TensorView view;
  view.dtype = ReadDType(reader);
  view.storage = reader.U32();
  view.offset = reader.I64();
  view.shape = ReadDims(reader);
  view.stride = ReadDims(reader);
  if (!reader.ok()) return view;
  const int64_t end = format::ViewEndBytes(view);
  if (view.storage >= storages.size() || end < 0 || end > storages[view.storage].size_bytes) reader.Fail();
  return view;
}

Reason ReasonOf(FailureKind kind) {
  switch (kind) {
    case FailureKind::kModuleInvalid:
      return Reason::MODULE_INVALID;
    case FailureKind::kWeightsMismatch:
      return Reason::MODEL_WEIGHTS_MISMATCH;
    case FailureKind::kTrainingModeFrozen:
      return Reason::TRAINING_MODE_FROZEN;
    case FailureKind::kDeviceUnavailable:
      return Reason::DEVICE_UNAVAILABLE;
    case FailureKind::kInputInvalid:
      return Reason::MODEL_INPUT_INVALID;
    case FailureKind::kModelFailed:
      return Reason::MODEL_FAILED;
    case FailureKind::kOutOfMemory:
      return Reason::WORKER_MEMORY_EXCEEDED;
    case FailureKind::kTorchUnavailable:
      return Reason::TORCH_UNAVAILABLE;
  }
  return Reason::MODEL_FAILED;
}

}  // namespace

absl::Status ToStatus(const Failure& failure) {
  return MakeError(ReasonOf(failure.kind), failure.message);
}

std::string MakeUtf8(absl::string_view s) {
  std::string out;
  out.reserve(s.size());
  for (size_t at = 0; at < s.size();) {
    const size_t start = at;
    uint32_t code_point = 0;
    const bool valid = format::NextCodePoint(s, at, code_point) && !format::IsSurrogate(code_point);
    if (at == start) ++at;
    if (valid) {
      out.append(s.data() + start, at - start);
    } else {
      out.push_back('?');
    }
  }
  return out;
}

EncodedBody Encode(const Hello& message) {
  ByteWriter writer;
  writer.Text(message.torch_version);
  return EncodedBody{writer.Take(), {}, false};
}

absl::StatusOr<Hello> DecodeHello(ByteSpan body) {
  ByteReader reader(body);
  Hello message{ReadText(reader, kMaxNameBytes)};
  if (!reader.ok() || reader.remaining() != 0) return Broken("Hello", "text does not fit");
  return message;
}

EncodedBody Encode(const Start& message) {
  ByteWriter writer;
  writer.U32(message.threads);
  return EncodedBody{writer.Take(), {}, false};
}

absl::StatusOr<Start> DecodeStart(ByteSpan body) {
  ByteReader reader(body);
  const Start message{reader.U32()};
  if (!reader.ok() || reader.remaining() != 0 || message.threads > kMaxThreads)
    return Broken("Start", "a number does not fit");
  return message;
}

EncodedBody Encode(const Started& message) {
  ByteWriter writer;
  writer.I64(message.pid);
  return EncodedBody{writer.Take(), {}, false};
}

absl::StatusOr<Started> DecodeStarted(ByteSpan body) {
  ByteReader reader(body);
  const Started message{reader.I64()};
  const bool sound = message.pid > 0 && message.pid <= std::numeric_limits<int32_t>::max();
  if (!reader.ok() || reader.remaining() != 0 || !sound) return Broken("Started", "a number does not fit");
  return message;
}

EncodedBody Encode(const Load& message) {
  ByteWriter writer;
  std::vector<ByteSpan> data;
  DataPlacer placer(data);
  writer.Text(message.device);
  writer.I64(message.memory_bytes);
  WriteStored(message.module, placer, writer);
  writer.U8(message.has_weights ? 1 : 0);
  writer.U8(message.lenient ? 1 : 0);
  writer.F64(message.min_match);
  writer.U8(message.take_dtype ? 1 : 0);
  writer.U32(static_cast<uint32_t>(message.storages.size()));
  for (const StoredBytes& storage : message.storages) WriteStored(storage, placer, writer);
  writer.U32(static_cast<uint32_t>(message.entries.size()));
  for (const StateEntry& entry : message.entries) {
    writer.Text(entry.name);
    WriteView(entry.view, writer);
  }
  return Sectioned(writer, std::move(data));
}

absl::StatusOr<Load> DecodeLoad(ByteSpan body, uint32_t file_count) {
  const std::optional<Sections> sections = Split(body);
  if (!sections.has_value()) return Broken("Load", "the table is longer than the body");
  ByteReader reader(sections->table);
  Load message;
  message.device = ReadText(reader, kMaxNameBytes);
  message.memory_bytes = reader.I64();
  if (message.memory_bytes < 0) reader.Fail();
  message.module = ReadStored(reader, sections->data, file_count);
  const uint8_t has_weights = reader.U8();
  if (has_weights > 1) reader.Fail();
  message.has_weights = has_weights == 1;
  const uint8_t lenient = reader.U8();
  if (lenient > 1) reader.Fail();
  message.lenient = lenient == 1;
  message.min_match = reader.F64();
  if (!(message.min_match >= 0 && message.min_match <= 1)) reader.Fail();
  const uint8_t take_dtype = reader.U8();
  if (take_dtype > 1) reader.Fail();
  message.take_dtype = take_dtype == 1;
  const uint32_t storage_count = reader.Count(28);
  message.storages.reserve(storage_count);
  for (uint32_t i = 0; i < storage_count && reader.ok(); ++i) {
    message.storages.push_back(ReadStored(reader, sections->data, file_count));
  }
  const uint32_t entry_count = reader.Count(25);
  message.entries.reserve(entry_count);
  for (uint32_t i = 0; i < entry_count && reader.ok(); ++i) {
    std::string name = ReadText(reader, kMaxNameBytes);
    message.entries.push_back({std::move(name), ReadView(reader, message.storages)});
  }
  if (!reader.ok() || reader.remaining() != 0) return Broken("Load", "a number or a text does not fit the body");
  if (!message.has_weights && entry_count + storage_count != 0) return Broken("Load", "weights though it has none");
  return message;
}

EncodedBody Encode(const Loaded& message) {
  ByteWriter writer;
  writer.U32(static_cast<uint32_t>(message.arguments.size()));
  for (const Argument& argument : message.arguments) {
    writer.Text(argument.name);
    writer.Text(argument.type);
    writer.U8(argument.required ? 1 : 0);
  }
  writer.U32(static_cast<uint32_t>(message.outputs.size()));
  for (const std::string& output : message.outputs) writer.Text(output);
  return EncodedBody{writer.Take(), {}, false};
}

absl::StatusOr<Loaded> DecodeLoaded(ByteSpan body) {
  ByteReader reader(body);
  Loaded message;
  const uint32_t argument_count = reader.Count(9);
  for (uint32_t i = 0; i < argument_count && reader.ok(); ++i) {
    Argument argument;
    argument.name = ReadText(reader, kMaxNameBytes);
    argument.type = ReadText(reader, kMaxNameBytes);
    argument.required = reader.U8() != 0;
    message.arguments.push_back(std::move(argument));
  }
  const uint32_t output_count = reader.Count(4);
  for (uint32_t i = 0; i < output_count && reader.ok(); ++i) message.outputs.push_back(ReadText(reader, kMaxNameBytes));
  if (!reader.ok() || reader.remaining() != 0) return Broken("Loaded", "a count or a text does not fit the body");
  return message;
}

EncodedBody Encode(const Infer& message) {
  ByteWriter writer;
  std::vector<ByteSpan> data;
  DataPlacer placer(data);
  WriteTensors(message.inputs, placer, writer);
  return Sectioned(writer, std::move(data));
}

absl::StatusOr<Infer> DecodeInfer(ByteSpan body) {
  const std::optional<Sections> sections = Split(body);
  if (!sections.has_value()) return Broken("Infer", "the table is longer than the body");
  ByteReader reader(sections->table);
  Infer message{ReadTensors(reader, sections->data)};
  if (!reader.ok() || reader.remaining() != 0) return Broken("Infer", "a tensor does not fit the body");
  return message;
}

EncodedBody Encode(const Result& message) {
  ByteWriter writer;
  std::vector<ByteSpan> data;
  DataPlacer placer(data);
  WriteTensors(message.outputs, placer, writer);
  return Sectioned(writer, std::move(data));
}

absl::StatusOr<Result> DecodeResult(ByteSpan body) {
  const std::optional<Sections> sections = Split(body);
  if (!sections.has_value()) return Broken("Result", "the table is longer than the body");
  ByteReader reader(sections->table);
  Result message{ReadTensors(reader, sections->data)};
  if (!reader.ok() || reader.remaining() != 0) return Broken("Result", "a tensor does not fit the body");
  return message;
}

EncodedBody Encode(const Failure& message) {
  ByteWriter writer;
  writer.U8(static_cast<uint8_t>(message.kind));
  writer.Text(absl::string_view(message.message).substr(0, kMaxMessageBytes));
  writer.Text(absl::string_view(message.detail).substr(0, kMaxMessageBytes));
  return EncodedBody{writer.Take(), {}, false};
}

absl::StatusOr<Failure> DecodeFailure(ByteSpan body) {
  ByteReader reader(body);
  Failure message;
  const uint8_t kind = reader.U8();
  if (kind < static_cast<uint8_t>(FailureKind::kModuleInvalid) ||
      kind > static_cast<uint8_t>(FailureKind::kTorchUnavailable)) {
    return Broken("Failure", absl::StrCat("unknown kind ", kind));
  }
  message.kind = static_cast<FailureKind>(kind);
  // Cut at a byte limit on the way, so a character may be in two.
  message.message = MakeUtf8(reader.Text(kMaxMessageBytes));
  message.detail = MakeUtf8(reader.Text(kMaxMessageBytes));
  if (!reader.ok() || reader.remaining() != 0) return Broken("Failure", "text does not fit");
  return message;
}

}  // namespace sconce::worker
