#include "service/controls.h"

const char *queue_mode_name(enum queue_mode mode)
{
    static const char *const names[] = {
        [QUEUE_MODE_OPEN] = "", [QUEUE_MODE_PAUSED] = "paused", [QUEUE_MODE_DRAINING] = "draining"};
    return names[mode];
}

static enum queue_mode mode_of(struct span name)
{
    if (span_equal(name, SPAN("paused")))
        return QUEUE_MODE_PAUSED;
    return span_equal(name, SPAN("draining")) ? QUEUE_MODE_DRAINING : QUEUE_MODE_OPEN;
}

struct err controls_load(struct pg *pg, enum queue_mode modes[QUEUE_COUNT])
{
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        modes[i] = QUEUE_MODE_OPEN;
    TRY(pg_exec(pg, "SELECT queue, mode FROM queue_controls", NULL, 0));
    for (size_t row = 0; row < pg_rows(pg); row++)
        for (size_t i = 0; i < QUEUE_COUNT; i++)
            if (strcmp(pg_get(pg, row, 0), queue_text((enum queue_name)i)) == 0)
                modes[i] = mode_of(span_of(pg_get(pg, row, 1)));
    return ERR_NONE;
}

static struct err set_mode(struct redis *redis, const char *key, enum queue_mode mode)
{
    struct redis_reply *reply;
    const struct span set[] = {SPAN("SET"), span_of(key), span_of(queue_mode_name(mode))};
    const struct span del[] = {SPAN("DEL"), span_of(key)};
    if (mode == QUEUE_MODE_OPEN)
        TRY(redis_call(redis, del, ARRAY_LEN(del), &reply));
    else
        TRY(redis_call(redis, set, ARRAY_LEN(set), &reply));
    redis_reply_free(reply);
    return ERR_NONE;
}

struct err controls_mirror(struct redis *redis, const char *prefix,
                           const enum queue_mode modes[QUEUE_COUNT])
{
    char keys[QUEUE_COUNT][KEY_MAX];
    struct span args[1 + QUEUE_COUNT] = {SPAN("MGET")};
    enum queue_mode known[QUEUE_COUNT];
    struct redis_reply *reply;
    for (size_t i = 0; i < QUEUE_COUNT; i++) {
        key_control(prefix, (enum queue_name)i, keys[i]);
        args[1 + i] = span_of(keys[i]);
    }
    TRY(redis_call(redis, args, ARRAY_LEN(args), &reply));
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        known[i] = mode_of(redis_reply_text(redis_reply_at(reply, i)));
    redis_reply_free(reply);
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        if (known[i] != modes[i])
            TRY(set_mode(redis, keys[i], modes[i]));
    return ERR_NONE;
}
