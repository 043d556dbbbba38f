#include "base/log.h"
#include "runtime/loop.h"
#include "service/scripts.h"

enum {
    COMMAND_TIMEOUT_MS = 5000, /* a script that takes longer means a broken connection */
    READ_SLACK_MS = 1000,      /* beyond READ_BLOCK_MS */
};

static void on_checked(const struct err *err, void *data)
{
    struct loop *loop = data;
    if (loop->phase != PHASE_CHECKING)
        return;
    if (err != NULL && err->code != ERR_REDIS_UNSAFE && err->code != ERR_REDIS_REPLY)
        return; /* asked again when the connection is back */
    if (err != NULL && !loop->config->allow_volatile_redis) {
        log_error("worker", "cannot start", LOG_TEXT("error", err_text(err)));
        loop->status = 1;
        loop->phase = PHASE_STOPPING;
    } else {
        if (err != NULL)
            log_warning("worker", "ALLOW_VOLATILE_REDIS is set", LOG_TEXT("danger", err_text(err)));
        loop->phase = PHASE_CHECKING_DB;
    }
    loop_advance(loop);
}

static void on_redis_ready(void *data)
{
    struct loop *loop = data;
    log_info("worker", "connected to Redis");
    telemetry_connected(&loop->telemetry.shown);
    lease_renew(loop);
    intake_create_group(loop);
    if (loop->phase == PHASE_CHECKING)
        redis_check_start(loop->redis, &loop->check);
    loop_advance(loop);
}

/* What broke one connection (another server behind the address, a frozen one) is true of both, and
 * a reader that has not noticed would be deaf. */
static void on_redis_down(const struct err *why, void *data)
{
    struct loop *loop = data;
    if (loop->phase == PHASE_CLOSED)
        return;
    log_warning("worker", "Redis is away", LOG_TEXT("error", err_text(why)));
    redis_reset(loop->reader, why);
}

static void on_reader_down(const struct err *why, void *data)
{
    struct loop *loop = data;
    loop->reader_client_id = 0;
    if (loop->phase != PHASE_CLOSED)
        redis_reset(loop->redis, why);
}

static void on_client_id(const struct err *err, const struct redis_reply *reply, void *data)
{
    struct loop *loop = data;
    if (err == NULL)
        loop->reader_client_id = redis_reply_integer(reply);
    loop_advance(loop);
}

static void on_reader_ready(void *data)
{
    struct loop *loop = data;
    const struct span args[] = {SPAN("CLIENT"), SPAN("ID")};
    redis_command(loop->reader, args, ARRAY_LEN(args), on_client_id, loop);
    loop_advance(loop);
}

struct err connect_open(struct loop *loop)
{
    loop->check.callback = on_checked;
    loop->check.data = loop;
    struct redis_options options = {
        .loop = &loop->process.loop,
        .url = loop->config->redis_url,
        .scripts = scripts_all(),
        .script_count = SCRIPT_COUNT,
        .timeout_ms = COMMAND_TIMEOUT_MS,
        .on_ready = on_redis_ready,
        .on_down = on_redis_down,
        .data = loop,
    };
    TRY(redis_new(&options, &loop->redis));
    options.script_count = 0;
    options.timeout_ms = loop->config->read_block_ms + READ_SLACK_MS;
    options.on_ready = on_reader_ready;
    options.on_down = on_reader_down;
    return redis_new(&options, &loop->reader);
}

void connect_close(struct loop *loop)
{
    redis_close(loop->reader);
    redis_close(loop->redis);
}
