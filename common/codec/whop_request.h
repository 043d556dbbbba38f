#ifndef WHOPLINE_WHOP_REQUEST_H
#define WHOPLINE_WHOP_REQUEST_H
/* What Whop's API is asked: addresses and bodies. Pure; any thread.
 *
 * The same input makes the same bytes, always: a body that is sent again with its Idempotency-Key
 * has to be what it was. Amounts are decimal text in major units, as in codec/money.h. */
#include "base/buf.h"
#include "base/err.h"
#include "codec/whop.h"

/* One member of a query; a name that ends in "[]" may come several times ("statuses[]"). */
struct whop_filter {
    const char *name;
    const char *value;
};

/* base + "/" + the operation's path with ids (as many as it has %) + the query. MALFORMED: an empty
 * id. */
MUST_CHECK struct err whop_build_url(enum whop_operation operation, const char *base,
                                     const char *const *ids, const struct whop_filter *filters,
                                     size_t filter_count, struct buf *out);

/* How this version of the API calls a company: "company_id" or "account_id". */
const char *whop_owner_name(enum whop_operation operation, const char *version);

/* Unix ms as the API's time filters take it: "2026-08-10T09:00:03.250Z". */
enum { WHOP_TIME_SIZE = 32 };
const char *whop_time_text(int64_t ms, char out[WHOP_TIME_SIZE]);

/* A plan to be made or changed. NULL: not said (a change leaves it as it is). */
struct whop_plan_input {
    const char *product;
    const char *plan_type;      /* renewal, one_time */
    const char *release_method; /* buy_now, waitlist */
    const char *visibility;
    const char *currency;
    const char *initial_price;
    const char *renewal_price;
    int64_t billing_period_days; /* 0: not said, as with the other two */
    int64_t trial_days;
    int64_t expiration_days;
    const char *title; /* at most 30 characters */
    const char *description;
    const char *internal_notes;
    const char *metadata; /* a JSON object */
};

struct whop_checkout_input {
    const char *plan;                          /* either this */
    const struct whop_plan_input *inline_plan; /* or that */
    bool new_plan;                             /* force_create_new_plan, for the inline one */
    const char *mode;                          /* payment, setup; NULL: not said */
    const char *redirect_url;                  /* https only */
    const char *metadata; /* a JSON object; copied to the payments and memberships that follow */
};

/* Each appends a JSON object. MALFORMED, and what is wrong: an amount that is none, metadata that
 * is no object, neither or both of two. company: "" for a change. */
MUST_CHECK struct err whop_body_plan(const struct whop_plan_input *input, const char *company,
                                     const char *version, struct buf *out);
MUST_CHECK struct err whop_body_checkout(const struct whop_checkout_input *input,
                                         const char *company, const char *version, struct buf *out);
/* amount: NULL for all that is left. */
MUST_CHECK struct err whop_body_refund(const char *amount, struct buf *out);
/* client_secret: NULL for an app without one. */
void whop_body_refresh(const char *client_id, const char *client_secret, const char *refresh_token,
                       struct buf *out);
void whop_body_revoke(const char *client_id, const char *client_secret, const char *token,
                      struct buf *out);

#endif
