-- Orders, refunds, disputes, spending: from checkout to dispute, the ledger is always right.
--
-- What a payment is worth is a function of what is known of it (payments, refunds, disputes, its
-- order, the plan table). credits_settle works out that worth and adds the ledger rows that are
-- missing from it, so that neither the order nor the number of events matters, and running it again
-- adds nothing. Locks are taken in one order everywhere: payments by tenant and Whop's id (bytewise),
-- orders by id, accounts by id; as NO KEY UPDATE, which foreign keys to these rows do not run into.

-- As before, but so that it is inlined: events have two times each. Microseconds of our age are exact.
CREATE OR REPLACE FUNCTION whopline_from_ms(ms bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT
    RETURN to_timestamp(ms::double precision / 1000);

-- How a tenant wants it. No row: the defaults.
CREATE TABLE credit_settings (
    tenant_id bigint PRIMARY KEY REFERENCES tenants,
    credits_enabled boolean NOT NULL DEFAULT true,
    negative_policy text NOT NULL DEFAULT 'allow_negative'
        CHECK (negative_policy IN ('allow_negative', 'clamp')),
    email_match boolean NOT NULL DEFAULT false, -- attribute by a verified e-mail address too
    whop_payments text NOT NULL DEFAULT 'on' CHECK (whop_payments IN ('off', 'listed', 'on')),
    whop_users text[] NOT NULL DEFAULT '{}',    -- with 'listed': who may pay by Whop
    order_ttl interval NOT NULL DEFAULT '24 hours' CHECK (order_ttl > '0'),
    updated_at timestamptz NOT NULL DEFAULT whopline_now()
);

ALTER TABLE whop_plans
    ADD COLUMN whop_product_id text,
    -- What a change of plan in mid-period is worth; NULL: a person decides.
    ADD COLUMN proration_rule text CHECK (proration_rule IN ('none', 'difference', 'full'));

ALTER TABLE credit_accounts
    ADD COLUMN held bigint NOT NULL DEFAULT 0 CHECK (held >= 0), -- by applications; still in the balance
    ADD COLUMN debt bigint NOT NULL DEFAULT 0 CHECK (debt >= 0), -- could not be taken (clamp)
    ADD COLUMN email_norm text,             -- folded; only if verified
    ADD CHECK (debt = 0 OR credits_balance <= 0);
CREATE INDEX credit_accounts_email ON credit_accounts (tenant_id, email_norm) WHERE email_norm IS NOT NULL;

-- A wish to buy, from its making to its end. States: see credit_orders_move.
CREATE TABLE credit_orders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id bigint NOT NULL REFERENCES tenants,
    account_id bigint NOT NULL REFERENCES credit_accounts,
    plan_id bigint REFERENCES whop_plans,
    plan_name text NOT NULL,
    credits_amount bigint NOT NULL CHECK (credits_amount > 0),
    own_price boolean NOT NULL DEFAULT false, -- agreed for this order: its credits count, not the plan's
    price numeric(18, 6) NOT NULL CHECK (price >= 0),
    currency text NOT NULL,
    payment_method text NOT NULL CHECK (payment_method IN ('manual', 'whop')),
    payment_status text NOT NULL DEFAULT 'pending'
        CHECK (payment_status IN ('pending', 'paid', 'failed', 'refunded', 'partially_refunded', 'disputed')),
    state text NOT NULL
        CHECK (state IN ('requested', 'approved', 'created', 'checkout_open', 'failed', 'expired', 'cancelled',
                         'paid', 'credited', 'partially_refunded', 'refunded', 'disputed', 'reversed')),
    whop_payment_id text,
    whop_checkout_id text,
    whop_plan_id text,
    purchase_url text,
    requested_by text NOT NULL,
    completed_by text,
    completed_at timestamptz,
    paid_at timestamptz,
    expires_at timestamptz,
    notes text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now()
);
CREATE UNIQUE INDEX credit_orders_payment ON credit_orders (tenant_id, whop_payment_id)
    WHERE whop_payment_id IS NOT NULL;
CREATE UNIQUE INDEX credit_orders_checkout ON credit_orders (tenant_id, whop_checkout_id)
    WHERE whop_checkout_id IS NOT NULL;
-- One question at a time to the person who approves.
CREATE UNIQUE INDEX credit_orders_manual ON credit_orders (account_id) WHERE state = 'requested';
CREATE INDEX credit_orders_open ON credit_orders (expires_at)
    WHERE state IN ('created', 'checkout_open', 'failed');
CREATE INDEX credit_orders_account ON credit_orders (account_id, created_at);

CREATE TABLE credit_order_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES credit_orders,
    from_state text,
    to_state text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    event_id text,
    at timestamptz NOT NULL DEFAULT whopline_now()
);
CREATE INDEX credit_order_history_order ON credit_order_history (order_id, id);

ALTER TABLE payments
    ADD COLUMN order_ref text,              -- metadata.order_id as the sender gave it
    ADD COLUMN email_norm text,             -- of the payer, folded
    ADD COLUMN credits_claimed text,        -- metadata.credits: compared, never an amount
    ADD COLUMN refunded numeric(18, 6),     -- as the payment itself tells it
    ADD COLUMN refunded_odd text,           -- the same, where it is no plain amount
    ADD COLUMN was_paid boolean NOT NULL DEFAULT false, -- once true it stays so: later states are others' rows
    -- The decision, once made. granted NULL: none yet. 0 with a reason: nothing to grant, for good.
    ADD COLUMN granted bigint CHECK (granted >= 0),
    ADD COLUMN decision text,
    ADD COLUMN flag text,
    ADD COLUMN account_id bigint REFERENCES credit_accounts,
    ADD COLUMN plan_id bigint REFERENCES whop_plans,
    ADD COLUMN order_id uuid REFERENCES credit_orders,
    ADD COLUMN assigned_to text,            -- an operator says whose payment this is
    ADD COLUMN assigned_credits bigint CHECK (assigned_credits > 0);
CREATE INDEX payments_order ON payments (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX payments_membership ON payments (tenant_id, whop_membership_id, paid_at)
    WHERE granted > 0;
-- Paid and not decided: what reconciliation reports as paid without credit.
CREATE INDEX payments_undecided ON payments (tenant_id, paid_at) WHERE was_paid AND granted IS NULL;

CREATE TABLE refunds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_refund_id text NOT NULL,
    whop_payment_id text NOT NULL,
    amount numeric(18, 6) CHECK (amount >= 0), -- major units; NULL where the sender's text is odd
    amount_text text,
    currency text,
    status text NOT NULL,
    version_at timestamptz NOT NULL,
    event_id text,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, whop_refund_id)
);
CREATE INDEX refunds_payment ON refunds (tenant_id, whop_payment_id);

CREATE TABLE disputes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_dispute_id text NOT NULL,
    whop_payment_id text NOT NULL,
    amount numeric(18, 6),
    amount_text text,
    currency text,
    status text NOT NULL,
    phase text NOT NULL CHECK (phase IN ('warning', 'open', 'won', 'lost')),
    version_at timestamptz NOT NULL,
    event_id text,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, whop_dispute_id)
);
CREATE INDEX disputes_payment ON disputes (tenant_id, whop_payment_id);

-- credits: what the row is about; amount: by how much the balance moved. They differ only under the
-- policy clamp, where what cannot be taken becomes debt.
ALTER TABLE credit_transactions
    ADD COLUMN credits bigint,
    ADD COLUMN whop_payment_id text,
    ADD COLUMN order_id uuid REFERENCES credit_orders,
    DROP CONSTRAINT credit_transactions_kind_check,
    DROP CONSTRAINT credit_transactions_amount_check;
ALTER TABLE credit_transactions DISABLE TRIGGER credit_transactions_append_only;
UPDATE credit_transactions SET credits = amount,
    whop_payment_id = CASE WHEN source_type = 'payment' THEN source_id END;
ALTER TABLE credit_transactions ENABLE TRIGGER credit_transactions_append_only;
ALTER TABLE credit_transactions
    ALTER COLUMN credits SET NOT NULL,
    ADD CHECK (credits <> 0),
    ADD CHECK (amount BETWEEN least(credits, 0) AND greatest(credits, 0)),
    ADD CHECK (kind IN ('topup', 'usage', 'refund', 'refund_reversal', 'dispute_hold', 'dispute_release',
                        'dispute_loss', 'adjust', 'expire', 'opening'));
CREATE INDEX credit_transactions_payment ON credit_transactions (tenant_id, whop_payment_id)
    WHERE whop_payment_id IS NOT NULL;

-- Credits an application has set aside for work that may not happen.
CREATE TABLE credit_holds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    account_id bigint NOT NULL REFERENCES credit_accounts,
    request_id text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    state text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'captured', 'released', 'expired')),
    captured bigint NOT NULL DEFAULT 0 CHECK (captured BETWEEN 0 AND amount),
    reason text NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    ended_at timestamptz,
    UNIQUE (tenant_id, request_id),
    CHECK ((state = 'held') = (ended_at IS NULL))
);
CREATE INDEX credit_holds_due ON credit_holds (expires_at) WHERE state = 'held';

ALTER TABLE credit_review
    ADD COLUMN candidates jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN note text NOT NULL DEFAULT '';
CREATE INDEX credit_review_open ON credit_review (created_at) WHERE state = 'open';

-- What somebody should be told, once each; mails are made of them later.
CREATE TABLE credit_notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    audience text NOT NULL CHECK (audience IN ('user', 'admin')),
    kind text NOT NULL CHECK (kind IN ('payment_failed', 'dispute', 'review')),
    about text NOT NULL,                    -- the payment, dispute ...
    owner_id text,
    detail jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, audience, kind, about)
);

-- What has been granted before this file came.
UPDATE payments p SET was_paid = true, granted = c.amount, decision = 'granted', account_id = c.account_id,
    plan_id = c.plan_id, flag = c.flag
FROM credit_transactions c
WHERE c.tenant_id = p.tenant_id AND c.source_type = 'payment' AND c.source_id = p.whop_payment_id
    AND c.kind = 'topup';
UPDATE payments SET was_paid = true
WHERE granted IS NULL AND status IN ('paid', 'succeeded') AND COALESCE(substatus, 'succeeded') = 'succeeded';

-- ---- accounts and the ledger

-- The balance after credits move, and the debt. Under clamp (and as long as there is debt) the
-- balance is not pushed below zero; what could not be taken is owed, and paid back first.
CREATE FUNCTION credits_balance_after(balance bigint, debt bigint, credits bigint, clamp boolean)
    RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN clamp OR debt > 0 THEN greatest(balance - debt + credits, least(balance, 0))
                ELSE balance + credits END;

CREATE FUNCTION credits_clamps(p_tenant bigint) RETURNS boolean LANGUAGE sql STABLE
    RETURN COALESCE((SELECT s.negative_policy = 'clamp' FROM credit_settings s WHERE s.tenant_id = p_tenant), false);

-- The account, made if need be; its row is locked.
CREATE FUNCTION credits_open_account(p_tenant bigint, p_owner text) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
BEGIN
    IF COALESCE(p_owner, '') = '' THEN
        RAISE EXCEPTION 'an account needs an owner' USING ERRCODE = '22023';
    END IF;
    SELECT id INTO v_id FROM credit_accounts
        WHERE tenant_id = p_tenant AND owner_type = 'whop_user' AND owner_id = p_owner FOR NO KEY UPDATE;
    IF v_id IS NULL THEN
        INSERT INTO credit_accounts AS a (tenant_id, owner_id) VALUES (p_tenant, p_owner)
            ON CONFLICT (tenant_id, owner_type, owner_id) DO UPDATE SET updated_at = a.updated_at
            RETURNING id INTO v_id;
    END IF;
    RETURN v_id;
END $$;

-- One row of the ledger and the balance with it. The account's row is locked by this.
-- False: that source has its row already.
CREATE FUNCTION credits_post(p_account bigint, p_credits bigint, p_kind text, p_source_type text,
                             p_source_id text, p_actor text, p_reason text, p_event text DEFAULT NULL,
                             p_payment text DEFAULT NULL, p_order uuid DEFAULT NULL,
                             p_plan bigint DEFAULT NULL, p_flag text DEFAULT NULL)
    RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    a credit_accounts;
    v_balance bigint;
BEGIN
    SELECT * INTO STRICT a FROM credit_accounts WHERE id = p_account FOR NO KEY UPDATE;
    v_balance := credits_balance_after(a.credits_balance, a.debt, p_credits, credits_clamps(a.tenant_id));
    INSERT INTO credit_transactions (tenant_id, account_id, kind, credits, amount, balance_after, source_type,
                                     source_id, plan_id, order_id, whop_payment_id, actor, reason, flag, event_id)
        VALUES (a.tenant_id, a.id, p_kind, p_credits, v_balance - a.credits_balance, v_balance, p_source_type,
                p_source_id, p_plan, p_order, p_payment, p_actor, p_reason, p_flag, p_event)
        ON CONFLICT (tenant_id, source_type, source_id, kind) DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE credit_accounts SET credits_balance = v_balance,
        debt = v_balance - (a.credits_balance - a.debt + p_credits), updated_at = whopline_now()
        WHERE id = a.id;
    RETURN true;
END $$;

-- ---- orders

CREATE FUNCTION credit_orders_move(p_order uuid, p_state text, p_status text, p_actor text, p_reason text,
                                   p_event text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    v_old text;
BEGIN
    SELECT state INTO STRICT v_old FROM credit_orders WHERE id = p_order FOR NO KEY UPDATE;
    UPDATE credit_orders SET state = p_state, payment_status = COALESCE(p_status, payment_status),
        updated_at = whopline_now() WHERE id = p_order;
    IF v_old <> p_state THEN
        INSERT INTO credit_order_history (order_id, from_state, to_state, actor, reason, event_id)
            VALUES (p_order, v_old, p_state, p_actor, p_reason, p_event);
    END IF;
END $$;

-- ---- what a payment is worth

-- NULL for what is none: whatever a sender has put there.
CREATE FUNCTION credits_uuid(given text) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN given ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN given::uuid END;

CREATE TYPE credits_decision AS (id bigint, decision text, granted bigint, owner text, order_id uuid,
                                 account_id bigint, plan_id bigint, flag text);

-- Who and how much, of payments that are paid and not decided (the caller knows: asked here, the index
-- of the undecided would be read, which is full of those decided a moment ago). granted NULL: for a
-- person, decision says why. Ids of payments, whose rows are locked.
CREATE FUNCTION credits_decide(p_ids bigint[]) RETURNS SETOF credits_decision
    LANGUAGE sql STABLE AS $$
    WITH known AS (
        SELECT p.*, o.id AS o_id, o.state AS o_state, o.account_id AS o_account, o.own_price, o.credits_amount,
               o.plan_id AS o_plan, o.price AS o_price,
               -- Agreed for this price, not for whatever payment names the order.
               COALESCE(p.amount < o.price, true) OR p.currency <> lower(o.currency) AS other_price,
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
                    AND q.id <> k.id AND COALESCE(q.paid_at, q.version_at) <= COALESCE(k.paid_at, k.version_at)
                ORDER BY COALESCE(q.paid_at, q.version_at) DESC LIMIT 1) END AS before_credits,
               -- The difference to what is not decided yet is not known yet.
               k.prorates AND EXISTS (SELECT FROM payments q
                WHERE q.tenant_id = k.tenant_id AND q.whop_membership_id = k.whop_membership_id AND q.was_paid
                    AND q.granted IS NULL AND COALESCE(q.decision, 'proration') = 'proration'
                    AND COALESCE(q.paid_at, q.version_at) < COALESCE(k.paid_at, k.version_at)) AS must_wait
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

-- What refunds and disputes take of a granted payment. Its row is locked.
CREATE FUNCTION credits_correct(p payments, p_actor text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    v_refunded numeric;
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
    v_target := credits_refunded(p.granted, p.amount, greatest(v_refunded, COALESCE(p.refunded, 0)));
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

-- How many of a payment's credits its refunds take: never more than there are, and by parts as much
-- as at once. 0 while nobody knows what was paid: that is in review.
CREATE FUNCTION credits_refunded(granted bigint, paid numeric, refunded numeric) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN refunded <= 0 OR paid IS NULL THEN 0
                WHEN refunded >= paid THEN granted
                ELSE div(granted * refunded, paid)::bigint END; -- exact: a quotient could be rounded up

-- Whether the refund's amount can be set against the payment's. NULLs come of senders that say less.
CREATE FUNCTION credits_counts(f refunds, p payments) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN f.status = 'succeeded' AND f.amount IS NOT NULL AND COALESCE(f.currency = p.currency, true);

-- Money that went back, nobody can say how much of the payment that was: a person decides. What he
-- has put aside comes back only with other news.
CREATE FUNCTION credits_review_refunds(p payments, p_actor text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    v_event text; -- that told of it last
BEGIN
    SELECT COALESCE(f.event_id, f.whop_refund_id) INTO v_event FROM refunds f
        WHERE f.tenant_id = p.tenant_id AND f.whop_payment_id = p.whop_payment_id AND f.status = 'succeeded'
            AND (p.amount IS NULL OR NOT credits_counts(f, p))
        ORDER BY f.version_at DESC, f.id DESC LIMIT 1;
    IF v_event IS NULL AND (p.refunded_odd <> '' OR (p.refunded > 0 AND p.amount IS NULL)) THEN
        v_event := p.event_id;
    END IF;
    IF v_event IS NULL THEN
        UPDATE credit_review SET state = 'assigned', handled_by = p_actor, handled_at = whopline_now()
            WHERE tenant_id = p.tenant_id AND whop_payment_id = p.whop_payment_id AND state = 'open'
                AND reason = 'odd_refund';
        RETURN;
    END IF;
    INSERT INTO credit_review AS old (tenant_id, whop_payment_id, reason, event_id)
        VALUES (p.tenant_id, p.whop_payment_id, 'odd_refund', v_event)
        ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE SET reason = EXCLUDED.reason, event_id = EXCLUDED.event_id,
            state = 'open', handled_by = NULL, handled_at = NULL
            WHERE (old.reason, old.event_id) <> (EXCLUDED.reason, EXCLUDED.event_id);
    INSERT INTO credit_notices (tenant_id, audience, kind, about, detail)
        VALUES (p.tenant_id, 'admin', 'review', p.whop_payment_id, jsonb_build_object('reason', 'odd_refund'))
        ON CONFLICT DO NOTHING;
END $$;

-- Takes credits of the payment's account (or gives some back: negative). 1: how many rows it added.
CREATE FUNCTION credits_take(p payments, p_credits bigint, p_kind text, p_type text, p_source text, p_rows bigint,
                             p_actor text, p_reason text, p_event text) RETURNS integer
    LANGUAGE plpgsql AS $$
DECLARE
    v_source text := p_source;
BEGIN
    IF p_type <> 'refund' AND EXISTS (SELECT FROM credit_transactions WHERE tenant_id = p.tenant_id
            AND source_type = p_type AND source_id = p_source AND kind = p_kind) THEN
        v_source := p_source || ':' || p_rows;
    END IF;
    IF NOT credits_post(p.account_id, -p_credits, p_kind, p_type, v_source, p_actor, p_reason, p_event,
                        p.whop_payment_id, p.order_id, p.plan_id) THEN
        RAISE EXCEPTION 'the ledger has % % % already', p_type, v_source, p_kind USING ERRCODE = '23505';
    END IF;
    RETURN 1;
END $$;

-- The order follows the payment it was paid by.
CREATE FUNCTION credits_move_order(p payments, p_phase text, p_taken bigint, p_actor text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    v_state text := CASE WHEN p_phase = 'lost' THEN 'reversed' WHEN p_phase = 'open' THEN 'disputed'
                         WHEN p_taken = 0 THEN 'credited' WHEN p_taken >= p.granted THEN 'refunded'
                         ELSE 'partially_refunded' END;
BEGIN
    IF EXISTS (SELECT FROM credit_orders WHERE id = p.order_id AND whop_payment_id = p.whop_payment_id
                   AND state <> v_state) THEN
        PERFORM credit_orders_move(p.order_id, v_state,
            CASE WHEN v_state IN ('reversed', 'disputed') THEN 'disputed' WHEN v_state = 'credited' THEN 'paid'
                 ELSE v_state END,
            p_actor, COALESCE('dispute ' || p_phase, 'refund'), p.event_id);
    END IF;
END $$;

-- Changes of plan that wait for the payment before them, of the same memberships as these; locked. A
-- membership is settled by one at a time, or two that wait for each other's commit would both wait
-- for good. Nothing waits for these rows: who holds one comes here, too.
CREATE FUNCTION credits_waiting(p_open bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(m.key) FROM (
        SELECT DISTINCT hashtextextended(q.tenant_id || ' ' || q.whop_membership_id, 0) AS key FROM payments q
        WHERE q.id = ANY (p_open) AND EXISTS (
            SELECT FROM whop_plans w WHERE w.tenant_id = q.tenant_id AND w.proration_rule = 'difference')
            AND q.whop_membership_id IS NOT NULL
        ORDER BY 1) m;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT array_agg(l.id) FROM (
        SELECT o.id FROM payments q JOIN payments o ON o.tenant_id = q.tenant_id
            AND o.whop_membership_id = q.whop_membership_id AND o.was_paid AND o.granted IS NULL
        WHERE q.id = ANY (p_open) AND o.decision = 'proration' AND o.id <> ALL (p_open)
        FOR NO KEY UPDATE OF o SKIP LOCKED) l);
END $$;

-- All orders these payments have to do with. Their rows are locked.
CREATE FUNCTION credits_lock_orders(p_ids bigint[]) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM credit_orders o WHERE o.id IN (
            SELECT q.order_id FROM payments q WHERE q.id = ANY (p_ids)
            UNION SELECT n.id FROM payments q JOIN credit_orders n
                ON n.tenant_id = q.tenant_id AND n.id = credits_uuid(q.order_ref) WHERE q.id = ANY (p_ids)
            UNION SELECT n.id FROM payments q JOIN credit_orders n
                ON n.tenant_id = q.tenant_id AND n.whop_checkout_id = q.whop_checkout_id WHERE q.id = ANY (p_ids))
        ORDER BY o.id FOR NO KEY UPDATE;
END $$;

-- Brings the ledger, orders, review list and notices in line with what is known of these payments.
-- As often as one likes: what is there is not added again. Answers for each payment.
CREATE FUNCTION credits_settle(p_tenants bigint[], p_payments text[], p_actor text)
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
    SELECT array_agg(w.id) FILTER (WHERE w.granted > 0 AND (w.refunded > 0 OR w.refunded_odd <> ''
                                                             OR w.has_refund OR w.has_dispute)),
           array_agg(w.id) FILTER (WHERE w.has_dispute)
        INTO v_less, v_told FROM (
        SELECT q.id, q.granted, q.refunded, q.refunded_odd,
               EXISTS (SELECT FROM refunds f
                       WHERE f.tenant_id = q.tenant_id AND f.whop_payment_id = q.whop_payment_id) AS has_refund,
               EXISTS (SELECT FROM disputes d
                       WHERE d.tenant_id = q.tenant_id AND d.whop_payment_id = q.whop_payment_id) AS has_dispute
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

-- Writes down who gets how much, and makes the accounts; ids of the payments decided for good.
CREATE FUNCTION credits_choose(p_open bigint[]) RETURNS bigint[]
    LANGUAGE plpgsql AS $$
DECLARE
    v_decisions credits_decision[];
    v_left bigint[] := p_open;
    v_new bigint[];
    v_more bigint[];
BEGIN
    LOOP
        SELECT array_agg(d) INTO v_decisions FROM credits_decide(v_left) d;
        INSERT INTO credit_accounts (tenant_id, owner_id)
            SELECT DISTINCT q.tenant_id, d.owner FROM unnest(v_decisions) d JOIN payments q ON q.id = d.id
            WHERE d.granted > 0 AND d.owner IS NOT NULL AND NOT EXISTS (
                SELECT FROM credit_accounts a
                WHERE a.tenant_id = q.tenant_id AND a.owner_type = 'whop_user' AND a.owner_id = d.owner)
            ORDER BY 1, 2
            ON CONFLICT DO NOTHING;
        WITH done AS (
            UPDATE payments q SET granted = d.granted, decision = d.decision, order_id = d.order_id,
                plan_id = d.plan_id, flag = d.flag,
                account_id = COALESCE(d.account_id, (
                    SELECT a.id FROM credit_accounts a
                    WHERE a.tenant_id = q.tenant_id AND a.owner_type = 'whop_user' AND a.owner_id = d.owner))
            FROM unnest(v_decisions) d
            WHERE q.id = d.id
            RETURNING q.id, q.granted)
        SELECT array_agg(id) FILTER (WHERE granted IS NOT NULL) INTO v_more FROM done;
        v_new := v_new || v_more;
        -- A change of plan may have waited for a payment that has been decided just now.
        SELECT array_agg(d.id) INTO v_left FROM unnest(v_decisions) d WHERE d.decision = 'proration';
        EXIT WHEN v_more IS NULL OR v_left IS NULL;
    END LOOP;
    RETURN v_new;
END $$;

-- The ledger's rows of payments decided now. A batch may hold several of one account: balances run
-- on from row to row.
CREATE FUNCTION credits_grant(p_new bigint[], p_actor text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    WITH granted AS (
        SELECT q.*, a.credits_balance, a.debt, COALESCE(s.negative_policy = 'clamp', false) AS clamps,
               sum(q.granted) OVER (PARTITION BY q.account_id ORDER BY q.id) AS upto
        FROM payments q JOIN credit_accounts a ON a.id = q.account_id
        LEFT JOIN credit_settings s ON s.tenant_id = q.tenant_id
        WHERE q.id = ANY (p_new) AND q.granted > 0
    ), moved AS (
        SELECT g.*, credits_balance_after(credits_balance, debt, upto::bigint, clamps) AS after,
               credits_balance_after(credits_balance, debt, (upto - granted)::bigint, clamps) AS before
        FROM granted g
    ), entries AS (
        INSERT INTO credit_transactions (tenant_id, account_id, kind, credits, amount, balance_after, source_type,
                                         source_id, plan_id, order_id, whop_payment_id, actor, reason, flag, event_id)
        SELECT tenant_id, account_id, 'topup', granted, after - before, after, 'payment', whop_payment_id, plan_id,
               order_id, whop_payment_id, p_actor,
               CASE WHEN assigned_to IS NULL THEN 'payment succeeded' ELSE 'assigned by hand' END, flag, event_id
        FROM moved ORDER BY id
        RETURNING account_id, credits, amount
    )
    UPDATE credit_accounts a SET credits_balance = a.credits_balance + e.amount,
        debt = a.debt + e.amount - e.credits, updated_at = whopline_now()
    FROM (SELECT account_id, sum(amount)::bigint AS amount, sum(credits)::bigint AS credits FROM entries GROUP BY 1) e
    WHERE a.id = e.account_id;
END $$;

-- What follows from decisions for orders, the review list and those to be told.
CREATE FUNCTION credits_conclude(p_ids bigint[], p_actor text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    p payments;
BEGIN
    FOR p IN SELECT q.* FROM payments q JOIN credit_orders o ON o.id = q.order_id
        WHERE q.id = ANY (p_ids) AND q.granted > 0 AND q.assigned_to IS NULL AND o.whop_payment_id IS NULL
        ORDER BY q.id
    LOOP
        UPDATE credit_orders SET whop_payment_id = p.whop_payment_id, paid_at = COALESCE(p.paid_at, p.version_at),
            completed_at = whopline_now(), completed_by = p_actor
            WHERE id = p.order_id AND whop_payment_id IS NULL;
        IF FOUND THEN -- two payments of one batch: the first is the order's
            PERFORM credit_orders_move(p.order_id, 'paid', 'paid', p_actor, 'paid by ' || p.whop_payment_id, p.event_id);
            PERFORM credit_orders_move(p.order_id, 'credited', 'paid', p_actor, p.granted || ' credits', p.event_id);
        END IF;
    END LOOP;
    WITH listed AS (
        INSERT INTO credit_review AS old (tenant_id, whop_payment_id, reason, event_id)
            SELECT q.tenant_id, q.whop_payment_id, q.decision, q.event_id FROM payments q
            WHERE q.id = ANY (p_ids) AND q.granted IS NULL AND q.decision IS NOT NULL ORDER BY 1, 2
            ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE SET reason = EXCLUDED.reason, event_id = EXCLUDED.event_id
                WHERE old.state = 'open' AND old.reason <> EXCLUDED.reason
            RETURNING tenant_id, whop_payment_id, reason)
    INSERT INTO credit_notices (tenant_id, audience, kind, about, detail)
        SELECT tenant_id, 'admin', 'review', whop_payment_id, jsonb_build_object('reason', reason) FROM listed
        ON CONFLICT DO NOTHING;
    UPDATE credit_review r SET state = 'assigned', handled_by = p_actor, handled_at = whopline_now()
        FROM payments q WHERE q.id = ANY (p_ids) AND q.granted IS NOT NULL AND r.tenant_id = q.tenant_id
            AND r.whop_payment_id = q.whop_payment_id AND r.state = 'open';
END $$;

-- Payments that were tried and failed. Their orders wait for another try, unless they are paid.
CREATE FUNCTION credits_payments_failed(p_tenants bigint[], p_payments text[], p_events text[], p_actor text)
    RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    p record;
    v_order uuid;
BEGIN
    PERFORM credits_lock_orders(ARRAY(
        SELECT q.id FROM payments q JOIN unnest(p_tenants, p_payments) AS w(t, x)
            ON q.tenant_id = w.t AND q.whop_payment_id = w.x
        ORDER BY q.tenant_id, q.whop_payment_id COLLATE "C" FOR NO KEY UPDATE OF q));
    FOR p IN SELECT q.tenant_id, q.whop_payment_id, q.order_ref, q.whop_checkout_id, q.whop_user_id, w.event
        FROM unnest(p_tenants, p_payments, p_events) AS w(t, x, event)
        JOIN payments q ON q.tenant_id = w.t AND q.whop_payment_id = w.x WHERE NOT q.was_paid
    LOOP
        SELECT id INTO v_order FROM credit_orders
            WHERE tenant_id = p.tenant_id AND state = 'checkout_open'
                AND (id = credits_uuid(p.order_ref) OR whop_checkout_id = p.whop_checkout_id)
            ORDER BY id LIMIT 1;
        IF FOUND THEN
            PERFORM credit_orders_move(v_order, 'failed', 'failed', p_actor,
                                       'payment ' || p.whop_payment_id || ' failed', p.event);
        END IF;
        INSERT INTO credit_notices (tenant_id, audience, kind, about, owner_id)
            SELECT p.tenant_id, audience, 'payment_failed', p.whop_payment_id, p.whop_user_id
            FROM unnest('{user,admin}'::text[]) AS audience
            ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- ---- spending, by applications

-- What an application may ask. Each answers one row: what became of it, and the balance it may use.
-- A request_id is done once: asked again it answers "repeated", with other figures "conflict".
CREATE TYPE credits_answer AS (result text, available bigint);

-- Whose name a spending bears: an application's, unless one who may do all says it is another's.
CREATE FUNCTION credits_spender() RETURNS text LANGUAGE sql STABLE
    RETURN CASE WHEN pg_has_role(session_user, current_user, 'MEMBER')
                THEN COALESCE(NULLIF(current_setting('whopline.actor', true), ''), 'application') ELSE 'application' END;

CREATE FUNCTION credits_tenant(p_company text) RETURNS bigint LANGUAGE sql STABLE
    RETURN (SELECT id FROM tenants WHERE whop_company_id = p_company OR slug = p_company);

CREATE FUNCTION credits_spend(p_company text, p_user text, p_credits bigint, p_request_id text, p_reason text)
    RETURNS credits_answer
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_tenant bigint := credits_tenant(p_company);
    a credit_accounts;
    t credit_transactions;
BEGIN
    IF COALESCE(p_credits, 0) <= 0 OR COALESCE(p_request_id, '') = '' OR p_reason IS NULL THEN
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

CREATE FUNCTION credits_hold(p_company text, p_user text, p_credits bigint, p_request_id text, p_reason text,
                             p_for interval DEFAULT '15 minutes') RETURNS credits_answer
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_tenant bigint := credits_tenant(p_company);
    a credit_accounts;
    h credit_holds;
BEGIN
    IF COALESCE(p_credits, 0) <= 0 OR COALESCE(p_request_id, '') = '' OR p_reason IS NULL
            OR COALESCE(p_for, '0') <= '0' THEN
        RETURN ('invalid', NULL)::credits_answer;
    END IF;
    SELECT * INTO a FROM credit_accounts
        WHERE tenant_id = v_tenant AND owner_type = 'whop_user' AND owner_id = p_user FOR NO KEY UPDATE;
    SELECT * INTO h FROM credit_holds WHERE tenant_id = v_tenant AND request_id = p_request_id;
    IF FOUND THEN
        RETURN (CASE WHEN h.account_id = a.id AND h.amount = p_credits THEN 'repeated' ELSE 'conflict' END,
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

-- Ends a hold: captures so much of it (0: none) and gives the rest back.
CREATE FUNCTION credits_end_hold(p_tenant bigint, p_request_id text, p_credits bigint, p_state text)
    RETURNS credits_answer
    LANGUAGE plpgsql AS $$
DECLARE
    a credit_accounts;
    h credit_holds;
BEGIN
    SELECT x.* INTO a FROM credit_accounts x JOIN credit_holds y ON y.account_id = x.id
        WHERE y.tenant_id = p_tenant AND y.request_id = p_request_id FOR NO KEY UPDATE OF x;
    IF NOT FOUND THEN
        RETURN ('unknown', NULL)::credits_answer;
    END IF;
    SELECT * INTO h FROM credit_holds WHERE tenant_id = p_tenant AND request_id = p_request_id;
    IF h.state <> 'held' THEN
        RETURN (CASE WHEN h.state = p_state AND h.captured = p_credits THEN 'repeated' ELSE h.state END,
                a.credits_balance - a.held)::credits_answer;
    END IF;
    IF p_credits IS NULL OR p_credits NOT BETWEEN 0 AND h.amount THEN
        RETURN ('invalid', a.credits_balance - a.held)::credits_answer;
    END IF;
    UPDATE credit_holds SET state = p_state, captured = p_credits, ended_at = whopline_now() WHERE id = h.id;
    UPDATE credit_accounts SET held = held - h.amount, updated_at = whopline_now() WHERE id = a.id;
    IF p_credits > 0 AND NOT credits_post(a.id, -p_credits, 'usage', 'request', p_request_id, credits_spender(), h.reason) THEN
        RAISE EXCEPTION 'request % has been spent already', p_request_id USING ERRCODE = '23505';
    END IF;
    RETURN (p_state, (SELECT credits_balance - held FROM credit_accounts WHERE id = a.id))::credits_answer;
END $$;

CREATE FUNCTION credits_capture(p_company text, p_request_id text, p_credits bigint) RETURNS credits_answer
    LANGUAGE sql SECURITY DEFINER
    RETURN credits_end_hold(credits_tenant(p_company), p_request_id, p_credits, 'captured');

CREATE FUNCTION credits_release(p_company text, p_request_id text) RETURNS credits_answer
    LANGUAGE sql SECURITY DEFINER
    RETURN credits_end_hold(credits_tenant(p_company), p_request_id, 0, 'released');

CREATE FUNCTION credits_available(p_company text, p_user text) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    RETURN COALESCE((SELECT credits_balance - held FROM credit_accounts
                     WHERE tenant_id = credits_tenant(p_company) AND owner_type = 'whop_user' AND owner_id = p_user), 0);

-- Holds nobody has ended in time; how many.
CREATE FUNCTION credits_expire_holds(p_most integer) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    h credit_holds;
    v_count bigint := 0;
BEGIN
    FOR h IN SELECT * FROM credit_holds WHERE state = 'held' AND expires_at <= whopline_now()
        ORDER BY account_id, id LIMIT p_most
    LOOP
        IF (credits_end_hold(h.tenant_id, h.request_id, 0, 'expired')).result = 'expired' THEN
            v_count := v_count + 1;
        END IF;
    END LOOP;
    RETURN v_count;
END $$;

-- ---- plans

-- A plan, and a pack, sells one thing at a time.
CREATE FUNCTION credits_plan_alone() RETURNS trigger
    LANGUAGE plpgsql AS $$
DECLARE
    v_other whop_plans;
BEGIN
    PERFORM FROM tenants WHERE id = NEW.tenant_id FOR NO KEY UPDATE; -- changes of plans take turns
    SELECT * INTO v_other FROM whop_plans w
        WHERE w.tenant_id = NEW.tenant_id AND w.id <> NEW.id
            AND (w.whop_plan_id = NEW.whop_plan_id OR w.pack_id = NEW.pack_id)
            AND w.valid_from < NEW.valid_to AND NEW.valid_from < w.valid_to
        LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'plan % is sold as "%" at that time%', v_other.whop_plan_id, v_other.plan_name,
            CASE WHEN v_other.whop_plan_id <> NEW.whop_plan_id THEN ', and has pack ' || v_other.pack_id ELSE '' END
            USING ERRCODE = '23P01';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER whop_plans_alone BEFORE INSERT OR UPDATE ON whop_plans
    FOR EACH ROW EXECUTE FUNCTION credits_plan_alone();

-- ---- by hand

-- As often as it is asked for with one request_id, once. Without p_open only to an account there is.
CREATE FUNCTION credits_adjust(p_tenant bigint, p_owner text, p_credits bigint, p_request_id text, p_open boolean,
                               p_actor text, p_reason text) RETURNS credits_answer
    LANGUAGE plpgsql AS $$
DECLARE
    a credit_accounts;
    t credit_transactions;
BEGIN
    IF COALESCE(p_credits, 0) = 0 OR COALESCE(p_request_id, '') = '' OR COALESCE(p_reason, '') = '' THEN
        RETURN ('invalid', NULL)::credits_answer;
    END IF;
    IF p_open THEN
        PERFORM credits_open_account(p_tenant, p_owner);
    END IF;
    SELECT * INTO a FROM credit_accounts
        WHERE tenant_id = p_tenant AND owner_type = 'whop_user' AND owner_id = p_owner FOR NO KEY UPDATE;
    SELECT * INTO t FROM credit_transactions
        WHERE tenant_id = p_tenant AND source_type = 'request' AND source_id = p_request_id AND kind = 'adjust';
    IF FOUND THEN
        RETURN (CASE WHEN t.account_id = a.id AND t.credits = p_credits THEN 'repeated' ELSE 'conflict' END,
                a.credits_balance - a.held)::credits_answer;
    END IF;
    IF a.id IS NULL THEN
        RETURN ('unknown', NULL)::credits_answer;
    END IF;
    IF NOT credits_post(a.id, p_credits, 'adjust', 'request', p_request_id, p_actor, p_reason) THEN
        RETURN ('conflict', a.credits_balance - a.held)::credits_answer; -- another account's, just now
    END IF;
    RETURN ('adjusted', (SELECT credits_balance - held FROM credit_accounts WHERE id = a.id))::credits_answer;
END $$;

-- What became of a wish to do something that can be done once; else who has done it.
CREATE TYPE credits_deed AS (result text, state text, done_by text, done_at timestamptz, credits bigint, owner text);

-- A manual order: its credits are granted, by whoever comes first.
CREATE FUNCTION credit_orders_approve(p_order uuid, p_actor text, p_reason text) RETURNS credits_deed
    LANGUAGE plpgsql AS $$
DECLARE
    o credit_orders;
BEGIN
    SELECT * INTO o FROM credit_orders WHERE id = p_order FOR NO KEY UPDATE;
    IF o.id IS NULL OR o.state <> 'requested' THEN
        RETURN credit_orders_tell(p_order, 'not_open');
    END IF;
    PERFORM credit_orders_move(o.id, 'approved', NULL, p_actor, p_reason);
    IF NOT credits_post(o.account_id, o.credits_amount, 'topup', 'order', o.id::text, p_actor,
                        'approved' || COALESCE(': ' || NULLIF(p_reason, ''), ''), NULL, NULL, o.id, o.plan_id) THEN
        RAISE EXCEPTION 'order % is in the ledger already', o.id USING ERRCODE = '23505';
    END IF;
    PERFORM credit_orders_move(o.id, 'credited', 'paid', p_actor, o.credits_amount || ' credits');
    UPDATE credit_orders SET paid_at = whopline_now(), completed_at = whopline_now(), completed_by = p_actor
        WHERE id = o.id;
    RETURN credit_orders_tell(p_order, 'credited');
END $$;

-- A late payment of it goes to the review list.
CREATE FUNCTION credit_orders_cancel(p_order uuid, p_actor text, p_reason text) RETURNS credits_deed
    LANGUAGE plpgsql AS $$
DECLARE
    o credit_orders;
BEGIN
    SELECT * INTO o FROM credit_orders WHERE id = p_order FOR NO KEY UPDATE;
    IF o.id IS NULL OR o.state NOT IN ('requested', 'created', 'checkout_open', 'failed') THEN
        RETURN credit_orders_tell(p_order, 'not_open');
    END IF;
    PERFORM credit_orders_move(o.id, 'cancelled', NULL, p_actor, p_reason);
    UPDATE credit_orders SET completed_at = whopline_now(), completed_by = p_actor WHERE id = o.id;
    RETURN credit_orders_tell(p_order, 'cancelled');
END $$;

-- Where an order is and who brought it there.
CREATE FUNCTION credit_orders_tell(p_order uuid, p_result text) RETURNS credits_deed
    LANGUAGE sql STABLE AS $$
    SELECT p_result, o.state, h.actor, h.at, o.credits_amount, a.owner_id
    FROM credit_orders o JOIN credit_accounts a ON a.id = o.account_id
    LEFT JOIN LATERAL (SELECT x.actor, x.at FROM credit_order_history x WHERE x.order_id = o.id
                       ORDER BY x.id DESC LIMIT 1) h ON true
    WHERE o.id = p_order
$$;

-- What the review list and the ledger say of a payment.
CREATE FUNCTION credits_review_tell(p_tenant bigint, p_payment text, p_result text) RETURNS credits_deed
    LANGUAGE sql STABLE AS $$
    SELECT p_result, CASE WHEN q.granted > 0 THEN 'credited' ELSE COALESCE(q.decision, r.state) END,
           COALESCE(r.handled_by, c.actor), COALESCE(r.handled_at, c.created_at), q.granted, a.owner_id
    FROM credit_review r
    LEFT JOIN payments q ON q.tenant_id = r.tenant_id AND q.whop_payment_id = r.whop_payment_id
    LEFT JOIN credit_accounts a ON a.id = q.account_id
    LEFT JOIN credit_transactions c ON c.tenant_id = r.tenant_id AND c.source_type = 'payment'
        AND c.source_id = r.whop_payment_id AND c.kind = 'topup'
    WHERE r.tenant_id = p_tenant AND r.whop_payment_id = p_payment
$$;

-- An operator says whose payment it is; p_credits NULL: as many as its plan sells. "undecided": that
-- was not enough, the state says why, and the caller rolls back.
CREATE FUNCTION credits_review_assign(p_tenant bigint, p_payment text, p_owner text, p_credits bigint, p_actor text,
                                      p_note text) RETURNS credits_deed
    LANGUAGE plpgsql AS $$
DECLARE
    p payments;
    r credit_review;
BEGIN
    SELECT * INTO p FROM payments WHERE tenant_id = p_tenant AND whop_payment_id = p_payment FOR NO KEY UPDATE;
    SELECT * INTO r FROM credit_review WHERE tenant_id = p_tenant AND whop_payment_id = p_payment FOR NO KEY UPDATE;
    IF r.id IS NULL OR r.state <> 'open' OR p.granted IS NOT NULL THEN
        RETURN credits_review_tell(p_tenant, p_payment, 'not_open');
    END IF;
    IF NOT COALESCE(p.was_paid, false) THEN
        RETURN credits_review_tell(p_tenant, p_payment, 'not_paid');
    END IF;
    UPDATE payments SET assigned_to = p_owner, assigned_credits = p_credits WHERE id = p.id;
    UPDATE credit_review SET note = p_note WHERE id = r.id;
    PERFORM credits_settle(ARRAY[p_tenant], ARRAY[p_payment], p_actor);
    RETURN credits_review_tell(p_tenant, p_payment,
        CASE WHEN (SELECT granted FROM payments WHERE id = p.id) > 0 THEN 'assigned' ELSE 'undecided' END);
END $$;

-- Nobody gets credits for it: that is decided then, also for reconciliation.
CREATE FUNCTION credits_review_dismiss(p_tenant bigint, p_payment text, p_actor text, p_note text) RETURNS credits_deed
    LANGUAGE plpgsql AS $$
DECLARE
    p payments;
BEGIN
    SELECT * INTO p FROM payments WHERE tenant_id = p_tenant AND whop_payment_id = p_payment FOR NO KEY UPDATE;
    UPDATE credit_review SET state = 'dismissed', handled_by = p_actor, handled_at = whopline_now(), note = p_note
        WHERE tenant_id = p_tenant AND whop_payment_id = p_payment AND state = 'open' AND p.granted IS NULL;
    IF NOT FOUND THEN
        RETURN credits_review_tell(p_tenant, p_payment, 'not_open');
    END IF;
    UPDATE payments SET granted = 0, decision = 'dismissed' WHERE id = p.id AND was_paid;
    RETURN credits_review_tell(p_tenant, p_payment, 'dismissed');
END $$;

-- A dismissal taken back. What can be decided by rule meanwhile is.
CREATE FUNCTION credits_review_reopen(p_tenant bigint, p_payment text, p_actor text, p_note text) RETURNS credits_deed
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
    UPDATE payments SET granted = NULL, decision = NULL WHERE id = p.id AND decision = 'dismissed';
    PERFORM credits_settle(ARRAY[p_tenant], ARRAY[p_payment], p_actor);
    RETURN credits_review_tell(p_tenant, p_payment, 'reopened');
END $$;

-- ---- what another system knew: rows of `whopline credits import`

-- A payment that was credited there: refunds and disputes of it find the grant, and no event or
-- reconciliation grants it once more.
CREATE FUNCTION credits_import_payment(p_account bigint, p_payment text, p_order uuid, p_credits bigint,
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

CREATE FUNCTION credits_import_order(p_tenant bigint, r jsonb, p_actor text) RETURNS text
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
               (r->>'credits')::bigint, true, COALESCE((r->>'price')::numeric, 0), lower(COALESCE(r->>'currency', 'usd')),
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
        PERFORM credits_import_payment(v_account, r->>'payment', v_id, (r->>'credits')::bigint, (r->>'price')::numeric,
                                       lower(COALESCE(r->>'currency', 'usd')), v_done);
    END IF;
    RETURN 'new';
END $$;

CREATE FUNCTION credits_import_transaction(p_tenant bigint, r jsonb, p_actor text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    v_account bigint := credits_open_account(p_tenant, r->>'user');
    v_credits bigint := (r->>'credits')::bigint;
    v_kind text := COALESCE(r->>'kind', CASE WHEN v_credits > 0 THEN 'topup' ELSE 'usage' END);
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
        PERFORM credits_import_payment(v_account, r->>'payment', NULL, v_credits, (r->>'price')::numeric,
                                       lower(r->>'currency'), COALESCE((r->>'created_at')::timestamptz, whopline_now()));
    END IF;
    PERFORM credits_post(v_account, v_credits, v_kind, 'import', r->>'id', p_actor,
        'imported' || COALESCE(', of ' || to_char((r->>'created_at')::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), '')
            || COALESCE(': ' || (r->>'reason'), ''), NULL, r->>'payment');
    RETURN 'new';
END $$;

-- The opening row is what the transactions that came along do not explain.
CREATE FUNCTION credits_import_balance(p_tenant bigint, r jsonb, p_actor text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    v_account bigint := credits_open_account(p_tenant, r->>'user');
    v_opening bigint;
    v_there bigint;
BEGIN
    SELECT (r->>'balance')::bigint - COALESCE(sum(credits) FILTER (WHERE kind <> 'opening'), 0),
           sum(credits) FILTER (WHERE kind = 'opening')
        INTO v_opening, v_there FROM credit_transactions WHERE account_id = v_account AND source_type = 'import';
    IF v_there IS NOT NULL AND v_there <> v_opening THEN
        RAISE EXCEPTION 'user % has the opening balance % already, and this makes it %', r->>'user', v_there, v_opening;
    END IF;
    UPDATE credit_accounts SET email_norm = lower(r->>'email') WHERE id = v_account AND r->>'email' IS NOT NULL;
    IF v_there IS NOT NULL OR v_opening = 0 THEN
        RETURN 'same';
    END IF;
    PERFORM credits_post(v_account, v_opening, 'opening', 'import', r->>'user', p_actor, 'opening balance');
    RETURN 'new';
END $$;

-- Answers new, same, or "wrong: " and why; then the row has left nothing.
CREATE FUNCTION credits_import(p_tenant bigint, p_kind text, r jsonb, p_actor text) RETURNS text
    LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE p_kind WHEN 'order' THEN credits_import_order(p_tenant, r, p_actor)
                       WHEN 'transaction' THEN credits_import_transaction(p_tenant, r, p_actor)
                       ELSE credits_import_balance(p_tenant, r, p_actor) END;
EXCEPTION
    WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
        RETURN 'wrong: ' || SQLERRM;
END $$;

-- Nobody runs these but whom they are granted to (whopline credits allow ROLE).
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND (proname LIKE 'credits\_%' OR proname LIKE 'credit\_%')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        -- Of the others it would cost at each call, and keep them from being inlined.
        IF (SELECT prosecdef FROM pg_proc WHERE oid = f) THEN
            EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', f, current_schema());
        END IF;
    END LOOP;
END $$;

-- What must never differ; empty when all is well.
CREATE VIEW credit_mismatches AS
SELECT a.tenant_id, a.id AS account_id, a.owner_id, a.credits_balance, a.debt, a.held,
       l.amount AS ledger_amount, l.credits AS ledger_credits, h.held AS holds
FROM credit_accounts a
LEFT JOIN LATERAL (SELECT COALESCE(sum(t.amount), 0) AS amount, COALESCE(sum(t.credits), 0) AS credits
                   FROM credit_transactions t WHERE t.account_id = a.id) l ON true
LEFT JOIN LATERAL (SELECT COALESCE(sum(x.amount), 0) AS held FROM credit_holds x
                   WHERE x.account_id = a.id AND x.state = 'held') h ON true
WHERE a.credits_balance <> l.amount OR a.credits_balance - a.debt <> l.credits OR a.held <> h.held;
