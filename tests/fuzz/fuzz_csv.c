/* Any bytes are rows or problems, whose lines go up; and reading ends. */
#include "codec/csv.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct csv csv;
    struct csv_row row;
    size_t line = 0;
    arena_init(&arena);
    csv_init(&csv, (struct span){(const char *)data, size});
    while (csv_read(&csv, &arena, &row)) {
        REQUIRE(row.line > line);
        REQUIRE(csv.problem != NULL || (row.count > 0 && row.count <= CSV_CELLS_MAX));
        for (size_t i = 0; csv.problem == NULL && i < row.count; i++)
            REQUIRE(strlen(row.cells[i]) <= size);
        line = row.line;
    }
    REQUIRE(csv.at == csv.end);
    arena_close(&arena);
    return 0;
}
