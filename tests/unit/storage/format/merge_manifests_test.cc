#include "storage/format/merge_manifests.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>

#include "storage/format/manifest_codec.h"
#include "storage/format/path.h"
#include "storage/format/python_repr.h"
#include "storage/format/subtree_copier.h"
#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<MergedManifest> Merge(const std::vector<Manifest>& parts) {
  std::vector<const Manifest*> pointers;
  for (const Manifest& part : parts) {
    EXPECT_OK(Validate(part));
    pointers.push_back(&part);
  }
  absl::StatusOr<MergedManifest> merged = MergeManifests(pointers);
  if (!merged.ok()) return merged;
  EXPECT_OK(Validate(merged->manifest));
  StorageIndex next = 0;
  for (size_t part = 0; part < parts.size(); ++part) {
    EXPECT_EQ(merged->storage_of[part].size(), parts[part].storages.size());
    for (size_t i = 0; i < parts[part].storages.size(); ++i) {
      EXPECT_EQ(merged->storage_of[part][i], next++);
      const Storage& storage = merged->manifest.storages[merged->storage_of[part][i]];
      EXPECT_EQ(storage.size_bytes, parts[part].storages[i].size_bytes);
      EXPECT_EQ(storage.inline_bytes, parts[part].storages[i].inline_bytes);
    }
  }
  EXPECT_EQ(next, merged->manifest.storages.size());
  return merged;
}

std::vector<std::string> Paths(const Manifest& manifest) {
  std::vector<std::string> paths;
  EXPECT_OK(ForEachPath(manifest, [&](absl::string_view path, NodeIndex) {
    paths.emplace_back(path);
    return true;
  }));
  return paths;
}

NodeIndex At(const Manifest& manifest, absl::string_view path) {
  const absl::StatusOr<NodeIndex> node = FindPath(manifest, path);
  EXPECT_OK(node);
  return node.value_or(0);
}

// {`key`: {`inner`: a tensor of that many bytes}}
Manifest OneTensor(const std::string& key, const std::string& inner, int64_t bytes) {
  ManifestBuilder b;
  const NodeIndex tensor = b.Tensor(DType::kUInt8, {bytes});
  b.Dict({{b.Str(key), b.Dict({{b.Str(inner), tensor}})}});
  return b.Build();
}

TEST(MergeManifestsTest, OnePartIsItself) {
  RandomManifest random(5);
  Manifest part = random.Make();
  random.GiveChunks(part);
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({part}));
  EXPECT_EQ(EncodeManifest(merged.manifest), EncodeManifest(part));
  EXPECT_THAT(MergeManifests({}), FailsWith(Reason::ARGUMENT_INVALID));
}

TEST(MergeManifestsTest, DictsAreUnitedInTheOrderOfTheParts) {
  ManifestBuilder b;
  b.Dict({{b.Str("optimizer"), b.Tensor(DType::kFloat32, {500})},
          {b.Str("model"), b.Dict({{b.Str("b"), b.Tensor(DType::kInt8, {3})}})},
          {b.Str("epoch"), b.Int(3)}});
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({OneTensor("model", "a", 2000), b.Build()}));
  EXPECT_THAT(Paths(merged.manifest), ElementsAre("", "/model", "/model/a", "/model/b", "/optimizer", "/epoch"));
  const auto storage = [&](const char* path) {
    return merged.manifest.tensors[merged.manifest.nodes[At(merged.manifest, path)].tensor].storage;
  };
  EXPECT_EQ(storage("/model/a"), 0u);
  EXPECT_EQ(merged.manifest.storages[storage("/model/b")].size_bytes, 3);
  EXPECT_EQ(merged.manifest.storages[storage("/optimizer")].size_bytes, 2000);
}

TEST(MergeManifestsTest, OverlapsAreNamedAllAtOnce) {
  ManifestBuilder a;
  a.Dict({{a.Str("epoch"), a.Int(3)}, {a.Str("m"), a.Dict({{a.Str("w/0"), a.Tensor(DType::kInt8, {1})}})}});
  ManifestBuilder b;
  b.Dict({{b.Str("x"), b.Int(0)}, {b.Str("m"), b.Dict({{b.Str("w/0"), b.Tensor(DType::kInt8, {1})}})}});
  ManifestBuilder c;
  c.Dict({{c.Str("epoch"), c.Int(3)}, {c.Str("x"), c.List({})}});
  EXPECT_THAT(
      Merge({a.Build(), b.Build(), c.Build()}),
      FailsWith(Reason::PARTS_OVERLAP, AllOf(HasSubstr("\"/epoch\" is in part 0 (int) and part 2 (int); "),
                                             HasSubstr("\"/m/w~10\" is in part 0 (tensor) and part 1 (tensor); "),
                                             HasSubstr("\"/x\" is in part 1 (int) and part 2 (list): each path"))));
}

TEST(MergeManifestsTest, OverlapsAreShownUpToALimit) {
  ManifestBuilder b;
  ManifestBuilder::Items items;
  for (int i = 0; i < 1000; ++i) items.emplace_back(b.Int(i), b.Int(i));
  b.Dict(items);
  const Manifest part = b.Build();
  EXPECT_THAT(Merge({part, part, part}),
              FailsWith(Reason::PARTS_OVERLAP, AllOf(HasSubstr("\"/7\" is in part 0 (int) and part 1 (int) and 1 more"),
                                                     HasSubstr("and 992 more: "), Not(HasSubstr("\"/8\"")))));
}

TEST(MergeManifestsTest, TheRootsMustBeDictsOfOneType) {
  ManifestBuilder list;
  list.List({list.Int(1)});
  EXPECT_THAT(Merge({list.Build(), list.Build()}),
              FailsWith(Reason::PARTS_OVERLAP, HasSubstr("\"\" is in part 0 (list) and part 1 (list)")));
  ManifestBuilder ordered;
  ordered.OrderedDict({});
  EXPECT_THAT(Merge({OneTensor("a", "b", 1), ordered.Build()}),
              FailsWith(Reason::PARTS_OVERLAP, HasSubstr("\"\" is in part 0 (dict) and part 1 (ordered_dict)")));
}

TEST(MergeManifestsTest, KeysAreOneWhereTheyAreInPython) {
  const auto part = [](auto key) {
    ManifestBuilder b;
    const NodeIndex made = key(b);
    b.Dict({{made, b.Dict({{b.Str("k" + std::to_string(b.manifest().nodes.size())), b.Int(1)}})}});
    return b.Build();
  };
  const Manifest one = part([](ManifestBuilder& b) { return b.Int(1); });
  const Manifest yes = part([](ManifestBuilder& b) { return b.Bool(true); });
  // Both hold "k1" below a key that is one in Python.
  EXPECT_THAT(Merge({one, yes}), FailsWith(Reason::PARTS_OVERLAP, HasSubstr("\"/1/k1\"")));
  const Manifest text = part([](ManifestBuilder& b) { return b.Str("1"); });
  ASSERT_OK_AND_ASSIGN(const MergedManifest apart, Merge({one, text}));
  EXPECT_EQ(PythonRepr(apart.manifest, apart.manifest.root(), 200), "{1: {'k1': 1}, '1': {'k1': 1}}");
  const Manifest nan = part([](ManifestBuilder& b) { return b.Float(std::numeric_limits<double>::quiet_NaN()); });
  ASSERT_OK_AND_ASSIGN(const MergedManifest nans, Merge({nan, nan}));
  EXPECT_EQ(PythonRepr(nans.manifest, nans.manifest.root(), 200), "{nan: {'k1': 1}, nan: {'k1': 1}}");
  const Manifest pair = part([](ManifestBuilder& b) { return b.Tuple({b.Int(1), b.Str("x")}); });
  EXPECT_THAT(Merge({pair, pair}), FailsWith(Reason::PARTS_OVERLAP, HasSubstr("/~k(1, ")));
}

// OrderedDict{`key`: `bytes` of tensor}, with _metadata = OrderedDict{"": {version: 1}, `key`: {version: `version`}}
Manifest WithMetadata(const std::string& key, int version, int root_version = 1) {
  ManifestBuilder b;
  const auto entry = [&](int v) { return b.Dict({{b.Str("version"), b.Int(v)}}); };
  const NodeIndex root = entry(root_version);
  const NodeIndex metadata = b.OrderedDict({{b.Str(""), root}, {b.Str(key), entry(version)}});
  const NodeIndex attributes = b.Dict({{b.Str("_metadata"), metadata}});
  const NodeIndex tensor = b.Tensor(DType::kUInt8, {1});
  b.OrderedDict({{b.Str(key + ".w"), tensor}}, attributes);
  return b.Build();
}

TEST(MergeManifestsTest, MetadataIsUnitedWhereItAgrees) {
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({WithMetadata("a", 2), WithMetadata("b", 3)}));
  EXPECT_THAT(Paths(merged.manifest), ElementsAre("", "/a.w", "/b.w"));
  const Node& root = merged.manifest.nodes.back();
  ASSERT_EQ(root.children.size(), 5u);
  EXPECT_EQ(PythonRepr(merged.manifest, root.children.back(), 500),
            "{'_metadata': OrderedDict({'': {'version': 1}, 'a': {'version': 2}, 'b': {'version': 3}})}");
  EXPECT_THAT(Merge({WithMetadata("a", 2), WithMetadata("b", 3, 7)}),
              FailsWith(Reason::PARTS_OVERLAP,
                        HasSubstr("\"\" has a value in its __dict__ that is in part 0 (int) and part 1 (int)")));
}

TEST(MergeManifestsTest, WithoutMetadataInOnePart) {
  ManifestBuilder b;
  b.OrderedDict({{b.Str("x"), b.Int(1)}});
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({b.Build(), WithMetadata("a", 2)}));
  EXPECT_EQ(merged.manifest.nodes.back().children.size(), 5u);
}

TEST(MergeManifestsTest, SharingSurvives) {
  const auto part = [](const std::string& key) {
    ManifestBuilder b;
    const NodeIndex shared = b.Dict({{b.Str(key), b.Tensor(DType::kInt8, {1})}});
    b.Dict({{b.Str("a"), shared}, {b.Str("b"), shared}, {b.Str("only " + key), shared}});
    return b.Build();
  };
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({part("x"), part("y")}));
  const Manifest& m = merged.manifest;
  EXPECT_EQ(At(m, "/a"), At(m, "/b"));
  EXPECT_NE(At(m, "/a"), At(m, "/only x"));
  EXPECT_EQ(At(m, "/a/x"), At(m, "/only x/x"));
  EXPECT_EQ(m.storages.size(), 2u);
}

// d1 = {a: {}, b: {}}, d2 = {a: d1, b: d1, ...}: each with as many paths as you like.
Manifest Bomb(int levels, int width) {
  ManifestBuilder b;
  NodeIndex below = b.Dict({});
  for (int i = 0; i < levels; ++i) {
    ManifestBuilder::Items items;
    for (int k = 0; k < width; ++k) items.emplace_back(b.Int(k), below);
    below = b.Dict(items);
  }
  return b.Build();
}

TEST(MergeManifestsTest, BombsStaySmallOrAreRefused) {
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({Bomb(60, 2), Bomb(60, 2)}));
  EXPECT_LT(merged.manifest.nodes.size(), 500u);
  // Parts in which any dict meets any other: 3,000 x 3,000 places.
  ManifestBuilder a;
  NodeIndex deep = a.Dict({});
  ManifestBuilder::Items items;
  for (int i = 0; i < 3000; ++i) {
    deep = a.Dict({{a.Str("d"), deep}});
    items.emplace_back(a.Int(i), deep);
  }
  a.Dict(items);
  ManifestBuilder c;
  NodeIndex other = c.Dict({});
  for (int i = 0; i < 3000; ++i) other = c.Dict({{c.Str("d"), other}});
  items.clear();
  for (int i = 0; i < 3000; ++i) items.emplace_back(c.Int(i), other);
  c.Dict(items);
  EXPECT_THAT(Merge({a.Build(), c.Build()}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED, HasSubstr("share dicts")));
}

TEST(MergeManifestsTest, DepthDoesNotRecurse) {
  const auto part = [](const std::string& last) {
    ManifestBuilder b;
    NodeIndex deep = b.Dict({{b.Str(last), b.Int(1)}});
    for (int i = 0; i < 100'000; ++i) deep = b.Dict({{b.None(), deep}});
    return b.Build();
  };
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({part("x"), part("y")}));
  EXPECT_EQ(merged.manifest.nodes.size(), 200'005u);
  EXPECT_THAT(Merge({part("x"), part("x")}), FailsWith(Reason::PARTS_OVERLAP)) << "where no path can be given";
}

TEST(MergeManifestsTest, ChunkTablesMustBeThereForAllOrNone) {
  Manifest with = OneTensor("a", "x", 5000);
  RandomManifest(1).GiveChunks(with);
  EXPECT_THAT(Merge({with, OneTensor("b", "x", 5000)}), FailsWith(Reason::MANIFEST_INVALID));
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({with, OneTensor("b", "x", 5)}));
  EXPECT_TRUE(HasChunkTable(merged.manifest));
}

// {"w": the rows from `first` of a tensor of `rows` x 4}
Manifest Rows(int64_t rows, std::vector<std::pair<int64_t, int64_t>> ranges, DType dtype = DType::kFloat32) {
  ManifestBuilder b;
  std::vector<NodeIndex> children = {b.Size({rows, 4})};
  for (const auto& [first, count] : ranges) {
    children.push_back(b.IntTuple({first, 0}));
    children.push_back(b.IntTuple({count, 4}));
    children.push_back(b.Tensor(dtype, {count, 4}));
  }
  b.Dict({{b.Str("w"), b.Container(NodeKind::kShardedTensor, children)}});
  return b.Build();
}

TEST(MergeManifestsTest, ShardsAreUnited) {
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge({Rows(10, {{4, 3}}), Rows(10, {{0, 4}, {7, 3}})}));
  const Manifest& m = merged.manifest;
  const Node& w = m.nodes[At(m, "/w")];
  ASSERT_EQ(w.children.size(), 10u);
  EXPECT_EQ(PythonRepr(m, w.children[1], 100), "(4, 0)");
  EXPECT_EQ(PythonRepr(m, w.children[8], 100), "(3, 4)");
  EXPECT_EQ(m.tensors[m.nodes[w.children[9]].tensor].storage, 2u);
}

TEST(MergeManifestsTest, ShardsThatDoNotFitAreRefused) {
  EXPECT_THAT(Merge({Rows(10, {{0, 5}}), Rows(10, {{4, 6}})}),
              FailsWith(Reason::PARTS_OVERLAP, HasSubstr("\"/w\" [4:5, 0:4] is in part 0 and in part 1")));
  EXPECT_THAT(Merge({Rows(10, {{0, 5}}), Rows(10, {{6, 1}, {8, 2}})}),
              FailsWith(Reason::PARTS_INCOMPLETE,
                        HasSubstr("\"/w\" [5:6, 0:4] is in no part; \"/w\" [7:8, 0:4] is in no part")));
  EXPECT_THAT(
      Merge({Rows(10, {{0, 5}}), Rows(11, {{5, 6}})}),
      FailsWith(Reason::PARTS_OVERLAP, HasSubstr("in part 0 with shape [10, 4] and in part 1 with shape [11, 4]")));
  EXPECT_THAT(Merge({Rows(10, {{0, 5}}), Rows(10, {{5, 5}}, DType::kFloat16)}),
              FailsWith(Reason::PARTS_OVERLAP, HasSubstr("shards of float32 in part 0 and of float16 in part 1")));
  EXPECT_THAT(Merge({Rows(10, {{0, 5}}), OneTensor("w", "x", 1)}),
              FailsWith(Reason::PARTS_OVERLAP, HasSubstr("\"/w\" is in part 0 (sharded_tensor) and part 1 (dict)")));
}

TEST(MergeManifestsTest, AShardedTensorOfOnePartMustBeWholeToo) {
  EXPECT_THAT(Merge({Rows(10, {{0, 5}}), OneTensor("a", "x", 1)}),
              FailsWith(Reason::PARTS_INCOMPLETE, HasSubstr("\"/w\" [5:10, 0:4] is in no part")));
  EXPECT_THAT(Merge({Rows(10, {{0, 5}, {4, 6}}), OneTensor("a", "x", 1)}),
              FailsWith(Reason::PARTS_OVERLAP, HasSubstr("\"/w\" [4:5, 0:4] is twice in one part")));
  EXPECT_OK(Merge({Rows(10, {{0, 5}, {5, 5}}), OneTensor("a", "x", 1)}));
  EXPECT_OK(Merge({Rows(10, {{0, 5}})})) << "a single part is taken as it is";
}

TEST(MergeManifestsTest, ThousandsOfRanksMakeOneTensor) {
  std::vector<Manifest> parts;
  for (int64_t i = 0; i < 4096; ++i) parts.push_back(Rows(3 * 4096, {{3 * i, 3}}));
  ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge(parts));
  EXPECT_EQ(merged.manifest.storages.size(), 4096u);
  parts[77] = Rows(3 * 4096, {{3 * 77, 2}});
  EXPECT_THAT(Merge(parts), FailsWith(Reason::PARTS_INCOMPLETE, HasSubstr("[233:234, 0:4]")));
}

class ZeroBytes final : public StorageBytes {
 public:
  absl::Status Read(StorageIndex, int64_t, absl::Span<uint8_t> out) override {
    std::fill(out.begin(), out.end(), uint8_t{0});
    return absl::OkStatus();
  }
};

// Deals the entries of every dict that is reached through dicts of the same type out to `parts` manifests; a dict is in
// each part, what is no dict is in one. Shared dicts become one for each place.
class Dealer {
 public:
  Dealer(const Manifest& whole, RandomManifest& random, size_t parts) : whole_(whole), random_(random) {
    outs_.resize(parts);
    for (Out& out : outs_) out.copier = std::make_unique<NodeCopier>(whole, out.manifest.nodes, out.manifest.tensors);
  }

  std::vector<Manifest> Deal() {
    Dict(whole_.root());
    std::vector<Manifest> manifests;
    for (Out& out : outs_) manifests.push_back(Compact(std::move(out.manifest)));
    return manifests;
  }

 private:
  struct Out {
    Manifest manifest;
    std::unique_ptr<NodeCopier> copier;
  };

  // The dict's node in each part. (The trees of RandomManifest are shallow.)
  std::vector<NodeIndex> Dict(NodeIndex index) {
    const Node& node = whole_.nodes[index];
    std::vector<std::vector<NodeIndex>> children(outs_.size());
    for (size_t i = 0; i < node.children.size(); i += 2) {
      const bool attributes = i + 1 == node.children.size();
      const NodeIndex value = node.children[attributes ? i : i + 1];
      const NodeKind kind = whole_.nodes[value].kind;
      const bool everywhere = kind == NodeKind::kDict || kind == NodeKind::kOrderedDict || kind == NodeKind::kCounter;
      std::vector<NodeIndex> values(outs_.size(), kNoIndex);
      if (everywhere) {
        values = Dict(value);
      } else {
        const size_t part = static_cast<size_t>(random_.Below(static_cast<int>(outs_.size())));
        // What ties it to something dealt out before goes to the same part. (A list tied to two parts gets storages of
        // its own in one of them.)
        const size_t owner = OwnerOf(value).value_or(part);
        values[owner] = outs_[owner].copier->Copy(value);
        ClaimStorages(value, owner);
      }
      for (size_t part = 0; part < outs_.size(); ++part) {
        if (values[part] == kNoIndex) continue;
        if (!attributes) children[part].push_back(outs_[part].copier->Copy(node.children[i]));
        children[part].push_back(values[part]);
      }
    }
    std::vector<NodeIndex> made;
    for (size_t part = 0; part < outs_.size(); ++part) {
      Node dict;
      dict.kind = node.kind;
      dict.children = children[part];
      outs_[part].manifest.nodes.push_back(dict);
      made.push_back(outs_[part].manifest.root());
    }
    return made;
  }

  void ForEachStorage(NodeIndex root, const std::function<void(StorageIndex)>& visit) {
    std::vector<NodeIndex> pending = {root};
    while (!pending.empty()) {
      const Node& node = whole_.nodes[pending.back()];
      pending.pop_back();
      if (node.tensor != kNoIndex && whole_.tensors[node.tensor].storage != kNoIndex) {
        visit(whole_.tensors[node.tensor].storage);
      }
      if (node.kind == NodeKind::kStorage) visit(static_cast<StorageIndex>(node.integer));
      pending.insert(pending.end(), node.children.begin(), node.children.end());
    }
  }
  std::optional<size_t> OwnerOf(NodeIndex node) {
    std::optional<size_t> owner;
    ForEachStorage(node, [&](StorageIndex storage) {
      if (const auto it = owners_.find(storage); it != owners_.end()) owner = it->second;
    });
    return owner;
  }
  void ClaimStorages(NodeIndex node, size_t part) {
    ForEachStorage(node, [&](StorageIndex storage) { owners_.emplace(storage, part); });
  }

  // Only the storages that are used, and Validate's other wishes.
  Manifest Compact(Manifest made) {
    made.storages = whole_.storages;
    SubtreeCopier copier(made);
    copier.Copy(made.root());
    Manifest compact = copier.Finish().manifest;
    compact.derived = false;
    return compact;
  }

  const Manifest& whole_;
  RandomManifest& random_;
  std::vector<Out> outs_;
  std::map<StorageIndex, size_t> owners_;
};

// Everything a reader sees of a tree, by path; bare of numbering and order.
std::map<std::string, std::string> Seen(const Manifest& manifest) {
  std::map<std::string, std::string> seen;
  EXPECT_OK(ForEachPath(manifest, [&](absl::string_view path, NodeIndex node) {
    const Node& n = manifest.nodes[node];
    std::string text(ToStd(TypeName(n.kind)));
    if (n.kind != NodeKind::kDict && n.kind != NodeKind::kOrderedDict && n.kind != NodeKind::kCounter) {
      text += PythonRepr(manifest, node, 1000);
    }
    if (n.kind == NodeKind::kTensor) {
      const TensorView& view = manifest.tensors[n.tensor];
      text += std::to_string(static_cast<int>(view.dtype)) + "@" + std::to_string(view.offset);
      if (view.storage != kNoIndex) text += manifest.storages[view.storage].device;
      if (view.storage != kNoIndex) text += std::to_string(manifest.storages[view.storage].size_bytes);
      for (const int64_t extent : view.shape) text += "," + std::to_string(extent);
    }
    seen[std::string(ToStd(path))] = text;
    return true;
  }));
  return seen;
}

TEST(MergeManifestsTest, WhatWasDealtOutToPartsComesBack) {
  int with_several_storages = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    RandomManifest random(seed);
    if (seed % 2 == 0) random.OnlyPlainKinds();
    Manifest whole = random.Make();
    if (seed % 3 == 0) random.GiveChunks(whole);
    const size_t count = static_cast<size_t>(2 + random.Below(4));
    std::vector<Manifest> parts;
    {
      Dealer dealer(whole, random, count);
      parts = dealer.Deal();
    }
    ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge(parts));
    ASSERT_EQ(Seen(merged.manifest), Seen(whole));
    with_several_storages += merged.manifest.storages.size() > 3 ? 1 : 0;
    ASSERT_OK_AND_ASSIGN(const Manifest decoded, DecodeManifest(AsBytes(EncodeManifest(merged.manifest))));
    ASSERT_EQ(EncodeManifest(decoded), EncodeManifest(merged.manifest));
  }
  EXPECT_GT(with_several_storages, 200);
}

TEST(MergeManifestsTest, AMergedManifestIsWrittenAsATorchFileAndReadBack) {
  int written = 0;
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    RandomManifest random(seed);
    random.OnlyPlainKinds();
    const Manifest whole = random.Make();
    const std::vector<Manifest> parts = Dealer(whole, random, 3).Deal();
    ASSERT_OK_AND_ASSIGN(const MergedManifest merged, Merge(parts));
    ZeroBytes zeros;
    const absl::StatusOr<std::string> file_of_whole = WriteTorchFile(whole, zeros);
    if (!file_of_whole.ok()) continue;  // such as a storage of two types
    ++written;
    ASSERT_OK_AND_ASSIGN(const std::string file, WriteTorchFile(merged.manifest, zeros));
    ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadTorchFile(AsBytes(file)));
    ASSERT_OK_AND_ASSIGN(const TorchFile of_whole, ReadTorchFile(AsBytes(*file_of_whole)));
    ASSERT_EQ(Seen(read.manifest), Seen(of_whole.manifest));
  }
  EXPECT_GT(written, 30);
}

}  // namespace
}  // namespace sconce::format
