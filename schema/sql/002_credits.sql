-- Plans, payments and the credit ledger.

-- What a Whop plan sells. Never deleted: retired by valid_to, so that an old payment still finds it.
CREATE TABLE whop_plans (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_plan_id text NOT NULL,
    pack_id text,                           -- metadata.packId of payments whose plan is not in here
    plan_name text NOT NULL,
    credits_amount integer NOT NULL CHECK (credits_amount >= 0), -- 0: sells no credits
    price_cents bigint CHECK (price_cents >= 0),
    currency text,
    credits_when_free boolean NOT NULL DEFAULT false, -- whether a payment of 0 is granted too
    valid_from timestamptz NOT NULL DEFAULT '-infinity',
    valid_to timestamptz NOT NULL DEFAULT 'infinity',
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, whop_plan_id, valid_from),
    CHECK (valid_from < valid_to)
);
CREATE UNIQUE INDEX whop_plans_pack ON whop_plans (tenant_id, pack_id, valid_from)
    WHERE pack_id IS NOT NULL;

-- The latest we know of each payment. Its row is locked first by whatever touches its money.
CREATE TABLE payments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_payment_id text NOT NULL,
    whop_user_id text,
    whop_membership_id text,
    whop_plan_id text,
    whop_checkout_id text,
    pack_id text,
    status text,
    substatus text,
    billing_reason text,
    amount numeric(18, 6),                  -- major units; NULL where the sender's text is odd
    amount_text text,                       -- as the sender wrote it
    currency text,
    paid_at timestamptz,
    version_at timestamptz NOT NULL,        -- the sender's clock: an older event changes nothing
    event_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, whop_payment_id)
);

CREATE TABLE credit_accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    owner_type text NOT NULL DEFAULT 'whop_user' CHECK (owner_type IN ('whop_user')),
    owner_id text NOT NULL,
    credits_balance bigint NOT NULL DEFAULT 0, -- always the sum of the account's ledger
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, owner_type, owner_id)
);

-- The ledger: rows are added and never changed. The unique key is what makes a grant happen once.
CREATE TABLE credit_transactions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    account_id bigint NOT NULL REFERENCES credit_accounts,
    kind text NOT NULL CHECK (kind IN ('topup')),
    amount bigint NOT NULL CHECK (amount <> 0), -- credits, signed
    balance_after bigint NOT NULL,
    source_type text NOT NULL,
    source_id text NOT NULL,
    plan_id bigint REFERENCES whop_plans,
    actor text NOT NULL,
    reason text NOT NULL,
    flag text,                              -- for a person to look at, e.g. metadata_mismatch
    event_id text,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, source_type, source_id, kind)
);
CREATE INDEX credit_transactions_account ON credit_transactions (account_id, id);

CREATE FUNCTION credit_transactions_append_only() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'credit_transactions is append-only: correct it with a further row';
END
$$;
CREATE TRIGGER credit_transactions_append_only
    BEFORE UPDATE OR DELETE ON credit_transactions
    FOR EACH ROW EXECUTE FUNCTION credit_transactions_append_only();
CREATE TRIGGER credit_transactions_no_truncate
    BEFORE TRUNCATE ON credit_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION credit_transactions_append_only();

-- Payments nobody could be credited for, until a person decides. Nothing is lost here.
CREATE TABLE credit_review (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_payment_id text NOT NULL,
    reason text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'assigned', 'dismissed')),
    event_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    handled_by text,
    handled_at timestamptz,
    UNIQUE (tenant_id, whop_payment_id)
);

-- The name applications of seed 004 read balances by.
CREATE VIEW user_profiles AS
SELECT owner_id AS id, tenant_id, credits_balance
FROM credit_accounts
WHERE owner_type = 'whop_user';
