#ifndef WHOPLINE_OUTBOUND_SEND_H
#define WHOPLINE_OUTBOUND_SEND_H
/* One run of a call with effect, and its sending; for outbound.c. */
#include "service/outbound_store.h"
#include "service/outside_shared.h"

struct outbound_run {
    struct pg *pg;
    struct outside *outside;
    struct outbound_call *call; /* ours: its credential may be renewed */
    struct outbound_result *out;
    struct outbound_row row;
    char runner[UUID_TEXT_SIZE];
};

/* Reserves a moment, commits "sending", sends, and commits what came of it. *again: nothing has
 * happened, and with the credential that has been renewed it is to be tried again. */
MUST_CHECK struct err outbound_send(struct outbound_run *run, bool *again);

/* From a claim to the moment by which its run has said what came of it. */
int64_t outbound_window_ms(const struct outbound_run *run);
void outbound_count(const struct outbound_run *run, enum outside_ending ending);

/* What a job is told. */
MUST_CHECK struct err outbound_busy(const struct outbound_run *run);
MUST_CHECK struct err outbound_undecided(const struct outbound_run *run, const char *why);
MUST_CHECK struct err outbound_uncertain(const struct outbound_run *run, int64_t ms);
MUST_CHECK struct err outbound_refusal(const struct outbound_run *run, int status);

#endif
