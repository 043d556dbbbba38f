#include "cli/events_dead.h"

#include "cli/ask.h"
#include "cli/output.h"
#include "cli/payload.h"
#include "service/audit.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { ENTRIES_MAX = 100000 };

struct options {
    char **named; /* entries' or events' ids */
    size_t named_count;
    const char *reason;
    const char *actor;
    bool all;
    bool body;
    bool yes;
    bool json;
};

/* All of the dead stream that is meant, in memory: it is meant to be empty. */
struct dead_list {
    const struct options *options;
    struct job **jobs;
    size_t count;
    bool cut; /* at ENTRIES_MAX */
};

/* --- which ----------------------------------------------------------------------------------- */

static bool is_named(const struct options *options, const struct job *job)
{
    for (size_t i = 0; i < options->named_count; i++)
        if (strcmp(options->named[i], job->entry) == 0 || strcmp(options->named[i], job->id) == 0)
            return true;
    return options->named_count == 0;
}

static bool keep(struct job *job, void *data)
{
    struct dead_list *list = data;
    if (!is_named(list->options, job)) {
        job_free(job);
        return true;
    }
    list->jobs = mem_realloc(list->jobs, (list->count + 1) * sizeof(struct job *));
    list->jobs[list->count++] = job;
    list->cut = list->count == ENTRIES_MAX;
    return !list->cut;
}

static struct err read_list(struct cli *cli, struct dead_list *list)
{
    char key[KEY_MAX];
    key_events_dead(cli->config.stream_prefix, key);
    TRY(cli_open_redis(cli));
    TRY(ask_each_entry(cli->redis, key, "-", keep, list));
    for (size_t i = 0; i < list->options->named_count; i++) {
        bool found = false;
        for (size_t k = 0; k < list->count && !found; k++)
            found = strcmp(list->options->named[i], list->jobs[k]->entry) == 0 ||
                    strcmp(list->options->named[i], list->jobs[k]->id) == 0;
        if (!found)
            return err_make(ERR_NOT_FOUND, "no dead event %.80s; see whopline events dead",
                            list->options->named[i]);
    }
    return ERR_NONE;
}

static void close_list(struct dead_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        job_free(list->jobs[i]);
    free(list->jobs);
}

static const char *reason_of(const struct job *job)
{
    return job->reason != NULL ? job->reason : "";
}

/* --- looking --------------------------------------------------------------------------------- */

static void put_job(struct json_writer *json, const struct job *job, bool all)
{
    json_begin_object(json, NULL);
    json_put_text(json, "entry", job->entry);
    json_put_integer(json, "died_ms", ask_entry_ms(span_of(job->entry)));
    json_put_text(json, "id", job->id);
    json_put_text(json, "kind", job->kind);
    json_put_text(json, "reason", reason_of(job));
    json_put_text(json, "key", job->key);
    json_put_text(json, "trace", job->trace);
    json_put_integer(json, "version", job->version);
    json_put_integer(json, "enqueued_ms", job->enqueued_ms);
    json_put_integer(json, "body_bytes", (int64_t)job->body.len);
    if (all) {
        payload_put_json(json, job->kind, job->version, job->payload);
        payload_put_base64(json, "body_base64", job->body);
    }
    json_end_object(json);
}

static struct err print_json(const struct dead_list *list, bool all)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    json_begin_array(&json, NULL);
    for (size_t i = 0; i < list->count; i++)
        put_job(&json, list->jobs[i], all);
    json_end_array(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
    return ERR_NONE;
}

static void print_table(const struct dead_list *list)
{
    static const char *const heads[] = {"ENTRY", "EVENT", "KIND", "REASON", ">BYTES"};
    struct table table;
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t i = 0; i < list->count; i++) {
        const struct job *job = list->jobs[i];
        table_add(&table, job->entry);
        table_add_short(&table, job->id);
        table_add(&table, job->kind);
        table_add(&table, reason_of(job));
        table_printf(&table, "%zu", job->body.len + job->payload.len);
    }
    table_print(&table, "");
    if (list->cut)
        printf("the oldest %d\n", ENTRIES_MAX);
}

static struct err show_list(struct cli *cli, struct dead_list *list)
{
    (void)cli;
    if (list->options->json)
        return print_json(list, false);
    if (list->count == 0)
        printf("no event is dead\n");
    else
        print_table(list);
    return ERR_NONE;
}

static struct err show_one(struct cli *cli, struct dead_list *list)
{
    struct table table;
    if (list->options->named_count != 1)
        return err_make(ERR_USAGE, "show needs one entry of whopline events dead");
    if (list->options->json)
        return print_json(list, true);
    for (size_t i = 0; i < list->count; i++) {
        const struct job *job = list->jobs[i];
        table_init(&table, NULL, 2);
        table_add(&table, "entry");
        table_add(&table, job->entry);
        table_add(&table, "event");
        table_add(&table, job->id);
        table_add(&table, "kind");
        table_add(&table, job->kind);
        table_add(&table, "reason");
        table_add(&table, reason_of(job));
        table_add(&table, "body");
        table_printf(&table, "%zu bytes", job->body.len);
        payload_add_rows(&table, job->kind, job->version, job->payload);
        table_print(&table, "");
        if (list->options->body) {
            printf("\n");
            fwrite(job->body.ptr, 1, job->body.len, stdout);
            printf("\n");
        }
    }
    (void)cli;
    return ERR_NONE;
}

/* --- changing -------------------------------------------------------------------------------- */

/* Where an entry of that kind came from: an unknown one can only have been an event. */
static enum queue_name queue_of(const struct job *job)
{
    enum job_kind kind;
    return job_kind_find(span_of(job->kind), &kind) ? job_type(kind)->queue : QUEUE_events;
}

/* What is dropped is not lost: its bytes are in the log. */
static void write_detail(const struct job *job, bool drops, struct buf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    json_put_text(&json, "entry", job->entry);
    json_put_text(&json, "kind", job->kind);
    json_put_text(&json, "died_of", reason_of(job));
    if (drops) {
        json_put_integer(&json, "version", job->version);
        json_put_integer(&json, "enqueued_ms", job->enqueued_ms);
        payload_put_base64(&json, "payload_base64", job->payload);
        payload_put_base64(&json, "body_base64", job->body);
    }
    json_end_object(&json);
}

/* The log first: a deed that did not come about may be in it, one that did is never missing. */
static struct err change_one(struct cli *cli, const struct options *options, const struct job *job,
                             bool drops, int64_t *changed)
{
    char dead[KEY_MAX];
    char stream[KEY_MAX];
    struct buf detail = {0};
    int64_t moved = 0;
    key_events_dead(cli->config.stream_prefix, dead);
    key_stream(cli->config.stream_prefix, queue_of(job), stream);
    write_detail(job, drops, &detail);
    const struct audit audit = {.actor = cli_actor(cli, options->actor),
                                .action = drops ? "events.drop" : "events.requeue",
                                .target = job->id,
                                .reason = options->reason != NULL ? options->reason : "",
                                .detail = buf_text(&detail)};
    const struct span args[] = {span_of(dead), span_of(stream), span_of(job->entry),
                                drops ? SPAN("0") : SPAN("1")};
    struct err err = pg_begin(cli->pg);
    if (!err_failed(&err))
        err = audit_add(cli->pg, &audit);
    if (!err_failed(&err))
        err = pg_commit(cli->pg);
    pg_rollback(cli->pg);
    if (!err_failed(&err))
        err = ask_script(cli->redis, SCRIPT_REVIVE, 2, args, ARRAY_LEN(args), &moved);
    *changed += moved;
    buf_close(&detail);
    return err;
}

static struct err change(struct cli *cli, struct dead_list *list, bool drops)
{
    const struct options *options = list->options;
    const char *name = drops ? "drop" : "requeue";
    int64_t changed = 0;
    if (options->named_count == 0 && !options->all)
        return err_make(ERR_USAGE, "%s needs entries of whopline events dead, or --all", name);
    if (drops && (options->reason == NULL || options->reason[0] == '\0'))
        return err_make(ERR_USAGE,
                        "drop needs --reason: whoever finds it in the log wants to know");
    if (list->count == 0) {
        printf("no event is dead: nothing to do\n");
        return ERR_NONE;
    }
    printf("%s%s %zu:\n", options->yes ? "" : "would ", name, list->count);
    print_table(list);
    if (!options->yes) {
        printf("nothing has been changed; --yes does it\n");
        return ERR_NONE;
    }
    TRY(cli_open_database(cli));
    for (size_t i = 0; i < list->count; i++)
        TRY(change_one(cli, options, list->jobs[i], drops, &changed));
    printf("%s %lld of %zu\n", drops ? "dropped" : "requeued", (long long)changed, list->count);
    return ERR_NONE;
}

static struct err requeue(struct cli *cli, struct dead_list *list)
{
    return change(cli, list, false);
}

static struct err drop(struct cli *cli, struct dead_list *list)
{
    return change(cli, list, true);
}

/* --- words ----------------------------------------------------------------------------------- */

static const struct verb {
    const char *name;
    struct err (*act)(struct cli *cli, struct dead_list *list);
} verbs[] = {{"list", show_list},
             {"ls", show_list},
             {"show", show_one},
             {"requeue", requeue},
             {"drop", drop}};

static int parse(struct options *options, int count, char **words)
{
    static const struct option long_options[] = {
        {"reason", required_argument, NULL, 'r'},
        {"actor", required_argument, NULL, 'a'},
        {"all", no_argument, NULL, 'A'},
        {"body", no_argument, NULL, 'b'},
        {"yes", no_argument, NULL, 'y'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(count, words, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'r': options->reason = optarg; break;
        case 'a': options->actor = optarg; break;
        case 'A': options->all = true; break;
        case 'b': options->body = true; break;
        case 'y': options->yes = true; break;
        case 'j': options->json = true; break;
        default: return CLI_USAGE;
        }
    }
    return CLI_OK;
}

int events_dead(struct cli *cli, int count, char **words)
{
    struct options options = {0};
    int status = parse(&options, count, words);
    if (status != CLI_OK)
        return status;
    const struct verb *verb = optind < count ? NULL : &verbs[0];
    for (size_t i = 0; i < ARRAY_LEN(verbs) && verb == NULL; i++)
        if (strcmp(words[optind], verbs[i].name) == 0)
            verb = &verbs[i];
    if (verb == NULL)
        return cli_usage(words[0], "dead \"%.40s\" is none of list, show, requeue, drop",
                         words[optind]);
    if (optind < count) {
        options.named = words + optind + 1;
        options.named_count = (size_t)(count - optind - 1);
    }
    struct dead_list list = {.options = &options};
    struct err err = read_list(cli, &list);
    if (!err_failed(&err))
        err = verb->act(cli, &list);
    close_list(&list);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}
