#include "cli/queue_list.h"

#include "cli/outcome.h"
#include "cli/output.h"
#include "cli/worker_list.h"
#include "codec/json.h"
#include "service/controls.h"

#include <stdio.h>
#include <stdlib.h>

enum { MS_PER_S = 1000 };

/* Of one queue: what Redis and PostgreSQL say, each as far as it could be asked. */
struct line {
    struct ask_queue redis;
    int64_t workers; /* heard of within a lease */
    char *copy;      /* of the mode, as workers see it */
    char *mode;      /* the truth; and why, who, since */
    char *reason;
    char *actor;
    int64_t since_s;
    int64_t queued;
    int64_t unrelayed;
    int64_t bulk;
    int64_t parked;
    int64_t dead;
};

struct listing {
    struct cli *cli;
    struct line lines[QUEUE_COUNT];
    struct err redis;
    struct err pg;
};

static void set(char **text, const char *value)
{
    free(*text);
    *text = mem_strdup(value);
}

/* --- Redis ----------------------------------------------------------------------------------- */

static void count_workers(struct listing *listing, const struct worker_list *view)
{
    for (size_t i = 0; i < view->count; i++) {
        enum queue_name queue;
        const struct worker_seen *worker = &view->workers[i];
        if (worker_list_silent_ms(view, worker) <= listing->cli->config.lease_ms &&
            queue_name_find(worker_list_queue(worker), &queue))
            listing->lines[queue].workers++;
    }
}

static struct err ask_redis(struct listing *listing)
{
    struct cli *cli = listing->cli;
    const char *prefix = cli->config.stream_prefix;
    struct worker_list view;
    TRY(cli_open_redis(cli));
    for (int i = 0; i < QUEUE_COUNT; i++) {
        char key[KEY_MAX];
        struct buf copy = {0};
        enum queue_name queue = (enum queue_name)i;
        key_control(prefix, queue, key);
        TRY(ask_queue(cli->redis, prefix, queue, &listing->lines[i].redis));
        TRY(ask_text(cli->redis, "GET", key, &copy));
        set(&listing->lines[i].copy, buf_text(&copy));
        buf_close(&copy);
    }
    TRY(worker_list_read(cli->redis, prefix, &view));
    count_workers(listing, &view);
    worker_list_close(&view);
    return ERR_NONE;
}

/* --- PostgreSQL ------------------------------------------------------------------------------ */

static struct err ask_controls(struct listing *listing)
{
    struct pg *pg = listing->cli->pg;
    TRY(pg_exec(pg,
                "SELECT queue, mode, reason, actor,"
                " extract(epoch FROM whopline_now() - since)::bigint FROM queue_controls",
                NULL, 0));
    for (size_t row = 0; row < pg_rows(pg); row++) {
        enum queue_name queue;
        if (!queue_name_find(pg_get(pg, row, 0), &queue))
            continue;
        set(&listing->lines[queue].mode, pg_get(pg, row, 1));
        set(&listing->lines[queue].reason, pg_get(pg, row, 2));
        set(&listing->lines[queue].actor, pg_get(pg, row, 3));
        listing->lines[queue].since_s = pg_get_integer(pg, row, 4);
    }
    return ERR_NONE;
}

static struct err ask_postgresql(struct listing *listing)
{
    struct pg *pg;
    TRY(cli_open_database(listing->cli));
    pg = listing->cli->pg;
    TRY(ask_controls(listing));
    TRY(pg_exec(pg,
                "SELECT queue, count(*) FILTER (WHERE state = 'queued'),"
                " count(*) FILTER (WHERE state = 'queued' AND relayed_at IS NULL AND NOT bulk),"
                " count(*) FILTER (WHERE state = 'queued' AND relayed_at IS NULL AND bulk),"
                " count(*) FILTER (WHERE state = 'parked'), count(*) FILTER (WHERE state = 'dead')"
                " FROM " OUTCOME_OPEN_JOBS " GROUP BY queue",
                NULL, 0));
    for (size_t row = 0; row < pg_rows(pg); row++) {
        enum queue_name queue;
        if (!queue_name_find(pg_get(pg, row, 0), &queue))
            continue;
        struct line *line = &listing->lines[queue];
        line->queued = pg_get_integer(pg, row, 1);
        line->unrelayed = pg_get_integer(pg, row, 2);
        line->bulk = pg_get_integer(pg, row, 3);
        line->parked = pg_get_integer(pg, row, 4);
        line->dead = pg_get_integer(pg, row, 5);
    }
    return ERR_NONE;
}

/* --- for programs ---------------------------------------------------------------------------- */

static void put_postgresql(struct json_writer *json, const struct line *line)
{
    bool held = line->mode != NULL;
    json_put_text(json, "mode", held ? line->mode : "open");
    if (held) {
        json_put_text(json, "reason", line->reason);
        json_put_text(json, "actor", line->actor);
        json_put_integer(json, "since_s", line->since_s);
    }
    json_put_integer(json, "queued", line->queued);
    json_put_integer(json, "unrelayed", line->unrelayed);
    json_put_integer(json, "bulk_waiting", line->bulk);
    json_put_integer(json, "parked", line->parked);
    json_put_integer(json, "dead", line->dead);
}

static void put_redis(struct json_writer *json, const struct line *line)
{
    json_put_text(json, "redis_mode", line->copy[0] != '\0' ? line->copy : "open");
    json_put_integer(json, "ready", line->redis.ready);
    json_put_integer(json, "pending", line->redis.pending);
    json_put_integer(json, "delayed", line->redis.delayed);
    if (line->redis.ready_age_ms >= 0)
        json_put_integer(json, "ready_age_ms", line->redis.ready_age_ms);
    if (line->redis.pending_idle_ms >= 0)
        json_put_integer(json, "pending_idle_ms", line->redis.pending_idle_ms);
    json_put_integer(json, "workers", line->workers);
}

static void print_json(const struct listing *listing)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    json_begin_array(&json, NULL);
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        json_begin_object(&json, NULL);
        json_put_text(&json, "queue", queue_text((enum queue_name)queue));
        if (!err_failed(&listing->pg))
            put_postgresql(&json, &listing->lines[queue]);
        if (!err_failed(&listing->redis))
            put_redis(&json, &listing->lines[queue]);
        json_end_object(&json);
    }
    json_end_array(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

/* --- for people ------------------------------------------------------------------------------ */

static void add_number(struct table *table, bool known, int64_t number)
{
    char text[OUTPUT_SHORT];
    output_number(number, text);
    table_add(table, known ? text : "?");
}

static void add_age(struct table *table, bool known, int64_t ms)
{
    char age[OUTPUT_SHORT];
    output_age(ms / MS_PER_S, age);
    table_add(table, !known ? "?" : ms < 0 ? "" : age);
}

static const char *mode_of(const struct listing *listing, const struct line *line)
{
    if (err_failed(&listing->pg)) /* then what workers go by */
        return line->copy == NULL ? "?" : line->copy[0] != '\0' ? line->copy : "open";
    return line->mode != NULL ? line->mode : "open";
}

static void print_table(const struct listing *listing)
{
    static const char *const heads[] = {"QUEUE",  "MODE",    ">READY",   ">RUNNING", ">DELAYED",
                                        "OLDEST", "IDLE",    ">WORKERS", ">QUEUED",  ">UNRELAYED",
                                        ">BULK",  ">PARKED", ">DEAD"};
    struct table table;
    bool redis = !err_failed(&listing->redis);
    bool pg = !err_failed(&listing->pg);
    table_init(&table, heads, ARRAY_LEN(heads));
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        const struct line *line = &listing->lines[queue];
        table_add(&table, queue_text((enum queue_name)queue));
        table_add(&table, mode_of(listing, line));
        add_number(&table, redis, line->redis.ready);
        add_number(&table, redis, line->redis.pending);
        add_number(&table, redis, line->redis.delayed);
        add_age(&table, redis, line->redis.ready_age_ms);
        add_age(&table, redis, line->redis.pending_idle_ms);
        add_number(&table, redis, line->workers);
        add_number(&table, pg, line->queued);
        add_number(&table, pg, line->unrelayed);
        add_number(&table, pg, line->bulk);
        add_number(&table, pg, line->parked);
        add_number(&table, pg, line->dead);
    }
    table_print(&table, "");
}

static void print_notes(const struct listing *listing)
{
    struct buf out = {0};
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        const struct line *line = &listing->lines[queue];
        const char *name = queue_text((enum queue_name)queue);
        if (line->mode != NULL) {
            char age[OUTPUT_SHORT];
            output_age(line->since_s, age);
            buf_printf(&out, "%s is %s for %s by ", name, line->mode, age);
            output_add_clean(&out, line->actor);
            buf_add_text(&out, ": ");
            output_add_clean(&out, line->reason);
            buf_add_text(&out, "\n");
        }
        if (!err_failed(&listing->pg) && !err_failed(&listing->redis) &&
            strcmp(line->copy[0] != '\0' ? line->copy : "open",
                   line->mode != NULL ? line->mode : "open") != 0)
            buf_printf(
                &out,
                "%s: Redis does not say so yet; the scheduler tells it within a second, if it"
                " runs\n",
                name);
    }
    fputs(buf_text(&out), stdout);
    buf_close(&out);
}

int queue_list(struct cli *cli, bool json)
{
    struct listing listing = {.cli = cli};
    listing.redis = ask_redis(&listing);
    listing.pg = ask_postgresql(&listing);
    if (json)
        print_json(&listing);
    else
        print_table(&listing);
    if (!json)
        print_notes(&listing);
    if (err_failed(&listing.redis))
        fprintf(stderr, "whopline: what is in Redis is not known: %s\n", err_text(&listing.redis));
    if (err_failed(&listing.pg))
        fprintf(stderr, "whopline: what is in PostgreSQL is not known: %s\n",
                err_text(&listing.pg));
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        struct line *line = &listing.lines[queue];
        free(line->copy);
        free(line->mode);
        free(line->reason);
        free(line->actor);
    }
    return err_failed(&listing.redis) || err_failed(&listing.pg) ? CLI_FAILED : CLI_OK;
}
