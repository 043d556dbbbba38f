-- Work by the clock: schedules, what they have fired, timers; and the indexes that retention reads by.

-- Work of the installation itself belongs to no tenant.
ALTER TABLE jobs
    ALTER COLUMN tenant_id DROP NOT NULL,
    ADD CONSTRAINT jobs_bulk_of_tenant CHECK (NOT bulk OR tenant_id IS NOT NULL);

CREATE TABLE schedules (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    tenant_id bigint REFERENCES tenants,    -- NULL: the installation's; else held while he is not active
    cron text,                              -- five fields, by the wall clock of its zone
    interval_ms bigint CHECK (interval_ms > 0), -- slots are its multiples since 1970
    zone text NOT NULL DEFAULT 'UTC',       -- a name PostgreSQL knows
    queue text NOT NULL,
    kind text NOT NULL,
    payload bytea NOT NULL,
    version smallint NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    missed text NOT NULL DEFAULT 'once'     -- of slots later than SCHEDULE_GRACE_MS: none is fired,
        CHECK (missed IN ('skip', 'once', 'all')), -- the first, or the first missed_max
    missed_max integer NOT NULL DEFAULT 100 CHECK (missed_max > 0),
    missed_fired integer NOT NULL DEFAULT 0, -- of the outage that is being made up for
    next_slot timestamptz NOT NULL DEFAULT '-infinity', -- nominal; -infinity: to be worked out
    error text,                             -- why it cannot be worked out; it rests then
    default_cron text,                      -- of a built-in one (schedules.def): cron and zone follow
    default_zone text,                      -- these while nobody has changed them
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    CHECK ((cron IS NULL) <> (interval_ms IS NULL))
);
CREATE INDEX schedules_due ON schedules (next_slot) WHERE enabled AND error IS NULL;

-- The key is what makes a slot fire once. A row without a job is a slot that was left out.
CREATE TABLE schedule_firings (
    schedule_id bigint NOT NULL REFERENCES schedules,
    slot timestamptz NOT NULL,              -- nominal; of one fired by hand the moment
    how text NOT NULL CHECK (how IN ('due', 'missed', 'manual', 'skipped')),
    job_id uuid,
    fired_at timestamptz NOT NULL DEFAULT whopline_now(),
    PRIMARY KEY (schedule_id, slot),
    CHECK ((how = 'skipped') = (job_id IS NULL))
);
CREATE INDEX schedule_firings_fired ON schedule_firings (fired_at);

-- One job at one time, unless it is cancelled before.
CREATE TABLE timers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    kind text NOT NULL,                     -- of the job
    entity_key text NOT NULL,               -- the job's key: whose timer it is
    sequence integer NOT NULL,
    due_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'fired', 'cancelled')),
    payload bytea NOT NULL,
    version smallint NOT NULL,
    job_id uuid,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    ended_at timestamptz,
    UNIQUE (tenant_id, kind, entity_key, sequence),
    CHECK ((status = 'fired') = (job_id IS NOT NULL)),
    CHECK ((status = 'pending') = (ended_at IS NULL))
);
CREATE INDEX timers_due ON timers (due_at) WHERE status = 'pending';
CREATE INDEX timers_ended ON timers (ended_at) WHERE status <> 'pending';

-- The moments that local minutes stand for (whole minutes since 1970 by the wall clock of the zone).
-- One that does not exist, because the clock is put forward, stands for the moment it would have
-- been; one that exists twice for the first, or, if each_time, for both.
CREATE FUNCTION whopline_slots(minutes bigint[], zone text, each_time boolean)
    RETURNS SETOF timestamptz LANGUAGE sql STABLE AS $$
    -- PostgreSQL reads a time that is missing by the clock of before the change, and one that is
    -- twice by that of after: whether there is an earlier one, the offset three hours before tells.
    WITH wall AS (SELECT timestamp 'epoch' + m * interval '1 minute' AS wall FROM unnest(minutes) m),
    late AS (SELECT wall, wall AT TIME ZONE zone AS late FROM wall),
    early AS (SELECT wall, late, (wall - (((late - interval '3 hours') AT TIME ZONE zone)
                                        - ((late - interval '3 hours') AT TIME ZONE 'UTC')))
                                 AT TIME ZONE 'UTC' AS early FROM late),
    both_ AS (SELECT late, early < late AND early AT TIME ZONE zone = wall AS twice, early FROM early)
    SELECT CASE WHEN twice THEN early ELSE late END FROM both_
    UNION SELECT late FROM both_ WHERE each_time
$$;

-- What retention looks for.
CREATE INDEX jobs_ended ON jobs (finished_at) WHERE state IN ('done', 'skipped');
CREATE INDEX credit_review_event ON credit_review (event_id) WHERE state = 'open';
