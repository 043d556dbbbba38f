#include "service/outbound_admin.h"

#include <stdio.h>

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

const char *outbound_admin_why_not(const char *state, const char *policy, bool busy,
                                   enum outbound_verdict verdict)
{
    if (is(state, "sending") && busy)
        return "it is being made right now; see again when its time is over";
    if (is(state, "done"))
        return "it is done, and what has happened outside stays";
    if (is(state, "refused") && verdict == OUTBOUND_VERDICT_REFUSED)
        return "it is refused already";
    if (verdict != OUTBOUND_VERDICT_VERIFY)
        return NULL;
    if (!is(policy, "verify"))
        return "calls of this kind cannot be looked for";
    return is(state, "unknown") || is(state, "sending") ? NULL : "it is known what became of it";
}

/* The state it gets, and whether its number rises: to the receiver it is another call then. */
static const char *target_of(enum outbound_verdict verdict)
{
    switch (verdict) {
    case OUTBOUND_VERDICT_DONE: return "done";
    case OUTBOUND_VERDICT_REFUSED: return "refused";
    case OUTBOUND_VERDICT_RESEND: return "pending";
    default: return "unknown";
    }
}

static const char *word_of(enum outbound_verdict verdict)
{
    static const char *const words[] = {"done", "refused", "resend", "verify"};
    return words[verdict];
}

static const char resolve_sql[] =
    "WITH picked AS (SELECT * FROM outbound WHERE id = $1 AND state = $2"
    "  AND attempts = $3::integer AND (state <> 'sending' OR sending_until <= whopline_now())"
    "  FOR UPDATE),"
    " moved AS (UPDATE outbound o SET state = $4, parked = NULL, resends = 0, verifications = 0,"
    "  ordinal = o.ordinal + (p.state = 'refused' AND $4 = 'pending')::integer,"
    "  remote_id = coalesce(nullif($5, ''), o.remote_id),"
    "  look_at = CASE WHEN $4 = 'unknown' THEN whopline_now() END,"
    "  finished_at = CASE WHEN $4 IN ('done', 'refused') THEN whopline_now() END,"
    "  updated_at = whopline_now() FROM picked p WHERE o.id = p.id RETURNING o.id, o.ordinal),"
    " was AS (SELECT j.id, j.gen, j.state, j.reason, j.error, j.attempts FROM jobs j"
    "  JOIN picked o ON " OUTBOUND_ADMIN_WAITS " ORDER BY j.id FOR UPDATE OF j),"
    " again AS (UPDATE jobs j SET gen = j.gen + 1, state = 'queued', relayed_at = NULL,"
    "  finished_at = NULL, reason = NULL, error = NULL, attempts = 0, due_at = whopline_now(),"
    "  requeued_at = whopline_now() FROM was WHERE j.id = was.id RETURNING j.id, j.gen),"
    " told AS (INSERT INTO audit_log (actor, action, target, reason, detail)"
    "  SELECT $6, 'outbound.resolve', 'outbound/' || p.id, $7, jsonb_build_object('as', $8::text,"
    "   'operation', p.operation, 'business_key', p.business_key, 'ordinal', m.ordinal,"
    "   'remote_id', nullif($5, ''), 'was', jsonb_build_object('state', p.state,"
    "   'parked', p.parked, 'status', p.status, 'error', p.error, 'attempts', p.attempts))"
    "  FROM picked p JOIN moved m USING (id)"
    "  UNION ALL SELECT $6, 'jobs.requeue', w.id::text, $7, jsonb_build_object('gen', a.gen,"
    "   'outbound', $1::bigint, 'was', jsonb_build_object('gen', w.gen, 'state', w.state,"
    "   'reason', w.reason, 'error', w.error, 'attempts', w.attempts))"
    "  FROM was w JOIN again a USING (id))"
    " SELECT (SELECT count(*) FROM moved), coalesce((SELECT min(id::text) FROM again), '')";

struct err outbound_admin_resolve(struct pg *pg, const struct outbound_ref *seen,
                                  enum outbound_verdict verdict, const char *remote_id,
                                  const char *actor, const char *reason, bool *changed,
                                  char job[OUTBOUND_ADMIN_JOB_SIZE])
{
    *changed = false;
    job[0] = '\0';
    TRY(PG_EXEC(pg, resolve_sql, pg_integer(seen->id), pg_text(seen->state),
                pg_integer(seen->attempts), pg_text(target_of(verdict)), pg_text(remote_id),
                pg_text(actor), pg_text(reason), pg_text(word_of(verdict))));
    *changed = pg_get_integer(pg, 0, 0) > 0;
    snprintf(job, OUTBOUND_ADMIN_JOB_SIZE, "%s", pg_get(pg, 0, 1));
    return ERR_NONE;
}
