/* `whopline members runs` and `members sync`: Whop's list of memberships beside ours. */
#include "cli/members.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "service/member_runs.h"

#include <stdio.h>

enum { RUNS_DEFAULT = 20, RUNS_MAX = 1000 };

#define RUNS_FROM                                                                                  \
    " FROM member_runs r JOIN tenants t ON t.id = r.tenant_id"                                     \
    " WHERE $1::bigint IS NULL OR r.tenant_id = $1 ORDER BY r.id DESC LIMIT $2"

#define RUNS_JSON                                                                                  \
    "SELECT r.id, t.slug AS tenant, r.kind, r.status, r.is_first, r.created_after, r.fetched,"     \
    " r.added AS new, r.changed, r.unchanged, r.absent, r.gone, r.started_by, r.started_at,"       \
    " r.finished_at, r.error" RUNS_FROM

static struct err print_runs(struct cli *cli, const struct pg_param *params, size_t count)
{
    static const char *const heads[] = {"RUN",         "TENANT",   "KIND",    "STATUS", ">FETCHED",
                                        ">NEW",        ">CHANGED", ">ABSENT", ">GONE",  "BY",
                                        "BEGAN (UTC)", ">SECONDS", "ERROR"};
    struct table table;
    TRY(pg_exec(cli->pg,
                "SELECT r.id, t.slug, r.kind, r.status, r.fetched, r.added, r.changed, r.absent,"
                " r.gone, r.started_by, " OUTCOME_UTC(
                    "r.started_at") ", round(extract(epoch FROM COALESCE(r.finished_at,"
                                    " whopline_now()) - r.started_at)), r.error" RUNS_FROM,
                params, count));
    if (pg_rows(cli->pg) == 0) {
        printf("no run yet: whopline-sync begins them (schedules members.*), or whopline members"
               " sync\n");
        return ERR_NONE;
    }
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < pg_rows(cli->pg); row++)
        for (size_t column = 0; column < ARRAY_LEN(heads); column++)
            table_add(&table, pg_get(cli->pg, row, column));
    table_print(&table, "");
    return ERR_NONE;
}

struct err members_cmd_runs(struct cli *cli, const struct given *given)
{
    int64_t tenant = 0;
    int64_t limit = RUNS_DEFAULT;
    TRY(given_number(given, "limit", 1, RUNS_MAX, &limit));
    if (given_text(given, "tenant") != NULL)
        TRY(given_tenant(cli, given, &tenant, NULL));
    const struct pg_param params[] = {tenant != 0 ? pg_integer(tenant) : pg_text(NULL),
                                      pg_integer(limit)};
    return given_flag(given, "json") ? cli_print_json(cli, RUNS_JSON, params, ARRAY_LEN(params))
                                     : print_runs(cli, params, ARRAY_LEN(params));
}

static struct err begin(struct cli *cli, const struct given *given, struct arena *arena)
{
    struct member_run_wish wish = {.kind = "full", .actor = given_actor(cli, given)};
    struct member_run_begun begun;
    if (given_text(given, "kind") != NULL)
        wish.kind = given_text(given, "kind");
    if (strcmp(wish.kind, "full") != 0 && strcmp(wish.kind, "open") != 0 &&
        strcmp(wish.kind, "recent") != 0)
        return err_make(ERR_USAGE, "--kind takes full, open or recent");
    TRY(given_need(given, "reason", &wish.reason));
    TRY(given_tenant(cli, given, &wish.tenant, NULL));
    TRY(member_runs_order(cli->pg, arena, &wish, &begun));
    if (given_flag(given, "json"))
        printf("{\"run\": %lld, \"kind\": \"%s\"}\n", (long long)begun.run, begun.kind);
    else
        printf("run %lld has begun: %s%s; whopline members runs tells how it goes\n",
               (long long)begun.run, begun.kind,
               strcmp(begun.kind, wish.kind) != 0 ? " (the first one is of all)" : "");
    return ERR_NONE;
}

struct err members_cmd_sync(struct cli *cli, const struct given *given)
{
    struct arena arena = {0};
    struct err err = begin(cli, given, &arena);
    arena_close(&arena);
    return err;
}
