#ifndef WHOPLINE_OUTCOME_H
#define WHOPLINE_OUTCOME_H
/* What became of an event, in words, as SQL. For statements that call the event e: OUTCOME_JOINS
 * goes behind its FROM, OUTCOME_TEXT among the columns; e's progress and number of jobs are
 * outcome_progress.progress and .jobs. A lost dispute's hold gives way to its loss: only that is
 * told. The LIMIT keeps the planner from working out the view for the whole journal. */

#define OUTCOME_JOINS                                                                              \
    " LEFT JOIN LATERAL (SELECT progress, jobs FROM event_progress WHERE id = e.id"                \
    "  LIMIT 1)"                                                                                   \
    "  outcome_progress ON true"                                                                   \
    " LEFT JOIN LATERAL (SELECT string_agg(DISTINCT CASE WHEN state <> 'skipped' THEN reason"      \
    "  WHEN reason = 'already_granted' THEN 'duplicate: already granted'"                          \
    "  ELSE 'nothing to do: ' || reason END, ', ') AS reasons"                                     \
    "  FROM jobs WHERE event_id = e.id AND reason IS NOT NULL) outcome_jobs ON true"               \
    " LEFT JOIN LATERAL (SELECT string_agg(CASE WHEN t.kind = 'topup' THEN 'granted '"             \
    "  || to_char(t.amount, 'FM999,999,999,999') || ' credits to ' || a.owner_id"                  \
    "  WHEN t.amount <= 0 THEN 'took ' || to_char(-t.amount, 'FM999,999,999,990')"                 \
    "  || ' credits from ' || a.owner_id || ': ' || t.reason"                                      \
    "  ELSE 'gave ' || to_char(t.amount, 'FM999,999,999,990') || ' credits back to '"              \
    "  || a.owner_id || ': ' || t.reason END, ', ' ORDER BY t.id) AS text"                         \
    "  FROM credit_transactions t JOIN credit_accounts a ON a.id = t.account_id"                   \
    "  WHERE t.tenant_id = e.tenant_id AND t.whop_payment_id = e.payment_id"                       \
    "  AND t.event_id = e.id AND NOT (t.kind = 'dispute_release' AND t.reason = 'dispute lost'))"  \
    "  outcome_ledger ON true"                                                                     \
    " LEFT JOIN LATERAL (SELECT reason FROM credit_review r"                                       \
    "  WHERE r.tenant_id = e.tenant_id AND r.whop_payment_id = e.payment_id"                       \
    "  AND r.state = 'open') outcome_review ON true"

#define OUTCOME_TEXT                                                                               \
    "CASE WHEN e.status = 'ignored' AND e.reason = 'nothing_to_do' THEN 'kept, nothing to do'"     \
    " WHEN e.status = 'ignored' AND e.reason = 'unknown_kind' THEN 'kept, unknown kind'"           \
    " WHEN e.status <> 'routed' THEN e.status || ': ' || e.reason"                                 \
    " WHEN outcome_progress.progress = 'running' THEN 'running'"                                   \
    " WHEN outcome_progress.progress IN ('dead', 'parked')"                                        \
    "  THEN outcome_progress.progress || ': ' || outcome_jobs.reasons"                             \
    " WHEN outcome_ledger.text IS NOT NULL THEN outcome_ledger.text"                               \
    " WHEN outcome_review.reason IS NOT NULL THEN 'in review: ' || outcome_review.reason"          \
    " WHEN outcome_progress.jobs = 0 THEN 'done; its jobs are kept no more'"                       \
    " ELSE coalesce(outcome_jobs.reasons, outcome_progress.progress) END"

/* The jobs that have not ended well or not ended, as a table for FROM. In parts, each of which is
 * what a partial index holds: the done ones are many, and are not looked at. */
#define OUTCOME_OPEN_JOBS                                                                          \
    "(SELECT queue, state, reason, bulk, relayed_at, due_at FROM jobs"                             \
    "  WHERE state = 'queued' AND NOT bulk AND relayed_at IS NULL"                                 \
    " UNION ALL SELECT queue, state, reason, bulk, relayed_at, due_at FROM jobs"                   \
    "  WHERE state = 'queued' AND bulk AND relayed_at IS NULL"                                     \
    " UNION ALL SELECT queue, state, reason, bulk, relayed_at, due_at FROM jobs"                   \
    "  WHERE state = 'queued' AND relayed_at IS NOT NULL"                                          \
    " UNION ALL SELECT queue, state, reason, bulk, relayed_at, due_at FROM jobs"                   \
    "  WHERE state IN ('parked', 'dead')) open_jobs"

/* An amount of money as people write it: 7.50, 7500. */
#define OUTCOME_MONEY(column)                                                                      \
    "CASE WHEN scale(trim_scale(" column ")) = 1 THEN round(" column ", 2)"                        \
    " ELSE trim_scale(" column ") END"

/* A time for people, in UTC. */
#define OUTCOME_UTC(column) "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"

#endif
