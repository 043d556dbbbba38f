#include "service/member_runs.h"

#include "base/log.h"
#include "service/whop_news.h"

#define ACTOR "whopline-sync"

/* An answer that cannot be read is asked for so often again before the run is given up: the next
 * one begins soon enough. */
enum { UNREADABLE_MAX = 2 };

struct err member_runs_begin(struct pg *pg, int64_t tenant, const char *kind, const char *by,
                             int64_t *run)
{
    TRY(PG_EXEC(pg, "SELECT run FROM member_run_begin($1, $2, $3)", pg_integer(tenant),
                pg_text(kind), pg_text(by)));
    *run = pg_rows(pg) > 0 ? pg_get_integer(pg, 0, 0) : 0;
    return ERR_NONE;
}

/* --- a page ---------------------------------------------------------------------------------- */

struct run {
    const char *kind;
    const char *cursor;
    int64_t created_after_ms; /* of recent */
    int64_t asked_ms;         /* the page is not newer, by the database's clock */
    int64_t fresh_after_ms;   /* who has joined since may be greeted */
};

/* out->kind is NULL if it is not this page's turn (any more). */
static struct err load_run(struct pg *pg, struct arena *arena, const struct config *config,
                           const struct member_page *page, struct run *out)
{
    TRY(PG_EXEC(pg,
                "SELECT r.kind, r.cursor, (extract(epoch FROM r.created_after) * 1000)::bigint,"
                " (extract(epoch FROM whopline_now() - member_list_lag()) * 1000)::bigint,"
                " CASE WHEN NOT r.is_first THEN (extract(epoch FROM greatest(t.created_at,"
                "  whopline_now() - $4::bigint * interval '1 minute')) * 1000)::bigint END"
                " FROM member_runs r JOIN tenants t ON t.id = r.tenant_id"
                " WHERE r.id = $1 AND r.tenant_id = $2 AND r.status = 'running'"
                "  AND r.next_page = $3 AND r.sweep_after IS NULL",
                pg_integer(page->run), pg_integer(page->tenant), pg_integer(page->number),
                pg_integer(config->welcome_max_age_minutes)));
    *out = (struct run){0};
    if (pg_rows(pg) == 0)
        return ERR_NONE;
    *out = (struct run){
        .kind = arena_strdup(arena, pg_get(pg, 0, 0)),
        .cursor = arena_strdup(arena, pg_get(pg, 0, 1)),
        .created_after_ms = pg_get_integer(pg, 0, 2),
        .asked_ms = pg_get_integer(pg, 0, 3),
        .fresh_after_ms = pg_get_integer(pg, 0, 4),
    };
    if (pg_is_null(pg, 0, 4))
        out->fresh_after_ms = INT64_MAX;
    return ERR_NONE;
}

/* open: what has not come to its end. Those that have, and what is paid for good, are left to the
 * complete run. */
static size_t fill_filters(const struct run *run, char since[WHOP_TIME_SIZE],
                           struct whop_filter *out)
{
    static const char *const open[] = {"trialing",  "active",     "past_due",
                                       "canceling", "unresolved", "drafted"};
    size_t count = 0;
    if (strcmp(run->kind, "recent") == 0)
        out[count++] =
            (struct whop_filter){"created_after", whop_time_text(run->created_after_ms, since)};
    for (size_t i = 0; strcmp(run->kind, "open") == 0 && i < ARRAY_LEN(open); i++)
        out[count++] = (struct whop_filter){"statuses[]", open[i]};
    return count;
}

struct page_news {
    struct whop_page found;
    struct member_news *news;
    size_t count;
};

/* As the events that would have told the same. An item that says too little to go by is left out:
 * at the end of a complete run it is asked about alone. */
static struct err make_news(struct whop *whop, const struct run *run, int64_t tenant,
                            struct page_news *out)
{
    const struct whop_membership *memberships = out->found.items;
    out->news = arena_alloc(whop->arena, (out->found.count + 1) * sizeof *out->news);
    for (size_t i = 0; i < out->found.count; i++) {
        const struct whop_membership *membership = &memberships[i];
        struct event *event = arena_alloc(whop->arena, sizeof *event);
        int64_t joined_ms =
            membership->created_ms != 0 ? membership->created_ms : membership->joined_ms;
        bool complete;
        whop_news_of_membership(membership, run->asked_ms, whop->arena, event);
        TRY(members_complete(whop, event, &complete));
        if (complete)
            out->news[out->count++] =
                (struct member_news){.tenant = tenant,
                                     .source = MEMBER_READ,
                                     .event = event,
                                     .asked_ms = run->asked_ms,
                                     .backfill = joined_ms < run->fresh_after_ms};
    }
    return ERR_NONE;
}

static struct err read_page(struct pg *pg, struct outside *outside, struct arena *arena,
                            const struct member_page *page, const struct run *run,
                            struct page_news *out)
{
    struct tenant_whop client;
    struct whop_list list;
    struct whop_filter filters[WHOP_FILTERS_MAX];
    char since[WHOP_TIME_SIZE];
    size_t filter_count = fill_filters(run, since, filters);
    TRY(tenant_whop_open(&client, pg, outside, arena, page->tenant, CREDENTIAL_FOR_WORK));
    client.whop.bulk = true;
    whop_list(&list, &client.whop, WHOP_OPERATION_memberships_list, filters, filter_count,
              run->cursor);
    struct err err = whop_next_page(&list, &out->found);
    if (!err_failed(&err))
        err = make_news(&client.whop, run, page->tenant, out);
    return tenant_whop_close(&client, err);
}

/* What asking again would not cure. A cursor that leads nowhere (any more) is such a thing. */
static bool ends_run(const struct err *err, int attempt)
{
    return err->code == ERR_FORBIDDEN || err->code == ERR_WHOP_API ||
           err->code == ERR_WHOP_NOT_FOUND ||
           (err->code == ERR_WHOP_ANSWER && attempt >= UNREADABLE_MAX);
}

/* Said when it begins to be so, and not six times an hour from then on. */
static struct err fail(struct pg *pg, struct arena *arena, const struct member_page *page,
                       const char *why, struct member_page_result *out)
{
    TRY(pg_begin(pg));
    TRY(PG_EXEC(pg, "SELECT member_run_fail($1, $2, $3)", pg_integer(page->run),
                pg_integer(page->number), pg_text(why)));
    out->taken = pg_is_null(pg, 0, 0);
    if (out->taken)
        return ERR_NONE;
    out->failed = arena_strdup(arena, why);
    if (pg_get_flag(pg, 0, 0))
        log_warning(
            "members", "memberships cannot be read at Whop: until then only events tell of them",
            LOG_INT("tenant", page->tenant), LOG_INT("run", page->run), LOG_TEXT("error", why));
    return ERR_NONE;
}

static struct err count_unknown(struct pg *pg, const struct page_news *page, int64_t tenant,
                                int64_t *out)
{
    struct pg_array ids;
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < page->count; i++)
        pg_array_add_text(&ids, page->news[i].event->membership);
    struct err err = PG_EXEC(pg,
                             "SELECT count(DISTINCT id) FROM unnest($2::text[]) AS given(id)"
                             " WHERE NOT EXISTS (SELECT FROM memberships m WHERE m.tenant_id = $1"
                             "  AND m.whop_membership_id = given.id)",
                             pg_integer(tenant), pg_array_param(&ids));
    pg_array_close(&ids);
    TRY(err);
    *out = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}

static struct err want_products(struct pg *pg, struct arena *arena, const struct config *config,
                                const struct page_news *page, int64_t tenant,
                                struct member_page_result *out)
{
    struct pg_array ids;
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < page->count; i++)
        pg_array_add_text(&ids, page->news[i].event->product);
    struct err err = PG_EXEC(
        pg, "SELECT product FROM products_want($1, $2::text[], $3::bigint * interval '1 hour')",
        pg_integer(tenant), pg_array_param(&ids), pg_integer(config->product_cache_hours));
    pg_array_close(&ids);
    TRY(err);
    out->product_count = pg_rows(pg);
    out->products = arena_alloc(arena, (out->product_count + 1) * sizeof *out->products);
    for (size_t i = 0; i < out->product_count; i++)
        out->products[i] = arena_strdup(arena, pg_get(pg, i, 0));
    return ERR_NONE;
}

/* In the transaction, the run's row locked. */
static struct err take(struct pg *pg, struct arena *arena, const struct config *config,
                       const struct member_page *page, const struct page_news *read,
                       struct member_page_result *out)
{
    int64_t added;
    TRY(count_unknown(pg, read, page->tenant, &added));
    TRY(members_note(pg, arena, read->news, read->count, ACTOR, &out->outcome));
    int64_t changed = (int64_t)out->outcome.changed_count - added;
    TRY(want_products(pg, arena, config, read, page->tenant, out));
    TRY(PG_EXEC(pg, "SELECT member_run_count($1, $2, $3, $4, $5)", pg_integer(page->run),
                pg_flag(out->more), pg_integer((int64_t)read->found.count), pg_integer(added),
                pg_integer(changed > 0 ? changed : 0)));
    out->sweep = pg_get_flag(pg, 0, 0);
    if (added + changed > 0)
        log_info("members", "Whop's list tells what no event has told",
                 LOG_INT("tenant", page->tenant), LOG_INT("run", page->run), LOG_INT("new", added),
                 LOG_INT("changed", changed));
    return ERR_NONE;
}

struct err member_runs_take_page(struct pg *pg, struct outside *outside, struct arena *arena,
                                 const struct config *config, const struct member_page *page,
                                 struct member_page_result *out)
{
    struct run run;
    struct page_news read = {0};
    *out = (struct member_page_result){.taken = true, .failed = ""};
    TRY(load_run(pg, arena, config, page, &run));
    if (run.kind == NULL)
        return pg_begin(pg);
    struct err err = read_page(pg, outside, arena, page, &run, &read);
    if (ends_run(&err, page->attempt))
        return fail(pg, arena, page, err_text(&err), out);
    TRY(err);
    TRY(pg_begin(pg));
    TRY(PG_EXEC(pg, "SELECT taken, circles FROM member_run_take($1, $2, $3)", pg_integer(page->run),
                pg_integer(page->number), pg_text(read.found.more ? read.found.next : "")));
    out->taken = pg_get_flag(pg, 0, 0);
    if (pg_get_flag(pg, 0, 1)) {
        pg_rollback(pg);
        return fail(pg, arena, page, "memberships.list: a cursor was there before", out);
    }
    out->more = read.found.more;
    return out->taken ? ERR_NONE : take(pg, arena, config, page, &read, out);
}

/* --- what the list did not show -------------------------------------------------------------- */

struct err member_runs_sweep(struct pg *pg, struct arena *arena, int64_t run, int64_t number,
                             struct member_absent **out, size_t *count)
{
    TRY(PG_EXEC(pg, "SELECT membership, whop_user FROM member_run_sweep($1, $2, $3)",
                pg_integer(run), pg_integer(number), pg_integer(MEMBER_SWEEP_MAX)));
    *count = pg_rows(pg);
    *out = arena_alloc(arena, (*count + 1) * sizeof **out);
    for (size_t i = 0; i < *count; i++)
        (*out)[i] = (struct member_absent){arena_strdup(arena, pg_get(pg, i, 0)),
                                           arena_strdup(arena, pg_get(pg, i, 1))};
    return ERR_NONE;
}

struct err member_runs_count_gone(struct pg *pg, int64_t run)
{
    return PG_EXEC(pg, "SELECT member_run_count_gone($1)", pg_integer(run));
}

struct err member_runs_was_read(struct pg *pg, int64_t tenant, int64_t run, const char *membership,
                                bool *out)
{
    TRY(PG_EXEC(pg,
                "SELECT FROM memberships m JOIN member_runs r ON r.id = $2"
                " WHERE m.tenant_id = $1 AND m.whop_membership_id = $3"
                "  AND m.read_at >= r.started_at - member_list_lag()",
                pg_integer(tenant), pg_integer(run), pg_text(membership)));
    *out = pg_rows(pg) > 0;
    return ERR_NONE;
}

/* --- products -------------------------------------------------------------------------------- */

struct err member_runs_read_product(struct pg *pg, struct outside *outside, struct arena *arena,
                                    int64_t tenant, const char *product)
{
    struct tenant_whop client;
    struct whop_product found;
    TRY(tenant_whop_open(&client, pg, outside, arena, tenant, CREDENTIAL_FOR_WORK));
    client.whop.bulk = true;
    TRY(tenant_whop_close(&client, whop_get_product(&client.whop, product, &found)));
    TRY(pg_begin(pg));
    return PG_EXEC(
        pg,
        "UPDATE products SET title = $3, fetched_at = whopline_now(), wanted_until = NULL"
        " WHERE tenant_id = $1 AND whop_product_id = $2",
        pg_integer(tenant), pg_text(product), pg_text(found.title));
}
