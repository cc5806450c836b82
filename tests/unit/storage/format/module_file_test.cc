#include "storage/format/module_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "storage/format/module_keys.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<ModuleKind> Kind(const std::string& file) {
  const absl::StatusOr<ZipReader> zip = ZipReader::Open(AsBytes(file));
  if (!zip.ok()) return zip.status();
  return ModuleKindOf(*zip);
}

// As PyTorch 2.6 writes it; later releases have a folder around it.
const std::string kLibrary = "data/aotinductor/model/cabc.so";
const std::string kPackage = MakeZip({{"version", "0"},
                                      {"archive_format", "pt2"},
                                      {"data/aotinductor/model/cabc.cpp", "int x;"},
                                      {kLibrary, "ELF"},
                                      {"data/aotinductor/model/cabc_metadata.json", "{}"}});

TEST(ModuleFileTest, KindsAreToldByTheirRecords) {
  const std::pair<std::string, ModuleKind> kFiles[] = {
      {kPackage, ModuleKind::kCompiled},
      {MakeZip({{"net/version", "0"}, {"net/" + kLibrary, "ELF"}}), ModuleKind::kCompiled},
      {MakeZip({{"net/data.pkl", ""}, {"net/constants.pkl", ""}}), ModuleKind::kTorchScript},
      {MakeZip({{"data/constants.pkl", ""}}), ModuleKind::kTorchScript},
  };
  for (const auto& [file, expected] : kFiles) {
    ASSERT_OK_AND_ASSIGN(const ModuleKind kind, Kind(file));
    EXPECT_EQ(kind, expected);
  }
}

TEST(ModuleFileTest, OtherArchivesAreNamedWithWhatToDo) {
  EXPECT_THAT(Kind(MakeZip({{"net/data.pkl", ""}})), FailsWith(Reason::MODULE_INVALID, HasSubstr("constants.pkl")));
  EXPECT_THAT(Kind(MakeZip({{"serialized_exported_program.json", "{}"}})),
              FailsWith(Reason::MODULE_INVALID, HasSubstr("aoti_compile_and_package")));
  EXPECT_THAT(Kind(MakeZip({{"net/models/model.json", "{}"}})),
              FailsWith(Reason::MODULE_INVALID, HasSubstr("aoti_compile_and_package")));
  EXPECT_THAT(Kind(MakeZip({{"aotinductor/model/cabc.so", "ELF"}})), FailsWith(Reason::MODULE_INVALID));
}

TEST(ModuleFileTest, APackageHasOneLibrary) {
  ASSERT_OK_AND_ASSIGN(const ZipReader zip, ZipReader::Open(AsBytes(kPackage)));
  ASSERT_OK_AND_ASSIGN(const ZipRecord* const library, FindCompiledLibrary(zip));
  EXPECT_EQ(library->name, kLibrary);
  const std::string two = MakeZip({{kLibrary, "ELF"}, {"data/aotinductor/other/cdef.so", "ELF"}});
  EXPECT_THAT(CheckModuleFile(AsBytes(two)), FailsWith(Reason::MODULE_INVALID, HasSubstr("more than one")));
}

TEST(ModuleFileTest, AWholePackageIsAModuleAndADamagedOneIsNot) {
  EXPECT_OK(CheckModuleFile(AsBytes(kPackage)));
  EXPECT_THAT(CheckModuleFile(AsBytes(kPackage.substr(0, kPackage.size() / 2))), FailsWith(Reason::FILE_TRUNCATED));
  std::string damaged = kPackage;
  damaged[damaged.find("int x;")] ^= 1;
  EXPECT_THAT(CheckModuleFile(AsBytes(damaged)), FailsWith(Reason::FILE_MALFORMED, HasSubstr("CRC-32")));
  EXPECT_THAT(CheckModuleFile(AsBytes("text")), FailsWith(Reason::MODULE_INVALID, HasSubstr("no zip archive")));
  EXPECT_THAT(CheckModuleFile({}), FailsWith(Reason::MODULE_INVALID));
}

TEST(ModuleFileTest, NobodyCanPlanAgainstAPackage) {
  EXPECT_THAT(TargetOfModule(AsBytes(kPackage)), FailsWith(Reason::MODULE_INVALID, HasSubstr("own state_dict")));
}

}  // namespace
}  // namespace sconce::format
