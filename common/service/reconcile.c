#include "service/reconcile_run.h"

#include "base/log.h"
#include "service/credits.h"
#include "service/payments.h"
#include "service/whop_news.h"

#include <stdio.h>

#define ACTOR "whopline-sync"

struct err reconcile_begin(struct pg *pg, int64_t tenant, const char *kind, int64_t *run)
{
    TRY(PG_EXEC(pg, "SELECT reconcile_begin($1, $2)", pg_integer(tenant), pg_text(kind)));
    *run = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}

/* --- payments, from the API into the books --------------------------------------------------- */

static struct err count_unknown(struct pg *pg, int64_t tenant, const struct whop_payment *payments,
                                size_t count, int64_t *out)
{
    struct pg_array ids;
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++)
        pg_array_add_text(&ids, payments[i].id);
    struct err err = PG_EXEC(pg,
                             "SELECT count(*) FROM unnest($2::text[]) AS given(id)"
                             " WHERE NOT EXISTS (SELECT FROM payments p WHERE p.tenant_id = $1"
                             "  AND p.whop_payment_id = given.id)",
                             pg_integer(tenant), pg_array_param(&ids));
    pg_array_close(&ids);
    TRY(err);
    *out = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}

/* In the caller's transaction. */
static struct err take_payments(struct pg *pg, struct arena *arena, int64_t tenant,
                                const struct whop_payment *payments, size_t count,
                                struct figures *figures, struct reconcile_tally *tally)
{
    struct event *events = arena_alloc(arena, (count + 1) * sizeof *events);
    struct payment_news *news = arena_alloc(arena, (count + 1) * sizeof *news);
    struct credits_payment *ids = arena_alloc(arena, (count + 1) * sizeof *ids);
    struct credits_outcome *outcomes = arena_alloc(arena, (count + 1) * sizeof *outcomes);
    *tally = (struct reconcile_tally){.fetched = (int64_t)count};
    if (count == 0)
        return ERR_NONE;
    TRY(count_unknown(pg, tenant, payments, count, &tally->unknown));
    for (size_t i = 0; i < count; i++) {
        whop_news_of_payment(&payments[i], arena, &events[i]);
        news[i] = (struct payment_news){tenant, &events[i]};
        ids[i] = (struct credits_payment){tenant, payments[i].id};
    }
    TRY(payments_note(pg, news, count));
    TRY(credits_settle(pg, arena, ids, count, ACTOR, figures, outcomes));
    for (size_t i = 0; i < count; i++)
        tally->credited += outcomes[i].result == CREDITS_GRANTED;
    return ERR_NONE;
}

/* --- pages ----------------------------------------------------------------------------------- */

struct err reconcile_load_run(struct pg *pg, const struct reconcile_page *page,
                              struct reconcile_run *out)
{
    TRY(PG_EXEC(pg,
                "SELECT (extract(epoch FROM updated_after) * 1000)::bigint,"
                " (extract(epoch FROM whopline_now()) * 1000)::bigint FROM reconcile_runs"
                " WHERE id = $1 AND status = 'running' AND next_page = $2",
                pg_integer(page->run), pg_integer(page->number)));
    *out = (struct reconcile_run){0};
    if (pg_rows(pg) > 0)
        *out = (struct reconcile_run){pg_get_integer(pg, 0, 0), pg_get_integer(pg, 0, 1)};
    return ERR_NONE;
}

struct err reconcile_advance(struct pg *pg, const struct reconcile_page *page, bool more,
                             const struct reconcile_tally *tally, bool *taken)
{
    TRY(PG_EXEC(pg,
                "UPDATE reconcile_runs SET next_page = next_page + 1, fetched = fetched + $3,"
                " unknown = unknown + $4, credited = credited + $5,"
                " status = CASE WHEN $6 THEN 'running' ELSE 'success' END,"
                " finished_at = CASE WHEN $6 THEN NULL ELSE whopline_now() END"
                " WHERE id = $1 AND status = 'running' AND next_page = $2",
                pg_integer(page->run), pg_integer(page->number), pg_integer(tally->fetched),
                pg_integer(tally->unknown), pg_integer(tally->credited), pg_flag(more)));
    *taken = pg_affected(pg) == 0;
    return ERR_NONE;
}

static struct err read_page(struct pg *pg, struct outside *outside, struct arena *arena,
                            int64_t tenant, int64_t since_ms, const char *cursor,
                            struct whop_page *out)
{
    char since[WHOP_TIME_SIZE];
    struct tenant_whop client;
    struct whop_list list;
    const struct whop_filter filters[] = {{"updated_after", whop_time_text(since_ms, since)}};
    TRY(tenant_whop_open(&client, pg, outside, arena, tenant, CREDENTIAL_FOR_WORK));
    client.whop.bulk = true;
    whop_list(&list, &client.whop, WHOP_OPERATION_payments_list, filters, ARRAY_LEN(filters),
              cursor);
    return tenant_whop_close(&client, whop_next_page(&list, out));
}

struct err reconcile_take_page(struct pg *pg, struct outside *outside, struct arena *arena,
                               int64_t tenant, const struct reconcile_page *page,
                               struct figures *figures, struct reconcile_result *out)
{
    struct whop_page found;
    struct reconcile_tally tally;
    struct reconcile_run run;
    *out = (struct reconcile_result){.taken = true, .next = ""};
    TRY(reconcile_load_run(pg, page, &run));
    if (run.since_ms == 0)
        return pg_begin(pg);
    TRY(read_page(pg, outside, arena, tenant, run.since_ms, page->cursor, &found));
    TRY(pg_begin(pg));
    TRY(take_payments(pg, arena, tenant, found.items, found.count, figures, &tally));
    TRY(reconcile_advance(pg, page, found.more, &tally, &out->taken));
    if (out->taken) { /* by the same job, elsewhere: theirs is the tally */
        pg_rollback(pg);
        figures_empty(figures);
        return pg_begin(pg);
    }
    out->more = found.more;
    out->next = found.next;
    if (tally.credited > 0)
        log_warning("reconcile", "payments were credited that no event had brought",
                    LOG_INT("tenant", tenant), LOG_INT("payments", tally.credited));
    return ERR_NONE;
}

/* --- open orders ----------------------------------------------------------------------------- */

struct err reconcile_list_open_orders(struct pg *pg, struct arena *arena, int64_t tenant,
                                      size_t max, const char ***out, size_t *count)
{
    /* Those that expired lately, too: the buyer may have paid at the last moment. */
    TRY(PG_EXEC(pg,
                "SELECT id FROM credit_orders WHERE tenant_id = $1 AND whop_checkout_id IS NOT NULL"
                " AND whop_payment_id IS NULL AND created_at < whopline_now() - interval '10 min'"
                " AND (state IN ('checkout_open', 'failed')"
                "  OR (state = 'expired' AND expires_at > whopline_now() - interval '24 hours'))"
                " ORDER BY created_at LIMIT $2",
                pg_integer(tenant), pg_integer((int64_t)max)));
    *count = pg_rows(pg);
    *out = arena_alloc(arena, (*count + 1) * sizeof **out);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = arena_strdup(arena, pg_get(pg, i, 0));
    return ERR_NONE;
}

static struct err read_order(struct pg *pg, struct outside *outside, struct arena *arena,
                             int64_t tenant, const char *checkout, struct whop_page *out)
{
    struct tenant_whop client;
    struct whop_list list;
    const struct whop_filter filters[] = {{"checkout_configuration_ids[]", checkout}};
    TRY(tenant_whop_open(&client, pg, outside, arena, tenant, CREDENTIAL_FOR_WORK));
    client.whop.bulk = true;
    whop_list(&list, &client.whop, WHOP_OPERATION_payments_list, filters, ARRAY_LEN(filters), "");
    return tenant_whop_close(&client, whop_next_page(&list, out));
}

struct err reconcile_take_order(struct pg *pg, struct outside *outside, struct arena *arena,
                                int64_t tenant, const char *order, struct figures *figures)
{
    struct whop_page found;
    struct reconcile_tally tally;
    TRY(PG_EXEC(pg,
                "SELECT whop_checkout_id FROM credit_orders WHERE id = credits_uuid($1)"
                " AND tenant_id = $2 AND whop_checkout_id IS NOT NULL",
                pg_text(order), pg_integer(tenant)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no order %.60s with a checkout", order);
    const char *checkout = arena_strdup(arena, pg_get(pg, 0, 0));
    TRY(read_order(pg, outside, arena, tenant, checkout, &found));
    TRY(pg_begin(pg));
    return take_payments(pg, arena, tenant, found.items, found.count, figures, &tally);
}

/* --- the proof ------------------------------------------------------------------------------- */

enum { SHOWN_MAX = 20 };

/* For those who cannot look at all books each minute. */
static struct err note_proof(struct pg *pg, size_t wrong)
{
    return PG_EXEC(pg,
                   "INSERT INTO credit_proofs (drift, found) SELECT 'balance', $1::bigint"
                   " UNION ALL SELECT 'credited_without_payment', count(*) FROM credit_drift"
                   "  WHERE drift = 'credited_without_payment'"
                   " ON CONFLICT (drift) DO UPDATE"
                   " SET found = EXCLUDED.found, looked_at = EXCLUDED.looked_at",
                   pg_integer((int64_t)wrong));
}

struct err reconcile_prove(struct pg *pg, size_t *wrong)
{
    TRY(pg_exec(pg,
                "SELECT tenant_id, owner_id, credits_balance, ledger_amount, debt, held, holds"
                " FROM credit_mismatches",
                NULL, 0));
    *wrong = pg_rows(pg);
    for (size_t i = 0; i < *wrong && i < SHOWN_MAX; i++)
        log_error("reconcile", "an account does not equal its ledger",
                  LOG_INT("tenant", pg_get_integer(pg, i, 0)), LOG_TEXT("user", pg_get(pg, i, 1)),
                  LOG_INT("balance", pg_get_integer(pg, i, 2)),
                  LOG_INT("ledger", pg_get_integer(pg, i, 3)));
    return note_proof(pg, *wrong);
}
