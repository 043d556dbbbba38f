/* `whopline outbound resolve`: what became of a call, as a person has found out. */
#include "cli/outbound.h"
#include "cli/output.h"
#include "codec/json.h"

#include <stdio.h>

struct seen {
    struct outbound_ref ref;
    char job[OUTBOUND_ADMIN_JOB_SIZE];
    int64_t waiting; /* jobs, of which that is one */
    struct buf name;
};

static struct err look(struct cli *cli, const struct outbound_options *options, struct seen *seen)
{
    struct pg *pg = cli->pg;
    TRY(PG_EXEC(pg,
                "SELECT o.attempts, o.state, o.policy,"
                " o.state = 'sending' AND o.sending_until > whopline_now(),"
                " o.operation || ' of ' || o.business_key, coalesce(w.job, ''), w.count"
                " FROM outbound o, LATERAL (SELECT min(j.id::text) AS job, count(*) FROM jobs j"
                "  WHERE " OUTBOUND_ADMIN_WAITS ") w WHERE o.id = $1",
                pg_integer(options->id)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no outbound call %lld; see whopline outbound ls",
                        (long long)options->id);
    seen->ref.id = options->id;
    seen->ref.attempts = pg_get_integer(pg, 0, 0);
    snprintf(seen->ref.state, sizeof seen->ref.state, "%s", pg_get(pg, 0, 1));
    snprintf(seen->job, sizeof seen->job, "%s", pg_get(pg, 0, 5));
    seen->waiting = pg_get_integer(pg, 0, 6);
    output_add_clean(&seen->name, pg_get(pg, 0, 4));
    const char *why_not = outbound_admin_why_not(seen->ref.state, pg_get(pg, 0, 2),
                                                 pg_get_flag(pg, 0, 3), options->verdict);
    if (why_not != NULL)
        return err_make(ERR_REFUSED, "nothing was done: %s", why_not);
    return ERR_NONE;
}

static const char *deed(const struct outbound_options *options, const struct seen *seen)
{
    switch (options->verdict) {
    case OUTBOUND_VERDICT_DONE: return "done: it took effect, and nothing is sent any more";
    case OUTBOUND_VERDICT_REFUSED: return "refused: it had no effect, and nothing is sent any more";
    case OUTBOUND_VERDICT_VERIFY: return "unknown: it is looked for again";
    default: break;
    }
    return strcmp(seen->ref.state, "refused") == 0
               ? "pending: it is sent with a new Idempotency-Key, as another call"
               : "pending: it is sent again with the same Idempotency-Key";
}

static void print_plan(const struct outbound_options *options, struct seen *seen)
{
    printf("%soutbound %lld, %s, is %s; it becomes\n  %s\n",
           options->yes ? "" : "would: ", (long long)seen->ref.id, buf_text(&seen->name),
           seen->ref.state, deed(options, seen));
    if (seen->waiting > 1)
        printf("  %lld jobs are put in again\n", (long long)seen->waiting);
    else if (seen->waiting == 1)
        printf("  job %s is put in again\n", seen->job);
    else
        printf("  no job waits for it: none is put in again\n");
}

static struct err act(struct cli *cli, const struct outbound_options *options, struct seen *seen)
{
    bool changed = false;
    TRY(outbound_admin_resolve(cli->pg, &seen->ref, options->verdict,
                               options->remote_id != NULL ? options->remote_id : "",
                               cli_actor(cli, options->actor), options->why, &changed, seen->job));
    if (!changed)
        return err_make(ERR_REFUSED, "nothing was done: it has changed meanwhile, look again");
    return ERR_NONE;
}

static struct err for_programs(struct cli *cli, const struct outbound_options *options,
                               struct seen *seen)
{
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    struct err err = options->yes ? act(cli, options, seen) : ERR_NONE;
    json_begin_object(&json, NULL);
    json_put_integer(&json, "id", seen->ref.id);
    json_put_text(&json, "was", seen->ref.state);
    json_put_text(&json, "plan", deed(options, seen));
    json_put_flag(&json, "done", options->yes && !err_failed(&err));
    json_put_text(&json, "job", seen->job);
    json_put_integer(&json, "jobs", seen->waiting);
    json_end_object(&json);
    if (!err_failed(&err))
        printf("%s\n", buf_text(&out));
    buf_close(&out);
    return err;
}

static struct err for_people(struct cli *cli, const struct outbound_options *options,
                             struct seen *seen)
{
    print_plan(options, seen);
    if (!options->yes) {
        printf("nothing has been changed; --yes does it\n");
        return ERR_NONE;
    }
    TRY(act(cli, options, seen));
    printf("resolved%s\n",
           seen->job[0] != '\0' ? "; the scheduler gives its job to Redis within a second" : "");
    return ERR_NONE;
}

struct err outbound_resolve(struct cli *cli, const struct outbound_options *options)
{
    struct seen seen = {0};
    if (!options->verdict_given)
        return err_make(ERR_USAGE, "resolve needs one of --done, --refused, --resend, --verify");
    if (options->why == NULL || options->why[0] == '\0')
        return err_make(ERR_USAGE, "resolve needs --reason: whoever comes next wants to know");
    if (options->remote_id != NULL && options->verdict != OUTBOUND_VERDICT_DONE)
        return err_make(ERR_USAGE, "--remote-id goes with --done only");
    struct err err = look(cli, options, &seen);
    if (!err_failed(&err))
        err = options->json ? for_programs(cli, options, &seen) : for_people(cli, options, &seen);
    buf_close(&seen.name);
    return err;
}
