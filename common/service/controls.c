#include "service/controls.h"

#include "service/audit.h"

enum { COPY_ROUNDS = 5 };

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

/* --- an operator's word ---------------------------------------------------------------------- */

static struct err write_row(struct pg *pg, enum queue_name queue, enum queue_mode mode,
                            const char *actor, const char *reason)
{
    if (mode == QUEUE_MODE_OPEN)
        return PG_EXEC(pg, "DELETE FROM queue_controls WHERE queue = $1",
                       pg_text(queue_text(queue)));
    return PG_EXEC(pg,
                   "INSERT INTO queue_controls (queue, mode, reason, actor) VALUES ($1, $2, $3, $4)"
                   " ON CONFLICT (queue) DO UPDATE SET mode = excluded.mode,"
                   " reason = excluded.reason, actor = excluded.actor, since = excluded.since"
                   " WHERE queue_controls.mode <> excluded.mode",
                   pg_text(queue_text(queue)), pg_text(queue_mode_name(mode)), pg_text(reason),
                   pg_text(actor));
}

struct err controls_set(struct pg *pg, enum queue_name queue, enum queue_mode mode,
                        const char *actor, const char *reason, bool *changed)
{
    static const char *const actions[] = {
        [QUEUE_MODE_OPEN] = "queue.resume",
        [QUEUE_MODE_PAUSED] = "queue.pause",
        [QUEUE_MODE_DRAINING] = "queue.drain",
    };
    const struct audit audit = {
        .actor = actor, .action = actions[mode], .target = queue_text(queue), .reason = reason};
    *changed = false;
    struct err err = pg_begin(pg);
    if (!err_failed(&err))
        err = write_row(pg, queue, mode, actor, reason);
    bool wrote = !err_failed(&err) && pg_affected(pg) > 0;
    if (wrote)
        err = audit_add(pg, &audit);
    if (!err_failed(&err))
        err = pg_commit(pg);
    pg_rollback(pg);
    *changed = wrote && !err_failed(&err);
    return err;
}

struct err controls_copy(struct pg *pg, struct redis *redis, const char *prefix)
{
    enum queue_mode told[QUEUE_COUNT];
    enum queue_mode modes[QUEUE_COUNT];
    TRY(controls_load(pg, modes));
    /* Two operators at once: whoever writes last has read last. */
    for (int round = 0; round < COPY_ROUNDS; round++) {
        memcpy(told, modes, sizeof told);
        TRY(controls_mirror(redis, prefix, told));
        TRY(controls_load(pg, modes));
        if (memcmp(modes, told, sizeof told) == 0)
            break;
    }
    return ERR_NONE;
}

bool queue_name_find(const char *text, enum queue_name *out)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        if (strcmp(queue_text((enum queue_name)queue), text) == 0) {
            *out = (enum queue_name)queue;
            return true;
        }
    }
    return false;
}
