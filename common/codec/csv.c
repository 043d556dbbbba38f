#include "codec/csv.h"

void csv_init(struct csv *csv, struct span text)
{
    static const char mark[] = "\xef\xbb\xbf";
    bool marked = text.len >= 3 && memcmp(text.ptr, mark, 3) == 0;
    *csv = (struct csv){.at = text.ptr, .end = text.ptr + text.len, .line = 1};
    if (marked)
        csv->at += 3;
}

/* How many bytes end the line here; 0: it goes on. The end of the text ends it with none. */
static size_t line_end(const struct csv *csv)
{
    if (csv->at == csv->end)
        return 0;
    if (*csv->at == '\n')
        return 1;
    return *csv->at == '\r' && csv->at + 1 < csv->end && csv->at[1] == '\n' ? 2 : 0;
}

static bool at_line_end(const struct csv *csv)
{
    return csv->at == csv->end || line_end(csv) > 0;
}

static void skip_blanks(struct csv *csv)
{
    while (csv->at < csv->end && (*csv->at == ' ' || *csv->at == '\t'))
        csv->at++;
}

/* Behind the opening quote; a doubled one stands for itself. */
static const char *read_quoted(struct csv *csv, struct arena *arena)
{
    const char *begin = csv->at;
    size_t len = 0;
    for (;; csv->at++) {
        if (csv->at == csv->end) {
            csv->problem = "a quote is not closed";
            return "";
        }
        if (*csv->at == '"' && (csv->at + 1 == csv->end || csv->at[1] != '"'))
            break;
        if (*csv->at == '"')
            csv->at++;
        if (*csv->at == '\n')
            csv->line++;
        len++;
    }
    char *cell = arena_alloc(arena, len + 1);
    size_t used = 0;
    for (const char *from = begin; from < csv->at; from++) {
        if (*from == '"')
            from++;
        cell[used++] = *from;
    }
    cell[used] = '\0';
    csv->at++;
    return cell;
}

static const char *read_plain(struct csv *csv, struct arena *arena)
{
    const char *begin = csv->at;
    for (; !at_line_end(csv) && *csv->at != ','; csv->at++)
        if (*csv->at == '"' || *csv->at == '\r' || *csv->at == '\0')
            csv->problem = "a quote or control character in the middle of a cell";
    const char *end = csv->at;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return arena_copy(arena, begin, (size_t)(end - begin));
}

static const char *read_cell(struct csv *csv, struct arena *arena)
{
    skip_blanks(csv);
    if (csv->at == csv->end || *csv->at != '"')
        return read_plain(csv, arena);
    csv->at++;
    const char *cell = read_quoted(csv, arena);
    skip_blanks(csv);
    if (csv->problem == NULL && !at_line_end(csv) && *csv->at != ',')
        csv->problem = "something follows a closing quote";
    return cell;
}

static void end_line(struct csv *csv)
{
    while (!at_line_end(csv))
        csv->at++;
    size_t end = line_end(csv);
    csv->at += end;
    csv->line += end > 0 ? 1 : 0;
}

bool csv_read(struct csv *csv, struct arena *arena, struct csv_row *out)
{
    skip_blanks(csv);
    while (csv->at < csv->end && line_end(csv) > 0) {
        end_line(csv);
        skip_blanks(csv);
    }
    if (csv->at == csv->end)
        return false;
    csv->problem = NULL;
    out->line = csv->line;
    out->count = 0;
    for (;;) {
        const char *cell = read_cell(csv, arena);
        if (out->count < CSV_CELLS_MAX)
            out->cells[out->count++] = cell;
        else
            csv->problem = "more cells than anybody reads (64)";
        if (csv->problem != NULL || at_line_end(csv))
            break;
        csv->at++;
    }
    end_line(csv);
    return true;
}
