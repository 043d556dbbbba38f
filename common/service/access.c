#include "service/access.h"

#include "base/fault.h"
#include "base/log.h"
#include "service/audit.h"
#include "service/keys.h"
#include "service/scripts.h"

#include <stdio.h>

enum {
    TOMBSTONE_S = 10,  /* then applications that ask find nothing at all, which is the same */
    STUDENTS_MAX = 50, /* in one script, so that Redis is not held up */
    TTL_SIZE = 24,
    FORGET_MAX = 1000, /* rows deleted at once */
};

/* --- keys ------------------------------------------------------------------------------------ */

/* Keys of the students, in the arena; in their order. */
static struct err make_keys(struct pg *pg, const struct outside *outside, struct arena *arena,
                            const struct member_outcome *outcome, const char ***out)
{
    char prefix[KEY_MAX];
    struct pg_array tenants;
    *out = arena_zalloc(arena, outcome->change_count * sizeof **out);
    pg_array_init(&tenants, PG_ELEMENT_BIGINT);
    for (size_t i = 0; i < outcome->change_count; i++)
        pg_array_add_integer(&tenants, outcome->changes[i].tenant);
    struct err err = PG_EXEC(pg,
                             "SELECT t.whop_company_id FROM unnest($1::bigint[])"
                             " WITH ORDINALITY AS w(tenant, at)"
                             " JOIN tenants t ON t.id = w.tenant ORDER BY w.at",
                             pg_array_param(&tenants));
    pg_array_close(&tenants);
    TRY(err);
    if (pg_rows(pg) != outcome->change_count)
        return err_make(ERR_PG_FAILED, "a student without a tenant");
    key_access_prefix(outside->config->stream_prefix, prefix);
    for (size_t i = 0; i < outcome->change_count; i++)
        (*out)[i] =
            arena_printf(arena, "%s%s:%s", prefix, pg_get(pg, i, 0), outcome->changes[i].user);
    return ERR_NONE;
}

/* JSON like the answers, without any. */
static const char *make_tombstone(struct arena *arena, const struct member_outcome *outcome)
{
    return arena_printf(arena, "{\"state\":\"pending\",\"hidden_by\":\"%s\"}", outcome->hidden);
}

static struct err eval(struct outside *outside, enum script name, const struct span *args,
                       size_t key_count, size_t count, int64_t *out)
{
    const struct outside_script script = {.script = name,
                                          .key_count = key_count,
                                          .args = args,
                                          .count = count,
                                          .out = out,
                                          .out_count = 1};
    return outside->ops->eval(outside->data, &script, NULL);
}

/* --- hiding ---------------------------------------------------------------------------------- */

static struct err hide(struct outside *outside, const char *tombstone, const char **keys,
                       size_t count)
{
    struct span args[STUDENTS_MAX + 2];
    char seconds[TTL_SIZE];
    int64_t hidden;
    snprintf(seconds, sizeof seconds, "%d", TOMBSTONE_S);
    for (size_t i = 0; i < count; i++)
        args[i] = span_of(keys[i]);
    args[count] = span_of(tombstone);
    args[count + 1] = span_of(seconds);
    return eval(outside, SCRIPT_ACCESS_HIDE, args, count, count + 2, &hidden);
}

struct err access_hide(struct pg *pg, struct outside *outside, struct arena *arena,
                       struct member_outcome *outcome)
{
    const char **keys;
    if (outcome->change_count == 0)
        return ERR_NONE;
    TRY(make_keys(pg, outside, arena, outcome, &keys));
    random_uuid(outcome->hidden);
    const char *tombstone = make_tombstone(arena, outcome);
    if (FAULT(before_access_hide))
        return err_make(ERR_REDIS_DOWN, "a fault: students cannot be hidden");
    for (size_t i = 0; i < outcome->change_count; i += STUDENTS_MAX) {
        size_t left = outcome->change_count - i;
        TRY(hide(outside, tombstone, &keys[i], left < STUDENTS_MAX ? left : STUDENTS_MAX));
    }
    (void)FAULT(after_access_hide);
    return ERR_NONE;
}

/* --- showing --------------------------------------------------------------------------------- */

/* A portion of the answers, which are the connection's last result. */
static struct err show(struct pg *pg, struct outside *outside, struct arena *arena,
                       const char *tombstone, const char **keys, size_t first, size_t count)
{
    struct span args[3 * STUDENTS_MAX + 1];
    int64_t shown;
    for (size_t i = 0; i < count; i++) {
        args[i] = span_of(keys[pg_get_integer(pg, first + i, 0)]);
        args[count + 1 + 2 * i] = span_of(arena_strdup(arena, pg_get(pg, first + i, 1)));
        args[count + 2 + 2 * i] = span_of(arena_strdup(arena, pg_get(pg, first + i, 2)));
    }
    args[count] = span_of(tombstone);
    return eval(outside, SCRIPT_ACCESS_SHOW, args, count, 3 * count + 1, &shown);
}

static struct err show_all(struct pg *pg, struct outside *outside, struct arena *arena,
                           const struct member_outcome *outcome)
{
    const char **keys;
    struct pg_array tenants;
    struct pg_array users;
    TRY(make_keys(pg, outside, arena, outcome, &keys));
    pg_array_init(&tenants, PG_ELEMENT_BIGINT);
    pg_array_init(&users, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < outcome->change_count; i++) {
        pg_array_add_integer(&tenants, outcome->changes[i].tenant);
        pg_array_add_text(&users, outcome->changes[i].user);
    }
    struct err err =
        PG_EXEC(pg, "SELECT place, value, ttl_ms FROM access_values($1::bigint[], $2::text[])",
                pg_array_param(&tenants), pg_array_param(&users));
    pg_array_close(&tenants);
    pg_array_close(&users);
    TRY(err);
    if (FAULT(before_access_put))
        return err_make(ERR_REDIS_DOWN, "a fault: students cannot be shown");
    for (size_t i = 0; i < pg_rows(pg); i += STUDENTS_MAX) {
        size_t left = pg_rows(pg) - i;
        TRY(show(pg, outside, arena, make_tombstone(arena, outcome), keys, i,
                 left < STUDENTS_MAX ? left : STUDENTS_MAX));
    }
    return ERR_NONE;
}

void access_show(struct pg *pg, struct outside *outside, struct arena *arena,
                 const struct member_outcome *outcome)
{
    if (outcome->change_count == 0 || outcome->hidden[0] == '\0')
        return;
    (void)FAULT(before_access_show);
    struct err err = show_all(pg, outside, arena, outcome);
    if (err_failed(&err))
        log_warning("access", "Redis shows nothing of some students for now",
                    LOG_TEXT("error", err_text(&err)));
}

void access_include(struct arena *arena, struct member_outcome *outcome, int64_t tenant,
                    const char *user)
{
    size_t count = outcome->change_count;
    for (size_t i = 0; i < count; i++)
        if (outcome->changes[i].tenant == tenant && strcmp(outcome->changes[i].user, user) == 0)
            return;
    struct member_change *all = arena_alloc(arena, (count + 1) * sizeof *all);
    if (count > 0)
        memcpy(all, outcome->changes, count * sizeof *all);
    all[count] = (struct member_change){.tenant = tenant,
                                        .user = user,
                                        .change = "",
                                        .access = "",
                                        .tier = "",
                                        .tier_source = "",
                                        .membership = ""};
    outcome->changes = all;
    outcome->change_count = count + 1;
}

/* Their rows are locked from here on, so that nobody changes them between hiding and COMMIT. */
static struct err lock_holders(struct pg *pg, struct arena *arena, struct pg_array *tenants,
                               struct pg_array *memberships, struct member_outcome *out)
{
    TRY(PG_EXEC(pg,
                "SELECT s.tenant_id, s.whop_user_id FROM students s"
                " WHERE (s.tenant_id, s.whop_user_id) IN ("
                "  SELECT m.tenant_id, m.whop_user_id"
                "  FROM unnest($1::bigint[], $2::text[]) AS w(tenant, membership)"
                "  JOIN memberships m ON m.tenant_id = w.tenant"
                "   AND m.whop_membership_id = w.membership)"
                " ORDER BY s.tenant_id, s.whop_user_id COLLATE \"C\" FOR NO KEY UPDATE",
                pg_array_param(tenants), pg_array_param(memberships)));
    for (size_t i = 0; i < pg_rows(pg); i++)
        access_include(arena, out, pg_get_integer(pg, i, 0), arena_strdup(arena, pg_get(pg, i, 1)));
    return ERR_NONE;
}

static struct err renew(struct pg *pg, struct outside *outside, struct arena *arena,
                        struct pg_array *tenants, struct pg_array *memberships,
                        struct member_outcome *out)
{
    TRY(pg_begin(pg));
    TRY(lock_holders(pg, arena, tenants, memberships, out));
    TRY(access_hide(pg, outside, arena, out));
    return pg_commit(pg);
}

void access_renew(struct pg *pg, struct outside *outside, struct arena *arena,
                  struct pg_array *tenants, struct pg_array *memberships)
{
    struct member_outcome outcome = {0};
    struct err err = renew(pg, outside, arena, tenants, memberships, &outcome);
    pg_rollback(pg);
    if (err_failed(&err))
        log_warning("access", "students could not be shown again",
                    LOG_TEXT("error", err_text(&err)));
    else
        access_show(pg, outside, arena, &outcome);
}

/* --- asking ---------------------------------------------------------------------------------- */

struct err access_answered(struct pg *pg, int64_t tenant, const char *id, int64_t asked_ms)
{
    return PG_EXEC(pg, "SELECT access_answered($1, $2, $3)", pg_integer(tenant), pg_text(id),
                   pg_integer(asked_ms));
}

struct err access_doubt_missing(struct pg *pg, struct arena *arena, int64_t tenant, const char *id,
                                const struct member_answers *answers,
                                struct member_outcome *outcome)
{
    struct pg_array shown;
    pg_array_init(&shown, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < answers->count; i++)
        pg_array_add_text(&shown, answers->news[i].event->membership);
    struct err err = PG_EXEC(
        pg,
        "SELECT whop_membership_id, whop_user_id FROM memberships WHERE tenant_id = $1"
        " AND $2 IN (whop_user_id, whop_membership_id) AND access <> 'no'"
        " AND told_at < whopline_from_ms($4)"
        " AND whop_membership_id <> ALL ($3::text[])",
        pg_integer(tenant), pg_text(id), pg_array_param(&shown), pg_integer(answers->asked_ms));
    pg_array_close(&shown);
    TRY(err);
    size_t count = outcome->doubt_count;
    struct member_doubt *all = arena_alloc(arena, (count + pg_rows(pg) + 1) * sizeof *all);
    if (count > 0)
        memcpy(all, outcome->doubts, count * sizeof *all);
    for (size_t i = 0; i < pg_rows(pg); i++)
        all[count++] = (struct member_doubt){.tenant = tenant,
                                             .user = arena_strdup(arena, pg_get(pg, i, 1)),
                                             .membership = arena_strdup(arena, pg_get(pg, i, 0))};
    outcome->doubts = all;
    outcome->doubt_count = count;
    return ERR_NONE;
}

struct err access_give_up(struct pg *pg, int64_t tenant, const char *id)
{
    return PG_EXEC(pg,
                   "UPDATE access_asks SET is_open = false WHERE tenant_id = $1 AND whop_id = $2",
                   pg_integer(tenant), pg_text(id));
}

struct err access_prepare(struct pg *pg, const struct config *config)
{
    return PG_EXEC(pg,
                   "UPDATE access_settings SET cache = $1::bigint * interval '1 s',"
                   " negative = $2::bigint * interval '1 s',"
                   " stale_max = $3::bigint * interval '1 h', strangers_max = $4::integer,"
                   " updated_at = whopline_now()"
                   " WHERE (cache, negative, stale_max, strangers_max) IS DISTINCT FROM"
                   " ($1::bigint * interval '1 s', $2::bigint * interval '1 s',"
                   "  $3::bigint * interval '1 h', $4::integer)",
                   pg_integer(config->membership_cache_seconds),
                   pg_integer(config->membership_negative_seconds),
                   pg_integer(config->membership_stale_max_hours),
                   pg_integer(config->membership_strangers_max));
}

struct err access_forget(struct pg *pg, int64_t *forgotten)
{
    *forgotten = 0;
    /* Twice as long as any answer counts. */
    TRY(PG_EXEC(pg,
                "DELETE FROM access_asks WHERE ctid = ANY (ARRAY(SELECT a.ctid FROM access_asks a,"
                " access_settings s WHERE a.asked_at < whopline_now()"
                "  - 2 * greatest(s.cache, s.negative, interval '1 h',"
                "               CASE WHEN a.is_open THEN s.stale_max END)"
                " LIMIT $1::integer FOR UPDATE OF a SKIP LOCKED))",
                pg_integer(FORGET_MAX)));
    *forgotten = (int64_t)pg_affected(pg);
    return ERR_NONE;
}

/* --- applications ---------------------------------------------------------------------------- */

static const char *const grants[] = {
    "USAGE ON SCHEMA %I",
    "EXECUTE ON FUNCTION %I.member_access(text, text)",
    "EXECUTE ON FUNCTION %I.usage_reserve(text, text, text, bigint, text, interval)",
    "EXECUTE ON FUNCTION %I.usage_commit(text, text, bigint)",
    "EXECUTE ON FUNCTION %I.usage_release(text, text)",
    "EXECUTE ON FUNCTION %I.usage_add(text, text, text, bigint, text)",
    "EXECUTE ON FUNCTION %I.usage_show(text, text)",
};

/* Who owns the tables, is a superuser or belongs to such a role needs no grants, and is no
 * application. */
static struct err check_role(struct pg *pg, const char *role)
{
    TRY(PG_EXEC(
        pg,
        "SELECT r.rolsuper OR pg_has_role(r.oid, c.relowner, 'MEMBER')"
        " FROM pg_roles r, pg_class c WHERE r.rolname = $1 AND c.oid = 'students'::regclass",
        pg_text(role)));
    if (pg_rows(pg) == 0)
        return err_make(ERR_NOT_FOUND,
                        "PostgreSQL has no role %.60s: make it first (CREATE ROLE ... LOGIN)",
                        role);
    if (pg_get_flag(pg, 0, 0))
        return err_make(ERR_REFUSED,
                        "%.60s may do everything as it is (superuser, or owner of the tables): "
                        "applications need a role of their own",
                        role);
    return ERR_NONE;
}

static struct err grant_one(struct pg *pg, const char *what, const char *role, bool revoke)
{
    struct buf sql = {0};
    struct err err = PG_EXEC(pg, "SELECT format($1, current_schema()), quote_ident($2)",
                             pg_text(what), pg_text(role));
    if (!err_failed(&err)) {
        buf_printf(&sql, "%s %s %s %s", revoke ? "REVOKE" : "GRANT", pg_get(pg, 0, 0),
                   revoke ? "FROM" : "TO", pg_get(pg, 0, 1));
        err = pg_exec(pg, buf_text(&sql), NULL, 0);
    }
    buf_close(&sql);
    return err;
}

static struct err grant_all(struct pg *pg, const char *role, bool revoke, const char *actor)
{
    const struct audit audit = {.actor = actor,
                                .action = revoke ? "members.disallow" : "members.allow",
                                .target = role,
                                .reason = ""};
    TRY(check_role(pg, role));
    /* The schema may be the role's for the ledger's sake: it stays. */
    for (size_t i = revoke ? 1 : 0; i < ARRAY_LEN(grants); i++)
        TRY(grant_one(pg, grants[i], role, revoke));
    return audit_add(pg, &audit);
}

struct err access_allow(struct pg *pg, const char *role, bool revoke, const char *actor)
{
    TRY(pg_begin(pg));
    struct err err = grant_all(pg, role, revoke, actor);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}
