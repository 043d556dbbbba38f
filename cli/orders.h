#ifndef WHOPLINE_CLI_ORDERS_H
#define WHOPLINE_CLI_ORDERS_H
/* The verbs of whopline orders that are done by way of Whop (orders_whop.c). */
#include "cli/verbs.h"
#include "service/orders.h"

/* Creates the order and waits a moment for its checkout; prints where to pay. */
MUST_CHECK struct err orders_create_by_whop(struct cli *cli, const struct given *given,
                                            const struct order_new *order);
MUST_CHECK struct err orders_convert(struct cli *cli, const struct given *given);
MUST_CHECK struct err orders_refund(struct cli *cli, const struct given *given);
/* An order's id as it was typed. */
MUST_CHECK struct err orders_take_id(const struct given *given, char out[UUID_TEXT_SIZE]);

#endif
