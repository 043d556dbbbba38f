/* whopline-probe: a worker that does what a test wants, so that the runtime is tested as itself.
 *
 * Every kind ends in one row of probe_effects, written in the job's own transaction. The table has
 * no unique key on purpose: only the runtime's promise keeps an effect single. What each kind does
 * before that is said beside its handler; the kinds are in schema/jobs.def. */
#include "runtime/outside_face.h"
#include "runtime/worker.h"
#include "service/timers.h"
#include "service/whop.h"
#include "tests/probe/post.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void sleep_ms(int64_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0) {
    }
}

static struct err insert_effect(struct slot *slot, const struct job *job, const char *label)
{
    return PG_EXEC(slot->db, "INSERT INTO probe_effects (job, label, attempt) VALUES ($1, $2, $3)",
                   pg_text(job->id), pg_text(label), pg_integer(job->attempt));
}

static struct err have_effect(struct slot *slot, const struct probe *probe)
{
    TRY(pg_begin(slot->db));
    TRY(insert_effect(slot, slot->job, probe->label));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct err noop(struct slot *slot, const void *payload)
{
    (void)slot;
    (void)payload;
    return ERR_NONE;
}

/* Volatile. Fails always if the label is "fail". */
static struct err tick(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    if (strcmp(probe->label, "fail") == 0)
        return err_make(ERR_PG_FAILED, "probe.tick was asked to fail");
    TRY(pg_begin(slot->db));
    TRY(insert_effect(slot, slot->job, probe->label));
    return pg_commit(slot->db);
}

/* number: ms between the effect and its COMMIT. */
static struct err effect(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    TRY(pg_begin(slot->db));
    TRY(insert_effect(slot, slot->job, probe->label));
    sleep_ms(probe->number);
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct outgoing make_next(struct slot *slot, enum job_kind kind, struct span payload)
{
    return (struct outgoing){
        .kind = kind,
        .tenant = slot->job->tenant,
        .key = slot->job->key,
        .event_id = "",
        .trace = slot->job->trace,
        .occurred_ms = slot->job->occurred_ms,
        .version = job_type(kind)->version,
        .payload = payload,
    };
}

/* number: jobs that still follow, one after the other. With the label "ticks" each causes a
 * volatile probe.tick too. */
static struct err chain(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    struct probe next = {.label = probe->label, .number = probe->number - 1};
    struct buf packed = {0};
    TRY(pg_begin(slot->db));
    TRY(insert_effect(slot, slot->job, probe->label));
    TRY(payload_encode(PAYLOAD_probe, &next, &packed));
    struct span copy = {arena_copy(&slot->arena, packed.ptr, packed.len), packed.len};
    buf_close(&packed);
    struct outgoing jobs[] = {make_next(slot, JOB_probe_chain, copy),
                              make_next(slot, JOB_probe_tick, copy)};
    if (probe->number > 0)
        TRY(slot_add_jobs(slot, &jobs[0], 1));
    if (strcmp(probe->label, "ticks") == 0)
        TRY(slot_add_jobs(slot, &jobs[1], 1));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

/* number: ms outside any transaction. */
static struct err take_a_nap(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    sleep_ms(probe->number);
    return have_effect(slot, probe);
}

/* number: ms in a statement, which a cancel ends. */
static struct err query(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    TRY(pg_begin(slot->db));
    TRY(PG_EXEC(slot->db, "SELECT pg_sleep($1::bigint / 1000.0)", pg_integer(probe->number)));
    TRY(insert_effect(slot, slot->job, probe->label));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

/* Hangs for good in its first `number` deliveries: nothing ends it but the end of the process. */
static struct err hang(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    while (slot->job->deliveries <= probe->number)
        sleep_ms(1000);
    return have_effect(slot, probe);
}

/* Kills its process in its first `number` deliveries; with the label "abort" by a crash. */
static struct err crash(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    if (slot->job->deliveries <= probe->number) {
        if (strcmp(probe->label, "abort") == 0)
            abort();
        kill(getpid(), SIGKILL);
    }
    return have_effect(slot, probe);
}

/* In its first `number` attempts it returns the error that the label names (as in errors.def). */
static struct err fail(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    enum err_code code;
    if (!err_code_find(probe->label, &code))
        return err_make(ERR_MALFORMED, "probe.fail: no such error: %s", probe->label);
    if (slot->job->attempt < probe->number) {
        struct err err = err_make(code, "probe.fail was asked to");
        err.after_ms = 100;
        return err;
    }
    return have_effect(slot, probe);
}

/* A batch: one effect each. The label "bad" fails it for its data, "skip" and "park" are verdicts
 * of single items. */
static struct err batch(struct slot *slot, struct batch_item *items, size_t count)
{
    struct pg_array jobs;
    struct pg_array labels;
    struct err err = ERR_NONE;
    pg_array_init(&jobs, PG_ELEMENT_TEXT);
    pg_array_init(&labels, PG_ELEMENT_TEXT);
    for (size_t i = 0; i < count; i++) {
        const struct probe *probe = items[i].payload;
        if (strcmp(probe->label, "bad") == 0)
            err = err_make(ERR_PG_DATA, "probe.batch met a bad item");
        items[i].reason = "asked to";
        if (strcmp(probe->label, "skip") == 0)
            items[i].state = JOB_STATE_SKIPPED;
        else if (strcmp(probe->label, "park") == 0)
            items[i].state = JOB_STATE_PARKED;
        if (items[i].state != JOB_STATE_DONE)
            continue;
        pg_array_add_text(&jobs, items[i].job->id);
        pg_array_add_text(&labels, probe->label);
    }
    if (!err_failed(&err))
        err = PG_EXEC(slot->db,
                      "INSERT INTO probe_effects (job, label) SELECT * FROM unnest($1::text[],"
                      " $2::text[])",
                      pg_array_param(&jobs), pg_array_param(&labels));
    pg_array_close(&jobs);
    pg_array_close(&labels);
    TRY(err);
    return slot_commit_batch(slot, items, count);
}

/* Volatile. Reads the membership PROBE_WHOP_ID at Whop PROBE_WHOP_CALLS times, one after the other,
 * with PROBE_WHOP_APART each job as another credential: tests/bench/whop.py. */
static struct err read_whop(struct slot *slot, const void *payload)
{
    const char *id = getenv("PROBE_WHOP_ID");
    const char *calls = getenv("PROBE_WHOP_CALLS");
    struct whop_membership membership;
    struct arena arena;
    struct err err = ERR_NONE;
    (void)payload;
    if (id == NULL || calls == NULL)
        return err_make(ERR_MALFORMED, "probe.whop needs PROBE_WHOP_ID and PROBE_WHOP_CALLS");
    arena_init(&arena);
    const char *credential = getenv("PROBE_WHOP_APART") != NULL ? slot->job->id : "probe";
    struct whop whop = {.outside = slot->outside,
                        .arena = &arena,
                        .credential = credential,
                        .token = "apik_sim",
                        .company = slot->config->whop_company_id};
    for (long left = strtol(calls, NULL, 10); left > 0 && !err_failed(&err); left--) {
        arena_reset(&arena);
        err = whop_get_membership(&whop, id, &membership);
    }
    arena_close(&arena);
    return err;
}

/* Calls PROBE_URL with the label behind it. number: calls a minute that all processes together may
 * make; negative: the same, and it is bulk. A 429 freezes for as long as it says. */
static struct err get(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    const char *base = getenv("PROBE_URL");
    int64_t rate = probe->number < 0 ? -probe->number : probe->number;
    if (base == NULL || rate == 0)
        return err_make(ERR_MALFORMED, "probe.get needs PROBE_URL and a rate");
    const struct outside_target target = {.credential = "probe",
                                          .operation = "probe.get",
                                          .host = base,
                                          .interval_us = 60000000 / rate,
                                          .bulk = probe->number < 0};
    const struct http_request request = {.method = "GET",
                                         .url =
                                             arena_printf(&slot->arena, "%s%s", base, probe->label),
                                         .timeout_ms = slot->config->http_timeout_ms,
                                         .body_max_bytes = (size_t)slot->config->http_answer_max};
    struct http_response response;
    TRY(outside_call(slot->outside, &target, &request, &response));
    buf_close(&response.body);
    if (response.outcome != HTTP_ANSWERED)
        return err_make(ERR_SYSTEM, "%.160s", response.why.text); /* reading may be repeated */
    if (response.status == 429) {
        struct err err = err_make(ERR_LIMITED, "probe.get met a 429");
        err.after_ms = (uint32_t)response.retry_after_ms;
        TRY(outside_freeze(slot->outside, &target, response.retry_after_ms));
        return err;
    }
    if (response.status != 200)
        return err_make(ERR_SYSTEM, "probe.get met status %d", response.status);
    return have_effect(slot, probe);
}

/* --- calls that happen once: post.c. label: the business key; number: ms between the call and the
 * effect ------------------------------------------------------------------------------------- */

static struct err post_and_have_effect(struct slot *slot, const struct probe *probe,
                                       const char *kind, enum outbound_operation operation)
{
    TRY(post_thing(slot, kind, operation, probe->label));
    sleep_ms(probe->number);
    return have_effect(slot, probe);
}

static struct err post_resend(struct slot *slot, const void *payload)
{
    return post_and_have_effect(slot, payload, "upserts", OUTBOUND_OPERATION_probe_resend);
}

static struct err post_verify(struct slot *slot, const void *payload)
{
    return post_and_have_effect(slot, payload, "messages", OUTBOUND_OPERATION_probe_verify);
}

static struct err set_reminder(struct slot *slot, const struct probe *probe, bool *is_new)
{
    const struct probe wanted = {.label = "reminded"};
    struct buf packed = {0};
    struct err err = payload_encode(PAYLOAD_probe, &wanted, &packed);
    if (!err_failed(&err))
        err = timers_set(slot->db,
                         &(struct timer){.kind = JOB_probe_effect,
                                         .tenant = slot->job->tenant,
                                         .entity = probe->label,
                                         .sequence = probe->number,
                                         .payload = buf_span(&packed)},
                         is_new);
    buf_close(&packed);
    return err;
}

/* label: whose timer, which is due at once. number: which of them; negative: all are cancelled.
 * "roll back": as if the work beside it had failed, once. */
static struct err remind(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    bool is_new = false;
    char said[32] = "known";
    TRY(pg_begin(slot->db));
    if (probe->number < 0) {
        TRY(timers_cancel(slot->db, slot->job->tenant, JOB_probe_effect, probe->label));
        snprintf(said, sizeof said, "cancelled %zu", pg_affected(slot->db));
    } else {
        TRY(set_reminder(slot, probe, &is_new));
        if (strcmp(probe->label, "roll back") == 0 && slot->job->attempt == 0)
            return err_make(ERR_PG_FAILED, "probe.remind was asked to fail");
        if (is_new)
            snprintf(said, sizeof said, "set");
    }
    TRY(insert_effect(slot, slot->job, said));
    return slot_commit(slot, JOB_STATE_DONE, "");
}

static struct err post_park(struct slot *slot, const void *payload)
{
    return post_and_have_effect(slot, payload, "refunds", OUTBOUND_OPERATION_probe_park);
}

/* Refunds the payment that the label names, at Whop, in the tenant's name. number: 1 to look at it
 * when the call has been built. */
static struct err refund(struct slot *slot, const void *payload)
{
    const struct probe *probe = payload;
    TRY(post_refund(slot, probe->label, probe->number > 0));
    return have_effect(slot, probe);
}

/* Several processes may start together: the lock is PostgreSQL's, for this transaction only. */
static struct err prepare(struct slot *slot)
{
    TRY(pg_begin(slot->db));
    TRY(pg_exec(slot->db, "SELECT pg_advisory_xact_lock(hashtext('probe_effects'))", NULL, 0));
    TRY(pg_exec(slot->db,
                "CREATE TABLE IF NOT EXISTS probe_effects ("
                " job text NOT NULL, label text NOT NULL, attempt integer NOT NULL DEFAULT 0,"
                " at timestamptz NOT NULL DEFAULT clock_timestamp())",
                NULL, 0));
    return pg_commit(slot->db);
}

static const struct handler handlers[] = {
    {JOB_probe_noop, .handle = noop},
    {JOB_probe_tick, .handle = tick},
    {JOB_probe_effect, .handle = effect},
    {JOB_probe_chain, .handle = chain},
    {JOB_probe_sleep, .handle = take_a_nap},
    {JOB_probe_query, .handle = query},
    {JOB_probe_hang, .handle = hang},
    {JOB_probe_crash, .handle = crash},
    {JOB_probe_fail, .handle = fail},
    {JOB_probe_batch, .handle_batch = batch},
    {JOB_probe_get, .handle = get},
    {JOB_probe_post_resend, .handle = post_resend},
    {JOB_probe_post_verify, .handle = post_verify},
    {JOB_probe_post_park, .handle = post_park},
    {JOB_probe_remind, .handle = remind},
    {JOB_probe_refund, .handle = refund},
    {JOB_probe_whop, .handle = read_whop},
};

static const struct worker probe_worker = {
    .name = "whopline-probe",
    .purpose = "does what a test of the runtime wants",
    .queue = QUEUE_probe,
    .handlers = handlers,
    .handler_count = ARRAY_LEN(handlers),
    .prepare = prepare,
    .outside = &outside_face,
};

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &probe_worker);
}
