#include "storage/format/module_keys.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "storage/format/script_pickle.h"
#include "storage/format/zip_reader.h"
#include "tests/support/fixtures.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ReadModule(const std::string& name) {
  const char* const source = std::getenv("SCONCE_SOURCE_DIR");
  std::ifstream file(std::string(source != nullptr ? source : ".") + "/tests/data/" + name, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  EXPECT_FALSE(content.str().empty()) << name;
  return content.str();
}

std::vector<std::string> Described(const LoadTarget& target) {
  std::vector<std::string> lines;
  for (const TargetKey& key : target.keys) {
    std::string line = key.key + " " + key.dtype + " [";
    for (const int64_t size : key.shape) line += std::to_string(size) + ",";
    lines.push_back(line + "]");
  }
  return lines;
}

TEST(ModuleKeysTest, AModulesParametersAndBuffersComeInTheOrderOfItsStateDict) {
  const std::string archive = ReadModule("torchscript/linear.pt");
  ASSERT_OK_AND_ASSIGN(const LoadTarget target, TargetOfModule(AsBytes(ToAbsl(archive))));
  EXPECT_TRUE(target.scripted);
  EXPECT_THAT(
      Described(target),
      ElementsAre("fc.weight float32 [3,2,]", "fc.bias float32 [3,]", "bn.weight float32 [3,]", "bn.bias float32 [3,]",
                  "bn.running_mean float32 [3,]", "bn.running_var float32 [3,]", "bn.num_batches_tracked int64 []"));
}

TEST(ModuleKeysTest, ModulesWithoutTensorsHaveNoKeys) {
  const std::string archive = ReadModule("torchscript/pair.pt");
  ASSERT_OK_AND_ASSIGN(const LoadTarget target, TargetOfModule(AsBytes(ToAbsl(archive))));
  EXPECT_TRUE(target.keys.empty());
}

TEST(ModuleKeysTest, ACheckpointIsNoModule) {
  const std::string archive = ReadModule("state_dict.pt");
  EXPECT_THAT(TargetOfModule(AsBytes(ToAbsl(archive))), FailsWith(Reason::MODULE_INVALID));
}

// A module's weights may be gigabytes, and what its keys are does not depend on them.
TEST(ModuleKeysTest, TheTensorsBytesAreNotRead) {
  std::string archive = ReadModule("torchscript/linear.pt");
  ASSERT_OK_AND_ASSIGN(const ZipReader zip, ZipReader::Open(AsBytes(ToAbsl(archive))));
  int tensors = 0;
  for (const ZipRecord& record : zip.records()) {
    if (!absl::StrContains(record.name, "/data/")) continue;
    ++tensors;
    archive[static_cast<size_t>(record.data.data() - AsBytes(ToAbsl(archive)).data())] ^=
        1;  // its checksum is wrong now
  }
  ASSERT_GT(tensors, 0);
  ASSERT_OK_AND_ASSIGN(const LoadTarget target, TargetOfModule(AsBytes(ToAbsl(archive))));
  EXPECT_EQ(target.keys.size(), 7u);
}

// Whatever is done to the archive's bytes ends with an error or with keys.
TEST(ModuleKeysTest, DamageEndsCleanly) {
  const std::string archive = ReadModule("torchscript/linear.pt");
  for (size_t at = 0; at < archive.size(); at += 7) {
    std::string damaged = archive;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    (void)TargetOfModule(AsBytes(ToAbsl(damaged))).status();
  }
  for (size_t size = 0; size < archive.size(); size += 97) {
    EXPECT_FALSE(TargetOfModule(AsBytes(ToAbsl(archive.substr(0, size)))).ok());
  }
}

std::string Pickle(const std::string& body) {
  return "\x80\x02" + body + ".";
}

TEST(ScriptPickleTest, ReadsWhatTorchScriptWrites) {
  const std::string key_a("X\x01\0\0\0a", 6);
  const std::string key_b("X\x01\0\0\0b", 6);
  const std::string whole = Pickle("c__torch__\nNet\nq\x01)\x81}(" + key_a + "K\x05" + key_b + "h\x01ub");
  ASSERT_OK_AND_ASSIGN(const ScriptPickle values, ReadScriptPickle(AsBytes(ToAbsl(whole))));
  const ScriptValue& object = values.values[values.root];
  ASSERT_EQ(object.kind, ScriptValue::Kind::kObject);
  EXPECT_EQ(values.values[object.callee].text, "__torch__\nNet");
  const ScriptValue& state = values.values[object.argument];
  ASSERT_EQ(state.items.size(), 4);
  EXPECT_EQ(values.values[state.items[0]].text, "a");
  EXPECT_EQ(values.values[state.items[1]].integer, 5);
  EXPECT_EQ(state.items[3], object.callee);
}

TEST(ScriptPickleTest, NonsenseIsRefused) {
  EXPECT_THAT(ReadScriptPickle(AsBytes(ToAbsl(Pickle(std::string(100'000, ']'))))), FailsWith(Reason::MODULE_INVALID))
      << "a byte of pickle must not become a hundred bytes of memory";
  for (const std::string& pickle :
       {std::string(), std::string("."), Pickle("t"), Pickle("u"), Pickle("(e"), Pickle("h\x05"), Pickle("}K\x01s"),
        Pickle("N(N\x81"), Pickle("NNb"), Pickle("X\xff\xff\xff\xff"), Pickle("cabc"), Pickle("i"), Pickle("\x85"),
        std::string("\x80\x02N")}) {
    EXPECT_THAT(ReadScriptPickle(AsBytes(ToAbsl(pickle))), FailsWith(Reason::MODULE_INVALID)) << pickle;
  }
}

}  // namespace
}  // namespace sconce::format
