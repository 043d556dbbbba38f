/* `whopline credits stats`: how orders, payments and the ledger are doing. */
#include "cli/credits.h"
#include "cli/output.h"

#include <stdio.h>

static const char parts[] =
    "orders AS (SELECT o.payment_method AS method, count(*) AS opened,"
    "  count(o.paid_at) AS paid, count(*) FILTER (WHERE o.paid_at IS NULL"
    "   AND o.state IN ('requested', 'created', 'checkout_open', 'failed')) AS open,"
    "  count(*) FILTER (WHERE o.paid_at IS NULL"
    "   AND o.state IN ('expired', 'cancelled')) AS lost"
    "  FROM credit_orders o WHERE ($1::bigint IS NULL OR o.tenant_id = $1)"
    "  AND o.created_at >= $2::text::timestamptz GROUP BY 1),"
    /* From the payment at Whop to its row of the ledger. What a person decided took as long as the
     * person did, and is counted apart. */
    " grants AS (SELECT extract(epoch FROM c.created_at - p.paid_at)::float8 AS seconds,"
    "  p.assigned_to IS NOT NULL AS by_hand FROM credit_transactions c"
    "  JOIN payments p ON p.tenant_id = c.tenant_id AND p.whop_payment_id = c.source_id"
    "  WHERE c.kind = 'topup' AND c.source_type = 'payment'"
    "  AND ($1::bigint IS NULL OR c.tenant_id = $1)"
    "  AND c.created_at >= $2::text::timestamptz),"
    " moved AS (SELECT c.kind, CASE WHEN c.source_type = 'order' OR c.kind = 'adjust'"
    "   OR p.assigned_to IS NOT NULL THEN 'manual' WHEN c.source_type = 'import' THEN 'import'"
    "   WHEN c.kind = 'usage' THEN 'application' ELSE 'automatic' END AS how,"
    "  count(*) AS rows, sum(c.credits)::bigint AS credits FROM credit_transactions c"
    "  LEFT JOIN payments p ON c.source_type = 'payment' AND p.tenant_id = c.tenant_id"
    "  AND p.whop_payment_id = c.source_id WHERE ($1::bigint IS NULL OR c.tenant_id = $1)"
    "  AND c.created_at >= $2::text::timestamptz GROUP BY 1, 2)";

static const char figures_of_them[] =
    " SELECT (SELECT coalesce(jsonb_object_agg(method, jsonb_build_object('opened', opened,"
    "   'paid', paid, 'open', open, 'lost', lost, 'success_rate',"
    "   CASE WHEN opened > open THEN round(paid::numeric / (opened - open), 4) END)), '{}')"
    "  FROM orders) AS orders,"
    " (SELECT jsonb_build_object('payments', count(*), 'p50',"
    "   percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds), 'p95',"
    "   percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds))"
    "  FROM grants WHERE NOT by_hand AND seconds IS NOT NULL) AS paid_to_ledger_seconds,"
    " (SELECT jsonb_build_object('automatic', count(*) FILTER (WHERE NOT by_hand),"
    "   'assigned', count(*) FILTER (WHERE by_hand), 'manual_orders',"
    "   (SELECT coalesce(sum(paid), 0) FROM orders WHERE method = 'manual'))"
    "  FROM grants) AS grants,"
    " (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'how', how, 'rows', rows,"
    "   'credits', credits) ORDER BY kind, how), '[]') FROM moved) AS ledger,"
    " (SELECT count(*) FROM credit_review r WHERE r.state = 'open'"
    "  AND ($1::bigint IS NULL OR r.tenant_id = $1)) AS review_open,"
    " (SELECT count(*) FROM credit_orders o WHERE o.state = 'requested'"
    "  AND ($1::bigint IS NULL OR o.tenant_id = $1)) AS orders_requested,"
    " (SELECT count(*) FROM credit_orders o"
    "  WHERE o.state IN ('created', 'checkout_open', 'failed')"
    "  AND ($1::bigint IS NULL OR o.tenant_id = $1)) AS orders_unpaid,"
    " (SELECT count(*) FROM credit_accounts_owing w JOIN credit_accounts a ON a.id = w.account_id"
    "  WHERE $1::bigint IS NULL OR a.tenant_id = $1) AS negative_balances,"
    " (SELECT count(*) FROM payments p WHERE p.was_paid AND p.granted IS NULL"
    "  AND ($1::bigint IS NULL OR p.tenant_id = $1) AND NOT EXISTS (SELECT FROM credit_review r"
    "   WHERE r.tenant_id = p.tenant_id AND r.whop_payment_id = p.whop_payment_id"
    "   AND r.state = 'open')) AS paid_without_credit,"
    /* Of all tenants together: a look at all books takes its time. */
    " (SELECT jsonb_object_agg(drift, found) || jsonb_build_object('looked_at', min(looked_at))"
    "  FROM credit_proofs) AS proof,"
    " (SELECT coalesce(jsonb_object_agg(kind, many), '{}') FROM (SELECT n.kind, count(*) AS many"
    "  FROM credit_notices n WHERE ($1::bigint IS NULL OR n.tenant_id = $1)"
    "  AND n.created_at >= $2::text::timestamptz GROUP BY 1) k) AS notices";

static void add_stats(struct buf *out)
{
    buf_printf(out, "WITH %s%s", parts, figures_of_them);
}

/* Asks for parts of the figures, which are s. */
static struct err ask(struct cli *cli, const char *select, const char *where,
                      const struct pg_param *params, size_t count)
{
    struct buf sql = {0};
    buf_add_text(&sql, select);
    buf_add_text(&sql, " FROM (");
    add_stats(&sql);
    buf_add_text(&sql, ") s ");
    buf_add_text(&sql, where);
    struct err err = pg_exec(cli->pg, buf_text(&sql), params, count);
    buf_close(&sql);
    return err;
}

static void print_rows(const struct pg *pg, const char *const *heads, size_t columns)
{
    const struct output_list list = {.heads = heads, .columns = columns};
    printf("\n");
    output_rows(pg, &list, 0);
}

static struct err print_people(struct cli *cli, const struct pg_param *params, size_t count)
{
    static const char *const heads[] = {"ORDERS", ">OPENED", ">PAID", ">LOST", ">OPEN", ">SUCCESS"};
    static const char *const moved[] = {"LEDGER", "HOW", ">ROWS", ">CREDITS"};
    static const char *const figures[] = {"FIGURE", ">VALUE"};
    const struct output_list orders = {
        .heads = heads, .columns = ARRAY_LEN(heads), .none = "no orders in this time"};
    TRY(ask(cli,
            "SELECT o.key, o.value->>'opened', o.value->>'paid', o.value->>'lost',"
            " o.value->>'open', round((o.value->>'success_rate')::numeric * 100, 1) || ' %'",
            ", jsonb_each(s.orders) o ORDER BY 1", params, count));
    output_rows(cli->pg, &orders, 0);
    TRY(ask(cli,
            "SELECT m->>'kind', m->>'how', to_char((m->>'rows')::bigint, 'FM999,999,999,990'),"
            " to_char((m->>'credits')::bigint, 'FM999,999,999,999,990')",
            ", jsonb_array_elements(s.ledger) m", params, count));
    if (pg_rows(cli->pg) > 0)
        print_rows(cli->pg, moved, ARRAY_LEN(moved));
    TRY(ask(cli, "SELECT f.name, f.value",
            "CROSS JOIN LATERAL (VALUES"
            " ('payments credited by rule', s.grants->>'automatic'),"
            " ('payments assigned by hand', s.grants->>'assigned'),"
            " ('manual orders approved', s.grants->>'manual_orders'),"
            " ('paid to ledger, half within',"
            "  round((s.paid_to_ledger_seconds->>'p50')::numeric, 1) || ' s'),"
            " ('paid to ledger, 95 % within',"
            "  round((s.paid_to_ledger_seconds->>'p95')::numeric, 1) || ' s'),"
            " ('payments in review now', s.review_open::text),"
            " ('manual orders waiting now', s.orders_requested::text),"
            " ('orders not paid yet', s.orders_unpaid::text),"
            " ('accounts that owe credits', s.negative_balances::text),"
            " ('paid, not credited, not in review', s.paid_without_credit::text),"
            " ('credited without a payment, by the last proof',"
            "  s.proof->>'credited_without_payment'),"
            " ('accounts unlike their ledger, by the last proof', s.proof->>'balance'),"
            " ('notices: failed payments', s.notices->>'payment_failed'),"
            " ('notices: disputes', s.notices->>'dispute'),"
            " ('notices: dispute alerts', s.notices->>'dispute_alert'),"
            " ('notices: reviews', s.notices->>'review')) f(name, value)",
            params, count));
    print_rows(cli->pg, figures, ARRAY_LEN(figures));
    return ERR_NONE;
}

static struct err print_json(struct cli *cli, const struct pg_param *params, size_t count)
{
    struct buf sql = {0};
    add_stats(&sql);
    struct err err = cli_print_json(cli, buf_text(&sql), params, count);
    buf_close(&sql);
    return err;
}

struct err credits_cmd_stats(struct cli *cli, const struct given *given)
{
    struct buf since = {0};
    int64_t tenant = 0;
    const char *age = given_text(given, "since");
    struct err err = cli_read_time(cli, "--since", age != NULL ? age : "30d", &since);
    if (!err_failed(&err) && given_text(given, "tenant") != NULL)
        err = given_tenant(cli, given, &tenant, NULL);
    const struct pg_param params[] = {tenant != 0 ? pg_integer(tenant) : pg_text(NULL),
                                      pg_text(buf_text(&since))};
    if (!err_failed(&err))
        err = given_flag(given, "json") ? print_json(cli, params, ARRAY_LEN(params))
                                        : print_people(cli, params, ARRAY_LEN(params));
    buf_close(&since);
    return err;
}
