#ifndef WHOPLINE_OUTBOUND_STORE_H
#define WHOPLINE_OUTBOUND_STORE_H
/* The rows of `outbound`, for outbound.c. Every change is a compare-and-set on what was read: the
 * state and the number of sendings. `changed` says whether it was still so; if not, somebody else
 * was faster, and the row is to be read again. Errors are those of io/pg. */
#include "base/random.h"
#include "service/outbound.h"

struct outbound_row {
    int64_t id;
    struct outbound_view view;
    int attempts;
    int64_t sending_since_ms; /* Unix; 0: never. Of the first that may have taken effect */
    char runner[UUID_TEXT_SIZE];
    struct buf idempotency_key;
    struct buf parked;
    struct buf seen_before;
    struct buf error;
    struct buf remote_id; /* DONE */
    struct buf response;  /* DONE, REFUSED */
};
void outbound_row_close(struct outbound_row *row);

/* The call's row, made if there is none. row: emptied first. */
MUST_CHECK struct err outbound_store_load(struct pg *pg, const struct outbound_call *call,
                                          struct outbound_row *row);

/* PENDING or UNKNOWN -> SENDING, for this runner, whose answer may come within window_ms.
 * row->attempts is that of this sending then. */
MUST_CHECK struct err outbound_store_claim(struct pg *pg, const struct outbound_call *call,
                                           struct outbound_row *row, const char *runner,
                                           int64_t window_ms, bool *changed);
/* Whether the row is SENDING, and by that runner: after a COMMIT whose reply was lost. */
MUST_CHECK struct err outbound_store_is_claimed(struct pg *pg, const struct outbound_row *row,
                                                const char *runner, bool *out);

/* What came of a sending, or of looking for it. */
struct outbound_outcome {
    enum outbound_state state;
    const char *parked;    /* NULL: not parked */
    int status;            /* 0: no answer */
    struct span body;      /* of the answer; ptr NULL: none */
    const char *remote_id; /* "": none */
    const char *error;     /* "": none */
    int resends;           /* with this one, or without it where nothing has happened */
    int64_t look_ms;       /* UNKNOWN: so long before it is looked for */
    int64_t settle_ms;     /* UNKNOWN: so long before what is not found is not there */
};
/* By its runner. SENDING -> what it came to; a definite answer also ends an UNKNOWN that others
 * have made of it meanwhile, and that it was done an operator's word that it was not, unless it has
 * been sent again. *changed is also true if it had been recorded before (a reply lost).
 */
MUST_CHECK struct err outbound_store_record(struct pg *pg, const struct outbound_row *row,
                                            const struct outbound_outcome *outcome, bool *changed);

/* SENDING whose time is over -> UNKNOWN. */
MUST_CHECK struct err outbound_store_lose(struct pg *pg, const struct outbound_row *row);
/* SENDING or UNKNOWN with times of a clock that has been put back: no more than window_ms from now.
 */
MUST_CHECK struct err outbound_store_retime(struct pg *pg, const struct outbound_row *row,
                                            int64_t window_ms);
/* UNKNOWN -> DONE with what was found; not if another row of the operation has it (*changed). */
MUST_CHECK struct err outbound_store_adopt(struct pg *pg, const struct outbound_call *call,
                                           const struct outbound_row *row, const char *remote_id,
                                           bool *changed);
/* UNKNOWN: looked for and not found, come back in so long. counts: as one of the looks there are.
 */
MUST_CHECK struct err outbound_store_postpone(struct pg *pg, const struct outbound_row *row,
                                              bool counts, int64_t look_ms);
/* UNKNOWN: for a person. */
MUST_CHECK struct err outbound_store_park(struct pg *pg, const struct outbound_row *row,
                                          const char *why);

#endif
