#include "service/queue_stats.h"

#include "service/scripts.h"

#include <stdio.h>

/* --- Redis ----------------------------------------------------------------------------------- */

struct asking {
    size_t left;
    struct err err; /* the last one */
};

struct answer {
    struct asking *asking;
    struct queue_stats *queue; /* one of the two */
    int64_t *number;
};

static void on_answer(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct answer *answer = data;
    answer->asking->left--;
    if (err != NULL) {
        answer->asking->err = *err;
        return;
    }
    if (answer->number != NULL) {
        *answer->number = redis_reply_integer(reply);
        return;
    }
    *answer->queue = (struct queue_stats){
        .depth = redis_reply_integer(redis_reply_at(reply, 0)),
        .pending = redis_reply_integer(redis_reply_at(reply, 1)),
        .delayed = redis_reply_integer(redis_reply_at(reply, 2)),
        .oldest_ms = redis_reply_integer(redis_reply_at(reply, 3)),
        .idle_ms = redis_reply_integer(redis_reply_at(reply, 4)),
        .consumers = redis_reply_integer(redis_reply_at(reply, 5)),
    };
}

struct err queue_stats_ask_redis(struct redis *redis, const char *prefix, struct redis_stats *out)
{
    struct asking asking = {.left = QUEUE_COUNT + 1, .err = ERR_NONE};
    struct answer answers[QUEUE_COUNT + 1];
    char key[KEY_MAX];
    char delayed[KEY_MAX];
    TRY(redis_wait_ready(redis));
    for (size_t i = 0; i < QUEUE_COUNT; i++) {
        key_stream(prefix, (enum queue_name)i, key);
        key_delayed(prefix, (enum queue_name)i, delayed);
        const struct span args[] = {span_of(key), span_of(delayed), SPAN(KEYS_GROUP)};
        answers[i] = (struct answer){.asking = &asking, .queue = &out->queues[i]};
        redis_eval(redis, SCRIPT_STATS, 2, args, ARRAY_LEN(args), on_answer, &answers[i]);
    }
    key_events_dead(prefix, key);
    const struct span args[] = {SPAN("XLEN"), span_of(key)};
    answers[QUEUE_COUNT] = (struct answer){.asking = &asking, .number = &out->events_dead};
    redis_command(redis, args, ARRAY_LEN(args), on_answer, &answers[QUEUE_COUNT]);
    redis_settle(redis, &asking.left);
    return asking.err;
}

/* --- PostgreSQL ------------------------------------------------------------------------------ */

/* Rows of (what, label, count). Each count is over an index of just these rows. */
static const char question[] =
    "SELECT 'dead', kind, count(*) FROM"
    " (SELECT kind FROM jobs WHERE state = 'dead' LIMIT $1::bigint) d GROUP BY kind"
    " UNION ALL SELECT 'parked', COALESCE(error, ''), count(*) FROM"
    " (SELECT error FROM jobs WHERE state = 'parked' LIMIT $1::bigint) p GROUP BY 2"
    " UNION ALL SELECT 'calls_parked', '', count(*) FROM (SELECT 1 FROM outbound"
    "  WHERE state NOT IN ('done', 'refused') AND parked IS NOT NULL LIMIT $1::bigint) o"
    " UNION ALL SELECT kind, '', number FROM (SELECT count(*) AS many, (extract(epoch FROM"
    "  whopline_now() - min(sending_since)) * 1000)::bigint AS age FROM"
    "  (SELECT sending_since FROM outbound WHERE state NOT IN ('done', 'refused')"
    "   AND (state = 'unknown' OR (state = 'sending' AND sending_until <= whopline_now()))"
    "   LIMIT $1::bigint) o) s,"
    "  LATERAL (VALUES ('calls_unknown', many), ('calls_oldest', age)) v(kind, number)"
    "  WHERE many > 0"
    " UNION ALL SELECT 'unrelayed', '', count(*) FROM"
    " (SELECT 1 FROM jobs WHERE state = 'queued' AND NOT bulk AND relayed_at IS NULL"
    "  AND due_at <= whopline_now() LIMIT $1::bigint) u"
    " UNION ALL SELECT 'bulk', '', count(*) FROM"
    " (SELECT 1 FROM jobs WHERE state = 'queued' AND bulk AND relayed_at IS NULL"
    "  LIMIT $1::bigint) b"
    " UNION ALL SELECT 'tenants', status, count(*) FROM tenants WHERE status <> 'active'"
    " GROUP BY status"
    " UNION ALL SELECT 'drift', kind, number FROM member_drift,"
    "  LATERAL (VALUES ('new', added), ('changed', changed), ('gone', gone)) v(kind, number)"
    " UNION ALL SELECT 'held', queue, 1 FROM queue_controls"
    " UNION ALL SELECT 'last_event', '', (extract(epoch FROM whopline_now() - received_at)"
    "  * 1000)::bigint FROM (SELECT max(received_at) AS received_at FROM webhook_events) e"
    " WHERE received_at IS NOT NULL";

/* The same, of credits. */
static const char question_of_credits[] =
    "SELECT 'review', '', count(*) FROM"
    " (SELECT 1 FROM credit_review WHERE state = 'open' LIMIT $1::bigint) r"
    " UNION ALL SELECT 'review_oldest', '', (extract(epoch FROM whopline_now() - since) * "
    "1000)::bigint"
    "  FROM (SELECT min(created_at) AS since FROM credit_review WHERE state = 'open') r"
    "  WHERE since IS NOT NULL"
    " UNION ALL SELECT 'requested', '', count(*) FROM"
    " (SELECT 1 FROM credit_orders WHERE state = 'requested' LIMIT $1::bigint) o"
    " UNION ALL SELECT what, '', number FROM (SELECT count(*) AS many, COALESCE((extract(epoch FROM"
    "  whopline_now() - min(created_at)) * 1000)::bigint, 0) AS age FROM"
    "  (SELECT created_at FROM credit_orders WHERE state IN ('created', 'checkout_open', 'failed')"
    "   ORDER BY expires_at LIMIT $1::bigint) o) u,"
    "  LATERAL (VALUES ('unpaid', many), ('unpaid_oldest', age)) v(what, number)"
    " UNION ALL SELECT what, '', number FROM (SELECT count(*) AS opened, count(paid_at) AS paid "
    "FROM"
    "  (SELECT paid_at FROM credit_orders WHERE created_at > whopline_now() - interval '1 day'"
    "   ORDER BY created_at DESC LIMIT $1::bigint) o) d,"
    "  LATERAL (VALUES ('opened', opened), ('paid', paid)) v(what, number)"
    " UNION ALL SELECT 'notices', kind, count(*) FROM (SELECT kind FROM credit_notices"
    "  WHERE created_at > whopline_now() - interval '1 day'"
    "  ORDER BY created_at DESC LIMIT $1::bigint) n GROUP BY kind"
    " UNION ALL SELECT 'owing', '', count(*) FROM"
    " (SELECT 1 FROM credit_accounts_owing LIMIT $1::bigint) a"
    " UNION ALL SELECT 'paid_without_credit', '', count(*) FROM (SELECT tenant_id, whop_payment_id"
    "  FROM payments WHERE was_paid AND granted IS NULL LIMIT $1::bigint) p WHERE NOT EXISTS"
    "  (SELECT FROM credit_review r WHERE r.tenant_id = p.tenant_id"
    "   AND r.whop_payment_id = p.whop_payment_id AND r.state = 'open')"
    " UNION ALL SELECT 'proof', drift, found FROM credit_proofs"
    " UNION ALL SELECT 'proof_age', '', (extract(epoch FROM whopline_now() - at) * 1000)::bigint "
    "FROM"
    "  (SELECT min(looked_at) AS at FROM credit_proofs) l WHERE at IS NOT NULL";

static size_t kind_index(const char *label)
{
    enum job_kind kind;
    return job_kind_find(span_of(label), &kind) ? (size_t)kind : JOB_KIND_COUNT;
}

static size_t error_index(const char *label)
{
    enum err_code code;
    return err_code_find(label, &code) ? (size_t)code : ERR_CODE_COUNT;
}

static void take_tenants(struct pg_stats *out, const char *status, int64_t count)
{
    if (out->tenant_states == ARRAY_LEN(out->tenants))
        return;
    size_t i = out->tenant_states++;
    snprintf(out->tenants[i].status, sizeof out->tenants[i].status, "%s", status);
    out->tenants[i].count = count;
}

static void take_held(struct pg_stats *out, const char *queue)
{
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        if (strcmp(queue_text((enum queue_name)i), queue) == 0)
            out->queue_paused[i] = true;
}

static void take_drift(struct pg_stats *out, const char *kind, int64_t count)
{
    if (strcmp(kind, "new") == 0)
        out->drift_new = count;
    else if (strcmp(kind, "changed") == 0)
        out->drift_changed = count;
    else
        out->drift_gone = count;
}

static void take_row(struct pg_stats *out, const char *what, const char *label, int64_t count)
{
    if (strcmp(what, "dead") == 0)
        out->dead[kind_index(label)] += count;
    else if (strcmp(what, "parked") == 0)
        out->parked[error_index(label)] += count;
    else if (strcmp(what, "calls_parked") == 0)
        out->calls_parked = count;
    else if (strcmp(what, "calls_unknown") == 0)
        out->calls_unknown = count;
    else if (strcmp(what, "calls_oldest") == 0)
        out->calls_oldest_ms = count > 0 ? count : 0;
    else if (strcmp(what, "unrelayed") == 0)
        out->unrelayed = count;
    else if (strcmp(what, "bulk") == 0)
        out->bulk_waiting = count;
    else if (strcmp(what, "tenants") == 0)
        take_tenants(out, label, count);
    else if (strcmp(what, "drift") == 0)
        take_drift(out, label, count);
    else if (strcmp(what, "held") == 0)
        take_held(out, label);
    else if (strcmp(what, "last_event") == 0)
        out->last_event_ms = count > 0 ? count : 0;
}

static void take_notices(struct credits_stats *out, const char *kind, int64_t count)
{
    if (out->notice_kinds == ARRAY_LEN(out->notices))
        return;
    size_t i = out->notice_kinds++;
    snprintf(out->notices[i].kind, sizeof out->notices[i].kind, "%s", kind);
    out->notices[i].count = count;
}

static void take_credits(struct credits_stats *out, const char *what, const char *label,
                         int64_t number)
{
    const struct {
        const char *what;
        int64_t *number;
    } plain[] = {
        {"review", &out->review_open},
        {"review_oldest", &out->review_oldest_ms},
        {"requested", &out->orders_requested},
        {"unpaid", &out->orders_unpaid},
        {"unpaid_oldest", &out->orders_oldest_ms},
        {"opened", &out->orders_opened},
        {"paid", &out->orders_paid},
        {"owing", &out->owing},
        {"paid_without_credit", &out->paid_without_credit},
        {"proof_age", &out->proof_age_ms},
    };
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        if (strcmp(what, plain[i].what) == 0)
            *plain[i].number = number > 0 ? number : 0; /* clocks may differ */
    if (strcmp(what, "notices") == 0)
        take_notices(out, label, number);
    else if (strcmp(what, "proof") == 0 && strcmp(label, "balance") == 0)
        out->balances_wrong = number;
    else if (strcmp(what, "proof") == 0 && strcmp(label, "credited_without_payment") == 0)
        out->credited_without_payment = number;
}

struct err queue_stats_ask_pg(struct pg *pg, struct pg_stats *out)
{
    *out = (struct pg_stats){
        .last_event_ms = -1,
        .calls_oldest_ms = -1,
        .credits = {.credited_without_payment = -1, .balances_wrong = -1, .proof_age_ms = -1}};
    TRY(PG_EXEC(pg, question, pg_integer(QUEUE_STATS_ROWS_MAX)));
    for (size_t row = 0; row < pg_rows(pg); row++)
        take_row(out, pg_get(pg, row, 0), pg_get(pg, row, 1), pg_get_integer(pg, row, 2));
    TRY(PG_EXEC(pg, question_of_credits, pg_integer(QUEUE_STATS_ROWS_MAX)));
    for (size_t row = 0; row < pg_rows(pg); row++)
        take_credits(&out->credits, pg_get(pg, row, 0), pg_get(pg, row, 1),
                     pg_get_integer(pg, row, 2));
    return ERR_NONE;
}
