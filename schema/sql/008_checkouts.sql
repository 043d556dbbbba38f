-- Orders that are paid at Whop: their checkouts and refunds, their expiry; and reconciliation, which
-- finds what no event told of.

-- What has been asked of Whop for an order, for whoever looks at it later.
CREATE TABLE credit_refund_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    order_id uuid NOT NULL REFERENCES credit_orders,
    request_id text NOT NULL,               -- the operator's: the same one asks once
    amount numeric(18, 6) CHECK (amount > 0), -- NULL: all that is left
    whop_payment_id text NOT NULL,
    state text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'sent', 'refused')),
    answer text,                            -- why it was refused
    actor text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    ended_at timestamptz,
    UNIQUE (tenant_id, request_id)
);
-- One at a time, so that a refund that is found is known to be this one's.
CREATE UNIQUE INDEX credit_refund_requests_open ON credit_refund_requests (tenant_id, whop_payment_id)
    WHERE state = 'requested';
CREATE INDEX credit_refund_requests_order ON credit_refund_requests (order_id, id);

-- Whether an order of this account may be paid at Whop.
CREATE FUNCTION credits_whop_payments(p_tenant bigint, p_owner text) RETURNS boolean LANGUAGE sql STABLE
    RETURN COALESCE((SELECT s.whop_payments = 'on' OR (s.whop_payments = 'listed' AND p_owner = ANY (s.whop_users))
                     FROM credit_settings s WHERE s.tenant_id = p_tenant), true);

CREATE FUNCTION credits_order_ttl(p_tenant bigint) RETURNS interval LANGUAGE sql STABLE
    RETURN COALESCE((SELECT s.order_ttl FROM credit_settings s WHERE s.tenant_id = p_tenant), interval '24 hours');

-- Orders nobody has paid in time; how many. A late payment finds them all the same.
CREATE FUNCTION credit_orders_expire(p_most integer) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid;
    v_count bigint := 0;
BEGIN
    FOR v_id IN SELECT id FROM credit_orders
        WHERE state IN ('created', 'checkout_open', 'failed') AND expires_at <= whopline_now()
        ORDER BY id LIMIT p_most FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        PERFORM credit_orders_move(v_id, 'expired', NULL, 'whopline', 'not paid in time');
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;

-- A checkout has been made: the buyer may pay. An order that has moved on meanwhile (it was
-- cancelled, or paid already) keeps its state and learns the address.
CREATE FUNCTION credit_orders_open(p_order uuid, p_checkout text, p_url text, p_plan text, p_actor text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    o credit_orders;
BEGIN
    SELECT * INTO STRICT o FROM credit_orders WHERE id = p_order FOR NO KEY UPDATE;
    UPDATE credit_orders SET whop_checkout_id = COALESCE(whop_checkout_id, p_checkout), purchase_url = p_url,
        whop_plan_id = COALESCE(whop_plan_id, NULLIF(p_plan, '')), updated_at = whopline_now() WHERE id = p_order;
    IF o.state = 'created' THEN
        PERFORM credit_orders_move(p_order, 'checkout_open', NULL, p_actor, 'checkout ' || p_checkout);
    END IF;
    RETURN (SELECT state FROM credit_orders WHERE id = p_order);
END $$;

-- One look at Whop's books, page by page.
CREATE TABLE reconcile_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    kind text NOT NULL CHECK (kind IN ('recent', 'window', 'by_hand')),
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'success', 'failed')),
    updated_after timestamptz NOT NULL,
    next_page integer NOT NULL DEFAULT 0,   -- the page whose turn it is: a page is taken once
    fetched bigint NOT NULL DEFAULT 0,
    unknown bigint NOT NULL DEFAULT 0,      -- payments no event had told of
    credited bigint NOT NULL DEFAULT 0,     -- grants nobody had made
    error text,
    started_at timestamptz NOT NULL DEFAULT whopline_now(),
    finished_at timestamptz,
    CHECK ((status = 'running') = (finished_at IS NULL))
);
-- One of a kind at a time; one that was left behind is taken over after an hour.
CREATE UNIQUE INDEX reconcile_runs_running ON reconcile_runs (tenant_id, kind) WHERE status = 'running';
CREATE INDEX reconcile_runs_latest ON reconcile_runs (tenant_id, kind, started_at DESC);

-- Begins one, if none runs. Its window overlaps the latest good one's by ten minutes.
CREATE FUNCTION reconcile_begin(p_tenant bigint, p_kind text, p_after timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    v_after timestamptz := p_after;
    v_id bigint;
BEGIN
    UPDATE reconcile_runs SET status = 'failed', error = 'left behind', finished_at = whopline_now()
        WHERE tenant_id = p_tenant AND kind = p_kind AND status = 'running'
            AND started_at < whopline_now() - interval '1 hour';
    IF v_after IS NULL AND p_kind = 'recent' THEN
        SELECT started_at - interval '10 minutes' INTO v_after FROM reconcile_runs
            WHERE tenant_id = p_tenant AND kind = 'recent' AND status = 'success' ORDER BY started_at DESC LIMIT 1;
    END IF;
    v_after := COALESCE(v_after, whopline_now() - interval '72 hours');
    INSERT INTO reconcile_runs (tenant_id, kind, updated_after) VALUES (p_tenant, p_kind, v_after)
        ON CONFLICT (tenant_id, kind) WHERE status = 'running' DO NOTHING RETURNING id INTO v_id;
    RETURN v_id;
END $$;

-- What books and ledger do not agree about, as far as we know both.
CREATE VIEW credit_drift AS
SELECT p.tenant_id, 'paid_without_credit' AS drift, p.whop_payment_id, COALESCE(p.decision, 'undecided') AS why, p.paid_at
FROM payments p
WHERE p.was_paid AND p.granted IS NULL
UNION ALL
SELECT p.tenant_id, 'credited_without_payment', p.whop_payment_id, 'the payment was never told to be paid', p.paid_at
FROM payments p
WHERE NOT p.was_paid AND p.granted > 0
UNION ALL
SELECT t.tenant_id, 'credited_without_payment', t.whop_payment_id, 'no such payment is known', t.created_at
FROM credit_transactions t
WHERE t.kind = 'topup' AND t.source_type = 'payment'
    AND NOT EXISTS (SELECT FROM payments p WHERE p.tenant_id = t.tenant_id AND p.whop_payment_id = t.source_id);

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
            AND (proname LIKE 'credits\_%' OR proname LIKE 'credit\_%' OR proname LIKE 'reconcile\_%')
            AND proconfig IS NULL
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', f, current_schema());
    END LOOP;
END $$;
