#include "storage/format/script_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "storage/format/open_checkpoint.h"
#include "storage/format/path.h"
#include "storage/format/zip_reader.h"
#include "tests/support/fixtures.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

std::string DataFolder() {
  const char* source = ::getenv("SCONCE_SOURCE_DIR");
  return std::string(source != nullptr ? source : ".") + "/tests/data";
}

std::map<std::string, NodeIndex> Places(const Manifest& manifest) {
  std::map<std::string, NodeIndex> places;
  EXPECT_OK(ForEachPath(manifest, [&](absl::string_view path, NodeIndex node) {
    places[std::string(ToStd(path))] = node;
    return true;
  }));
  return places;
}

// The module of the fixtures: parameters, buffers, attributes, and the code as it lies in the archive.
void CheckBnNet(const std::string& path) {
  SCOPED_TRACE(path);
  const std::string file = ReadWholeFile(path);
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadCheckpointFile(AsBytes(file)));
  const Manifest& manifest = read.manifest;
  const auto places = Places(manifest);
  const auto tensor = [&](const std::string& place) {
    const auto it = places.find(place);
    EXPECT_NE(it, places.end()) << place;
    return it == places.end() ? TensorView() : manifest.tensors[manifest.nodes[it->second].tensor];
  };
  EXPECT_EQ(tensor("/module/features/0/weight").shape, (Dims{8, 3, 3, 3}));
  EXPECT_TRUE(tensor("/module/features/0/weight").requires_grad);
  EXPECT_EQ(tensor("/module/features/1/running_mean").shape, (Dims{8}));
  EXPECT_EQ(tensor("/module/features/1/num_batches_tracked").dtype, DType::kInt64);
  EXPECT_EQ(tensor("/module/head/bias").shape, (Dims{5}));
  EXPECT_EQ(manifest.nodes[places.at("/module/training")].kind, NodeKind::kBool);
  EXPECT_EQ(manifest.nodes[places.at("/constants")].kind, NodeKind::kTuple);
  EXPECT_EQ(places.count("/extra"), 0u);

  ASSERT_OK_AND_ASSIGN(const ZipReader zip, ZipReader::Open(AsBytes(file)));
  int records = 0;
  const Node& code = manifest.nodes[places.at("/code")];
  for (size_t i = 0; i + 1 < code.children.size(); i += 2, ++records) {
    const std::string folder(ToStd(zip.records()[0].name.substr(0, zip.records()[0].name.find('/'))));
    const ZipRecord* const record =
        zip.Find(absl::StrCat(folder, "/code/", ToAbsl(manifest.nodes[code.children[i]].text)));
    ASSERT_NE(record, nullptr) << manifest.nodes[code.children[i]].text;
    EXPECT_EQ(manifest.nodes[code.children[i + 1]].kind, NodeKind::kBytes);
    EXPECT_EQ(manifest.nodes[code.children[i + 1]].text.size(), record->size_bytes);
  }
  EXPECT_GT(records, 1);

  // As data it is a checkpoint like any other.
  FileBytes bytes(read.bytes);
  ASSERT_OK_AND_ASSIGN(const std::string written, WriteTorchFile(manifest, bytes));
  ASSERT_OK_AND_ASSIGN(const TorchFile again, ReadCheckpointFile(AsBytes(written)));
  EXPECT_EQ(Places(again.manifest).size(), places.size());
}

TEST(ScriptReaderTest, ModulesAreReadAsData) {
  CheckBnNet(DataFolder() + "/bnnet_scripted_train_mode.pt");
}

TEST(ScriptReaderTest, ModulesOfAllReleasesAreReadAsData) {
  const std::string fixtures = SharedFixtures();
  if (fixtures.empty()) GTEST_SKIP() << "the shared fixtures are not beside this checkout (SCONCE_SHARED_DIR)";
  for (const char* release : {"torch-1.13", "torch-2.6", "torch-2.14"}) {
    for (const char* name : {"bnnet_traced.pt", "bnnet_scripted_train_mode.pt"})
      CheckBnNet(absl::StrCat(fixtures, "/", release, "/", name));
  }
}

std::string Module(const std::string& data, const std::string& constants = "\x80\x02).") {
  return MakeZip({{"m/data.pkl", data},
                  {"m/code/__torch__.py", "class M"},
                  {"m/extra/notes.txt", "of mine"},
                  {"m/constants.pkl", constants}});
}

TEST(ScriptReaderTest, ObjectsAreTheirAttributes) {
  // {"f": M(), whose attribute "a" is build_intlist([1, 2]), and "b" restore_type_tag({"k": 1}, "Dict[str, int]")}
  constexpr char kPickle[] =
      "\x80\x02}X\x01\0\0\0fc__torch__\nM\n)\x81}(X\x01\0\0\0actorch.jit._pickle\nbuild_intlist\n](K\x01K\x02"
      "e\x85R"
      "X\x01\0\0\0"
      "bctorch.jit._pickle\nrestore_type_tag\n}X\x01\0\0\0kK\x01sX\x0e\0\0\0Dict[str, int]\x86Rubs.";
  const std::string pickle(kPickle, sizeof kPickle - 1);
  ASSERT_OK_AND_ASSIGN(const TorchFile read, ReadCheckpointFile(AsBytes(Module(pickle))));
  const auto places = Places(read.manifest);
  EXPECT_EQ(read.manifest.nodes[places.at("/module/f/a")].kind, NodeKind::kList);
  EXPECT_EQ(read.manifest.nodes[places.at("/module/f/a/1")].integer, 2);
  EXPECT_EQ(read.manifest.nodes[places.at("/module/f/b/k")].integer, 1);
  EXPECT_EQ(read.manifest.nodes[places.at("/extra/notes.txt")].text, "of mine");
}

TEST(ScriptReaderTest, OtherGlobalsAreRefusedEvenHere) {
  EXPECT_THAT(ReadCheckpointFile(AsBytes(Module("\x80\x02"
                                                "cos\nsystem\n."))),
              FailsWith(Reason::PICKLE_GLOBAL_REFUSED, HasSubstr("os.system")));
  EXPECT_THAT(ReadCheckpointFile(AsBytes(Module("\x80\x02N.",
                                                "\x80\x02"
                                                "cos\nsystem\n."))),
              FailsWith(Reason::PICKLE_GLOBAL_REFUSED, HasSubstr("os.system")));
  // And in a checkpoint a class of that name is like any other.
  EXPECT_THAT(ReadCheckpointFile(AsBytes(MakeZip({{"m/data.pkl",
                                                   "\x80\x02"
                                                   "c__torch__\nM\n)\x81."}}))),
              FailsWith(Reason::PICKLE_GLOBAL_REFUSED, HasSubstr("__torch__.M")));
}

}  // namespace
}  // namespace sconce::format
