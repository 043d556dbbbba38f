# whopline_embed(name dir ext): every DIR/*.EXT as bytes in an object library, declared in
# <gen>/NAME.h as
#   struct embedded_file { const char *name; const char *bytes; size_t size; };
#   extern const struct embedded_file NAME[];   sorted by file name
#   extern const size_t NAME_count;
# name is the file's name without folder and last extension; bytes end in a NUL that size does not count.

function(whopline_embed name dir ext)
  file(GLOB files CONFIGURE_DEPENDS ${dir}/*.${ext})
  list(SORT files COMPARE NATURAL)
  set(gen ${CMAKE_BINARY_DIR}/gen)
  set(source ${gen}/${name}.c)
  file(MAKE_DIRECTORY ${gen})
  add_custom_command(
    OUTPUT ${source}
    COMMAND ${CMAKE_COMMAND} -DNAME=${name} "-DFILES=${files}" -DOUT=${source}
            -P ${CMAKE_SOURCE_DIR}/cmake/embed_files.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/embed_files.cmake
    COMMENT "Embedding ${name}"
    VERBATIM)
  file(CONFIGURE OUTPUT ${gen}/embedded_file.h CONTENT
"#ifndef WHOPLINE_EMBEDDED_FILE_H
#define WHOPLINE_EMBEDDED_FILE_H
#include <stddef.h>
struct embedded_file {
    const char *name;
    const char *bytes;
    size_t size;
};
#endif
" @ONLY)
  file(CONFIGURE OUTPUT ${gen}/${name}.h CONTENT
"#ifndef WHOPLINE_EMBEDDED_${name}
#define WHOPLINE_EMBEDDED_${name}
#include \"embedded_file.h\"
extern const struct embedded_file ${name}[];
extern const size_t ${name}_count;
#endif
" @ONLY)
  add_library(${name} STATIC ${source})
  target_include_directories(${name} PUBLIC ${gen})
endfunction()
