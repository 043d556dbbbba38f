/* whopline orders: wishes to buy credits, paid at Whop or approved by hand. */
#include "cli/orders.h"

#include "cli/outcome.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "codec/json.h"
#include "service/jobs_admin.h"

#include <stdio.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 100000 };

/* --- list and show --------------------------------------------------------------------------- */

#define LISTED                                                                                     \
    " FROM credit_orders o JOIN tenants t ON t.id = o.tenant_id"                                   \
    " JOIN credit_accounts a ON a.id = o.account_id"                                               \
    " WHERE ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"                           \
    " AND ($2::text IS NULL OR o.state = $2) AND ($3::text IS NULL OR a.owner_id = $3)"            \
    " AND ($4::text IS NULL OR o.payment_method = $4)"                                             \
    " AND ($5::text IS NULL OR o.id = $5::text::uuid)"                                             \
    " ORDER BY o.created_at DESC, o.id LIMIT $6::bigint"

#define PRICE OUTCOME_MONEY("o.price")

#define NAMED                                                                                      \
    "o.id, t.slug AS tenant, a.owner_id AS user_id, o.whop_plan_id AS plan_id, o.plan_name,"       \
    " o.credits_amount AS credits, (" PRICE ")::text AS price, o.currency,"                        \
    " o.payment_method, o.payment_status, o.state, o.whop_payment_id,"                             \
    " o.whop_checkout_id, o.purchase_url, o.requested_by, o.completed_by, o.notes"

#define FIELDS NAMED ", o.own_price, o.completed_at, o.paid_at, o.expires_at, o.created_at"

#define CREATED   OUTCOME_UTC("o.created_at")
#define EXPIRES   OUTCOME_UTC("o.expires_at")
#define PAID      OUTCOME_UTC("o.paid_at")
#define COMPLETED OUTCOME_UTC("o.completed_at")

/* What is not so is left out, and so is when an order would have expired that is paid. */
#define FIELDS_PEOPLE                                                                              \
    NAMED ", CASE WHEN o.own_price THEN 'yes' END AS own_price, " CREATED " AS created_utc,"       \
          " CASE WHEN o.state IN ('created', 'checkout_open', 'failed') THEN " EXPIRES             \
          " END AS expires_utc, " PAID " AS paid_utc, " COMPLETED " AS completed_utc"

static const char *const heads[] = {">AGE",  "ORDER",  "USER",  "PLAN",        ">CREDITS",
                                    "PRICE", "METHOD", "STATE", "REQUESTED BY"};

static const struct output_list listed = {
    .json = "SELECT " FIELDS LISTED,
    .people = "SELECT extract(epoch FROM whopline_now() - o.created_at)::bigint, o.id,"
              " a.owner_id, o.plan_name, to_char(o.credits_amount, 'FM999,999,999,990'),"
              " (" PRICE ") || ' ' || o.currency, o.payment_method, o.state,"
              " o.requested_by" LISTED,
    .heads = heads,
    .columns = ARRAY_LEN(heads),
    .age = 1,
    .none = "no such orders",
};

static struct err list(struct cli *cli, const struct given *given)
{
    int64_t limit = LIMIT_DEFAULT;
    TRY(given_number(given, "limit", 1, LIMIT_MAX, &limit));
    const struct pg_param params[] = {pg_text(given_text(given, "tenant")),
                                      pg_text(given_text(given, "state")),
                                      pg_text(given_text(given, "user")),
                                      pg_text(given_text(given, "method")),
                                      pg_text(NULL),
                                      pg_integer(limit)};
    return output_list(cli, &listed, given_flag(given, "json"), params, ARRAY_LEN(params), limit);
}

#define HISTORY                                                                                    \
    "SELECT h.at, h.from_state, h.to_state, h.actor, h.reason, h.event_id"                         \
    " FROM credit_order_history h WHERE h.order_id = o.id ORDER BY h.id"

static void print_order(const struct pg *pg)
{
    struct table table;
    table_init(&table, NULL, 2);
    output_record(pg, 0, &table);
    table_print(&table, "");
}

static struct err print_history(struct cli *cli, const char *id)
{
    static const char *const columns[] = {"TIME (UTC)", "FROM", "TO", "ACTOR", "REASON"};
    const struct output_list history = {.heads = columns, .columns = ARRAY_LEN(columns)};
    TRY(PG_EXEC(
        cli->pg,
        "SELECT " OUTCOME_UTC("at") ", from_state, to_state, actor, reason"
                                    " FROM credit_order_history WHERE order_id = $1 ORDER BY id",
        pg_text(id)));
    printf("\n");
    output_rows(cli->pg, &history, 0);
    return ERR_NONE;
}

struct err orders_take_id(const struct given *given, char out[UUID_TEXT_SIZE])
{
    if (!jobs_admin_parse_id(given->plain[0], out))
        return err_make(ERR_USAGE,
                        "\"%.60s\" is no order's id: they look like"
                        " 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
                        given->plain[0]);
    return ERR_NONE;
}

static struct err show(struct cli *cli, const struct given *given)
{
    char id[UUID_TEXT_SIZE];
    TRY(orders_take_id(given, id));
    const struct pg_param params[] = {pg_text(given_text(given, "tenant")),
                                      pg_text(NULL),
                                      pg_text(NULL),
                                      pg_text(NULL),
                                      pg_text(id),
                                      pg_integer(1)};
    if (given_flag(given, "json"))
        return cli_print_json(cli,
                              "SELECT " FIELDS ", (SELECT json_agg(row_to_json(x)) FROM (" HISTORY
                              ") x) AS history" LISTED,
                              params, ARRAY_LEN(params));
    TRY(pg_exec(cli->pg, "SELECT " FIELDS_PEOPLE LISTED, params, ARRAY_LEN(params)));
    if (pg_rows(cli->pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no order %s", id);
    print_order(cli->pg);
    return print_history(cli, id);
}

/* --- create ---------------------------------------------------------------------------------- */

static struct err take_order(struct cli *cli, const struct given *given, struct order_new *out)
{
    const char *notes = given_text(given, "notes");
    *out = (struct order_new){.user = given_text(given, "user"),
                              .plan = given_text(given, "plan"),
                              .name = given_text(given, "name"),
                              .price = given_text(given, "price"),
                              .currency = given_text(given, "currency"),
                              .notes = notes != NULL ? notes : "",
                              .actor = given_actor(cli, given)};
    TRY(given_need(given, "user", &out->user));
    TRY(given_number(given, "credits", 1, ORDER_CREDITS_MAX, &out->credits));
    if (out->plan == NULL && (out->name == NULL || out->credits == 0 || out->price == NULL))
        return err_make(ERR_USAGE, "it needs --plan, or its own --name, --credits, --price and "
                                   "--currency");
    if ((out->price == NULL) != (out->currency == NULL))
        return err_make(ERR_USAGE, "--price and --currency belong together");
    return given_tenant(cli, given, &out->tenant, NULL);
}

static struct err create(struct cli *cli, const struct given *given)
{
    struct order_new order;
    char id[UUID_TEXT_SIZE];
    TRY(take_order(cli, given, &order));
    if (!given_flag(given, "manual"))
        return orders_create_by_whop(cli, given, &order);
    TRY(order_request(cli->pg, &order, id));
    if (given_flag(given, "json"))
        printf("{\"order_id\":\"%s\",\"state\":\"requested\"}\n", id);
    else
        printf("order %s is requested: when it is paid, whopline orders approve %s\n", id, id);
    return ERR_NONE;
}

/* --- deciding -------------------------------------------------------------------------------- */

static void print_deed(const char *id, const struct order_deed *deed, bool json)
{
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    char credits[OUTPUT_SHORT];
    output_number(deed->credits, credits);
    if (json) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "order_id", id);
        json_put_text(&writer, "state", deed->state);
        json_put_text(&writer, "user_id", deed->owner);
        json_put_integer(&writer, "credits", deed->credits);
        json_end_object(&writer);
    } else {
        buf_printf(&out, "order %s is %s", id, deed->state);
        if (strcmp(deed->state, "credited") == 0) {
            buf_printf(&out, ": %s credits to ", credits);
            output_add_clean(&out, deed->owner);
        }
    }
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

static struct err decide(struct cli *cli, const struct given *given, const char *reason,
                         struct err (*act)(struct pg *, int64_t, const char *, const char *,
                                           const char *, struct order_deed *))
{
    char id[UUID_TEXT_SIZE];
    int64_t tenant;
    struct order_deed deed;
    TRY(orders_take_id(given, id));
    TRY(given_tenant(cli, given, &tenant, NULL));
    TRY(act(cli->pg, tenant, id, given_actor(cli, given), reason, &deed));
    if (!deed.done)
        return err_make(ERR_REFUSED, "already done by %.40s: the order is %s since %s UTC",
                        deed.done_by, deed.state, deed.done_at);
    print_deed(id, &deed, given_flag(given, "json"));
    return ERR_NONE;
}

static struct err approve(struct cli *cli, const struct given *given)
{
    const char *reason = given_text(given, "reason");
    return decide(cli, given, reason != NULL ? reason : "", order_approve);
}

static struct err cancel(struct cli *cli, const struct given *given)
{
    const char *reason;
    TRY(given_need(given, "reason", &reason));
    return decide(cli, given, reason, order_cancel);
}

/* --- words ----------------------------------------------------------------------------------- */

static const struct verb verbs[] = {
    {"", "tenant= state= user= method= limit= json", "a verb", 0, 0, list},
    {"list", "tenant= state= user= method= limit= json", "no words", 0, 0, list},
    {"ls", "tenant= state= user= method= limit= json", "no words", 0, 0, list},
    {"show", "tenant= json", "one order", 1, 1, show},
    {"create",
     "tenant= actor= manual user= plan= name= credits= price= currency= notes= wait= json",
     "no words", 0, 0, create},
    {"convert", "tenant= actor= wait= json", "one order", 1, 1, orders_convert},
    {"refund", "tenant= actor= amount= request= reason= yes json", "one order", 1, 1,
     orders_refund},
    {"approve", "tenant= actor= reason= json", "one order", 1, 1, approve},
    {"cancel", "tenant= actor= reason= json", "one order", 1, 1, cancel},
};

static int run(struct cli *cli, int count, char **words)
{
    return verbs_run(cli, verbs, ARRAY_LEN(verbs),
                     "list, show, create, convert, refund, approve or cancel", count, words);
}

const struct cli_command command_orders = {
    .name = "orders",
    .usage = "[list] [filters] | show ID | create ... | convert ID | refund ID --reason R |"
             " approve ID | cancel ID --reason R",
    .purpose = "wishes to buy credits, paid at Whop or approved here",
    .help =
        "  [list]           the latest first [--state S] [--user U] [--method manual|whop]\n"
        "                   [--limit N]\n"
        "  show ID          all about one, and its history\n"
        "  create           --user U --plan plan_x [--notes N]; at its own price also\n"
        "                   --credits N and --price 990 --currency usd (without a plan --name,\n"
        "                   too). Gets a checkout at Whop and prints where to pay; --wait S\n"
        "                   seconds for it [20]\n"
        "  create --manual  the same, but an admin approves it when it is paid; one open manual\n"
        "                   order for each account\n"
        "  convert ID       a manual order is to be paid at Whop instead\n"
        "  refund ID        --reason R [--amount A, else all that is left] [--request ID: the "
        "same\n"
        "                   one refunds once]: by Whop; a plan first, --yes does it. Credits go\n"
        "                   when Whop says that it succeeded\n"
        "  approve ID       it is paid: grants its credits, once [--reason R]\n"
        "  cancel ID        --reason R; before it is paid. A late payment goes to the review "
        "list\n\n"
        "  --tenant T       slug or company id, where there are several\n"
        "  --actor A        who does it [WHOPLINE_ACTOR, SUDO_USER or the login name]\n"
        "  --json           for lists and for what became of it\n",
    .run = run,
};
