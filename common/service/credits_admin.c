#include "service/credits_admin.h"

#include "base/config.h"
#include "service/audit.h"

#include <stdio.h>

/* An error ends the transaction, and so does keep being false. */
static struct err finish(struct pg *pg, struct err err, bool keep)
{
    if (!err_failed(&err) && keep)
        err = pg_commit(pg);
    pg_rollback(pg);
    return err;
}

static void copy(char out[CREDITS_TEXT_SIZE], const char *text)
{
    snprintf(out, CREDITS_TEXT_SIZE, "%s", text);
}

/* --- moving credits -------------------------------------------------------------------------- */

static struct err ask_move(struct pg *pg, enum credits_verb verb, const struct credits_wish *wish)
{
    const struct pg_param company = pg_text(wish->company);
    const struct pg_param user = pg_text(wish->user);
    const struct pg_param credits = pg_integer(wish->credits);
    const struct pg_param request = pg_text(wish->request);
    const struct pg_param reason = pg_text(wish->reason);
    switch (verb) {
    case CREDITS_ADJUST:
        return PG_EXEC(pg, "SELECT * FROM credits_adjust($1, $2, $3, $4, $5, $6, $7)",
                       pg_integer(wish->tenant), user, credits, request,
                       pg_flag(wish->open_account), pg_text(wish->actor), reason);
    case CREDITS_SPEND:
        return PG_EXEC(pg, "SELECT * FROM credits_spend($1, $2, $3, $4, $5)", company, user,
                       credits, request, reason);
    case CREDITS_HOLD:
        return PG_EXEC(pg,
                       "SELECT * FROM credits_hold($1, $2, $3, $4, $5, make_interval(secs => $6))",
                       company, user, credits, request, reason, pg_integer(wish->hold_s));
    case CREDITS_CAPTURE:
        return PG_EXEC(pg, "SELECT * FROM credits_capture($1, $2, $3)", company, request, credits);
    case CREDITS_RELEASE:
        return PG_EXEC(pg, "SELECT * FROM credits_release($1, $2)", company, request);
    }
    REQUIRE(false);
    return ERR_NONE;
}

static struct err move(struct pg *pg, enum credits_verb verb, const struct credits_wish *wish,
                       struct credits_reply *out)
{
    static const char *const done[] = {"adjusted", "spent", "held", "captured", "released"};
    static const char *const actions[] = {"credits.adjust", "credits.spend", "credits.hold",
                                          "credits.capture", "credits.release"};
    TRY(PG_EXEC(pg, "SELECT set_config('whopline.actor', $1, true)", pg_text(wish->actor)));
    TRY(ask_move(pg, verb, wish));
    copy(out->result, pg_get(pg, 0, 0));
    out->has_available = !pg_is_null(pg, 0, 1);
    out->available = pg_get_integer(pg, 0, 1);
    out->done = strcmp(out->result, done[verb]) == 0;
    if (!out->done)
        return ERR_NONE;
    return PG_EXEC(pg,
                   "INSERT INTO audit_log (actor, action, target, reason, detail) VALUES ($1, $2,"
                   " coalesce($3, $4), coalesce($5, ''),"
                   " jsonb_build_object('credits', $6::bigint, 'request', $4::text))",
                   pg_text(wish->actor), pg_text(actions[verb]), pg_text(wish->user),
                   pg_text(wish->request), pg_text(wish->reason), pg_integer(wish->credits));
}

struct err credits_move(struct pg *pg, enum credits_verb verb, const struct credits_wish *wish,
                        struct credits_reply *out)
{
    *out = (struct credits_reply){0};
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = move(pg, verb, wish, out);
    return finish(pg, err, out->done);
}

/* --- the review list ------------------------------------------------------------------------- */

#define TOLD                                                                                       \
    "SELECT d.result, d.state, d.done_by, to_char(d.done_at AT TIME ZONE 'UTC',"                   \
    " 'YYYY-MM-DD HH24:MI:SS'), d.credits, d.owner FROM "

static struct err ask_review(struct pg *pg, enum review_verb verb, int64_t tenant,
                             const char *payment, const char *user, int64_t credits,
                             const struct audit *audit)
{
    const struct pg_param actor = pg_text(audit->actor);
    const struct pg_param reason = pg_text(audit->reason);
    switch (verb) {
    case REVIEW_ASSIGN:
        return PG_EXEC(pg, TOLD "credits_review_assign($1, $2, $3, nullif($4, 0), $5, $6) d",
                       pg_integer(tenant), pg_text(payment), pg_text(user), pg_integer(credits),
                       actor, reason);
    case REVIEW_DISMISS:
        return PG_EXEC(pg, TOLD "credits_review_dismiss($1, $2, $3, $4) d", pg_integer(tenant),
                       pg_text(payment), actor, reason);
    case REVIEW_REOPEN:
        return PG_EXEC(pg, TOLD "credits_review_reopen($1, $2, $3, $4) d", pg_integer(tenant),
                       pg_text(payment), actor, reason);
    }
    REQUIRE(false);
    return ERR_NONE;
}

struct err credits_review_decide(struct pg *pg, enum review_verb verb, int64_t tenant,
                                 const char *payment, const char *user, int64_t credits,
                                 const char *actor, const char *reason, struct review_deed *out)
{
    static const char *const done[] = {"assigned", "dismissed", "reopened"};
    static const char *const actions[] = {"review.assign", "review.dismiss", "review.reopen"};
    const struct audit audit = {
        .actor = actor, .action = actions[verb], .target = payment, .reason = reason};
    *out = (struct review_deed){0};
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = ask_review(pg, verb, tenant, payment, user, credits, &audit);
    if (!err_failed(&err)) {
        out->credits = pg_get_integer(pg, 0, 4);
        copy(out->result, pg_get(pg, 0, 0));
        copy(out->state, pg_get(pg, 0, 1));
        copy(out->done_by, pg_get(pg, 0, 2));
        copy(out->done_at, pg_get(pg, 0, 3));
        copy(out->owner, pg_get(pg, 0, 5));
        out->done = strcmp(out->result, done[verb]) == 0;
    }
    if (!err_failed(&err) && out->done)
        err = audit_add(pg, &audit);
    return finish(pg, err, out->done);
}

/* --- how a tenant wants it ------------------------------------------------------------------- */

static struct err write_settings(struct pg *pg, int64_t tenant, const char *slug,
                                 const struct credits_settings *settings, const char *actor,
                                 const char *reason, bool *changed)
{
    TRY(PG_EXEC(pg, "INSERT INTO credit_settings (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING",
                pg_integer(tenant)));
    TRY(PG_EXEC(
        pg,
        "WITH old AS (SELECT * FROM credit_settings WHERE tenant_id = $1 FOR UPDATE),"
        " wanted AS (SELECT o.tenant_id, coalesce($2::boolean, credits_enabled) AS enabled,"
        "  coalesce($3, negative_policy) AS negative,"
        "  coalesce($4::boolean, email_match) AS email, coalesce($5, whop_payments) AS whop,"
        "  coalesce($8::text::double precision * interval '1 hour', order_ttl) AS ttl,"
        "  ARRAY(SELECT DISTINCT u FROM unnest(whop_users || $6::text[]) u"
        "   WHERE u <> ALL ($7::text[]) ORDER BY u) AS users FROM old o),"
        " moved AS (UPDATE credit_settings s SET credits_enabled = enabled,"
        "  negative_policy = negative, email_match = email, whop_payments = whop,"
        "  whop_users = users, order_ttl = ttl, updated_at = whopline_now()"
        "  FROM wanted w, old o WHERE s.tenant_id = w.tenant_id"
        "  AND (enabled, negative, email, whop, users, ttl) IS DISTINCT FROM"
        "  (o.credits_enabled, o.negative_policy, o.email_match, o.whop_payments,"
        "   o.whop_users, o.order_ttl) RETURNING to_jsonb(o) AS was, to_jsonb(s) AS now_is)"
        " INSERT INTO audit_log (actor, action, target, reason, detail)"
        " SELECT $9, 'credits.settings', $10, $11, jsonb_build_object('was', was, 'is', now_is)"
        " FROM moved",
        pg_integer(tenant), pg_text(settings->enabled), pg_text(settings->negative),
        pg_text(settings->email_match), pg_text(settings->whop),
        pg_array_param(settings->add_users), pg_array_param(settings->remove_users),
        pg_text(settings->order_ttl_hours), pg_text(actor), pg_text(slug), pg_text(reason)));
    *changed = pg_affected(pg) > 0;
    return ERR_NONE;
}

struct err credits_set(struct pg *pg, int64_t tenant, const char *slug,
                       const struct credits_settings *settings, const char *actor,
                       const char *reason, bool *changed)
{
    *changed = false;
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = write_settings(pg, tenant, slug, settings, actor, reason, changed);
    return finish(pg, err, *changed);
}

struct err credits_bootstrap(struct pg *pg, const char *company_id, const struct config *config)
{
    const char *policy = config->credits_negative_policy;
    if (strcmp(policy, "allow_negative") != 0 && strcmp(policy, "clamp") != 0)
        return err_make(ERR_CONFIG, "CREDITS_NEGATIVE_POLICY is allow_negative or clamp");
    return PG_EXEC(
        pg,
        "INSERT INTO credit_settings (tenant_id, negative_policy, email_match,"
        " order_ttl, whop_payments)"
        " SELECT id, $2, $3, $4 * interval '1 hour', CASE WHEN $5 THEN 'on' ELSE 'off' END"
        " FROM tenants WHERE whop_company_id = $1"
        " AND ($2::text, $3::boolean, $4::bigint, $5::boolean)"
        "  IS DISTINCT FROM ('allow_negative', false, 24, true)"
        " ON CONFLICT (tenant_id) DO NOTHING",
        pg_text(company_id), pg_text(policy), pg_flag(config->credits_email_match),
        pg_integer(config->credits_order_ttl_hours), pg_flag(config->whop_payments_enabled));
}

/* --- applications ---------------------------------------------------------------------------- */

static const char *const grants[] = {
    "USAGE ON SCHEMA %I",
    "SELECT ON %I.user_profiles",
    "EXECUTE ON FUNCTION %I.credits_spend(text, text, bigint, text, text)",
    "EXECUTE ON FUNCTION %I.credits_hold(text, text, bigint, text, text, interval)",
    "EXECUTE ON FUNCTION %I.credits_capture(text, text, bigint)",
    "EXECUTE ON FUNCTION %I.credits_release(text, text)",
    "EXECUTE ON FUNCTION %I.credits_available(text, text)",
};

/* Who owns the tables, is a superuser or belongs to such a role needs no grants, and is no
 * application. */
static struct err check_role(struct pg *pg, const char *role)
{
    TRY(PG_EXEC(
        pg,
        "SELECT r.rolsuper OR pg_has_role(r.oid, c.relowner, 'MEMBER'),"
        " has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"
        "  OR has_table_privilege(r.oid, 'credit_accounts', 'INSERT, UPDATE, DELETE, TRUNCATE')"
        " FROM pg_roles r, pg_class c WHERE r.rolname = $1"
        " AND c.oid = 'credit_transactions'::regclass",
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
    if (pg_get_flag(pg, 0, 1))
        return err_make(ERR_REFUSED,
                        "%.60s has been granted to write the ledger or the balances: revoke that "
                        "first, nobody but whopline does",
                        role);
    return ERR_NONE;
}

static struct err grant(struct pg *pg, const char *role, bool revoke, const char *actor)
{
    const struct audit audit = {.actor = actor,
                                .action = revoke ? "credits.disallow" : "credits.allow",
                                .target = role,
                                .reason = ""};
    TRY(check_role(pg, role));
    for (size_t i = 0; i < ARRAY_LEN(grants); i++) {
        struct buf sql = {0};
        struct err err = PG_EXEC(pg, "SELECT format($1, current_schema()), quote_ident($2)",
                                 pg_text(grants[i]), pg_text(role));
        if (!err_failed(&err)) {
            buf_printf(&sql, "%s %s %s %s", revoke ? "REVOKE" : "GRANT", pg_get(pg, 0, 0),
                       revoke ? "FROM" : "TO", pg_get(pg, 0, 1));
            err = pg_exec(pg, buf_text(&sql), NULL, 0);
        }
        buf_close(&sql);
        if (err_failed(&err))
            return err;
    }
    return audit_add(pg, &audit);
}

struct err credits_allow(struct pg *pg, const char *role, bool revoke, const char *actor)
{
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = grant(pg, role, revoke, actor);
    return finish(pg, err, true);
}
