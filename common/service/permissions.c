#include "service/permissions.h"

#include "service/tenant.h"
#include "service/tenant_whop.h"

#include <ctype.h>
#include <stdio.h>

/* What each call needs, as Whop's reference prints it; for an answer that does not say. */
static const struct feature {
    const char *name;
    enum whop_operation operation;
    const char *permissions;
} features[] = {
    {"company", WHOP_OPERATION_companies_get, "company:basic:read"},
    {"products", WHOP_OPERATION_products_list, "access_pass:basic:read"},
    {"plans", WHOP_OPERATION_plans_list, "plan:basic:read"},
    {"memberships", WHOP_OPERATION_memberships_list, "member:basic:read, member:email:read"},
    {"members", WHOP_OPERATION_members_list,
     "member:basic:read, member:email:read, member:phone:read"},
    {"payments", WHOP_OPERATION_payments_list,
     "payment:basic:read, plan:basic:read, access_pass:basic:read, member:email:read, "
     "member:basic:read, member:phone:read, promo_code:basic:read"},
    {"refunds", WHOP_OPERATION_refunds_list, "payment:basic:read"},
    {"disputes", WHOP_OPERATION_disputes_list, "payment:dispute:read"},
};

static const struct feature *find_feature(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(features); i++)
        if (span_equal(name, span_of(features[i].name)))
            return &features[i];
    return NULL;
}

static bool next_name(const char **text, struct span *out)
{
    *text += strspn(*text, ", ");
    *out = (struct span){*text, strcspn(*text, ", ")};
    *text += out->len;
    return out->len > 0;
}

void permissions_check_setting(const char *text, struct buf *problems)
{
    struct span name;
    while (next_name(&text, &name)) {
        if (find_feature(name) != NULL)
            continue;
        buf_printf(problems, "WHOP_FEATURES: there is no feature \"%.*s\"; there are",
                   (int)(name.len < 40 ? name.len : 40), name.ptr);
        for (size_t i = 0; i < ARRAY_LEN(features); i++)
            buf_printf(problems, "%s %s", i > 0 ? "," : "", features[i].name);
        buf_add_text(problems, "\n");
    }
}

/* --- asking ---------------------------------------------------------------------------------- */

static struct err ask(struct tenant_whop *client, const struct feature *feature)
{
    struct whop_company company;
    struct whop_list list;
    struct whop_page page;
    if (feature->operation == WHOP_OPERATION_companies_get)
        return whop_get_company(&client->whop, client->credential.company, &company);
    whop_list(&list, &client->whop, feature->operation, NULL, 0, "");
    return whop_next_page(&list, &page);
}

static void add_missing(struct span name, struct buf *missing)
{
    char line[80];
    snprintf(line, sizeof line, "%.*s\n", (int)(name.len < 70 ? name.len : 70), name.ptr);
    if (name.len > 0 && strstr(buf_text(missing), line) == NULL)
        buf_add_text(missing, line);
}

static bool is_of_name(char c)
{
    return islower((unsigned char)c) || isdigit((unsigned char)c) || c == '_' || c == ':';
}

/* A 403 names it in its message, "member:basic:read": the last word with a colon inside. */
static struct span find_permission(const char *text)
{
    struct span found = {"", 0};
    for (const char *at = text; *at != '\0';) {
        size_t len = 0;
        while (is_of_name(at[len]))
            len++;
        const char *colon = len > 2 ? memchr(at + 1, ':', len - 2) : NULL;
        if (colon != NULL && at[0] != ':' && at[len - 1] != ':')
            found = (struct span){at, len};
        at += len > 0 ? len : 1;
    }
    return found;
}

static void note_missing(const struct feature *feature, const struct err *err, struct buf *missing)
{
    struct span named = find_permission(err_text(err));
    const char *all = feature->permissions;
    if (named.len > 0) {
        add_missing(named, missing);
        return;
    }
    while (next_name(&all, &named))
        add_missing(named, missing);
}

static struct err ask_all(struct tenant_whop *client, const char *names, struct buf *missing)
{
    struct span name;
    while (next_name(&names, &name)) {
        const struct feature *feature = find_feature(name);
        if (feature == NULL)
            continue; /* the setting was checked */
        struct err err = ask(client, feature);
        if (err.code == ERR_FORBIDDEN)
            note_missing(feature, &err, missing);
        else if (err_failed(&err))
            return err;
    }
    return ERR_NONE;
}

static bool is_named(const char *names, const char *wanted)
{
    struct span name;
    while (next_name(&names, &name))
        if (span_equal(name, span_of(wanted)))
            return true;
    return false;
}

/* Features a tenant can do without: what is lacking for them is told, and stops nothing. */
static struct err ask_optional(struct tenant_whop *client, const char *needed, struct buf *lacking)
{
    static const char optional[] = "disputes";
    return is_named(needed, optional) ? ERR_NONE : ask_all(client, optional, lacking);
}

/* --- what has come of it --------------------------------------------------------------------- */

static struct err write_down(struct pg *pg, int64_t tenant, const char *actor, const char *missing,
                             bool *active)
{
    bool changed;
    bool lacks = !text_is_empty(missing);
    const struct tenant_change change = {
        .status = lacks ? "permission_missing" : "active",
        .reason = lacks ? "the credential lacks permissions" : "",
        .actor = actor,
        .action = lacks ? "tenants.permission_missing" : "tenants.active",
        .from = lacks ? "{active,reauth_required}" : "{permission_missing,reauth_required}"};
    TRY(pg_begin(pg));
    TRY(tenant_change_status(pg, tenant, &change, &changed));
    TRY(PG_EXEC(pg,
                "UPDATE tenants SET checked_at = whopline_now(), missing_permissions ="
                " array_remove(string_to_array($2, E'\\n'), '') WHERE id = $1::bigint"
                " RETURNING status = 'active'",
                pg_integer(tenant), pg_text(missing)));
    *active = pg_rows(pg) == 1 && pg_get_flag(pg, 0, 0);
    return pg_commit(pg);
}

struct err permissions_check(struct pg *pg, struct outside *outside, struct arena *arena,
                             int64_t tenant, const char *actor, struct permissions_found *out)
{
    struct tenant_whop client;
    *out = (struct permissions_found){0};
    TRY(tenant_whop_open(&client, pg, outside, arena, tenant, CREDENTIAL_FOR_CHECK));
    struct err err = ask_all(&client, outside->config->whop_features, &out->missing);
    if (!err_failed(&err))
        err = ask_optional(&client, outside->config->whop_features, &out->lacking);
    TRY(tenant_whop_close(&client, err));
    err = write_down(pg, tenant, actor, buf_text(&out->missing), &out->active);
    pg_rollback(pg);
    return err;
}
