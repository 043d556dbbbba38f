/* Where Redis does not agree with itself. */
#include "cli/fsck.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* --- sets of ids ----------------------------------------------------------------------------- */

void fsck_ids_add(struct fsck_ids *ids, struct span id)
{
    enum { FIRST = 64 };
    /* Room doubles whenever the count is a power of two. */
    if (ids->count == 0 || (ids->count >= FIRST && (ids->count & (ids->count - 1)) == 0))
        ids->texts =
            mem_realloc(ids->texts, (ids->count == 0 ? FIRST : 2 * ids->count) * sizeof(char *));
    char *text = mem_alloc(id.len + 1);
    if (id.len > 0)
        memcpy(text, id.ptr, id.len);
    text[id.len] = '\0';
    ids->texts[ids->count++] = text;
}

static int compare(const void *left, const void *right)
{
    const char *const *a = left;
    const char *const *b = right;
    return strcmp(*a, *b);
}

void fsck_ids_sort(struct fsck_ids *ids)
{
    size_t kept = 0;
    if (ids->count == 0)
        return;
    qsort(ids->texts, ids->count, sizeof(char *), compare);
    for (size_t i = 0; i < ids->count; i++) { /* a scan may tell one twice */
        if (kept > 0 && strcmp(ids->texts[kept - 1], ids->texts[i]) == 0)
            free(ids->texts[i]);
        else
            ids->texts[kept++] = ids->texts[i];
    }
    ids->count = kept;
}

bool fsck_ids_have(const struct fsck_ids *ids, const char *id)
{
    return ids->count > 0 && bsearch(&id, ids->texts, ids->count, sizeof(char *), compare) != NULL;
}

void fsck_ids_close(struct fsck_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++)
        free(ids->texts[i]);
    free(ids->texts);
    *ids = (struct fsck_ids){0};
}

/* --- what was put off ------------------------------------------------------------------------ */

static void add_id(struct span element, void *data)
{
    fsck_ids_add(data, element);
}

/* RETRY and PROMOTE do both halves at once, but the two scans are not at once: so each id that has
 * only one is asked for again, by itself. */
static struct err check_torn(struct fsck *fsck, enum queue_name queue, const char *id)
{
    const char *prefix = fsck->cli->config.stream_prefix;
    char delayed[KEY_MAX];
    char fields[KEY_MAX];
    struct redis_reply *reply = NULL;
    key_delayed(prefix, queue, delayed);
    key_fields(prefix, queue, fields);
    for (int round = 0; round < 2; round++) {
        TRY(ASK(fsck->cli->redis, &reply, "ZSCORE", delayed, id));
        bool timed = !redis_reply_is_nil(reply);
        redis_reply_free(reply);
        TRY(ASK(fsck->cli->redis, &reply, "HEXISTS", fields, id));
        bool packed = redis_reply_integer(reply) == 1;
        redis_reply_free(reply);
        if (timed == packed)
            return ERR_NONE;
        if (round == 0)
            continue;
        fsck_found(fsck, timed ? FSCK_DELAYED_WITHOUT_FIELDS : FSCK_FIELDS_WITHOUT_DELAY, id);
        fsck_ids_add(&fsck->torn[queue], span_of(id));
    }
    return ERR_NONE;
}

static struct err compare_halves(struct fsck *fsck, enum queue_name queue,
                                 const struct fsck_ids *timed, const struct fsck_ids *packed)
{
    for (size_t i = 0; i < timed->count; i++)
        if (!fsck_ids_have(packed, timed->texts[i]))
            TRY(check_torn(fsck, queue, timed->texts[i]));
    for (size_t i = 0; i < packed->count; i++)
        if (!fsck_ids_have(timed, packed->texts[i]))
            TRY(check_torn(fsck, queue, packed->texts[i]));
    return ERR_NONE;
}

struct err fsck_look_at_delayed(struct fsck *fsck)
{
    const char *prefix = fsck->cli->config.stream_prefix;
    struct err err = ERR_NONE;
    for (int i = 0; i < QUEUE_COUNT && !err_failed(&err); i++) {
        char key[KEY_MAX];
        struct fsck_ids timed = {0};
        struct fsck_ids packed = {0};
        key_delayed(prefix, (enum queue_name)i, key);
        err = ask_scan(fsck->cli->redis, "ZSCAN", key, NULL, add_id, &timed);
        key_fields(prefix, (enum queue_name)i, key);
        if (!err_failed(&err))
            err = ask_scan(fsck->cli->redis, "HSCAN", key, NULL, add_id, &packed);
        fsck_ids_sort(&timed);
        fsck_ids_sort(&packed);
        if (!err_failed(&err))
            err = compare_halves(fsck, (enum queue_name)i, &timed, &packed);
        fsck_ids_close(&timed);
        fsck_ids_close(&packed);
    }
    return err;
}

/* --- what workers hold ----------------------------------------------------------------------- */

struct held {
    struct ask_pending *entries;
    size_t count;
};

static void keep_pending(const struct ask_pending *pending, void *data)
{
    struct held *held = data;
    held->entries = mem_realloc(held->entries, (held->count + 1) * sizeof *held->entries);
    held->entries[held->count++] = *pending;
}

static void note_again(const struct ask_pending *pending, void *data)
{
    (void)pending;
    *(bool *)data = true;
}

/* DONE takes an entry out of both at once: one that is not in the stream, and after that still
 * pending, is not just being finished. */
static struct err check_backed(struct fsck *fsck, const char *stream,
                               const struct ask_pending *pending, bool *backed)
{
    struct redis_reply *reply = NULL;
    bool still = false;
    TRY(ASK(fsck->cli->redis, &reply, "XRANGE", stream, pending->entry, pending->entry));
    *backed = redis_reply_count(reply) > 0;
    redis_reply_free(reply);
    if (*backed)
        return ERR_NONE;
    TRY(ask_each_pending(fsck->cli->redis, stream, pending->entry, pending->entry, note_again,
                         &still));
    *backed = !still;
    return ERR_NONE;
}

static struct err check_held(struct fsck *fsck, const char *stream, const struct held *held)
{
    char sample[ASK_ENTRY_SIZE + QUEUE_CONSUMER_MAX + KEY_MAX + sizeof " of , by "];
    for (size_t i = 0; i < held->count; i++) {
        const struct ask_pending *pending = &held->entries[i];
        bool backed;
        snprintf(sample, sizeof sample, "%s of %s, by %s", pending->entry, stream,
                 pending->consumer);
        TRY(check_backed(fsck, stream, pending, &backed));
        if (!backed)
            fsck_found(fsck, FSCK_PENDING_WITHOUT_ENTRY, sample);
        else if (pending->idle_ms > fsck->cli->config.lease_ms)
            fsck_found(fsck, FSCK_PENDING_GONE, sample);
    }
    return ERR_NONE;
}

struct err fsck_look_at_pending(struct fsck *fsck)
{
    struct err err = ERR_NONE;
    for (int i = 0; i < QUEUE_COUNT && !err_failed(&err); i++) {
        char stream[KEY_MAX];
        struct held held = {0};
        key_stream(fsck->cli->config.stream_prefix, (enum queue_name)i, stream);
        err = ask_each_pending(fsck->cli->redis, stream, "-", "+", keep_pending, &held);
        if (!err_failed(&err))
            err = check_held(fsck, stream, &held);
        free(held.entries);
    }
    return err;
}
