-- What a review of everything about money has found.

-- ---- the ledger

-- For replicas, too: their sessions leave out triggers that are not to be fired always.
ALTER TABLE credit_transactions ENABLE ALWAYS TRIGGER credit_transactions_append_only;
ALTER TABLE credit_transactions ENABLE ALWAYS TRIGGER credit_transactions_no_truncate;

-- Who and why is part of each row. Those there are already stay as they are.
ALTER TABLE credit_transactions ADD CONSTRAINT credit_transactions_told
    CHECK ('' NOT IN (actor, reason, source_type, source_id)) NOT VALID;
UPDATE credit_holds SET reason = 'none was given' WHERE reason = '' AND state = 'held'; -- they may be captured yet

CREATE OR REPLACE FUNCTION credits_spend(p_company text, p_user text, p_credits bigint, p_request_id text, p_reason text)
    RETURNS credits_answer
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_tenant bigint := credits_tenant(p_company);
    a credit_accounts;
    t credit_transactions;
BEGIN
    IF COALESCE(p_credits, 0) <= 0 OR '' IN (COALESCE(p_request_id, ''), COALESCE(p_reason, '')) THEN
        RETURN ('invalid', NULL)::credits_answer;
    END IF;
    SELECT * INTO a FROM credit_accounts
        WHERE tenant_id = v_tenant AND owner_type = 'whop_user' AND owner_id = p_user FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM credit_holds WHERE tenant_id = v_tenant AND request_id = p_request_id) THEN
        RETURN ('conflict', a.credits_balance - a.held)::credits_answer; -- a hold's: it is captured or released
    END IF;
    SELECT * INTO t FROM credit_transactions
        WHERE tenant_id = v_tenant AND source_type = 'request' AND source_id = p_request_id AND kind = 'usage';
    IF FOUND THEN
        RETURN (CASE WHEN t.account_id = a.id AND t.credits = -p_credits THEN 'repeated' ELSE 'conflict' END,
                a.credits_balance - a.held)::credits_answer;
    END IF;
    IF a.id IS NULL THEN
        RETURN ('insufficient', 0)::credits_answer;
    END IF;
    IF a.credits_balance - a.held < p_credits THEN
        RETURN ('insufficient', a.credits_balance - a.held)::credits_answer;
    END IF;
    IF NOT credits_post(a.id, -p_credits, 'usage', 'request', p_request_id, credits_spender(), p_reason) THEN
        RETURN ('conflict', a.credits_balance - a.held)::credits_answer; -- another account's, just now
    END IF;
    RETURN ('spent', a.credits_balance - a.held - p_credits)::credits_answer;
END $$;

CREATE OR REPLACE FUNCTION credits_hold(p_company text, p_user text, p_credits bigint, p_request_id text, p_reason text,
                             p_for interval DEFAULT '15 minutes') RETURNS credits_answer
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_tenant bigint := credits_tenant(p_company);
    a credit_accounts;
    h credit_holds;
BEGIN
    IF COALESCE(p_credits, 0) <= 0 OR '' IN (COALESCE(p_request_id, ''), COALESCE(p_reason, ''))
            OR COALESCE(p_for, '0') <= '0' THEN
        RETURN ('invalid', NULL)::credits_answer;
    END IF;
    SELECT * INTO a FROM credit_accounts
        WHERE tenant_id = v_tenant AND owner_type = 'whop_user' AND owner_id = p_user FOR NO KEY UPDATE;
    SELECT * INTO h FROM credit_holds WHERE tenant_id = v_tenant AND request_id = p_request_id;
    IF FOUND THEN
        -- One that has ended holds nothing, whoever asks for it again.
        RETURN (CASE WHEN h.account_id IS DISTINCT FROM a.id OR h.amount <> p_credits THEN 'conflict'
                     WHEN h.state = 'held' THEN 'repeated' ELSE h.state END,
                a.credits_balance - a.held)::credits_answer;
    END IF;
    IF EXISTS (SELECT FROM credit_transactions WHERE tenant_id = v_tenant AND source_type = 'request'
                   AND source_id = p_request_id AND kind = 'usage') THEN
        RETURN ('conflict', a.credits_balance - a.held)::credits_answer; -- spent already
    END IF;
    IF a.id IS NULL OR a.credits_balance - a.held < p_credits THEN
        RETURN ('insufficient', COALESCE(a.credits_balance - a.held, 0))::credits_answer;
    END IF;
    INSERT INTO credit_holds (tenant_id, account_id, request_id, amount, reason, expires_at)
        VALUES (v_tenant, a.id, p_request_id, p_credits, p_reason, whopline_now() + p_for)
        ON CONFLICT (tenant_id, request_id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN ('conflict', a.credits_balance - a.held)::credits_answer;
    END IF;
    UPDATE credit_accounts SET held = held + p_credits, updated_at = whopline_now() WHERE id = a.id;
    RETURN ('held', a.credits_balance - a.held - p_credits)::credits_answer;
END $$;

-- As 007 has it: nobody runs these but whom they are granted to, and those that run with the rights of
-- their owner look things up in one schema. CREATE OR REPLACE forgets the latter.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND (proname LIKE 'credits\_%' OR proname LIKE 'credit\_%')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        IF (SELECT prosecdef FROM pg_proc WHERE oid = f) THEN
            EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', f, current_schema());
        END IF;
    END LOOP;
END $$;
