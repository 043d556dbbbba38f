/* `whopline mail retry|suppress|unsuppress|settings`. */
#include "cli/mail.h"
#include "cli/output.h"
#include "codec/json.h"
#include "service/mail_send.h"
#include "service/mails_admin.h"

#include <stdio.h>

enum { PARKED_MAX = 1000 };

/* --- retry ----------------------------------------------------------------------------------- */

static struct err take_ids(struct cli *cli, const struct given *given, struct arena *arena,
                           struct mail_ids *out)
{
    bool parked = given_flag(given, "parked");
    if (parked == (given->plain_count > 0))
        return err_make(ERR_USAGE, "retry takes mails' numbers, or --parked");
    if (parked)
        return mails_list_parked(cli->pg, arena, PARKED_MAX, out);
    out->count = given->plain_count;
    out->ids = arena_alloc(arena, out->count * sizeof *out->ids);
    for (size_t i = 0; i < out->count; i++)
        if (!cli_parse_number(given->plain[i], 1, INT64_MAX, &out->ids[i]))
            return err_make(ERR_USAGE, "a mail is named by its number: see whopline mail ls");
    return ERR_NONE;
}

static struct err retry_one(struct cli *cli, const struct given *given, struct arena *arena,
                            int64_t id, const char *reason, struct json_writer *json)
{
    bool yes = given_flag(given, "yes");
    enum mail_plan plan;
    TRY(mails_plan_retry(cli->pg, id, &plan));
    if (yes)
        TRY(mails_retry(cli->pg, arena, id, given_actor(cli, given), reason));
    json_begin_object(json, NULL);
    json_put_integer(json, "id", id);
    json_put_text(json, "plan", plan == MAIL_PLAN_AGAIN ? "again" : "requeue");
    json_put_flag(json, "done", yes);
    json_end_object(json);
    if (!given_flag(given, "json"))
        printf("%smail %lld: %s\n", yes ? "" : "would: ", (long long)id,
               plan == MAIL_PLAN_AGAIN ? "sent once more, as a new one"
                                       : "its job is put in again");
    return ERR_NONE;
}

static struct err retry_all(struct cli *cli, const struct given *given, struct arena *arena)
{
    struct mail_ids which = {0};
    const char *reason;
    struct buf out = {0};
    struct json_writer json = {.out = &out};
    struct err err = ERR_NONE;
    TRY(given_need(given, "reason", &reason));
    TRY(take_ids(cli, given, arena, &which));
    json_begin_array(&json, NULL);
    for (size_t i = 0; i < which.count && !err_failed(&err); i++)
        err = retry_one(cli, given, arena, which.ids[i], reason, &json);
    json_end_array(&json);
    if (given_flag(given, "json"))
        printf("%s\n", buf_text(&out));
    else if (which.count == 0)
        printf("no such mails\n");
    else if (!given_flag(given, "yes") && !err_failed(&err))
        printf("nothing has been changed; --yes does it\n");
    buf_close(&out);
    return err;
}

struct err mail_cmd_retry(struct cli *cli, const struct given *given)
{
    struct arena arena;
    arena_init(&arena);
    struct err err = retry_all(cli, given, &arena);
    arena_close(&arena);
    return err;
}

/* --- suppressions ---------------------------------------------------------------------------- */

static void print_suppression(const struct given *given, bool yes, bool changed, const char *what)
{
    struct buf who = {0};
    if (given_flag(given, "json")) {
        printf("{\"done\":%s}\n", yes && changed ? "true" : "false");
        return;
    }
    output_add_clean(&who, given->plain[0]);
    if (!yes)
        printf("would: %s %s\nnothing has been changed; --yes does it\n", buf_text(&who), what);
    else
        printf("%s %s%s\n", buf_text(&who), what, changed ? "" : ", as before");
    buf_close(&who);
}

static struct err suppress(struct cli *cli, const struct given *given, const char *reason)
{
    int64_t tenant;
    bool yes = given_flag(given, "yes");
    bool changed = false;
    TRY(given_tenant(cli, given, &tenant, NULL));
    if (!mail_is_address(given->plain[0], false))
        return err_make(ERR_USAGE, "that is no address such as ada@example.com");
    if (yes && reason != NULL)
        TRY(mails_suppress(cli->pg, tenant, given->plain[0], reason, given_actor(cli, given),
                           &changed));
    if (yes && reason == NULL)
        TRY(mails_unsuppress(cli->pg, tenant, given->plain[0], given_actor(cli, given), &changed));
    print_suppression(given, yes, changed,
                      reason != NULL ? "gets receipts and the like only" : "gets all mails");
    return ERR_NONE;
}

struct err mail_cmd_suppress(struct cli *cli, const struct given *given)
{
    static const char *const reasons[] = {"bounced", "complained", "unsubscribed", "manual"};
    const char *reason = given_text(given, "reason");
    if (reason == NULL)
        return suppress(cli, given, "manual");
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (strcmp(reasons[i], reason) == 0)
            return suppress(cli, given, reason);
    return err_make(ERR_USAGE, "--reason takes bounced, complained, unsubscribed or manual");
}

struct err mail_cmd_unsuppress(struct cli *cli, const struct given *given)
{
    return suppress(cli, given, NULL);
}

/* --- settings -------------------------------------------------------------------------------- */

#define SETTINGS                                                                                   \
    "SELECT t.slug AS tenant, coalesce(s.enabled, true) AS enabled, s.from_address AS \"from\","   \
    " s.admin_address AS admin, coalesce(s.muted, '{}') AS muted"                                  \
    " FROM tenants t LEFT JOIN mail_settings s ON s.tenant_id = t.id"                              \
    " WHERE $1::bigint IS NULL OR t.id = $1 ORDER BY t.slug"

static struct err show_settings(struct cli *cli, int64_t tenant, bool json)
{
    static const char *const heads[] = {"TENANT", "MAILS", "FROM", "ADMIN", "MUTED"};
    const struct pg_param params[] = {tenant != 0 ? pg_integer(tenant) : pg_text(NULL)};
    struct table table;
    if (json)
        return cli_print_json(cli, SETTINGS, params, 1);
    TRY(pg_exec(cli->pg,
                "SELECT tenant, CASE WHEN enabled THEN 'on' ELSE 'off' END, \"from\", admin,"
                " array_to_string(muted, ' ') FROM (" SETTINGS ") q",
                params, 1));
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < pg_rows(cli->pg); row++)
        for (size_t column = 0; column < ARRAY_LEN(heads); column++)
            table_add(&table, pg_get(cli->pg, row, column));
    table_print(&table, "");
    return ERR_NONE;
}

static struct err check_template(const struct given *given, const char *name)
{
    const char *typed = given_text(given, name);
    enum mail_name mail;
    if (typed == NULL || mail_find(typed, &mail))
        return ERR_NONE;
    return err_make(ERR_USAGE, "--%s: there is no template %.40s; docs/mail.md has them", name,
                    typed);
}

struct err mail_cmd_settings(struct cli *cli, const struct given *given)
{
    int64_t tenant = 0;
    struct buf slug = {0};
    bool on = false;
    struct mail_settings settings = {.from = given_text(given, "from"),
                                     .admin = given_text(given, "admin"),
                                     .mute = given_text(given, "mute"),
                                     .unmute = given_text(given, "unmute")};
    TRY(check_template(given, "mute"));
    TRY(check_template(given, "unmute"));
    TRY(given_switch(given, "enabled", &on));
    if (given_text(given, "enabled") != NULL)
        settings.enabled = on ? "true" : "false";
    bool changes = settings.enabled != NULL || settings.from != NULL || settings.admin != NULL ||
                   settings.mute != NULL || settings.unmute != NULL;
    struct err err = ERR_NONE;
    if (changes || given_text(given, "tenant") != NULL)
        err = given_tenant(cli, given, &tenant, &slug);
    if (!err_failed(&err) && changes)
        err = mails_set(cli->pg, tenant, buf_text(&slug), &settings, given_actor(cli, given));
    buf_close(&slug);
    return err_failed(&err) ? err : show_settings(cli, tenant, given_flag(given, "json"));
}
