-- What is asked of Whop for a plan: that it makes one, changes one, or takes one off sale. The job
-- credits.plan does it, and enters what has become of it in whop_plans.
CREATE TABLE whop_plan_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    request_id text NOT NULL,               -- the operator's: the same one asks once
    token uuid NOT NULL DEFAULT gen_random_uuid(), -- in a new plan's metadata: it is found again by it
    job_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('create', 'update', 'retire')),
    whop_plan_id text,                      -- of a new one: as soon as there is one
    whop_product_id text,
    period_days integer CHECK (period_days > 0), -- NULL: paid once
    trial_days integer CHECK (trial_days > 0),
    visibility text,
    -- What whop_plans gets, as in service/plans.h; NULL: as it is.
    plan_name text,
    pack_id text,
    credits_amount integer CHECK (credits_amount >= 0),
    price_cents bigint CHECK (price_cents >= 0),
    currency text,
    credits_when_free boolean,
    proration_rule text,
    state text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'done', 'refused', 'dropped')),
    answer text NOT NULL DEFAULT '',        -- why it was refused; or what is not as it was wished for
    purchase_url text,
    actor text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    ended_at timestamptz,
    UNIQUE (tenant_id, request_id),
    CHECK (kind = 'create' OR whop_plan_id IS NOT NULL),
    CHECK ((state = 'requested') = (ended_at IS NULL))
);
-- One at a time for a plan, and a pack is promised once.
CREATE UNIQUE INDEX whop_plan_requests_open ON whop_plan_requests (tenant_id, whop_plan_id)
    WHERE state = 'requested';
CREATE UNIQUE INDEX whop_plan_requests_pack ON whop_plan_requests (tenant_id, pack_id)
    WHERE state = 'requested' AND pack_id <> '';
