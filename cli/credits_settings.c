/* `whopline credits settings` and `credits allow`. */
#include "cli/credits.h"
#include "cli/output.h"
#include "service/credits_admin.h"

#include <stdio.h>

enum { TTL_MAX_HOURS = 24 * 365 };

/* --- settings -------------------------------------------------------------------------------- */

#define SETTINGS                                                                                   \
    "SELECT t.slug AS tenant, coalesce(s.credits_enabled, true) AS enabled,"                       \
    " coalesce(s.negative_policy, 'allow_negative') AS negative,"                                  \
    " coalesce(s.email_match, false) AS email_match, coalesce(s.whop_payments, 'on') AS whop,"     \
    " coalesce(s.whop_users, '{}') AS users,"                                                      \
    " (extract(epoch FROM coalesce(s.order_ttl, '24 hours')) / 3600)::float8 AS order_ttl_hours"   \
    " FROM tenants t LEFT JOIN credit_settings s ON s.tenant_id = t.id"                            \
    " WHERE $1::bigint IS NULL OR t.id = $1 ORDER BY t.slug"

static struct err show(struct cli *cli, int64_t tenant, bool json)
{
    static const char *const heads[] = {"TENANT", "CREDITS",      "IF NEGATIVE", "BY E-MAIL",
                                        "WHOP",   "LISTED USERS", ">ORDER HOURS"};
    static const struct output_list list = {
        .json = SETTINGS,
        .people = "SELECT tenant, CASE WHEN enabled THEN 'on' ELSE 'off' END, negative,"
                  " CASE WHEN email_match THEN 'on' ELSE 'off' END, whop,"
                  " array_to_string(users, ' '), order_ttl_hours FROM (" SETTINGS ") q",
        .heads = heads,
        .columns = ARRAY_LEN(heads),
    };
    const struct pg_param params[] = {tenant != 0 ? pg_integer(tenant) : pg_text(NULL)};
    return output_list(cli, &list, json, params, 1, 0);
}

static struct err take_switch(const struct given *given, const char *name, const char **out)
{
    bool on = false;
    TRY(given_switch(given, name, &on));
    *out = given_text(given, name) == NULL ? NULL : on ? "true" : "false";
    return ERR_NONE;
}

static struct err take_word(const struct given *given, const char *name, const char *const *words,
                            size_t count, const char **out)
{
    struct buf known = {0};
    *out = given_text(given, name);
    if (*out == NULL)
        return ERR_NONE;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(*out, words[i]) == 0) {
            buf_close(&known);
            return ERR_NONE;
        }
        buf_printf(&known, "%s%s", i == 0 ? "" : i + 1 == count ? " or " : ", ", words[i]);
    }
    struct err err = err_make(ERR_USAGE, "--%s takes %s", name, buf_text(&known));
    buf_close(&known);
    return err;
}

static struct err take_settings(const struct given *given, struct credits_settings *out)
{
    static const char *const policies[] = {"allow", "allow_negative", "clamp"};
    static const char *const switches[] = {"off", "listed", "on"};
    int64_t hours;
    TRY(take_switch(given, "enabled", &out->enabled));
    TRY(take_switch(given, "email-match", &out->email_match));
    TRY(take_word(given, "negative", policies, ARRAY_LEN(policies), &out->negative));
    if (out->negative != NULL && strcmp(out->negative, "allow") == 0)
        out->negative = "allow_negative";
    TRY(take_word(given, "whop", switches, ARRAY_LEN(switches), &out->whop));
    TRY(given_number(given, "order-ttl", 1, TTL_MAX_HOURS, &hours));
    out->order_ttl_hours = given_text(given, "order-ttl");
    for (size_t i = 0; i < given->count; i++) {
        if (strcmp(given->names[i], "user") == 0)
            pg_array_add_text(out->add_users, given->values[i]);
        if (strcmp(given->names[i], "no-user") == 0)
            pg_array_add_text(out->remove_users, given->values[i]);
    }
    return ERR_NONE;
}

static bool changes(const struct given *given)
{
    static const char *const names[] = {"enabled",   "negative", "email-match", "whop",
                                        "order-ttl", "user",     "no-user"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (given_text(given, names[i]) != NULL)
            return true;
    return false;
}

static struct err set(struct cli *cli, const struct given *given, int64_t tenant, const char *slug)
{
    struct pg_array add;
    struct pg_array removed;
    struct credits_settings settings = {.add_users = &add, .remove_users = &removed};
    const char *reason = given_text(given, "reason");
    bool changed = false;
    pg_array_init(&add, PG_ELEMENT_TEXT);
    pg_array_init(&removed, PG_ELEMENT_TEXT);
    struct err err = take_settings(given, &settings);
    if (!err_failed(&err))
        err = credits_set(cli->pg, tenant, slug, &settings, given_actor(cli, given),
                          reason != NULL ? reason : "", &changed);
    if (!err_failed(&err) && !changed && !given_flag(given, "json"))
        printf("nothing was changed: it is so already\n");
    pg_array_close(&add);
    pg_array_close(&removed);
    return err;
}

struct err credits_cmd_settings(struct cli *cli, const struct given *given)
{
    int64_t tenant = 0;
    struct buf slug = {0};
    struct err err = ERR_NONE;
    if (changes(given) || given_text(given, "tenant") != NULL)
        err = given_tenant(cli, given, &tenant, &slug);
    if (!err_failed(&err) && changes(given))
        err = set(cli, given, tenant, buf_text(&slug));
    buf_close(&slug);
    return err_failed(&err) ? err : show(cli, tenant, given_flag(given, "json"));
}

/* --- allow ----------------------------------------------------------------------------------- */

struct err credits_cmd_allow(struct cli *cli, const struct given *given)
{
    const char *role = given->plain[0];
    bool revoke = given_flag(given, "revoke");
    struct buf who = {0};
    TRY(credits_allow(cli->pg, role, revoke, given_actor(cli, given)));
    output_add_clean(&who, role);
    if (revoke)
        printf("%s may neither read balances nor spend any more\n", buf_text(&who));
    else
        printf("%s may read user_profiles and call credits_spend, credits_hold, credits_capture,\n"
               "credits_release and credits_available; and nothing else of the ledger\n",
               buf_text(&who));
    buf_close(&who);
    return ERR_NONE;
}
