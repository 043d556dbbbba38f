/* `whopline jobs requeue` and `drop`: first a plan, then, with --yes, the deed, at a measured pace.
 */
#include "base/clock.h"
#include "cli/jobs.h"
#include "cli/output.h"
#include "codec/json.h"
#include "service/jobs_admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    PAGE = 5000,         /* ids kept in memory at a time */
    CHUNK_MAX = 500,     /* jobs in one transaction */
    CHUNKS_A_SECOND = 5, /* so that a pace is smooth */
    IDS_SHOWN = 10,
    CONFLICTS_MAX = 5,
    MS_PER_S = 1000,
};

struct change {
    const char *name; /* "requeue" */
    const char *past; /* "requeued" */
    struct err (*act)(struct pg *pg, const struct job_ref *refs, size_t count, const char *actor,
                      const char *reason, size_t *changed);
    struct cli *cli;
    struct jobs_options *options;
    int64_t planned;
    int64_t seen;
    int64_t changed;
    int64_t began_ms;
};

/* --- what must not be touched ---------------------------------------------------------------- */

static const char *why_not(const char *state, bool drops)
{
    if (state[0] == '\0')
        return "there is no such job";
    if (strcmp(state, "queued") == 0)
        return "it is queued, on its way";
    if (strcmp(state, "done") == 0)
        return "it is done, its effect has happened";
    return drops ? "it is skipped already" : "it is skipped; --state skipped takes it all the same";
}

/* Jobs named by their ids that are not in a state to be changed: the first of them is the error, so
 * that nobody thinks it was done. */
static struct err check_ids(struct change *change)
{
    struct pg *pg = change->cli->pg;
    if (change->options->id_count == 0)
        return ERR_NONE;
    TRY(PG_EXEC(pg,
                "SELECT wanted.id, coalesce(j.state, '') FROM unnest($1::text[]) AS wanted(id)"
                " LEFT JOIN jobs j ON j.id = wanted.id::uuid"
                " WHERE j.state IS NULL OR j.state <> ALL ($2::text[]) ORDER BY 1",
                pg_array_param(&change->options->ids), pg_text(change->options->states)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    return err_make(ERR_REFUSED, "nothing was done: %s: %s (%zu such)", pg_get(pg, 0, 0),
                    why_not(pg_get(pg, 0, 1), strcmp(change->name, "drop") == 0), pg_rows(pg));
}

static struct err check_words(const struct change *change)
{
    const struct jobs_options *options = change->options;
    bool drops = strcmp(change->name, "drop") == 0;
    if (drops && (options->why == NULL || options->why[0] == '\0'))
        return err_make(ERR_USAGE, "drop needs --reason: whoever finds the job wants to know");
    if (!jobs_has_filter(options) && !options->all)
        return err_make(ERR_USAGE,
                        "%s needs ids or a filter, or --all for every dead and parked job",
                        change->name);
    if (strstr(options->states, "queued") != NULL)
        return err_make(ERR_USAGE, "queued jobs are on their way: there is nothing to %s",
                        change->name);
    if (strstr(options->states, "done") != NULL)
        return err_make(ERR_USAGE, "done jobs have had their effect and are left alone");
    if (drops && strstr(options->states, "skipped") != NULL)
        return err_make(ERR_USAGE, "skipped jobs are set aside already");
    return ERR_NONE;
}

/* --- the plan -------------------------------------------------------------------------------- */

/* What dies from now on is not part of it: it would be put in again and again. */
static struct err fix_until(struct change *change)
{
    struct buf *until = &change->options->until_at;
    if (until->len > 0)
        return ERR_NONE;
    TRY(pg_exec(change->cli->pg, "SELECT whopline_now()::text", NULL, 0));
    buf_add_text(until, pg_get(change->cli->pg, 0, 0));
    return ERR_NONE;
}

#define COUNTED                                                                                    \
    "SELECT kind, state, error, tenant, count(*) FROM (SELECT j.kind, j.state,"                    \
    " coalesce(j.error, '') AS error, t.slug AS tenant" JOBS_FROM                                  \
    " ORDER BY j.id LIMIT $10::bigint) q GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3, 4"

static struct err ask_counts(struct change *change)
{
    struct pg_param params[JOBS_PARAMS + 1];
    int64_t limit = change->options->limit;
    jobs_params(change->options, params);
    params[JOBS_PARAMS] = pg_integer(limit > 0 ? limit : INT64_MAX);
    TRY(pg_exec(change->cli->pg, COUNTED, params, ARRAY_LEN(params)));
    for (size_t row = 0; row < pg_rows(change->cli->pg); row++)
        change->planned += pg_get_integer(change->cli->pg, row, 4);
    return ERR_NONE;
}

static void print_counts(const struct change *change)
{
    static const char *const heads[] = {"KIND", "STATE", "ERROR", "TENANT", ">JOBS"};
    struct pg *pg = change->cli->pg;
    struct table table;
    char number[OUTPUT_SHORT];
    output_number(change->planned, number);
    printf("%s%s %s job%s:\n", change->options->yes ? "" : "would ", change->name, number,
           change->planned == 1 ? "" : "s");
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < pg_rows(pg); row++)
        for (size_t column = 0; column < ARRAY_LEN(heads); column++)
            table_add(&table, pg_get(pg, row, column));
    table_print(&table, "  ");
}

static void put_counts(struct change *change, struct json_writer *json)
{
    static const char *const names[] = {"kind", "state", "error", "tenant"};
    struct pg *pg = change->cli->pg;
    json_begin_array(json, "plan");
    for (size_t row = 0; row < pg_rows(pg); row++) {
        json_begin_object(json, NULL);
        for (size_t column = 0; column < ARRAY_LEN(names); column++)
            json_put_text(json, names[column], pg_get(pg, row, column));
        json_put_integer(json, "jobs", pg_get_integer(pg, row, ARRAY_LEN(names)));
        json_end_object(json);
    }
    json_end_array(json);
    json_put_integer(json, "planned", change->planned);
}

static struct err print_ids(struct change *change)
{
    struct pg_param params[JOBS_PARAMS];
    if (change->planned > IDS_SHOWN)
        return ERR_NONE;
    jobs_params(change->options, params);
    TRY(pg_exec(change->cli->pg, "SELECT j.id" JOBS_FROM " ORDER BY j.id LIMIT 10", params,
                ARRAY_LEN(params)));
    for (size_t row = 0; row < pg_rows(change->cli->pg) && (int64_t)row < change->planned; row++)
        printf("  %s\n", pg_get(change->cli->pg, row, 0));
    return ERR_NONE;
}

/* --- the deed -------------------------------------------------------------------------------- */

static void keep_pace(const struct change *change)
{
    int64_t due_ms = change->began_ms + change->seen * MS_PER_S / change->options->rate;
    int64_t wait_ms = due_ms - clock_mono_ms();
    if (wait_ms <= 0)
        return;
    const struct timespec time = {.tv_sec = wait_ms / MS_PER_S,
                                  .tv_nsec = (long)(wait_ms % MS_PER_S) * 1000000L};
    nanosleep(&time, NULL);
}

static struct err act_on_chunk(struct change *change, const struct job_ref *refs, size_t count)
{
    const char *why = change->options->why != NULL ? change->options->why : "";
    size_t changed = 0;
    struct err err = ERR_NONE;
    for (int i = 0; i < CONFLICTS_MAX; i++) {
        err = change->act(change->cli->pg, refs, count,
                          cli_actor(change->cli, change->options->actor), why, &changed);
        if (err.code != ERR_PG_CONFLICT)
            break;
    }
    change->seen += (int64_t)count;
    change->changed += (int64_t)changed;
    return err;
}

static struct err act_on_page(struct change *change, const struct job_ref *refs, size_t count)
{
    size_t chunk = (size_t)change->options->rate / CHUNKS_A_SECOND;
    chunk = chunk < 1 ? 1 : chunk > CHUNK_MAX ? CHUNK_MAX : chunk;
    for (size_t i = 0; i < count; i += chunk) {
        keep_pace(change);
        TRY(act_on_chunk(change, refs + i, count - i < chunk ? count - i : chunk));
    }
    return ERR_NONE;
}

/* The next jobs of the plan, behind the last one's id. */
static struct err read_page(struct change *change, const char *after, struct job_ref *out,
                            size_t *count)
{
    struct pg_param params[JOBS_PARAMS + 2];
    struct pg *pg = change->cli->pg;
    int64_t limit = change->options->limit > 0 ? change->options->limit - change->seen : PAGE;
    jobs_params(change->options, params);
    params[JOBS_PARAMS] = pg_text_or_null(after);
    params[JOBS_PARAMS + 1] = pg_integer(limit < PAGE ? limit : PAGE);
    TRY(pg_exec(pg,
                "SELECT j.id, j.gen, j.state" JOBS_FROM
                " AND ($10::text IS NULL OR j.id > $10::text::uuid)"
                " ORDER BY j.id LIMIT $11::bigint",
                params, ARRAY_LEN(params)));
    *count = pg_rows(pg);
    for (size_t row = 0; row < *count; row++) {
        snprintf(out[row].id, sizeof out[row].id, "%s", pg_get(pg, row, 0));
        snprintf(out[row].state, sizeof out[row].state, "%s", pg_get(pg, row, 2));
        out[row].gen = pg_get_integer(pg, row, 1);
        out[row].relayed[0] = '\0';
    }
    return ERR_NONE;
}

static struct err act_on_all(struct change *change)
{
    struct job_ref *refs = mem_alloc(PAGE * sizeof *refs);
    char after[UUID_TEXT_SIZE] = "";
    size_t count = 0;
    struct err err;
    change->began_ms = clock_mono_ms();
    do {
        err = read_page(change, after, refs, &count);
        if (!err_failed(&err) && count > 0) {
            memcpy(after, refs[count - 1].id, sizeof after);
            err = act_on_page(change, refs, count);
        }
    } while (!err_failed(&err) && count > 0);
    free(refs);
    return err;
}

/* --- together -------------------------------------------------------------------------------- */

static struct err report_failure(const struct change *change, const struct err *err)
{
    return err_make(err->code, "%.110s; %lld of %lld were %s before: run it again for the rest",
                    err_text(err), (long long)change->changed, (long long)change->planned,
                    change->past);
}

static void print_done(const struct change *change)
{
    char changed[OUTPUT_SHORT];
    char planned[OUTPUT_SHORT];
    output_number(change->changed, changed);
    output_number(change->planned, planned);
    printf("%s %s of %s\n", change->past, changed, planned);
    if (change->changed < change->planned)
        printf("the others were changed by somebody else meanwhile and were left alone\n");
    else if (change->changed > 0 && strcmp(change->name, "requeue") == 0)
        printf(
            "the scheduler gives them to Redis within a second, unless their queue is draining\n");
}

static struct err for_people(struct change *change)
{
    if (change->planned == 0) {
        printf("no such jobs: nothing to do\n");
        return ERR_NONE;
    }
    print_counts(change);
    TRY(print_ids(change));
    if (!change->options->yes) {
        printf("nothing has been changed; --yes does it\n");
        return ERR_NONE;
    }
    fflush(stdout);
    struct err err = act_on_all(change);
    if (err_failed(&err))
        return report_failure(change, &err);
    print_done(change);
    return ERR_NONE;
}

static struct err for_programs(struct change *change)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    struct err err = ERR_NONE;
    json_begin_object(&json, NULL);
    put_counts(change, &json);
    if (change->options->yes)
        err = act_on_all(change);
    json_put_flag(&json, "done", change->options->yes && !err_failed(&err));
    json_put_integer(&json, "changed", change->changed);
    json_end_object(&json);
    printf("%s\n", buf_text(&out));
    buf_close(&out);
    return err_failed(&err) ? report_failure(change, &err) : ERR_NONE;
}

static struct err make(struct change *change)
{
    TRY(check_words(change));
    TRY(check_ids(change));
    TRY(fix_until(change));
    TRY(ask_counts(change));
    return change->options->json ? for_programs(change) : for_people(change);
}

struct err jobs_requeue(struct cli *cli, struct jobs_options *options)
{
    struct change change = {.name = "requeue",
                            .past = "requeued",
                            .act = jobs_admin_requeue,
                            .cli = cli,
                            .options = options};
    return make(&change);
}

struct err jobs_drop(struct cli *cli, struct jobs_options *options)
{
    struct change change = {
        .name = "drop", .past = "dropped", .act = jobs_admin_drop, .cli = cli, .options = options};
    return make(&change);
}
