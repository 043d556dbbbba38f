#include "service/payments.h"

#include "codec/money.h"

#include <stdlib.h>

/* --- payments -------------------------------------------------------------------------------- */

/* Amounts go together with their currency. What was paid stands over what was asked, plain over
 * odd, newer over older: tax or a code may change them in between. */
#define AMOUNT_COUNTS                                                                              \
    "EXCLUDED.amount_text IS NOT NULL AND (old.amount_text IS NULL"                                \
    " OR (EXCLUDED.amount IS NOT NULL AND (old.amount IS NULL"                                     \
    "  OR (EXCLUDED.was_paid, EXCLUDED.version_at) > (old.was_paid, old.version_at))))"

#define REFUNDED_COUNTS                                                                            \
    "credits_word_counts(old.refunded, old.refunded_at, EXCLUDED.refunded, EXCLUDED.refunded_at)"

/* Each payment once: a statement cannot change a row twice. */
static const char note_payments[] =
    "INSERT INTO payments AS old (tenant_id, whop_payment_id, whop_user_id, whop_membership_id,"
    " whop_plan_id, whop_checkout_id, pack_id, order_ref, email_norm, credits_claimed, status,"
    " substatus, billing_reason, amount, amount_text, currency, refunded, refunded_odd, "
    "refunded_at,"
    " was_paid, paid_at, version_at, event_id) "
    "SELECT tenant, payment, NULLIF(whop_user, ''), NULLIF(membership, ''), NULLIF(plan, ''),"
    " NULLIF(checkout, ''), NULLIF(pack, ''), NULLIF(order_ref, ''), NULLIF(lower(email), ''),"
    " NULLIF(claimed, ''), NULLIF(status, ''), NULLIF(substatus, ''), NULLIF(reason, ''),"
    " NULLIF(amount, '')::numeric, NULLIF(amount_text, ''), NULLIF(lower(currency), ''),"
    " NULLIF(refunded, '')::numeric, NULLIF(refunded_odd, ''),"
    " CASE WHEN refunded <> '' THEN whopline_from_ms(version_ms) END, was_paid <> 0,"
    " whopline_from_ms(NULLIF(paid_ms, 0)),"
    " whopline_from_ms(version_ms), event "
    "FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],"
    " $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],"
    " $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::bigint[],"
    " $20::bigint[], $21::bigint[], $22::text[]) AS news(tenant, payment, whop_user, membership,"
    " plan, checkout, pack, order_ref, email, claimed, status, substatus, reason, amount,"
    " amount_text, currency, refunded, refunded_odd, was_paid, paid_ms, version_ms, event) "
    "ORDER BY tenant, payment COLLATE \"C\" "
    "ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE SET"
    " whop_user_id = COALESCE(old.whop_user_id, EXCLUDED.whop_user_id),"
    " whop_membership_id = COALESCE(old.whop_membership_id, EXCLUDED.whop_membership_id),"
    " whop_plan_id = COALESCE(old.whop_plan_id, EXCLUDED.whop_plan_id),"
    " whop_checkout_id = COALESCE(old.whop_checkout_id, EXCLUDED.whop_checkout_id),"
    " pack_id = COALESCE(old.pack_id, EXCLUDED.pack_id),"
    " order_ref = COALESCE(old.order_ref, EXCLUDED.order_ref),"
    " email_norm = COALESCE(old.email_norm, EXCLUDED.email_norm),"
    " credits_claimed = COALESCE(old.credits_claimed, EXCLUDED.credits_claimed),"
    " paid_at = COALESCE(old.paid_at, EXCLUDED.paid_at),"
    " billing_reason = COALESCE(old.billing_reason, EXCLUDED.billing_reason),"
    " amount = CASE WHEN " AMOUNT_COUNTS " THEN EXCLUDED.amount ELSE old.amount END,"
    " amount_text = CASE WHEN " AMOUNT_COUNTS " THEN EXCLUDED.amount_text ELSE old.amount_text END,"
    " currency = CASE WHEN " AMOUNT_COUNTS " THEN COALESCE(EXCLUDED.currency, old.currency)"
    "  ELSE COALESCE(old.currency, EXCLUDED.currency) END,"
    " refunded = CASE WHEN " REFUNDED_COUNTS " THEN EXCLUDED.refunded ELSE old.refunded END,"
    " refunded_at = CASE WHEN " REFUNDED_COUNTS
    "  THEN EXCLUDED.refunded_at ELSE old.refunded_at END,"
    " refunded_odd = CASE WHEN EXCLUDED.refunded > 0 THEN NULL"
    "  ELSE COALESCE(EXCLUDED.refunded_odd, old.refunded_odd) END,"
    " was_paid = old.was_paid OR EXCLUDED.was_paid,"
    " status = CASE WHEN EXCLUDED.version_at >= old.version_at"
    "  THEN COALESCE(EXCLUDED.status, old.status) ELSE old.status END,"
    " substatus = CASE WHEN EXCLUDED.version_at >= old.version_at"
    "  THEN COALESCE(EXCLUDED.substatus, old.substatus) ELSE old.substatus END,"
    " event_id = CASE WHEN EXCLUDED.was_paid AND NOT old.was_paid THEN EXCLUDED.event_id"
    "  ELSE old.event_id END,"
    " version_at = GREATEST(old.version_at, EXCLUDED.version_at),"
    " updated_at = whopline_now()";

static bool is_one_of(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

bool payment_is_paid(const struct event *event)
{
    static const char *const paid[] = {"paid", "succeeded"};
    /* Whop keeps "paid" and says the rest here; refunded or disputed means that it was paid. */
    static const char *const unpaid[] = {
        "failed",        "pending", "past_due",   "canceled",   "price_too_low",
        "uncollectible", "drafted", "incomplete", "unresolved",
    };
    if (is_one_of(event->substatus, unpaid, ARRAY_LEN(unpaid)))
        return false;
    if (text_is_empty(event->status))
        return strcmp(event->kind, "payment.succeeded") == 0;
    return is_one_of(event->status, paid, ARRAY_LEN(paid));
}

/* "" for what is no plain amount: kept as text beside it, for a person to look at. */
static const char *plain_amount(const char *text)
{
    enum money_sign sign = money_sign(text);
    return sign == MONEY_POSITIVE || sign == MONEY_ZERO ? text : "";
}

static bool is_same_payment(const struct payment_news *one, const struct payment_news *other)
{
    return one->tenant == other->tenant && strcmp(one->event->payment, other->event->payment) == 0;
}

static bool is_repeated(const struct payment_news *news, size_t place, size_t from)
{
    for (size_t i = from; i < place; i++)
        if (is_same_payment(&news[i], &news[place]))
            return true;
    return false;
}

/* What has been refunded of it. A payment may only say that all has gone back; and beside a state
 * that speaks of something else, as a dispute does, a nought says nothing. */
static const char *refunded_of(const struct event *event)
{
    static const char *const whole[] = {"refunded", "auto_refunded"};
    static const char *const plain[] = {"succeeded", "partially_refunded"};
    enum money_sign sign = money_sign(event->refunded);
    if (is_one_of(event->substatus, whole, ARRAY_LEN(whole)) && sign != MONEY_POSITIVE)
        return text_is_empty(event->amount) ? event->substatus : event->amount;
    if (sign == MONEY_ZERO && !text_is_empty(event->substatus) &&
        !is_one_of(event->substatus, plain, ARRAY_LEN(plain)))
        return "";
    return event->refunded;
}

static const char *odd_amount(const char *text)
{
    return money_sign(text) == MONEY_ODD ? text : "";
}

enum { TEXTS = 18, NUMBERS = 3 };

static void add_news(const struct payment_news *news, struct pg_array *tenants,
                     struct pg_array *texts, struct pg_array *numbers)
{
    const struct event *event = news->event;
    const char *refunded = refunded_of(event);
    const char *const values[TEXTS] = {
        event->payment,
        event->user,
        event->membership,
        event->plan,
        event->checkout,
        event->pack_id,
        event->order_id,
        event->email,
        event->credits_claimed,
        event->status,
        event->substatus,
        event->billing_reason,
        plain_amount(event->amount),
        event->amount,
        event->currency,
        plain_amount(refunded),
        odd_amount(refunded),
        event->id,
    };
    const int64_t times[NUMBERS] = {payment_is_paid(event), event->paid_ms, event->occurred_ms};
    pg_array_add_integer(tenants, news->tenant);
    for (size_t i = 0; i < TEXTS; i++)
        pg_array_add_text(&texts[i], values[i]);
    for (size_t i = 0; i < NUMBERS; i++)
        pg_array_add_integer(&numbers[i], times[i]);
}

/* news[from..to): each payment once. */
static struct err note_some(struct pg *pg, const struct payment_news *news, size_t from, size_t to)
{
    struct pg_array tenants;
    struct pg_array texts[TEXTS];
    struct pg_array numbers[NUMBERS];
    struct pg_param params[1 + TEXTS + NUMBERS];
    size_t used = 0;
    pg_array_init(&tenants, PG_ELEMENT_BIGINT);
    for (size_t i = 0; i < TEXTS; i++)
        pg_array_init(&texts[i], PG_ELEMENT_TEXT);
    for (size_t i = 0; i < NUMBERS; i++)
        pg_array_init(&numbers[i], PG_ELEMENT_BIGINT);
    for (size_t i = from; i < to; i++)
        add_news(&news[i], &tenants, texts, numbers);
    params[used++] = pg_array_param(&tenants);
    for (size_t i = 0; i < TEXTS - 1; i++)
        params[used++] = pg_array_param(&texts[i]);
    for (size_t i = 0; i < NUMBERS; i++)
        params[used++] = pg_array_param(&numbers[i]);
    params[used++] = pg_array_param(&texts[TEXTS - 1]);
    struct err err = pg_exec(pg, note_payments, params, used);
    pg_array_close(&tenants);
    for (size_t i = 0; i < TEXTS; i++)
        pg_array_close(&texts[i]);
    for (size_t i = 0; i < NUMBERS; i++)
        pg_array_close(&numbers[i]);
    return err;
}

struct err payments_note(struct pg *pg, const struct payment_news *news, size_t count)
{
    size_t from = 0;
    for (size_t i = 1; i <= count; i++) {
        if (i < count && !is_repeated(news, i, from))
            continue;
        TRY(note_some(pg, news, from, i));
        from = i;
    }
    return ERR_NONE;
}

/* --- refunds and disputes -------------------------------------------------------------------- */

/* So that whoever books them has a row to lock, and a later payment finds them. */
static struct err hold_payment(struct pg *pg, int64_t tenant, const struct event *event)
{
    return PG_EXEC(pg,
                   "INSERT INTO payments AS old (tenant_id, whop_payment_id, whop_user_id,"
                   " whop_membership_id, whop_plan_id, version_at, event_id)"
                   " VALUES ($1, $2, $3, $4, $5, '-infinity', $6)"
                   " ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE SET"
                   " whop_user_id = COALESCE(old.whop_user_id, EXCLUDED.whop_user_id),"
                   " whop_membership_id ="
                   "  COALESCE(old.whop_membership_id, EXCLUDED.whop_membership_id),"
                   " whop_plan_id = COALESCE(old.whop_plan_id, EXCLUDED.whop_plan_id)",
                   pg_integer(tenant), pg_text(event->payment), pg_text_or_null(event->user),
                   pg_text_or_null(event->membership), pg_text_or_null(event->plan),
                   pg_text(event->id));
}

struct err payments_note_refund(struct pg *pg, int64_t tenant, const struct event *event)
{
    TRY(hold_payment(pg, tenant, event));
    return PG_EXEC(
        pg,
        "INSERT INTO refunds AS old (tenant_id, whop_refund_id, whop_payment_id, amount,"
        " amount_text, currency, status, version_at, event_id)"
        " VALUES ($1, $2, $3, $4::numeric, $5, lower($6), $7, whopline_from_ms($8::bigint), $9)"
        " ON CONFLICT (tenant_id, whop_refund_id) DO UPDATE SET"
        " amount = EXCLUDED.amount, amount_text = EXCLUDED.amount_text,"
        " currency = EXCLUDED.currency, status = EXCLUDED.status,"
        " version_at = EXCLUDED.version_at, event_id = EXCLUDED.event_id,"
        " updated_at = whopline_now()"
        " WHERE (EXCLUDED.status IN ('succeeded', 'failed', 'canceled'), EXCLUDED.version_at)"
        "  > (old.status IN ('succeeded', 'failed', 'canceled'), old.version_at)",
        pg_integer(tenant), pg_text(event->refund), pg_text(event->payment),
        pg_text_or_null(plain_amount(event->amount)), pg_text_or_null(event->amount),
        pg_text_or_null(event->currency), pg_text(event->status), pg_integer(event->occurred_ms),
        pg_text(event->id));
}

/* What a status of Whop's means here; what it does not know is open until it says more. */
static const char *phase_of(const char *status)
{
    static const struct {
        const char *status;
        const char *phase;
    } known[] = {
        {"warning_needs_response", "warning"},
        {"warning_under_review", "warning"},
        {"warning_closed", "warning"},
        {"won", "won"},
        {"closed", "won"},
        {"lost", "lost"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(status, known[i].status) == 0)
            return known[i].phase;
    return "open";
}

/* How far a dispute has come. */
#define RANK(row) "(CASE " row ".phase WHEN 'warning' THEN 0 WHEN 'open' THEN 1 ELSE 2 END)"
#define NEW_RANK  RANK("EXCLUDED")
#define OLD_RANK  RANK("old")
#define OLD_TIME  "GREATEST(old.version_at, old.read_at)"

/* Which of two news stands.
 *
 * An event of a known time ($12): the newer one; of the same moment the one nearer to the end.
 * An event that only says when the dispute began (v5, v2) stands over what it has come beyond, too.
 * What is read from Whop ($11) is as new as the moment before it was asked for, but lists may lag
 * behind: it never takes a step back, so that none of what events have told is undone by an older
 * state. Won, lost and closed are final for it; that one of them became another one (lost, and won
 * after all) is believed, and that it was opened again is left to the event that tells of it. */
static const char dispute_sql[] =
    "INSERT INTO disputes AS old (tenant_id, whop_dispute_id, whop_payment_id, amount, amount_text,"
    " currency, status, phase, version_at, event_id)"
    " VALUES ($1, $2, $3, $4::numeric, $5, lower($6), $7, $8, whopline_from_ms($9::bigint),"
    " $10)"
    " ON CONFLICT (tenant_id, whop_dispute_id) DO UPDATE SET"
    " amount = EXCLUDED.amount, amount_text = EXCLUDED.amount_text,"
    " currency = EXCLUDED.currency, status = EXCLUDED.status, phase = EXCLUDED.phase,"
    " version_at = EXCLUDED.version_at, event_id = EXCLUDED.event_id, updated_at = whopline_now()"
    " WHERE CASE WHEN $11 THEN EXCLUDED.version_at > " OLD_TIME
    "  AND EXCLUDED.status <> old.status AND " NEW_RANK " >= " OLD_RANK
    " ELSE (EXCLUDED.version_at, " NEW_RANK ") > (" OLD_TIME ", " OLD_RANK ")"
    "  OR (NOT $12 AND " NEW_RANK " > " OLD_RANK ") END";

static struct err note_dispute(struct pg *pg, int64_t tenant, const struct event *event,
                               bool is_read)
{
    TRY(hold_payment(pg, tenant, event));
    return PG_EXEC(pg, dispute_sql, pg_integer(tenant), pg_text(event->dispute),
                   pg_text(event->payment), pg_text_or_null(plain_amount(event->amount)),
                   pg_text_or_null(event->amount), pg_text_or_null(event->currency),
                   pg_text(event->status), pg_text(phase_of(event->status)),
                   pg_integer(event->occurred_ms), pg_text(event->id), pg_flag(is_read),
                   pg_flag(event->occurred_known));
}

struct err payments_note_dispute(struct pg *pg, int64_t tenant, const struct event *event)
{
    return note_dispute(pg, tenant, event, false);
}

struct err payments_note_dispute_read(struct pg *pg, int64_t tenant, const struct event *event)
{
    TRY(note_dispute(pg, tenant, event, true));
    return PG_EXEC(pg,
                   "UPDATE disputes SET read_at = GREATEST(read_at, whopline_from_ms($3::bigint))"
                   " WHERE tenant_id = $1 AND whop_dispute_id = $2 AND status = $4",
                   pg_integer(tenant), pg_text(event->dispute), pg_integer(event->occurred_ms),
                   pg_text(event->status));
}

struct err payments_note_dispute_alert(struct pg *pg, int64_t tenant, const struct event *event)
{
    return PG_EXEC(pg,
                   "INSERT INTO credit_notices (tenant_id, audience, kind, about, owner_id, detail)"
                   " VALUES ($1, 'admin', 'dispute_alert', $2, COALESCE($3, (SELECT whop_user_id"
                   "   FROM payments WHERE tenant_id = $1 AND whop_payment_id = $4)),"
                   "  jsonb_strip_nulls(jsonb_build_object('payment', $4::text, 'type', $5::text,"
                   "   'amount', $6::text, 'currency', $7::text)))"
                   " ON CONFLICT DO NOTHING",
                   pg_integer(tenant), pg_text(event->dispute), pg_text_or_null(event->user),
                   pg_text_or_null(event->payment), pg_text_or_null(event->status),
                   pg_text_or_null(event->amount), pg_text_or_null(event->currency));
}
