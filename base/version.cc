#include "base/version.h"

namespace sconce {

const char kVersion[] = SCONCE_PROJECT_VERSION;  // given by base/CMakeLists.txt

}  // namespace sconce
