#ifndef SCONCE_BASE_VERSION_H_
#define SCONCE_BASE_VERSION_H_

namespace sconce {

// Of the project, as CMakeLists.txt states it: "0.1.0".
extern const char kVersion[];

}  // namespace sconce

#endif  // SCONCE_BASE_VERSION_H_
