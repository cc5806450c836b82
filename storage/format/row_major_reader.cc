#include "storage/format/row_major_reader.h"

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"

namespace sconce::format {

bool IsRowMajor(const TensorView& view) {
  if (std::find(view.shape.begin(), view.shape.end(), 0) != view.shape.end()) return true;
  int64_t expected = 1;
  for (size_t i = view.shape.size(); i-- > 0;) {
    if (view.shape[i] != 1 && view.stride[i] != expected) return false;
    expected *= view.shape[i];
  }
  return true;
}

RowMajorReader::RowMajorReader(const Manifest& manifest, const TensorView& view, StorageBytes& bytes,
                               int64_t window_bytes)
    : storage_(manifest.storages[view.storage]),
      view_(view),
      bytes_(bytes),
      element_(ElementBytes(view.dtype)),
      row_major_(IsRowMajor(view)),
      size_bytes_(ElementCount(view.shape) * element_) {
  // The first dimension of which at least one step fits into a window.
  row_bytes_ = size_bytes_;
  for (split_ = 0; split_ < view_.shape.size(); ++split_) {
    if (size_bytes_ == 0) return;
    row_bytes_ /= view_.shape[split_];
    if (row_bytes_ <= window_bytes) break;
  }
  if (row_major_ || split_ == view_.shape.size()) return;
  rows_ = std::min(view_.shape[split_], window_bytes / row_bytes_);
}

absl::Status RowMajorReader::Read(int64_t offset, absl::Span<uint8_t> out) {
  if (row_major_) return ReadStorage(view_.offset * element_ + offset, out);
  while (!out.empty()) {
    const int64_t in_window = offset - window_start_;
    if (window_start_ < 0 || in_window < 0 || in_window >= static_cast<int64_t>(window_.size())) {
      SCONCE_RETURN_IF_ERROR(MakeWindow(offset));
      continue;
    }
    const size_t part = std::min(out.size(), window_.size() - static_cast<size_t>(in_window));
    std::memcpy(out.data(), window_.data() + in_window, part);
    out.remove_prefix(part);
    offset += static_cast<int64_t>(part);
  }
  return absl::OkStatus();
}

absl::Status RowMajorReader::ReadStorage(int64_t offset, absl::Span<uint8_t> out) {
  if (out.empty()) return absl::OkStatus();
  if (IsBulk(storage_)) return bytes_.Read(view_.storage, offset, out);
  std::memcpy(out.data(), storage_.inline_bytes.data() + offset, out.size());
  return absl::OkStatus();
}

// An element, by way of the block it starts in.
absl::Status RowMajorReader::ReadBlock(int64_t offset, absl::Span<uint8_t> out) {
  const auto size = static_cast<int64_t>(out.size());
  if (block_start_ < 0 || offset < block_start_ || offset + size > block_start_ + static_cast<int64_t>(block_.size())) {
    block_start_ = -1;
    block_.resize(static_cast<size_t>(std::min(kBlockBytes, storage_.size_bytes - offset)));
    SCONCE_RETURN_IF_ERROR(ReadStorage(offset, absl::MakeSpan(block_)));
    block_start_ = offset;
  }
  std::memcpy(out.data(), block_.data() + (offset - block_start_), out.size());
  return absl::OkStatus();
}

absl::Status RowMajorReader::MakeWindow(int64_t offset) {
  // Where the window starts, as a position in each dimension up to the one that is cut.
  const int64_t row = offset / row_bytes_;
  const int64_t cut = row % view_.shape[split_] / rows_ * rows_;
  int64_t from = view_.offset + cut * view_.stride[split_];
  int64_t outer = row / view_.shape[split_];
  const int64_t start = (outer * view_.shape[split_] + cut) * row_bytes_;
  for (size_t i = split_; i-- > 0;) {
    from += outer % view_.shape[i] * view_.stride[i];
    outer /= view_.shape[i];
  }
  std::vector<Axis> axes;
  int64_t to = element_;
  for (size_t i = view_.shape.size(); i-- > split_;) {
    const int64_t extent = i == split_ ? std::min(rows_, view_.shape[i] - cut) : view_.shape[i];
    axes.push_back({extent, view_.stride[i] * element_, to});
    to *= extent;
  }
  window_start_ = -1;
  window_.resize(static_cast<size_t>(to));
  SCONCE_RETURN_IF_ERROR(Gather(from * element_, std::move(axes)));
  window_start_ = start;
  return absl::OkStatus();
}

absl::Status RowMajorReader::Gather(int64_t from, std::vector<Axis> axes) {
  std::sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.from < b.from; });
  std::vector<int64_t> at(axes.size(), 0);
  int64_t to = 0;
  while (true) {
    SCONCE_RETURN_IF_ERROR(ReadBlock(from, absl::MakeSpan(window_.data() + to, static_cast<size_t>(element_))));
    size_t i = 0;
    for (; i < axes.size(); ++i) {
      from += axes[i].from;
      to += axes[i].to;
      if (++at[i] < axes[i].extent) break;
      from -= axes[i].from * axes[i].extent;
      to -= axes[i].to * axes[i].extent;
      at[i] = 0;
    }
    if (i == axes.size()) return absl::OkStatus();
  }
}

}  // namespace sconce::format
