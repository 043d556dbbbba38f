/* whopline-mail: sends the mails that wait in the outbox, each once.
 *
 * What is to be written to whom was decided where its cause was (service/mails.h); here it is
 * decided whether it is still to be sent, and it is handed to Resend (service/mail_send.h). */
#include "base/log.h"
#include "runtime/outside_face.h"
#include "runtime/telemetry.h"
#include "runtime/worker.h"
#include "service/mail_send.h"

/* Read before the first slot is there, and then only read. */
static struct mail_templates *templates;
static int64_t max_ages[MAIL_COUNT];

/* Mails by template and by what became of them. */
#define ENDED(mail, state) ((size_t)(mail) * MAIL_STATE_COUNT + (size_t)(state))
#define SERIES(mail, state, text)                                                                  \
    [ENDED(MAIL_##mail, MAIL_##state)] = {                                                         \
        .metric = METRIC_mails_total, .label = #mail, .second = text},
static const struct figures_series series[ENDED(MAIL_COUNT, 0)] = {
#define MAIL(name, sort, max_age_minutes, placeholders, needed)                                    \
    SERIES(name, SENT, "sent")                                                                     \
    SERIES(name, LOGGED, "logged")                                                                 \
    SERIES(name, REFUSED, "refused")                                                               \
    SERIES(name, EXPIRED, "expired")                                                               \
    SERIES(name, SUPPRESSED, "suppressed")                                                         \
    SERIES(name, SKIPPED, "skipped")
#define FOLLOWS(change, mail, key)
#include "mails.def"
#undef MAIL
#undef FOLLOWS
};
static const struct figures_list figures = {series, ARRAY_LEN(series)};

static void note(const struct mail_work *work, const struct mail_ending *ending)
{
    log_info("mail",
             ending->state == MAIL_LOGGED ? "a mail; there is no RESEND_API_KEY to send it with"
                                          : "a mail",
             LOG_INT("mail", work->id), LOG_TEXT("template", mail_type(work->mail)->name),
             LOG_TEXT("state", mail_state_name(ending->state)), LOG_TEXT("reason", ending->reason));
}

static struct err send_one(struct slot *slot, const void *payload)
{
    const struct mail *mail = payload;
    struct mail_work work = {
        .pg = slot->db,
        .outside = slot->outside,
        .arena = &slot->arena,
        .job = slot->job->id,
        .tenant = slot->job->tenant,
        .id = mail->id,
        .templates = templates,
    };
    struct mail_ending ending;
    TRY(mail_find_row(slot->db, mail->id, &work.mail));
    work.max_age_minutes = max_ages[work.mail];
    TRY(mail_send(&work, &ending));
    bool sent = !ending.ended_before && ending.state <= MAIL_LOGGED;
    const char *reason =
        ending.ended_before ? "ended_before"
        : sent              ? ""
               : arena_printf(&slot->arena, "%s: %s", mail_state_name(ending.state), ending.reason);
    if (!ending.ended_before)
        figures_count(&slot->figures, ENDED(work.mail, ending.state), 1);
    TRY(slot_commit(slot, sent ? JOB_STATE_DONE : JOB_STATE_SKIPPED, reason));
    if (!ending.ended_before)
        note(&work, &ending);
    return ERR_NONE;
}

static struct err make_notices(struct slot *slot, const void *payload)
{
    size_t added;
    (void)payload;
    do {
        TRY(pg_begin(slot->db));
        TRY(mails_follow_notices(slot->db, &slot->arena, max_ages[MAIL_admin_notice], &added));
        if (added > 0)
            TRY(pg_commit(slot->db));
    } while (added > 0);
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static void check(const struct config *config, struct buf *problems)
{
    telemetry_check(config, problems);
    mail_read_ages(config, max_ages, problems);
    if (!text_is_empty(config->email_from) && !mail_is_address(config->email_from, true))
        buf_add_text(problems, "EMAIL_FROM is no address such as Name <mail@example.com>\n");
    if (!text_is_empty(config->resend_api_key) && text_is_empty(config->email_from))
        buf_add_text(problems, "EMAIL_FROM is not set: with RESEND_API_KEY mails need a sender\n");
    if (templates == NULL)
        templates = mail_templates_load(config, problems);
}

static const struct handler handlers[] = {
    {JOB_mail_send, .handle = send_one},
    {JOB_mail_notices, .handle = make_notices},
};

static const struct worker mail = {
    .name = "whopline-mail",
    .purpose = "sends the mails that wait in the outbox",
    .queue = QUEUE_mail,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
    .outside = &outside_face,
    .check = check,
    .figures = &figures,
};

int main(int argc, char **argv)
{
    int status = worker_main(argc, argv, &mail);
    mail_templates_free(templates);
    return status;
}
