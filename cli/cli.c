#include "cli/cli.h"

#include "cli/output.h"
#include "cli/when.h"
#include "service/migrate.h"
#include "service/scripts.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { REDIS_TIMEOUT_MS = 1500 };

/* What was typed, or came from a store, may be in it. */
static void print_clean(const char *begin, const char *text, const char *end)
{
    struct buf clean = {0};
    output_add_clean(&clean, text);
    fprintf(stderr, "%s: %s%s\n", begin, buf_text(&clean), end);
    buf_close(&clean);
}

int cli_fail(const struct err *err)
{
    print_clean("whopline", err_text(err), "");
    return err->code == ERR_USAGE ? CLI_USAGE : CLI_FAILED;
}

int cli_usage(const char *words0, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct buf end = {0};
    buf_printf(&end, "; see %s --help", words0);
    print_clean(words0, text, buf_text(&end));
    buf_close(&end);
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

struct err cli_open_redis(struct cli *cli)
{
    const char *url = cli->config.redis_url;
    if (url[0] == '\0')
        return err_make(ERR_CONFIG, "REDIS_URL is not set, so Redis cannot be asked");
    if (cli->redis == NULL) {
        const struct redis_options options = {.loop = &cli->loop,
                                              .url = url,
                                              .scripts = scripts_all(),
                                              .script_count = SCRIPT_COUNT,
                                              .timeout_ms = REDIS_TIMEOUT_MS};
        uv_loop_init(&cli->loop);
        struct err err = redis_new(&options, &cli->redis);
        if (err_failed(&err)) {
            REQUIRE(uv_loop_close(&cli->loop) == 0);
            return err;
        }
    }
    return redis_wait_ready(cli->redis);
}

struct err cli_open_outside(struct cli *cli, struct outside **out)
{
    signal(SIGPIPE, SIG_IGN); /* a connection that breaks while it is written to */
    TRY(cli_open_redis(cli));
    if (cli->outside.http == NULL)
        TRY(outside_local_open(&cli->outside, &cli->config, &cli->loop, cli->redis));
    *out = &cli->outside.outside;
    return ERR_NONE;
}

void cli_close_redis(struct cli *cli)
{
    if (cli->redis == NULL)
        return;
    outside_local_close(&cli->outside);
    redis_close(cli->redis);
    uv_run(&cli->loop, UV_RUN_DEFAULT);
    REQUIRE(uv_loop_close(&cli->loop) == 0);
    cli->redis = NULL;
}

const char *cli_actor(const struct cli *cli, const char *given)
{
    if (given != NULL)
        return given;
    if (cli->config.actor[0] != '\0')
        return cli->config.actor;
    const char *sudo = getenv("SUDO_USER");
    if (sudo != NULL && sudo[0] != '\0')
        return sudo;
    const struct passwd *user = getpwuid(getuid());
    return user != NULL ? user->pw_name : "unknown";
}

struct err cli_read_time(struct cli *cli, const char *option, const char *text, struct buf *out)
{
    struct buf sql = {0};
    bool relative;
    struct err err = ERR_NONE;
    if (!when_parse(text, &relative, &sql)) {
        err = err_make(ERR_USAGE, "%s takes a time (2026-11-21T14:30) or an age (2h, 3d)", option);
    } else {
        err = PG_EXEC(cli->pg,
                      relative ? "SELECT (whopline_now() - $1::text::interval)::text"
                               : "SELECT $1::text::timestamptz::text",
                      pg_text(buf_text(&sql)));
        if (err.code == ERR_PG_DATA)
            err = err_make(ERR_USAGE, "%s: there is no such time", option);
    }
    if (!err_failed(&err))
        buf_add_text(out, pg_get(cli->pg, 0, 0));
    buf_close(&sql);
    return err;
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

const char *cli_find_word(const struct cli_word *words, size_t count, const char *typed)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(words[i].word, typed) == 0)
            return words[i].value;
    return NULL;
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
