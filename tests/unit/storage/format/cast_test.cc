#include "storage/format/cast.h"

#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/format/entries.h"
#include "storage/format/float_convert.h"
#include "storage/format/manifest_codec.h"
#include "tests/support/random_manifest.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Storage i is made of bytes that depend on i and the place.
class MadeUpBytes final : public StorageBytes {
 public:
  absl::Status Read(StorageIndex storage, int64_t offset, absl::Span<uint8_t> out) override {
    reads.push_back(storage);
    for (uint8_t& byte : out) byte = ByteAt(storage, offset++);
    return absl::OkStatus();
  }
  static uint8_t ByteAt(StorageIndex storage, int64_t offset) {
    return static_cast<uint8_t>((offset * 2654435761u) >> 7) ^ static_cast<uint8_t>(storage * 37);
  }
  std::vector<StorageIndex> reads;
};

class BrokenBytes final : public StorageBytes {
 public:
  absl::Status Read(StorageIndex, int64_t, absl::Span<uint8_t>) override {
    return MakeError(Reason::CHUNK_CORRUPT, "rotten");
  }
};

std::string SourceBytes(const Manifest& original, StorageIndex storage) {
  if (!IsBulk(original.storages[storage])) return original.storages[storage].inline_bytes;
  std::string bytes(static_cast<size_t>(original.storages[storage].size_bytes), '\0');
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>(MadeUpBytes::ByteAt(storage, static_cast<int64_t>(i)));
  return bytes;
}

// What a storage must be after the plan, converted in one go.
std::string ExpectedBytes(const Manifest& original, const CastPlan& plan, StorageIndex storage) {
  const std::string source = SourceBytes(original, storage);
  const DType from = plan.storages[storage].from, to = plan.storages[storage].to;
  if (from == to) return source;
  const size_t elements = source.size() / static_cast<size_t>(ElementBytes(from));
  std::string result(elements * static_cast<size_t>(ElementBytes(to)), '\0');
  ConvertFloats(from, to, reinterpret_cast<const uint8_t*>(source.data()), elements,
                reinterpret_cast<uint8_t*>(result.data()));
  return result;
}

std::string ReadAll(const CastPlan& plan, StorageIndex storage, size_t piece) {
  const Storage& entry = plan.manifest.storages[storage];
  if (!IsBulk(entry)) return entry.inline_bytes;
  MadeUpBytes source;
  CastBytes bytes(plan, source);
  std::string result(static_cast<size_t>(entry.size_bytes), '\0');
  for (size_t at = 0; at < result.size(); at += piece) {
    const size_t n = std::min(piece, result.size() - at);
    EXPECT_OK(bytes.Read(storage, static_cast<int64_t>(at),
                         absl::MakeSpan(reinterpret_cast<uint8_t*>(result.data()) + at, n)));
  }
  return result;
}

CastPlan Plan(const Manifest& manifest, const DtypeCast& cast) {
  MadeUpBytes bytes;
  EXPECT_OK(Validate(manifest));
  absl::StatusOr<CastPlan> plan = PlanCast(manifest, cast, bytes);
  EXPECT_OK(plan);
  if (!plan.ok()) return CastPlan();
  EXPECT_OK(Validate(plan->manifest));
  EXPECT_EQ(plan->storages.size(), manifest.storages.size());
  return *std::move(plan);
}

absl::Status Refusal(const Manifest& manifest, const DtypeCast& cast) {
  MadeUpBytes bytes;
  return PlanCast(manifest, cast, bytes).status();
}

// Dtypes by path, of everything that has one.
std::map<std::string, std::string> Dtypes(const Manifest& manifest) {
  std::map<std::string, std::string> dtypes;
  const auto page = ListEntries(manifest, 0, 1'000'000);
  EXPECT_OK(page);
  for (const Entry& entry : page->entries) {
    if (!entry.dtype.empty()) dtypes[entry.path] = entry.dtype;
  }
  return dtypes;
}

// {model: {w: float32 of 4000 bytes, tied: the same, b: float32 of 16 bytes, steps: int64}, opt: {m: float64, flags:
// bool}}
Manifest Sample() {
  ManifestBuilder b;
  const StorageIndex w = b.Storage(4000);
  TensorView part;
  part.storage = w;
  part.offset = 100;
  part.shape = {10, 5};
  part.stride = {1, 20};
  const NodeIndex model = b.Dict({{b.Str("w"), b.Parameter(b.Tensor(w, DType::kFloat32, {1000}))},
                                  {b.Str("tied"), b.View(part)},
                                  {b.Str("b"), b.Tensor(DType::kFloat32, {4})},
                                  {b.Str("steps"), b.Tensor(DType::kInt64, {500})}});
  const NodeIndex opt =
      b.Dict({{b.Str("m"), b.Tensor(DType::kFloat64, {600})}, {b.Str("flags"), b.Tensor(DType::kBool, {9})}});
  b.Dict({{b.Str("model"), model}, {b.Str("opt"), opt}, {b.Str("lr"), b.Float(0.1)}});
  return b.Build();
}

TEST(CastTest, AnEmptyCastChangesNothing) {
  const CastPlan plan = Plan(Sample(), {});
  EXPECT_EQ(EncodeManifest(plan.manifest), EncodeManifest(Sample()));
  EXPECT_TRUE(plan.changes.empty());
}

TEST(CastTest, FloatsBecomeOneDtypeAndTheRestStays) {
  const Manifest original = Sample();
  const CastPlan plan = Plan(original, {"float16", {}});
  EXPECT_THAT(Dtypes(plan.manifest), ElementsAre(std::pair("/model/b", "float16"), std::pair("/model/steps", "int64"),
                                                 std::pair("/model/tied", "float16"), std::pair("/model/w", "float16"),
                                                 std::pair("/opt/flags", "bool"), std::pair("/opt/m", "float16")));
  EXPECT_TRUE(plan.manifest.derived);
  for (StorageIndex i = 0; i < original.storages.size(); ++i) {
    EXPECT_EQ(ReadAll(plan, i, 1000), ExpectedBytes(original, plan, i)) << i;
  }
  ASSERT_EQ(plan.changes.size(), 2u);
  EXPECT_EQ(plan.changes[0].from, DType::kFloat32);
  EXPECT_EQ(plan.changes[0].to, DType::kFloat16);
  EXPECT_EQ(plan.changes[0].storages, 2);
  EXPECT_EQ(plan.changes[0].bytes_before, 4016);
  EXPECT_EQ(plan.changes[0].bytes_after, 2008);
  EXPECT_EQ(plan.changes[0].first_path, "/model/w");
  EXPECT_EQ(plan.changes[1].first_path, "/opt/m");
}

TEST(CastTest, TiesStridesAndOffsetsInElementsStay) {
  const Manifest original = Sample();
  const CastPlan plan = Plan(original, {"float64", {}});
  for (size_t i = 0; i < original.tensors.size(); ++i) {
    const TensorView &before = original.tensors[i], &after = plan.manifest.tensors[i];
    EXPECT_EQ(after.storage, before.storage);
    EXPECT_EQ(after.offset, before.offset);
    EXPECT_EQ(after.shape, before.shape);
    EXPECT_EQ(after.stride, before.stride);
  }
}

TEST(CastTest, TheFirstRuleThatMatchesCountsThenTheDefault) {
  const CastPlan plan = Plan(Sample(), {"bfloat16", {{"/model/b", ""}, {"/model", "torch.float8_e5m2"}}});
  EXPECT_THAT(Dtypes(plan.manifest),
              ElementsAre(std::pair("/model/b", "float32"), std::pair("/model/steps", "int64"),
                          std::pair("/model/tied", "float8_e5m2"), std::pair("/model/w", "float8_e5m2"),
                          std::pair("/opt/flags", "bool"), std::pair("/opt/m", "bfloat16")));
  const CastPlan only = Plan(Sample(), {"", {{"/opt/**", "float32"}}});
  EXPECT_EQ(Dtypes(only.manifest)["/opt/m"], "float32");
  EXPECT_EQ(Dtypes(only.manifest)["/model/w"], "float32");
  EXPECT_EQ(only.changes.size(), 1u);
}

TEST(CastTest, ARuleThatSplitsAStorageIsRefusedNamingBothPlaces) {
  for (const DtypeCast& cast :
       {DtypeCast{"", {{"/model/w", "float16"}}},  // the other one stays
        DtypeCast{"", {{"/model/tied", "float16"}}}, DtypeCast{"float64", {{"/model/t*", "float16"}}},
        DtypeCast{"float16", {{"/model/tied", ""}}}}) {
    EXPECT_THAT(Refusal(Sample(), cast),
                FailsWith(Reason::CAST_RULE_SPLITS_STORAGE, AllOf(HasSubstr("\"/model/w\" and \"/model/tied\" share"),
                                                                  HasSubstr("float16"), HasSubstr("float32"))));
  }
  EXPECT_OK(Refusal(Sample(), {"", {{"/model/w", "float16"}, {"/model/tied", "float16"}}}));
  EXPECT_OK(Refusal(Sample(), {"float64", {{"/model/w", "float32"}, {"/model/tied", ""}}}));  // both stay
}

TEST(CastTest, AStorageSeenAsTwoDtypesIsRefusedOnlyWhereItWouldChange) {
  for (const DType other : {DType::kInt32, DType::kFloat16, DType::kComplex64}) {
    ManifestBuilder b;
    const StorageIndex shared = b.Storage(4000);
    b.Dict({{b.Str("floats"), b.Tensor(shared, DType::kFloat32, {1000})},
            {b.Str("others"), b.Tensor(shared, other, {200})},
            {b.Str("free"), b.Tensor(DType::kFloat32, {1000})}});
    EXPECT_THAT(Refusal(b.Build(), {"float16", {}}),
                FailsWith(Reason::CAST_RULE_SPLITS_STORAGE,
                          AllOf(HasSubstr("\"/floats\" and \"/others\""), HasSubstr("goes from float32 to float16"),
                                HasSubstr(absl::StrCat("stays ", DTypeName(other))))));
    EXPECT_OK(Refusal(b.Build(), {"float16", {{"/floats", ""}, {"/others", ""}}}));
    EXPECT_EQ(Refusal(b.Build(), {"bfloat16", {}}).ok(), false);
  }
  ManifestBuilder b;
  const StorageIndex shared = b.Storage(4000);
  b.Dict({{b.Str("floats"), b.Tensor(shared, DType::kFloat32, {1000})},
          {b.Str("ints"), b.Tensor(shared, DType::kInt32, {1000})}});
  EXPECT_OK(Refusal(b.Build(), {"float32", {}}));
}

TEST(CastTest, RefusesWhatIsNoTarget) {
  for (const char* dtype :
       {"float15", "int8", "complex64", "float8_e4m3fnuz", "float8_e8m0fnu", "half", "qint8", "\xFF"}) {
    EXPECT_THAT(Refusal(Sample(), {dtype, {}}),
                FailsWith(Reason::CAST_INVALID,
                          HasSubstr("only to float16, bfloat16, float32, float64, float8_e4m3fn, float8_e5m2")))
        << dtype;
    EXPECT_THAT(Refusal(Sample(), {"", {{"/x", dtype}}}), FailsWith(Reason::CAST_INVALID));
  }
  EXPECT_THAT(Refusal(Sample(), {"", {{"/[x", "float16"}}}), FailsWith(Reason::PATTERN_INVALID));
}

TEST(CastTest, StoragesCrossTheInlineLimitBothWays) {
  for (const auto& [elements, inline_as_float32, inline_as_float16] :
       {std::tuple(256, true, true), {257, false, true}, {512, false, true}, {513, false, false}}) {
    ManifestBuilder b;
    b.Dict({{b.Str("w"), b.Tensor(DType::kFloat32, {elements})}});
    const Manifest original = b.Build();
    const CastPlan half = Plan(original, {"float16", {}});
    EXPECT_EQ(!IsBulk(half.manifest.storages[0]), inline_as_float16);
    EXPECT_EQ(ReadAll(half, 0, 7), ExpectedBytes(original, half, 0));
    MadeUpBytes bytes;
    EXPECT_OK(PlanCast(original, {"float16", {}}, bytes));
    EXPECT_EQ(bytes.reads.size(), !inline_as_float32 && inline_as_float16 ? 1u : 0u);

    ManifestBuilder halves;
    halves.Dict(
        {{halves.Str("w"), halves.Tensor(halves.Storage(2 * elements, "cpu", 'z'), DType::kFloat16, {elements})}});
    const Manifest narrow = halves.Build();
    const CastPlan wide = Plan(narrow, {"float32", {}});
    EXPECT_EQ(!IsBulk(wide.manifest.storages[0]), inline_as_float32);
    for (const size_t piece : {1, 3, 1000, 5000}) EXPECT_EQ(ReadAll(wide, 0, piece), ExpectedBytes(narrow, wide, 0));
  }
}

TEST(CastTest, ChunkDigestsGoWhereBulkBytesChange) {
  const auto with_chunks = [](const std::string& path, int64_t elements) {
    ManifestBuilder b;
    b.Dict({{b.Str(path), b.Tensor(DType::kFloat32, {elements})}, {b.Str("ints"), b.Tensor(DType::kInt32, {5000})}});
    Manifest manifest = b.Build();
    RandomManifest(1).GiveChunks(manifest);
    return manifest;
  };
  EXPECT_FALSE(HasChunkTable(Plan(with_chunks("big", 5000), {"float16", {}}).manifest));
  EXPECT_TRUE(HasChunkTable(Plan(with_chunks("big", 5000), {"float32", {}}).manifest));
  EXPECT_TRUE(HasChunkTable(Plan(with_chunks("small", 5), {"float16", {}}).manifest));
  EXPECT_TRUE(HasChunkTable(Plan(with_chunks("becomes_inline", 500), {"float16", {}}).manifest));
  EXPECT_FALSE(HasChunkTable(Plan(with_chunks("becomes_bulk", 200), {"float64", {}}).manifest));
}

TEST(CastTest, WhatIsMadeOfPartsIsConvertedOnlyWhereThePartsAreNumbersOfTheirOwn) {
  ManifestBuilder b;
  const NodeIndex indices = b.Tensor(DType::kInt64, {2, 3}), values = b.Tensor(DType::kFloat32, {3});
  const NodeIndex sparse = b.SparseCoo({4, 4}, indices, values);
  Node quantized;
  quantized.kind = NodeKind::kQuantizedTensor;
  const NodeIndex scales = b.Tensor(DType::kFloat64, {4}), zero_points = b.Tensor(DType::kInt64, {4});
  quantized.children = {b.Text(NodeKind::kQScheme, "per_channel_affine"), scales, zero_points, b.Int(0)};
  TensorView ints;
  ints.dtype = DType::kQInt8;
  ints.shape = {4};
  ints.stride = {1};
  ints.storage = b.Storage(4);
  quantized.tensor = b.AddTensor(ints);
  const NodeIndex quantized_index = b.Add(quantized);
  Node subclass;
  subclass.kind = NodeKind::kTensorSubclass;
  subclass.text = "my.Tensor";
  subclass.children = {b.Tuple({b.Tensor(DType::kFloat32, {2})}), b.Dict({})};
  const NodeIndex subclass_index = b.Add(subclass);
  Node typed, untyped;
  typed.kind = untyped.kind = NodeKind::kStorage;
  typed.text = "float32";
  typed.integer = b.Storage(8);
  untyped.text = "untyped";
  untyped.integer = b.Storage(8);
  const NodeIndex typed_index = b.Add(typed), untyped_index = b.Add(untyped);
  const NodeIndex array = b.NumpyArray("<f4", {2}, "12345678");
  const NodeIndex attributes = b.Dict({{b.Str("kept"), b.Tensor(DType::kFloat32, {2})}});
  const NodeIndex block_scales = b.Tensor(DType::kFloat8E8M0FNU, {2}), packed = b.Tensor(DType::kFloat4E2M1FNX2, {2});
  const NodeIndex complex = b.Tensor(DType::kComplex64, {2});
  b.OrderedDict({{b.Str("sparse"), sparse},
                 {b.Str("quantized"), quantized_index},
                 {b.Str("subclass"), subclass_index},
                 {b.Str("typed"), typed_index},
                 {b.Str("untyped"), untyped_index},
                 {b.Str("array"), array},
                 {b.Str("scales"), block_scales},
                 {b.Str("packed"), packed},
                 {b.Str("complex"), complex}},
                attributes);
  const Manifest original = b.Build();
  const CastPlan plan = Plan(original, {"float64", {}});
  std::vector<std::string> tensors;
  for (const TensorView& view : plan.manifest.tensors) tensors.emplace_back(ToStd(DTypeName(view.dtype)));
  EXPECT_THAT(tensors, ElementsAre("int64", "float64", "float64", "int64", "qint8", "float32", "float64",
                                   "float8_e8m0fnu", "float4_e2m1fn_x2", "complex64"));
  const CastPlan half = Plan(original, {"float16", {}});
  EXPECT_EQ(half.manifest.tensors[2].dtype, DType::kFloat64);  // the scales of a quantized tensor
  EXPECT_EQ(half.manifest.nodes[typed_index].text, "float16");
  EXPECT_EQ(half.manifest.storages[typed.integer].size_bytes, 4);
  EXPECT_EQ(half.manifest.nodes[untyped_index].text, "untyped");
  EXPECT_EQ(half.manifest.storages[untyped.integer].size_bytes, 8);
}

TEST(CastTest, TensorsWithoutBytesOnlyChangeTheirDtype) {
  ManifestBuilder b;
  const StorageIndex meta = b.Storage(4002, "meta");
  TensorView view;
  view.shape = {5};
  view.stride = {1};
  view.negative = true;
  b.Dict({{b.Str("meta"), b.Tensor(meta, DType::kFloat32, {1000})}, {b.Str("none"), b.View(view)}});
  const CastPlan plan = Plan(b.Build(), {"float64", {}});
  EXPECT_EQ(plan.manifest.storages[0].size_bytes, 8000);  // without the two bytes of an incomplete element
  EXPECT_EQ(plan.manifest.tensors[0].dtype, DType::kFloat64);
  EXPECT_EQ(plan.manifest.tensors[1].dtype, DType::kFloat64);
  EXPECT_TRUE(plan.manifest.tensors[1].negative);
  EXPECT_THAT(Refusal(b.Build(), {"", {{"/meta", "float16"}, {"/none", "float16"}}}), IsOk());

  ManifestBuilder shared;  // one object under two names cannot be two things either
  const NodeIndex tensor = shared.View(view);
  shared.Dict({{shared.Str("a"), tensor}, {shared.Str("b"), tensor}});
  EXPECT_THAT(Refusal(shared.Build(), {"", {{"/b", "float16"}}}), FailsWith(Reason::CAST_RULE_SPLITS_STORAGE));
}

TEST(CastTest, BytesOfAnIncompleteElementAreDropped) {
  ManifestBuilder b;
  b.Dict({{b.Str("inline"), b.Tensor(b.Storage(11, "cpu", 'q'), DType::kFloat32, {2})},
          {b.Str("bulk"), b.Tensor(b.Storage(8007), DType::kFloat32, {2})}});
  const Manifest original = b.Build();
  const CastPlan plan = Plan(original, {"bfloat16", {}});
  EXPECT_EQ(plan.manifest.storages[0].size_bytes, 4);
  EXPECT_EQ(plan.manifest.storages[1].size_bytes, 4002);
  for (StorageIndex i = 0; i < 2; ++i) EXPECT_EQ(ReadAll(plan, i, 777), ExpectedBytes(original, plan, i));
}

TEST(CastTest, SizesThatOverflowAreRefused) {
  ManifestBuilder b;
  b.Dict({{b.Str("meta"), b.Tensor(b.Storage(int64_t{1} << 62, "meta"), DType::kFloat16, {5})}});
  EXPECT_THAT(Refusal(b.Build(), {"float64", {}}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  ManifestBuilder none;
  TensorView view;
  view.dtype = DType::kFloat8E5M2;
  view.shape = {int64_t{1} << 61};
  view.stride = {1};
  none.Dict({{none.Str("none"), none.View(view)}});
  EXPECT_THAT(Refusal(none.Build(), {"float64", {}}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  ManifestBuilder two;
  two.Dict({{two.Str("a"), two.Tensor(two.Storage(int64_t{1} << 60), DType::kFloat8E5M2, {5})},
            {two.Str("b"), two.Tensor(two.Storage(int64_t{1} << 60), DType::kFloat8E5M2, {5})}});
  EXPECT_THAT(Refusal(two.Build(), {"float64", {}}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

TEST(CastTest, AnErrorOfTheSourceIsTheAnswer) {
  ManifestBuilder b;
  b.Dict({{b.Str("w"), b.Tensor(DType::kFloat32, {400})}});
  BrokenBytes broken;
  EXPECT_THAT(PlanCast(b.Build(), {"float16", {}}, broken).status(), FailsWith(Reason::CHUNK_CORRUPT));
  const absl::StatusOr<CastPlan> plan = PlanCast(b.Build(), {"float64", {}}, broken);
  ASSERT_OK(plan);
  CastBytes bytes(*plan, broken);
  std::vector<uint8_t> out(10);
  EXPECT_THAT(bytes.Read(0, 0, absl::MakeSpan(out)), FailsWith(Reason::CHUNK_CORRUPT));
}

TEST(CastTest, AnyRangeIsTheSameBytes) {
  std::mt19937 random(1);
  for (const char* to : {"float16", "float64", "float8_e4m3fn"}) {
    ManifestBuilder b;
    b.Dict({{b.Str("w"), b.Tensor(DType::kFloat32, {100'000})}});
    const Manifest original = b.Build();
    const CastPlan plan = Plan(original, {to, {}});
    const std::string whole = ExpectedBytes(original, plan, 0);
    MadeUpBytes source;
    CastBytes bytes(plan, source);
    for (int i = 0; i < 200; ++i) {
      const size_t first = random() % whole.size(), size = random() % std::min<size_t>(whole.size() - first, 200'000);
      std::string out(size, '\0');
      ASSERT_OK(
          bytes.Read(0, static_cast<int64_t>(first), absl::MakeSpan(reinterpret_cast<uint8_t*>(out.data()), size)));
      ASSERT_TRUE(out == absl::string_view(whole).substr(first, size)) << to << " " << first << " " << size;
    }
  }
}

TEST(CastTest, RandomTreesAreConvertedAllOverOrRefused) {
  int converted = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    RandomManifest random(seed);
    Manifest original = random.Make();
    if (seed % 3 == 0) random.GiveChunks(original);
    static constexpr const char* kTo[] = {"float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"};
    MadeUpBytes source;
    const auto plan = PlanCast(original, {kTo[seed % 6], {{"/top1/**", ""}}}, source);
    if (!plan.ok()) {
      EXPECT_THAT(plan.status(), FailsWith(Reason::CAST_RULE_SPLITS_STORAGE));
      continue;
    }
    ++converted;
    ASSERT_OK(Validate(plan->manifest)) << seed;
    for (StorageIndex i = 0; i < original.storages.size(); ++i) {
      const Storage& storage = plan->manifest.storages[i];
      if (IsMetaDevice(storage.device) || storage.size_bytes > 100'000) continue;
      ASSERT_EQ(ReadAll(*plan, i, 4096), ExpectedBytes(original, *plan, i)) << seed << " " << i;
    }
  }
  EXPECT_GT(converted, 30);
}

TEST(CastTest, PartsSharedByManyPlacesAreLookedAtOnceForEachOutcome) {
  ManifestBuilder b;
  std::vector<NodeIndex> elements;
  for (int i = 0; i < 3000; ++i) elements.push_back(b.Tensor(DType::kInt64, {1}));
  const NodeIndex attributes = b.Dict({{b.Str("many"), b.List(elements)}});
  ManifestBuilder::Items items;
  for (int i = 0; i < 3000; ++i) items.emplace_back(b.Str(absl::StrCat("d", i)), b.OrderedDict({}, attributes));
  b.Dict(items);
  DtypeCast cast{"float16", {{"/d1*", "float32"}, {"/d2*", "bfloat16"}, {"/d3*", "float64"}, {"/d4*", ""}}};
  EXPECT_OK(
      Refusal(b.Build(), cast));  // seconds, were it 9 million visits of hash sets; integers conflict with nothing
}

}  // namespace
}  // namespace sconce::format
