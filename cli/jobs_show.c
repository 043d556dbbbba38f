/* `whopline jobs show`: all there is to know about one job, in PostgreSQL and in Redis. */
#include "cli/ask.h"
#include "cli/jobs.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "cli/payload.h"
#include "service/controls.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SCAN_MAX = 100000, /* entries of a stream looked at for one */
    MS_PER_S = 1000,
    ID_SIZE = UUID_TEXT_SIZE + 16,
};

/* What Redis knows of the job's present generation. */
struct place {
    struct err err; /* nothing is known */
    bool seen;      /* ENQUEUE would call it a duplicate */
    bool delayed;
    int64_t due_in_ms;
    bool in_stream;
    bool gave_up; /* the stream is longer than SCAN_MAX */
    char entry[ASK_ENTRY_SIZE];
    bool held; /* by a worker: */
    struct ask_pending pending;
};

/* --- Redis ----------------------------------------------------------------------------------- */

struct search {
    const char *id;
    int64_t left;
    struct place *place;
};

static bool look_at_entry(struct job *job, void *data)
{
    struct search *search = data;
    bool found = strcmp(job->id, search->id) == 0;
    if (found)
        snprintf(search->place->entry, sizeof search->place->entry, "%.*s", ASK_ENTRY_SIZE - 1,
                 job->entry);
    job_free(job);
    search->place->in_stream = found;
    if (found)
        return false;
    search->place->gave_up = --search->left == 0;
    return !search->place->gave_up;
}

static void look_at_pending(const struct ask_pending *pending, void *data)
{
    struct place *place = data;
    place->held = true;
    place->pending = *pending;
}

static struct err find_delayed(struct redis *redis, const char *key, const char *id,
                               struct place *place)
{
    struct redis_reply *reply = NULL;
    int64_t now_ms;
    TRY(ask_time_ms(redis, &now_ms));
    TRY(ASK(redis, &reply, "ZSCORE", key, id));
    place->delayed = !redis_reply_is_nil(reply);
    place->due_in_ms = ask_number(redis_reply_text(reply)) - now_ms;
    redis_reply_free(reply);
    return ERR_NONE;
}

static struct err find_in_redis(struct cli *cli, enum queue_name queue, const char *id,
                                struct place *place)
{
    const char *prefix = cli->config.stream_prefix;
    char stream[KEY_MAX];
    char delayed[KEY_MAX];
    char seen[KEY_MAX];
    char seen_id[KEY_MAX + ID_SIZE];
    const char *const keys[] = {seen_id};
    struct search search = {.id = id, .left = SCAN_MAX, .place = place};
    key_stream(prefix, queue, stream);
    key_delayed(prefix, queue, delayed);
    key_seen_prefix(prefix, seen);
    snprintf(seen_id, sizeof seen_id, "%s%s", seen, id);
    TRY(cli_open_redis(cli));
    TRY(ask_exist(cli->redis, keys, 1, &place->seen));
    TRY(find_delayed(cli->redis, delayed, id, place));
    TRY(ask_each_entry(cli->redis, stream, "-", look_at_entry, &search));
    if (place->in_stream)
        TRY(ask_each_pending(cli->redis, stream, place->entry, place->entry, look_at_pending,
                             place));
    return ERR_NONE;
}

static void describe(const struct place *place, struct buf *out)
{
    char age[OUTPUT_SHORT];
    if (err_failed(&place->err)) {
        buf_printf(out, "not known: %s", err_text(&place->err));
    } else if (place->held) {
        output_age(place->pending.idle_ms / MS_PER_S, age);
        buf_printf(out, "entry %s, held by %s, delivered %lld times, not prolonged for %s",
                   place->entry, place->pending.consumer, (long long)place->pending.deliveries,
                   age);
    } else if (place->in_stream) {
        buf_printf(out, "entry %s, ready for a worker", place->entry);
    } else if (place->delayed) {
        output_age(place->due_in_ms / MS_PER_S, age);
        buf_printf(out, "put off, due in %s", age);
    } else if (place->gave_up) {
        buf_printf(out, "not among the first %d entries of its stream", SCAN_MAX);
    } else {
        buf_add_text(out, place->seen ? "known, but nowhere: whopline fsck" : "not there");
    }
}

static void put_place(struct json_writer *json, const struct place *place)
{
    json_begin_object(json, "redis");
    if (err_failed(&place->err)) {
        json_put_text(json, "error", err_text(&place->err));
    } else {
        json_put_flag(json, "known", place->seen);
        json_put_flag(json, "in_stream", place->in_stream);
        json_put_flag(json, "delayed", place->delayed);
        if (place->delayed)
            json_put_integer(json, "due_in_ms", place->due_in_ms);
        if (place->in_stream)
            json_put_text(json, "entry", place->entry);
        if (place->held) {
            json_put_text(json, "consumer", place->pending.consumer);
            json_put_integer(json, "idle_ms", place->pending.idle_ms);
            json_put_integer(json, "deliveries", place->pending.deliveries);
        }
    }
    json_end_object(json);
}

/* --- PostgreSQL ------------------------------------------------------------------------------ */

/* What is needed beside the row itself. */
struct shown {
    char id[ID_SIZE]; /* with the generation */
    char kind[JOB_KIND_MAX];
    enum queue_name queue;
    bool queue_known;
    int version;
    struct buf payload;
};

static struct err find_job(struct pg *pg, const char *id, struct shown *out)
{
    TRY(PG_EXEC(pg,
                "SELECT id || '.' || gen, kind, queue, version, payload FROM jobs"
                " WHERE id = $1::text::uuid",
                pg_text(id)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no job %s; see whopline jobs ls --state all", id);
    snprintf(out->id, sizeof out->id, "%s", pg_get(pg, 0, 0));
    snprintf(out->kind, sizeof out->kind, "%s", pg_get(pg, 0, 1));
    out->queue_known = queue_name_find(pg_get(pg, 0, 2), &out->queue);
    out->version = (int)pg_get_integer(pg, 0, 3);
    pg_get_bytes(pg, 0, 4, &out->payload);
    return ERR_NONE;
}

static struct err print_row(struct pg *pg, const char *id, const struct shown *shown,
                            const struct place *place)
{
    struct table table;
    struct buf words = {0};
    TRY(PG_EXEC(pg,
                "SELECT j.id AS job, j.gen AS generation, j.kind, j.queue, j.state, j.error,"
                " j.reason, j.attempts AS \"failed tries\", t.slug AS tenant, j.key,"
                " CASE WHEN j.bulk THEN 'yes' END AS bulk, " OUTCOME_UTC(
                    "j.created_at") " AS "
                                    "created,"
                                    " " OUTCOME_UTC(
                                        "j"
                                        "."
                                        "r"
                                        "e"
                                        "q"
                                        "u"
                                        "e"
                                        "u"
                                        "e"
                                        "d"
                                        "_"
                                        "a"
                                        "t") " AS "
                                             "requ"
                                             "eued"
                                             ","
                                             " " OUTCOME_UTC("j.due_at") " AS due, " OUTCOME_UTC(
                                                 "j.relayed_at") " AS \"given to "
                                                                 "Redis\", " OUTCOME_UTC("j."
                                                                                         "finished_"
                                                                                         "at") " AS"
                                                                                               " "
                                                                                               "fin"
                                                                                               "ish"
                                                                                               "e"
                                                                                               "d, "
                                                                                               "j."
                                                                                               "tra"
                                                                                               "ce,"
                                                                                               " "
                                                                                               "j."
                                                                                               "eve"
                                                                                               "nt_"
                                                                                               "id "
                                                                                               "AS "
                                                                                               "eve"
                                                                                               "nt,"
                                                                                               " e."
                                                                                               "kin"
                                                                                               "d "
                                                                                               "|| "
                                                                                               "', "
                                                                                               "' "
                                                                                               "|| "
                                                                                               "e."
                                                                                               "sta"
                                                                                               "tus"
                                                                                               " "
                                                                                               "|| "
                                                                                               "coa"
                                                                                               "les"
                                                                                               "c"
                                                                                               "e('"
                                                                                               " ('"
                                                                                               " "
                                                                                               "|| "
                                                                                               "e."
                                                                                               "rea"
                                                                                               "son"
                                                                                               " "
                                                                                               "|| "
                                                                                               "')'"
                                                                                               ", "
                                                                                               "'')"
                                                                                               "  "
                                                                                               "AS "
                                                                                               "\"t"
                                                                                               "he "
                                                                                               "eve"
                                                                                               "nt"
                                                                                               "\""
                                                                                               ","
                                                                                               " oc"
                                                                                               "tet"
                                                                                               "_"
                                                                                               "len"
                                                                                               "gth"
                                                                                               "("
                                                                                               "j."
                                                                                               "pay"
                                                                                               "loa"
                                                                                               "d"
                                                                                               ") "
                                                                                               "|| "
                                                                                               "' "
                                                                                               "byt"
                                                                                               "es,"
                                                                                               " "
                                                                                               "ver"
                                                                                               "sio"
                                                                                               "n"
                                                                                               " ' "
                                                                                               "|| "
                                                                                               "j."
                                                                                               "ver"
                                                                                               "sio"
                                                                                               "n"
                                                                                               " AS"
                                                                                               " "
                                                                                               "pay"
                                                                                               "loa"
                                                                                               "d"
                                                                                               " FR"
                                                                                               "OM "
                                                                                               "job"
                                                                                               "s "
                                                                                               "j "
                                                                                               "JOI"
                                                                                               "N "
                                                                                               "ten"
                                                                                               "ant"
                                                                                               "s"
                                                                                               " t "
                                                                                               "ON "
                                                                                               "t."
                                                                                               "id "
                                                                                               "= "
                                                                                               "j."
                                                                                               "ten"
                                                                                               "ant"
                                                                                               "_"
                                                                                               "id"
                                                                                               " LE"
                                                                                               "FT "
                                                                                               "JOI"
                                                                                               "N "
                                                                                               "web"
                                                                                               "hoo"
                                                                                               "k"
                                                                                               "_ev"
                                                                                               "ent"
                                                                                               "s"
                                                                                               " e "
                                                                                               "ON "
                                                                                               "e."
                                                                                               "id "
                                                                                               "= "
                                                                                               "j."
                                                                                               "eve"
                                                                                               "nt_"
                                                                                               "id "
                                                                                               "WHE"
                                                                                               "RE "
                                                                                               "j."
                                                                                               "id "
                                                                                               "= "
                                                                                               "$1:"
                                                                                               ":"
                                                                                               "tex"
                                                                                               "t::"
                                                                                               "uui"
                                                                                               "d",
                pg_text(id)));
    table_init(&table, NULL, 2);
    output_record(pg, 0, &table);
    payload_add_rows(&table, shown->kind, shown->version, buf_span(&shown->payload));
    describe(place, &words);
    table_add(&table, "in Redis");
    table_add(&table, buf_text(&words));
    table_print(&table, "");
    buf_close(&words);
    return ERR_NONE;
}

/* What was done to it by hand, and with it its earlier generations. */
static struct err print_history(struct pg *pg, const char *id)
{
    static const char *const heads[] = {"TIME (UTC)", "ACTOR",      "ACTION",
                                        "REASON",     "GENERATION", "WAS"};
    const struct output_list list = {.heads = heads, .columns = ARRAY_LEN(heads)};
    TRY(PG_EXEC(
        pg,
        "SELECT " OUTCOME_UTC(
            "at") ", actor, action, reason, detail->>'gen',"
                  " concat_ws(' ', detail->'was'->>'state', 'in generation',"
                  "  detail->'was'->>'gen', detail->'was'->>'error', detail->'was'->>'reason')"
                  " FROM audit_log WHERE target = $1 ORDER BY at, id",
        pg_text(id)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    printf("\nby hand:\n");
    output_rows(pg, &list, 0);
    return ERR_NONE;
}

#define SHOW_JSON                                                                                  \
    "SELECT row_to_json(q)::text FROM (SELECT j.id, j.gen, j.kind, j.queue, j.state, j.error,"     \
    " j.reason, j.attempts, t.slug AS tenant, j.key, j.bulk, j.trace, j.event_id, j.version,"      \
    " j.occurred_at, j.created_at, j.requeued_at, j.due_at, j.relayed_at, j.finished_at,"          \
    " (SELECT row_to_json(w) FROM (SELECT e.id, e.kind, e.status, e.reason, e.received_at,"        \
    "   e.journalled_at, e.user_id, e.payment_id, e.membership_id FROM webhook_events e"           \
    "   WHERE e.id = j.event_id) w) AS event,"                                                     \
    " (SELECT coalesce(json_agg(row_to_json(h) ORDER BY h.at, h.id), '[]') FROM (SELECT id, at,"   \
    "   actor, action, reason, detail FROM audit_log WHERE target = j.id::text) h) AS history"     \
    " FROM jobs j LEFT JOIN tenants t ON t.id = j.tenant_id WHERE j.id = $1::text::uuid) q"

static struct err show_json(struct pg *pg, const char *id, const struct shown *shown,
                            const struct place *place)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    TRY(PG_EXEC(pg, SHOW_JSON, pg_text(id)));
    json_begin_object(&json, NULL);
    json_put_raw(&json, "job", pg_get(pg, 0, 0));
    payload_put_json(&json, shown->kind, shown->version, buf_span(&shown->payload));
    put_place(&json, place);
    json_end_object(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
    return ERR_NONE;
}

struct err jobs_show(struct cli *cli, const char *id, bool json)
{
    struct shown shown = {0};
    struct place place = {.err = ERR_NONE};
    struct err err = find_job(cli->pg, id, &shown);
    if (!err_failed(&err)) {
        place.err = shown.queue_known ? find_in_redis(cli, shown.queue, shown.id, &place)
                                      : err_make(ERR_NOT_FOUND, "this program knows no such queue");
        if (json)
            err = show_json(cli->pg, id, &shown, &place);
        else
            err = print_row(cli->pg, id, &shown, &place);
    }
    if (!err_failed(&err) && !json)
        err = print_history(cli->pg, id);
    buf_close(&shown.payload);
    return err;
}
