#include "ingest/replay.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

#include <stdio.h>

#define MODULE "ring"

enum {
    BATCH_MAX_BYTES = 256 << 10,
    BATCHES_PER_SECOND = 50,
    DRAIN_LOOK_MS = 50,
    ADOPT_SHARE = 4, /* of RING_SECONDS passes between two looks for files of ended processes */
};

/* --- what an operator should know ------------------------------------------------------------ */

static void note_ring(struct replay *replay)
{
    const struct ring_stats *stats = ring_stats(replay->ring);
    if (stats->crowded_bytes > 0 && !replay->told_crowded) {
        replay->told_crowded = true;
        log_warning(MODULE, "events leave the ring before their time: raise RING_MAX_BYTES",
                    LOG_INT("ring_seconds", replay->config->ring_seconds),
                    LOG_INT("ring_max_bytes", replay->config->ring_max_bytes));
    }
    if (stats->damaged > replay->told_damaged)
        log_warning(MODULE, "records of the ring cannot be read and are left out",
                    LOG_INT("records", stats->damaged - replay->told_damaged));
    if (stats->foreign > replay->told_foreign)
        log_warning(MODULE,
                    "RING_DIR has files of another installation, user or release: they are left "
                    "alone; give each installation a folder of its own",
                    LOG_INT("files", stats->foreign));
    replay->told_damaged = stats->damaged;
    replay->told_foreign = stats->foreign;
}

static void note_write(struct replay *replay, const struct err *err)
{
    if (err_failed(err) && !replay->told_unkept)
        log_warning(MODULE, "cannot keep accepted events; they are safe while Redis is",
                    LOG_TEXT("why", err_text(err)));
    if (!err_failed(err) && replay->told_unkept)
        log_info(MODULE, "keeping accepted events again");
    replay->told_unkept = err_failed(err);
}

static void note_hidden(struct replay *replay, const struct err *refused)
{
    if (!err_failed(refused) || replay->told_hidden)
        return;
    replay->told_hidden = true;
    log_warning(MODULE,
                "Redis does not say all of who it is: a loss may go unseen; allow INFO and "
                "GET, SET of the epoch key",
                LOG_TEXT("why", err_text(refused)));
}

/* --- keeping --------------------------------------------------------------------------------- */

static void flush(struct replay *replay)
{
    struct err err = ring_flush(replay->ring, clock_mono_ms());
    note_write(replay, &err);
}

/* Before the loop polls: so before any answer of Redis to this turn's events can be read. */
static void on_flush(uv_prepare_t *prepare)
{
    struct replay *replay = prepare->data;
    flush(replay);
    uv_prepare_stop(prepare);
}

void replay_keep(struct replay *replay, const struct accept_record *record)
{
    if (ring_append(replay->ring, record))
        flush(replay);
    else
        uv_prepare_start(&replay->flush, on_flush);
}

/* --- the end --------------------------------------------------------------------------------- */

static void maybe_drained(struct replay *replay)
{
    void (*on_drained)(void *data) = replay->on_drained;
    bool quiet = replay->drain_asked && !replay->asking && !replay->replaying;
    if (on_drained == NULL)
        return;
    if (!quiet && webhook_is_ready(replay->webhook) &&
        (int64_t)uv_now(replay->watch.loop) < replay->drain_until_ms)
        return;
    replay->on_drained = NULL;
    on_drained(replay->data);
}

/* --- replaying ------------------------------------------------------------------------------- */

static void on_pace(uv_timer_t *timer);

static void pace(struct replay *replay, int64_t ms)
{
    uv_timer_start(&replay->pace, on_pace, (uint64_t)ms, 0);
}

static size_t batch_size(const struct replay *replay)
{
    size_t size = (size_t)replay->config->ring_replay_per_second / BATCHES_PER_SECOND;
    if (size > REPLAY_BATCH_MAX)
        return REPLAY_BATCH_MAX;
    return size > 0 ? size : 1;
}

static int64_t batch_interval_ms(const struct replay *replay)
{
    int64_t rate = replay->config->ring_replay_per_second;
    return ((int64_t)batch_size(replay) * 1000 + rate - 1) / rate;
}

static void begin(struct replay *replay)
{
    size_t bytes = ring_stale_bytes(replay->ring);
    if (bytes == 0)
        return;
    if (!replay->replaying) {
        log_warning(MODULE, "Redis may have lost events: what was kept is given to it again",
                    LOG_INT("bytes", bytes));
        memcpy(replay->begun, replay->metrics->replayed, sizeof replay->begun);
        replay->settled = (struct ring_position){0};
        replay->replaying = true;
    }
    if (!uv_is_active((uv_handle_t *)&replay->pace) && replay->unanswered == 0)
        pace(replay, 0);
}

static void finish(struct replay *replay)
{
    const uint64_t *now = replay->metrics->replayed;
    replay->replaying = false;
    log_info(MODULE, "Redis has all that was kept",
             LOG_INT("new", now[ACCEPT_NEW] - replay->begun[ACCEPT_NEW]),
             LOG_INT("duplicate", now[ACCEPT_DUPLICATE] - replay->begun[ACCEPT_DUPLICATE]));
    note_ring(replay);
    /* Files adopted while the walk had passed their place. */
    begin(replay);
    maybe_drained(replay);
}

static void batch_answered(struct replay *replay)
{
    if (replay->from_start) {
        replay->settled = (struct ring_position){0};
    } else if (!replay->batch_failed) {
        replay->settled = replay->reached;
        ring_settle(replay->ring, &replay->settled, clock_mono_ms());
        replay->told_refused = false;
    } else if (webhook_is_ready(replay->webhook) && !replay->told_refused) {
        replay->told_refused = true;
        log_warning(MODULE, "Redis refuses events of the ring: trying again");
    }
    /* A connection that was lost is looked at when it is back. */
    bool wait = replay->batch_failed && !replay->from_start;
    replay->from_start = false;
    pace(replay, wait ? replay->config->redis_watch_ms : batch_interval_ms(replay));
}

static void on_replayed(enum accept_verdict verdict, void *data)
{
    struct replay_item *item = data;
    struct replay *replay = item->replay;
    replay->metrics->replayed[verdict]++;
    replay->batch_failed |= verdict == ACCEPT_FAILED;
    if (--replay->unanswered == 0 && replay->open)
        batch_answered(replay);
}

static void send_batch(struct replay *replay)
{
    struct accept_record record;
    size_t bytes = 0;
    (void)FAULT(before_replay_batch);
    replay->reached = replay->settled;
    replay->batch_failed = false;
    while (replay->unanswered < batch_size(replay) && bytes < BATCH_MAX_BYTES) {
        if (!ring_next(replay->ring, &replay->reached, &record))
            break;
        struct replay_item *item = &replay->items[replay->unanswered++];
        item->replay = replay;
        item->accept.callback = on_replayed;
        item->accept.data = item;
        accept_packed(&replay->webhook->accept, &record, &item->accept);
        bytes += record.body.len + record.payload.len;
    }
    if (replay->unanswered > 0)
        return;
    ring_settle(replay->ring, &replay->reached, clock_mono_ms());
    finish(replay);
}

/* One batch at a time, and none while live events crowd: those have somebody waiting. */
static void on_pace(uv_timer_t *timer)
{
    struct replay *replay = timer->data;
    if (!webhook_is_ready(replay->webhook))
        return; /* the next look at Redis goes on */
    if (replay->webhook->unanswered > (size_t)replay->config->http_max_unanswered / 2)
        pace(replay, batch_interval_ms(replay));
    else
        send_batch(replay);
}

/* --- watching -------------------------------------------------------------------------------- */

/* What Redis did not say this time counts as it was. */
static void keep_hidden(struct redis_identity *now, const struct redis_identity *before)
{
    if (text_is_empty(now->run_id))
        memcpy(now->run_id, before->run_id, sizeof now->run_id);
    if (text_is_empty(now->replication_id))
        memcpy(now->replication_id, before->replication_id, sizeof now->replication_id);
    if (text_is_empty(now->epoch))
        memcpy(now->epoch, before->epoch, sizeof now->epoch);
}

static void adopt(struct replay *replay)
{
    replay->adopted_ms = clock_mono_ms();
    size_t files = ring_adopt(replay->ring, replay->adopted_ms);
    if (files > 0)
        log_info(MODULE, "taken over from a process that has ended", LOG_INT("files", files),
                 LOG_INT("bytes", ring_stats(replay->ring)->bytes));
    note_ring(replay);
}

static void see(struct replay *replay, struct redis_identity *now)
{
    char mark[RING_MARK_SIZE];
    keep_hidden(now, &replay->known);
    if (memcmp(now, &replay->known, sizeof *now) != 0) {
        replay->known = *now;
        snprintf(mark, sizeof mark, "%s/%s/%s", now->run_id, now->replication_id, now->epoch);
        flush(replay); /* what is collected belongs to the one before */
        adopt(replay);
        ring_set_mark(replay->ring, mark);
        replay->settled = (struct ring_position){0};
        replay->from_start = replay->unanswered > 0;
    }
    begin(replay);
}

static void ask(struct replay *replay);

static void on_identity(const struct err *err, void *data)
{
    struct replay *replay = data;
    replay->asking = false;
    if (!replay->open)
        return;
    if (err == NULL) {
        note_hidden(replay, &replay->request.refused);
        see(replay, &replay->request.identity);
        ring_expire(replay->ring, replay->asked_ms);
    }
    if (replay->on_drained != NULL && !replay->drain_asked) {
        replay->drain_asked = true;
        ask(replay);
    }
    maybe_drained(replay);
}

static void ask(struct replay *replay)
{
    struct redis *redis = replay->webhook->accept.redis;
    if (replay->asking || redis == NULL || !redis_is_ready(redis))
        return;
    replay->asking = true;
    /* What is said is true from now on, not only from the reply on. */
    replay->asked_ms = clock_mono_ms();
    replay->request.callback = on_identity;
    replay->request.data = replay;
    redis_identity_ask(redis, replay->config->stream_prefix, &replay->request);
}

void replay_on_ready(struct replay *replay)
{
    if (replay->open)
        ask(replay);
}

static void on_watch(uv_timer_t *timer)
{
    struct replay *replay = timer->data;
    int64_t keep_ms = replay->config->ring_seconds * 1000;
    if (clock_mono_ms() - replay->adopted_ms >= keep_ms / ADOPT_SHARE)
        adopt(replay);
    note_ring(replay);
    ask(replay);
    maybe_drained(replay);
}

/* --- life ------------------------------------------------------------------------------------ */

void replay_check(const struct config *config, struct buf *problems)
{
    /* So that any event fits; see ring_append. */
    int64_t least = 2 * (config->http_max_body + JOB_PAYLOAD_MAX + RING_ID_MAX);
    if (config->ring_seconds == 0)
        return;
    ring_check(config->ring_dir, problems);
    if (config->ring_max_bytes < least)
        buf_printf(
            problems,
            "RING_MAX_BYTES: %lld is too little for events of HTTP_MAX_BODY: it must be %lld "
            "or more\n",
            (long long)config->ring_max_bytes, (long long)least);
}

struct err replay_open(struct replay *replay, uv_loop_t *loop, struct webhook *webhook)
{
    const struct config *config = webhook->config;
    struct buf owner = {0};
    *replay = (struct replay){.webhook = webhook, .metrics = webhook->metrics, .config = config};
    if (config->ring_seconds == 0) {
        log_warning(MODULE, "RING_SECONDS is 0: events that Redis loses before they are journalled "
                            "are lost");
        return ERR_NONE;
    }
    buf_printf(&owner, "%s\n%s", config->stream_prefix, config->whop_company_id);
    const struct ring_options options = {
        .folder = config->ring_dir,
        .max_bytes = (size_t)config->ring_max_bytes,
        .keep_ms = config->ring_seconds * 1000,
        .owner = buf_text(&owner),
    };
    struct err err = ring_open(&options, &replay->ring);
    buf_close(&owner);
    TRY(err);
    uv_prepare_init(loop, &replay->flush);
    uv_timer_init(loop, &replay->watch);
    uv_timer_init(loop, &replay->pace);
    replay->flush.data = replay->watch.data = replay->pace.data = replay;
    replay->open = true;
    webhook->replay = replay;
    adopt(replay);
    uint64_t watch_ms = (uint64_t)config->redis_watch_ms;
    uv_timer_start(&replay->watch, on_watch, watch_ms, watch_ms);
    return ERR_NONE;
}

void replay_close(struct replay *replay)
{
    if (!replay->open)
        return;
    bool away = !webhook_is_ready(replay->webhook);
    size_t bytes = ring_stats(replay->ring)->bytes;
    flush(replay);
    if (bytes > 0 && (away || ring_stale_bytes(replay->ring) > 0))
        log_warning(MODULE,
                    text_is_empty(replay->config->ring_dir)
                        ? "Redis may have lost events, and what was kept of them ends with this "
                          "process: set RING_DIR"
                        : "Redis may have lost events: the next process will give them to it again",
                    LOG_INT("bytes", bytes));
    replay->open = false;
    replay->webhook->replay = NULL;
    uv_close((uv_handle_t *)&replay->flush, NULL);
    uv_close((uv_handle_t *)&replay->watch, NULL);
    uv_close((uv_handle_t *)&replay->pace, NULL);
    ring_close(replay->ring);
    replay->ring = NULL;
}

void replay_drain(struct replay *replay, int64_t until_ms, void (*on_drained)(void *data),
                  void *data)
{
    replay->drain_until_ms = until_ms;
    replay->on_drained = on_drained;
    replay->data = data;
    if (!replay->open || !webhook_is_ready(replay->webhook)) {
        replay->on_drained = NULL;
        on_drained(data);
        return;
    }
    uv_timer_start(&replay->watch, on_watch, DRAIN_LOOK_MS, DRAIN_LOOK_MS);
    if (!replay->asking) {
        replay->drain_asked = true;
        ask(replay);
    }
}
