/* whopline-ingest: takes in Whop's webhooks.
 *
 * sender ──> server, conn (bytes) ──> webhook (checks, MAC, normalising) ──> Redis ──> answer
 * No PostgreSQL and no outside calls: an event is safe once Redis has it. */
#include "base/log.h"
#include "ingest/replay.h"
#include "ingest/server.h"
#include "runtime/private.h"
#include "runtime/process.h"
#include "service/redis_check.h"
#include "service/scripts.h"

#define MODULE "ingest"

/* A Redis that has not answered for so many ACCEPT_TIMEOUT_MS is given up and connected to anew:
 * more than one, so that a slow disk costs a few 503, not every event in flight. */
enum {
    REDIS_TIMEOUT_FACTOR = 2,
    REDIS_RETRY_MAX_MS = 1000, /* senders get 503 until Redis is back: do not prolong that */
};

struct ingest {
    struct process process;
    struct metrics metrics;
    struct webhook webhook;
    struct replay replay;
    struct server server;
    struct private private;
    struct redis *redis;
    struct redis_check check;
    bool checking;       /* check is under way */
    bool redis_was_safe; /* once, since the start */
    bool stopping;
    int status; /* of the process */
};

/* --- the end: the mirror image of main ------------------------------------------------------- */

static void stop(struct ingest *ingest, int status)
{
    if (ingest->stopping)
        return;
    ingest->stopping = true;
    ingest->status = status;
    endpoint_table_unwatch(&ingest->webhook.endpoints);
    private_close(&ingest->private);
    server_close(&ingest->server);
    replay_close(&ingest->replay);
    redis_close(ingest->redis);
    process_release(&ingest->process);
}

static void on_replay_drained(void *data)
{
    stop(data, 0);
}

static void on_drained(void *data)
{
    struct ingest *ingest = data;
    replay_drain(&ingest->replay, ingest->server.drain_until_ms, on_replay_drained, ingest);
}

static void on_stop(void *data)
{
    struct ingest *ingest = data;
    ingest->server.on_drained = on_drained;
    ingest->server.data = ingest;
    server_drain(&ingest->server);
}

/* --- Redis ----------------------------------------------------------------------------------- */

static void on_ready(void *data);

/* An unsafe Redis at the start ends the process, for whoever set it up to see. One that was safe
 * and has come back otherwise is not given events: senders get 503 and repeat. */
static void on_checked(const struct err *err, void *data)
{
    struct ingest *ingest = data;
    /* INFO forbidden by an ACL is an error reply: nothing is known, which is not safe. */
    bool unsafe = err != NULL && (err->code == ERR_REDIS_UNSAFE || err->code == ERR_REDIS_REPLY);
    ingest->checking = false;
    if (ingest->stopping)
        return;
    if (unsafe && ingest->process.config.allow_volatile_redis) {
        log_warning(MODULE, "ALLOW_VOLATILE_REDIS is on: acknowledged events may be lost",
                    LOG_TEXT("why", err_text(err)));
    } else if (unsafe) {
        log_error(MODULE, "this Redis must not be given events", LOG_TEXT("why", err_text(err)));
        if (!ingest->redis_was_safe)
            stop(ingest, 1);
        return;
    } else if (err != NULL) {
        on_ready(ingest); /* the connection was lost meanwhile, and may be there again */
        return;
    }
    ingest->redis_was_safe = true;
    ingest->webhook.redis_is_safe = true;
    log_info(MODULE, "accepting events");
}

/* Asked on every new connection: Redis may come back with another configuration. */
static void on_ready(void *data)
{
    struct ingest *ingest = data;
    if (ingest->checking || !redis_is_ready(ingest->redis))
        return;
    /* First, so that it is answered before any event is accepted. */
    replay_on_ready(&ingest->replay);
    ingest->checking = true;
    ingest->check.callback = on_checked;
    ingest->check.data = ingest;
    redis_check_start(ingest->redis, &ingest->check);
}

static void on_down(const struct err *why, void *data)
{
    struct ingest *ingest = data;
    ingest->webhook.redis_is_safe = false;
    log_warning(MODULE, "not accepting events", LOG_TEXT("why", err_text(why)));
}

static struct err connect_redis(struct ingest *ingest)
{
    const struct config *config = &ingest->process.config;
    const struct redis_options options = {
        .loop = &ingest->process.loop,
        .url = config->redis_url,
        .scripts = scripts_all(),
        .script_count = SCRIPT_COUNT,
        .timeout_ms = config->accept_timeout_ms * REDIS_TIMEOUT_FACTOR,
        .retry_max_ms = REDIS_RETRY_MAX_MS,
        .on_ready = on_ready,
        .on_down = on_down,
        .data = ingest,
    };
    struct err err = redis_new(&options, &ingest->redis);
    ingest->webhook.accept.redis = ingest->redis;
    return err;
}

/* --- what it says of itself ------------------------------------------------------------------ */

static int give_live(void *data, struct buf *out)
{
    (void)data;
    buf_add_text(out, "ok\n");
    return 200;
}

static int give_ready(void *data, struct buf *out)
{
    struct ingest *ingest = data;
    bool ready = server_gauges(&ingest->server).ready;
    const char *why = ingest->server.draining ? "draining\n" : "waiting for Redis\n";
    buf_add_text(out, ready ? "ok\n" : why);
    return ready ? 200 : 503;
}

static void give_metrics(void *data, struct buf *out)
{
    struct ingest *ingest = data;
    struct metrics_gauges gauges = server_gauges(&ingest->server);
    metrics_write(&ingest->metrics, &gauges, out);
}

static void init_private(struct ingest *ingest)
{
    const struct private_pages pages = {
        .live = give_live, .ready = give_ready, .metrics = give_metrics, .data = ingest};
    private_init(&ingest->private, &ingest->process.loop, &pages);
}

/* --- the start ------------------------------------------------------------------------------- */

static void check_settings(const struct config *config, struct buf *problems)
{
    webhook_check(config, problems);
    server_check(config, problems);
    private_check("PRIVATE_LISTEN", config->private_listen, problems);
    replay_check(config, problems);
}

static void on_reload(void *data)
{
    struct ingest *ingest = data;
    endpoint_table_reload(&ingest->webhook.endpoints);
    endpoint_table_reread_secret(&ingest->webhook.endpoints);
}

static struct err start(struct ingest *ingest)
{
    endpoint_table_watch(&ingest->webhook.endpoints, &ingest->process.loop);
    TRY(replay_open(&ingest->replay, &ingest->process.loop, &ingest->webhook));
    TRY(connect_redis(ingest));
    TRY(server_listen(&ingest->server));
    return private_listen(&ingest->private, ingest->process.config.private_listen, NET_SHARED);
}

int main(int argc, char **argv)
{
    struct ingest ingest = {.status = 0};
    int status = process_start(&ingest.process, argc, argv, "whopline-ingest",
                               "takes in Whop's webhooks", CONFIG_INGEST, check_settings);
    if (status != PROCESS_GO)
        return status;
    ingest.process.on_stop = on_stop;
    ingest.process.on_reload = on_reload;
    ingest.process.data = &ingest;
    webhook_init(&ingest.webhook, &ingest.process.config, &ingest.metrics);
    server_init(&ingest.server, &ingest.process.loop, &ingest.webhook, &ingest.metrics);
    init_private(&ingest);

    struct err err = start(&ingest);
    if (err_failed(&err)) {
        log_error(MODULE, "cannot start", LOG_TEXT("why", err_text(&err)));
        stop(&ingest, 1);
    }
    process_run(&ingest.process);
    webhook_close(&ingest.webhook);
    return process_end(&ingest.process, ingest.status);
}
