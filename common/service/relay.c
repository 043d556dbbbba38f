#include "service/relay.h"

#include "base/arena.h"
#include "base/fault.h"
#include "service/controls.h"
#include "service/redis_identity.h"
#include "service/store.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SWEEP_MAX = 500,        /* rows offered at once */
    TENANT_SHARE_MAX = 100, /* of them bulk rows of one tenant, so that tenants take turns */
    REBUILD_MAX = 10000,
};

/* --- is it the same Redis? ------------------------------------------------------------------- */

struct err relay_check_epoch(struct relay *relay, size_t *rebuilt)
{
    struct redis_identity identity;
    *rebuilt = 0;
    TRY(redis_identity_get(relay->redis, relay->prefix, &identity));
    TRY(PG_EXEC(relay->pg,
                "SELECT redis_run_id = $1 AND redis_epoch = $2, rebuilds FROM relay_state",
                pg_text(identity.run_id), pg_text(identity.epoch)));
    if (pg_rows(relay->pg) != 1)
        return err_make(ERR_PG_SCHEMA, "relay_state must hold its one row");
    relay->rebuilds = pg_get_integer(relay->pg, 0, 1);
    if (pg_get_flag(relay->pg, 0, 0))
        return ERR_NONE;
    /* First, so that from now on no mark from before counts. */
    TRY(pg_exec(relay->pg, "UPDATE relay_state SET rebuilds = rebuilds + 1 RETURNING rebuilds",
                NULL, 0));
    relay->rebuilds = pg_get_integer(relay->pg, 0, 0);
    /* In portions, each of its own transaction. The new identity is written last: whoever dies
     * before leaves the work to the next. A row relayed meanwhile is offered twice, which is free.
     */
    size_t portion;
    do {
        TRY(PG_EXEC(relay->pg,
                    "UPDATE jobs SET relayed_at = NULL WHERE id IN (SELECT id FROM jobs"
                    " WHERE state = 'queued' AND relayed_at IS NOT NULL LIMIT $1::integer)",
                    pg_integer(REBUILD_MAX)));
        portion = pg_affected(relay->pg);
        *rebuilt += portion;
    } while (portion == REBUILD_MAX);
    return PG_EXEC(relay->pg,
                   "UPDATE relay_state SET redis_run_id = $1, redis_epoch = $2,"
                   " rebuilt_at = whopline_now()",
                   pg_text(identity.run_id), pg_text(identity.epoch));
}

/* --- sweep ----------------------------------------------------------------------------------- */

struct offer {
    size_t left;
    struct err err; /* the last one */
};

struct offering {
    struct offer *round;
    bool told; /* Redis has it, new or from before */
};

static void on_enqueued(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct offering *offering = data;
    offering->round->left--;
    offering->told = err == NULL && redis_reply_integer(reply) != QUEUE_HELD;
    if (err != NULL)
        offering->round->err = *err;
}

/* The columns of the sweep's query. */
static bool read_row(struct pg *pg, size_t row, struct arena *arena, struct outgoing *out)
{
    struct buf payload = {0};
    *out = (struct outgoing){.maybe_there = true};
    if (!job_kind_find(span_of(pg_get(pg, row, 2)), &out->kind))
        return false;
    snprintf(out->id, sizeof out->id, "%s", pg_get(pg, row, 0));
    out->gen = (int)pg_get_integer(pg, row, 1);
    out->tenant = pg_get_integer(pg, row, 3);
    out->key = arena_strdup(arena, pg_get(pg, row, 4));
    out->event_id = arena_strdup(arena, pg_get(pg, row, 5));
    out->trace = arena_strdup(arena, pg_get(pg, row, 6));
    out->occurred_ms = pg_get_integer(pg, row, 7);
    out->attempts = (int)pg_get_integer(pg, row, 8);
    out->version = (int)pg_get_integer(pg, row, 10);
    out->created_ms = pg_get_integer(pg, row, 11);
    pg_get_bytes(pg, row, 9, &payload);
    out->payload = (struct span){arena_copy(arena, payload.ptr, payload.len), payload.len};
    buf_close(&payload);
    return true;
}

/* One that is refused holds up none of the others. jobs: afterwards those that Redis has come
 * first; *count: how many of these rows say so now. */
static struct err offer(struct relay *relay, struct outgoing *jobs, size_t *count)
{
    struct offer round = {.left = *count, .err = ERR_NONE};
    size_t told = 0;
    TRY(redis_wait_ready(relay->redis));
    struct offering *offerings = mem_zalloc(*count * sizeof *offerings);
    for (size_t i = 0; i < *count; i++) {
        offerings[i].round = &round;
        queue_enqueue(relay->redis, relay->prefix, &jobs[i], on_enqueued, &offerings[i]);
    }
    redis_settle(relay->redis, &round.left);
    for (size_t i = 0; i < *count; i++)
        if (offerings[i].told)
            jobs[told++] = jobs[i];
    free(offerings);
    *count = 0;
    (void)FAULT(after_enqueue_before_mark);
    TRY(store_mark_relayed(relay->pg, jobs, told, relay->rebuilds));
    *count = told > 0 ? pg_affected(relay->pg) : 0;
    return round.err;
}

/* Offers what the query has found; a transaction it was in ends before. */
static struct err offer_rows(struct relay *relay, size_t *offered)
{
    size_t count = 0;
    size_t rows = pg_rows(relay->pg);
    struct err err = ERR_NONE;
    struct arena arena;
    arena_init(&arena);
    struct outgoing *jobs = mem_alloc((rows + 1) * sizeof *jobs);
    for (size_t row = 0; row < rows; row++)
        count += read_row(relay->pg, row, &arena, &jobs[count]);
    pg_rollback(relay->pg);
    if (count > 0)
        err = offer(relay, jobs, &count);
    *offered += count;
    free(jobs);
    arena_close(&arena);
    return err;
}

/* The columns that read_row reads, and the rows that may be offered: of kinds that this release
 * knows ($1) and queues that are not being drained ($2). */
#define COLUMNS                                                                                    \
    "id, gen, kind, tenant_id, key, event_id, trace,"                                              \
    " (extract(epoch FROM occurred_at) * 1000)::bigint AS occurred_ms, attempts, payload, "        \
    "version,"                                                                                     \
    " (extract(epoch FROM coalesce(requeued_at, created_at)) * 1000)::bigint AS created_ms, "      \
    "due_at"
#define OFFERABLE                                                                                  \
    " state = 'queued' AND kind = ANY ($1::text[]) AND queue <> ALL ($2::text[])"                  \
    " AND due_at <= whopline_now()"

static const char sweep_events[] =
    "SELECT " COLUMNS " FROM jobs WHERE" OFFERABLE " AND NOT bulk AND relayed_at IS NULL"
    " AND created_at <= whopline_now() - $4::bigint * interval '1 ms' "
    "ORDER BY due_at LIMIT $3::integer";

static const char sweep_stale[] =
    "SELECT " COLUMNS " FROM jobs WHERE" OFFERABLE
    " AND relayed_at <= whopline_now() - $4::bigint * interval '1 ms' "
    "ORDER BY relayed_at LIMIT $3::integer";

static const char sweep_bulk[] =
    "SELECT waiting.* FROM tenants,"
    " LATERAL (SELECT $4::bigint - count(*) AS room FROM jobs WHERE state = 'queued' AND bulk"
    "          AND relayed_at IS NOT NULL AND tenant_id = tenants.id) AS allowed,"
    " LATERAL (SELECT " COLUMNS " FROM jobs WHERE" OFFERABLE " AND bulk AND relayed_at IS NULL"
    "          AND tenant_id = tenants.id"
    "          ORDER BY due_at, id LIMIT greatest(0, least(room, $5::bigint))) AS waiting "
    "ORDER BY due_at LIMIT $3::integer";

static const char find_bulk[] =
    "SELECT 1 FROM tenants, LATERAL (SELECT 1 FROM jobs WHERE" OFFERABLE
    "          AND bulk AND relayed_at IS NULL AND tenant_id = tenants.id LIMIT 1) AS waiting "
    "LIMIT 1"; /* not EXISTS, which may be planned as a join that reads every row */

/* PostgreSQL cannot know how few rows that reads, and would compile it each time: for 0.4 s. */
static struct err find_bulk_rows(struct relay *relay, struct pg_array *kinds,
                                 struct pg_array *drained)
{
    TRY(pg_begin(relay->pg));
    TRY(pg_script(relay->pg, "SET LOCAL jit = off"));
    return PG_EXEC(relay->pg, sweep_bulk, pg_array_param(kinds), pg_array_param(drained),
                   pg_integer(SWEEP_MAX), pg_integer(relay->tenant_max),
                   pg_integer(TENANT_SHARE_MAX));
}

static struct err sweep_all(struct relay *relay, struct pg_array *kinds, struct pg_array *drained,
                            struct relay_round *round)
{
    const struct pg_param most = pg_integer(SWEEP_MAX);
    TRY(PG_EXEC(relay->pg, sweep_events, pg_array_param(kinds), pg_array_param(drained), most,
                pg_integer(relay->grace_ms)));
    TRY(offer_rows(relay, &round->offered));
    TRY(PG_EXEC(relay->pg, sweep_stale, pg_array_param(kinds), pg_array_param(drained), most,
                pg_integer(relay->stale_ms)));
    TRY(offer_rows(relay, &round->offered));
    TRY(find_bulk_rows(relay, kinds, drained));
    TRY(offer_rows(relay, &round->offered));
    TRY(PG_EXEC(relay->pg, find_bulk, pg_array_param(kinds), pg_array_param(drained)));
    round->bulk_waiting = pg_rows(relay->pg) > 0;
    return ERR_NONE;
}

struct err relay_sweep(struct relay *relay, struct relay_round *round)
{
    enum queue_mode modes[QUEUE_COUNT];
    struct pg_array kinds; /* of a newer release: left to its own scheduler */
    struct pg_array drained;
    *round = (struct relay_round){0};
    TRY(controls_load(relay->pg, modes));
    TRY(controls_mirror(relay->redis, relay->prefix, modes));
    pg_array_init(&kinds, PG_ELEMENT_TEXT);
    pg_array_init(&drained, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < JOB_KIND_COUNT; i++)
        pg_array_add_text(&kinds, job_type((enum job_kind)i)->kind);
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        if (modes[i] == QUEUE_MODE_DRAINING)
            pg_array_add_text(&drained, queue_text((enum queue_name)i));
    struct err err = sweep_all(relay, &kinds, &drained, round);
    pg_rollback(relay->pg);
    pg_array_close(&kinds);
    pg_array_close(&drained);
    return err;
}
