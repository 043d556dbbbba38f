#include "service/control.h"

#include "service/audit.h"
#include "service/keys.h"

enum { COPY_ROUNDS = 5, MODE_SIZE = 16 };

const char *control_mode_name(enum control_mode mode)
{
    static const char *const names[] = {
        [CONTROL_OPEN] = "open",
        [CONTROL_PAUSED] = "paused",
        [CONTROL_DRAINING] = "draining",
    };
    return names[mode];
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

/* --- the truth ------------------------------------------------------------------------------- */

static struct err write_row(struct pg *pg, enum queue_name queue, enum control_mode mode,
                            const char *actor, const char *reason)
{
    if (mode == CONTROL_OPEN)
        return PG_EXEC(pg, "DELETE FROM queue_controls WHERE queue = $1",
                       pg_text(queue_text(queue)));
    return PG_EXEC(pg,
                   "INSERT INTO queue_controls (queue, mode, reason, actor) VALUES ($1, $2, $3, $4)"
                   " ON CONFLICT (queue) DO UPDATE SET mode = excluded.mode,"
                   " reason = excluded.reason, actor = excluded.actor, since = excluded.since"
                   " WHERE queue_controls.mode <> excluded.mode",
                   pg_text(queue_text(queue)), pg_text(control_mode_name(mode)), pg_text(reason),
                   pg_text(actor));
}

struct err control_set(struct pg *pg, enum queue_name queue, enum control_mode mode,
                       const char *actor, const char *reason, bool *changed)
{
    static const char *const actions[] = {
        [CONTROL_OPEN] = "queue.resume",
        [CONTROL_PAUSED] = "queue.pause",
        [CONTROL_DRAINING] = "queue.drain",
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

/* --- the copy -------------------------------------------------------------------------------- */

static struct err read_mode(struct pg *pg, enum queue_name queue, char out[MODE_SIZE])
{
    TRY(PG_EXEC(pg, "SELECT mode FROM queue_controls WHERE queue = $1",
                pg_text(queue_text(queue))));
    const char *mode = pg_rows(pg) > 0 ? pg_get(pg, 0, 0) : "";
    size_t len = strnlen(mode, MODE_SIZE - 1);
    memcpy(out, mode, len);
    out[len] = '\0';
    return ERR_NONE;
}

static struct err write_copy(struct redis *redis, const char *key, const char *mode)
{
    struct redis_reply *reply = NULL;
    const struct span set[] = {SPAN("SET"), span_of(key), span_of(mode)};
    const struct span del[] = {SPAN("DEL"), span_of(key)};
    if (text_is_empty(mode))
        TRY(redis_call(redis, del, ARRAY_LEN(del), &reply));
    else
        TRY(redis_call(redis, set, ARRAY_LEN(set), &reply));
    redis_reply_free(reply);
    return ERR_NONE;
}

struct err control_copy(struct pg *pg, struct redis *redis, const char *prefix,
                        enum queue_name queue)
{
    char key[KEY_MAX];
    char told[MODE_SIZE];
    char mode[MODE_SIZE];
    key_control(prefix, queue, key);
    TRY(read_mode(pg, queue, mode));
    /* Two operators at once: whoever writes last has read last. */
    for (int round = 0; round < COPY_ROUNDS; round++) {
        memcpy(told, mode, sizeof told);
        TRY(write_copy(redis, key, told));
        TRY(read_mode(pg, queue, mode));
        if (strcmp(mode, told) == 0)
            break;
    }
    return ERR_NONE;
}
