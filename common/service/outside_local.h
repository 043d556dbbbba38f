#ifndef WHOPLINE_OUTSIDE_LOCAL_H
#define WHOPLINE_OUTSIDE_LOCAL_H
/* struct outside for programs that have nothing else to do: whoever calls runs the loop until the
 * answer is there. In the caller's memory, which must outlive the loop's last run; one thread. */
#include "io/redis.h"
#include "service/outside.h"

struct outside_local {
    struct outside outside;
    uv_loop_t *loop;
    struct redis *redis;
    struct http_client *http;
    uv_timer_t timer;
};

/* redis: borrowed, on the same loop, opened with scripts_all(). config: borrowed. CONFIG if
 * HTTP_CA_FILE cannot be read; then nothing is open. */
MUST_CHECK struct err outside_local_open(struct outside_local *local, const struct config *config,
                                         uv_loop_t *loop, struct redis *redis);
/* Before Redis is closed; then run the loop until it is empty. */
void outside_local_close(struct outside_local *local);

#endif
