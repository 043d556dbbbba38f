#ifndef WHOPLINE_PAYMENTS_H
#define WHOPLINE_PAYMENTS_H
/* What is known of payments, refunds and disputes: rows that events, reconciliation and imports add
 * to, in any order. Nothing here moves credits; credits_settle does, from these rows.
 *
 * Blocking; the connection's thread; errors are those of io/pg. Every verb is part of a transaction
 * that the caller has begun. Rows are locked in the order of (tenant, payment). */
#include "codec/job.h"
#include "io/pg.h"

/* A payment as somebody has told of it. Texts are borrowed, "" where nothing was said. */
struct payment_news {
    int64_t tenant;
    const struct event *event; /* of a payment: its fields are named there */
};

/* Writes the payments, or adds what was not known: ids stay once they are known, status and its
 * like follow the newest news, "was paid" and what has been refunded never go back. */
MUST_CHECK struct err payments_note(struct pg *pg, const struct payment_news *news, size_t count);

/* Whether the event says that money has come in, whatever became of it since. */
bool payment_is_paid(const struct event *event);

/* A refund or dispute, and its payment's row if there was none: a later payment finds it. A refund
 * that has ended (succeeded, failed, canceled) does not begin again, whatever the times say; a
 * dispute may, if an event says so; of two news of the same time the one nearer to the end stands.
 */
MUST_CHECK struct err payments_note_refund(struct pg *pg, int64_t tenant,
                                           const struct event *event);
MUST_CHECK struct err payments_note_dispute(struct pg *pg, int64_t tenant,
                                            const struct event *event);
/* As read from Whop's books (whop_news_of_dispute): never takes back what is known, as from won to
 * open, since what is read may be older than the latest event. */
MUST_CHECK struct err payments_note_dispute_read(struct pg *pg, int64_t tenant,
                                                 const struct event *event);
/* A card network's warning before a dispute: a notice to the admins, once, and nothing else. Its
 * payment may be unknown, or not said. */
MUST_CHECK struct err payments_note_dispute_alert(struct pg *pg, int64_t tenant,
                                                  const struct event *event);

#endif
