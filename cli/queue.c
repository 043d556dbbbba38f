/* whopline queue: what each queue holds, and holding one by hand. */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/queue_list.h"
#include "service/controls.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    DRAIN_LOOK_MS = 250,
    DRAIN_DEFAULT_S = 60,
    DRAIN_MAX_S = 7 * 24 * 3600,
    MS_PER_S = 1000,
};

struct options {
    const char *reason;
    const char *actor;
    int64_t timeout_s;
    bool json;
};

/* --- changing -------------------------------------------------------------------------------- */

/* Redis' copy follows the truth; without Redis the scheduler sees to it later. */
static void copy_to_redis(struct cli *cli)
{
    struct err err = cli_open_redis(cli);
    if (!err_failed(&err))
        err = controls_copy(cli->pg, cli->redis, cli->config.stream_prefix);
    if (err_failed(&err))
        fprintf(stderr,
                "whopline: written down in PostgreSQL, but Redis has not been told (%s): the"
                " scheduler brings it over within a second of Redis being back\n",
                err_text(&err));
}

static void print_held(struct cli *cli, enum queue_name queue)
{
    struct err err = PG_EXEC(cli->pg,
                             "SELECT mode, actor, reason,"
                             " extract(epoch FROM whopline_now() - since)::bigint"
                             " FROM queue_controls WHERE queue = $1",
                             pg_text(queue_text(queue)));
    if (err_failed(&err) || pg_rows(cli->pg) == 0)
        return;
    struct buf line = {0};
    char age[OUTPUT_SHORT];
    output_age(pg_get_integer(cli->pg, 0, 3), age);
    output_add_clean(&line, pg_get(cli->pg, 0, 1));
    buf_add_text(&line, ": ");
    output_add_clean(&line, pg_get(cli->pg, 0, 2));
    printf("%s was %s already, for %s, by %s; that stands\n", queue_text(queue),
           pg_get(cli->pg, 0, 0), age, buf_text(&line));
    buf_close(&line);
}

static struct err change(struct cli *cli, enum queue_name queue, enum queue_mode mode,
                         const struct options *options, bool *changed)
{
    const char *reason = options->reason != NULL ? options->reason : "";
    TRY(cli_open_database(cli));
    TRY(controls_set(cli->pg, queue, mode, cli_actor(cli, options->actor), reason, changed));
    copy_to_redis(cli);
    return ERR_NONE;
}

static struct err pause_queue(struct cli *cli, enum queue_name queue, const struct options *options)
{
    bool changed;
    TRY(change(cli, queue, QUEUE_MODE_PAUSED, options, &changed));
    if (!changed)
        print_held(cli, queue);
    else
        printf("%s is paused: within a second its workers take no more; what runs ends, what waits "
               "stays"
               " where it is\n",
               queue_text(queue));
    return ERR_NONE;
}

static struct err resume_queue(struct cli *cli, enum queue_name queue,
                               const struct options *options)
{
    bool changed;
    TRY(change(cli, queue, QUEUE_MODE_OPEN, options, &changed));
    printf(changed ? "%s is open again\n" : "%s was not held\n", queue_text(queue));
    return ERR_NONE;
}

/* --- draining -------------------------------------------------------------------------------- */

static void pause_ms(int64_t ms)
{
    const struct timespec time = {.tv_sec = ms / MS_PER_S,
                                  .tv_nsec = (long)(ms % MS_PER_S) * 1000000L};
    nanosleep(&time, NULL);
}

static int64_t left_in(const struct ask_queue *numbers)
{
    return numbers->ready + numbers->pending + numbers->delayed;
}

/* One line for each change, so that a log of it reads as well as a terminal. */
static void print_progress(const struct ask_queue *numbers, const struct ask_queue *before)
{
    if (numbers->ready != before->ready || numbers->pending != before->pending ||
        numbers->delayed != before->delayed)
        fprintf(stderr, "left: %lld ready, %lld running, %lld put off\n", (long long)numbers->ready,
                (long long)numbers->pending, (long long)numbers->delayed);
}

/* Until nothing is left, or the time is over: then *left says how much was. */
static struct err wait_empty(struct cli *cli, enum queue_name queue, int64_t timeout_s,
                             int64_t *left)
{
    struct ask_queue before = {.ready = -1};
    struct ask_queue numbers = {0};
    int64_t until = clock_mono_ms() + timeout_s * MS_PER_S;
    for (;;) {
        struct err err = cli_open_redis(cli);
        if (!err_failed(&err))
            err = ask_queue(cli->redis, cli->config.stream_prefix, queue, &numbers);
        *left = err_failed(&err) ? -1 : left_in(&numbers);
        if (*left > 0)
            print_progress(&numbers, &before);
        if (*left == 0 || clock_mono_ms() >= until || err.code == ERR_CONFIG)
            return err;
        before = numbers;
        pause_ms(DRAIN_LOOK_MS);
    }
}

static struct err drain_queue(struct cli *cli, enum queue_name queue, const struct options *options)
{
    bool changed;
    int64_t left = 0;
    const char *name = queue_text(queue);
    TRY(change(cli, queue, QUEUE_MODE_DRAINING, options, &changed));
    if (!changed)
        print_held(cli, queue);
    if (queue == QUEUE_events)
        printf("events: webhooks go on being accepted, so this waits for a moment at which all of"
               " them are journalled\n");
    else
        printf("%s is draining: new jobs wait in PostgreSQL, workers finish what is in Redis\n",
               name);
    fflush(stdout);
    TRY(wait_empty(cli, queue, options->timeout_s, &left));
    if (left != 0)
        return err_make(ERR_REFUSED,
                        "%s is not empty after %lld s, %lld left; it stays draining: run this"
                        " again, or see whopline workers and whopline queue ls",
                        name, (long long)options->timeout_s, (long long)left);
    printf("%s is empty, and stays closed until whopline queue resume %s\n", name, name);
    return ERR_NONE;
}

/* --- words ----------------------------------------------------------------------------------- */

static const struct verb {
    const char *name;
    bool needs_reason;
    struct err (*act)(struct cli *cli, enum queue_name queue, const struct options *options);
} verbs[] = {
    {"pause", true, pause_queue},
    {"resume", false, resume_queue},
    {"drain", true, drain_queue},
};

static int parse(struct options *options, int count, char **words)
{
    static const struct option long_options[] = {
        {"reason", required_argument, NULL, 'r'},
        {"actor", required_argument, NULL, 'a'},
        {"timeout", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option;
    *options = (struct options){.timeout_s = DRAIN_DEFAULT_S};
    while ((option = getopt_long(count, words, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'r': options->reason = optarg; break;
        case 'a': options->actor = optarg; break;
        case 'j': options->json = true; break;
        case 't':
            if (!cli_parse_number(optarg, 0, DRAIN_MAX_S, &options->timeout_s))
                return cli_usage(words[0], "--timeout takes 0 to %d seconds", DRAIN_MAX_S);
            break;
        default: return CLI_USAGE;
        }
    }
    return CLI_OK;
}

static int unknown_queue(const char *words0, const char *typed)
{
    const char *names[QUEUE_COUNT];
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        names[queue] = queue_text((enum queue_name)queue);
    const char *nearest = cli_nearest(typed, names, QUEUE_COUNT);
    if (nearest != NULL)
        return cli_usage(words0, "there is no queue \"%.60s\"; did you mean \"%s\"", typed,
                         nearest);
    return cli_usage(words0, "there is no queue \"%.60s\"", typed);
}

static int act(struct cli *cli, const struct verb *verb, const char *typed,
               const struct options *options, const char *words0)
{
    enum queue_name queue;
    if (!queue_name_find(typed, &queue))
        return unknown_queue(words0, typed);
    if (verb->needs_reason && (options->reason == NULL || options->reason[0] == '\0'))
        return cli_usage(words0, "%s needs --reason: whoever comes next wants to know", verb->name);
    struct err err = verb->act(cli, queue, options);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

static int run(struct cli *cli, int count, char **words)
{
    struct options options;
    int status = parse(&options, count, words);
    if (status != CLI_OK)
        return status;
    const char *name = optind < count ? words[optind] : "ls";
    if ((strcmp(name, "ls") == 0 || strcmp(name, "list") == 0) && optind + 1 >= count)
        return queue_list(cli, options.json);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(name, verbs[i].name) == 0 && optind + 2 == count)
            return act(cli, &verbs[i], words[optind + 1], &options, words[0]);
    return cli_usage(words[0], "ls, or pause, resume or drain with one queue, please");
}

const struct cli_command command_queue = {
    .name = "queue",
    .usage = "[ls] [--json] | pause Q --reason R | resume Q | drain Q --reason R",
    .purpose = "what each queue holds; pause, drain and resume one",
    .help =
        "ls: of each queue what is in Redis (READY for a worker, RUNNING, DELAYED until later;\n"
        "OLDEST: how long the oldest ready one has waited; IDLE: how long the most silent running\n"
        "one's lease was not prolonged) and in PostgreSQL (QUEUED in all; of those UNRELAYED, not\n"
        "given to Redis yet, and BULK, waiting their turn; PARKED and DEAD)\n"
        "  pause Q     within a second workers take no more of its jobs; running ones end, the "
        "rest waits in "
        "Redis\n"
        "  drain Q     nothing more is put into Redis, workers finish what is there; waits for it\n"
        "  resume Q    ends both\n"
        "  --reason R  why; kept, shown by ls and status\n"
        "  --timeout S drain: how long to wait until it is empty [60]; exit 1 if it is not\n"
        "  --actor A   who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n"
        "Asked twice, nothing happens twice. Without Redis, pause and resume are written down and\n"
        "brought over by the scheduler.\n",
    .run = run,
};
