// A shared library for sandbox_test.cc to load.
extern "C" int SandboxTestAnswer();

namespace {

int g_answer = 0;

__attribute__((constructor)) void Construct() {
  g_answer = 42;
}

}  // namespace

int SandboxTestAnswer() {
  return g_answer;
}
