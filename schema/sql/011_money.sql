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

CREATE OR REPLACE FUNCTION credits_decide(p_ids bigint[]) RETURNS SETOF credits_decision
    LANGUAGE sql STABLE AS $$
    WITH known AS (
        SELECT p.*, o.id AS o_id, o.state AS o_state, o.account_id AS o_account, o.own_price, o.credits_amount,
               o.plan_id AS o_plan, o.price AS o_price,
               -- Agreed for this price, not for whatever payment names the order.
               COALESCE(p.amount < o.price, true) OR p.currency IS DISTINCT FROM lower(o.currency) AS other_price,
               -- Credited by hand: this may be the money for that, or a further purchase. Asked once of an
               -- order; renewals are none of its.
               o.whop_payment_id IS NULL
                   AND o.state IN ('credited', 'partially_refunded', 'refunded', 'disputed', 'reversed')
                   AND COALESCE(p.billing_reason NOT IN ('subscription_cycle', 'subscription_update'), true)
                   AND NOT EXISTS (SELECT FROM payments q
                                   WHERE q.order_id = o.id AND q.id <> p.id AND q.granted IS NOT NULL) AS by_hand,
               -- An order at a price of nothing is for one payment of nothing, however often its address is opened.
               o.own_price AND p.amount = 0 AND (o.whop_payment_id <> p.whop_payment_id OR row_number() OVER (
                   PARTITION BY o.id, p.amount = 0 ORDER BY p.paid_at, p.whop_payment_id) > 1) AS gift_again,
               COALESCE(p.paid_at, p.version_at) AS moment,
               plan.id AS plan, plan.credits_amount AS plan_credits, plan.credits_when_free, plan.proration_rule,
               COALESCE(p.billing_reason = 'subscription_update' AND plan.proration_rule = 'difference', false) AS prorates,
               COALESCE(s.credits_enabled, true) AS enabled,
               COALESCE(p.assigned_to, NULLIF(p.whop_user_id, ''),
                        CASE WHEN s.email_match AND mail.hits = 1 THEN mail.owner END) AS found_owner
        FROM payments p
        LEFT JOIN credit_settings s ON s.tenant_id = p.tenant_id
        LEFT JOIN LATERAL (
            SELECT o.* FROM credit_orders o WHERE o.tenant_id = p.tenant_id
                AND (o.id = credits_uuid(p.order_ref) OR o.whop_checkout_id = p.whop_checkout_id)
            ORDER BY o.id = credits_uuid(p.order_ref) DESC LIMIT 1) o ON true
        LEFT JOIN LATERAL (
            SELECT w.* FROM whop_plans w WHERE w.tenant_id = p.tenant_id
                AND (w.whop_plan_id = p.whop_plan_id OR w.pack_id = p.pack_id)
                AND w.valid_from <= COALESCE(p.paid_at, p.version_at) AND COALESCE(p.paid_at, p.version_at) < w.valid_to
            ORDER BY COALESCE(w.whop_plan_id = p.whop_plan_id, false) DESC, w.valid_from DESC LIMIT 1) plan ON true
        LEFT JOIN LATERAL (
            SELECT count(*) AS hits, min(a.owner_id) AS owner FROM credit_accounts a
            WHERE a.tenant_id = p.tenant_id AND a.email_norm = p.email_norm) mail ON true
        WHERE p.id = ANY (p_ids)
    ), worth AS MATERIALIZED ( -- or its subqueries would be asked for each place that uses them
        SELECT k.*,
               CASE WHEN k.assigned_credits IS NOT NULL THEN k.assigned_credits
                    WHEN k.own_price AND k.assigned_to IS NULL THEN k.credits_amount
                    ELSE k.plan_credits END AS full_credits,
               CASE WHEN k.prorates THEN (
                SELECT w.credits_amount FROM payments q JOIN whop_plans w ON w.id = q.plan_id
                WHERE q.tenant_id = k.tenant_id AND q.whop_membership_id = k.whop_membership_id AND q.granted > 0
                    AND (COALESCE(q.paid_at, q.version_at), q.whop_payment_id COLLATE "C")
                        < (k.moment, k.whop_payment_id COLLATE "C")
                ORDER BY COALESCE(q.paid_at, q.version_at) DESC, q.whop_payment_id COLLATE "C" DESC
                LIMIT 1) END AS before_credits,
               -- The difference to what is not decided yet is not known yet.
               k.prorates AND EXISTS (SELECT FROM payments q
                WHERE q.tenant_id = k.tenant_id AND q.whop_membership_id = k.whop_membership_id AND q.was_paid
                    AND q.granted IS NULL AND COALESCE(q.decision, 'proration') = 'proration'
                    AND (COALESCE(q.paid_at, q.version_at), q.whop_payment_id COLLATE "C")
                        < (k.moment, k.whop_payment_id COLLATE "C")) AS must_wait
        FROM known k
    ), said AS (
        SELECT w.*,
               CASE WHEN NOT w.enabled AND w.assigned_to IS NULL THEN 'credits_off'
                    WHEN w.o_state = 'cancelled' AND w.assigned_to IS NULL THEN 'order_cancelled'
                    WHEN w.full_credits IS NULL THEN 'unknown_plan'
                    WHEN w.o_id IS NULL AND w.found_owner IS NULL THEN 'unknown_user'
                    WHEN w.assigned_credits IS NOT NULL THEN 'granted'
                    WHEN w.amount_text IS NOT NULL AND w.amount IS NULL THEN 'odd_amount'
                    WHEN w.own_price AND w.other_price AND w.assigned_to IS NULL THEN 'other_price'
                    WHEN w.full_credits = 0 THEN 'sells_no_credits'
                    WHEN w.amount = 0 AND NOT COALESCE(w.credits_when_free, false) AND NOT COALESCE(w.own_price AND w.o_price = 0, false)
                        THEN 'free_payment'
                    WHEN w.billing_reason = 'subscription_update' AND w.proration_rule = 'none' THEN 'proration_none'
                    WHEN w.prorates AND (w.before_credits IS NULL OR w.must_wait) THEN 'proration'
                    WHEN w.prorates AND w.full_credits <= w.before_credits THEN 'proration_none'
                    WHEN w.billing_reason = 'subscription_update' AND w.proration_rule IS NULL AND w.assigned_to IS NULL
                        THEN 'proration'
                    WHEN (w.by_hand OR w.gift_again) AND w.assigned_to IS NULL THEN 'order_credited'
                    ELSE 'granted' END AS verdict
        FROM worth w
    )
    SELECT s.id, s.verdict,
           CASE WHEN s.verdict = 'granted' THEN
                    CASE WHEN s.prorates AND s.assigned_credits IS NULL THEN s.full_credits - s.before_credits
                         ELSE s.full_credits END
                WHEN s.verdict IN ('credits_off', 'sells_no_credits', 'free_payment', 'proration_none') THEN 0 END,
           CASE WHEN s.assigned_to IS NOT NULL THEN s.assigned_to WHEN s.o_id IS NULL THEN s.found_owner END,
           s.o_id, CASE WHEN s.assigned_to IS NULL THEN s.o_account END, s.plan,
           NULLIF(concat_ws(' ',
               CASE WHEN s.credits_claimed <> '' AND s.credits_claimed <> s.full_credits::text THEN 'metadata_mismatch' END,
               CASE WHEN s.o_plan <> s.plan THEN 'other_plan_than_ordered' END), '')
    FROM said s
$$;

-- Changes of plan in mid-period, by whose they are.
CREATE INDEX payments_changes ON payments (tenant_id, whop_membership_id) WHERE billing_reason = 'subscription_update';

-- Those of the memberships that these payments may change, decided already; locked. A membership is
-- settled by one at a time (credits_waiting). Nothing waits for these rows: who holds one comes here, too,
-- and works out again what it is worth.
CREATE FUNCTION credits_changes(p_ids bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(m.key) FROM (
        SELECT DISTINCT hashtextextended(q.tenant_id || ' ' || q.whop_membership_id, 0) AS key FROM payments q
        WHERE q.id = ANY (p_ids) AND EXISTS (
            SELECT FROM whop_plans w WHERE w.tenant_id = q.tenant_id AND w.proration_rule = 'difference')
            AND q.whop_membership_id IS NOT NULL AND q.was_paid
            AND (q.granted IS NULL OR q.billing_reason = 'subscription_update')
        ORDER BY 1) m;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT array_agg(l.id) FROM (
        SELECT q.id FROM payments q WHERE q.billing_reason = 'subscription_update' AND q.granted IS NOT NULL
            AND (q.tenant_id, q.whop_membership_id) IN (
                SELECT n.tenant_id, n.whop_membership_id FROM payments n WHERE n.id = ANY (p_ids))
        FOR NO KEY UPDATE OF q SKIP LOCKED) l);
END $$;

-- Changes of plan that are worth another difference since more is known of their membership: that is
-- written down; ids of those that differ. What the ledger lacks of it is credits_regrant's.
CREATE FUNCTION credits_revise(p_changes bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql AS $$
DECLARE
    v_changed bigint[];
    v_want bigint;
    v_account bigint;
    l record;
BEGIN
    -- One after the other: what the first is worth decides whether it is the one before the second.
    FOR l IN SELECT q.id, q.tenant_id, q.whop_membership_id, q.whop_payment_id, q.granted, w.credits_amount,
                    COALESCE(q.paid_at, q.version_at) AS moment
        FROM payments q JOIN whop_plans w ON w.id = q.plan_id AND w.proration_rule = 'difference'
        WHERE q.id = ANY (p_changes) AND q.decision IN ('granted', 'proration_none') AND q.assigned_credits IS NULL
        ORDER BY moment, q.whop_payment_id COLLATE "C"
    LOOP
        SELECT greatest(l.credits_amount - w.credits_amount, 0), q.account_id INTO v_want, v_account
            FROM payments q JOIN whop_plans w ON w.id = q.plan_id
            WHERE q.tenant_id = l.tenant_id AND q.whop_membership_id = l.whop_membership_id AND q.granted > 0
                AND (COALESCE(q.paid_at, q.version_at), q.whop_payment_id COLLATE "C")
                    < (l.moment, l.whop_payment_id COLLATE "C")
            ORDER BY COALESCE(q.paid_at, q.version_at) DESC, q.whop_payment_id COLLATE "C" DESC LIMIT 1;
        IF v_want <> l.granted THEN
            UPDATE payments SET granted = v_want, account_id = COALESCE(account_id, v_account),
                decision = CASE WHEN v_want > 0 THEN 'granted' ELSE 'proration_none' END WHERE id = l.id;
            v_changed := v_changed || l.id;
        END IF;
    END LOOP;
    RETURN v_changed;
END $$;

-- What the ledger's rows of these payments lack of their worth, or have too much.
CREATE FUNCTION credits_regrant(p_ids bigint[], p_actor text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    p payments;
    v_there bigint;
    v_rows bigint;
BEGIN
    FOR p IN SELECT q.* FROM payments q WHERE q.id = ANY (p_ids) ORDER BY q.id LOOP
        SELECT sum(credits) FILTER (WHERE kind IN ('topup', 'adjust')), count(*) INTO v_there, v_rows
            FROM credit_transactions WHERE tenant_id = p.tenant_id AND whop_payment_id = p.whop_payment_id;
        IF p.granted <> COALESCE(v_there, 0) THEN
            PERFORM credits_take(p, COALESCE(v_there, 0) - p.granted,
                CASE WHEN v_there IS NULL THEN 'topup' ELSE 'adjust' END, 'payment', p.whop_payment_id, v_rows, p_actor,
                'a change of plan before it became known', p.event_id);
        END IF;
    END LOOP;
END $$;

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
    v_changes bigint[]; -- of plans, that may be worth something else now
    v_later bigint[]; -- those that are
    v_less bigint[]; -- granted, and something may be to be taken
    v_told bigint[]; -- in dispute
    p payments;
BEGIN
    SELECT array_agg(l.id), array_agg(l.id) FILTER (WHERE l.was_paid AND l.granted IS NULL) INTO v_ids, v_open FROM (
        SELECT q.id, q.was_paid, q.granted FROM payments q
        JOIN unnest(p_tenants, p_payments) AS w(t, x) ON q.tenant_id = w.t AND q.whop_payment_id = w.x
        ORDER BY q.tenant_id, q.whop_payment_id COLLATE "C" FOR NO KEY UPDATE OF q) l;
    v_changes := credits_changes(v_ids);
    IF v_open IS NOT NULL THEN
        v_open := v_open || credits_waiting(v_open);
        v_ids := v_ids || v_open;
    END IF;
    v_ids := v_ids || v_changes;
    PERFORM credits_lock_orders(v_ids);
    IF v_open IS NOT NULL THEN
        v_new := credits_choose(v_open);
    END IF;
    IF v_changes IS NOT NULL THEN
        v_later := credits_revise(v_changes);
    END IF;
    SELECT array_agg(w.id) FILTER (WHERE w.id = ANY (v_later)
                                       OR (w.granted > 0 AND (w.refunded > 0 OR w.refunded_odd <> '' OR w.has_refund
                                                              OR w.has_dispute OR w.has_less))),
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
    IF v_later IS NOT NULL THEN
        PERFORM credits_regrant(v_later, p_actor);
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

-- ---- orders and the review list

CREATE OR REPLACE FUNCTION credits_conclude(p_ids bigint[], p_actor text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    p payments;
BEGIN
    FOR p IN SELECT q.* FROM payments q JOIN credit_orders o ON o.id = q.order_id
        WHERE q.id = ANY (p_ids) AND q.granted > 0 AND q.assigned_to IS NULL
            -- One that has been credited by hand stays as it is.
            AND o.completed_at IS NULL AND COALESCE(o.whop_payment_id = q.whop_payment_id, true)
        ORDER BY q.id
    LOOP
        UPDATE credit_orders SET whop_payment_id = p.whop_payment_id, paid_at = COALESCE(p.paid_at, p.version_at),
            completed_at = whopline_now(), completed_by = p_actor
            WHERE id = p.order_id AND completed_at IS NULL;
        IF FOUND THEN -- two payments of one batch: the first is the order's
            PERFORM credit_orders_move(p.order_id, 'paid', 'paid', p_actor, 'paid by ' || p.whop_payment_id, p.event_id);
            PERFORM credit_orders_move(p.order_id, 'credited', 'paid', p_actor, p.granted || ' credits', p.event_id);
        END IF;
    END LOOP;
    WITH listed AS (
        INSERT INTO credit_review AS old (tenant_id, whop_payment_id, reason, event_id)
            SELECT q.tenant_id, q.whop_payment_id, q.decision, q.event_id FROM payments q
            WHERE q.id = ANY (p_ids) AND q.granted IS NULL AND q.decision IS NOT NULL ORDER BY 1, 2
            ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE SET reason = EXCLUDED.reason, event_id = EXCLUDED.event_id,
                -- What was put aside as not paid is undecided again once it is.
                state = 'open', handled_by = NULL, handled_at = NULL
                WHERE (old.state, old.reason) <> ('open', EXCLUDED.reason)
            RETURNING tenant_id, whop_payment_id, reason)
    INSERT INTO credit_notices (tenant_id, audience, kind, about, detail)
        SELECT tenant_id, 'admin', 'review', whop_payment_id, jsonb_build_object('reason', reason) FROM listed
        ON CONFLICT DO NOTHING;
    UPDATE credit_review r SET state = 'assigned', handled_by = p_actor, handled_at = whopline_now()
        FROM payments q WHERE q.id = ANY (p_ids) AND q.granted IS NOT NULL AND r.tenant_id = q.tenant_id
            AND r.whop_payment_id = q.whop_payment_id AND r.state = 'open';
END $$;

-- Nobody gets credits for it: that is decided then, also for reconciliation. A refund that nobody could
-- measure is put aside, the payment stays as it was decided. One of an order that was credited by hand is
-- the money for that: its refunds and disputes take back what was given.
CREATE OR REPLACE FUNCTION credits_review_dismiss(p_tenant bigint, p_payment text, p_actor text, p_note text)
    RETURNS credits_deed
    LANGUAGE plpgsql AS $$
DECLARE
    p payments;
    o credit_orders;
    v_reason text;
BEGIN
    SELECT * INTO p FROM payments WHERE tenant_id = p_tenant AND whop_payment_id = p_payment FOR NO KEY UPDATE;
    UPDATE credit_review SET state = 'dismissed', handled_by = p_actor, handled_at = whopline_now(), note = p_note
        WHERE tenant_id = p_tenant AND whop_payment_id = p_payment AND state = 'open'
            AND (p.granted IS NULL OR reason = 'odd_refund') RETURNING reason INTO v_reason;
    IF NOT FOUND THEN
        RETURN credits_review_tell(p_tenant, p_payment, 'not_open');
    END IF;
    IF v_reason = 'order_credited' THEN
        UPDATE credit_orders SET whop_payment_id = p_payment WHERE id = p.order_id AND whop_payment_id IS NULL
            RETURNING * INTO o;
    END IF;
    IF o.id IS NULL THEN
        UPDATE payments SET granted = 0, decision = 'dismissed' WHERE id = p.id AND was_paid AND granted IS NULL;
    ELSE
        UPDATE payments SET granted = o.credits_amount, decision = 'credited_by_hand', account_id = o.account_id
            WHERE id = p.id;
        PERFORM credits_settle(ARRAY[p_tenant], ARRAY[p_payment], p_actor);
    END IF;
    RETURN credits_review_tell(p_tenant, p_payment, 'dismissed');
END $$;

CREATE OR REPLACE FUNCTION credits_review_reopen(p_tenant bigint, p_payment text, p_actor text, p_note text)
    RETURNS credits_deed
    LANGUAGE plpgsql AS $$
DECLARE
    p payments;
BEGIN
    SELECT * INTO p FROM payments WHERE tenant_id = p_tenant AND whop_payment_id = p_payment FOR NO KEY UPDATE;
    UPDATE credit_review SET state = 'open', handled_by = NULL, handled_at = NULL, note = p_note
        WHERE tenant_id = p_tenant AND whop_payment_id = p_payment AND state = 'dismissed';
    IF NOT FOUND THEN
        RETURN credits_review_tell(p_tenant, p_payment, 'not_dismissed');
    END IF;
    UPDATE credit_orders SET whop_payment_id = NULL
        WHERE id = p.order_id AND whop_payment_id = p_payment AND p.decision = 'credited_by_hand';
    UPDATE payments SET granted = NULL, decision = NULL WHERE id = p.id AND decision IN ('dismissed', 'credited_by_hand');
    PERFORM credits_settle(ARRAY[p_tenant], ARRAY[p_payment], p_actor);
    RETURN credits_review_tell(p_tenant, p_payment, 'reopened');
END $$;

-- ---- what another system knew

-- Exact, or refused: numeric takes NaN and exponents, and rounds.
CREATE FUNCTION credits_import_price(given text) RETURNS numeric
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF given !~ '^[0-9]{1,12}(\.[0-9]{1,6})?$' THEN
        RAISE EXCEPTION 'the price "%" is no plain amount: up to 12 digits, and a fraction of up to 6 or none',
            left(given, 40);
    END IF;
    RETURN given::numeric;
END $$;

CREATE OR REPLACE FUNCTION credits_import_payment(p_account bigint, p_payment text, p_order uuid, p_credits bigint,
                                       p_amount numeric, p_currency text, p_at timestamptz) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    a credit_accounts;
    p payments;
BEGIN
    SELECT * INTO STRICT a FROM credit_accounts WHERE id = p_account;
    SELECT * INTO p FROM payments WHERE tenant_id = a.tenant_id AND whop_payment_id = p_payment FOR NO KEY UPDATE;
    IF p.granted IS NOT NULL AND p.decision <> 'imported' THEN
        RAISE EXCEPTION 'payment % has been decided here already (%)', p_payment, p.decision;
    END IF;
    -- One that was taken back there stands for nothing, beside its order or its transactions.
    IF p.granted IS NOT NULL AND p.account_id = p_account AND 0 IN (p.granted, p_credits) THEN
        UPDATE payments SET order_id = COALESCE(order_id, p_order) WHERE id = p.id;
        RETURN;
    END IF;
    IF p.granted IS NOT NULL AND (p.account_id <> p_account OR p.granted <> p_credits) THEN
        RAISE EXCEPTION 'payment % stands for % credits of another row or user', p_payment, p.granted;
    END IF;
    IF p_amount IS NULL AND p.amount IS NULL THEN
        RAISE EXCEPTION 'payment % needs its price: refunds are measured by it', p_payment;
    END IF;
    INSERT INTO payments AS old (tenant_id, whop_payment_id, whop_user_id, status, was_paid, granted, decision, account_id,
                                 order_id, amount, amount_text, currency, paid_at, version_at, event_id)
        VALUES (a.tenant_id, p_payment, a.owner_id, 'paid', true, p_credits, 'imported', p_account, p_order, p_amount,
                p_amount::text, p_currency, p_at, p_at, 'import')
        ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE SET was_paid = true, granted = p_credits,
            decision = 'imported', account_id = p_account, order_id = COALESCE(old.order_id, p_order),
            amount = COALESCE(old.amount, p_amount), amount_text = COALESCE(old.amount_text, p_amount::text),
            currency = COALESCE(old.currency, p_currency);
    UPDATE credit_review SET state = 'assigned', handled_by = 'import', handled_at = whopline_now()
        WHERE tenant_id = a.tenant_id AND whop_payment_id = p_payment AND state = 'open';
END $$;

CREATE OR REPLACE FUNCTION credits_import_order(p_tenant bigint, r jsonb, p_actor text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid := COALESCE(credits_uuid(r->>'id'), md5(p_tenant || '/' || (r->>'id'))::uuid);
    v_account bigint := credits_open_account(p_tenant, r->>'user');
    v_state text := CASE lower(r->>'state') WHEN 'pending' THEN 'requested' WHEN 'approved' THEN 'credited'
                         WHEN 'completed' THEN 'credited' WHEN 'rejected' THEN 'cancelled' ELSE lower(r->>'state') END;
    v_method text := lower(COALESCE(r->>'payment_method', 'manual'));
    v_at timestamptz := COALESCE((r->>'created_at')::timestamptz, whopline_now());
    v_done timestamptz := COALESCE((r->>'completed_at')::timestamptz, v_at);
    v_ended boolean := v_state NOT IN ('requested', 'created', 'checkout_open', 'failed');
    v_paid boolean := v_state IN ('credited', 'partially_refunded', 'refunded', 'disputed', 'reversed');
    v_price numeric := credits_import_price(r->>'price');
    o credit_orders;
BEGIN
    SELECT * INTO o FROM credit_orders WHERE id = v_id;
    IF FOUND THEN
        IF o.account_id = v_account AND o.credits_amount = (r->>'credits')::bigint THEN
            RETURN 'same';
        END IF;
        RAISE EXCEPTION 'order % is there already, of another user or with other credits', r->>'id';
    END IF;
    IF v_state = 'requested' AND EXISTS (SELECT FROM credit_orders WHERE account_id = v_account AND state = 'requested') THEN
        RAISE EXCEPTION 'user % has an open manual order already', r->>'user';
    END IF;
    INSERT INTO credit_orders (id, tenant_id, account_id, plan_id, plan_name, whop_plan_id, credits_amount, own_price, price,
                               currency, payment_method, payment_status, state, whop_payment_id, whop_checkout_id,
                               requested_by, completed_by, completed_at, paid_at, notes, created_at)
        SELECT v_id, p_tenant, v_account, w.id, COALESCE(r->>'plan_name', w.plan_name, r->>'plan', ''), r->>'plan',
               (r->>'credits')::bigint, true, COALESCE(v_price, 0), lower(COALESCE(r->>'currency', 'usd')),
               v_method, CASE v_state WHEN 'credited' THEN 'paid' WHEN 'paid' THEN 'paid' WHEN 'failed' THEN 'failed'
                              WHEN 'reversed' THEN 'disputed' WHEN 'disputed' THEN 'disputed' WHEN 'refunded' THEN 'refunded'
                              WHEN 'partially_refunded' THEN 'partially_refunded' ELSE 'pending' END,
               v_state, r->>'payment', r->>'checkout', r->>'user',
               CASE WHEN v_ended THEN COALESCE(r->>'completed_by', 'import') END,
               CASE WHEN v_ended THEN v_done END, CASE WHEN v_paid THEN v_done END, COALESCE(r->>'notes', ''), v_at
        FROM (VALUES (1)) one LEFT JOIN LATERAL (
            SELECT * FROM whop_plans x WHERE x.tenant_id = p_tenant AND x.whop_plan_id = r->>'plan'
                AND x.valid_from <= v_at AND v_at < x.valid_to LIMIT 1) w ON true;
    INSERT INTO credit_order_history (order_id, to_state, actor, reason) VALUES (v_id, v_state, p_actor, 'imported');
    IF v_paid AND r->>'payment' IS NOT NULL THEN
        -- What was refunded or lost there has been taken there: it is not in the balance that comes along.
        PERFORM credits_import_payment(v_account, r->>'payment', v_id,
            CASE WHEN v_state IN ('refunded', 'reversed') THEN 0 ELSE (r->>'credits')::bigint END,
            v_price, lower(COALESCE(r->>'currency', 'usd')), v_done);
    END IF;
    RETURN 'new';
END $$;

CREATE OR REPLACE FUNCTION credits_import_transaction(p_tenant bigint, r jsonb, p_actor text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    v_account bigint := credits_open_account(p_tenant, r->>'user');
    v_credits bigint := (r->>'credits')::bigint;
    v_kind text := COALESCE(r->>'kind', CASE WHEN v_credits > 0 THEN 'topup' ELSE 'usage' END);
    v_price numeric := credits_import_price(r->>'price');
    t credit_transactions;
BEGIN
    SELECT * INTO t FROM credit_transactions
        WHERE tenant_id = p_tenant AND source_type = 'import' AND source_id = r->>'id' AND kind <> 'opening';
    IF FOUND THEN
        IF t.account_id = v_account AND t.credits = v_credits AND t.kind = v_kind THEN
            RETURN 'same';
        END IF;
        RAISE EXCEPTION 'transaction % is there already, with other figures', r->>'id';
    END IF;
    IF v_kind NOT IN ('topup', 'usage', 'refund', 'adjust', 'expire') THEN
        RAISE EXCEPTION 'a transaction is topup, usage, refund, adjust or expire, and not %', v_kind;
    END IF;
    IF v_credits = 0 OR (v_kind = 'topup' AND v_credits < 0) OR (v_kind IN ('usage', 'refund', 'expire') AND v_credits > 0) THEN
        RAISE EXCEPTION '% credits are no %', v_credits, v_kind;
    END IF;
    IF EXISTS (SELECT FROM credit_transactions WHERE tenant_id = p_tenant AND source_type = 'import'
               AND source_id = r->>'user' AND kind = 'opening') THEN
        RAISE EXCEPTION 'user % has an opening balance already, which stands for all before it', r->>'user';
    END IF;
    IF v_kind = 'topup' AND r->>'payment' IS NOT NULL THEN
        PERFORM credits_import_payment(v_account, r->>'payment', NULL, v_credits, v_price,
                                       lower(r->>'currency'), COALESCE((r->>'created_at')::timestamptz, whopline_now()));
    END IF;
    PERFORM credits_post(v_account, v_credits, v_kind, 'import', r->>'id', p_actor,
        'imported' || COALESCE(', of ' || to_char((r->>'created_at')::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), '')
            || COALESCE(': ' || (r->>'reason'), ''), NULL, r->>'payment');
    RETURN 'new';
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
