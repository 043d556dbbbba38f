/* `whopline outbound show`: one call, what was sent and what was answered. */
#include "cli/outbound.h"
#include "cli/outcome.h"
#include "cli/output.h"

#include <stdio.h>

enum { BODY_SHOWN = 4096 };

static void add_body(struct table *table, const char *name, struct buf *body)
{
    struct buf text = {0};
    size_t shown = body->len < BODY_SHOWN ? body->len : BODY_SHOWN;
    buf_add(&text, body->ptr != NULL ? body->ptr : "", shown);
    if (body->len > shown)
        buf_printf(&text, " ... (%zu bytes)", body->len);
    table_add(table, name);
    table_add(table, buf_text(&text));
    buf_close(&text);
}

#define SHOWN                                                                                      \
    "o.id, t.slug AS tenant, o.operation, o.business_key, o.policy, o.state, o.parked,"            \
    " o.idempotency_key, o.attempts, o.resends, o.verifications, o.method, o.target,"              \
    " o.seen_before, o.status, o.remote_id, o.error, o.job_id"

/* What was sent again is as old as its first sending. */
#define CREATED  OUTCOME_UTC("o.created_at") " AS created, "
#define SENT     OUTCOME_UTC("o.sending_since") " AS \"sent first\", "
#define AWAITED  OUTCOME_UTC("o.sending_until") " AS \"answer awaited until\", "
#define FINISHED OUTCOME_UTC("o.finished_at") " AS finished"
#define TIMES    CREATED SENT AWAITED FINISHED

static struct err print_row(struct pg *pg, int64_t id)
{
    struct table table;
    struct buf request = {0};
    struct buf response = {0};
    TRY(PG_EXEC(pg,
                "SELECT o.request, o.response, " SHOWN
                ", j.state AS \"job is\", j.reason AS \"because\", " TIMES
                " FROM outbound o JOIN tenants t ON t.id = o.tenant_id"
                " LEFT JOIN jobs j ON j.id = o.job_id WHERE o.id = $1",
                pg_integer(id)));
    table_init(&table, NULL, 2);
    output_record(pg, 2, &table);
    pg_get_bytes(pg, 0, 0, &request);
    if (!pg_is_null(pg, 0, 1))
        pg_get_bytes(pg, 0, 1, &response);
    add_body(&table, "request", &request);
    add_body(&table, "answer", &response);
    table_print(&table, "");
    buf_close(&request);
    buf_close(&response);
    return ERR_NONE;
}

static struct err print_history(struct pg *pg, int64_t id)
{
    static const char *const heads[] = {"TIME (UTC)", "ACTOR", "AS", "REASON", "WAS"};
    const struct output_list list = {.heads = heads, .columns = ARRAY_LEN(heads)};
    TRY(PG_EXEC(
        pg,
        "SELECT " OUTCOME_UTC(
            "at") ", actor, detail->>'as', reason,"
                  " concat_ws(': ', detail->'was'->>'state', detail->'was'->>'parked')"
                  " FROM audit_log WHERE target = 'outbound/' || $1::bigint ORDER BY at, id",
        pg_integer(id)));
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    printf("\nby hand:\n");
    output_rows(pg, &list, 0);
    return ERR_NONE;
}

static void print_advice(const char *state, bool parked, int64_t id)
{
    if (strcmp(state, "unknown") == 0 && parked)
        printf("\nLook on the other side whether it happened, then: whopline outbound resolve %lld"
               " --done | --refused | --resend\n",
               (long long)id);
}

struct err outbound_show(struct cli *cli, const struct outbound_options *options)
{
    const struct pg_param params[] = {pg_integer(options->id)};
    TRY(pg_exec(cli->pg, "SELECT state, parked IS NOT NULL FROM outbound WHERE id = $1", params,
                1));
    if (pg_rows(cli->pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no outbound call %lld; see whopline outbound ls",
                        (long long)options->id);
    if (options->json)
        return cli_print_json(
            cli,
            "SELECT " SHOWN ", o.ordinal, encode(o.request, 'base64') AS request_base64,"
            " encode(o.response, 'base64') AS response_base64, j.state AS job_state,"
            " j.reason AS job_reason, o.created_at, o.updated_at, o.sending_since,"
            " o.sending_until, o.look_at, o.finished_at FROM outbound o"
            " JOIN tenants t ON t.id = o.tenant_id LEFT JOIN jobs j ON j.id = o.job_id"
            " WHERE o.id = $1",
            params, 1);
    char state[OUTBOUND_ADMIN_STATE_SIZE];
    snprintf(state, sizeof state, "%s", pg_get(cli->pg, 0, 0));
    bool parked = pg_get_flag(cli->pg, 0, 1);
    TRY(print_row(cli->pg, options->id));
    TRY(print_history(cli->pg, options->id));
    print_advice(state, parked, options->id);
    return ERR_NONE;
}
