#include "server/torch_runtime/call_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"

namespace sconce::torch_runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kLeaf[] = R"({"type": null, "context": null, "children_spec": []})";

std::string Node(const std::string& type, const std::string& context, const std::string& children) {
  return absl::StrCat(R"({"type": ")", type, R"(", "context": ")", context, R"(", "children_spec": [)", children, "]}");
}

std::string Spec(const std::string& tree) {
  return absl::StrCat("[1, ", tree, "]");
}

std::string Tuple(const std::string& children) {
  return Node("builtins.tuple", "null", children);
}

std::string Call(const std::string& by_position, const std::string& names, const std::string& by_name) {
  return Spec(Tuple(absl::StrCat(Tuple(by_position), ", ", Node("builtins.dict", names, by_name))));
}

const std::string kTwo = absl::StrCat(kLeaf, ", ", kLeaf);
const std::string kOneArgument = Call(kLeaf, "[]", "");

TEST(CallSpecTest, ArgumentsAreNumberedThenNamed) {
  ASSERT_OK_AND_ASSIGN(const CallSpec spec, ReadCallSpec(Call(kTwo, R"([\"mask\"])", kLeaf), Spec(kLeaf)));
  EXPECT_THAT(spec.arguments, ElementsAre("INPUT__0", "INPUT__1", "mask"));
  EXPECT_THAT(spec.outputs, ElementsAre("OUTPUT__0"));
}

TEST(CallSpecTest, OutputsAreNumberedOrTheKeysOfADict) {
  ASSERT_OK_AND_ASSIGN(const CallSpec tuple, ReadCallSpec(kOneArgument, Spec(Tuple(kTwo))));
  EXPECT_THAT(tuple.outputs, ElementsAre("OUTPUT__0", "OUTPUT__1"));
  const std::string dict = Spec(Node("builtins.dict", R"([\"out\", \"a \\\"b\\\"\"])", kTwo));
  ASSERT_OK_AND_ASSIGN(const CallSpec named, ReadCallSpec(kOneArgument, dict));
  EXPECT_THAT(named.outputs, ElementsAre("out", "a \"b\""));
}

TEST(CallSpecTest, AModuleMayTakeNothing) {
  ASSERT_OK_AND_ASSIGN(const CallSpec spec, ReadCallSpec(Call("", "[]", ""), Spec(kLeaf)));
  EXPECT_THAT(spec.arguments, IsEmpty());
}

TEST(CallSpecTest, WhatNoRequestCanGiveIsRefused) {
  EXPECT_THAT(ReadCallSpec(Call(Tuple(kTwo), "[]", ""), Spec(kLeaf)),
              FailsWith(Reason::MODULE_INVALID, HasSubstr("takes lists or dicts")));
  EXPECT_THAT(ReadCallSpec(kOneArgument, Spec(Tuple(Tuple(kTwo)))),
              FailsWith(Reason::MODULE_INVALID, HasSubstr("must give a tensor")));
  EXPECT_THAT(ReadCallSpec(kOneArgument, Spec(Tuple(""))), FailsWith(Reason::MODULE_INVALID));
}

TEST(CallSpecTest, WhatIsNoCallIsRefused) {
  const std::string good = Spec(kLeaf);
  for (const std::string& bad :
       {std::string(), std::string("[2, ") + kLeaf + "]", Spec(kTwo), Spec(Tuple(kLeaf)), Spec(kLeaf) + "x",
        Spec(R"({"type": null, "size": 3})"), Call(kLeaf, R"([\"a\"])", ""), Call(kLeaf, "[3]", kLeaf)}) {
    EXPECT_THAT(ReadCallSpec(bad, good), FailsWith(Reason::MODULE_INVALID)) << bad;
  }
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += R"({"children_spec": [)";
  EXPECT_THAT(ReadCallSpec(Spec(deep), good), FailsWith(Reason::MODULE_INVALID, HasSubstr("too deep")));
}

}  // namespace
}  // namespace sconce::torch_runtime
