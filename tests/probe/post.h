#ifndef WHOPLINE_POST_H
#define WHOPLINE_POST_H
/* Calls that happen once, to the things of the simulator (tests/sim/things.py) at PROBE_URL. */
#include "runtime/slot.h"
#include "service/outbound.h"

/* Makes a thing of that kind and key. messages can be looked for, upserts repeated. */
MUST_CHECK struct err post_thing(struct slot *slot, const char *kind,
                                 enum outbound_operation operation, const char *key);
/* Refunds that payment at Whop with the credential of the job's tenant. reads: looks at it between
 * building the call and making it. */
MUST_CHECK struct err post_refund(struct slot *slot, const char *payment, bool reads);

#endif
