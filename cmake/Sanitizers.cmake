if(SCONCE_SANITIZE)
  add_compile_options(-fsanitize=${SCONCE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-maybe-uninitialized)  # gcc's own manual: with sanitizers it warns of what is not there
  endif()
  add_link_options(-fsanitize=${SCONCE_SANITIZE})
endif()
