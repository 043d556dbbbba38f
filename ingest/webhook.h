#ifndef WHOPLINE_INGEST_WEBHOOK_H
#define WHOPLINE_INGEST_WEBHOOK_H
/* What becomes of a webhook request: the product's part of ingest, without sockets.
 *
 *   webhook_check_head   path, method, headers, signature's form and time: before the body is read
 *   webhook_take         MAC, normalising, ACCEPT: when it is there
 *   webhook_settle       Redis' verdict becomes the status to answer
 *
 * Each gives an HTTP status, or 0 for "go on". Dedupe never runs before verification; a handler
 * never runs here. One struct webhook per process, loop thread; a struct webhook_request is
 * embedded in its connection and belongs to webhook from a webhook_take that gave 0 until the
 * callback of its accept member. */
#include "base/arena.h"
#include "base/config.h"
#include "codec/event.h"
#include "codec/http1.h"
#include "ingest/endpoint_table.h"
#include "ingest/metrics.h"
#include "service/accept.h"

struct replay;

struct webhook {
    const struct config *config; /* borrowed */
    struct metrics *metrics;     /* borrowed */
    struct endpoint_table endpoints;
    struct accept accept;
    struct replay *replay; /* keeps what is given to Redis; NULL: nobody does */
    bool redis_is_safe;    /* this connection's Redis was asked and keeps what it is given */
    size_t unanswered;     /* given to Redis, verdict not here yet */
    struct arena scratch;  /* of the request being normalised; empty between two calls */
    int64_t warned_s;      /* when the last refused signature was logged */
    uint64_t suppressed;   /* since then */
};

struct webhook_request {
    struct accept_request accept; /* callback and data: the connection's */
    struct signature_headers headers;
    struct signature_check check;
    size_t body_bytes;
    char kind[JOB_KIND_MAX]; /* cut off where longer: for log lines only, as is the id */
    char event_id[SIGNATURE_ID_MAX + 64];
};

/* Adds a line to problems for each setting that cannot be used. */
void webhook_check(const struct config *config, struct buf *problems);
/* With settings that have passed. The Redis connection is the caller's to put into accept.redis. */
void webhook_init(struct webhook *webhook, const struct config *config, struct metrics *metrics);
void webhook_close(struct webhook *webhook);

/* Events can be accepted now. */
bool webhook_is_ready(const struct webhook *webhook);

/* request: at HTTP1_HEAD. 0, 400, 401, 404, 405, 411, 413, 415 or 503. */
int webhook_check_head(struct webhook *webhook, const struct http1_request *request,
                       struct webhook_request *incoming);
/* request: at HTTP1_DONE, after a head check that gave 0. 0 (the callback will come), 401, 503. */
int webhook_take(struct webhook *webhook, const struct http1_request *request,
                 struct webhook_request *incoming);
/* From within the callback, once: 200 or 503. */
int webhook_settle(struct webhook *webhook, struct webhook_request *incoming,
                   enum accept_verdict verdict);

#endif
