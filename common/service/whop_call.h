#ifndef WHOPLINE_WHOP_CALL_H
#define WHOPLINE_WHOP_CALL_H
/* One call of Whop's API, built and judged: what service/whop.c and whop_effects.c share. */
#include "service/whop.h"

enum { WHOP_HEADERS_MAX = 5 };

/* In the arena of its whop, with all it points to. */
struct whop_call {
    struct whop *whop;
    enum whop_operation operation;
    struct outside_target target;
    struct http_request request; /* without Idempotency-Key */
    const char *headers[WHOP_HEADERS_MAX];
    const char *authorization; /* of these; NULL: none */
};

/* ids: as many as the operation's path wants. body: NULL for none, else copied. CONFIG: an address
 * that is none. */
MUST_CHECK struct err whop_call_build(struct whop *whop, enum whop_operation operation,
                                      const char *const *ids, const struct whop_filter *filters,
                                      size_t filter_count, const struct buf *body,
                                      struct whop_call **out);

/* What an answered status other than 2xx means; *wait_ms is how long a 429 says to wait. */
MUST_CHECK struct err whop_call_judge(const struct whop_call *call, const struct config *config,
                                      const struct http_response *response, int64_t *wait_ms);

#endif
