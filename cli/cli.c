#include "cli/cli.h"

#include "service/migrate.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int cli_fail(const struct err *err)
{
    fprintf(stderr, "whopline: %s\n", err_text(err));
    return err->code == ERR_USAGE ? CLI_USAGE : CLI_FAILED;
}

int cli_usage(const char *words0, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "%s: %s; see %s --help\n", words0, text, words0);
    return CLI_USAGE;
}

struct err cli_open_database(struct cli *cli)
{
    if (cli->config.database_url[0] == '\0')
        return err_make(ERR_CONFIG, "DATABASE_URL is not set, so PostgreSQL cannot be asked");
    if (cli->pg == NULL)
        cli->pg = pg_new(cli->config.database_url);
    return migrate_check(cli->pg);
}

struct err cli_print_json(struct cli *cli, const char *query, const struct pg_param *params,
                          size_t count)
{
    struct buf sql = {0};
    buf_printf(&sql, "SELECT coalesce(json_agg(row_to_json(q)), '[]')::text FROM (%s) q", query);
    struct err err = pg_exec(cli->pg, buf_text(&sql), params, count);
    buf_close(&sql);
    if (!err_failed(&err))
        printf("%s\n", pg_get(cli->pg, 0, 0));
    return err;
}

struct err cli_find_tenant(struct cli *cli, const char *name, int64_t *out, struct buf *slug)
{
    if (name == NULL && cli->config.whop_company_id[0] != '\0')
        name = cli->config.whop_company_id;
    TRY(PG_EXEC(cli->pg,
                "SELECT id, slug FROM tenants"
                " WHERE $1::text IS NULL OR slug = $1 OR whop_company_id = $1 ORDER BY id LIMIT 2",
                pg_text(name)));
    if (pg_rows(cli->pg) == 0)
        return name != NULL
                   ? err_make(ERR_NOT_FOUND, "there is no tenant %s", name)
                   : err_make(ERR_NOT_FOUND, "there is no tenant yet: set WHOP_COMPANY_ID and run "
                                             "`whopline migrate`");
    if (pg_rows(cli->pg) > 1)
        return err_make(ERR_USAGE, "there are several tenants: say which with --tenant");
    *out = pg_get_integer(cli->pg, 0, 0);
    if (slug != NULL)
        buf_add_text(slug, pg_get(cli->pg, 0, 1));
    return ERR_NONE;
}

struct err cli_complete_id(struct cli *cli, const char *id, struct buf *out)
{
    enum { DIGITS = 64 };
    const char *mac = strstr(id, "mac:");
    size_t digits = mac != NULL ? strspn(mac + 4, "0123456789abcdef") : 0;
    struct buf begin = {0};
    if (digits == 0 || digits > DIGITS || mac[4 + digits] != '\0' || (mac > id && mac[-1] != '/')) {
        buf_add_text(out, id);
        return ERR_NONE;
    }
    buf_printf(&begin, "%s%s", mac == id ? "default/" : "", id);
    /* The range is for the index, whatever its collation; starts_with decides. */
    struct err err = PG_EXEC(cli->pg,
                             "SELECT id FROM webhook_events WHERE id >= $1"
                             " AND id <= $1 || repeat('f', 64) AND starts_with(id, $1) LIMIT 2",
                             pg_text(buf_text(&begin)));
    buf_close(&begin);
    if (err_failed(&err))
        return err;
    if (pg_rows(cli->pg) > 1)
        return err_make(ERR_USAGE, "several events begin with %.60s: give more of the id", id);
    buf_add_text(out, pg_rows(cli->pg) == 1 ? pg_get(cli->pg, 0, 0) : id);
    return ERR_NONE;
}

bool cli_parse_number(const char *text, int64_t min, int64_t max, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    *out = number;
    return errno == 0 && end != text && *end == '\0' && number >= min && number <= max;
}

/* Levenshtein distance, for words of less than WORD_MAX letters. */
enum { WORD_MAX_BYTES = 64, NEAR_ENOUGH = 3 };

static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX_BYTES];
    size_t width = strlen(b);
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[width];
}

const char *cli_nearest(const char *typed, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t least = NEAR_ENOUGH + 1;
    for (size_t i = 0; i < count && strlen(typed) < WORD_MAX_BYTES; i++) {
        REQUIRE(strlen(names[i]) < WORD_MAX_BYTES);
        size_t far = distance(typed, names[i]);
        if (far < least && far < strlen(names[i])) {
            least = far;
            nearest = names[i];
        }
    }
    return nearest;
}
