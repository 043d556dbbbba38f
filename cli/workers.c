/* whopline workers: which processes work, at what, and which have fallen silent. */
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/worker_list.h"
#include "codec/json.h"

#include <getopt.h>
#include <stdio.h>

/* It holds jobs and nobody has heard of it for longer than a lease: others take them over. */
static bool is_lost(const struct cli *cli, const struct worker_list *view,
                    const struct worker_seen *worker)
{
    return worker->pending > 0 && worker_list_silent_ms(view, worker) > cli->config.lease_ms;
}

/* It says nothing any more, or never did: a process that has ended. */
static bool is_gone(const struct cli *cli, const struct worker_list *view,
                    const struct worker_seen *worker)
{
    return !worker->reports && worker_list_silent_ms(view, worker) > cli->config.lease_ms;
}

static const char *state_of(const struct cli *cli, const struct worker_list *view,
                            const struct worker_seen *worker)
{
    if (is_lost(cli, view, worker))
        return "lost";
    if (is_gone(cli, view, worker))
        return "gone";
    return worker->fields[WORKER_FIELD_STATE];
}

/* --- for programs ---------------------------------------------------------------------------- */

static bool is_number(enum worker_field field)
{
    switch (field) {
    case WORKER_FIELD_PID:
    case WORKER_FIELD_SLOTS:
    case WORKER_FIELD_BUSY:
    case WORKER_FIELD_READY:
    case WORKER_FIELD_UNSETTLED:
    case WORKER_FIELD_STARTED_MS:
    case WORKER_FIELD_DONE:
    case WORKER_FIELD_FAILED:
    case WORKER_FIELD_LAST_READ_MS:
    case WORKER_FIELD_LAST_BEAT_MS: return true;
    default: return false;
    }
}

static void print_json(const struct cli *cli, const struct worker_list *view)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    json_begin_array(&json, NULL);
    for (size_t i = 0; i < view->count; i++) {
        const struct worker_seen *worker = &view->workers[i];
        json_begin_object(&json, NULL);
        json_put_text(&json, "name", worker->name);
        for (size_t f = 0; f < WORKER_FIELD_COUNT; f++) {
            enum worker_field field = (enum worker_field)f;
            const char *value = worker->fields[f];
            int64_t number;
            if (value[0] == '\0' || field == WORKER_FIELD_QUEUE || field == WORKER_FIELD_STATE)
                continue;
            if (is_number(field) && cli_parse_number(value, INT64_MIN, INT64_MAX, &number))
                json_put_integer(&json, worker_list_field_name(field), number);
            else
                json_put_text(&json, worker_list_field_name(field), value);
        }
        json_put_text(&json, "queue", worker_list_queue(worker));
        json_put_text(&json, "state", state_of(cli, view, worker));
        json_put_integer(&json, "pending", worker->pending);
        if (worker->consumes)
            json_put_integer(&json, "idle_ms", worker->idle_ms);
        json_put_integer(&json, "silent_ms", worker_list_silent_ms(view, worker));
        json_put_flag(&json, "lost", is_lost(cli, view, worker));
        json_end_object(&json);
    }
    json_end_array(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

/* --- for people ------------------------------------------------------------------------------ */

/* host:pid, without the uuid that makes a consumer's name unique. */
static void add_short_name(struct table *table, const char *name)
{
    const char *last = strrchr(name, ':');
    size_t len =
        last != NULL && strlen(last) == UUID_TEXT_SIZE ? (size_t)(last - name) : strlen(name);
    table_printf(table, "%.*s", (int)len, name);
}

static void add_age(struct table *table, int64_t ms)
{
    char age[OUTPUT_SHORT];
    output_age(ms / 1000, age);
    table_add(table, ms < 0 || ms == INT64_MAX ? "" : age);
}

static void print_table(const struct cli *cli, const struct worker_list *view)
{
    static const char *const heads[] = {"WORKER", "PROGRAM",  "QUEUE",  "STATE",
                                        "BUSY",   ">HOLDS",   ">DONE",  ">FAILED",
                                        "UP",     "HEARD OF", "VERSION"};
    struct table table;
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t i = 0; i < view->count; i++) {
        const struct worker_seen *worker = &view->workers[i];
        int64_t started_ms = 0;
        bool told =
            cli_parse_number(worker->fields[WORKER_FIELD_STARTED_MS], 1, INT64_MAX, &started_ms);
        add_short_name(&table, worker->name);
        table_add(&table, worker->fields[WORKER_FIELD_PROGRAM]);
        table_add(&table, worker_list_queue(worker));
        table_add(&table, state_of(cli, view, worker));
        if (worker->fields[WORKER_FIELD_SLOTS][0] != '\0')
            table_printf(&table, "%s of %s", worker->fields[WORKER_FIELD_BUSY],
                         worker->fields[WORKER_FIELD_SLOTS]);
        else
            table_add(&table, "");
        table_printf(&table, "%lld", (long long)worker->pending);
        table_add(&table, worker->fields[WORKER_FIELD_DONE]);
        table_add(&table, worker->fields[WORKER_FIELD_FAILED]);
        add_age(&table, told ? view->now_ms - started_ms : -1);
        add_age(&table, worker_list_silent_ms(view, worker));
        table_add(&table, worker->fields[WORKER_FIELD_VERSION]);
    }
    table_print(&table, "");
}

static bool has_live_peer(const struct cli *cli, const struct worker_list *view,
                          const struct worker_seen *lost)
{
    for (size_t i = 0; i < view->count; i++) {
        const struct worker_seen *other = &view->workers[i];
        if (strcmp(worker_list_queue(other), worker_list_queue(lost)) == 0 &&
            worker_list_silent_ms(view, other) <= cli->config.lease_ms)
            return true;
    }
    return false;
}

static void print_notes(const struct cli *cli, const struct worker_list *view)
{
    for (size_t i = 0; i < view->count; i++) {
        const struct worker_seen *worker = &view->workers[i];
        struct buf line = {0};
        char age[OUTPUT_SHORT];
        if (!is_lost(cli, view, worker))
            continue;
        output_age(worker_list_silent_ms(view, worker) / 1000, age);
        buf_printf(&line,
                   "%s holds %lld of queue %s and has not been heard of for %s: ", worker->name,
                   (long long)worker->pending, worker_list_queue(worker), age);
        if (has_live_peer(cli, view, worker))
            buf_printf(&line, "another worker takes them over within %lld s",
                       (long long)(cli->config.lease_ms + 999) / 1000);
        else
            buf_add_text(&line, "no other worker of the queue is there to take them over: start "
                                "one");
        printf("%slost:%s ", output_on(OUTPUT_WARNING), output_off());
        struct buf clean = {0};
        output_add_clean(&clean, buf_text(&line));
        printf("%s\n", buf_text(&clean));
        buf_close(&clean);
        buf_close(&line);
    }
}

static int run(struct cli *cli, int count, char **words)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    struct worker_list view;
    bool json = false;
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option != 'j')
            return CLI_USAGE;
        json = true;
    }
    if (optind < count)
        return cli_usage(words[0], "it takes no arguments");
    struct err err = cli_open_redis(cli);
    if (!err_failed(&err))
        err = worker_list_read(cli->redis, cli->config.stream_prefix, &view);
    if (err_failed(&err))
        return cli_fail(&err);
    if (json)
        print_json(cli, &view);
    else if (view.count == 0)
        printf("no worker is or lately was there\n");
    else
        print_table(cli, &view);
    if (!json)
        print_notes(cli, &view);
    worker_list_close(&view);
    return CLI_OK;
}

const struct cli_command command_workers = {
    .name = "workers",
    .usage = "[--json]",
    .purpose = "the worker processes that are, or lately were",
    .help =
        "What each says of itself, and what it holds (HOLDS: jobs given to it and not done).\n"
        "STATE: checking, working, paused, isolating (a suspect runs alone), stopping; gone: it\n"
        "has ended; lost: it has fallen silent for longer than LEASE_MS while it holds jobs,\n"
        "which another worker of the queue takes over.\n",
    .run = run,
};
