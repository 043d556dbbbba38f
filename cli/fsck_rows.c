/* What PostgreSQL alone, or with a word from Redis, says. */
#include "cli/fsck.h"

#include <stdio.h>

enum { LATE_S = 60 };

/* The kinds that routes.def gives jobs. */
enum route_event {
#define QUEUE(name)
#define EVENT(name, kind) ROUTE_EVENT_##name,
#define ALSO(name, other)
#define ROUTE(name, job)
#include "routes.def"
#undef EVENT
#undef ROUTE
    ROUTE_EVENT_COUNT
};

static const char *const event_kinds[] = {
#define EVENT(name, kind) kind,
#define ROUTE(name, job)
#include "routes.def"
#undef EVENT
#undef ROUTE
};

static const enum route_event routed[] = {
#define EVENT(name, kind)
#define ROUTE(name, job) ROUTE_EVENT_##name,
#include "routes.def"
#undef QUEUE
#undef EVENT
#undef ALSO
#undef ROUTE
};

/* Rows of (sample, how many there are in all). */
static void take_samples(struct fsck *fsck, enum fsck_code code)
{
    struct pg *pg = fsck->cli->pg;
    for (size_t row = 0; row < pg_rows(pg); row++)
        fsck_found(fsck, code, pg_get(pg, row, 0));
    if (pg_rows(pg) > 0)
        fsck->findings[code].count = pg_get_integer(pg, 0, 1);
}

static struct err look_at_late(struct fsck *fsck)
{
    /* Bulk rows wait their turn, and those of a draining queue for its end: that is as it should
     * be. */
    TRY(PG_EXEC(fsck->cli->pg,
                "SELECT id || ' ' || kind, count(*) OVER () FROM jobs"
                " WHERE state = 'queued' AND NOT bulk AND relayed_at IS NULL"
                " AND due_at < whopline_now() - $1::bigint * interval '1 second'"
                " AND queue NOT IN (SELECT queue FROM queue_controls WHERE mode = 'draining')"
                " ORDER BY due_at, id LIMIT $2::integer",
                pg_integer(LATE_S), pg_integer(FSCK_SAMPLES)));
    take_samples(fsck, FSCK_LATE);
    return ERR_NONE;
}

static struct err look_at_events(struct fsck *fsck)
{
    struct pg_array kinds;
    pg_array_init(&kinds, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < ARRAY_LEN(routed); i++)
        pg_array_add_text(&kinds, event_kinds[routed[i]]);
    struct err err = PG_EXEC(fsck->cli->pg,
                             "SELECT e.id, count(*) OVER () FROM webhook_events e"
                             " WHERE e.status = 'routed' AND e.kind = ANY ($1::text[])"
                             /* of older ones the jobs may have been deleted */
                             " AND e.received_at > whopline_now() - $3::bigint * interval '1 day'"
                             " AND NOT EXISTS (SELECT 1 FROM jobs WHERE event_id = e.id)"
                             " ORDER BY e.received_at, e.id LIMIT $2::integer",
                             pg_array_param(&kinds), pg_integer(FSCK_SAMPLES),
                             pg_integer(fsck->cli->config.retention_jobs_days));
    pg_array_close(&kinds);
    if (!err_failed(&err))
        take_samples(fsck, FSCK_EVENT_WITHOUT_JOBS);
    return err;
}

static struct err ask_run_id(struct redis *redis, struct buf *out)
{
    struct redis_reply *reply = NULL;
    TRY(ASK(redis, &reply, "INFO", "server"));
    struct span info = redis_reply_text(reply);
    const char *at = info.len > 0 ? memmem(info.ptr, info.len, "run_id:", 7) : NULL;
    if (at != NULL)
        buf_printf(out, "%.40s", at + 7);
    redis_reply_free(reply);
    return ERR_NONE;
}

/* A scheduler that has never run has noted no Redis: that is no other one. */
static struct err look_at_epoch(struct fsck *fsck)
{
    char key[KEY_MAX];
    struct buf run_id = {0};
    struct buf epoch = {0};
    key_epoch(fsck->cli->config.stream_prefix, key);
    struct err err = ask_run_id(fsck->cli->redis, &run_id);
    if (!err_failed(&err))
        err = ask_text(fsck->cli->redis, "GET", key, &epoch);
    if (!err_failed(&err))
        err = PG_EXEC(fsck->cli->pg,
                      "SELECT CASE WHEN redis_epoch <> $2 THEN 'its epoch is another: its data was"
                      " lost' ELSE 'it has been restarted' END FROM relay_state"
                      " WHERE redis_run_id <> '' AND (redis_run_id <> $1 OR redis_epoch <> $2)",
                      pg_text(buf_text(&run_id)), pg_text(buf_text(&epoch)));
    if (!err_failed(&err) && pg_rows(fsck->cli->pg) > 0)
        fsck_found(fsck, FSCK_OTHER_REDIS, pg_get(fsck->cli->pg, 0, 0));
    buf_close(&run_id);
    buf_close(&epoch);
    return err;
}

struct err fsck_look_at_rows(struct fsck *fsck)
{
    TRY(look_at_epoch(fsck));
    TRY(look_at_late(fsck));
    return look_at_events(fsck);
}
