# The only functions the project's CMakeLists.txt files use to declare targets.

# sconce_library(NAME [SRCS ...] [HDRS ...] [DEPS public deps ...] [PRIVATE_DEPS ...])
# A folder is a library: target sconce_<name>, alias sconce::<name>. DEPS are what headers may include.
function(sconce_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;HDRS;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SRCS)
    add_library(sconce_${name} STATIC ${ARG_SRCS} ${ARG_HDRS})
    target_include_directories(sconce_${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(sconce_${name} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS} sconce_warnings)
  else()
    add_library(sconce_${name} INTERFACE)
    target_include_directories(sconce_${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(sconce_${name} INTERFACE ${ARG_DEPS})
  endif()
  add_library(sconce::${name} ALIAS sconce_${name})
endfunction()

# sconce_executable(NAME SRCS ... DEPS ...): a program in build/bin.
function(sconce_executable name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} sconce_warnings)
endfunction()

# sconce_test(NAME SRCS ... DEPS ... [LABELS ...]): a GoogleTest program that ctest runs as one test.
# SCONCE_SHARED_DIR in its environment names the shared fixtures where they exist; tests that need them say so when they are absent.
function(sconce_test name)
  if(NOT SCONCE_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main sconce_warnings)
  # A test's own code is compiled once and hardly runs: not optimizing it halves what building the tests costs. What it
  # tests is optimized as ever. (Sanitizers need their -O1 for honest stack depths.)
  if(NOT SCONCE_SANITIZE)
    target_compile_options(${name} PRIVATE -O0)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}"
    ENVIRONMENT "SCONCE_SOURCE_DIR=${PROJECT_SOURCE_DIR};SCONCE_BIN_DIR=${CMAKE_BINARY_DIR}/bin${SCONCE_TEST_ENVIRONMENT}")
endfunction()

# sconce_script_test(NAME COMMAND program args ... [LABELS ...] [TIMEOUT seconds] [SERIAL]): any program that ctest runs as one test,
# in the source folder, with SCONCE_BIN_DIR and SCONCE_SOURCE_DIR in its environment. SERIAL: nothing else runs meanwhile. Exit code 77 is "skipped".
function(sconce_script_test name)
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "COMMAND;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${ARG_COMMAND} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}" RUN_SERIAL ${ARG_SERIAL} SKIP_RETURN_CODE 77
    ENVIRONMENT "SCONCE_SOURCE_DIR=${PROJECT_SOURCE_DIR};SCONCE_BIN_DIR=${CMAKE_BINARY_DIR}/bin;PYTHONDONTWRITEBYTECODE=1")
endfunction()

# sconce_bench(NAME SRCS ... DEPS ...): a Google Benchmark program in build-bench/bench. Without SCONCE_BUILD_BENCH nothing is made.
function(sconce_bench name)
  if(NOT SCONCE_BUILD_BENCH)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} benchmark::benchmark sconce_warnings)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
endfunction()

# sconce_fuzzer(NAME SRCS ... DEPS ...): a libFuzzer program in build/fuzz; needs clang. Without SCONCE_BUILD_FUZZ nothing is made.
function(sconce_fuzzer name)
  if(NOT SCONCE_BUILD_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} sconce_warnings)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
endfunction()

# sconce_proto(TARGET IMPORT_DIR DIR PROTOS a.proto ... [GRPC b.proto ...] [DEPS ...]): generated code as a library.
# PROTOS get messages; those also named under GRPC get service stubs. Paths are relative to IMPORT_DIR, as import statements write them.
function(sconce_proto target)
  cmake_parse_arguments(ARG "" "IMPORT_DIR" "PROTOS;GRPC;DEPS" ${ARGN})
  set(out ${CMAKE_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${out})
  set(srcs)
  foreach(proto IN LISTS ARG_PROTOS)
    string(REGEX REPLACE "\\.proto$" "" base ${proto})
    set(made ${out}/${base}.pb.cc ${out}/${base}.pb.h)
    set(extra)
    if(proto IN_LIST ARG_GRPC)
      list(APPEND made ${out}/${base}.grpc.pb.cc ${out}/${base}.grpc.pb.h)
      set(extra --grpc_out=${out} --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>)
    endif()
    add_custom_command(OUTPUT ${made}
      COMMAND ${Protobuf_PROTOC_EXECUTABLE} -I ${ARG_IMPORT_DIR} --cpp_out=${out} ${extra} ${proto}
      DEPENDS ${ARG_IMPORT_DIR}/${proto} COMMENT "protoc ${proto}" VERBATIM)
    foreach(file IN LISTS made)
      if(file MATCHES "\\.cc$")
        list(APPEND srcs ${file})
      endif()
    endforeach()
  endforeach()
  add_library(sconce_${target} STATIC ${srcs})
  target_include_directories(sconce_${target} SYSTEM PUBLIC ${out})
  target_link_libraries(sconce_${target} PUBLIC protobuf::libprotobuf ${ARG_DEPS})
  if(ARG_GRPC)
    target_link_libraries(sconce_${target} PUBLIC gRPC::grpc++)
  endif()
  add_library(sconce::${target} ALIAS sconce_${target})
endfunction()
