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

struct err credits_settle(struct pg *pg, struct arena *arena,
                          const struct credits_payment *payments, size_t count, const char *actor,
                          struct credits_outcome *out)
{
    struct pg_array tenants;
    struct pg_array ids;
    pg_array_init(&tenants, PG_ELEMENT_BIGINT);
    pg_array_init(&ids, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++) {
        pg_array_add_integer(&tenants, payments[i].tenant);
        pg_array_add_text(&ids, payments[i].id);
    }
    struct err err =
        PG_EXEC(pg,
                "SELECT s.decision, s.credits, s.is_new"
                " FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS asked(tenant, id, place)"
                " LEFT JOIN credits_settle($1, $2, $3) s"
                "  ON s.tenant_id = asked.tenant AND s.whop_payment_id = asked.id"
                " ORDER BY asked.place",
                pg_array_param(&tenants), pg_array_param(&ids), pg_text(actor));
    pg_array_close(&tenants);
    pg_array_close(&ids);
    TRY(err);
    REQUIRE(pg_rows(pg) == count);
    for (size_t i = 0; i < count; i++) {
        const char *decision = pg_is_null(pg, i, 0) ? "not_paid" : pg_get(pg, i, 0);
        int64_t credits = pg_get_integer(pg, i, 1);
        bool has_grant = !pg_is_null(pg, i, 1);
        out[i] = (struct credits_outcome){
            .result = result_of(decision, has_grant, credits, pg_get_flag(pg, i, 2)),
            .why = arena_strdup(arena, decision),
            .credits = credits,
        };
    }
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
