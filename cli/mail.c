/* whopline mail: what was written to whom, what was not, and why. */
#include "cli/mail.h"

#include "cli/outcome.h"
#include "cli/output.h"

#include <stdio.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 100000 };

static const char *const states[] = {"queued",  "sent",       "logged", "refused",
                                     "expired", "suppressed", "skipped"};

/* --- list and show --------------------------------------------------------------------------- */

#define FIELDS                                                                                     \
    "o.id, t.slug AS tenant, o.template, o.audience, o.whop_user_id AS \"user\", o.recipient,"     \
    " o.business_key AS key, o.state, o.reason, o.attempts, o.provider_id, o.event_id,"            \
    " j.state AS job_state, j.reason AS job_reason, o.job_id, o.occurred_at, o.not_after,"         \
    " o.created_at, o.ended_at"
#define FROM                                                                                       \
    " FROM email_outbox o JOIN tenants t ON t.id = o.tenant_id LEFT JOIN jobs j ON j.id = "        \
    "o.job_id"
#define LISTED                                                                                     \
    FROM " WHERE ($1::text IS NULL OR t.slug = $1 OR t.whop_company_id = $1)"                      \
         " AND ($2::text IS NULL OR o.state = $2) AND ($3::text IS NULL OR o.whop_user_id = $3)"   \
         " AND ($4::text IS NULL OR o.template = $4)"                                              \
         " ORDER BY o.created_at DESC, o.id DESC LIMIT $5::bigint"

static struct err check_state(const char *state)
{
    for (size_t i = 0; state != NULL && i < ARRAY_LEN(states); i++)
        if (strcmp(states[i], state) == 0)
            return ERR_NONE;
    return state == NULL ? ERR_NONE
                         : err_make(ERR_USAGE, "--state takes queued, sent, logged, refused,"
                                               " expired, suppressed or skipped");
}

static struct err list(struct cli *cli, const struct given *given)
{
    static const char *const heads[] = {">AGE", ">MAIL", "TEMPLATE", "TO", "ABOUT", "STATE", "WHY"};
    int64_t limit = LIMIT_DEFAULT;
    struct table table;
    TRY(given_number(given, "limit", 1, LIMIT_MAX, &limit));
    TRY(check_state(given_text(given, "state")));
    const struct pg_param params[] = {pg_text(given_text(given, "tenant")),
                                      pg_text(given_text(given, "state")),
                                      pg_text(given_text(given, "user")),
                                      pg_text(given_text(given, "template")), pg_integer(limit)};
    if (given_flag(given, "json"))
        return cli_print_json(cli, "SELECT " FIELDS LISTED, params, ARRAY_LEN(params));
    TRY(pg_exec(cli->pg,
                "SELECT extract(epoch FROM whopline_now() - o.created_at)::bigint, o.id,"
                " o.template, coalesce(o.whop_user_id, o.recipient), o.business_key,"
                " CASE WHEN o.state = 'queued' AND j.state IN ('parked', 'dead') THEN j.state"
                "  ELSE o.state END,"
                " coalesce(o.reason, CASE WHEN o.state = 'queued' THEN j.reason END)" LISTED,
                params, ARRAY_LEN(params)));
    if (pg_rows(cli->pg) == 0) {
        printf("no such mails\n");
        return ERR_NONE;
    }
    table_init(&table, heads, ARRAY_LEN(heads));
    for (size_t row = 0; row < pg_rows(cli->pg); row++) {
        char age[OUTPUT_SHORT];
        output_age(pg_get_integer(cli->pg, row, 0), age);
        table_add(&table, age);
        for (size_t column = 1; column < ARRAY_LEN(heads); column++)
            table_add(&table, pg_get(cli->pg, row, column));
    }
    table_print(&table, "");
    return ERR_NONE;
}

static struct err show(struct cli *cli, const struct given *given)
{
    int64_t id = 0;
    struct table table;
    if (!cli_parse_number(given->plain[0], 1, INT64_MAX, &id))
        return err_make(ERR_USAGE, "a mail is named by its number: see whopline mail ls");
    const struct pg_param params[] = {pg_integer(id)};
    TRY(pg_exec(cli->pg, "SELECT " FIELDS ", o.vars" FROM " WHERE o.id = $1", params, 1));
    if (pg_rows(cli->pg) == 0)
        return err_make(ERR_NOT_FOUND, "there is no mail %lld; see whopline mail ls",
                        (long long)id);
    if (given_flag(given, "json"))
        return cli_print_json(cli, "SELECT " FIELDS ", o.vars" FROM " WHERE o.id = $1", params, 1);
    table_init(&table, NULL, 2);
    for (size_t column = 0; column < pg_columns(cli->pg); column++) {
        if (pg_get(cli->pg, 0, column)[0] == '\0')
            continue;
        table_add(&table, pg_column_name(cli->pg, column));
        table_add(&table, pg_get(cli->pg, 0, column));
    }
    table_print(&table, "");
    return ERR_NONE;
}

/* --- words ----------------------------------------------------------------------------------- */

static const struct verb verbs[] = {
    {"", "tenant= state= user= template= limit= json", "a verb", 0, 0, list},
    {"ls", "tenant= state= user= template= limit= json", "no words", 0, 0, list},
    {"show", "json", "one mail's number", 1, 1, show},
    {"retry", "actor= reason= parked yes json", "mails' numbers, or --parked", 0, VERBS_PLAIN_MAX,
     mail_cmd_retry},
    {"suppress", "tenant= actor= reason= yes json", "one address", 1, 1, mail_cmd_suppress},
    {"unsuppress", "tenant= actor= yes json", "one address", 1, 1, mail_cmd_unsuppress},
    {"settings", "tenant= actor= enabled= from= admin= mute= unmute= json", "no words", 0, 0,
     mail_cmd_settings},
    {"test", "tenant= actor= to= html yes json", "one template", 1, 1, mail_cmd_test},
};

static int run(struct cli *cli, int count, char **words)
{
    if (count == 3 && strcmp(words[1], "templates") == 0 && strcmp(words[2], "check") == 0) {
        struct err err = mail_check_templates(&cli->config); /* needs no database */
        return err_failed(&err) ? cli_fail(&err) : CLI_OK;
    }
    return verbs_run(cli, verbs, ARRAY_LEN(verbs),
                     "ls, show, retry, suppress, unsuppress, settings, test or templates check",
                     count, words);
}

const struct cli_command command_mail = {
    .name = "mail",
    .usage = "VERB [options]",
    .purpose = "what was written to whom, and what was not",
    .help =
        "  ls [--state STATE] [--user USER] [--template NAME] [--tenant T] [--limit N] [--json]\n"
        "  show MAIL [--json]      all of one mail; the text itself is not kept\n"
        "  retry MAIL... --reason WHY [--yes]\n"
        "                          mails that have ended unsent, or whose job is parked, once "
        "more\n"
        "  retry --parked --reason WHY [--yes]\n"
        "                          all that are parked, e.g. after RESEND_API_KEY was mended\n"
        "  suppress ADDRESS [--reason bounced|complained|unsubscribed|manual] [--yes]\n"
        "                          gets receipts and the like only\n"
        "  unsuppress ADDRESS [--yes]\n"
        "  settings [--enabled on|off] [--from SENDER] [--admin ADDRESS] [--mute NAME]\n"
        "           [--unmute NAME]  how a tenant wants it; without options: as it is\n"
        "  test NAME [--html]      a template filled in with samples\n"
        "  test NAME --to ADDRESS --yes\n"
        "                          the same, sent\n"
        "  templates check         whether all templates are in order (MAIL_TEMPLATES_DIR)\n",
    .run = run,
};
