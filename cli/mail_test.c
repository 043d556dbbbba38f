/* `whopline mail test` and `mail templates check`. */
#include "base/random.h"
#include "cli/mail.h"
#include "cli/output.h"
#include "codec/json.h"
#include "service/mail_send.h"

#include <stdio.h>

/* What every template may show. */
static const char samples[] =
    "{\"name\":\"Ada Example\",\"username\":\"ada\",\"tier\":\"pro\",\"payment\":\"pay_Example\","
    "\"amount\":\"49.90\",\"currency\":\"eur\",\"metric\":\"ai_credits\",\"percent\":\"80\","
    "\"used\":\"800\",\"limit\":\"1000\",\"period\":\"2026-11\",\"kind\":\"review\","
    "\"about\":\"pay_Example\",\"reason\":\"an example\"";

struct err mail_check_templates(const struct config *config)
{
    struct buf problems = {0};
    int64_t ages[MAIL_COUNT];
    struct mail_templates *templates = mail_templates_load(config, &problems);
    mail_read_ages(config, ages, &problems);
    bool fine = problems.len == 0;
    fputs(buf_text(&problems), stderr);
    buf_close(&problems);
    mail_templates_free(templates);
    if (!fine)
        return err_make(ERR_REFUSED, "whopline-mail would not start with these");
    printf("%d templates are in order\n", (int)MAIL_COUNT);
    return ERR_NONE;
}

static struct err preview(struct cli *cli, enum mail_name mail, bool html)
{
    struct buf problems = {0};
    struct buf vars = {0};
    struct buf text = {0};
    struct mail_templates *templates = mail_templates_load(&cli->config, &problems);
    fputs(buf_text(&problems), stderr);
    buf_close(&problems);
    if (templates == NULL)
        return err_make(ERR_REFUSED, "whopline-mail would not start with these templates");
    buf_printf(&vars, "%s,\"company\":\"Example\"}", samples);
    mail_preview(templates, mail, buf_text(&vars), html, &text);
    fputs(buf_text(&text), stdout);
    mail_templates_free(templates);
    buf_close(&vars);
    buf_close(&text);
    return ERR_NONE;
}

static struct err add(struct cli *cli, int64_t tenant, enum mail_name mail, const char *to)
{
    char key[UUID_TEXT_SIZE];
    struct arena arena;
    random_uuid(key);
    arena_init(&arena);
    const struct mail_wish wish = {.tenant = tenant,
                                   .mail = mail,
                                   .user = "",
                                   .address = to,
                                   .recipient = "address:test",
                                   .key = key,
                                   .vars = arena_printf(&arena, "%s}", samples),
                                   .event = "",
                                   .membership = ""};
    struct err err = pg_begin(cli->pg);
    if (!err_failed(&err))
        err = mails_add(cli->pg, &arena, &wish, 1, NULL);
    if (!err_failed(&err))
        err = pg_commit(cli->pg);
    pg_rollback(cli->pg);
    arena_close(&arena);
    return err;
}

struct err mail_cmd_test(struct cli *cli, const struct given *given)
{
    const char *to = given_text(given, "to");
    int64_t tenant;
    enum mail_name mail;
    if (!mail_find(given->plain[0], &mail))
        return err_make(ERR_USAGE, "there is no template %.40s; docs/mail.md has them",
                        given->plain[0]);
    if (to == NULL)
        return preview(cli, mail, given_flag(given, "html"));
    if (!mail_is_address(to, false))
        return err_make(ERR_USAGE, "--to takes an address such as ada@example.com");
    TRY(given_tenant(cli, given, &tenant, NULL));
    if (!given_flag(given, "yes")) {
        printf("would: send %s with samples\nnothing has been changed; --yes does it\n",
               mail_type(mail)->name);
        return ERR_NONE;
    }
    TRY(add(cli, tenant, mail, to));
    printf("%s is sent as soon as whopline-mail gets to it: whopline mail ls\n",
           mail_type(mail)->name);
    return ERR_NONE;
}
