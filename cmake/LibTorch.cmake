# Target libtorch: headers, flags and libraries of the LibTorch that find_package finds. Its own target `torch` also
# drags in what LibTorch was built with (gflags, protobuf and more), some of it broken in Debian, and none of it needed.
find_package(Torch QUIET)
if(NOT Torch_FOUND)
  message(FATAL_ERROR
    "LibTorch was not found. Install it (on Debian: apt-get install libtorch-dev), or point -DCMAKE_PREFIX_PATH at the "
    "folder of a downloaded or pip-installed one, or build without models: -DSCONCE_WITH_TORCH=OFF")
endif()
get_filename_component(libtorch_dir ${TORCH_LIBRARY} DIRECTORY)
message(STATUS "LibTorch ${Torch_VERSION} in ${libtorch_dir}")

add_library(libtorch INTERFACE)
target_include_directories(libtorch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_compile_options(libtorch INTERFACE ${TORCH_CXX_FLAGS})
# Operators for a device register themselves when their library is loaded, so one that is there is always linked.
target_link_options(libtorch INTERFACE -Wl,--no-as-needed)
foreach(name torch torch_cpu c10 torch_cuda c10_cuda)
  find_library(libtorch_${name} ${name} PATHS ${libtorch_dir} NO_DEFAULT_PATH)
  if(libtorch_${name})
    target_link_libraries(libtorch INTERFACE ${libtorch_${name}})
  endif()
endforeach()
