#include "service/credits.h"

enum { EXPIRE_MAX = 500 }; /* holds in one transaction, whose accounts stay locked until its end */

static enum credits_result result_of(const char *decision, bool has_grant, int64_t credits,
                                     bool is_new)
{
    if (strcmp(decision, "not_paid") == 0)
        return CREDITS_NOT_PAID;
    if (!has_grant)
        return CREDITS_IN_REVIEW;
    if (!is_new)
        return CREDITS_UNCHANGED;
    return credits > 0 ? CREDITS_GRANTED : CREDITS_NOTHING;
}

static struct err ask(struct pg *pg, const struct credits_payment *payments, size_t count,
                      const char *actor)
{
    struct pg_array tenants;
    struct pg_array ids;
    pg_array_init(&tenants, PG_ELEMENT_BIGINT);
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++) {
        pg_array_add_integer(&tenants, payments[i].tenant);
        pg_array_add_text(&ids, payments[i].id);
    }
    struct err err = PG_EXEC(pg,
                             "SELECT place, decision, credits, is_new, late_us, kind"
                             " FROM credits_settle_told($1::bigint[], $2::text[], $3)",
                             pg_array_param(&tenants), pg_array_param(&ids), pg_text(actor));
    pg_array_close(&tenants);
    pg_array_close(&ids);
    return err;
}

enum column { PLACE, DECISION, CREDITS, IS_NEW, LATE_US, KIND };

static void count_row(struct pg *pg, size_t row, struct figures *figures)
{
    int64_t credits = pg_get_integer(pg, row, CREDITS);
    if (!pg_is_null(pg, row, KIND)) {
        credits_figures_note(figures, pg_get(pg, row, KIND), credits);
    } else if (pg_get_flag(pg, row, IS_NEW) && credits > 0) {
        figures_count(figures, CREDITS_FIGURE_GRANTS, 1);
        figures_count(figures, CREDITS_FIGURE_GRANTED, credits);
        if (!pg_is_null(pg, row, LATE_US))
            figures_observe(figures, CREDITS_FIGURE_LATENCY, pg_get_integer(pg, row, LATE_US));
    }
}

struct err credits_settle(struct pg *pg, struct arena *arena,
                          const struct credits_payment *payments, size_t count, const char *actor,
                          struct figures *figures, struct credits_outcome *out)
{
    size_t answered = 0;
    TRY(ask(pg, payments, count, actor));
    for (size_t row = 0; row < pg_rows(pg); row++) {
        count_row(pg, row, figures);
        if (pg_is_null(pg, row, PLACE))
            continue;
        size_t place = (size_t)pg_get_integer(pg, row, PLACE) - 1;
        const char *decision = pg_get(pg, row, DECISION);
        int64_t credits = pg_get_integer(pg, row, CREDITS);
        bool has_grant = !pg_is_null(pg, row, CREDITS);
        REQUIRE(place < count);
        out[place] = (struct credits_outcome){
            .result = result_of(decision, has_grant, credits, pg_get_flag(pg, row, IS_NEW)),
            .why = arena_strdup(arena, decision),
            .credits = credits,
        };
        answered++;
    }
    REQUIRE(answered == count);
    return ERR_NONE;
}

struct err credits_payments_failed(struct pg *pg, const struct payment_news *news, size_t count,
                                   const char *actor)
{
    struct pg_array tenants;
    struct pg_array payments;
    struct pg_array events;
    pg_array_init(&tenants, PG_ELEMENT_BIGINT);
    pg_array_init(&payments, PG_ELEMENT_TEXT);
    pg_array_init(&events, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++) {
        pg_array_add_integer(&tenants, news[i].tenant);
        pg_array_add_text(&payments, news[i].event->payment);
        pg_array_add_text(&events, news[i].event->id);
    }
    struct err err =
        PG_EXEC(pg, "SELECT credits_payments_failed($1, $2, $3, $4)", pg_array_param(&tenants),
                pg_array_param(&payments), pg_array_param(&events), pg_text(actor));
    pg_array_close(&tenants);
    pg_array_close(&payments);
    pg_array_close(&events);
    return err;
}

struct err credits_review_payment(struct pg *pg, int64_t tenant, const char *payment,
                                  const char *event_id, const char *reason)
{
    return PG_EXEC(pg,
                   "INSERT INTO credit_review AS old (tenant_id, whop_payment_id, reason, event_id)"
                   " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE"
                   " SET reason = EXCLUDED.reason, event_id = EXCLUDED.event_id"
                   " WHERE old.state = 'open'",
                   pg_integer(tenant), pg_text(payment), pg_text(reason), pg_text(event_id));
}

struct err credits_expire(struct pg *pg, int64_t *expired)
{
    *expired = 0;
    TRY(PG_EXEC(pg, "SELECT credits_expire_holds($1)", pg_integer(EXPIRE_MAX)));
    *expired = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}
