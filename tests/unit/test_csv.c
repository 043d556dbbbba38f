/* Covers codec/csv: what spreadsheets write, and what is refused with its line. */
#include "codec/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* Rows as text: "line:cell|cell", or "line!problem"; one per line. */
static void show(const char *text, char *out, size_t size)
{
    struct arena arena;
    struct csv csv;
    struct csv_row row;
    size_t used = 0;
    out[0] = '\0';
    arena_init(&arena);
    csv_init(&csv, (struct span){text, strlen(text)});
    while (csv_read(&csv, &arena, &row)) {
        used += (size_t)snprintf(out + used, size - used, "%zu", row.line);
        if (csv.problem != NULL)
            used += (size_t)snprintf(out + used, size - used, "!%s", csv.problem);
        for (size_t i = 0; csv.problem == NULL && i < row.count; i++)
            used +=
                (size_t)snprintf(out + used, size - used, "%c%s", i == 0 ? ':' : '|', row.cells[i]);
        used += (size_t)snprintf(out + used, size - used, "\n");
    }
    arena_close(&arena);
}

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *rows;
    } cases[] = {
        {"", ""},
        {"\xef\xbb\xbf", ""},
        {"\n \n\r\n", ""},
        {"a", "1:a\n"},
        {"a,b\n1,2\n", "1:a|b\n2:1|2\n"},
        {"\xef\xbb\xbf"
         "a,b\r\n1,2\r\n",
         "1:a|b\n2:1|2\n"},
        {"a,b\n\n 1 ,\t2\n", "1:a|b\n3:1|2\n"},
        {",\n", "1:|\n"},
        {"a,", "1:a|\n"},
        {"\"a\"\"b\",\"c,d\"", "1:a\"b|c,d\n"},
        {"\"\"", "1:\n"},
        {"\"\"\"\"", "1:\"\n"},
        {"\" a \" ,b", "1: a |b\n"},
        {"\"two\nlines\",b\nc", "1:two\nlines|b\n3:c\n"},
        {"a\"b,c\nd", "1!a quote or control character in the middle of a cell\n2:d\n"},
        {"a\rb\nd", "1!a quote or control character in the middle of a cell\n2:d\n"},
        {"\"a\"b\nc", "1!something follows a closing quote\n2:c\n"},
        {"\"a,b\nc", "1!a quote is not closed\n"},
        {"\"", "1!a quote is not closed\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char rows[512];
        show(cases[i].text, rows, sizeof rows);
        if (strcmp(rows, cases[i].rows) != 0)
            fail_msg("\"%s\" is\n%s", cases[i].text, rows);
    }
}

static void test_too_many_cells(void **state)
{
    (void)state;
    char text[2 * CSV_CELLS_MAX];
    char rows[512];
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = ',';
    text[sizeof text - 1] = '\0';
    show(text, rows, sizeof rows);
    assert_string_equal(rows, "1!more cells than anybody reads (64)\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_too_many_cells)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
