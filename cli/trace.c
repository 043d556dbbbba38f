/* whopline trace: what PostgreSQL knows about an id, in the order it happened. */
#include "cli/cli.h"
#include "cli/outcome.h"
#include "cli/output.h"

#include <getopt.h>
#include <stdio.h>

/* Events the id stands for: its own, those of that payment, membership or user, the cause of a job.
 * Only if there are none, the columns without an index are searched. */
#define FOUND_EVENTS                                                                               \
    "wanted AS (SELECT CASE WHEN $1::text ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"        \
    "  THEN $1::text::uuid END AS uuid),"                                                          \
    " indexed AS (SELECT id FROM webhook_events WHERE id = $1"                                     \
    "  UNION SELECT id FROM webhook_events WHERE id = 'default/' || $1"                            \
    "  UNION SELECT id FROM webhook_events WHERE payment_id = $1"                                  \
    "  UNION SELECT id FROM webhook_events WHERE membership_id = $1"                               \
    "  UNION SELECT id FROM webhook_events WHERE user_id = $1"                                     \
    "  UNION SELECT event_id FROM jobs WHERE id = (SELECT uuid FROM wanted)"                       \
    "   AND event_id IS NOT NULL),"                                                                \
    " events AS (SELECT e.* FROM webhook_events e JOIN indexed USING (id)"                         \
    "  UNION ALL SELECT * FROM webhook_events WHERE NOT EXISTS (SELECT 1 FROM indexed)"            \
    "  AND (webhook_id = $1 OR entity_id = $1)),"                                                  \
    " found_jobs AS (SELECT j.* FROM events e JOIN jobs j ON j.event_id = e.id"                    \
    "  UNION SELECT * FROM jobs WHERE id = (SELECT uuid FROM wanted)),"

/* Money: the payments of these events, of that id, user or order, and what followed from them. The
 * events of an old payment may be gone; then the payments themselves are searched. */
#define FOUND_PAYMENTS                                                                             \
    "accounts AS (SELECT a.* FROM tenants x JOIN credit_accounts a ON a.tenant_id = x.id"          \
    "  AND a.owner_type = 'whop_user' AND a.owner_id = $1),"                                       \
    " named_orders AS (SELECT * FROM credit_orders WHERE id = (SELECT uuid FROM wanted)"           \
    "  UNION SELECT o.* FROM tenants x JOIN credit_orders o ON o.tenant_id = x.id"                 \
    "  AND o.whop_checkout_id = $1"                                                                \
    "  UNION SELECT o.* FROM accounts a JOIN credit_orders o ON o.account_id = a.id),"             \
    " found_payments AS (SELECT p.* FROM tenants x JOIN payments p ON p.tenant_id = x.id"          \
    "  AND p.whop_payment_id = $1"                                                                 \
    "  UNION SELECT p.* FROM events e JOIN payments p ON p.tenant_id = e.tenant_id"                \
    "  AND p.whop_payment_id = e.payment_id"                                                       \
    "  UNION SELECT p.* FROM named_orders o JOIN payments p ON p.order_id = o.id"                  \
    "  UNION SELECT p.* FROM accounts a JOIN credit_transactions t ON t.account_id = a.id"         \
    "  JOIN payments p ON p.tenant_id = t.tenant_id AND p.whop_payment_id = t.whop_payment_id"     \
    "  UNION SELECT * FROM payments WHERE NOT EXISTS (SELECT 1 FROM events)"                       \
    "  AND (whop_user_id = $1 OR whop_membership_id = $1)),"                                       \
    " orders AS (SELECT * FROM named_orders"                                                       \
    "  UNION SELECT o.* FROM found_payments p JOIN credit_orders o ON o.id = p.order_id),"         \
    " ledger AS (SELECT t.*, a.owner_id FROM accounts a"                                           \
    "  JOIN credit_transactions t ON t.account_id = a.id"                                          \
    "  UNION SELECT t.*, a.owner_id FROM found_payments p JOIN credit_transactions t"              \
    "  ON t.tenant_id = p.tenant_id AND t.whop_payment_id = p.whop_payment_id"                     \
    "  JOIN credit_accounts a ON a.id = t.account_id"                                              \
    "  UNION SELECT t.*, a.owner_id FROM orders o JOIN credit_transactions t"                      \
    "  ON t.tenant_id = o.tenant_id AND t.source_type = 'order' AND t.source_id = o.id::text"      \
    "  JOIN credit_accounts a ON a.id = t.account_id),"

#define FOUND_REST                                                                                 \
    " reviews AS (SELECT r.* FROM credit_review r WHERE r.whop_payment_id = $1"                    \
    "  OR (r.tenant_id, r.whop_payment_id) IN"                                                     \
    "  (SELECT tenant_id, whop_payment_id FROM found_payments)"                                    \
    "  OR (r.tenant_id, r.whop_payment_id) IN (SELECT tenant_id, payment_id FROM events)),"        \
    " paid_ids AS (SELECT tenant_id, whop_payment_id AS id FROM found_payments"                    \
    "  UNION SELECT tenant_id, payment_id FROM events WHERE payment_id IS NOT NULL),"              \
    " found_refunds AS (SELECT f.* FROM paid_ids i JOIN refunds f ON f.tenant_id = i.tenant_id"    \
    "  AND f.whop_payment_id = i.id UNION SELECT f.* FROM tenants x JOIN refunds f"                \
    "  ON f.tenant_id = x.id AND f.whop_refund_id = $1),"                                          \
    " found_disputes AS (SELECT d.* FROM paid_ids i JOIN disputes d ON d.tenant_id = i.tenant_id"  \
    "  AND d.whop_payment_id = i.id UNION SELECT d.* FROM tenants x JOIN disputes d"               \
    "  ON d.tenant_id = x.id AND d.whop_dispute_id = $1),"                                         \
    " notices AS (SELECT n.* FROM credit_notices n JOIN (SELECT tenant_id, id FROM paid_ids"       \
    "  UNION SELECT tenant_id, whop_dispute_id FROM found_disputes) about"                         \
    "  ON n.tenant_id = about.tenant_id AND n.about = about.id"                                    \
    "  UNION SELECT n.* FROM paid_ids i JOIN credit_notices n ON n.tenant_id = i.tenant_id"        \
    "  AND n.kind = 'dispute_alert' AND n.detail->>'payment' = i.id),"                             \
    " holds AS (SELECT h.* FROM accounts a JOIN credit_holds h ON h.account_id = a.id)"

/* What was asked of Whop: for these jobs, and for an order its checkout and its refunds. */
#define FOUND_CALLS                                                                                \
    ", asked AS (SELECT r.* FROM orders o JOIN credit_refund_requests r ON r.order_id = o.id),"    \
    " found_calls AS (SELECT * FROM outbound WHERE job_id IN (SELECT id FROM found_jobs)"          \
    "  UNION SELECT c.* FROM orders o JOIN outbound c ON c.tenant_id = o.tenant_id"                \
    "  AND c.operation = 'checkout_configurations.create'"                                         \
    "  AND c.business_key = 'order:' || o.id"                                                      \
    "  UNION SELECT c.* FROM asked r JOIN outbound c ON c.tenant_id = r.tenant_id"                 \
    "  AND c.operation = 'payments.refund' AND c.business_key = 'refund:' || r.request_id)"

#define AMOUNT OUTCOME_MONEY("amount")
#define PRICE  OUTCOME_MONEY("o.price")

#define EVENT_STEPS                                                                                \
    "SELECT occurred_at AS at, 1 AS rank, 'event' AS what, id,"                                    \
    "  'happened at Whop: ' || type_raw AS text FROM events WHERE occurred_known"                  \
    " UNION ALL SELECT received_at, 2, 'event', id, 'received by endpoint ' || endpoint"           \
    "  || ', generation ' || generation FROM events"                                               \
    " UNION ALL SELECT journalled_at, 3, 'event', id,"                                             \
    "  'journalled: ' || status || coalesce(', ' || reason, '') FROM events"

#define JOB_STEPS                                                                                  \
    " UNION ALL SELECT created_at, 4, 'job', id::text,"                                            \
    "  kind || ' created' || coalesce(' for ' || event_id, '') FROM found_jobs"                    \
    " UNION ALL SELECT relayed_at, 5, 'job', id::text, 'given to Redis, queue ' || queue"          \
    "  || CASE WHEN gen > 0 THEN ', put in again ' || gen || ' times' ELSE '' END"                 \
    "  FROM found_jobs WHERE relayed_at IS NOT NULL"                                               \
    " UNION ALL SELECT finished_at, 8, 'job', id::text, state || coalesce(': ' || reason, '')"     \
    "  || CASE WHEN attempts > 0 THEN ', failed attempts before: ' || attempts ELSE '' END"        \
    "  FROM found_jobs WHERE finished_at IS NOT NULL"                                              \
    " UNION ALL SELECT greatest(whopline_now(), due_at), 9, 'job', id::text, 'still queued'"       \
    "  || CASE WHEN relayed_at IS NULL THEN ', not given to Redis yet' ELSE '' END"                \
    "  || CASE WHEN attempts > 0 THEN ', failed attempts: ' || attempts ELSE '' END"               \
    "  || coalesce(', ' || reason, '') FROM found_jobs WHERE state = 'queued'"

/* A payment as it is now, at the time since when it is: what became of it are rows of their own. */
#define MONEY_STEPS                                                                                \
    " UNION ALL SELECT greatest(created_at, paid_at), 6, 'payment', whop_payment_id,"              \
    "  coalesce(status, 'status unknown')"                                                         \
    "  || coalesce(', ' || (" AMOUNT ")::text, ', ' || amount_text, '')"                           \
    "  || coalesce(' ' || currency, '') || coalesce(', plan ' || whop_plan_id, '')"                \
    "  || coalesce(', pack ' || pack_id, '') || coalesce(', user ' || whop_user_id, '')"           \
    "  FROM found_payments"                                                                        \
    " UNION ALL SELECT created_at, 7 + row_number() OVER (ORDER BY id) / 1000000.0, 'ledger', "    \
    "id::text,"                                                                                    \
    "  CASE WHEN amount > 0 THEN '+' ELSE '' END || to_char(amount, 'FM999,999,999,990')"          \
    "  || ' credits (' || kind || ') for ' || owner_id || ', balance '"                            \
    "  || to_char(balance_after, 'FM999,999,999,990') || ', by ' || source_type || ' '"            \
    "  || source_id || coalesce(', flag ' || flag, '') || CASE WHEN source_type = 'payment'"       \
    "  AND kind = 'topup' AND actor LIKE 'whopline-%' THEN ''"                                     \
    "  ELSE ', ' || actor || ': ' || reason END FROM ledger"                                       \
    " UNION ALL SELECT created_at, 7, 'review', whop_payment_id, 'in review: ' || reason"          \
    "  FROM reviews"                                                                               \
    " UNION ALL SELECT handled_at, 8, 'review', whop_payment_id, state || ' by '"                  \
    "  || coalesce(handled_by, '?') || coalesce(': ' || nullif(note, ''), '') FROM reviews WHERE " \
    "handled_at IS NOT NULL"

/* Refunds and disputes as they were last told of; their effects are rows of the ledger. */
#define ORDER_STEPS                                                                                \
    " UNION ALL SELECT h.at, 6 + row_number() OVER (ORDER BY h.id) / 1000000.0, 'order', "         \
    "o.id::text, CASE WHEN h.from_state IS NULL"                                                   \
    "  THEN h.to_state || ': ' || o.plan_name || ', ' || to_char(o.credits_amount,"                \
    "   'FM999,999,999,990') || ' credits for ' || (" PRICE ")::text || ' ' || o.currency"         \
    "   || ' (' || o.payment_method || ')' ELSE h.from_state || ' -> ' || h.to_state END"          \
    "  || ', by ' || h.actor || CASE WHEN h.reason IN ('', h.to_state) THEN ''"                    \
    "  ELSE ': ' || h.reason END FROM orders o JOIN credit_order_history h ON h.order_id = o.id"   \
    " UNION ALL SELECT version_at, 6, 'refund', whop_refund_id, status"                            \
    "  || coalesce(', ' || (" AMOUNT ")::text, ', ' || amount_text, '')"                           \
    "  || coalesce(' ' || currency, '') || ' of '"                                                 \
    "  || whop_payment_id FROM found_refunds"                                                      \
    " UNION ALL SELECT version_at, 6, 'dispute', whop_dispute_id, status"                          \
    "  || coalesce(', ' || (" AMOUNT ")::text, ', ' || amount_text, '')"                           \
    "  || coalesce(' ' || currency, '') || ' of '"                                                 \
    "  || whop_payment_id FROM found_disputes"                                                     \
    " UNION ALL SELECT created_at, 8, 'notice', about, kind || ', to be told to ' || audience"     \
    "  FROM notices"                                                                               \
    " UNION ALL SELECT created_at, 7, 'hold', request_id, 'held '"                                 \
    "  || to_char(amount, 'FM999,999,999,990') || ' credits: ' || reason FROM holds"               \
    " UNION ALL SELECT ended_at, 7, 'hold', request_id, state"                                     \
    "  || CASE WHEN captured > 0 THEN ' ' || captured ELSE '' END FROM holds"                      \
    "  WHERE ended_at IS NOT NULL"

#define ASKED_STEPS                                                                                \
    " UNION ALL SELECT created_at, 6, 'refund', request_id, 'asked for: '"                         \
    "  || coalesce((" AMOUNT ")::text, 'all that is left') || ' of '"                              \
    "  || whop_payment_id || ', by ' || actor || ': ' || reason FROM asked"                        \
    " UNION ALL SELECT ended_at, 8, 'refund', request_id, CASE state WHEN 'sent'"                  \
    "  THEN 'Whop has taken it on' ELSE state END || coalesce(': ' || nullif(answer, ''), '')"     \
    "  FROM asked WHERE ended_at IS NOT NULL"

#define CALL_STEPS                                                                                 \
    " UNION ALL SELECT created_at, 6, 'call', 'outbound ' || id, operation || ' of '"              \
    "  || business_key || ' begun' FROM found_calls"                                               \
    " UNION ALL SELECT coalesce(finished_at, updated_at), 7, 'call', 'outbound ' || id,"           \
    "  state || coalesce(', made ' || remote_id, '') || coalesce(', status ' || status, '')"       \
    "  || ', sent ' || attempts || CASE attempts WHEN 1 THEN ' time' ELSE ' times' END"            \
    "  || coalesce(', parked: ' || parked, '') FROM found_calls"

/* In parts: ISO C does not promise longer literals than 4,095 characters. */
static void add_query(struct buf *out)
{
    buf_add_text(out, "WITH " FOUND_EVENTS FOUND_PAYMENTS);
    buf_add_text(out, FOUND_REST FOUND_CALLS " SELECT at, what, id, text FROM (" EVENT_STEPS);
    buf_add_text(out, JOB_STEPS MONEY_STEPS);
    buf_add_text(out, ORDER_STEPS);
    buf_add_text(out, ASKED_STEPS CALL_STEPS ") steps ORDER BY at, rank, id");
}

static struct err ask(struct cli *cli, const char *id, bool json)
{
    const struct pg_param params[] = {pg_text(id)};
    struct buf sql = {0};
    struct err err;
    if (json) {
        add_query(&sql);
        err = cli_print_json(cli, buf_text(&sql), params, ARRAY_LEN(params));
    } else {
        buf_add_text(&sql, "SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'),"
                           " what, id, text FROM (");
        add_query(&sql);
        buf_add_text(&sql, ") q");
        err = pg_exec(cli->pg, buf_text(&sql), params, ARRAY_LEN(params));
    }
    buf_close(&sql);
    return err;
}

static int print_people(struct pg *pg, const char *id)
{
    static const char *const heads[] = {"TIME (UTC)", "WHAT", "ID", "HAPPENED"};
    const struct output_list list = {.heads = heads, .columns = ARRAY_LEN(heads), .shortens = true};
    if (pg_rows(pg) == 0) {
        fprintf(stderr,
                "whopline: nothing is known about %s; an event that has just arrived may still be "
                "in Redis (whopline status)\n",
                id);
        return CLI_FAILED;
    }
    output_rows(pg, &list, 0);
    return CLI_OK;
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
    if (optind + 1 != count)
        return cli_usage(words[0], "it needs one id");
    struct buf id = {0};
    struct err err = cli_open_database(cli);
    if (!err_failed(&err))
        err = cli_complete_id(cli, words[optind], &id);
    if (!err_failed(&err))
        err = ask(cli, buf_text(&id), json);
    buf_close(&id);
    if (err_failed(&err))
        return cli_fail(&err);
    return json ? CLI_OK : print_people(cli->pg, words[optind]);
}

const struct cli_command command_trace = {
    .name = "trace",
    .usage = "ID [--json]",
    .purpose = "what is known about an order, payment, user, event or job",
    .help = "\"He paid, where are his credits?\" ID is the id of an order, payment, refund,\n"
            "dispute, checkout, membership, user or job, or an event's id or webhook-id. Shows the "
            "steps PostgreSQL knows of, in the order they\n"
            "happened; what is still in Redis alone is not among them.\n",
    .run = run,
};
