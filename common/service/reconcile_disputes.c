#include "service/reconcile_disputes.h"

#include "base/log.h"
#include "service/credits.h"
#include "service/reconcile_run.h"
#include "service/whop_news.h"

#include <stdlib.h>

#define ACTOR "whopline-sync"

/* --- into the books -------------------------------------------------------------------------- */

static int by_payment(const void *one, const void *other)
{
    const struct event *first = one;
    const struct event *second = other;
    return strcmp(first->payment, second->payment);
}

/* In the caller's transaction. Payments are locked in the order of their ids, here and by settling;
 * so those that know of none come last, and are left out. */
static struct err note(struct pg *pg, struct arena *arena, int64_t tenant, struct event *events,
                       size_t count, struct figures *figures)
{
    struct credits_payment *ids = arena_alloc(arena, (count + 1) * sizeof *ids);
    struct credits_outcome *outcomes = arena_alloc(arena, (count + 1) * sizeof *outcomes);
    size_t used = 0;
    if (count > 0)
        qsort(events, count, sizeof *events, by_payment);
    for (size_t i = 0; i < count; i++) {
        if (text_is_empty(events[i].payment)) {
            log_info("reconcile", "a dispute names no payment", LOG_INT("tenant", tenant),
                     LOG_TEXT("dispute", events[i].dispute));
            continue;
        }
        TRY(payments_note_dispute_read(pg, tenant, &events[i]));
        if (used == 0 || strcmp(ids[used - 1].id, events[i].payment) != 0)
            ids[used++] = (struct credits_payment){tenant, events[i].payment};
    }
    return used == 0 ? ERR_NONE : credits_settle(pg, arena, ids, used, ACTOR, figures, outcomes);
}

/* What is known of one that Whop does not name the payment of. */
static struct err find_payment(struct pg *pg, struct arena *arena, int64_t tenant,
                               const char *dispute, const char **out)
{
    TRY(PG_EXEC(
        pg, "SELECT whop_payment_id FROM disputes WHERE tenant_id = $1 AND whop_dispute_id = $2",
        pg_integer(tenant), pg_text(dispute)));
    *out = pg_rows(pg) > 0 ? arena_strdup(arena, pg_get(pg, 0, 0)) : "";
    return ERR_NONE;
}

static struct err count_unknown(struct pg *pg, int64_t tenant, const struct whop_dispute *disputes,
                                size_t count, int64_t *out)
{
    struct pg_array ids;
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++)
        pg_array_add_text(&ids, disputes[i].id);
    struct err err = PG_EXEC(pg,
                             "SELECT count(*) FROM unnest($2::text[]) AS given(id)"
                             " WHERE NOT EXISTS (SELECT FROM disputes d WHERE d.tenant_id = $1"
                             "  AND d.whop_dispute_id = given.id)",
                             pg_integer(tenant), pg_array_param(&ids));
    pg_array_close(&ids);
    TRY(err);
    *out = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}

static struct err take_page(struct pg *pg, struct arena *arena, int64_t tenant,
                            const struct whop_page *page, int64_t read_ms, struct figures *figures,
                            struct reconcile_tally *tally)
{
    const struct whop_dispute *disputes = page->items;
    struct event *events = arena_alloc(arena, (page->count + 1) * sizeof *events);
    *tally = (struct reconcile_tally){.fetched = (int64_t)page->count};
    TRY(count_unknown(pg, tenant, disputes, page->count, &tally->unknown));
    for (size_t i = 0; i < page->count; i++) {
        whop_news_of_dispute(&disputes[i], read_ms, arena, &events[i]);
        if (text_is_empty(events[i].payment))
            TRY(find_payment(pg, arena, tenant, disputes[i].id, &events[i].payment));
    }
    return note(pg, arena, tenant, events, page->count, figures);
}

/* --- pages ----------------------------------------------------------------------------------- */

/* A list may say less of a dispute than the dispute itself does. */
static struct err complete(struct whop *whop, struct whop_page *page)
{
    const struct whop_dispute *listed = page->items;
    struct whop_dispute *whole = arena_alloc(whop->arena, (page->count + 1) * sizeof *whole);
    for (size_t i = 0; i < page->count; i++) {
        struct err err = ERR_NONE;
        if (text_is_empty(listed[i].payment) || text_is_empty(listed[i].status))
            err = whop_get_dispute(whop, listed[i].id, &whole[i]);
        else
            whole[i] = listed[i];
        if (err.code == ERR_WHOP_NOT_FOUND) /* listed all the same: what the list says is all */
            whole[i] = listed[i];
        else
            TRY(err);
    }
    page->items = whole;
    return ERR_NONE;
}

static struct err read_page(struct pg *pg, struct outside *outside, struct arena *arena,
                            int64_t tenant, int64_t since_ms, const char *cursor,
                            struct whop_page *out)
{
    char since[WHOP_TIME_SIZE];
    struct tenant_whop client;
    struct whop_list list;
    const struct whop_filter filters[] = {{"created_after", whop_time_text(since_ms, since)}};
    TRY(tenant_whop_open(&client, pg, outside, arena, tenant, CREDENTIAL_FOR_WORK));
    client.whop.bulk = true;
    whop_list(&list, &client.whop, WHOP_OPERATION_disputes_list, filters, ARRAY_LEN(filters),
              cursor);
    struct err err = whop_next_page(&list, out);
    return tenant_whop_close(&client, err_failed(&err) ? err : complete(&client.whop, out));
}

/* Said when it begins to be so, and not four times an hour from then on. */
static struct err refuse(struct pg *pg, int64_t tenant, const struct reconcile_page *page,
                         const struct err *why, struct reconcile_disputes_result *out)
{
    TRY(pg_begin(pg));
    TRY(PG_EXEC(pg,
                "UPDATE reconcile_runs r SET status = 'failed', finished_at = whopline_now(),"
                " error = 'needs payment:dispute:read: ' || $4"
                " WHERE id = $1 AND status = 'running' AND next_page = $2"
                " RETURNING COALESCE((SELECT p.error LIKE 'needs payment:dispute:read: %'"
                "  FROM reconcile_runs p WHERE p.tenant_id = $3 AND p.kind = r.kind AND p.id < r.id"
                "  ORDER BY p.started_at DESC LIMIT 1), false)",
                pg_integer(page->run), pg_integer(page->number), pg_integer(tenant),
                pg_text(err_text(why))));
    out->taken = pg_rows(pg) == 0;
    out->refused = !out->taken;
    if (out->refused && !pg_get_flag(pg, 0, 0))
        log_warning("reconcile",
                    "disputes cannot be read at Whop: grant payment:dispute:read to the credential;"
                    " until then only events tell of them",
                    LOG_INT("tenant", tenant), LOG_TEXT("error", err_text(why)));
    return ERR_NONE;
}

/* The last page has been taken: what payments told of is explained, as far as it can be. */
static struct err end_run(struct pg *pg, int64_t run)
{
    return PG_EXEC(pg, "SELECT reconcile_end_disputes($1)", pg_integer(run));
}

struct err reconcile_take_disputes(struct pg *pg, struct outside *outside, struct arena *arena,
                                   int64_t tenant, const struct reconcile_page *page,
                                   struct figures *figures, struct reconcile_disputes_result *out)
{
    struct whop_page found;
    struct reconcile_tally tally;
    struct reconcile_run run;
    *out = (struct reconcile_disputes_result){.taken = true, .next = ""};
    TRY(reconcile_load_run(pg, page, &run));
    if (run.since_ms == 0)
        return pg_begin(pg);
    struct err err = read_page(pg, outside, arena, tenant, run.since_ms, page->cursor, &found);
    if (err.code == ERR_FORBIDDEN)
        return refuse(pg, tenant, page, &err, out);
    TRY(err);
    TRY(pg_begin(pg));
    TRY(take_page(pg, arena, tenant, &found, run.now_ms, figures, &tally));
    TRY(reconcile_advance(pg, page, found.more, &tally, &out->taken));
    if (out->taken) { /* by the same job, elsewhere: theirs is the tally */
        pg_rollback(pg);
        figures_empty(figures);
        return pg_begin(pg);
    }
    out->more = found.more;
    out->next = found.next;
    if (tally.unknown > 0)
        log_warning("reconcile", "there are disputes that no event had told of",
                    LOG_INT("tenant", tenant), LOG_INT("disputes", tally.unknown));
    return found.more ? ERR_NONE : end_run(pg, page->run);
}

/* --- one by one ------------------------------------------------------------------------------ */

struct err reconcile_pick_disputes(struct pg *pg, struct arena *arena, int64_t tenant, int64_t run,
                                   size_t max, const char ***out, size_t *count)
{
    /* A row that somebody holds is being told of: waiting for it would be against the order. */
    TRY(PG_EXEC(pg,
                "UPDATE disputes d SET asked_at = whopline_now() FROM ("
                " SELECT id FROM disputes WHERE tenant_id = $1 AND phase IN ('warning', 'open')"
                "  AND status <> 'warning_closed' AND COALESCE(read_at < (SELECT started_at"
                "   FROM reconcile_runs WHERE id = $2), true)"
                "  ORDER BY asked_at NULLS FIRST LIMIT $3 FOR UPDATE SKIP LOCKED) due"
                " WHERE d.id = due.id RETURNING d.whop_dispute_id",
                pg_integer(tenant), pg_integer(run), pg_integer((int64_t)max)));
    *count = pg_rows(pg);
    *out = arena_alloc(arena, (*count + 1) * sizeof **out);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = arena_strdup(arena, pg_get(pg, i, 0));
    return ERR_NONE;
}

static struct err read_dispute(struct pg *pg, struct outside *outside, struct arena *arena,
                               int64_t tenant, const char *dispute, struct whop_dispute *out)
{
    struct tenant_whop client;
    TRY(tenant_whop_open(&client, pg, outside, arena, tenant, CREDENTIAL_FOR_WORK));
    client.whop.bulk = true;
    return tenant_whop_close(&client, whop_get_dispute(&client.whop, dispute, out));
}

struct err reconcile_take_dispute(struct pg *pg, struct outside *outside, struct arena *arena,
                                  int64_t tenant, const char *dispute, struct figures *figures,
                                  const char **why)
{
    struct whop_dispute found;
    struct event news;
    TRY(PG_EXEC(pg,
                "SELECT whop_payment_id, (extract(epoch FROM whopline_now()) * 1000)::bigint"
                " FROM disputes WHERE tenant_id = $1 AND whop_dispute_id = $2",
                pg_integer(tenant), pg_text(dispute)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no dispute %.60s", dispute);
    const char *payment = arena_strdup(arena, pg_get(pg, 0, 0));
    int64_t read_ms = pg_get_integer(pg, 0, 1);
    struct err err = read_dispute(pg, outside, arena, tenant, dispute, &found);
    *why = err.code == ERR_FORBIDDEN        ? "permission_missing"
           : err.code == ERR_WHOP_NOT_FOUND ? "not_known_at_whop"
                                            : "";
    if (!text_is_empty(*why)) /* the next run asks again */
        return pg_begin(pg);
    TRY(err);
    whop_news_of_dispute(&found, read_ms, arena, &news);
    news.dispute = dispute;
    news.payment = payment;
    TRY(pg_begin(pg));
    return note(pg, arena, tenant, &news, 1, figures);
}
