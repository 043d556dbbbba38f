-- Disputes in reconciliation, and the warnings before them.

ALTER TABLE reconcile_runs
    DROP CONSTRAINT reconcile_runs_kind_check,
    ADD CONSTRAINT reconcile_runs_kind_check CHECK (kind IN ('recent', 'window', 'by_hand', 'disputes'));

ALTER TABLE credit_notices
    DROP CONSTRAINT credit_notices_kind_check,
    ADD CONSTRAINT credit_notices_kind_check
        CHECK (kind IN ('payment_failed', 'dispute', 'review', 'dispute_alert'));

-- Alerts are about themselves; who looks at a payment finds them by it.
CREATE INDEX credit_notices_alerts ON credit_notices (tenant_id, (detail->>'payment')) WHERE kind = 'dispute_alert';

ALTER TABLE disputes
    ADD COLUMN read_at timestamptz,         -- Whop's books have said the same as this row since
    ADD COLUMN asked_at timestamptz;        -- a job was made to ask about it alone
-- What may still change, to be asked about.
CREATE INDEX disputes_undecided ON disputes (tenant_id, asked_at)
    WHERE phase IN ('warning', 'open') AND status <> 'warning_closed';

-- The version of the payment for which the disputes have been read.
ALTER TABLE payments ADD COLUMN disputes_read timestamptz;
CREATE INDEX payments_disputed ON payments (tenant_id) WHERE substatus ~ '^(dispute_|open_dispute$)';

-- Payments that are in dispute by their own account, while no dispute that says so is known here; the
-- moment from which theirs must have been made. Each is one until the disputes have been read for it,
-- and again when it changes: nothing says that Whop lists a dispute for each of them.
CREATE FUNCTION credits_unexplained(p_tenant bigint) RETURNS TABLE (id bigint, updated_at timestamptz, since timestamptz)
    LANGUAGE sql STABLE AS $$
    SELECT p.id, p.updated_at,
           -- Card networks take disputes for 120 days, some for 180.
           COALESCE(p.paid_at - interval '10 minutes', p.version_at - interval '180 days')
    FROM payments p
    WHERE p.tenant_id = p_tenant AND p.substatus ~ '^(dispute_|open_dispute$)'
        AND p.disputes_read IS DISTINCT FROM p.version_at
        AND NOT EXISTS (
            SELECT FROM disputes d WHERE d.tenant_id = p.tenant_id AND d.whop_payment_id = p.whop_payment_id
                AND d.phase = CASE WHEN p.substatus IN ('dispute_won', 'dispute_closed') THEN 'won'
                                   WHEN p.substatus = 'dispute_lost' THEN 'lost'
                                   WHEN p.substatus LIKE 'dispute\_warning%' THEN 'warning'
                                   ELSE 'open' END)
$$;

-- All pages have been read. Rows that somebody holds are left for the next run: to wait for them here
-- would be against the order of locks.
CREATE FUNCTION reconcile_end_disputes(p_run bigint) RETURNS void
    LANGUAGE sql AS $$
    UPDATE payments SET disputes_read = version_at WHERE id IN (
        SELECT p.id FROM reconcile_runs r, credits_unexplained(r.tenant_id) u JOIN payments p USING (id)
        WHERE r.id = p_run AND u.updated_at <= r.started_at
        FOR NO KEY UPDATE OF p SKIP LOCKED)
$$;

-- Begins one, if none runs. Of payments it reads what has changed: its window overlaps the latest good
-- one's by ten minutes. Disputes are listed by when they were made only. They are few, so that three
-- days are read each time; all there can be the first time, and whatever a payment tells of.
CREATE OR REPLACE FUNCTION reconcile_begin(p_tenant bigint, p_kind text, p_after timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    v_after timestamptz := p_after;
    v_id bigint;
BEGIN
    UPDATE reconcile_runs SET status = 'failed', error = 'left behind', finished_at = whopline_now()
        WHERE tenant_id = p_tenant AND kind = p_kind AND status = 'running'
            AND started_at < whopline_now() - interval '1 hour';
    IF v_after IS NULL AND p_kind IN ('recent', 'disputes') THEN
        SELECT started_at - CASE p_kind WHEN 'recent' THEN interval '10 minutes' ELSE interval '72 hours' END
            INTO v_after FROM reconcile_runs
            WHERE tenant_id = p_tenant AND kind = p_kind AND status = 'success' ORDER BY started_at DESC LIMIT 1;
    END IF;
    IF p_kind = 'disputes' THEN
        IF v_after IS NULL THEN
            SELECT least(created_at, whopline_now() - interval '72 hours') INTO v_after FROM tenants WHERE id = p_tenant;
        END IF;
        v_after := least(v_after, (SELECT min(since) FROM credits_unexplained(p_tenant)));
    END IF;
    v_after := COALESCE(v_after, whopline_now() - interval '72 hours');
    INSERT INTO reconcile_runs (tenant_id, kind, updated_after) VALUES (p_tenant, p_kind, v_after)
        ON CONFLICT (tenant_id, kind) WHERE status = 'running' DO NOTHING RETURNING id INTO v_id;
    RETURN v_id;
END $$;

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
            AND proname IN ('credits_unexplained', 'reconcile_end_disputes', 'reconcile_begin')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', f, current_schema());
    END LOOP;
END $$;
