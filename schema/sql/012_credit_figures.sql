-- What metrics tell of credits: what a settlement has done, and how things stand, at a price that does
-- not grow with the tables.

-- ---- what a settlement has done

CREATE TYPE credits_settled AS (tenant_id bigint, whop_payment_id text, decision text, credits bigint, is_new boolean);

-- credits_settle, and what it has booked. A row with a place answers for the payment in that place of
-- the question (is_new for the first only, where one is asked for twice); rows without one tell of
-- payments that were decided along with these, and, with a kind, of rows of the ledger that take
-- credits or give some back. late_us: from the payment to now, of what was granted now and by rule.
CREATE FUNCTION credits_settle_told(p_tenants bigint[], p_payments text[], p_actor text)
    RETURNS TABLE (place bigint, decision text, credits bigint, is_new boolean, late_us bigint, kind text)
    LANGUAGE plpgsql
    -- As credits_settle, and for its reasons; but its own join is one by hashing. The tables are read
    -- row by row as OFFSET 0 wants it.
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    AS $$
#variable_conflict use_column
DECLARE
    v_settled credits_settled[] := ARRAY(SELECT ROW(s.*)::credits_settled
                                         FROM credits_settle(p_tenants, p_payments, p_actor) s);
    v_own xid := pg_current_xact_id()::xid;
BEGIN
    RETURN QUERY
        SELECT a.place, COALESCE(s.decision, 'not_paid'), s.credits,
               COALESCE(s.is_new, false) AND COALESCE(a.turn, 1) = 1,
               (SELECT (extract(epoch FROM whopline_now() - p.paid_at) * 1000000)::bigint FROM payments p
                WHERE s.is_new AND s.credits > 0 AND p.tenant_id = s.tenant_id
                    AND p.whop_payment_id = s.whop_payment_id AND p.assigned_to IS NULL),
               NULL
        FROM unnest(v_settled) s
        FULL JOIN (SELECT w.t, w.x, w.place, row_number() OVER (PARTITION BY w.t, w.x ORDER BY w.place) AS turn
                   FROM unnest(p_tenants, p_payments) WITH ORDINALITY AS w(t, x, place)) a
            ON s.tenant_id = a.t AND s.whop_payment_id = a.x;
    RETURN QUERY
        SELECT NULL::bigint, NULL, t.credits, false, NULL::bigint, t.kind
        FROM unnest(v_settled) s
        CROSS JOIN LATERAL (SELECT c.credits, c.kind FROM credit_transactions c
                            WHERE c.tenant_id = s.tenant_id AND c.whop_payment_id = s.whop_payment_id
                                AND c.xmin = v_own AND c.kind <> 'topup' OFFSET 0) t;
END $$;
REVOKE ALL ON FUNCTION credits_settle_told FROM PUBLIC;

-- ---- how things stand

-- Accounts that owe: below zero, or with debt (policy clamp). Kept beside them, and not as an index of
-- them: balances would be in it, and no change of one could stay on its page any more (HOT).
CREATE TABLE credit_accounts_owing (
    account_id bigint PRIMARY KEY REFERENCES credit_accounts
);
INSERT INTO credit_accounts_owing SELECT id FROM credit_accounts WHERE credits_balance - debt < 0;

CREATE FUNCTION credit_accounts_note_owing() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.credits_balance - NEW.debt < 0 THEN
        INSERT INTO credit_accounts_owing VALUES (NEW.id) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM credit_accounts_owing WHERE account_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION credit_accounts_note_owing FROM PUBLIC;
CREATE TRIGGER credit_accounts_owing_new AFTER INSERT ON credit_accounts
    FOR EACH ROW WHEN (NEW.credits_balance - NEW.debt < 0) EXECUTE FUNCTION credit_accounts_note_owing();
CREATE TRIGGER credit_accounts_owing_changed AFTER UPDATE OF credits_balance, debt ON credit_accounts
    FOR EACH ROW WHEN ((OLD.credits_balance - OLD.debt < 0) <> (NEW.credits_balance - NEW.debt < 0))
    EXECUTE FUNCTION credit_accounts_note_owing();

-- What the nightly look at all books has found, for whoever cannot look at all of them each minute.
CREATE TABLE credit_proofs (
    drift text PRIMARY KEY,
    found bigint NOT NULL,
    looked_at timestamptz NOT NULL DEFAULT whopline_now()
);

-- The last day's.
CREATE INDEX credit_orders_created ON credit_orders (created_at);
CREATE INDEX credit_notices_created ON credit_notices (created_at);
