#ifndef WHOPLINE_MAILS_H
#define WHOPLINE_MAILS_H
/* Mails that are to be written: rows of email_outbox, each with its job mail.send. Blocking; the
 * connection's thread; errors are those of io/pg.
 *
 * A mail is asked for in the transaction of its cause, by tenant, template, recipient and key:
 * asked for twice it is one. Whether it is sent at all (address, age, what the tenant wants) is
 * decided when it is its turn: service/mail_send.h. */
#include "service/mail_templates.h"
#include "service/members.h"
#include "service/queue.h"

/* Texts are borrowed, "" where there is none. */
struct mail_wish {
    int64_t tenant;
    enum mail_name mail;
    const char *user;       /* "": the tenant's admin, or the address */
    const char *address;    /* as told with the cause; what is known of the user goes before it */
    const char *recipient;  /* "": the user, else "admin" */
    const char *key;        /* of that mail to that recipient: what makes it another one */
    const char *vars;       /* a JSON object of texts by placeholder; "" for none */
    const char *event;      /* webhook_events.id */
    const char *membership; /* whose user it is, where nobody says so */
    int64_t occurred_ms;    /* its cause, Unix; 0: when the change was, else now */
    int64_t change;         /* member_changes.id; 0: none */
};
/* In the caller's transaction. *added (may be NULL): how many are new. */
MUST_CHECK struct err mails_add(struct pg *pg, struct arena *arena, const struct mail_wish *wishes,
                                size_t count, size_t *added);

/* The job of a mail, texts in the arena. */
struct outgoing mails_job(struct arena *arena, int64_t id, int64_t tenant, const char *job_id);

/* The mails that follow from what became of members (FOLLOWS in schema/mails.def); of a backfill
 * none does. In the transaction of the changes. */
MUST_CHECK struct err mails_follow(struct pg *pg, struct arena *arena,
                                   const struct member_outcome *outcome);
/* Receipts of payments that succeeded, a notice for each that failed. In the transaction that takes
 * them down. */
MUST_CHECK struct err mails_follow_bills(struct pg *pg, struct arena *arena,
                                         const struct member_news *news, size_t count);
/* Notices for admins (credit_notices) that have no mail yet, of tenants who have said where to;
 * young ones, a portion at a time. In the caller's transaction. */
MUST_CHECK struct err mails_follow_notices(struct pg *pg, struct arena *arena,
                                           int64_t max_age_minutes, size_t *added);

/* A threshold of usage was passed. */
struct mail_usage {
    int64_t tenant;
    const char *user;   /* "": the tenant's admin */
    const char *metric; /* "ai_credits" */
    const char *period; /* "2026-11": a threshold is told of once in it */
    int64_t percent;    /* 80, 95, 100 */
    int64_t used;
    int64_t limit;
};
/* In the transaction that has passed it. */
MUST_CHECK struct err mails_usage_warning(struct pg *pg, struct arena *arena,
                                          const struct mail_usage *usage);

#endif
