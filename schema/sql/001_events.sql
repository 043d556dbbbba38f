-- Events as they came, the jobs they cause, and the tenants both belong to.

CREATE FUNCTION whopline_now() RETURNS timestamptz
    LANGUAGE sql STABLE
    -- Tests move the clock with SET whopline.clock_offset = '3 hours'.
    RETURN now() + COALESCE(NULLIF(current_setting('whopline.clock_offset', true), ''), '0')::interval;

CREATE FUNCTION whopline_from_ms(ms bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT
    RETURN timestamptz 'epoch' + ms * interval '1 millisecond';

CREATE TABLE tenants (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    whop_company_id text NOT NULL UNIQUE,
    title text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'paused', 'reauth_required', 'permission_missing',
                          'disconnected')),
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now()
);

-- The journal. A row is written once and kept with the bytes that were signed.
CREATE TABLE webhook_events (
    id text PRIMARY KEY,                    -- <endpoint>/<webhook-id>, or <endpoint>/mac:<hex>
    tenant_id bigint REFERENCES tenants,    -- NULL while quarantined for want of one
    endpoint text NOT NULL,
    webhook_id text,
    kind text NOT NULL,
    type_raw text NOT NULL,
    generation text NOT NULL,
    company_id text,
    user_id text,
    membership_id text,
    payment_id text,
    entity_id text,                         -- refund, dispute, product, plan, channel or message
    status text NOT NULL CHECK (status IN ('routed', 'ignored', 'quarantined')),
    reason text,
    occurred_at timestamptz NOT NULL,       -- the sender's clock
    occurred_known boolean NOT NULL,        -- false: only the time of the signature
    received_at timestamptz NOT NULL,       -- ingest's clock
    journalled_at timestamptz NOT NULL DEFAULT whopline_now(),
    payload bytea NOT NULL,                 -- struct event as in jobs.def
    payload_version smallint NOT NULL,
    body bytea NOT NULL,
    CHECK ((status = 'routed') = (reason IS NULL)),
    CHECK (status <> 'routed' OR tenant_id IS NOT NULL)
);
CREATE INDEX webhook_events_received ON webhook_events (received_at);
CREATE INDEX webhook_events_payment ON webhook_events (payment_id) WHERE payment_id IS NOT NULL;
CREATE INDEX webhook_events_user ON webhook_events (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX webhook_events_membership ON webhook_events (membership_id)
    WHERE membership_id IS NOT NULL;
CREATE INDEX webhook_events_odd ON webhook_events (status, received_at) WHERE status <> 'routed';

-- Outbox, parked list, dead letters and trace in one. The Redis id of a job is <id>.<gen>.
CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    gen integer NOT NULL DEFAULT 0,         -- raised when it is put in again on purpose
    event_id text,                          -- what caused it; NULL for an operator's or a schedule's
    tenant_id bigint NOT NULL REFERENCES tenants,
    queue text NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,                      -- tenant and user: whose work it is
    payload bytea NOT NULL,
    version smallint NOT NULL,
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'done', 'skipped', 'parked', 'dead')),
    reason text,                            -- why skipped, parked or dead
    attempts integer NOT NULL DEFAULT 0,
    trace text NOT NULL,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    due_at timestamptz NOT NULL DEFAULT whopline_now(),
    relayed_at timestamptz,                 -- NULL: Redis has not been told
    finished_at timestamptz,
    CHECK ((state = 'queued') = (finished_at IS NULL)),
    CHECK (state NOT IN ('skipped', 'parked', 'dead') OR reason IS NOT NULL)
);
CREATE INDEX jobs_unrelayed ON jobs (due_at) WHERE state = 'queued' AND relayed_at IS NULL;
CREATE INDEX jobs_stale ON jobs (relayed_at) WHERE state = 'queued' AND relayed_at IS NOT NULL;
CREATE INDEX jobs_event ON jobs (event_id);
CREATE INDEX jobs_attention ON jobs (state, finished_at) WHERE state IN ('parked', 'dead');

-- An event is done when its jobs are.
CREATE VIEW event_progress AS
SELECT e.id,
       CASE
           WHEN e.status <> 'routed' THEN e.status
           WHEN bool_or(j.state = 'queued') THEN 'running'
           WHEN bool_or(j.state = 'dead') THEN 'dead'
           WHEN bool_or(j.state = 'parked') THEN 'parked'
           ELSE 'done'
       END AS progress,
       count(j.id) AS jobs
FROM webhook_events e
LEFT JOIN jobs j ON j.event_id = e.id
GROUP BY e.id, e.status;

-- Which Redis the relayed rows were given to: another run or epoch may have lost them.
CREATE TABLE relay_state (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    redis_run_id text NOT NULL DEFAULT '',
    redis_epoch text NOT NULL DEFAULT '',
    rebuilt_at timestamptz
);
INSERT INTO relay_state DEFAULT VALUES;
