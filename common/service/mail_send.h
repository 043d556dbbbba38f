#ifndef WHOPLINE_MAIL_SEND_H
#define WHOPLINE_MAIL_SEND_H
/* One mail of the outbox: whether it is to be sent, and the sending, once. Blocking; a slot's
 * thread.
 *
 * The call is made by service/outbound with an Idempotency-Key of the row's own (uid), which Resend
 * knows again for 24 hours (https://resend.com/docs/dashboard/emails/idempotency-keys): a mail
 * whose fate is unknown for longer is for an operator to decide (OUTBOUND_KEY_HOURS). What was
 * asked the first time is kept in the row, so that a template or a name that has changed since
 * makes no other mail of it. */
#include "codec/job.h"
#include "service/mails.h"
#include "service/outbound.h"

struct mail_work {
    struct pg *pg;
    struct outside *outside;
    struct arena *arena;
    const char *job; /* the id of the job that runs */
    int64_t tenant;
    int64_t id; /* email_outbox.id */
    enum mail_name mail;
    const struct mail_templates *templates;
    int64_t max_age_minutes;
};

enum mail_state {
    MAIL_SENT,
    MAIL_LOGGED, /* there is no RESEND_API_KEY */
    MAIL_REFUSED,
    MAIL_EXPIRED,
    MAIL_SUPPRESSED,
    MAIL_SKIPPED,
    MAIL_STATE_COUNT
};
const char *mail_state_name(enum mail_state state);

struct mail_ending {
    bool ended_before; /* there was nothing to do */
    enum mail_state state;
    const char *reason; /* "" where it was sent; in the arena; names no address */
};

/* Which mail it is. NOT_FOUND: there is no such row. */
MUST_CHECK struct err mail_find_row(struct pg *pg, int64_t id, enum mail_name *out);

/* No transaction is open at first; after success one is, in which the row has ended. Errors:
 * those of outbound_run, where FORBIDDEN is the word of Resend on the key or the sender. */
MUST_CHECK struct err mail_send(const struct mail_work *work, struct mail_ending *out);

/* Fills in a template, for the eye: subject, an empty line, text or HTML. vars: a JSON object. */
void mail_preview(const struct mail_templates *templates, enum mail_name mail, const char *vars,
                  bool html, struct buf *out);

/* "a@b.example", or with names "Name <a@b.example>". */
bool mail_is_address(const char *text, bool with_name);

#endif
