#include <string>
#include <vector>

#include "base/digest.h"
#include "tests/unit/server/services/service_fixture.h"

namespace sconce::services {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ModuleCallsTest : public CheckpointServiceTest {
 protected:
  void PushModule(const std::string& name, const std::string& archive) {
    auto push = repository_->BeginModulePush({"default", "r"}, name, static_cast<int64_t>(archive.size()), {{"k", "v"}},
                                             /*create_run=*/true);
    ASSERT_OK(push);
    ASSERT_OK((*push)->Write(AsBytes(archive)));
    ASSERT_OK((*push)->Commit());
  }
  static std::string Name(const std::string& module) { return "projects/default/runs/r/modules/" + module; }
};

TEST_F(ModuleCallsTest, GetSaysWhatIsStored) {
  const std::string archive(5000, 'a');
  PushModule("net", archive);
  v1::GetModuleRequest request;
  request.set_name(Name("net"));
  ASSERT_OK_AND_ASSIGN(const v1::Module module, Call(&Stub::GetModule, request));
  EXPECT_EQ(module.name(), Name("net"));
  EXPECT_EQ(module.size_bytes(), 5000);
  EXPECT_EQ(module.sha256(), Sha256(AsBytes(archive)).Hex());
  EXPECT_EQ(module.labels().at("k"), "v");
  EXPECT_GT(module.create_time().seconds(), 1'600'000'000);
  request.set_name(Name("other"));
  EXPECT_THAT(Call(&Stub::GetModule, request), FailsWith(Reason::MODULE_NOT_FOUND));
  request.set_name("projects/default/runs/nobody/modules/net");
  EXPECT_THAT(Call(&Stub::GetModule, request), FailsWith(Reason::RUN_NOT_FOUND));
}

TEST_F(ModuleCallsTest, ListIsByNameAndPaged) {
  for (const char* name : {"c", "a", "b"}) PushModule(name, std::string(2000, name[0]));
  v1::ListModulesRequest request;
  request.set_parent("projects/default/runs/r");
  request.set_page_size(2);
  std::vector<std::string> names;
  do {
    ASSERT_OK_AND_ASSIGN(const v1::ListModulesResponse page, Call(&Stub::ListModules, request));
    for (const v1::Module& module : page.modules()) names.push_back(module.name());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(names, ElementsAre(Name("a"), Name("b"), Name("c")));
}

TEST_F(ModuleCallsTest, AModuleThatADeploymentRunsIsNotDeleted) {
  PushModule("net", std::string(2000, 'x'));
  deployed_module_ = "net";
  v1::DeleteModuleRequest request;
  request.set_name(Name("net"));
  EXPECT_THAT(Call(&Stub::DeleteModule, request), FailsWith(Reason::CHECKPOINT_PROTECTED, HasSubstr("some-model")));
  deployed_module_ = "";
  EXPECT_OK(Call(&Stub::DeleteModule, request));
}

TEST_F(ModuleCallsTest, DeleteOnce) {
  PushModule("net", std::string(2000, 'x'));
  v1::DeleteModuleRequest request;
  request.set_name(Name("net"));
  EXPECT_OK(Call(&Stub::DeleteModule, request));
  EXPECT_THAT(Call(&Stub::DeleteModule, request), FailsWith(Reason::MODULE_NOT_FOUND));
}

}  // namespace
}  // namespace sconce::services
