#include "service/store.h"

#include <stdio.h>
#include <stdlib.h>

const char *job_state_name(enum job_state state)
{
    static const char *const names[] = {
        [JOB_STATE_QUEUED] = "queued", [JOB_STATE_DONE] = "done", [JOB_STATE_SKIPPED] = "skipped",
        [JOB_STATE_PARKED] = "parked", [JOB_STATE_DEAD] = "dead",
    };
    return names[state];
}

struct err store_find_tenants(struct pg *pg, const char *const *companies, size_t count,
                              int64_t *out)
{
    struct pg_array array;
    pg_array_init(&array, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++) {
        pg_array_add_text(&array, companies[i]);
        out[i] = 0;
    }
    struct err err = PG_EXEC(pg,
                             "SELECT given.place, tenants.id "
                             "FROM unnest($1::text[]) WITH ORDINALITY AS given(company, place) "
                             "JOIN tenants ON tenants.whop_company_id = given.company",
                             pg_array_param(&array));
    pg_array_close(&array);
    TRY(err);
    for (size_t row = 0; row < pg_rows(pg); row++)
        out[pg_get_integer(pg, row, 0) - 1] = pg_get_integer(pg, row, 1);
    return ERR_NONE;
}

/* --- events ---------------------------------------------------------------------------------- */

/* The columns of the insert below, in its order. */
enum column {
    COLUMN_ID,
    COLUMN_TENANT,
    COLUMN_ENDPOINT,
    COLUMN_WEBHOOK_ID,
    COLUMN_KIND,
    COLUMN_TYPE_RAW,
    COLUMN_GENERATION,
    COLUMN_COMPANY,
    COLUMN_USER,
    COLUMN_MEMBERSHIP,
    COLUMN_PAYMENT,
    COLUMN_ENTITY,
    COLUMN_STATUS,
    COLUMN_REASON,
    COLUMN_OCCURRED,
    COLUMN_OCCURRED_KNOWN,
    COLUMN_RECEIVED,
    COLUMN_PAYLOAD,
    COLUMN_VERSION,
    COLUMN_BODY,
    COLUMN_COUNT,
};

static const char insert_events[] =
    "INSERT INTO webhook_events (id, tenant_id, endpoint, webhook_id, kind, type_raw, generation,"
    " company_id, user_id, membership_id, payment_id, entity_id, status, reason, occurred_at,"
    " occurred_known, received_at, payload, payload_version, body) "
    "SELECT id, NULLIF(tenant, 0), endpoint, NULLIF(webhook_id, ''), kind, type_raw, generation,"
    " NULLIF(company, ''), NULLIF(user_id, ''), NULLIF(membership, ''), NULLIF(payment, ''),"
    " NULLIF(entity, ''), status, NULLIF(reason, ''), whopline_from_ms(occurred),"
    " occurred_known <> 0, whopline_from_ms(received), payload, version::smallint, body "
    "FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],"
    " $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],"
    " $14::text[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bytea[], $19::bigint[],"
    " $20::bytea[]) AS row(id, tenant, endpoint, webhook_id, kind, type_raw, generation, company,"
    " user_id, membership, payment, entity, status, reason, occurred, occurred_known, received,"
    " payload, version, body) "
    "ON CONFLICT (id) DO NOTHING RETURNING id";

static enum pg_element column_element(enum column column)
{
    switch (column) {
    case COLUMN_TENANT:
    case COLUMN_OCCURRED:
    case COLUMN_OCCURRED_KNOWN:
    case COLUMN_RECEIVED:
    case COLUMN_VERSION: return PG_ELEMENT_BIGINT;
    case COLUMN_PAYLOAD:
    case COLUMN_BODY: return PG_ELEMENT_BYTEA;
    default: return PG_ELEMENT_TEXT;
    }
}

/* What the event is about, beside user, membership and payment, for looking it up. */
static const char *entity_of(const struct event *event)
{
    const char *const ids[] = {event->refund,  event->dispute, event->message,
                               event->channel, event->plan,    event->product};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        if (!text_is_empty(ids[i]))
            return ids[i];
    return "";
}

static void add_event(struct pg_array *columns, const struct store_event *row)
{
    const struct event *event = row->event;
    pg_array_add_text(&columns[COLUMN_ID], event->id);
    pg_array_add_integer(&columns[COLUMN_TENANT], row->tenant);
    pg_array_add_text(&columns[COLUMN_ENDPOINT], event->endpoint);
    pg_array_add_text(&columns[COLUMN_WEBHOOK_ID], event->webhook_id);
    pg_array_add_text(&columns[COLUMN_KIND], event->kind);
    pg_array_add_text(&columns[COLUMN_TYPE_RAW], event->type_raw);
    pg_array_add_text(&columns[COLUMN_GENERATION], event->generation);
    pg_array_add_text(&columns[COLUMN_COMPANY], event->company);
    pg_array_add_text(&columns[COLUMN_USER], event->user);
    pg_array_add_text(&columns[COLUMN_MEMBERSHIP], event->membership);
    pg_array_add_text(&columns[COLUMN_PAYMENT], event->payment);
    pg_array_add_text(&columns[COLUMN_ENTITY], entity_of(event));
    pg_array_add_text(&columns[COLUMN_STATUS], row->status);
    pg_array_add_text(&columns[COLUMN_REASON], row->reason);
    pg_array_add_integer(&columns[COLUMN_OCCURRED], event->occurred_ms);
    pg_array_add_integer(&columns[COLUMN_OCCURRED_KNOWN], event->occurred_known);
    pg_array_add_integer(&columns[COLUMN_RECEIVED], event->received_ms);
    pg_array_add(&columns[COLUMN_PAYLOAD], row->payload);
    pg_array_add_integer(&columns[COLUMN_VERSION], row->version);
    pg_array_add(&columns[COLUMN_BODY], row->body);
}

/* The same id may be in one batch twice (a reclaimed entry beside its repetition): the first row
 * that carries it is the one that was inserted. */
static void mark_new(struct pg *pg, struct store_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        events[i].is_new = false;
    for (size_t row = 0; row < pg_rows(pg); row++) {
        for (size_t i = 0; i < count; i++) {
            if (strcmp(events[i].event->id, pg_get(pg, row, 0)) == 0) {
                events[i].is_new = true;
                break;
            }
        }
    }
}

struct err store_insert_events(struct pg *pg, struct store_event *events, size_t count)
{
    struct pg_array columns[COLUMN_COUNT];
    struct pg_param params[COLUMN_COUNT];
    for (size_t c = 0; c < COLUMN_COUNT; c++)
        pg_array_init(&columns[c], column_element((enum column)c));
    for (size_t i = 0; i < count; i++)
        add_event(columns, &events[i]);
    for (size_t c = 0; c < COLUMN_COUNT; c++)
        params[c] = pg_array_param(&columns[c]);
    struct err err = pg_exec(pg, insert_events, params, COLUMN_COUNT);
    for (size_t c = 0; c < COLUMN_COUNT; c++)
        pg_array_close(&columns[c]);
    TRY(err);
    mark_new(pg, events, count);
    return ERR_NONE;
}

/* --- jobs ------------------------------------------------------------------------------------ */

static const char insert_jobs[] =
    "INSERT INTO jobs (id, gen, event_id, tenant_id, queue, kind, key, payload, version, trace,"
    " occurred_at, bulk) "
    "SELECT id::uuid, gen, NULLIF(event_id, ''), NULLIF(tenant, 0), queue, kind, key, payload,"
    " version::smallint, trace, whopline_from_ms(occurred),"
    " bulk <> 0 "
    "FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[],"
    " $7::text[], $8::bytea[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[])"
    " AS row(id, gen, event_id, tenant, queue, kind, key, payload, version, trace, occurred,"
    " bulk) RETURNING (SELECT rebuilds FROM relay_state)";

struct err store_insert_jobs(struct pg *pg, const struct outgoing *jobs, size_t count,
                             int64_t *rebuilds)
{
    static const enum pg_element elements[] = {
        PG_ELEMENT_TEXT,   PG_ELEMENT_BIGINT, PG_ELEMENT_TEXT,   PG_ELEMENT_BIGINT,
        PG_ELEMENT_TEXT,   PG_ELEMENT_TEXT,   PG_ELEMENT_TEXT,   PG_ELEMENT_BYTEA,
        PG_ELEMENT_BIGINT, PG_ELEMENT_TEXT,   PG_ELEMENT_BIGINT, PG_ELEMENT_BIGINT};
    struct pg_array columns[ARRAY_LEN(elements)];
    struct pg_param params[ARRAY_LEN(elements)];
    if (count == 0)
        return ERR_NONE;
    for (size_t c = 0; c < ARRAY_LEN(elements); c++)
        pg_array_init(&columns[c], elements[c]);
    for (size_t i = 0; i < count; i++) {
        const struct job_type *type = job_type(jobs[i].kind);
        pg_array_add_text(&columns[0], jobs[i].id);
        pg_array_add_integer(&columns[1], jobs[i].gen);
        pg_array_add_text(&columns[2], jobs[i].event_id);
        pg_array_add_integer(&columns[3], jobs[i].tenant);
        pg_array_add_text(&columns[4], queue_text(type->queue));
        pg_array_add_text(&columns[5], type->kind);
        pg_array_add_text(&columns[6], jobs[i].key);
        pg_array_add(&columns[7], jobs[i].payload);
        pg_array_add_integer(&columns[8], jobs[i].version);
        pg_array_add_text(&columns[9], jobs[i].trace);
        pg_array_add_integer(&columns[10], jobs[i].occurred_ms);
        pg_array_add_integer(&columns[11], jobs[i].bulk);
    }
    for (size_t c = 0; c < ARRAY_LEN(elements); c++)
        params[c] = pg_array_param(&columns[c]);
    struct err err = pg_exec(pg, insert_jobs, params, ARRAY_LEN(elements));
    for (size_t c = 0; c < ARRAY_LEN(elements); c++)
        pg_array_close(&columns[c]);
    TRY(err);
    *rebuilds = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}

struct err store_mark_relayed(struct pg *pg, const struct outgoing *jobs, size_t count,
                              int64_t rebuilds)
{
    struct pg_array ids;
    struct pg_array gens;
    if (count == 0)
        return ERR_NONE;
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    pg_array_init(&gens, PG_ELEMENT_BIGINT);
    for (size_t i = 0; i < count; i++) {
        pg_array_add_text(&ids, jobs[i].id);
        pg_array_add_integer(&gens, jobs[i].gen);
    }
    struct err err =
        PG_EXEC(pg,
                "UPDATE jobs SET relayed_at = whopline_now() WHERE id = ANY (ARRAY("
                "SELECT jobs.id FROM unnest($1::text[], $2::bigint[]) AS told(id, gen)"
                " JOIN jobs ON jobs.id = told.id::uuid AND jobs.gen = told.gen "
                "WHERE state = 'queued' AND (SELECT rebuilds FROM relay_state) = $3::bigint"
                " FOR UPDATE OF jobs SKIP LOCKED))",
                pg_array_param(&ids), pg_array_param(&gens), pg_integer(rebuilds));
    pg_array_close(&ids);
    pg_array_close(&gens);
    return err;
}

/* "<uuid>.<gen>" in its parts: 36 characters of hex digits and dashes, and digits. */
static bool split_id(const char *id, char uuid[UUID_TEXT_SIZE], const char **gen)
{
    const size_t len = UUID_TEXT_SIZE - 1;
    if (strspn(id, "0123456789abcdef-") != len || id[len] != '.')
        return false;
    *gen = id + len + 1;
    size_t digits = strspn(*gen, "0123456789");
    memcpy(uuid, id, len);
    uuid[len] = '\0';
    return digits > 0 && digits < 10 && (*gen)[digits] == '\0';
}

static struct err not_an_id(void)
{
    return err_make(ERR_MALFORMED, "a job's id is <uuid>.<generation>");
}

static struct err end_job(struct pg *pg, const char *id, const char *from,
                          const struct store_ending *ending)
{
    char uuid[UUID_TEXT_SIZE];
    const char *gen;
    if (!split_id(id, uuid, &gen))
        return not_an_id();
    TRY(PG_EXEC(pg,
                "UPDATE jobs SET state = $3, reason = $4, error = $5, attempts = $6::integer,"
                " finished_at = whopline_now() "
                "WHERE id = $1::uuid AND gen = $2::integer AND state = $7",
                pg_text(uuid), pg_text(gen), pg_text(job_state_name(ending->state)),
                pg_text_or_null(ending->reason), pg_text_or_null(ending->error),
                pg_integer(ending->attempts), pg_text(from)));
    if (pg_affected(pg) == 0)
        return err_make(ERR_ALREADY_DONE, "already_done");
    return ERR_NONE;
}

struct err store_finish_job(struct pg *pg, const char *id, const struct store_ending *ending)
{
    return end_job(pg, id, "queued", ending);
}

struct err store_amend_job(struct pg *pg, const char *id, const struct store_ending *ending)
{
    return end_job(pg, id, "done", ending);
}

/* The parts of many ids, as arrays for unnest; the caller closes both. */
static struct err split_ids(const char *const *ids, size_t count, struct pg_array *uuids,
                            struct pg_array *gens)
{
    struct err err = ERR_NONE;
    pg_array_init(uuids, PG_ELEMENT_TEXT);
    pg_array_init(gens, PG_ELEMENT_BIGINT);
    for (size_t i = 0; i < count; i++) {
        char uuid[UUID_TEXT_SIZE] = "";
        const char *gen = "";
        if (!split_id(ids[i], uuid, &gen))
            err = not_an_id();
        pg_array_add_text(uuids, uuid);
        pg_array_add_integer(gens, strtoll(gen, NULL, 10));
    }
    return err;
}

struct err store_claim_jobs(struct pg *pg, const char *const *ids, size_t count, bool *mine)
{
    struct pg_array uuids;
    struct pg_array gens;
    struct err err = split_ids(ids, count, &uuids, &gens);
    for (size_t i = 0; i < count; i++)
        mine[i] = false;
    if (!err_failed(&err))
        err = PG_EXEC(pg,
                      "UPDATE jobs SET state = 'done', finished_at = whopline_now() "
                      "FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS given(id, gen, at) "
                      "WHERE jobs.id = given.id::uuid AND jobs.gen = given.gen"
                      " AND state = 'queued' RETURNING given.at",
                      pg_array_param(&uuids), pg_array_param(&gens));
    pg_array_close(&uuids);
    pg_array_close(&gens);
    TRY(err);
    for (size_t row = 0; row < pg_rows(pg); row++)
        mine[pg_get_integer(pg, row, 0) - 1] = true;
    return ERR_NONE;
}

struct err store_park_jobs(struct pg *pg, const char *const *ids, size_t count, const char *reason,
                           const char *error)
{
    struct pg_array uuids;
    struct pg_array gens;
    struct err err = split_ids(ids, count, &uuids, &gens);
    if (!err_failed(&err))
        err =
            PG_EXEC(pg,
                    "UPDATE jobs SET state = 'parked', reason = $3, error = $4,"
                    " finished_at = whopline_now() "
                    "FROM unnest($1::text[], $2::bigint[]) AS given(id, gen) "
                    "WHERE jobs.id = given.id::uuid AND jobs.gen = given.gen"
                    " AND state = 'queued'",
                    pg_array_param(&uuids), pg_array_param(&gens), pg_text(reason), pg_text(error));
    pg_array_close(&uuids);
    pg_array_close(&gens);
    return err;
}

struct err store_note_attempts(struct pg *pg, const char *id, int attempts)
{
    char uuid[UUID_TEXT_SIZE];
    const char *gen;
    if (!split_id(id, uuid, &gen))
        return not_an_id();
    return PG_EXEC(pg,
                   "UPDATE jobs SET attempts = $3::integer "
                   "WHERE id = $1::uuid AND gen = $2::integer AND state = 'queued'",
                   pg_text(uuid), pg_text(gen), pg_integer(attempts));
}
