/* whopline fsck: what is wrong between PostgreSQL and Redis, what mends it, and mending it. */
#include "cli/fsck.h"

#include "cli/output.h"
#include "codec/json.h"
#include "service/audit.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { MEND_CHUNK = 100, AUDIT_IDS_MAX = 100 };

struct options {
    const char *actor;
    const char *reason;
    bool repair;
    bool yes;
    bool json;
};

static const struct {
    const char *name;
    const char *what; /* behind the count */
    const char *mends;
    bool repairable;
} codes[FSCK_CODE_COUNT] = {
    [FSCK_OTHER_REDIS] = {"other_redis", "this is not the Redis that jobs were given to",
                          "the scheduler offers every queued job again within a second, if it runs",
                          false},
    [FSCK_LATE] = {"late", "jobs that are due for over a minute and not given to Redis",
                   "the scheduler offers them each second, if it runs and their queue is not"
                   " draining",
                   false},
    [FSCK_UNKNOWN_TO_REDIS] = {"unknown_to_redis", "queued jobs that Redis has lost",
                               "the scheduler, when they are older than RELAY_STALE_MS; at once:"
                               " whopline fsck --repair --yes",
                               true},
    [FSCK_NOWHERE] = {"nowhere", "queued jobs that Redis calls known and has nowhere",
                      "nothing by itself; whopline fsck --repair --yes", true},
    [FSCK_ENDED_ENTRY] =
        {"ended_entry", "entries in Redis whose job has ended or is not there",
         "a worker of the queue removes them when it comes to them, without effect", false},
    [FSCK_ENDED_SEEN] = {"ended_seen", "marks in Redis of jobs that have ended or are not there",
                         "nothing; each takes some 150 bytes and does no harm", false},
    [FSCK_DELAYED_WITHOUT_FIELDS] = {"delayed_without_fields",
                                     "jobs put off in Redis without their fields",
                                     "whopline fsck --repair --yes, and then their rows are offered"
                                     " again",
                                     true},
    [FSCK_FIELDS_WITHOUT_DELAY] = {"fields_without_delay", "jobs put off in Redis without a time",
                                   "whopline fsck --repair --yes makes them due now", true},
    [FSCK_PENDING_GONE] = {"pending_gone", "entries held by workers that are gone",
                           "another worker of the queue takes them over within a lease, if one"
                           " runs: whopline workers",
                           false},
    [FSCK_PENDING_WITHOUT_ENTRY] = {"pending_without_entry",
                                    "entries held by workers and deleted from the stream",
                                    "the next takeover drops them; their rows are found above",
                                    false},
    [FSCK_EVENT_WITHOUT_JOBS] = {"event_without_jobs",
                                 "routed events without the jobs they should have caused",
                                 "nothing by itself: whopline events show ID, and tell the"
                                 " maintainers how it came about",
                                 false},
};

/* --- findings -------------------------------------------------------------------------------- */

void fsck_found(struct fsck *fsck, enum fsck_code code, const char *sample)
{
    struct fsck_finding *finding = &fsck->findings[code];
    if (finding->count < FSCK_SAMPLES)
        buf_add_text(&finding->samples[finding->count], sample);
    finding->count++;
}

static struct err look(struct fsck *fsck)
{
    struct cli *cli = fsck->cli;
    TRY(cli_open_database(cli));
    TRY(cli_open_redis(cli));
    TRY(fsck_look_at_rows(fsck));
    TRY(fsck_look_at_delayed(fsck));
    TRY(fsck_look_at_pending(fsck));
    return fsck_look_at_jobs(fsck);
}

static bool is_clean(const struct fsck *fsck)
{
    for (size_t i = 0; i < FSCK_CODE_COUNT; i++)
        if (fsck->findings[i].count > 0)
            return false;
    return true;
}

/* --- saying ---------------------------------------------------------------------------------- */

static void print_people(struct fsck *fsck)
{
    struct buf out = {0};
    for (size_t i = 0; i < FSCK_CODE_COUNT; i++) {
        struct fsck_finding *finding = &fsck->findings[i];
        char number[OUTPUT_SHORT];
        if (finding->count == 0)
            continue;
        output_number(finding->count, number);
        buf_printf(&out, "%s%s%s: ", output_on(OUTPUT_WARNING), codes[i].name, output_off());
        if (i == FSCK_OTHER_REDIS)
            buf_printf(&out, "%s\n", codes[i].what);
        else
            buf_printf(&out, "%s %s\n", number, codes[i].what);
        for (size_t k = 0; k < FSCK_SAMPLES && (int64_t)k < finding->count; k++) {
            buf_add_text(&out, "  ");
            output_add_clean(&out, buf_text(&finding->samples[k]));
            buf_add_text(&out, "\n");
        }
        if (finding->count > FSCK_SAMPLES)
            buf_add_text(&out, "  ...\n");
        buf_printf(&out, "  mends: %s\n", codes[i].mends);
    }
    if (is_clean(fsck))
        buf_printf(&out, "%sclean%s\n", output_on(OUTPUT_GOOD), output_off());
    fputs(buf_text(&out), stdout);
    buf_close(&out);
}

static void put_findings(struct fsck *fsck, struct json_writer *json)
{
    json_begin_array(json, "findings");
    for (size_t i = 0; i < FSCK_CODE_COUNT; i++) {
        struct fsck_finding *finding = &fsck->findings[i];
        if (finding->count == 0)
            continue;
        json_begin_object(json, NULL);
        json_put_text(json, "code", codes[i].name);
        json_put_text(json, "what", codes[i].what);
        json_put_integer(json, "count", finding->count);
        json_put_text(json, "mends", codes[i].mends);
        json_put_flag(json, "repairable", codes[i].repairable);
        json_begin_array(json, "samples");
        for (size_t k = 0; k < FSCK_SAMPLES && (int64_t)k < finding->count; k++)
            json_put_text(json, NULL, buf_text(&finding->samples[k]));
        json_end_array(json);
        json_end_object(json);
    }
    json_end_array(json);
}

/* --- mending --------------------------------------------------------------------------------- */

static void write_detail(struct fsck *fsck, struct buf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    for (size_t i = 0; i < FSCK_CODE_COUNT; i++)
        if (codes[i].repairable)
            json_put_integer(&json, codes[i].name, fsck->findings[i].count);
    json_begin_array(&json, "jobs");
    for (size_t i = 0; i < fsck->lost_count && i < AUDIT_IDS_MAX; i++)
        json_put_text(&json, NULL, fsck->lost[i].id);
    json_end_array(&json);
    json_end_object(&json);
}

static struct err log_it(struct fsck *fsck, const struct options *options)
{
    struct pg *pg = fsck->cli->pg;
    struct buf detail = {0};
    write_detail(fsck, &detail);
    const struct audit audit = {.actor = cli_actor(fsck->cli, options->actor),
                                .action = "fsck.repair",
                                .target = "redis",
                                .reason = options->reason != NULL ? options->reason : "",
                                .detail = buf_text(&detail)};
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = audit_add(pg, &audit);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    buf_close(&detail);
    return err;
}

static struct err mend_torn(struct fsck *fsck, enum queue_name queue, int64_t *mended)
{
    const char *prefix = fsck->cli->config.stream_prefix;
    const struct fsck_ids *torn = &fsck->torn[queue];
    char delayed[KEY_MAX];
    char fields[KEY_MAX];
    char seen[KEY_MAX];
    key_delayed(prefix, queue, delayed);
    key_fields(prefix, queue, fields);
    key_seen_prefix(prefix, seen);
    for (size_t i = 0; i < torn->count; i += MEND_CHUNK) {
        struct span args[3 + MEND_CHUNK] = {span_of(delayed), span_of(fields), span_of(seen)};
        size_t count = torn->count - i < MEND_CHUNK ? torn->count - i : MEND_CHUNK;
        int64_t number = 0;
        for (size_t k = 0; k < count; k++)
            args[3 + k] = span_of(torn->texts[i + k]);
        TRY(ask_script(fsck->cli->redis, SCRIPT_MEND, 2, args, 3 + count, &number));
        *mended += number;
    }
    return ERR_NONE;
}

/* Redis forgets them first: an offer before that would be called a duplicate. */
static struct err forget(struct fsck *fsck)
{
    char prefix[KEY_MAX];
    key_seen_prefix(fsck->cli->config.stream_prefix, prefix);
    for (size_t i = 0; i < fsck->forget.count; i++) {
        struct buf key = {0};
        int64_t gone;
        buf_printf(&key, "%s%s", prefix, fsck->forget.texts[i]);
        struct err err = ask_integer(fsck->cli->redis, "DEL", buf_text(&key), &gone);
        buf_close(&key);
        if (err_failed(&err))
            return err;
    }
    return ERR_NONE;
}

static struct err repair(struct fsck *fsck, const struct options *options, int64_t *mended)
{
    TRY(log_it(fsck, options));
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        TRY(mend_torn(fsck, (enum queue_name)queue, mended));
    TRY(forget(fsck));
    for (size_t i = 0; i < fsck->lost_count; i += MEND_CHUNK) {
        size_t changed = 0;
        size_t left = fsck->lost_count - i;
        TRY(jobs_admin_unrelay(fsck->cli->pg, fsck->lost + i, left < MEND_CHUNK ? left : MEND_CHUNK,
                               &changed));
        *mended += (int64_t)changed;
    }
    return ERR_NONE;
}

static int64_t count_repairable(const struct fsck *fsck)
{
    int64_t count = 0;
    for (size_t i = 0; i < FSCK_CODE_COUNT; i++)
        if (codes[i].repairable)
            count += fsck->findings[i].count;
    return count;
}

/* --- together -------------------------------------------------------------------------------- */

static struct err look_and_mend(struct fsck *fsck, const struct options *options)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    int64_t mended = 0;
    TRY(look(fsck));
    if (!options->json)
        print_people(fsck);
    int64_t can = count_repairable(fsck);
    struct err err = ERR_NONE;
    if (options->repair && options->yes && can > 0)
        err = repair(fsck, options, &mended);
    if (options->json) {
        json_begin_object(&json, NULL);
        json_put_flag(&json, "clean", is_clean(fsck));
        put_findings(fsck, &json);
        json_put_integer(&json, "mended", mended);
        json_end_object(&json);
        printf("%s\n", buf_text(&out));
    } else if (options->repair && !options->yes) {
        printf("would mend %lld; nothing has been changed; --yes does it\n", (long long)can);
    } else if (options->repair) {
        printf("mended %lld of %lld\n", (long long)mended, (long long)can);
    }
    buf_close(&out);
    return err;
}

static void close_fsck(struct fsck *fsck)
{
    for (size_t i = 0; i < FSCK_CODE_COUNT; i++)
        for (size_t k = 0; k < FSCK_SAMPLES; k++)
            buf_close(&fsck->findings[i].samples[k]);
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        fsck_ids_close(&fsck->torn[i]);
    fsck_ids_close(&fsck->forget);
    free(fsck->lost);
}

static int run(struct cli *cli, int count, char **words)
{
    static const struct option long_options[] = {
        {"actor", required_argument, NULL, 'a'}, {"reason", required_argument, NULL, 'r'},
        {"repair", no_argument, NULL, 'R'},      {"yes", no_argument, NULL, 'y'},
        {"json", no_argument, NULL, 'j'},        {NULL, 0, NULL, 0}};
    struct options options = {0};
    int option;
    while ((option = getopt_long(count, words, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'a': options.actor = optarg; break;
        case 'r': options.reason = optarg; break;
        case 'R': options.repair = true; break;
        case 'y': options.yes = true; break;
        case 'j': options.json = true; break;
        default: return CLI_USAGE;
        }
    }
    if (optind < count)
        return cli_usage(words[0], "it takes no \"%.40s\"", words[optind]);
    if (options.yes && !options.repair)
        return cli_usage(words[0], "--yes goes with --repair");
    struct fsck fsck = {.cli = cli};
    struct err err = look_and_mend(&fsck, &options);
    bool clean = is_clean(&fsck);
    close_fsck(&fsck);
    if (err_failed(&err))
        return cli_fail(&err);
    return clean ? CLI_OK : CLI_FAILED;
}

const struct cli_command command_fsck = {
    .name = "fsck",
    .usage = "[--repair [--yes]] [--json]",
    .purpose = "do PostgreSQL and Redis agree? what mends it if not",
    .help =
        "Names what does not fit, with samples, and what mends it by itself and when, or which\n"
        "command does. Reads all of Redis' queues; safe while everything works. Exit status: 0\n"
        "clean, 1 findings (also those just mended).\n"
        "  --repair    what is safe: queued jobs that Redis has lost are offered again; halves of\n"
        "              put-off jobs are removed or made due. With --yes; else it says what it "
        "would\n"
        "  --reason R  why; for the audit log\n"
        "  --actor A   who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n",
    .run = run,
};
