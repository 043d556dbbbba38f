#ifndef WHOPLINE_WHOP_H
#define WHOPLINE_WHOP_H
/* Whop's API, typed. Blocking; the thread of its struct outside; no transaction may be open.
 *
 * Two ways, which must not be mixed up:
 *   reading      whop_get_..., whop_list and whop_next_page call, and may be repeated at will. Each
 *                is charged to its budget, and a 401 gets one renewed credential and one more try.
 *   with effect  whop_prepare_... (service/whop_effects.h) only build the call; it is made by
 *                service/outbound, which sees to it that it happens once.
 *
 * Errors of reading, each with status, code and message of the answer in its text:
 *   UNAUTHORISED      401: the credential is not accepted, and renewing it did not help
 *   FORBIDDEN         403: the message names the permission (the seeds' WhopMembershipError)
 *   WHOP_NOT_FOUND    404: it may just not be there yet
 *   WHOP_LIMITED      429: after_ms; the operation is frozen for all processes until then
 *   WHOP_DOWN         no answer, a cut one, 408, 425, 3xx or 5xx
 *   WHOP_API          another 4xx: asking again would not help (WhopApiError)
 *   WHOP_ANSWER       a 2xx that is not what it should be
 * and those of outside_reserve and outside_wait: nothing was sent. */
#include "codec/whop_request.h"
#include "service/outside.h"

struct whop;

/* Gets another token for this credential (from the database, or by a refresh) and puts it into
 * whop->token. An error is what the call then fails with. */
typedef struct err whop_renew(void *data, struct whop *whop);

/* Filled in by the caller; texts and arena live as long as it. */
struct whop {
    struct outside *outside;
    struct arena *arena;    /* answers live here */
    const char *credential; /* names it without telling it, e.g. "c12" */
    const char *token;      /* the secret: a key or an access token */
    const char *company;    /* biz_... */
    bool bulk;
    whop_renew *renew; /* NULL: a 401 is final */
    void *data;
};

MUST_CHECK struct err whop_get_company(struct whop *whop, const char *id, struct whop_company *out);
MUST_CHECK struct err whop_get_product(struct whop *whop, const char *id, struct whop_product *out);
MUST_CHECK struct err whop_get_plan(struct whop *whop, const char *id, struct whop_plan *out);
/* id: user_..., or a username */
MUST_CHECK struct err whop_get_user(struct whop *whop, const char *id, struct whop_user *out);
/* resource: biz_..., prod_... or exp_.... The one check before anything is granted or taken away.
 */
MUST_CHECK struct err whop_get_access(struct whop *whop, const char *user, const char *resource,
                                      struct whop_access *out);
MUST_CHECK struct err whop_get_member(struct whop *whop, const char *id, struct whop_member *out);
MUST_CHECK struct err whop_get_membership(struct whop *whop, const char *id,
                                          struct whop_membership *out);
MUST_CHECK struct err whop_get_payment(struct whop *whop, const char *id, struct whop_payment *out);
MUST_CHECK struct err whop_get_refund(struct whop *whop, const char *id, struct whop_refund *out);
MUST_CHECK struct err whop_get_dispute(struct whop *whop, const char *id, struct whop_dispute *out);
MUST_CHECK struct err whop_get_checkout(struct whop *whop, const char *id,
                                        struct whop_checkout *out);

/* A list, page by page:
 *
 *   struct whop_list list;
 *   struct whop_page page;
 *   whop_list(&list, whop, WHOP_OPERATION_memberships_list, filters, count, "");
 *   do {
 *       TRY(whop_next_page(&list, &page));
 *       const struct whop_membership *memberships = page.items;
 *       ...
 *   } while (page.more);
 *
 * A long sync is one job a page: keep page.next and begin the next job's list after it. */
enum { WHOP_FILTERS_MAX = 16 };
struct whop_list {
    struct whop *whop;
    enum whop_operation operation;
    const struct whop_filter *filters;
    size_t filter_count;
    const char *after; /* "" for the first page */
    uint64_t seen;     /* of a cursor met before: none may come again */
    int64_t pages;
};
/* filters: borrowed until the last page, at most WHOP_FILTERS_MAX. The company is added, unless
 * they name a payment_id or user_id where these do instead. after: borrowed likewise. */
void whop_list(struct whop_list *list, struct whop *whop, enum whop_operation operation,
               const struct whop_filter *filters, size_t filter_count, const char *after);
/* The arena may be emptied between two pages if list->after is kept elsewhere. WHOP_ANSWER, too,
 * if a cursor comes back: the list would never end. */
MUST_CHECK struct err whop_next_page(struct whop_list *list, struct whop_page *out);

/* New tokens for a refresh token, which works once: keep the new one before the new access token is
 * used. One at a time for a grant: that is the caller's business. whop's token is not needed.
 *
 *   UNAUTHORISED   the grant has ended, or the token was used before
 *   HTTP_NOT_SENT, WHOP_LIMITED, LIMITED, BREAKER_OPEN   nothing has happened
 *   HTTP_LOST, WHOP_DOWN, WHOP_ANSWER   whether the token is used up is not known; offering it
 *                  again does no harm and says so: UNAUTHORISED if it is */
struct whop_grant {
    const char *client_id;
    const char *client_secret; /* NULL: the app has none */
    const char *refresh_token;
};
MUST_CHECK struct err whop_refresh_tokens(struct whop *whop, const struct whop_grant *grant,
                                          struct whop_tokens *out);
/* The token, a refresh or an access token, is worth nothing any more. grant: whose client it is.
 * Asking again does no harm. Errors as of reading. */
MUST_CHECK struct err whop_revoke_token(struct whop *whop, const struct whop_grant *grant,
                                        const char *token);

#endif
