#ifndef WHOPLINE_BODY_H
#define WHOPLINE_BODY_H
/* Webhook bodies as `whopline send` makes them: samples with variables, and single members set.
 *
 * A sample (schema/samples) is JSON whose variables are strings that begin with '@':
 *   "@message"        the webhook-id                "@company"  the tenant's company id
 *   "@payment"        a payment id, new unless given
 *   "@user:DEFAULT"   likewise member, membership, plan, pack, currency; null if there is neither
 *   "@amount:49.99"   a number, in major units      "@amount_text:49.99"  the same as a string
 *   "@fresh:rf_"      a new id with this prefix
 *   "@iso-60"         a time 60 s before the event's, ISO 8601; "@iso" and "@iso+60" likewise
 *   "@unix-60"        the same as a number of Unix seconds
 * Strings that are none of these stay as they are. */
#include "base/buf.h"
#include "base/err.h"

struct body_values {
    const char *message;
    const char *company; /* this and all below: NULL or "" takes the sample's own */
    const char *payment;
    const char *user;
    const char *member;
    const char *membership;
    const char *plan;
    const char *pack;
    const char *amount;
    const char *currency;
    int64_t now_ms; /* the event's time, Unix */
};

/* Appends the sample with its variables filled in and white space between its tokens left out.
 * sample: valid JSON. */
void body_render(struct span sample, const struct body_values *values, struct buf *out);

/* Sets the member at a path like "data.user.id" or "data.items.0"; objects that are missing on the
 * way are made, the rest of the text is left alone. value is taken as JSON where it is JSON, else
 * as a string. USAGE if body is not JSON or the path leads through something that has no
 * members. */
MUST_CHECK struct err body_set(struct buf *body, const char *path, const char *value);

/* "path=value" as an operator types it: cuts at the first '=' and calls body_set. */
MUST_CHECK struct err body_assign(struct buf *body, const char *assignment);

/* Digits with at most one point: "49.99", "0", "1000". */
bool body_is_amount(const char *text);

/* prefix and 14 random letters and digits. */
enum { BODY_ID_SIZE = 64 };
void body_fresh_id(const char *prefix, char out[BODY_ID_SIZE]);

#endif
