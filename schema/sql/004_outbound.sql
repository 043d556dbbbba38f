-- Calls that change something outside: one row for each, so that it happens once. The states and
-- who moves a row between them are in common/service/outbound.h.

CREATE TABLE outbound (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    operation text NOT NULL,                -- schema/outbound.def
    business_key text NOT NULL,             -- what it is about: the refund of pay_x, message 3 of y
    policy text NOT NULL CHECK (policy IN ('resend', 'verify', 'park')),
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'sending', 'done', 'refused', 'unknown')),
    parked text,                            -- why a person has to look at it; NULL: nobody has to
    ordinal integer NOT NULL DEFAULT 0,     -- raised after a definite refusal, on purpose only
    -- To the receiver the same call for as long as it says the same. At most 255 bytes.
    idempotency_key text NOT NULL GENERATED ALWAYS AS
        (tenant_id::text || '/' || operation || '/' || business_key || '/' || ordinal::text) STORED,
    -- Raised with each sending, in the transaction that says so: whoever has the latest is the
    -- runner whose answer counts.
    attempts integer NOT NULL DEFAULT 0,
    resends integer NOT NULL DEFAULT 0,       -- of these, after it was not known
    verifications integer NOT NULL DEFAULT 0, -- looked for and not found
    runner uuid,                            -- whoever sent it last
    job_id uuid,                            -- of the latest run
    seen_before text,                       -- the last thing of its kind before the first sending
    method text NOT NULL,
    target text NOT NULL,                   -- host and path, without the query
    request bytea NOT NULL,                 -- the body as it was sent last
    sending_since timestamptz,              -- the latest sending
    sending_until timestamptz,              -- until then its answer may come; unknown: its effect show
    look_at timestamptz,                    -- unknown: not to be looked for sooner
    status integer,                         -- of the latest answer
    response bytea,                         -- its body
    remote_id text,                         -- what it made there
    error text,                             -- the latest one, in words
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    finished_at timestamptz,
    UNIQUE (tenant_id, operation, business_key),
    CHECK (length(business_key) BETWEEN 1 AND 160),
    CHECK ((state IN ('done', 'refused')) = (finished_at IS NOT NULL)),
    CHECK (parked IS NULL OR state IN ('pending', 'unknown')),
    CHECK (state <> 'sending' OR (sending_since IS NOT NULL AND sending_until IS NOT NULL)),
    CHECK (state <> 'unknown' OR attempts > 0)
);
CREATE INDEX outbound_open ON outbound (state, updated_at) WHERE state NOT IN ('done', 'refused');
CREATE INDEX outbound_job ON outbound (job_id);
CREATE INDEX outbound_remote ON outbound (tenant_id, operation, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX outbound_finished ON outbound (finished_at) WHERE finished_at IS NOT NULL;
