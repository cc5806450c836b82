# Every third-party library, found once. LibTorch is looked for only by server/torch_runtime: its CMake package puts
# flags on everything it is found for.
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(isal REQUIRED IMPORTED_TARGET libisal)  # the zip format's CRC-32 at memory speed
find_package(ZLIB REQUIRED)  # records of repacked zip archives

find_package(Protobuf REQUIRED)  # the FindProtobuf module: Debian ships no CMake package
find_package(RocksDB CONFIG REQUIRED)
if(NOT SCONCE_STORAGE_ONLY)
  find_package(gRPC CONFIG REQUIRED)
  find_package(prometheus-cpp CONFIG REQUIRED)
endif()
if(SCONCE_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
if(SCONCE_BUILD_BENCH)
  find_package(benchmark REQUIRED)
endif()
