#include "service/controls.h"

const char *queue_mode_name(enum queue_mode mode)
{
    static const char *const names[] = {[QUEUE_MODE_OPEN] = "open",
                                        [QUEUE_MODE_PAUSED] = "paused",
                                        [QUEUE_MODE_DRAINING] = "draining"};
    return names[mode];
}

bool queue_mode_find(struct span name, enum queue_mode *out)
{
    for (int mode = QUEUE_MODE_OPEN; mode <= QUEUE_MODE_DRAINING; mode++) {
        if (span_equal(name, span_of(queue_mode_name((enum queue_mode)mode)))) {
            *out = (enum queue_mode)mode;
            return true;
        }
    }
    return false;
}

struct err controls_load(struct pg *pg, enum queue_mode modes[QUEUE_COUNT])
{
    for (size_t i = 0; i < QUEUE_COUNT; i++)
        modes[i] = QUEUE_MODE_OPEN;
    TRY(pg_exec(pg, "SELECT queue, mode FROM queue_controls", NULL, 0));
    for (size_t row = 0; row < pg_rows(pg); row++)
        for (size_t i = 0; i < QUEUE_COUNT; i++)
            if (strcmp(pg_get(pg, row, 0), queue_text((enum queue_name)i)) == 0)
                (void)queue_mode_find(span_of(pg_get(pg, row, 1)), &modes[i]);
    return ERR_NONE;
}

struct err controls_mirror(struct redis *redis, const char *prefix,
                           const enum queue_mode modes[QUEUE_COUNT])
{
    char keys[QUEUE_COUNT][KEY_MAX];
    struct span get[1 + QUEUE_COUNT] = {SPAN("MGET")};
    struct span set[1 + 2 * QUEUE_COUNT] = {SPAN("MSET")};
    size_t changes = 0;
    struct redis_reply *reply;
    for (size_t i = 0; i < QUEUE_COUNT; i++) {
        key_control(prefix, (enum queue_name)i, keys[i]);
        get[1 + i] = span_of(keys[i]);
    }
    TRY(redis_call(redis, get, ARRAY_LEN(get), &reply));
    for (size_t i = 0; i < QUEUE_COUNT; i++) {
        const struct span wanted = span_of(queue_mode_name(modes[i]));
        if (span_equal(redis_reply_text(redis_reply_at(reply, i)), wanted))
            continue;
        set[1 + 2 * changes] = span_of(keys[i]);
        set[2 + 2 * changes++] = wanted;
    }
    redis_reply_free(reply);
    if (changes == 0)
        return ERR_NONE;
    TRY(redis_call(redis, set, 1 + 2 * changes, &reply));
    redis_reply_free(reply);
    return ERR_NONE;
}
