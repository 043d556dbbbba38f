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

-- ---- what a payment is worth

ALTER TABLE payments ADD COLUMN refunded_at timestamptz; -- the sender's clock where it told of refunded

-- Whether a payment's newer word on what has gone back of it stands instead of the old one. It may be less:
-- a refund has failed after all. But the time of an event and that of what is read from Whop are not of one
-- clock: among words that are close to each other, more counts.
CREATE FUNCTION credits_word_counts(old numeric, old_at timestamptz, new numeric, new_at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN new IS NOT NULL AND (old IS NULL
        OR new_at > COALESCE(old_at, '-infinity') + CASE WHEN new > old THEN interval '-2 minutes'
                                                         WHEN new < old THEN interval '2 minutes' ELSE interval '0' END);

CREATE OR REPLACE FUNCTION credits_settle(p_tenants bigint[], p_payments text[], p_actor text)
    RETURNS TABLE (tenant_id bigint, whop_payment_id text, decision text, credits bigint, is_new boolean)
    LANGUAGE plpgsql
    -- A batch is a few rows of tables of any size: plans are made once, and by keys; one that was made
    -- while a table was small would read all of it later.
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
    SET enable_mergejoin = off
    AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
    v_open bigint[]; -- paid and not decided
    v_new bigint[];  -- decided now
    v_less bigint[]; -- granted, and something may be to be taken
    v_told bigint[]; -- in dispute
    p payments;
BEGIN
    SELECT array_agg(l.id), array_agg(l.id) FILTER (WHERE l.was_paid AND l.granted IS NULL) INTO v_ids, v_open FROM (
        SELECT q.id, q.was_paid, q.granted FROM payments q
        JOIN unnest(p_tenants, p_payments) AS w(t, x) ON q.tenant_id = w.t AND q.whop_payment_id = w.x
        ORDER BY q.tenant_id, q.whop_payment_id COLLATE "C" FOR NO KEY UPDATE OF q) l;
    IF v_open IS NOT NULL THEN
        v_open := v_open || credits_waiting(v_open);
        v_ids := v_ids || v_open;
    END IF;
    PERFORM credits_lock_orders(v_ids);
    IF v_open IS NOT NULL THEN
        v_new := credits_choose(v_open);
    END IF;
    SELECT array_agg(w.id) FILTER (WHERE w.granted > 0 AND (w.refunded > 0 OR w.refunded_odd <> '' OR w.has_refund
                                                            OR w.has_dispute OR w.has_less)),
           array_agg(w.id) FILTER (WHERE w.has_dispute)
        INTO v_less, v_told FROM (
        SELECT q.id, q.granted, q.refunded, q.refunded_odd,
               EXISTS (SELECT FROM refunds f
                       WHERE f.tenant_id = q.tenant_id AND f.whop_payment_id = q.whop_payment_id) AS has_refund,
               EXISTS (SELECT FROM disputes d
                       WHERE d.tenant_id = q.tenant_id AND d.whop_payment_id = q.whop_payment_id) AS has_dispute,
               -- Taken already, for what may be told otherwise now. Of a new one there can be nothing.
               CASE WHEN q.id = ANY (v_new) THEN false
                    ELSE EXISTS (SELECT FROM credit_transactions c WHERE c.tenant_id = q.tenant_id
                                 AND c.whop_payment_id = q.whop_payment_id AND c.kind = 'refund') END AS has_less
        FROM payments q WHERE q.id = ANY (v_ids)) w;
    PERFORM FROM credit_accounts a
        WHERE a.id IN (SELECT q.account_id FROM payments q WHERE q.id = ANY (v_new || v_less))
        ORDER BY a.id FOR NO KEY UPDATE;
    IF v_new IS NOT NULL THEN
        PERFORM credits_grant(v_new, p_actor);
    END IF;
    IF v_open IS NOT NULL THEN
        PERFORM credits_conclude(v_open, p_actor);
    END IF;
    FOR p IN SELECT q.* FROM payments q WHERE q.id = ANY (v_less) ORDER BY q.id LOOP
        PERFORM credits_correct(p, p_actor);
    END LOOP;
    IF v_told IS NOT NULL THEN
        INSERT INTO credit_notices (tenant_id, audience, kind, about, owner_id, detail)
            SELECT q.tenant_id, audience, 'dispute', d.whop_dispute_id, q.whop_user_id,
                   jsonb_build_object('payment', q.whop_payment_id, 'status', d.status)
            FROM payments q JOIN disputes d ON d.tenant_id = q.tenant_id AND d.whop_payment_id = q.whop_payment_id,
                 unnest('{user,admin}'::text[]) AS audience
            WHERE q.id = ANY (v_told)
            ON CONFLICT DO NOTHING;
    END IF;
    RETURN QUERY SELECT q.tenant_id, q.whop_payment_id,
            COALESCE(q.decision, CASE WHEN q.was_paid THEN 'undecided' ELSE 'not_paid' END), q.granted,
            COALESCE(q.id = ANY (v_new), false)
        FROM payments q WHERE q.id = ANY (v_ids);
END $$;

CREATE OR REPLACE FUNCTION credits_correct(p payments, p_actor text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    v_refunded numeric;
    v_word numeric;
    v_booked numeric;
    v_target bigint;
    v_taken bigint;
    v_held bigint;
    v_lost bigint;
    v_want_held bigint;
    v_want_lost bigint;
    v_n bigint;
    v_part bigint;
    d disputes;
    r refunds;
BEGIN
    PERFORM credits_review_refunds(p, p_actor);
    SELECT COALESCE(sum(f.amount), 0) INTO v_refunded FROM refunds f
        WHERE f.tenant_id = p.tenant_id AND f.whop_payment_id = p.whop_payment_id AND credits_counts(f, p);
    -- The payment's own word, but for what has turned out since not to have gone back.
    v_word := p.refunded - COALESCE((SELECT sum(f.amount) FROM refunds f
        WHERE f.tenant_id = p.tenant_id AND f.whop_payment_id = p.whop_payment_id AND f.status IN ('failed', 'canceled')
            AND f.version_at > p.refunded_at AND COALESCE(f.currency = p.currency, true)), 0);
    v_target := credits_refunded(p.granted, p.amount, greatest(v_refunded, COALESCE(v_word, 0)));
    -- The gravest of its disputes decides: lost before open; both take all that refunds leave.
    SELECT * INTO d FROM disputes
        WHERE tenant_id = p.tenant_id AND whop_payment_id = p.whop_payment_id
        ORDER BY phase = 'lost' DESC, phase = 'open' DESC, phase = 'won' DESC, version_at DESC, id LIMIT 1;
    v_want_lost := CASE WHEN d.phase = 'lost' THEN p.granted - v_target ELSE 0 END;
    v_want_held := CASE WHEN d.phase = 'open' THEN p.granted - v_target ELSE 0 END;
    SELECT COALESCE(-sum(credits) FILTER (WHERE kind IN ('refund', 'refund_reversal')), 0),
           COALESCE(-sum(credits) FILTER (WHERE kind IN ('dispute_hold', 'dispute_release')), 0),
           COALESCE(-sum(credits) FILTER (WHERE kind = 'dispute_loss'), 0),
           count(*)
        INTO v_taken, v_held, v_lost, v_n FROM credit_transactions
        WHERE tenant_id = p.tenant_id AND whop_payment_id = p.whop_payment_id;

    -- Every row's source is the refund or dispute it comes of; where that has one already (it was
    -- repeated, taken back or the like) with the number of the payment's rows, which only grows.
    IF v_held > v_want_held THEN
        v_n := v_n + credits_take(p, v_want_held - v_held, 'dispute_release', 'dispute', d.whop_dispute_id, v_n,
                                  p_actor, CASE d.phase WHEN 'won' THEN 'dispute won' WHEN 'lost' THEN 'dispute lost'
                                                WHEN 'warning' THEN 'only a warning'
                                                ELSE 'refunded while in dispute' END, d.event_id);
    END IF;
    IF v_lost > v_want_lost THEN
        v_n := v_n + credits_take(p, v_want_lost - v_lost, 'dispute_loss', 'dispute', d.whop_dispute_id, v_n, p_actor,
                                  'the loss is smaller', d.event_id);
    END IF;
    IF v_taken > v_target THEN
        v_n := v_n + credits_take(p, v_target - v_taken, 'refund_reversal', 'payment', p.whop_payment_id, v_n, p_actor,
                                  'a refund did not happen', p.event_id);
        v_taken := v_target;
    END IF;
    SELECT COALESCE(sum(f.amount), 0) INTO v_booked FROM refunds f
        WHERE f.tenant_id = p.tenant_id AND f.whop_payment_id = p.whop_payment_id AND credits_counts(f, p)
            AND EXISTS (SELECT FROM credit_transactions c WHERE c.tenant_id = p.tenant_id AND c.kind = 'refund'
                        AND c.source_type = 'refund' AND c.source_id = f.whop_refund_id);
    FOR r IN SELECT f.* FROM refunds f
        WHERE f.tenant_id = p.tenant_id AND f.whop_payment_id = p.whop_payment_id AND credits_counts(f, p)
            AND NOT EXISTS (SELECT FROM credit_transactions c WHERE c.tenant_id = p.tenant_id AND c.kind = 'refund'
                            AND c.source_type = 'refund' AND c.source_id = f.whop_refund_id)
        ORDER BY f.version_at, f.whop_refund_id
    LOOP
        v_booked := v_booked + COALESCE(r.amount, 0);
        v_part := least(credits_refunded(p.granted, p.amount, v_booked), v_target) - v_taken;
        IF v_part > 0 THEN
            v_n := v_n + credits_take(p, v_part, 'refund', 'refund', r.whop_refund_id, v_n, p_actor,
                                      'refund of ' || COALESCE(r.amount_text, 'the payment'), r.event_id);
            v_taken := v_taken + v_part;
        END IF;
    END LOOP;
    IF v_target > v_taken THEN -- the payment tells of more than the refunds we know
        v_n := v_n + credits_take(p, v_target - v_taken, 'refund', 'payment', p.whop_payment_id, v_n, p_actor,
                                  'refunded, as the payment says', p.event_id);
    END IF;
    IF v_want_held > v_held THEN
        v_n := v_n + credits_take(p, v_want_held - v_held, 'dispute_hold', 'dispute', d.whop_dispute_id, v_n, p_actor,
                                  'dispute opened', d.event_id);
    END IF;
    IF v_want_lost > v_lost THEN
        v_n := v_n + credits_take(p, v_want_lost - v_lost, 'dispute_loss', 'dispute', d.whop_dispute_id, v_n, p_actor,
                                  'dispute lost', d.event_id);
    END IF;
    PERFORM credits_move_order(p, NULLIF(d.phase, 'warning'), v_target, p_actor);
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
