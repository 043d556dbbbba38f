/* whopline status: is it receiving, is it keeping up, is somebody hurt? */
#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "codec/json.h"
#include "service/migrate.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { LATE_S = 60 }; /* what is usually a matter of milliseconds */

/* Both forms are written side by side; the one not asked for is thrown away. */
struct report {
    struct cli *cli;
    struct json_writer json;
    struct buf json_text;
    struct buf people;
    struct buf attention; /* one line each */
    struct buf broken;
};

static void note(struct buf *lines, int64_t count, const char *one, const char *several,
                 const char *todo)
{
    char number[OUTPUT_SHORT];
    output_number(count, number);
    buf_printf(lines, "%s %s: %s\n", number, count == 1 ? one : several, todo);
}

/* --- PostgreSQL ------------------------------------------------------------------------------ */

/* What is the matter with one that is not active, and what to do about it. */
static void note_tenant(struct buf *lines, const char *slug, const char *status, const char *why)
{
    static const struct {
        const char *status;
        const char *todo;
    } todos[] = {
        {"paused", "whopline tenants resume"},
        {"reauth_required", "whopline tenants reauth"},
        {"permission_missing", "grant it at Whop, then whopline tenants check"},
    };
    for (size_t i = 0; i < ARRAY_LEN(todos); i++)
        if (strcmp(status, todos[i].status) == 0)
            buf_printf(lines, "tenant %s is %s%s%s%s: %s %s\n", slug, status,
                       why[0] != '\0' ? " (" : "", why, why[0] != '\0' ? ")" : "", todos[i].todo,
                       slug);
}

static struct err report_tenants(struct report *report)
{
    static const char *const heads[] = {"TENANT", "STATUS", "LAST EVENT", "KIND", ">LAST HOUR"};
    struct pg *pg = report->cli->pg;
    struct table table;
    TRY(pg_exec(pg,
                "SELECT t.slug, t.status, e.kind,"
                " extract(epoch FROM whopline_now() - e.received_at)::bigint,"
                " (SELECT count(*) FROM webhook_events h WHERE h.tenant_id = t.id"
                "  AND h.received_at > whopline_now() - interval '1 hour'),"
                " concat_ws(': ', t.pause_reason,"
                "  nullif(array_to_string(t.missing_permissions, ', '), ''))"
                " FROM tenants t LEFT JOIN LATERAL (SELECT kind, received_at FROM webhook_events"
                "  WHERE tenant_id = t.id ORDER BY received_at DESC LIMIT 1) e ON true"
                " ORDER BY t.slug",
                NULL, 0));
    table_init(&table, heads, ARRAY_LEN(heads));
    json_begin_array(&report->json, "tenants");
    for (size_t row = 0; row < pg_rows(pg); row++) {
        char age[OUTPUT_SHORT] = "";
        json_begin_object(&report->json, NULL);
        json_put_text(&report->json, "slug", pg_get(pg, row, 0));
        json_put_text(&report->json, "status", pg_get(pg, row, 1));
        if (!pg_is_null(pg, row, 3)) {
            output_age(pg_get_integer(pg, row, 3), age);
            json_put_text(&report->json, "last_event_kind", pg_get(pg, row, 2));
            json_put_integer(&report->json, "last_event_age_s", pg_get_integer(pg, row, 3));
        }
        json_put_integer(&report->json, "events_last_hour", pg_get_integer(pg, row, 4));
        json_end_object(&report->json);
        table_add(&table, pg_get(pg, row, 0));
        table_add(&table, pg_get(pg, row, 1));
        table_printf(&table, "%s%s", age, age[0] != '\0' ? " ago" : "none yet");
        table_add(&table, pg_get(pg, row, 2));
        table_add(&table, pg_get(pg, row, 4));
        note_tenant(&report->attention, pg_get(pg, row, 0), pg_get(pg, row, 1), pg_get(pg, row, 5));
    }
    if (pg_rows(pg) == 0)
        buf_add_text(&report->attention,
                     "no tenant yet: set WHOP_COMPANY_ID and run `whopline migrate`\n");
    json_end_array(&report->json);
    buf_add_text(&report->people, "\n");
    table_write(&table, "", &report->people);
    return ERR_NONE;
}

static struct err report_jobs(struct report *report)
{
    static const char *const names[] = {"queued", "unrelayed", "parked", "dead"};
    static const char *const explained[] = {"", " (not yet in Redis)", "", ""};
    struct pg *pg = report->cli->pg;
    TRY(PG_EXEC(pg,
                "SELECT count(*) FILTER (WHERE state = 'queued'),"
                " count(*) FILTER (WHERE state = 'queued' AND relayed_at IS NULL),"
                " count(*) FILTER (WHERE state = 'parked'),"
                " count(*) FILTER (WHERE state = 'dead'),"
                " count(*) FILTER (WHERE state = 'queued' AND relayed_at IS NULL AND NOT bulk"
                "  AND due_at < whopline_now() - $1::bigint * interval '1 second' AND queue NOT IN"
                "  (SELECT queue FROM queue_controls WHERE mode = 'draining'))"
                " FROM " OUTCOME_OPEN_JOBS,
                pg_integer(LATE_S)));
    json_begin_object(&report->json, "jobs");
    buf_add_text(&report->people, "\njobs:");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char number[OUTPUT_SHORT];
        output_number(pg_get_integer(pg, 0, i), number);
        json_put_integer(&report->json, names[i], pg_get_integer(pg, 0, i));
        buf_printf(&report->people, "%s %s %s%s", i > 0 ? "," : "", number, names[i], explained[i]);
    }
    json_end_object(&report->json);
    buf_add_text(&report->people, "\n");
    int64_t late = pg_get_integer(pg, 0, ARRAY_LEN(names));
    if (late > 0)
        note(&report->attention, late, "job is due and has not reached Redis",
             "jobs are due and have not reached Redis", "is whopline-scheduler running?");
    return ERR_NONE;
}

/* For people: the line of an attention row, with the command that shows it. */
static void note_attention(struct buf *lines, const char *what, const char *reason, int64_t count)
{
    static const struct {
        const char *one; /* as the query calls it */
        const char *several;
        const char *command;
    } kinds[] = {
        {"job parked", "jobs parked", "whopline jobs ls --state parked"},
        {"job dead", "jobs dead", "whopline jobs ls --state dead"},
        {"event quarantined", "events quarantined", "whopline events --status quarantined"},
        {"payment in review", "payments in review", "whopline credits review list"},
        {"schedule broken", "schedules broken", "whopline schedules ls"},
        {"call parked", "calls parked", "whopline outbound"},
        {"call unknown", "calls unknown", "whopline outbound"},
    };
    char number[OUTPUT_SHORT];
    output_number(count, number);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strcmp(kinds[i].one, what) == 0)
            buf_printf(lines, "%s %s (%s): %s\n", number, count == 1 ? what : kinds[i].several,
                       reason, kinds[i].command);
}

/* Rows of (what, reason, count), each of which an operator should look at. */
static struct err report_attention(struct report *report)
{
    struct pg *pg = report->cli->pg;
    TRY(pg_exec(
        pg,
        "SELECT 'job ' || state, reason, count(*) FROM jobs"
        " WHERE state IN ('parked', 'dead') GROUP BY 1, 2"
        " UNION ALL SELECT 'event quarantined', reason, count(*) FROM webhook_events"
        " WHERE status = 'quarantined' GROUP BY 1, 2"
        " UNION ALL SELECT 'payment in review', reason, count(*) FROM credit_review"
        " WHERE state = 'open' GROUP BY 1, 2"
        " UNION ALL SELECT 'schedule broken', name || ': ' || error, 1 FROM schedules"
        " WHERE enabled AND error IS NOT NULL"
        " UNION ALL SELECT 'call parked', parked, count(*) FROM outbound"
        " WHERE state NOT IN ('done', 'refused') AND parked IS NOT NULL GROUP BY 1, 2"
        /* Looking for one, or sending it again, is a matter of minutes. */
        " UNION ALL SELECT 'call unknown', operation, count(*) FROM outbound"
        " WHERE state NOT IN ('done', 'refused') AND parked IS NULL"
        " AND (state = 'unknown' OR (state = 'sending' AND sending_until <= whopline_now()))"
        " AND sending_since <= whopline_now() - interval '1 hour' GROUP BY 1, 2"
        " ORDER BY 1, 2",
        NULL, 0));
    json_begin_array(&report->json, "attention");
    for (size_t row = 0; row < pg_rows(pg); row++) {
        json_begin_object(&report->json, NULL);
        json_put_text(&report->json, "what", pg_get(pg, row, 0));
        json_put_text(&report->json, "reason", pg_get(pg, row, 1));
        json_put_integer(&report->json, "count", pg_get_integer(pg, row, 2));
        json_end_object(&report->json);
        note_attention(&report->attention, pg_get(pg, row, 0), pg_get(pg, row, 1),
                       pg_get_integer(pg, row, 2));
    }
    json_end_array(&report->json);
    return ERR_NONE;
}

/* Queues somebody holds. */
static struct err report_held(struct report *report)
{
    struct pg *pg = report->cli->pg;
    TRY(pg_exec(pg,
                "SELECT queue, mode, reason, actor,"
                " extract(epoch FROM whopline_now() - since)::bigint"
                " FROM queue_controls ORDER BY queue",
                NULL, 0));
    json_begin_array(&report->json, "held");
    for (size_t row = 0; row < pg_rows(pg); row++) {
        char age[OUTPUT_SHORT];
        output_age(pg_get_integer(pg, row, 4), age);
        json_begin_object(&report->json, NULL);
        json_put_text(&report->json, "queue", pg_get(pg, row, 0));
        json_put_text(&report->json, "mode", pg_get(pg, row, 1));
        json_put_text(&report->json, "reason", pg_get(pg, row, 2));
        json_put_text(&report->json, "actor", pg_get(pg, row, 3));
        json_put_integer(&report->json, "since_s", pg_get_integer(pg, row, 4));
        json_end_object(&report->json);
        buf_printf(&report->attention,
                   "queue %s is %s since %s by %s (%s): whopline queue resume %s\n",
                   pg_get(pg, row, 0), pg_get(pg, row, 1), age, pg_get(pg, row, 3),
                   pg_get(pg, row, 2), pg_get(pg, row, 0));
    }
    json_end_array(&report->json);
    return ERR_NONE;
}

static struct err report_schema(struct report *report)
{
    struct migrate_status status;
    TRY(migrate_inspect(report->cli->pg, &status));
    json_put_text(&report->json, "schema", status.last);
    buf_printf(&report->people, "PostgreSQL  ok, schema %s%s\n", status.last,
               status.newer > 0 ? ", newer than this program" : "");
    return migrate_check(report->cli->pg);
}

static struct err try_postgresql(struct report *report)
{
    TRY(cli_open_database(report->cli));
    TRY(report_schema(report));
    TRY(report_tenants(report));
    TRY(report_jobs(report));
    TRY(report_held(report));
    return report_attention(report);
}

/* --- Redis ----------------------------------------------------------------------------------- */

/* Age of the oldest entry in seconds by Redis' clock, -1 if there is none. */
static struct err ask_oldest(struct redis *redis, const char *key, int64_t now_ms, int64_t *out)
{
    struct redis_reply *reply = NULL;
    TRY(ASK(redis, &reply, "XRANGE", key, "-", "+", "COUNT", "1"));
    int64_t ms = ask_entry_ms(redis_reply_text(redis_reply_at(redis_reply_at(reply, 0), 0)));
    redis_reply_free(reply);
    *out = ms > 0 ? (now_ms - ms) / 1000 : -1;
    return ERR_NONE;
}

static struct err report_queue(struct report *report, enum queue_name queue, int64_t now_ms,
                               struct table *table)
{
    const char *prefix = report->cli->config.stream_prefix;
    struct redis *redis = report->cli->redis;
    struct ask_queue numbers;
    char key[KEY_MAX];
    char age[OUTPUT_SHORT] = "";
    int64_t oldest_s;
    key_stream(prefix, queue, key);
    TRY(ask_queue(redis, prefix, queue, &numbers));
    TRY(ask_oldest(redis, key, now_ms, &oldest_s));
    if (oldest_s >= 0)
        output_age(oldest_s, age);
    if (oldest_s > LATE_S)
        buf_printf(&report->attention, "the oldest of queue %s has been there for %s: %s\n",
                   queue_text(queue), age,
                   numbers.pending > 0 ? "is its worker stuck? (whopline workers)"
                                       : "is its worker running? (whopline workers)");
    json_begin_object(&report->json, NULL);
    json_put_text(&report->json, "queue", queue_text(queue));
    json_put_integer(&report->json, "waiting", numbers.ready);
    json_put_integer(&report->json, "running", numbers.pending);
    json_put_integer(&report->json, "delayed", numbers.delayed);
    if (oldest_s >= 0)
        json_put_integer(&report->json, "oldest_s", oldest_s);
    json_end_object(&report->json);
    table_add(table, queue_text(queue));
    table_printf(table, "%lld", (long long)numbers.ready);
    table_printf(table, "%lld", (long long)numbers.pending);
    table_printf(table, "%lld", (long long)numbers.delayed);
    table_add(table, age);
    return ERR_NONE;
}

static struct err report_queues(struct report *report)
{
    static const char *const heads[] = {"QUEUE", ">WAITING", ">RUNNING", ">DELAYED", "OLDEST"};
    struct table table;
    struct err err = ERR_NONE;
    int64_t now_ms = 0;
    TRY(ask_time_ms(report->cli->redis, &now_ms));
    table_init(&table, heads, ARRAY_LEN(heads));
    json_begin_array(&report->json, "queues");
    for (int queue = 0; queue < QUEUE_COUNT && !err_failed(&err); queue++)
        err = report_queue(report, (enum queue_name)queue, now_ms, &table);
    json_end_array(&report->json);
    if (!err_failed(&err)) {
        buf_add_text(&report->people, "\n");
        table_write(&table, "", &report->people);
    }
    buf_close(&table.text);
    return err;
}

static struct err try_redis(struct report *report)
{
    char key[KEY_MAX];
    char number[OUTPUT_SHORT];
    int64_t dead = 0;
    int64_t keys = 0;
    struct redis *redis;
    TRY(cli_open_redis(report->cli));
    redis = report->cli->redis;
    TRY(ask_integer(redis, "DBSIZE", NULL, &keys));
    json_put_integer(&report->json, "keys", keys);
    output_number(keys, number);
    buf_printf(&report->people,
               "Redis       ok, %s keys (nearly all of them remembered event ids)\n", number);
    TRY(report_queues(report));
    key_events_dead(report->cli->config.stream_prefix, key);
    TRY(ask_integer(redis, "XLEN", key, &dead));
    json_put_integer(&report->json, "dead_events", dead);
    if (dead > 0)
        note(&report->broken, dead, "dead event in Redis, which could not be journalled",
             "dead events in Redis, which could not be journalled", "whopline events dead");
    return ERR_NONE;
}

/* --- together -------------------------------------------------------------------------------- */

/* Asks one store. What it said so far counts only if it said all: a store that breaks off is
 * reported as broken, and the other is asked all the same. */
static void report_store(struct report *report, const char *key, const char *label,
                         struct err (*try_it)(struct report *))
{
    struct buf inside = {0};
    json_begin_object(&report->json, key);
    struct json_writer outer = report->json;
    report->json = (struct json_writer){.out = &inside};
    struct err err = try_it(report);
    report->json = outer;
    json_put_flag(&report->json, "ok", !err_failed(&err));
    if (err_failed(&err)) {
        json_put_text(&report->json, "error", err_text(&err));
        buf_printf(&report->people, "%-11s %s\n", label, err_text(&err));
        buf_printf(&report->broken, "%s\n", err_text(&err));
    } else {
        buf_add_text(report->json.out, ",");
        buf_add(report->json.out, inside.ptr, inside.len);
    }
    json_end_object(&report->json);
    buf_close(&inside);
}

static void report_stores(struct report *report)
{
    report_store(report, "postgresql", "PostgreSQL", try_postgresql);
    buf_add_text(&report->people, "\n");
    report_store(report, "redis", "Redis", try_redis);
}

static void add_lines(struct buf *out, const char *lines, enum output_tone tone, const char *label)
{
    while (*lines != '\0') {
        size_t len = strcspn(lines, "\n");
        char *line = mem_alloc(len + 1);
        memcpy(line, lines, len);
        line[len] = '\0';
        buf_printf(out, "%s%s%s ", output_on(tone), label, output_off());
        output_add_clean(out, line);
        buf_add_text(out, "\n");
        free(line);
        lines += len + 1;
    }
}

static int finish(struct report *report, bool json)
{
    static const char *const words[] = {"fine", "attention", "broken"};
    int status = report->broken.len > 0 ? 2 : report->attention.len > 0 ? 1 : 0;
    json_put_text(&report->json, "status", words[status]);
    json_end_object(&report->json);
    buf_add_text(&report->people, "\n");
    add_lines(&report->people, buf_text(&report->broken), OUTPUT_BAD, "broken:");
    add_lines(&report->people, buf_text(&report->attention), OUTPUT_WARNING, "attention:");
    if (status == 0)
        buf_printf(&report->people, "%sfine%s\n", output_on(OUTPUT_GOOD), output_off());
    if (json)
        printf("%s\n", buf_text(&report->json_text));
    else
        fputs(buf_text(&report->people), stdout);
    return status;
}

static int run(struct cli *cli, int count, char **words)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    bool json = false;
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option != 'j')
            return CLI_USAGE;
        json = true;
    }
    if (optind < count)
        return cli_usage(words[0], "it takes no arguments");
    struct report report = {.cli = cli};
    report.json = (struct json_writer){.out = &report.json_text};
    json_begin_object(&report.json, NULL);
    report_stores(&report);
    int status = finish(&report, json);
    buf_close(&report.json_text);
    buf_close(&report.people);
    buf_close(&report.attention);
    buf_close(&report.broken);
    return status;
}

const struct cli_command command_status = {
    .name = "status",
    .usage = "[--json]",
    .purpose = "is it receiving, is it keeping up, does something need you",
    .help = "Exit status, for monitors: 0 fine; 1 something needs attention (parked or dead jobs,\n"
            "held queues, quarantined events, payments in review, calls parked or unknown); 2 "
            "broken (a store cannot be "
            "reached, the\n"
            "schema is not ours, events that could not be journalled).\n",
    .run = run,
};
