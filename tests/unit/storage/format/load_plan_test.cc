#include "storage/format/load_plan.h"

#include "storage/format/entries.h"
#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

struct Given {
  std::string key;
  Dims shape = {2};
  DType dtype = DType::kFloat32;
};

// A state_dict, and what a plan says about it, by name.
class LoadPlanTest : public testing::Test {
 protected:
  void Checkpoint(const std::vector<Given>& given, const std::vector<std::pair<std::string, int64_t>>& versions = {}) {
    ManifestBuilder b;
    ManifestBuilder::Items items;
    for (const Given& key : given) items.emplace_back(b.Str(key.key), b.Tensor(key.dtype, key.shape));
    ManifestBuilder::Items modules;
    for (const auto& [module, version] : versions) {
      modules.emplace_back(b.Str(module), b.Dict({{b.Str("version"), b.Int(version)}}));
    }
    const NodeIndex metadata = b.OrderedDict(modules);
    b.OrderedDict(items, b.Dict({{b.Str("_metadata"), metadata}}));
    Use(b.Build());
  }
  void Use(Manifest manifest) {
    manifest_ = std::move(manifest);
    ASSERT_OK_AND_ASSIGN(source_, ReadStateDict(manifest_, ""));
  }
  void Plan(std::vector<TargetKey> keys, const KeyRules& rules = {}) {
    target_.keys = std::move(keys);
    ASSERT_OK_AND_ASSIGN(plan_, PlanLoad(manifest_, source_, rules, target_));
  }

  std::vector<std::string> Matched() const {
    std::vector<std::string> keys;
    for (const LoadPlan::Match& match : plan_.matched) keys.push_back(target_.keys[match.target].key);
    return keys;
  }
  std::vector<std::string> Missing() const { return TargetNames(plan_.missing); }
  std::vector<std::string> Defaulted() const { return TargetNames(plan_.defaulted); }
  std::vector<std::string> Unexpected() const {
    std::vector<std::string> keys;
    for (const size_t source : plan_.unexpected) keys.push_back(plan_.keys[source]);
    return keys;
  }
  std::string Strict() const { return LoadError(plan_, target_, true, "Net", 1 << 16); }

  Manifest manifest_;
  StateDict source_;
  LoadTarget target_;
  LoadPlan plan_;

 private:
  std::vector<std::string> TargetNames(const std::vector<size_t>& numbers) const {
    std::vector<std::string> keys;
    for (const size_t number : numbers) keys.push_back(target_.keys[number].key);
    return keys;
  }
};

TEST_F(LoadPlanTest, WhatFitsIsAMatchInTheTargetsOrder) {
  Checkpoint({{"b"}, {"a"}});
  Plan({{"a", {2}, "float32"}, {"b", {2}, ""}});
  EXPECT_THAT(Matched(), ElementsAre("a", "b"));
  EXPECT_TRUE(plan_.fits());
  EXPECT_EQ(plan_.match_rate(), 1.0);
  EXPECT_EQ(Strict(), "");
}

TEST_F(LoadPlanTest, SaysWhatPyTorchSays) {
  Checkpoint({{"fc.weight", {4, 4}}, {"zz"}, {"fc.scale"}});
  Plan({{"fc.weight", {3, 2}, ""}, {"fc.bias", {3}, ""}, {"fc.more", {}, ""}});
  EXPECT_EQ(
      Strict(),
      "Error(s) in loading state_dict for Net:\n"
      "\tMissing key(s) in state_dict: \"fc.bias\", \"fc.more\". \n"
      "\tUnexpected key(s) in state_dict: \"zz\", \"fc.scale\". \n"
      "\tsize mismatch for fc.weight: copying a param with shape torch.Size([4, 4]) from checkpoint, the shape in "
      "current model is torch.Size([3, 2]).");
  EXPECT_EQ(
      LoadError(plan_, target_, false, "Net", 1 << 16),
      "Error(s) in loading state_dict for Net:\n"
      "\tsize mismatch for fc.weight: copying a param with shape torch.Size([4, 4]) from checkpoint, the shape in "
      "current model is torch.Size([3, 2]).");
  EXPECT_EQ(plan_.match_rate(), 0.0);
}

TEST_F(LoadPlanTest, ALongErrorIsCut) {
  std::vector<Given> keys;
  for (int i = 0; i < 10'000; ++i) keys.push_back({"unexpected." + std::to_string(i)});
  Checkpoint(keys);
  Plan({{"a", {2}, ""}});
  const std::string text = LoadError(plan_, target_, true, "Net", 1000);
  EXPECT_LT(text.size(), 1010);
  EXPECT_THAT(text, StartsWith("Error(s) in loading"));
  EXPECT_THAT(text, testing::EndsWith(" ..."));
}

TEST_F(LoadPlanTest, AScalarOfOldReleasesFitsIntoOneWithoutDimensions) {
  Checkpoint({{"one", {1}}, {"three", {3}}, {"scalar", {}}});
  Plan({{"one", {}, ""}, {"three", {}, ""}, {"scalar", {1}, ""}});
  EXPECT_THAT(Matched(), ElementsAre("one"));
  ASSERT_EQ(plan_.mismatched.size(), 2);
  EXPECT_THAT(plan_.mismatched[0].message,
              HasSubstr("shape torch.Size([3]) from checkpoint, the shape in current model "
                        "is torch.Size([])."));
  EXPECT_THAT(plan_.mismatched[1].message, HasSubstr("size mismatch for scalar"));
}

TEST_F(LoadPlanTest, AnotherDtypeIsAMatchThatConverts) {
  Checkpoint({{"a", {2}, DType::kFloat16}, {"b", {2}, DType::kFloat16}, {"c", {2}, DType::kFloat16}});
  Plan({{"a", {2}, "float32"}, {"b", {2}, "float16"}, {"c", {2}, ""}});
  EXPECT_THAT(Matched(), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(plan_.matched[0].converts);
  EXPECT_FALSE(plan_.matched[1].converts);
  EXPECT_FALSE(plan_.matched[2].converts);
}

TEST_F(LoadPlanTest, AValueThatIsNoTensorIsAMismatch) {
  ManifestBuilder b;
  b.Dict({{b.Str("a"), b.Float(1)}, {b.Str("b"), b.Tensor(DType::kFloat32, {2})}});
  Use(b.Build());
  Plan({{"a", {}, ""}, {"b", {2}, ""}});
  ASSERT_EQ(plan_.mismatched.size(), 1);
  EXPECT_EQ(plan_.mismatched[0].message,
            "While copying the parameter named \"a\", expected torch.Tensor or Tensor-like object from checkpoint but "
            "received <class 'float'>");
}

TEST_F(LoadPlanTest, ExtraStateTakesAnythingAndIsReportedFirst) {
  ManifestBuilder b;
  b.Dict({{b.Str("m.w"), b.Tensor(DType::kFloat32, {2})},
          {b.Str("m.odd"), b.Tensor(DType::kFloat32, {2})},
          {b.Str("m._extra_state"), b.Int(1)},
          {b.Str("_extra_state"), b.Str("x")}});
  Use(b.Build());
  Plan({{"_extra_state", {}, ""}, {"m.w", {2}, ""}});
  EXPECT_THAT(Matched(), ElementsAre("_extra_state", "m.w"));
  EXPECT_THAT(Unexpected(), ElementsAre("m._extra_state", "m.odd"));
}

TEST_F(LoadPlanTest, UnexpectedKeysComeModuleByModule) {
  Checkpoint({{"z.b.x"}, {"a.c.x"}, {"a.x"}, {"x"}, {"a.w"}, {"a.c.w"}, {"z.w"}, {"other.deep.x"}});
  Plan({{"a.w", {2}, ""}, {"a.c.w", {2}, ""}, {"z.w", {2}, ""}});
  EXPECT_THAT(Unexpected(), ElementsAre("x", "other.deep.x", "a.x", "a.c.x", "z.b.x"));
}

TEST_F(LoadPlanTest, AKeyWithTheNameOfAModuleOrBelowATensorIsUnexpected) {
  Checkpoint({{"a"}, {"a.w.deeper"}, {"a.w"}, {""}, {"."}, {"a."}});
  Plan({{"a.w", {2}, ""}});
  EXPECT_THAT(Unexpected(), ElementsAre("a", "", ".", "a.w.deeper", "a."));
}

TEST_F(LoadPlanTest, BatchNormOfOldReleasesCountsFromZero) {
  const std::vector<TargetKey> target = {{"bn.weight", {2}, ""},
                                         {"bn.running_mean", {2}, ""},
                                         {"bn.running_var", {2}, ""},
                                         {"bn.num_batches_tracked", {}, ""},
                                         {"my.num_batches_tracked", {}, ""}};
  const std::vector<Given> keys = {{"bn.weight"}, {"bn.running_mean"}, {"bn.running_var"}};
  Checkpoint(keys);
  Plan(target);
  EXPECT_THAT(Defaulted(), ElementsAre("bn.num_batches_tracked"));
  EXPECT_THAT(Missing(), ElementsAre("my.num_batches_tracked"));
  EXPECT_EQ(plan_.match_rate(), 0.75);
  Checkpoint(keys, {{"bn", 1}});
  Plan(target);
  EXPECT_THAT(Defaulted(), ElementsAre("bn.num_batches_tracked"));
  Checkpoint(keys, {{"bn", 2}});
  Plan(target);
  EXPECT_THAT(Defaulted(), IsEmpty());
  EXPECT_THAT(Missing(), ElementsAre("bn.num_batches_tracked", "my.num_batches_tracked"));
}

TEST_F(LoadPlanTest, VersionsFollowTheRules) {
  const std::vector<TargetKey> target = {
      {"bn.running_mean", {2}, ""}, {"bn.running_var", {2}, ""}, {"bn.num_batches_tracked", {}, ""}};
  Checkpoint({{"module.bn.running_mean"}, {"module.bn.running_var"}}, {{"module.bn", 2}});
  Plan(target, {{"module."}, "", {}});
  EXPECT_THAT(Missing(), ElementsAre("bn.num_batches_tracked"));
  target_.scripted = true;
  Checkpoint({{"bn.running_mean"}, {"bn.running_var"}});
  Plan(target);
  EXPECT_THAT(Missing(), ElementsAre("bn.num_batches_tracked")) << "a scripted module has no code for it";
}

TEST_F(LoadPlanTest, KeepsWhatMatchesUnderTheTargetsNames) {
  Checkpoint({{"module.a", {1024}}, {"module.b", {4}}, {"module.odd", {2048}}});
  Plan({{"b", {4}, ""}, {"a", {1024}, ""}, {"c", {1}, ""}}, {{"module."}, "", {}});
  const Selected kept = KeepMatched(manifest_, source_, plan_, target_);
  ASSERT_OK(Validate(kept.manifest));
  ASSERT_OK_AND_ASSIGN(const EntryPage page, ListEntries(kept.manifest, 1, 10));
  ASSERT_EQ(page.entries.size(), 2);
  EXPECT_EQ(page.entries[0].path, "/b");
  EXPECT_EQ(page.entries[1].path, "/a");
  EXPECT_THAT(kept.source, ElementsAre(0, 1));
}

TEST_F(LoadPlanTest, SuggestsThePrefixThatHelps) {
  Checkpoint({{"module.a.w"}, {"module.b.w"}, {"module.c"}});
  Plan({{"a.w", {2}, ""}, {"b.w", {2}, ""}});
  EXPECT_THAT(SuggestRules(plan_, target_), HasSubstr("prefix \"module.\" taken off, 2 of 2 keys"));
  Checkpoint({{"a.w"}, {"b.w"}});
  Plan({{"net.a.w", {2}, ""}, {"net.b.w", {2}, ""}});
  EXPECT_THAT(SuggestRules(plan_, target_), HasSubstr("prefix \"net.\" put on, 2 of 2 keys"));
  Plan({{"q", {2}, ""}});
  EXPECT_EQ(SuggestRules(plan_, target_), "");
}

TEST_F(LoadPlanTest, RefusesTargetsThatMakeNoSense) {
  Checkpoint({{"a"}});
  const auto refused = [&](std::vector<TargetKey> keys) {
    return PlanLoad(manifest_, source_, {}, {std::move(keys)}).status();
  };
  EXPECT_THAT(refused({{"a", {2}, ""}, {"a", {2}, ""}}), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(refused({{"", {2}, ""}}), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(refused({{"a", {-1}, ""}}), FailsWith(Reason::ARGUMENT_INVALID));
  EXPECT_THAT(refused({{std::string(5000, 'a'), {2}, ""}}), FailsWith(Reason::ARGUMENT_INVALID));
}

TEST_F(LoadPlanTest, ATargetWithoutKeysMatchesWhole) {
  Checkpoint({{"a"}});
  Plan({});
  EXPECT_EQ(plan_.match_rate(), 1.0);
  EXPECT_THAT(Unexpected(), ElementsAre("a"));
}

// Deep names share no memory with each other when each prefix is kept as text.
TEST_F(LoadPlanTest, NamesOfManyDotsTakeNoMoreThanTheirSize) {
  std::vector<Given> keys;
  std::vector<TargetKey> target;
  for (int i = 0; i < 500; ++i) {
    std::string name = std::to_string(i);
    while (name.size() < 4000) name += ".a";
    target.push_back({name, {2}, ""});
    keys.push_back({name + ".b"});
  }
  Checkpoint(keys);
  Plan(target);
  EXPECT_EQ(plan_.unexpected.size(), 500);
  for (int i = 0; i < 5000; ++i) target.push_back({std::to_string(i) + std::string(4000, '.'), {2}, ""});
  EXPECT_THAT(PlanLoad(manifest_, source_, {}, {target}), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
}

// Work that grows with the square of their number would exceed ctest's limit.
TEST_F(LoadPlanTest, AHundredThousandTensorsArePlanned) {
  std::vector<Given> keys;
  std::vector<TargetKey> target;
  for (int i = 0; i < 100'000; ++i) {
    const std::string name = "layers." + std::to_string(i) + ".attention.weight";
    keys.push_back({"module." + name, {1}});
    target.push_back({name, {1}, "float32"});
  }
  Checkpoint(keys);
  Plan(target, {{"module."}, "", {}});
  EXPECT_EQ(plan_.matched.size(), 100'000);
  EXPECT_EQ(KeepMatched(manifest_, source_, plan_, target_).manifest.storages.size(), 100'000);
}

}  // namespace
}  // namespace sconce::format
