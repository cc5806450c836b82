#include "storage/format/path.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/format/python_repr.h"
#include "storage/format/utf8.h"

namespace sconce::format {
namespace {

constexpr size_t kMaxKeyReprBytes = 512;

bool IsDictKind(NodeKind kind) {
  return kind == NodeKind::kDict || kind == NodeKind::kOrderedDict || kind == NodeKind::kCounter;
}

bool LooksLikeInt(absl::string_view text) {
  return !text.empty() && (text[0] == '-' || absl::ascii_isdigit(static_cast<unsigned char>(text[0])));
}

void AppendEscaped(absl::string_view text, std::string& out) {
  while (!text.empty()) {
    const size_t plain = std::min(text.find_first_of("~/"), text.size());
    out.append(text.data(), plain);
    if (plain == text.size()) return;
    out += text[plain] == '~' ? "~0" : "~1";
    text.remove_prefix(plain + 1);
  }
}

// Goes through the children of a container, writing each one's segment. Where one dict has ints and strs that look like
// ints, it holds the ints' text, to know which strs need "~s".
class ChildCursor {
 public:
  ChildCursor(const Manifest& manifest, NodeIndex container)
      : manifest_(&manifest), node_(&manifest.nodes[container]), is_dict_(IsDictKind(node_->kind)) {
    if (is_dict_) FindAmbiguousInts();
  }

  size_t size() const { return is_dict_ ? node_->children.size() / 2 : node_->children.size(); }
  bool done() const { return next_ == size(); }
  // How long the segment of the next child is at least.
  size_t MinSegmentBytes() const { return is_dict_ && Key().kind == NodeKind::kStr ? Key().text.size() : 1; }
  NodeIndex Child() const { return node_->children[is_dict_ ? 2 * next_ + 1 : next_]; }
  void AppendSegment(std::string& out) const {
    if (!is_dict_) {
      absl::StrAppend(&out, next_);
    } else {
      AppendKey(out);
    }
  }
  void Advance() { ++next_; }

 private:
  const Node& Key() const { return manifest_->nodes[node_->children[2 * next_]]; }

  void FindAmbiguousInts() {
    bool ints = false;
    bool strs = false;
    for (size_t i = 0; i + 1 < node_->children.size(); i += 2) {
      const Node& key = manifest_->nodes[node_->children[i]];
      ints = ints || key.kind == NodeKind::kInt;
      strs = strs || (key.kind == NodeKind::kStr && LooksLikeInt(key.text));
    }
    if (!ints || !strs) return;
    ints_ = std::make_unique<absl::flat_hash_set<std::string>>();
    for (size_t i = 0; i + 1 < node_->children.size(); i += 2) {
      const Node& key = manifest_->nodes[node_->children[i]];
      if (key.kind == NodeKind::kInt && key.text.size() <= kMaxDecimalIntBytes) ints_->insert(IntRepr(key));
    }
  }

  void AppendKey(std::string& out) const {
    const Node& key = Key();
    if (key.kind == NodeKind::kStr && IsUtf8(key.text, /*allow_surrogates=*/false)) {
      if (ints_ != nullptr && ints_->contains(key.text)) out += "~s";
      AppendEscaped(key.text, out);
    } else if (key.kind == NodeKind::kInt && key.text.size() <= kMaxDecimalIntBytes) {
      out += IntRepr(key);
    } else {
      out += "~k";
      AppendEscaped(PythonRepr(*manifest_, node_->children[2 * next_], kMaxKeyReprBytes), out);
    }
  }

  const Manifest* manifest_;
  const Node* node_;
  bool is_dict_;
  size_t next_ = 0;
  std::unique_ptr<absl::flat_hash_set<std::string>> ints_;
};

absl::Status TooMany(absl::string_view what) {
  return MakeError(Reason::INPUT_LIMIT_EXCEEDED,
                   absl::StrCat("this checkpoint's tree has ", what,
                                ", counting what is shared once for each of its places; save it in smaller parts"));
}

absl::Status CheckSyntax(absl::string_view path) {
  const auto invalid = [&](absl::string_view what) {
    return MakeError(Reason::PATH_INVALID, absl::StrCat("path ", Quoted(path), " ", what),
                     {{"path", std::string(path.substr(0, 200))}});
  };
  if (!path.empty() && path[0] != '/') return invalid("does not start with \"/\"; the root is \"\"");
  if (path.size() > kMaxPathBytes) return invalid("is too long");
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '~') continue;
    const char next = i + 1 < path.size() ? path[i + 1] : '\0';
    const bool at_start = path[i - 1] == '/';  // the first byte is "/"
    if (next != '0' && next != '1' && !(at_start && (next == 's' || next == 'k'))) {
      return invalid("has a \"~\" that is not part of \"~0\" or \"~1\"; write \"~0\" for it");
    }
  }
  return absl::OkStatus();
}

absl::Status NotFound(const Manifest& manifest, absl::string_view path, absl::string_view found, NodeIndex at) {
  constexpr size_t kShownKeys = 8;
  std::string message = absl::StrCat("there is no ", Quoted(path), " in this checkpoint; ");
  const std::string place = found.empty() ? "its root" : Quoted(found);
  if (!HasPathsBelow(manifest.nodes[at].kind)) {
    absl::StrAppend(&message, place, " is of type ", TypeName(manifest.nodes[at].kind), " and has nothing below it");
  } else {
    std::vector<std::string> keys;
    ChildCursor cursor(manifest, at);
    for (; !cursor.done() && keys.size() < kShownKeys; cursor.Advance()) {
      std::string segment;
      cursor.AppendSegment(segment);
      keys.push_back(Quoted(segment, 60));
    }
    absl::StrAppend(&message, place, keys.empty() ? " is empty" : absl::StrCat(" has ", absl::StrJoin(keys, ", ")));
    if (cursor.size() > keys.size()) absl::StrAppend(&message, " and ", cursor.size() - keys.size(), " more");
  }
  return MakeError(Reason::PATH_NOT_FOUND, message,
                   {{"path", std::string(path.substr(0, 200))}, {"found", std::string(found.substr(0, 200))}});
}

// ForEachPath as a visitor.
class CallingVisitor final : public TreeVisitor {
 public:
  explicit CallingVisitor(absl::FunctionRef<bool(absl::string_view, NodeIndex)> visit) : visit_(visit) {}
  Walk Enter(absl::string_view path, NodeIndex node) override {
    return visit_(path, node) ? Walk::kDescend : Walk::kStop;
  }
  void Leave(absl::string_view, NodeIndex) override {}

 private:
  absl::FunctionRef<bool(absl::string_view, NodeIndex)> visit_;
};

}  // namespace

bool HasPathsBelow(NodeKind kind) {
  return IsDictKind(kind) || kind == NodeKind::kList || kind == NodeKind::kTuple;
}

absl::Status WalkTree(const Manifest& manifest, NodeIndex root, TreeVisitor& visitor) {
  struct Frame {
    NodeIndex node;
    size_t path_bytes;
    ChildCursor cursor;
  };
  std::vector<Frame> frames;
  std::string path;
  int64_t paths = 0;
  int64_t path_bytes = 0;
  NodeIndex node = root;
  for (;;) {
    if (++paths > kMaxPaths) return TooMany(absl::StrCat("more than ", kMaxPaths, " paths"));
    path_bytes += static_cast<int64_t>(path.size());
    if (path.size() > kMaxPathBytes) return TooMany(absl::StrCat("a path of more than ", kMaxPathBytes >> 10, " KiB"));
    if (path_bytes > kMaxPathBytesInAll)
      return TooMany(absl::StrCat("paths of more than ", kMaxPathBytesInAll >> 20, " MiB in all"));

    const Walk walk = visitor.Enter(path, node);
    if (walk == Walk::kStop) return absl::OkStatus();
    if (walk == Walk::kDescend && HasPathsBelow(manifest.nodes[node].kind)) {
      frames.push_back({node, path.size(), ChildCursor(manifest, node)});
    }
    while (!frames.empty() && frames.back().cursor.done()) {
      path.resize(frames.back().path_bytes);
      visitor.Leave(path, frames.back().node);
      frames.pop_back();
    }
    if (frames.empty()) return absl::OkStatus();
    Frame& frame = frames.back();
    path.resize(frame.path_bytes);
    path += '/';
    frame.cursor.AppendSegment(path);
    node = frame.cursor.Child();
    frame.cursor.Advance();
  }
}

absl::Status ForEachPath(const Manifest& manifest,
                         absl::FunctionRef<bool(absl::string_view path, NodeIndex node)> visit) {
  CallingVisitor visitor(visit);
  return WalkTree(manifest, manifest.root(), visitor);
}

absl::StatusOr<NodeIndex> FindPath(const Manifest& manifest, absl::string_view path) {
  SCONCE_RETURN_IF_ERROR(CheckSyntax(path));
  NodeIndex at = manifest.root();
  size_t done = 0;  // bytes of the path that lead to `at`
  std::string segment;
  while (done < path.size()) {
    const absl::string_view wanted = path.substr(done + 1, path.find('/', done + 1) - (done + 1));
    if (!HasPathsBelow(manifest.nodes[at].kind)) return NotFound(manifest, path, path.substr(0, done), at);
    ChildCursor cursor(manifest, at);
    for (; !cursor.done(); cursor.Advance()) {
      if (cursor.MinSegmentBytes() > wanted.size()) continue;
      segment.clear();
      cursor.AppendSegment(segment);
      if (segment == wanted) break;
    }
    if (cursor.done()) return NotFound(manifest, path, path.substr(0, done), at);
    at = cursor.Child();
    done += 1 + wanted.size();
  }
  return at;
}

void ForEachChild(const Manifest& manifest, NodeIndex container,
                  absl::FunctionRef<bool(absl::string_view segment, NodeIndex child)> visit) {
  std::string segment;
  for (ChildCursor cursor(manifest, container); !cursor.done(); cursor.Advance()) {
    segment.clear();
    cursor.AppendSegment(segment);
    if (!visit(segment, cursor.Child())) return;
  }
}

}  // namespace sconce::format
