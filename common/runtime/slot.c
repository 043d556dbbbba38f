#include "runtime/slot.h"

#include "base/clock.h"
#include "base/random.h"

/* Rows for those that have one; the others live in Redis only. */
static struct err insert_rows(struct slot *slot, const struct outgoing *jobs, size_t count)
{
    struct outgoing *kept = arena_alloc(&slot->arena, count * sizeof *kept);
    size_t kept_count = 0;
    for (size_t i = 0; i < count; i++)
        if (job_type(jobs[i].kind)->life == JOB_LIFE_KEPT)
            kept[kept_count++] = jobs[i];
    return kept_count > 0 ? store_insert_jobs(slot->db, kept, kept_count, &slot->rebuilds)
                          : ERR_NONE;
}

struct err slot_add_jobs(struct slot *slot, struct outgoing *jobs, size_t count)
{
    REQUIRE(pg_in_transaction(slot->db));
    struct outgoing *all = arena_alloc(&slot->arena, (slot->added_count + count) * sizeof *all);
    if (slot->added_count > 0)
        memcpy(all, slot->added, slot->added_count * sizeof *all);
    for (size_t i = 0; i < count; i++) {
        random_uuid(jobs[i].id);
        jobs[i].gen = 0;
        jobs[i].created_ms = clock_wall_ms();
        jobs[i].attempts = 0;
        all[slot->added_count + i] = jobs[i];
    }
    TRY(insert_rows(slot, jobs, count));
    slot->added = all;
    slot->added_count += count;
    return ERR_NONE;
}

static struct err commit(struct slot *slot)
{
    TRY(pg_commit(slot->db));
    slot->committed = true;
    return ERR_NONE;
}

struct err slot_commit(struct slot *slot, enum job_state state, const char *reason)
{
    REQUIRE(slot->job != NULL);
    const struct store_ending ending = {
        .state = state, .reason = reason, .error = "", .attempts = slot->job->attempt};
    TRY(store_finish_job(slot->db, slot->job->id, &ending));
    slot->ended = state;
    return commit(slot);
}

struct err slot_commit_batch(struct slot *slot, const struct batch_item *items, size_t count)
{
    REQUIRE(slot->job == NULL);
    for (size_t i = 0; slot->batch_has_rows && i < count; i++) {
        const struct store_ending ending = {.state = items[i].state,
                                            .reason = items[i].reason,
                                            .error = "",
                                            .attempts = items[i].job->attempt};
        if (items[i].state != JOB_STATE_DONE || !text_is_empty(items[i].reason))
            TRY(store_amend_job(slot->db, items[i].job->id, &ending));
    }
    return commit(slot);
}
