-- Tenants as they are run: why one is held, the credentials it is served with, the addresses its
-- webhooks come to. Secrets are sealed (codec/seal.h): the key's id, nonce, ciphertext and tag.

ALTER TABLE tenants
    ADD COLUMN pause_reason text,           -- of whatever status is not active
    ADD COLUMN status_changed_at timestamptz NOT NULL DEFAULT whopline_now(),
    ADD COLUMN missing_permissions text[] NOT NULL DEFAULT '{}', -- as the last check has found
    ADD COLUMN checked_at timestamptz;

CREATE TABLE tenant_credentials (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    kind text NOT NULL CHECK (kind IN ('whop_api_key', 'whop_oauth', 'crm', 'mail')),
    key_id text,                            -- these four are NULL once revoked: erased for good
    nonce bytea CHECK (octet_length(nonce) = 12),
    ciphertext bytea,
    tag bytea CHECK (octet_length(tag) = 16),
    scope text[] NOT NULL DEFAULT '{}',
    access_expires_at timestamptz,          -- whop_oauth only
    refresh_lock_until timestamptz,         -- somebody is fetching a new token until then
    version integer NOT NULL DEFAULT 1,     -- rises with each new token
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    revoked_at timestamptz,
    CHECK ((revoked_at IS NULL) = (ciphertext IS NOT NULL)),
    CHECK (num_nulls(key_id, nonce, ciphertext, tag) IN (0, 4))
);
CREATE UNIQUE INDEX tenant_credentials_live ON tenant_credentials (tenant_id, kind)
    WHERE revoked_at IS NULL;
CREATE INDEX tenant_credentials_expiring ON tenant_credentials (access_expires_at)
    WHERE revoked_at IS NULL AND access_expires_at IS NOT NULL;

-- /webhooks/whop/<name>. Without a tenant it is an app's: each event says whose it is.
CREATE TABLE webhook_endpoints (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    tenant_id bigint REFERENCES tenants,
    schemes text NOT NULL DEFAULT 'standard,legacy',
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    disabled_at timestamptz
);
CREATE INDEX webhook_endpoints_tenant ON webhook_endpoints (tenant_id);

-- Several are valid at once while one takes over from another.
CREATE TABLE webhook_endpoint_secrets (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id bigint NOT NULL REFERENCES webhook_endpoints,
    key_id text NOT NULL,
    nonce bytea NOT NULL CHECK (octet_length(nonce) = 12),
    ciphertext bytea NOT NULL,
    tag bytea NOT NULL CHECK (octet_length(tag) = 16),
    valid_from timestamptz NOT NULL DEFAULT whopline_now(),
    valid_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT whopline_now()
);
CREATE INDEX webhook_endpoint_secrets_endpoint ON webhook_endpoint_secrets (endpoint_id);

-- What waits for its tenant: a resumed one's jobs, an added one's events.
CREATE INDEX jobs_parked_tenant ON jobs (tenant_id, id) WHERE state = 'parked';
CREATE INDEX webhook_events_unknown_company ON webhook_events (company_id, received_at)
    WHERE status = 'quarantined' AND reason = 'unknown_company';
