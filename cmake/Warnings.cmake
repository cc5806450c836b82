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
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # Releases newer than Debian 12's: their optimizers guess at overflows inside the standard library, often wrongly, and the libraries
  # beside them deprecate what Debian 12 has no replacement for. Shown, but no reason to stop a build.
  target_compile_options(sconce_warnings INTERFACE -Wno-error=stringop-overflow -Wno-error=array-bounds
                         -Wno-error=maybe-uninitialized -Wno-error=deprecated-declarations)
endif()
