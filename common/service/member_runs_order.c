/* A run that somebody has asked for. */
#include "base/clock.h"
#include "service/audit.h"
#include "service/member_runs.h"
#include "service/store.h"

#include <stdio.h>

static struct err add_first_page(struct pg *pg, int64_t tenant, int64_t run)
{
    const struct books books = {.run = run, .cursor = "", .order = "", .dispute = ""};
    struct buf packed = {0};
    int64_t rebuilds;
    char key[32];
    struct err err = payload_encode(PAYLOAD_books, &books, &packed);
    snprintf(key, sizeof key, "%lld/", (long long)tenant);
    struct outgoing job = {.kind = JOB_sync_members_page,
                           .tenant = tenant,
                           .key = key,
                           .event_id = "",
                           .trace = "",
                           .occurred_ms = clock_wall_ms(),
                           .created_ms = clock_wall_ms(),
                           .version = job_type(JOB_sync_members_page)->version,
                           .bulk = true,
                           .payload = buf_span(&packed)};
    random_uuid(job.id);
    if (!err_failed(&err))
        err = store_insert_jobs(pg, &job, 1, &rebuilds);
    buf_close(&packed);
    return err;
}

static struct err order(struct pg *pg, struct arena *arena, const struct member_run_wish *wish,
                        struct member_run_begun *out)
{
    TRY(PG_EXEC(pg, "SELECT run, run_kind FROM member_run_begin($1, $2, $3)",
                pg_integer(wish->tenant), pg_text(wish->kind), pg_text(wish->actor)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_REFUSED, "a run of this kind is under way: whopline members runs");
    *out =
        (struct member_run_begun){pg_get_integer(pg, 0, 0), arena_strdup(arena, pg_get(pg, 0, 1))};
    TRY(add_first_page(pg, wish->tenant, out->run));
    const struct audit audit = {
        .actor = wish->actor,
        .action = "members.sync",
        .target = arena_printf(arena, "run %lld", (long long)out->run),
        .reason = wish->reason,
        .detail = arena_printf(arena, "{\"tenant\": %lld, \"kind\": \"%s\"}",
                               (long long)wish->tenant, out->kind),
    };
    return audit_add(pg, &audit);
}

struct err member_runs_order(struct pg *pg, struct arena *arena, const struct member_run_wish *wish,
                             struct member_run_begun *out)
{
    TRY(pg_begin(pg));
    struct err err = order(pg, arena, wish, out);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}
