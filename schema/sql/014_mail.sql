-- Mails: a row for each that is to be written, made in the transaction of its cause. Its key decides
-- that it is sent once; the job mail.send, made beside it, sends it.

-- How a tenant wants it. Without a row, and where NULL: as the environment says.
CREATE TABLE mail_settings (
    tenant_id bigint PRIMARY KEY REFERENCES tenants,
    enabled boolean NOT NULL DEFAULT true,
    from_address text,                      -- "Name <address>"
    admin_address text,                     -- whom notices for the seller go to
    muted text[] NOT NULL DEFAULT '{}',     -- templates that are not to be sent
    updated_at timestamptz NOT NULL DEFAULT whopline_now()
);

CREATE TABLE email_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What the provider knows the mail by: another one if an operator has it sent again.
    uid uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id bigint NOT NULL REFERENCES tenants,
    template text NOT NULL,                 -- schema/mails.def
    audience text NOT NULL CHECK (audience IN ('user', 'admin', 'address')),
    recipient text NOT NULL,                -- a user's id, "buyer" of a payment, "admin" ...
    business_key text NOT NULL,             -- what it is about: a payment, a student's version ...
    whop_user_id text,
    address text,                           -- as told with the cause; what is known of the user goes before it
    vars jsonb NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL,       -- its cause, by the sender's clock
    not_after timestamptz,                  -- it is too old then; set when it is first looked at
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'sent', 'logged', 'refused', 'expired', 'suppressed', 'skipped')),
    reason text,                            -- why it was not sent
    request text,                           -- the call as it was first made: made again it is the same to the byte
    provider_id text,
    attempts integer NOT NULL DEFAULT 0,    -- looks at it
    event_id text,
    job_id uuid,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    ended_at timestamptz,
    UNIQUE (tenant_id, template, recipient, business_key),
    CHECK ((state = 'queued') = (ended_at IS NULL))
);
CREATE INDEX email_outbox_created ON email_outbox (created_at);
CREATE INDEX email_outbox_queued ON email_outbox (created_at) WHERE state = 'queued';
CREATE INDEX email_outbox_ended ON email_outbox (ended_at);
CREATE INDEX email_outbox_user ON email_outbox (tenant_id, whop_user_id);

-- Addresses that get only what they have to.
CREATE TABLE email_suppressions (
    tenant_id bigint NOT NULL REFERENCES tenants,
    email_norm text NOT NULL CHECK (email_norm = lower(email_norm)),
    reason text NOT NULL CHECK (reason IN ('bounced', 'complained', 'unsubscribed', 'manual')),
    at timestamptz NOT NULL DEFAULT whopline_now(),
    PRIMARY KEY (tenant_id, email_norm)
);

CREATE INDEX credit_notices_admin ON credit_notices (created_at) WHERE audience = 'admin';

-- [{tenant, template, audience, recipient, key, whop_user, address, vars, occurred_ms, change, membership, event, job}]
-- A mail there is already stays as it is. occurred_ms NULL: when the change was, by the membership
-- that was told of if there was one. The user may be left to the membership.
CREATE FUNCTION mails_add(p_mails jsonb) RETURNS TABLE (id bigint, tenant_id bigint, job_id uuid) LANGUAGE sql
    BEGIN ATOMIC
    INSERT INTO email_outbox (tenant_id, template, audience, recipient, business_key, whop_user_id, address, vars,
                              occurred_at, event_id, job_id)
        SELECT w.tenant, w.template, w.audience, w.recipient, w.key, COALESCE(w.whop_user, m.whop_user_id), w.address,
               COALESCE(w.vars, '{}'),
               least(COALESCE(whopline_from_ms(w.occurred_ms),
                              CASE WHEN c.id IS NOT NULL AND m.version_at > '-infinity' THEN m.version_at END,
                              whopline_now()), whopline_now()),
               w.event, w.job
        FROM jsonb_to_recordset(p_mails) AS w(tenant bigint, template text, audience text, recipient text, key text,
                                              whop_user text, address text, vars jsonb, occurred_ms bigint,
                                              change bigint, membership text, event text, job uuid)
        LEFT JOIN member_changes c ON c.id = w.change
        LEFT JOIN memberships m ON m.tenant_id = w.tenant
            AND m.whop_membership_id = COALESCE(c.whop_membership_id, w.membership)
        ORDER BY w.tenant, w.template COLLATE "C", w.recipient COLLATE "C", w.key COLLATE "C"
        ON CONFLICT ON CONSTRAINT email_outbox_tenant_id_template_recipient_business_key_key DO NOTHING
        RETURNING email_outbox.id, email_outbox.tenant_id, email_outbox.job_id;
    END;

-- The mail as it stands, for whoever is to send it; no row: it has ended. The first look says until
-- when it may be sent.
CREATE FUNCTION mails_look(p_id bigint, p_max_age interval)
    RETURNS TABLE (uid uuid, audience text, address text, vars jsonb, name text, username text, company text,
                   from_address text, off boolean, suppressed text, expired boolean, paid boolean, request text)
    LANGUAGE sql
    BEGIN ATOMIC
    UPDATE email_outbox o SET attempts = o.attempts + 1,
            not_after = COALESCE(o.not_after, o.occurred_at + p_max_age)
        FROM (SELECT q.id, t.title, t.slug, u.name, u.username, s.from_address,
                     NOT COALESCE(s.enabled, true) OR q.template = ANY (COALESCE(s.muted, '{}')) AS off,
                     CASE q.audience WHEN 'admin' THEN s.admin_address
                                     ELSE COALESCE(NULLIF(btrim(u.email), ''), q.address) END AS address
              FROM email_outbox q JOIN tenants t ON t.id = q.tenant_id
              LEFT JOIN mail_settings s ON s.tenant_id = q.tenant_id
              LEFT JOIN whop_users u ON u.tenant_id = q.tenant_id AND u.whop_user_id = q.whop_user_id
              WHERE q.id = p_id) k
        WHERE o.id = k.id AND o.state = 'queued'
        RETURNING o.uid, o.audience, k.address, o.vars, k.name, k.username, COALESCE(NULLIF(k.title, ''), k.slug),
            k.from_address, k.off,
            (SELECT p.reason FROM email_suppressions p
             WHERE p.tenant_id = o.tenant_id AND p.email_norm = lower(k.address)),
            o.not_after < whopline_now(),
            o.template = 'payment_failed' AND EXISTS (
                SELECT FROM member_bills b WHERE b.tenant_id = o.tenant_id AND b.whop_payment_id = o.business_key
                    AND b.paid_at IS NOT NULL),
            o.request;
    END;

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'mails\_%'
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
