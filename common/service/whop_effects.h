#ifndef WHOPLINE_WHOP_EFFECTS_H
#define WHOPLINE_WHOP_EFFECTS_H
/* Calls of Whop's API that change something, as service/outbound wants them: built here, sent
 * there.
 *
 *   struct whop_call *call;
 *   struct outbound_result result;
 *   TRY(whop_prepare_refund(&whop, payment, "4.50", &call));
 *   struct outbound_call once = {.operation = OUTBOUND_OPERATION_..., .business_key = ...,
 *                                .target = call->target, .request = call->request,
 *                                .read_id = whop_read_id, .read_wait = whop_read_wait};
 *   TRY(outbound_run(slot->db, slot->outside, &once, &result));
 *   TRY(whop_read(WHOP_OBJECT_payment, buf_span(&result.body), &slot->arena, &refunded));
 *
 * The same input makes the same bytes, so the Idempotency-Key may be the same. Nothing here calls.
 */
#include "service/whop_call.h"

MUST_CHECK struct err whop_prepare_plan(struct whop *whop, const struct whop_plan_input *input,
                                        struct whop_call **out);
/* What is not said stays as it is. A PATCH takes no Idempotency-Key, but says the same twice. */
MUST_CHECK struct err whop_prepare_plan_change(struct whop *whop, const char *plan,
                                               const struct whop_plan_input *input,
                                               struct whop_call **out);
/* amount: NULL for all that is left. Answered with the payment as it was before; the money moves
 * later. A full refund that is asked for again is refused (400). Whether Whop honours the key here
 * is not documented: look at the payment's refunds before a second one. */
MUST_CHECK struct err whop_prepare_refund(struct whop *whop, const char *payment,
                                          const char *amount, struct whop_call **out);
MUST_CHECK struct err whop_prepare_checkout(struct whop *whop,
                                            const struct whop_checkout_input *input,
                                            struct whop_call **out);

/* Of a 2xx answer: the id of what it shows ("" if it has none). data is not looked at. */
void whop_read_id(void *data, struct span body, struct buf *id);
/* Of a 429: ms to wait as its text says, -1 if it does not. data is not looked at. */
int64_t whop_read_wait(void *data, struct span body);

#endif
