/* whopline schedules: what fires when, and firing, leaving out or changing it by hand. */
#include "cli/cli.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "service/schedules_admin.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { NEXT_DEFAULT = 5, NEXT_MAX = 1000 };

struct options {
    const char *reason;
    const char *actor;
    const char *cron;
    const char *zone;
    const char *from;
    int64_t count;
    bool json;
};

/* --- ls -------------------------------------------------------------------------------------- */

#define LS_FROM                                                                                    \
    " FROM schedules s LEFT JOIN tenants t ON t.id = s.tenant_id"                                  \
    " LEFT JOIN LATERAL (SELECT * FROM schedule_firings f WHERE f.schedule_id = s.id"              \
    "  ORDER BY f.slot DESC LIMIT 1) f ON true LEFT JOIN jobs j ON j.id = f.job_id"                \
    " ORDER BY t.slug NULLS FIRST, s.name"

#define LS_STATE                                                                                   \
    "CASE WHEN NOT s.enabled THEN 'disabled' WHEN s.error IS NOT NULL THEN 'broken'"               \
    " WHEN t.status <> 'active' THEN 'tenant ' || t.status ELSE 'enabled' END"

/* What became of the job of the last firing; its row is deleted after RETENTION_JOBS_DAYS. */
#define LS_OUTCOME                                                                                 \
    "CASE WHEN f.how = 'skipped' THEN 'left out' WHEN f.job_id IS NULL THEN NULL"                  \
    " ELSE coalesce(j.state || coalesce(': ' || coalesce(j.error, j.reason), ''), 'ended') END"

static const char *const heads[] = {"SCHEDULE", "TENANT",     "TIMES",      "ZONE", "STATE",
                                    "MISSED",   "NEXT (UTC)", "LAST (UTC)", "HOW",  "JOB"};

static const struct output_list listed = {
    .json = "SELECT s.name, t.slug AS tenant, s.cron, s.interval_ms, s.zone, s.kind, s.queue,"
            " " LS_STATE " AS state, s.error, s.missed, s.missed_max,"
            " CASE WHEN s.enabled AND isfinite(s.next_slot) THEN s.next_slot END AS next_slot,"
            " f.slot AS last_slot, f.fired_at AS last_fired_at, f.how AS last_how, f.job_id,"
            " j.state AS job_state" LS_FROM,
    .people =
        "SELECT s.name, t.slug, coalesce(s.cron, 'every ' || s.interval_ms || ' ms'),"
        " CASE WHEN s.cron IS NOT NULL THEN s.zone END, " LS_STATE ", s.missed,"
        " CASE WHEN s.enabled AND isfinite(s.next_slot)"
        " THEN " OUTCOME_UTC("s.next_slot") " END, " OUTCOME_UTC("f.slot") ", f.how,"
                                                                           " " LS_OUTCOME
                                                                           ", s.error" LS_FROM,
    .heads = heads,
    .columns = ARRAY_LEN(heads),
    .none = "no schedules yet: whopline-scheduler puts the built-in ones in when it starts",
};

static struct err list(struct cli *cli, const struct options *options)
{
    TRY(output_list(cli, &listed, options->json, NULL, 0, 0));
    for (size_t row = 0; !options->json && row < pg_rows(cli->pg); row++)
        if (!pg_is_null(cli->pg, row, ARRAY_LEN(heads)))
            printf("%s rests: %s; whopline schedules set, or enable once it is mended\n",
                   pg_get(cli->pg, row, 0), pg_get(cli->pg, row, ARRAY_LEN(heads)));
    return ERR_NONE;
}

/* --- changing -------------------------------------------------------------------------------- */

static struct schedules_hand hand_of(const struct cli *cli, const struct options *options,
                                     const char *name)
{
    return (struct schedules_hand){.name = name,
                                   .actor = cli_actor(cli, options->actor),
                                   .reason = options->reason != NULL ? options->reason : ""};
}

static struct err fire(struct cli *cli, const struct options *options, const char *name)
{
    const struct schedules_hand hand = hand_of(cli, options, name);
    char job[UUID_TEXT_SIZE];
    TRY(schedules_fire(cli->pg, &hand, job));
    if (options->json)
        printf("{\"job\":\"%s\"}\n", job);
    else
        printf("%s is fired: job %s; the scheduler passes it on within seconds\n", name, job);
    return ERR_NONE;
}

static struct err skip(struct cli *cli, const struct options *options, const char *name)
{
    const struct schedules_hand hand = hand_of(cli, options, name);
    struct buf skipped = {0};
    struct buf next = {0};
    struct err err = schedules_skip(cli->pg, &hand, &skipped, &next);
    if (!err_failed(&err) && options->json)
        err = cli_print_json(
            cli, "SELECT $1::timestamptz AS skipped, $2::timestamptz AS next_slot",
            (const struct pg_param[]){pg_text(buf_text(&skipped)), pg_text(buf_text(&next))}, 2);
    else if (!err_failed(&err))
        printf("%s leaves out %s; the next one is %s\n", name, buf_text(&skipped), buf_text(&next));
    buf_close(&skipped);
    buf_close(&next);
    return err;
}

static struct err enable(struct cli *cli, const struct options *options, const char *name)
{
    const struct schedules_hand hand = hand_of(cli, options, name);
    bool changed = false;
    TRY(schedules_enable(cli->pg, &hand, true, &changed));
    printf(changed ? "%s is enabled: it goes on with its next slot from now\n"
                   : "%s was enabled already\n",
           name);
    return ERR_NONE;
}

static struct err disable(struct cli *cli, const struct options *options, const char *name)
{
    const struct schedules_hand hand = hand_of(cli, options, name);
    bool changed = false;
    TRY(schedules_enable(cli->pg, &hand, false, &changed));
    printf(changed ? "%s is disabled\n" : "%s was disabled already\n", name);
    return ERR_NONE;
}

static struct err set(struct cli *cli, const struct options *options, const char *name)
{
    const struct schedules_hand hand = hand_of(cli, options, name);
    struct buf next = {0};
    if (options->cron == NULL && options->zone == NULL)
        return err_make(ERR_USAGE, "set needs --cron or --zone, or both");
    struct err err = schedules_set(cli->pg, &hand, options->cron, options->zone, &next);
    if (!err_failed(&err))
        printf("%s is set; its next slot is %s\n", name, buf_text(&next));
    buf_close(&next);
    return err;
}

/* --- next ------------------------------------------------------------------------------------ */

/* The rule of that schedule, or the one that was typed. */
static struct err find_rule(struct cli *cli, const struct options *options, const char *name,
                            struct buf texts[2], struct schedule_rule *out)
{
    TRY(PG_EXEC(cli->pg, "SELECT cron, interval_ms, zone FROM schedules WHERE name = $1",
                pg_text(name)));
    bool found = pg_rows(cli->pg) > 0;
    if (!found && strchr(name, ' ') == NULL && name[0] != '@')
        return err_make(ERR_NOT_FOUND, "there is no schedule \"%.100s\", nor is it a cron", name);
    buf_add_text(&texts[0], found ? pg_get(cli->pg, 0, 0) : name);
    buf_add_text(&texts[1], options->zone != NULL ? options->zone
                            : found               ? pg_get(cli->pg, 0, 2)
                                                  : "UTC");
    *out = (struct schedule_rule){.cron = buf_text(&texts[0]),
                                  .interval_ms = found ? pg_get_integer(cli->pg, 0, 1) : 0,
                                  .zone = buf_text(&texts[1])};
    return ERR_NONE;
}

static struct err add_slots(struct cli *cli, const struct schedule_rule *rule, int64_t count,
                            struct buf *at, struct pg_array *slots)
{
    struct buf next = {0};
    struct err err = ERR_NONE;
    for (int64_t i = 0; i < count && !err_failed(&err); i++) {
        buf_clear(&next);
        err = schedule_rule_next(cli->pg, rule, buf_text(at), &next);
        if (err_failed(&err))
            break;
        pg_array_add_text(slots, buf_text(&next));
        buf_clear(at);
        buf_add_text(at, buf_text(&next));
    }
    buf_close(&next);
    if (err.code == ERR_PG_DATA)
        return err_make(ERR_USAGE, "%s: PostgreSQL knows no such time zone", rule->zone);
    return err;
}

#define SLOTS_FROM " FROM unnest($1::text[]) WITH ORDINALITY AS u(s, n) ORDER BY n"

static struct err print_slots(struct cli *cli, const struct options *options,
                              const struct schedule_rule *rule, struct pg_array *slots)
{
    static const char *const columns[] = {"SLOT (UTC)", "BY ITS CLOCK"};
    static const struct output_list next_ones = {
        .json = "SELECT s::timestamptz AT TIME ZONE 'UTC' AS slot,"
                " s::timestamptz AT TIME ZONE $2 AS local" SLOTS_FROM,
        .people = "SELECT " OUTCOME_UTC(
            "s::timestamptz") ", to_char(s::timestamptz"
                              " AT TIME ZONE $2, 'YYYY-MM-DD HH24:MI:SS Dy')" SLOTS_FROM,
        .heads = columns,
        .columns = ARRAY_LEN(columns),
    };
    const struct pg_param params[] = {pg_array_param(slots), pg_text(rule->zone)};
    return output_list(cli, &next_ones, options->json, params, ARRAY_LEN(params), 0);
}

static struct err next(struct cli *cli, const struct options *options, const char *name)
{
    struct buf texts[2] = {{0}, {0}};
    struct buf at = {0};
    struct pg_array slots;
    struct schedule_rule rule = {0};
    pg_array_init(&slots, PG_ELEMENT_TEXT);
    struct err err = cli_read_time(cli, "--from", options->from, &at);
    if (!err_failed(&err))
        err = find_rule(cli, options, name, texts, &rule);
    if (!err_failed(&err))
        err = add_slots(cli, &rule, options->count, &at, &slots);
    if (!err_failed(&err))
        err = print_slots(cli, options, &rule, &slots);
    pg_array_close(&slots);
    buf_close(&texts[0]);
    buf_close(&texts[1]);
    buf_close(&at);
    return err;
}

/* --- words ----------------------------------------------------------------------------------- */

static const struct verb {
    const char *name;
    struct err (*act)(struct cli *cli, const struct options *options, const char *schedule);
} verbs[] = {
    {"fire", fire},       {"skip", skip}, {"enable", enable},
    {"disable", disable}, {"set", set},   {"next", next},
};

static int parse(struct options *options, int count, char **words)
{
    static const struct option long_options[] = {
        {"reason", required_argument, NULL, 'r'}, {"actor", required_argument, NULL, 'a'},
        {"cron", required_argument, NULL, 'c'},   {"zone", required_argument, NULL, 'z'},
        {"from", required_argument, NULL, 'f'},   {"count", required_argument, NULL, 'n'},
        {"json", no_argument, NULL, 'j'},         {NULL, 0, NULL, 0},
    };
    int option;
    *options = (struct options){.count = NEXT_DEFAULT, .from = "0s"};
    while ((option = getopt_long(count, words, "", long_options, NULL)) != -1) {
        switch (option) {
        case 'r': options->reason = optarg; break;
        case 'a': options->actor = optarg; break;
        case 'c': options->cron = optarg; break;
        case 'z': options->zone = optarg; break;
        case 'f': options->from = optarg; break;
        case 'j': options->json = true; break;
        case 'n':
            if (!cli_parse_number(optarg, 1, NEXT_MAX, &options->count))
                return cli_usage(words[0], "--count takes 1 to %d", NEXT_MAX);
            break;
        default: return CLI_USAGE;
        }
    }
    return CLI_OK;
}

static int run(struct cli *cli, int count, char **words)
{
    struct options options;
    int status = parse(&options, count, words);
    if (status != CLI_OK)
        return status;
    const char *name = optind < count ? words[optind] : "ls";
    bool is_list = (strcmp(name, "ls") == 0 || strcmp(name, "list") == 0) && optind + 1 >= count;
    const struct verb *verb = NULL;
    for (size_t i = 0; i < ARRAY_LEN(verbs) && optind + 2 == count; i++)
        if (strcmp(name, verbs[i].name) == 0)
            verb = &verbs[i];
    if (!is_list && verb == NULL)
        return cli_usage(words[0], "ls, or fire, skip, enable, disable, set or next with one"
                                   " schedule, please");
    struct err err = cli_open_database(cli);
    if (!err_failed(&err))
        err = is_list ? list(cli, &options) : verb->act(cli, &options, words[optind + 1]);
    return err_failed(&err) ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_schedules = {
    .name = "schedules",
    .usage = "[ls] [--json] | fire S | skip S | enable S | disable S | set S --cron C | next S",
    .purpose = "what fires when; fire, skip or change it by hand",
    .help =
        "ls: each schedule with its next slot, and of its last one what became of the job\n"
        "  fire S      now, beside its slots; also a disabled one\n"
        "  skip S      its next slot is left out\n"
        "  enable S    goes on with the next slot from now; also for one that is broken\n"
        "  disable S   until it is enabled again\n"
        "  set S       other times; a built-in one keeps them over updates\n"
        "    --cron C  five fields by the clock of its zone: minute, hour, day of month, month,\n"
        "              day of week; or @hourly, @daily, @weekly, @monthly, @yearly\n"
        "    --zone Z  such as Europe/Berlin\n"
        "  next S      the slots to come, of a schedule or of a cron expression\n"
        "    --zone Z, --from T (2026-03-29T00:00 or an age) [now], --count N [5]\n"
        "  --reason R  why, for the audit log\n"
        "  --actor A   who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n"
        "  --json      with ls, fire, skip and next\n",
    .run = run,
};
