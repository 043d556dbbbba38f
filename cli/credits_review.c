/* `whopline credits review`: payments nobody could be credited for, and a person's decision. */
#include "cli/credits.h"
#include "cli/output.h"
#include "codec/json.h"
#include "service/credits_admin.h"

#include <stdio.h>

/* --- list ------------------------------------------------------------------------------------ */

/* Whose it may be: accounts of the payer's e-mail address, and orders of the plan that were open
 * when it was paid. */
#define CANDIDATES                                                                                 \
    "(SELECT coalesce(jsonb_agg(c), '[]') FROM"                                                    \
    " (SELECT a.owner_id AS user_id, 'same e-mail' AS why, NULL::uuid AS order_id"                 \
    "   FROM credit_accounts a WHERE a.tenant_id = p.tenant_id AND a.email_norm = p.email_norm"    \
    "  UNION ALL SELECT a.owner_id, 'order ' || o.state, o.id FROM credit_orders o"                \
    "   JOIN credit_accounts a ON a.id = o.account_id"                                             \
    "   WHERE o.tenant_id = p.tenant_id AND o.whop_plan_id = p.whop_plan_id"                       \
    "   AND o.whop_payment_id IS NULL AND o.created_at <= coalesce(p.paid_at, p.version_at)"       \
    "   AND coalesce(o.completed_at, 'infinity') >= coalesce(p.paid_at, p.version_at)"             \
    "  LIMIT 20) c)"

#define LISTED                                                                                     \
    " FROM credit_review r JOIN tenants t ON t.id = r.tenant_id"                                   \
    " LEFT JOIN payments p ON p.tenant_id = r.tenant_id"                                           \
    "  AND p.whop_payment_id = r.whop_payment_id"                                                  \
    " CROSS JOIN LATERAL (SELECT " CANDIDATES " AS candidates) c"                                  \
    " WHERE ($2::text IS NULL AND r.state = 'open' OR $2 = 'all' OR r.state = $2)"                 \
    " AND ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"                             \
    " ORDER BY r.created_at, r.id LIMIT 1000"

static const char *const heads[] = {">AGE", "STATE", "PAYMENT", "REASON",   "USER",
                                    "PLAN", "PACK",  "AMOUNT",  "MAYBE OF", "EVENT"};

static const struct output_list list = {
    .json = "SELECT t.slug AS tenant, r.whop_payment_id AS payment_id, r.reason,"
            " r.state, r.created_at, r.event_id, p.whop_user_id AS user_id,"
            " p.whop_plan_id AS plan_id, p.pack_id, p.amount_text AS amount,"
            " p.currency, p.status, p.granted AS credits, c.candidates,"
            " r.handled_by, r.handled_at, r.note" LISTED,
    .people = "SELECT extract(epoch FROM whopline_now() - r.created_at)::bigint, r.state,"
              " r.whop_payment_id, r.reason, p.whop_user_id, p.whop_plan_id, p.pack_id,"
              " p.amount_text || ' ' || p.currency,"
              " (SELECT string_agg(concat(x->>'user_id', ' (', x->>'why', ')'), ', ')"
              "  FROM jsonb_array_elements(c.candidates) x), r.event_id" LISTED,
    .heads = heads,
    .columns = ARRAY_LEN(heads),
    .age = 1,
    .shortens = true,
    .none = "no payment is waiting for a person",
};

struct err credits_cmd_review_list(struct cli *cli, const struct given *given)
{
    const struct pg_param params[] = {pg_text(given_text(given, "tenant")),
                                      pg_text(given_text(given, "state"))};
    return output_list(cli, &list, given_flag(given, "json"), params, ARRAY_LEN(params), 0);
}

/* --- deciding -------------------------------------------------------------------------------- */

static struct err explain(const char *payment, const struct review_deed *deed)
{
    char credits[OUTPUT_SHORT];
    output_number(deed->credits, credits);
    if (deed->result[0] == '\0')
        return err_make(ERR_NOT_FOUND, "no payment %.60s is on the review list", payment);
    if (strcmp(deed->result, "undecided") == 0)
        return err_make(ERR_REFUSED,
                        "nothing was done: what it is worth is not known (%.40s); say it with "
                        "--credits N",
                        deed->state);
    if (strcmp(deed->result, "not_paid") == 0)
        return err_make(ERR_REFUSED,
                        "nothing was done: as far as is known %.60s is not paid; if the user shall "
                        "have credits all the same: whopline credits adjust",
                        payment);
    if (strcmp(deed->result, "not_dismissed") == 0)
        return err_make(ERR_REFUSED, "%.60s is not dismissed", payment);
    if (strcmp(deed->state, "credited") == 0)
        return err_make(ERR_REFUSED, "already done: %.40s has got %s credits, by %.40s at %s UTC",
                        deed->owner, credits, deed->done_by, deed->done_at);
    return err_make(ERR_REFUSED, "already done: %.30s by %.40s at %s UTC", deed->state,
                    deed->done_by, deed->done_at);
}

static void print_deed(const char *payment, const struct review_deed *deed, bool json)
{
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    char credits[OUTPUT_SHORT];
    output_number(deed->credits, credits);
    if (json) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "payment_id", payment);
        json_put_text(&writer, "result", deed->result);
        json_put_text(&writer, "state", deed->state);
        json_put_text(&writer, "user_id", deed->owner);
        json_put_integer(&writer, "credits", deed->credits);
        json_end_object(&writer);
    } else {
        output_add_clean(&out, payment);
        buf_printf(&out, ": %s", deed->result);
        if (strcmp(deed->state, "credited") == 0) {
            buf_printf(&out, ", %s credits to ", credits);
            output_add_clean(&out, deed->owner);
        }
    }
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

static struct err decide(struct cli *cli, const struct given *given, enum review_verb verb,
                         const char *user, int64_t credits, const char *reason)
{
    int64_t tenant;
    struct review_deed deed;
    const char *payment = given->plain[0];
    TRY(given_tenant(cli, given, &tenant, NULL));
    TRY(credits_review_decide(cli->pg, verb, tenant, payment, user, credits,
                              given_actor(cli, given), reason, &deed));
    if (!deed.done)
        return explain(payment, &deed);
    print_deed(payment, &deed, given_flag(given, "json"));
    return ERR_NONE;
}

struct err credits_cmd_review_assign(struct cli *cli, const struct given *given)
{
    const char *user;
    int64_t credits = 0;
    const char *text = given_text(given, "credits");
    const char *reason = given_text(given, "reason");
    TRY(given_need(given, "user", &user));
    if (text != NULL)
        TRY(given_credits(text, 1, &credits));
    return decide(cli, given, REVIEW_ASSIGN, user, credits, reason != NULL ? reason : "");
}

struct err credits_cmd_review_dismiss(struct cli *cli, const struct given *given)
{
    const char *reason;
    TRY(given_need(given, "reason", &reason));
    return decide(cli, given, REVIEW_DISMISS, NULL, 0, reason);
}

struct err credits_cmd_review_reopen(struct cli *cli, const struct given *given)
{
    const char *reason;
    TRY(given_need(given, "reason", &reason));
    return decide(cli, given, REVIEW_REOPEN, NULL, 0, reason);
}
