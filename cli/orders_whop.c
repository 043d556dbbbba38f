/* whopline orders create, convert and refund: what is asked of Whop for an order. The credits
 * worker does the asking; what is done here is the row, its job, and waiting for what comes of it.
 */
#include "cli/orders.h"
#include "cli/outcome.h"
#include "cli/output.h"
#include "service/order_whop.h"

#include "base/clock.h"
#include "base/random.h"
#include "codec/json.h"

#include <stdio.h>
#include <time.h>

enum { WAIT_S = 20, WAIT_MAX_S = 600, LOOK_MS = 200 };

/* --- a checkout ------------------------------------------------------------------------------ */

static void pause_ms(int64_t ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

static void print_checkout(struct pg *pg, const char *id, bool json)
{
    const char *state = pg_get(pg, 0, 0);
    const char *url = pg_get(pg, 0, 1);
    const char *stuck = pg_get(pg, 0, 3);
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    if (json) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "order_id", id);
        json_put_text(&writer, "state", state);
        json_put_text(&writer, "purchase_url", url[0] != '\0' ? url : NULL);
        json_put_text(&writer, "waits_for", stuck[0] != '\0' ? stuck : NULL);
        json_end_object(&writer);
    } else if (url[0] != '\0') {
        buf_printf(&out, "order %s is to be paid at %s", id, url);
    } else if (stuck[0] != '\0') {
        buf_printf(&out, "order %s is made, its checkout is not (", id);
        output_add_clean(&out, stuck);
        buf_add_text(&out, "): see whopline jobs");
    } else {
        buf_printf(&out,
                   "order %s is made, its checkout is not yet: whopline orders show %s tells where"
                   " to pay (does whopline-credits run?)",
                   id, id);
    }
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

/* Until there is an address to pay at, or none is to be expected, or it has been long enough. */
static struct err await_checkout(struct cli *cli, const struct given *given, const char *id)
{
    int64_t wait_s = WAIT_S;
    TRY(given_number(given, "wait", 0, WAIT_MAX_S, &wait_s));
    int64_t until_ms = clock_mono_ms() + wait_s * 1000;
    for (;;) {
        TRY(PG_EXEC(cli->pg,
                    "SELECT o.state, COALESCE(o.purchase_url, ''), COALESCE((SELECT h.reason"
                    " FROM credit_order_history h WHERE h.order_id = o.id ORDER BY h.id DESC"
                    " LIMIT 1), ''), COALESCE((SELECT j.state || ': ' || j.reason FROM jobs j"
                    "  WHERE j.state IN ('parked', 'dead') AND j.kind = 'credits.checkout'"
                    "  AND j.trace = o.id::text LIMIT 1), '')"
                    " FROM credit_orders o WHERE o.id = credits_uuid($1)",
                    pg_text(id)));
        if (strcmp(pg_get(cli->pg, 0, 0), "cancelled") == 0)
            return err_make(ERR_REFUSED, "Whop makes no checkout for order %s: %.100s", id,
                            pg_get(cli->pg, 0, 2));
        if (pg_get(cli->pg, 0, 1)[0] != '\0' || pg_get(cli->pg, 0, 3)[0] != '\0' ||
            clock_mono_ms() >= until_ms)
            break;
        pause_ms(LOOK_MS);
    }
    print_checkout(cli->pg, id, given_flag(given, "json"));
    return ERR_NONE;
}

struct err orders_create_by_whop(struct cli *cli, const struct given *given,
                                 const struct order_new *order)
{
    char id[UUID_TEXT_SIZE];
    TRY(order_whop_create(cli->pg, order, id));
    return await_checkout(cli, given, id);
}

struct err orders_convert(struct cli *cli, const struct given *given)
{
    char id[UUID_TEXT_SIZE];
    int64_t tenant;
    TRY(orders_take_id(given, id));
    TRY(given_tenant(cli, given, &tenant, NULL));
    TRY(order_whop_convert(cli->pg, tenant, id, given_actor(cli, given)));
    return await_checkout(cli, given, id);
}

/* --- a refund -------------------------------------------------------------------------------- */

#define PAID      OUTCOME_MONEY("p.amount")
#define GONE_BACK OUTCOME_MONEY("back.amount")

static struct err print_plan(struct cli *cli, const struct order_refund *refund)
{
    TRY(PG_EXEC(cli->pg,
                "SELECT o.state, o.whop_payment_id, COALESCE((" PAID ")::text, p.amount_text),"
                " p.currency, (" GONE_BACK ")::text"
                " FROM credit_orders o LEFT JOIN payments p ON p.tenant_id = o.tenant_id"
                " AND p.whop_payment_id = o.whop_payment_id"
                " CROSS JOIN LATERAL (SELECT COALESCE(sum(f.amount), 0) AS amount FROM refunds f"
                "  WHERE f.tenant_id = p.tenant_id AND f.whop_payment_id = p.whop_payment_id"
                "  AND f.status = 'succeeded') back"
                " WHERE o.id = credits_uuid($1) AND o.tenant_id = $2",
                pg_text(refund->order), pg_integer(refund->tenant)));
    if (pg_rows(cli->pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no order %s", refund->order);
    if (pg_is_null(cli->pg, 0, 1))
        return err_make(ERR_REFUSED, "the order is %.40s: nothing has been paid for it at Whop",
                        pg_get(cli->pg, 0, 0));
    printf("would have Whop refund %s of payment %s (%s %s, of which %s is refunded)\n"
           "nothing has been asked for; --yes does it\n",
           refund->amount != NULL ? refund->amount : "all that is left", pg_get(cli->pg, 0, 1),
           pg_get(cli->pg, 0, 2), pg_get(cli->pg, 0, 3), pg_get(cli->pg, 0, 4));
    return ERR_NONE;
}

static void print_asked(const struct order_refund *refund, bool is_new, bool json)
{
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    if (json) {
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "order_id", refund->order);
        json_put_text(&writer, "request_id", refund->request);
        json_put_flag(&writer, "new", is_new);
        json_end_object(&writer);
    } else if (is_new) {
        buf_printf(&out,
                   "Whop is asked for the refund (request %s): whopline trace %s tells how"
                   " it goes",
                   refund->request, refund->order);
    } else {
        buf_printf(&out, "request %s was made before: nothing more is asked for", refund->request);
    }
    printf("%s\n", buf_text(&out));
    buf_close(&out);
}

struct err orders_refund(struct cli *cli, const struct given *given)
{
    char id[UUID_TEXT_SIZE];
    char request[UUID_TEXT_SIZE];
    bool is_new = false;
    struct order_refund refund = {.order = id,
                                  .amount = given_text(given, "amount"),
                                  .request = given_text(given, "request"),
                                  .actor = given_actor(cli, given)};
    TRY(orders_take_id(given, id));
    TRY(given_need(given, "reason", &refund.reason));
    TRY(given_tenant(cli, given, &refund.tenant, NULL));
    if (!given_flag(given, "yes"))
        return print_plan(cli, &refund);
    if (refund.request == NULL) {
        random_uuid(request);
        refund.request = request;
    }
    TRY(given_keep_request(order_whop_refund(cli->pg, &refund, &is_new), refund.request));
    print_asked(&refund, is_new, given_flag(given, "json"));
    return ERR_NONE;
}
