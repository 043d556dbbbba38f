#ifndef WHOPLINE_MAILS_ADMIN_H
#define WHOPLINE_MAILS_ADMIN_H
/* What an operator does about mails. Blocking; the connection's thread; each verb is a transaction
 * of its own with its row of audit_log. */
#include "service/mails.h"

enum mail_plan {
    MAIL_PLAN_AGAIN,   /* it has ended unsent: as a new mail to the provider, for a day */
    MAIL_PLAN_REQUEUE, /* its job is parked or dead: put in again */
};
/* What a retry would do. NOT_FOUND; REFUSED, saying why: it was sent, it is under way, or an
 * operator has to say first what became of it. */
MUST_CHECK struct err mails_plan_retry(struct pg *pg, int64_t id, enum mail_plan *out);
MUST_CHECK struct err mails_retry(struct pg *pg, struct arena *arena, int64_t id, const char *actor,
                                  const char *reason);
/* Ids of mails whose job is parked or dead, but for those that wait for the word on their outcome,
 * oldest first. */
struct mail_ids {
    int64_t *ids;
    size_t count;
};
MUST_CHECK struct err mails_list_parked(struct pg *pg, struct arena *arena, int64_t most,
                                        struct mail_ids *out);

/* reason: bounced, complained, unsubscribed or manual. *changed: false if it was so already. */
MUST_CHECK struct err mails_suppress(struct pg *pg, int64_t tenant, const char *address,
                                     const char *reason, const char *actor, bool *changed);
MUST_CHECK struct err mails_unsuppress(struct pg *pg, int64_t tenant, const char *address,
                                       const char *actor, bool *changed);

/* NULL leaves a thing as it is; "" takes an address away. */
struct mail_settings {
    const char *enabled; /* "true", "false" */
    const char *from;
    const char *admin;
    const char *mute; /* a template */
    const char *unmute;
};
/* USAGE: an address that is none. */
MUST_CHECK struct err mails_set(struct pg *pg, int64_t tenant, const char *slug,
                                const struct mail_settings *settings, const char *actor);

#endif
