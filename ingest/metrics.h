#ifndef WHOPLINE_INGEST_METRICS_H
#define WHOPLINE_INGEST_METRICS_H
/* What ingest counts, and its page of /metrics. Counters only go up and start at 0 with the
 * process. One per process, embedded in its owner; loop thread. */
#include "base/buf.h"
#include "codec/signature.h"
#include "service/ring.h"

enum { METRICS_STATUS_END = 600 };

struct metrics {
    uint64_t responses[METRICS_STATUS_END]; /* by status code */
    uint64_t verifications[SIGNATURE_SCHEME_OFF + 1];
    uint64_t accepts[ACCEPT_FAILED + 1];
    uint64_t replayed[ACCEPT_FAILED + 1]; /* from the ring */
    uint64_t quarantined;
    uint64_t connections; /* accepted since the start */
};

/* Levels at the moment of asking. */
struct metrics_gauges {
    size_t connections;
    size_t unanswered; /* events given to Redis whose verdict is awaited */
    size_t body_bytes; /* memory of bodies being read or waiting for Redis */
    bool ready;
    const struct ring_stats *ring; /* NULL: there is none */
    size_t ring_stale_bytes;
};

void metrics_count_response(struct metrics *metrics, int status);
void metrics_write(const struct metrics *metrics, const struct metrics_gauges *gauges,
                   struct buf *out);

#endif
