-- What the job runtime needs beside the jobs themselves: bulk work that waits its turn, the error
-- behind a reason, queues that are held, and who did what by hand.

ALTER TABLE jobs
    ADD COLUMN bulk boolean NOT NULL DEFAULT false, -- relayed a few at a time for each tenant
    ADD COLUMN error text,                          -- name in errors.def of what parked or killed it
    ADD COLUMN requeued_at timestamptz;             -- from then on its age counts, not from created_at

-- Bulk rows that wait, and those that are on their way: fairness counts both by tenant.
CREATE INDEX jobs_bulk_waiting ON jobs (tenant_id, due_at, id)
    WHERE state = 'queued' AND bulk AND relayed_at IS NULL;
CREATE INDEX jobs_bulk_relayed ON jobs (tenant_id)
    WHERE state = 'queued' AND bulk AND relayed_at IS NOT NULL;
-- The rest, so that a flood of bulk rows is not in its way.
DROP INDEX jobs_unrelayed;
CREATE INDEX jobs_unrelayed ON jobs (due_at) WHERE state = 'queued' AND NOT bulk AND relayed_at IS NULL;

-- Queues an operator holds. Redis has a copy that workers look at (ctl:<queue>); the scheduler
-- renews it, so that a Redis that loses its data does not set a queue going again.
CREATE TABLE queue_controls (
    queue text PRIMARY KEY,
    mode text NOT NULL CHECK (mode IN ('paused', 'draining')),
    reason text NOT NULL,
    actor text NOT NULL,
    since timestamptz NOT NULL DEFAULT whopline_now()
);

-- Everything done by hand, for good.
CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT whopline_now(),
    actor text NOT NULL,
    action text NOT NULL,               -- jobs.requeue, queue.pause ...
    target text NOT NULL,               -- a job's id, a queue's name
    reason text NOT NULL DEFAULT '',
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_target ON audit_log (target, at);
CREATE INDEX audit_log_at ON audit_log (at);

-- Counts rebuilds: whoever marks a row as relayed says from before which one he knows that it is in
-- Redis, so that a slow mark does not hide a row that Redis has lost meanwhile.
ALTER TABLE relay_state ADD COLUMN rebuilds bigint NOT NULL DEFAULT 0;
