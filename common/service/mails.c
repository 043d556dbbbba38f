#include "service/mails.h"

#include "base/clock.h"
#include "base/random.h"
#include "codec/json.h"
#include "service/store.h"

#include <stdio.h>

enum { NOTICES_MAX = 200 /* in one transaction */ };

/* --- asking for mails ------------------------------------------------------------------------ */

static void put_text(struct json_writer *json, const char *name, const char *text)
{
    if (!text_is_empty(text))
        json_put_text(json, name, text);
}

static void put_number(struct json_writer *json, const char *name, int64_t number)
{
    if (number != 0)
        json_put_integer(json, name, number);
}

static void put_wish(struct json_writer *json, const struct mail_wish *wish)
{
    char job[UUID_TEXT_SIZE];
    bool to_admin = text_is_empty(wish->user) && text_is_empty(wish->recipient);
    bool to_address = strncmp(wish->recipient, "address:", 8) == 0;
    const char *recipient = to_admin                         ? "admin"
                            : text_is_empty(wish->recipient) ? wish->user
                                                             : wish->recipient;
    random_uuid(job);
    json_begin_object(json, NULL);
    json_put_integer(json, "tenant", wish->tenant);
    json_put_text(json, "template", mail_type(wish->mail)->name);
    json_put_text(json, "audience", to_admin ? "admin" : to_address ? "address" : "user");
    json_put_text(json, "recipient", recipient);
    json_put_text(json, "key", wish->key);
    put_text(json, "whop_user", wish->user);
    put_text(json, "address", wish->address);
    json_put_raw(json, "vars", text_is_empty(wish->vars) ? "{}" : wish->vars);
    put_text(json, "event", wish->event);
    put_text(json, "membership", wish->membership);
    put_number(json, "occurred_ms", wish->occurred_ms);
    put_number(json, "change", wish->change);
    json_put_text(json, "job", job);
    json_end_object(json);
}

struct outgoing mails_job(struct arena *arena, int64_t id, int64_t tenant, const char *job_id)
{
    const struct mail mail = {.id = id};
    struct buf packed = {0};
    struct err err = payload_encode(PAYLOAD_mail, &mail, &packed);
    REQUIRE(!err_failed(&err)); /* a number */
    const char *key = arena_printf(arena, "mail/%lld", (long long)id);
    struct outgoing job = {
        .kind = JOB_mail_send,
        .tenant = tenant,
        .key = key,
        .event_id = "",
        .trace = key,
        .occurred_ms = clock_wall_ms(),
        .created_ms = clock_wall_ms(),
        .version = job_type(JOB_mail_send)->version,
        .payload = {arena_copy(arena, packed.ptr, packed.len), packed.len},
    };
    snprintf(job.id, sizeof job.id, "%s", job_id);
    buf_close(&packed);
    return job;
}

struct err mails_add(struct pg *pg, struct arena *arena, const struct mail_wish *wishes,
                     size_t count, size_t *added)
{
    struct buf told = {0};
    struct json_writer json = {.out = &told};
    int64_t rebuilds;
    if (added != NULL)
        *added = 0;
    if (count == 0)
        return ERR_NONE;
    json_begin_array(&json, NULL);
    for (size_t i = 0; i < count; i++)
        put_wish(&json, &wishes[i]);
    json_end_array(&json);
    struct err err = PG_EXEC(pg, "SELECT id, tenant_id, job_id FROM mails_add($1::jsonb)",
                             pg_text(buf_text(&told)));
    buf_close(&told);
    TRY(err);
    size_t made = pg_rows(pg);
    struct outgoing *jobs = arena_alloc(arena, (made + 1) * sizeof *jobs);
    for (size_t i = 0; i < made; i++)
        jobs[i] =
            mails_job(arena, pg_get_integer(pg, i, 0), pg_get_integer(pg, i, 1), pg_get(pg, i, 2));
    if (added != NULL)
        *added = made;
    return made == 0 ? ERR_NONE : store_insert_jobs(pg, jobs, made, &rebuilds);
}

/* --- vars ------------------------------------------------------------------------------------ */

struct var {
    const char *name;
    const char *value;
};

static const char *pack_vars(struct arena *arena, const struct var *vars, size_t count)
{
    struct buf text = {0};
    struct json_writer json = {.out = &text};
    json_begin_object(&json, NULL);
    for (size_t i = 0; i < count; i++)
        put_text(&json, vars[i].name, vars[i].value);
    json_end_object(&json);
    const char *copy = arena_strdup(arena, buf_text(&text));
    buf_close(&text);
    return copy;
}

static const char *digits(struct arena *arena, int64_t number)
{
    return arena_printf(arena, "%lld", (long long)number);
}

/* --- what follows from what ------------------------------------------------------------------ */

enum key_sort { KEY_ONCE, KEY_EACH };

static const struct cause {
    const char *change;
    enum mail_name mail;
    enum key_sort key;
} causes[] = {
#define MAIL(name, sort, max_age_minutes, placeholders, needed)
#define FOLLOWS(change, mail, key) {change, MAIL_##mail, KEY_##key},
#include "mails.def"
#undef MAIL
#undef FOLLOWS
};

static const struct cause *find_cause(const struct member_change *change)
{
    for (size_t i = 0; i < ARRAY_LEN(causes); i++)
        if (change->id != 0 && !change->backfill && strcmp(causes[i].change, change->change) == 0)
            return &causes[i];
    return NULL;
}

struct err mails_follow(struct pg *pg, struct arena *arena, const struct member_outcome *outcome)
{
    struct mail_wish *wishes = arena_alloc(arena, (outcome->change_count + 1) * sizeof *wishes);
    size_t count = 0;
    for (size_t i = 0; i < outcome->change_count; i++) {
        const struct member_change *change = &outcome->changes[i];
        const struct cause *cause = find_cause(change);
        if (cause == NULL)
            continue;
        wishes[count++] = (struct mail_wish){
            .tenant = change->tenant,
            .mail = cause->mail,
            .user = change->user,
            .address = "",
            .recipient = "",
            .key = cause->key == KEY_ONCE ? "once" : digits(arena, change->id),
            .vars = pack_vars(arena, (const struct var[]){{"tier", change->tier}}, 1),
            .event = "",
            .membership = "",
            .change = change->id,
        };
    }
    return mails_add(pg, arena, wishes, count, NULL);
}

static struct mail_wish wish_of_bill(struct arena *arena, const struct member_news *news,
                                     enum mail_name mail)
{
    const struct event *event = news->event;
    const struct var vars[] = {
        {"payment", event->payment}, {"amount", event->amount}, {"currency", event->currency}};
    return (struct mail_wish){
        .tenant = news->tenant,
        .mail = mail,
        .user = event->user,
        .address = event->email,
        /* Not the user, whom not every event names. */
        .recipient = "buyer",
        .key = event->payment,
        .vars = pack_vars(arena, vars, ARRAY_LEN(vars)),
        .event = event->id,
        .membership = event->membership,
        .occurred_ms = event->occurred_known ? event->occurred_ms : event->received_ms,
    };
}

struct err mails_follow_bills(struct pg *pg, struct arena *arena, const struct member_news *news,
                              size_t count)
{
    struct mail_wish *wishes = arena_alloc(arena, (count + 1) * sizeof *wishes);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        bool failed = strcmp(news[i].event->kind, "payment.failed") == 0;
        bool paid = strcmp(news[i].event->kind, "payment.succeeded") == 0;
        if ((failed || paid) && !news[i].backfill && !text_is_empty(news[i].event->payment))
            wishes[used++] =
                wish_of_bill(arena, &news[i], failed ? MAIL_payment_failed : MAIL_receipt);
    }
    return mails_add(pg, arena, wishes, used, NULL);
}

struct err mails_follow_notices(struct pg *pg, struct arena *arena, int64_t max_age_minutes,
                                size_t *added)
{
    TRY(PG_EXEC(pg,
                "SELECT n.tenant_id, n.kind, n.about, coalesce(n.detail->>'reason', n.detail->>"
                "'status', n.detail->>'type', ''),"
                " (extract(epoch FROM n.created_at) * 1000)::bigint"
                " FROM credit_notices n JOIN mail_settings s ON s.tenant_id = n.tenant_id"
                " WHERE n.audience = 'admin' AND s.admin_address IS NOT NULL AND s.enabled"
                " AND n.created_at > whopline_now() - $1::bigint * interval '1 minute'"
                " AND NOT EXISTS (SELECT FROM email_outbox o WHERE o.tenant_id = n.tenant_id"
                "  AND o.template = 'admin_notice' AND o.recipient = 'admin'"
                "  AND o.business_key = n.kind || '/' || n.about)"
                " ORDER BY n.created_at, n.id LIMIT $2::integer",
                pg_integer(max_age_minutes), pg_integer(NOTICES_MAX)));
    size_t count = pg_rows(pg);
    struct mail_wish *wishes = arena_alloc(arena, (count + 1) * sizeof *wishes);
    for (size_t i = 0; i < count; i++) {
        const struct var vars[] = {{"kind", arena_strdup(arena, pg_get(pg, i, 1))},
                                   {"about", arena_strdup(arena, pg_get(pg, i, 2))},
                                   {"reason", arena_strdup(arena, pg_get(pg, i, 3))}};
        wishes[i] = (struct mail_wish){
            .tenant = pg_get_integer(pg, i, 0),
            .mail = MAIL_admin_notice,
            .user = "",
            .address = "",
            .recipient = "",
            .key = arena_printf(arena, "%s/%s", vars[0].value, vars[1].value),
            .vars = pack_vars(arena, vars, ARRAY_LEN(vars)),
            .event = "",
            .membership = "",
            .occurred_ms = pg_get_integer(pg, i, 4),
        };
    }
    return mails_add(pg, arena, wishes, count, added);
}

struct err mails_usage_warning(struct pg *pg, struct arena *arena, const struct mail_usage *usage)
{
    const struct var vars[] = {
        {"metric", usage->metric},
        {"period", usage->period},
        {"percent", digits(arena, usage->percent)},
        {"used", digits(arena, usage->used)},
        {"limit", digits(arena, usage->limit)},
    };
    const struct mail_wish wish = {
        .tenant = usage->tenant,
        .mail = MAIL_usage_warning,
        .user = usage->user,
        .address = "",
        .recipient = "",
        .key = arena_printf(arena, "%s/%s/%lld", usage->metric, usage->period,
                            (long long)usage->percent),
        .vars = pack_vars(arena, vars, ARRAY_LEN(vars)),
        .event = "",
        .membership = "",
    };
    return mails_add(pg, arena, &wish, 1, NULL);
}
