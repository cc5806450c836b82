# Warnings for our own targets; generated and third-party code compiles without them.
add_library(sconce_warnings INTERFACE)
target_compile_options(sconce_warnings INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(sconce_warnings INTERFACE -Wthread-safety)
endif()
if(SCONCE_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # The checks a sanitizer puts in confuse this warning: it names absl::InlinedVector's union wherever one is empty.
  target_compile_options(sconce_warnings INTERFACE -Wno-maybe-uninitialized)
endif()
