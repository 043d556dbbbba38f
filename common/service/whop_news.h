#ifndef WHOPLINE_WHOP_NEWS_H
#define WHOPLINE_WHOP_NEWS_H
/* What Whop's API tells of payments, refunds, disputes and memberships, as the events that would
 * have told the same, for service/payments and service/members. Texts are those of the objects, or
 * in the arena. */
#include "codec/job.h"
#include "codec/whop.h"

void whop_news_of_payment(const struct whop_payment *payment, struct arena *arena,
                          struct event *out);
/* asked_ms: when Whop was asked, for answers that do not say when they were last changed. */
void whop_news_of_membership(const struct whop_membership *membership, int64_t asked_ms,
                             struct arena *arena, struct event *out);
void whop_news_of_refund(const struct whop_refund *refund, struct arena *arena, struct event *out);
/* read_ms: Unix ms of a moment before it was asked for; a dispute does not say when it changed. */
void whop_news_of_dispute(const struct whop_dispute *dispute, int64_t read_ms, struct arena *arena,
                          struct event *out);

#endif
