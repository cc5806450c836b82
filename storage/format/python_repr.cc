#include "storage/format/python_repr.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "storage/format/number.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

// Magnitude of a little-endian two's complement number, as limbs of 32 bits, lowest first.
std::vector<uint32_t> Magnitude(absl::string_view bytes, bool negative) {
  std::vector<uint32_t> limbs((bytes.size() + 3) / 4 + 1, negative ? ~uint32_t{0} : 0);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint32_t shift = 8 * (i % 4);
    limbs[i / 4] = (limbs[i / 4] & ~(uint32_t{0xFF} << shift)) | static_cast<uint32_t>(static_cast<uint8_t>(bytes[i]))
                                                                     << shift;
  }
  if (negative) {
    uint64_t carry = 1;
    for (uint32_t& limb : limbs) {
      carry += static_cast<uint32_t>(~limb);
      limb = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
  }
  while (!limbs.empty() && limbs.back() == 0) limbs.pop_back();
  return limbs;
}

std::string Decimal(std::vector<uint32_t> limbs) {
  std::vector<uint32_t> groups;  // of nine digits, lowest first
  while (!limbs.empty()) {
    uint64_t rest = 0;
    for (size_t i = limbs.size(); i-- > 0;) {
      rest = rest << 32 | limbs[i];
      limbs[i] = static_cast<uint32_t>(rest / 1'000'000'000);
      rest %= 1'000'000'000;
    }
    groups.push_back(static_cast<uint32_t>(rest));
    while (!limbs.empty() && limbs.back() == 0) limbs.pop_back();
  }
  if (groups.empty()) return "0";
  std::string text = absl::StrCat(groups.back());
  for (size_t i = groups.size() - 1; i-- > 0;) absl::StrAppendFormat(&text, "%09u", groups[i]);
  return text;
}

void AppendEscaped(uint32_t c, std::string& out) {
  if (c <= 0xFF) {
    absl::StrAppendFormat(&out, "\\x%02x", c);
  } else if (c <= 0xFFFF) {
    absl::StrAppendFormat(&out, "\\u%04x", c);
  } else {
    absl::StrAppendFormat(&out, "\\U%08x", c);
  }
}

// Writes nodes one after the other until the text is long enough. A stack of what is still to come replaces recursion.
class ReprWriter {
 public:
  ReprWriter(const Manifest& manifest, size_t limit) : manifest_(manifest), limit_(limit) {}

  std::string Write(NodeIndex root) {
    pending_.push_back({root, nullptr});
    while (!pending_.empty() && out_.size() <= limit_) {
      const Piece piece = pending_.back();
      pending_.pop_back();
      if (piece.text != nullptr) {
        out_ += piece.text;
      } else {
        AppendNode(manifest_.nodes[piece.node]);
      }
    }
    return std::move(out_);
  }

 private:
  struct Piece {
    NodeIndex node;
    const char* text;  // instead of a node
  };

  void AppendNode(const Node& node) {
    switch (node.kind) {
      case NodeKind::kNone:
        out_ += "None";
        break;
      case NodeKind::kBool:
        out_ += node.integer != 0 ? "True" : "False";
        break;
      case NodeKind::kInt:
        out_ += node.text.size() > limit_ ? absl::StrCat("<int of ", 8 * node.text.size(), " bits>") : IntRepr(node);
        break;
      case NodeKind::kFloat:
        out_ += FloatRepr(node.real);
        break;
      case NodeKind::kComplex:
        AppendComplex(node);
        break;
      case NodeKind::kStr:
        AppendQuoted(node.text, /*as_text=*/true);
        break;
      case NodeKind::kBytes:
        out_ += "b";
        AppendQuoted(node.text, /*as_text=*/false);
        break;
      case NodeKind::kByteArray:
        out_ += "bytearray(b";
        AppendQuoted(node.text, /*as_text=*/false);
        out_ += ")";
        break;
      case NodeKind::kList:
        Sequence("[", node, 1, "]");
        break;
      case NodeKind::kTuple:
        Sequence("(", node, 1, node.children.size() == 1 ? ",)" : ")");
        break;
      case NodeKind::kSet:
        node.children.empty() ? static_cast<void>(out_ += "set()") : Sequence("{", node, 1, "}");
        break;
      case NodeKind::kSize:
        Sequence("torch.Size([", node, 1, "])");
        break;
      case NodeKind::kDict:
        Sequence("{", node, 2, "}");
        break;
      case NodeKind::kOrderedDict:
        Sequence("OrderedDict({", node, 2, "})");
        break;
      case NodeKind::kCounter:
        Sequence("Counter({", node, 2, "})");
        break;
      case NodeKind::kDtype:
      case NodeKind::kLayout:
      case NodeKind::kQScheme:
        absl::StrAppend(&out_, "torch.", node.text);
        break;
      case NodeKind::kDevice:
        AppendDevice(node.text);
        break;
      case NodeKind::kNumpyScalar:
        AppendNumpyScalar(node);
        break;
      case NodeKind::kGlobal:
        out_ += node.text;
        break;
      case NodeKind::kObject:  // the class with its arguments, which for an exception is how Python shows it
        absl::StrAppend(&out_, "<", node.text, " ");
        pending_.push_back({0, ">"});
        pending_.push_back({node.children[0], nullptr});
        break;
      default:
        absl::StrAppend(&out_, "<", TypeName(node.kind), ">");
    }
  }

  // Pushes what a container consists of, as much as can still be printed; `step` 2 for keys and values.
  void Sequence(const char* open, const Node& node, size_t step, const char* close) {
    out_ += open;
    const size_t all = node.children.size() / step * step;
    const size_t shown = std::min(all, limit_ + step);  // every element prints a byte or more
    pending_.push_back({0, shown < all ? "..." : close});
    for (size_t i = shown / step * step; i > 0; i -= step) {
      if (step == 2) {
        pending_.push_back({node.children[i - 1], nullptr});
        pending_.push_back({0, ": "});
      }
      pending_.push_back({node.children[i - step], nullptr});
      if (i > step) pending_.push_back({0, ", "});
    }
  }

  void AppendComplex(const Node& node) {
    std::string imaginary = FloatRepr(node.imaginary);
    if (imaginary.size() > 2 && imaginary.compare(imaginary.size() - 2, 2, ".0") == 0)
      imaginary.resize(imaginary.size() - 2);
    if (node.real == 0 && !std::signbit(node.real)) {
      absl::StrAppend(&out_, imaginary, "j");
      return;
    }
    std::string real = FloatRepr(node.real);
    if (real.size() > 2 && real.compare(real.size() - 2, 2, ".0") == 0) real.resize(real.size() - 2);
    absl::StrAppend(&out_, "(", real, imaginary[0] == '-' ? "" : "+", imaginary, "j)");
  }

  void AppendDevice(absl::string_view device) {
    const size_t colon = device.find(':');
    absl::StrAppend(&out_, "device(type='", device.substr(0, colon), "'");
    if (colon != absl::string_view::npos) absl::StrAppend(&out_, ", index=", device.substr(colon + 1));
    out_ += ")";
  }

  void AppendNumpyScalar(const Node& node) {
    const Node& dtype = manifest_.nodes[node.children[0]];
    const Node& data = manifest_.nodes[node.children[1]];
    if (const std::optional<Number> number = NumpyNumber(dtype.text, data.text)) {
      absl::StrAppend(&out_, "numpy(", number->is_integer ? absl::StrCat(number->integer) : FloatRepr(number->real),
                      ")");
    } else {
      absl::StrAppend(&out_, "<numpy_scalar ", dtype.text, ">");
    }
  }

  // A Python string literal: single quotes, unless only those occur in it.
  void AppendQuoted(absl::string_view text, bool as_text) {
    const absl::string_view head = text.substr(0, limit_ + 4);
    const bool has_single = head.find('\'') != absl::string_view::npos;
    const char quote = has_single && head.find('"') == absl::string_view::npos ? '"' : '\'';
    out_ += quote;
    for (size_t at = 0; at < head.size() && out_.size() <= limit_;) {
      const size_t start = at;
      uint32_t c = static_cast<uint8_t>(head[at]);
      if (!as_text || !NextCodePoint(head, at, c)) at = start + 1;
      const bool printable = c < 0x7F ? c >= 0x20 : as_text && c > 0xA0 && c != 0xAD && !IsSurrogate(c);
      if (c == '\n' || c == '\r' || c == '\t') {
        absl::StrAppend(&out_, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
      } else if (c == '\\' || c == static_cast<uint8_t>(quote)) {
        out_ += '\\';
        out_ += static_cast<char>(c);
      } else if (printable) {
        out_.append(head.data() + start, at - start);
      } else {
        AppendEscaped(c, out_);
      }
    }
    out_ += quote;
  }

  const Manifest& manifest_;
  const size_t limit_;
  std::string out_;
  std::vector<Piece> pending_;
};

}  // namespace

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value, std::chars_format::scientific).ptr;
  std::string scientific(digits, end);  // "-1.25e-05": the shortest digits that read back as this value
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return scientific;
  const auto fixed_end = std::to_chars(digits, digits + sizeof(digits), value, std::chars_format::fixed).ptr;
  std::string fixed(digits, fixed_end);
  if (fixed.find('.') == std::string::npos) fixed += ".0";
  return fixed;
}

std::string IntRepr(const Node& node) {
  if (node.text.empty()) return absl::StrCat(node.integer);
  const bool negative = (static_cast<uint8_t>(node.text.back()) & 0x80) != 0;
  const std::vector<uint32_t> limbs = Magnitude(node.text, negative);
  const char* sign = negative ? "-" : "";
  if (node.text.size() <= kMaxDecimalIntBytes) return absl::StrCat(sign, Decimal(limbs));
  std::string text = absl::StrFormat("%s0x%x", sign, limbs.back());
  for (size_t i = limbs.size() - 1; i-- > 0;) absl::StrAppendFormat(&text, "%08x", limbs[i]);
  return text;
}

std::string PythonRepr(const Manifest& manifest, NodeIndex node, size_t max_bytes) {
  std::string text = ReprWriter(manifest, max_bytes).Write(node);
  if (text.size() <= max_bytes) return text;
  const absl::string_view head = Utf8Prefix(text, max_bytes < 3 ? 0 : max_bytes - 3);
  return absl::StrCat(head, absl::string_view("...").substr(0, max_bytes - head.size()));
}

}  // namespace sconce::format
