#include "service/members.h"

#include "codec/json.h"

enum {
    FUTURE_MAX_MS = 5 * 60 * 1000, /* as much as a signature's time may be off */
    PORTION_MAX = 500,             /* students in one transaction, who stay locked until its end */
};

/* --- telling --------------------------------------------------------------------------------- */

/* What the event's own name says of access, where its data has no flag for it. */
static const char *claim_of(const struct event *event)
{
    static const struct {
        const char *kind;
        const char *claim;
    } known[] = {
        {"membership.activated", "yes"},
        {"membership.deactivated", "no"},
        {"membership.deleted", "no"},
    };
    if (!text_is_empty(event->valid))
        return strcmp(event->valid, "true") == 0 ? "yes" : "no";
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(event->kind, known[i].kind) == 0)
            return known[i].claim;
    return "";
}

static void put_text(struct json_writer *json, const char *key, const char *text)
{
    if (!text_is_empty(text))
        json_put_text(json, key, text);
}

static void put_time(struct json_writer *json, const char *key, int64_t ms)
{
    if (ms != 0)
        json_put_integer(json, key, ms);
}

/* Of an event that does not say when it was the moment it came in is the best guess, and Whop is to
 * be asked; likewise of one that lies in the future, which would stand over all that comes. */
static int64_t version_of(const struct member_news *news, bool *uncertain)
{
    const struct event *event = news->event;
    int64_t latest_ms = event->received_ms + FUTURE_MAX_MS;
    *uncertain = false;
    if (news->source != MEMBER_EVENT)
        return event->occurred_ms;
    *uncertain = !event->occurred_known || event->occurred_ms > latest_ms;
    if (!event->occurred_known)
        return event->received_ms;
    return event->occurred_ms > latest_ms ? latest_ms : event->occurred_ms;
}

static void put_news(struct json_writer *json, const struct member_news *news)
{
    static const char *const kinds[] = {
        [MEMBER_EVENT] = "event", [MEMBER_READ] = "read", [MEMBER_GONE] = "gone"};
    const struct event *event = news->event;
    bool is_deleted = strcmp(event->kind, "membership.deleted") == 0;
    bool uncertain;
    int64_t version_ms = version_of(news, &uncertain);
    json_begin_object(json, NULL);
    json_put_integer(json, "tenant", news->tenant);
    json_put_text(json, "membership", event->membership);
    json_put_text(json, "kind", kinds[news->source]);
    put_text(json, "whop_user", event->user);
    put_text(json, "plan", event->plan);
    put_text(json, "product", event->product);
    put_text(json, "status", is_deleted ? "deleted" : event->status);
    put_text(json, "claim", claim_of(event));
    if (!text_is_empty(event->cancels))
        json_put_flag(json, "cancels", strcmp(event->cancels, "true") == 0);
    put_time(json, "period_start_ms", event->period_start_ms);
    put_time(json, "period_end_ms", event->period_end_ms);
    json_put_integer(json, "version_ms", version_ms);
    put_time(json, "asked_ms", news->asked_ms);
    json_put_flag(json, "uncertain", uncertain);
    json_put_text(json, "event", event->id);
    put_text(json, "username", event->username);
    put_text(json, "name", event->name);
    put_text(json, "email", event->email);
    json_end_object(json);
}

static void put_bill(struct json_writer *json, const struct member_news *news, bool failed)
{
    const struct event *event = news->event;
    json_begin_object(json, NULL);
    json_put_integer(json, "tenant", news->tenant);
    json_put_text(json, "payment", event->payment);
    json_put_text(json, "membership", event->membership);
    put_text(json, "whop_user", event->user);
    json_put_integer(json, failed ? "failed_ms" : "paid_ms",
                     !failed && event->paid_ms != 0 ? event->paid_ms : event->occurred_ms);
    json_end_object(json);
}

/* --- what follows ---------------------------------------------------------------------------- */

static void put_about(struct json_writer *json, const struct member_news *news, const char *user,
                      bool is_changed)
{
    if (text_is_empty(user))
        return;
    json_begin_object(json, NULL);
    json_put_integer(json, "tenant", news->tenant);
    json_put_text(json, "whop_user", user);
    json_put_text(json, "membership", news->event->membership);
    json_put_text(json, "event", news->event->id);
    json_put_flag(json, "is_changed", is_changed);
    json_put_flag(json, "backfill", news->backfill);
    json_end_object(json);
}

static struct err settle(struct pg *pg, struct arena *arena, struct buf *about, const char *actor,
                         struct member_outcome *out)
{
    struct err err =
        PG_EXEC(pg,
                "SELECT tenant_id, whop_user_id, change_id, change, access, tier, tier_source,"
                " whop_membership_id, backfill, ceil(extract(epoch FROM recheck_at) * 1000)::bigint"
                " FROM members_settle($1::jsonb, $2)",
                pg_text(buf_text(about)), pg_text(actor));
    TRY(err);
    out->change_count = pg_rows(pg);
    out->changes = arena_alloc(arena, out->change_count * sizeof *out->changes);
    for (size_t i = 0; i < out->change_count; i++)
        out->changes[i] = (struct member_change){
            .tenant = pg_get_integer(pg, i, 0),
            .user = arena_strdup(arena, pg_get(pg, i, 1)),
            .id = pg_get_integer(pg, i, 2),
            .change = arena_strdup(arena, pg_get(pg, i, 3)),
            .access = arena_strdup(arena, pg_get(pg, i, 4)),
            .tier = arena_strdup(arena, pg_get(pg, i, 5)),
            .tier_source = arena_strdup(arena, pg_get(pg, i, 6)),
            .membership = arena_strdup(arena, pg_get(pg, i, 7)),
            .backfill = pg_get_flag(pg, i, 8),
            .recheck_ms = pg_get_integer(pg, i, 9),
        };
    return ERR_NONE;
}

/* From what members_note answers: whom it is about, and what Whop is to be asked. */
static void read_noted(struct pg *pg, struct arena *arena, const struct member_news *news,
                       struct json_writer *about, struct member_outcome *out)
{
    out->doubts = arena_alloc(arena, pg_rows(pg) * sizeof *out->doubts);
    for (size_t i = 0; i < pg_rows(pg); i++) {
        const struct member_news *told = &news[pg_get_integer(pg, i, 0)];
        const char *user = pg_get(pg, i, 1);
        const char *was_user = pg_get(pg, i, 2);
        bool is_changed = pg_get_flag(pg, i, 3);
        out->changed_count += is_changed;
        put_about(about, told, user, is_changed);
        if (strcmp(user, was_user) != 0)
            put_about(about, told, was_user, is_changed);
        if (pg_get_flag(pg, i, 4))
            out->doubts[out->doubt_count++] = (struct member_doubt){
                .tenant = told->tenant,
                .user = arena_strdup(arena, user),
                .membership = told->event->membership,
                .backfill = told->backfill,
            };
    }
}

struct err members_note(struct pg *pg, struct arena *arena, const struct member_news *news,
                        size_t count, const char *actor, struct member_outcome *out)
{
    struct buf told = {0};
    struct buf about = {0};
    struct json_writer json = {.out = &told};
    struct json_writer about_json = {.out = &about};
    *out = (struct member_outcome){0};
    json_begin_array(&json, NULL);
    for (size_t i = 0; i < count; i++)
        put_news(&json, &news[i]);
    json_end_array(&json);
    struct err err = PG_EXEC(pg,
                             "SELECT place, whop_user, was_user, is_changed, wants_read"
                             " FROM members_note($1::jsonb)",
                             pg_text(buf_text(&told)));
    buf_close(&told);
    TRY(err);
    json_begin_array(&about_json, NULL);
    read_noted(pg, arena, news, &about_json, out);
    json_end_array(&about_json);
    err = settle(pg, arena, &about, actor, out);
    buf_close(&about);
    return err;
}

/* The people whose memberships are billed: the bill may name none. */
static void put_billed(struct pg *pg, struct json_writer *about)
{
    for (size_t i = 0; i < pg_rows(pg); i++) {
        json_begin_object(about, NULL);
        json_put_integer(about, "tenant", pg_get_integer(pg, i, 0));
        json_put_text(about, "whop_user", pg_get(pg, i, 1));
        json_put_flag(about, "is_changed", false);
        json_put_flag(about, "backfill", false);
        json_end_object(about);
    }
}

struct err members_note_bills(struct pg *pg, struct arena *arena, const struct member_news *news,
                              size_t count, const char *actor, struct member_outcome *out)
{
    struct buf bills = {0};
    struct buf about = {0};
    struct json_writer json = {.out = &bills};
    struct json_writer about_json = {.out = &about};
    *out = (struct member_outcome){0};
    json_begin_array(&json, NULL);
    for (size_t i = 0; i < count; i++) {
        const char *kind = news[i].event->kind;
        bool failed = strcmp(kind, "payment.failed") == 0;
        if (failed || strcmp(kind, "payment.succeeded") == 0)
            put_bill(&json, &news[i], failed);
    }
    json_end_array(&json);
    struct err err =
        PG_EXEC(pg, "SELECT tenant_id, whop_user_id FROM members_note_bills($1::jsonb)",
                pg_text(buf_text(&bills)));
    buf_close(&bills);
    TRY(err);
    json_begin_array(&about_json, NULL);
    put_billed(pg, &about_json);
    json_end_array(&about_json);
    err = settle(pg, arena, &about, actor, out);
    buf_close(&about);
    return err;
}

struct err members_look_again(struct pg *pg, struct arena *arena, int64_t tenant, const char *user,
                              const char *actor, struct member_outcome *out)
{
    struct buf about = {0};
    struct json_writer json = {.out = &about};
    *out = (struct member_outcome){0};
    json_begin_array(&json, NULL);
    json_begin_object(&json, NULL);
    json_put_integer(&json, "tenant", tenant);
    json_put_text(&json, "whop_user", user);
    json_put_flag(&json, "is_changed", false);
    json_put_flag(&json, "backfill", false);
    json_end_object(&json);
    json_end_array(&json);
    struct err err = settle(pg, arena, &about, actor, out);
    buf_close(&about);
    return err;
}

struct err members_list_in_grace(struct pg *pg, struct arena *arena, int64_t tenant,
                                 const char *user, struct member_ids *out)
{
    TRY(PG_EXEC(pg,
                "SELECT whop_membership_id FROM memberships"
                " WHERE tenant_id = $1 AND whop_user_id = $2 AND access = 'grace' ORDER BY id",
                pg_integer(tenant), pg_text(user)));
    out->count = pg_rows(pg);
    out->ids = arena_alloc(arena, out->count * sizeof *out->ids);
    for (size_t i = 0; i < out->count; i++)
        out->ids[i] = arena_strdup(arena, pg_get(pg, i, 0));
    return ERR_NONE;
}

struct err members_end_grace(struct pg *pg, struct arena *arena, const char *actor,
                             struct member_outcome *out)
{
    struct buf about = {0};
    *out = (struct member_outcome){0};
    TRY(PG_EXEC(pg,
                "SELECT COALESCE(jsonb_agg(jsonb_build_object('tenant', tenant_id, 'whop_user',"
                " whop_user_id, 'is_changed', false, 'backfill', false)), '[]') FROM ("
                "SELECT tenant_id, whop_user_id FROM memberships WHERE access = 'grace'"
                " AND grace_until < whopline_now() - interval '1 hour' LIMIT $1) late",
                pg_integer(PORTION_MAX)));
    buf_add_text(&about, pg_get(pg, 0, 0));
    struct err err = settle(pg, arena, &about, actor, out);
    buf_close(&about);
    return err;
}

struct err members_archive(struct pg *pg, const char *actor, int64_t *archived)
{
    *archived = 0;
    TRY(PG_EXEC(pg, "SELECT members_archive($1, $2)", pg_integer(PORTION_MAX), pg_text(actor)));
    *archived = pg_get_integer(pg, 0, 0);
    return ERR_NONE;
}
