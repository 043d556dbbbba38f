-- Members: who has access, to what tier, since when. Everything about members follows from here.
--
-- A membership's row is the greatest of all that has been told of it: of two tellings the one of the
-- later version (the sender's clock) stands, of two of one time the one that takes access away. So
-- neither the order nor the number of events matters. What Whop answers when it is asked stands over
-- all that was told before it was asked. A student's row is worked out from his memberships, under
-- its lock: locks are taken as students by (tenant, user), then memberships by (tenant, id), bytewise;
-- or two memberships that end at once would each see the other alive.

-- What a tier allows; -1: without limit. The numbers are those the product was commissioned with.
CREATE TABLE tier_limits (
    tier text PRIMARY KEY,
    rank integer NOT NULL UNIQUE,           -- of several tiers the highest counts
    videos bigint NOT NULL CHECK (videos >= -1),
    storage_bytes bigint NOT NULL CHECK (storage_bytes >= -1), -- a GB has 2^30
    ai_credits_month bigint NOT NULL CHECK (ai_credits_month >= -1),
    students bigint NOT NULL CHECK (students >= -1),
    features text[] NOT NULL
);
INSERT INTO tier_limits VALUES
    ('free', 0, 5, 1073741824, 100, 10, '{basic}'),
    ('basic', 1, 50, 10737418240, 1000, 100, '{basic,analytics,course_builder}'),
    ('pro', 2, 500, 107374182400, 10000, 1000,
     '{basic,analytics,course_builder,bulk_upload,custom_branding,api_access}'),
    ('enterprise', 3, -1, -1, -1, -1,
     '{basic,analytics,course_builder,bulk_upload,custom_branding,api_access,priority_support,custom_features}');

-- How a tenant wants it; NULL: as the environment says (the row without a tenant, which whopline-members
-- writes when it starts).
CREATE TABLE member_settings (
    tenant_id bigint UNIQUE NULLS NOT DISTINCT REFERENCES tenants,
    default_tier text REFERENCES tier_limits, -- of members whose plan and product are in no map
    grace interval CHECK (grace >= '0'),      -- how long access outlasts a payment that failed
    archive_after interval CHECK (archive_after >= '0'), -- the loss of access
    updated_at timestamptz NOT NULL DEFAULT whopline_now()
);
INSERT INTO member_settings (tenant_id, default_tier, grace, archive_after) VALUES (NULL, 'free', '3 days', '30 days');

-- Which tier a plan or product gives: a plan's word goes before its product's.
CREATE TABLE tier_map (
    tenant_id bigint NOT NULL REFERENCES tenants,
    match_kind text NOT NULL CHECK (match_kind IN ('plan', 'product')),
    whop_id text NOT NULL,
    tier text NOT NULL REFERENCES tier_limits,
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    PRIMARY KEY (tenant_id, match_kind, whop_id)
);

-- What is known of a person. Each part follows the newest that says something of it.
CREATE TABLE whop_users (
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_user_id text NOT NULL,
    username text,
    username_at timestamptz NOT NULL DEFAULT '-infinity',
    name text,
    name_at timestamptz NOT NULL DEFAULT '-infinity',
    email text,                             -- as sent; NULL where the sender may not see it
    email_at timestamptz NOT NULL DEFAULT '-infinity',
    email_norm text GENERATED ALWAYS AS (lower(email)) STORED,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    PRIMARY KEY (tenant_id, whop_user_id)
);
CREATE INDEX whop_users_email ON whop_users (tenant_id, email_norm) WHERE email_norm IS NOT NULL;

CREATE TABLE memberships (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_membership_id text NOT NULL,
    whop_user_id text,
    user_at timestamptz NOT NULL DEFAULT '-infinity',
    whop_plan_id text,
    plan_at timestamptz NOT NULL DEFAULT '-infinity',
    whop_product_id text,
    product_at timestamptz NOT NULL DEFAULT '-infinity',
    status text,                            -- Whop's word, or deleted; NULL: nobody has said
    claim text CHECK (claim IN ('yes', 'no')), -- what was said of access beside the status
    period_start timestamptz,
    period_end timestamptz,
    period_at timestamptz NOT NULL DEFAULT '-infinity',
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    cancel_at timestamptz NOT NULL DEFAULT '-infinity',
    version_at timestamptz NOT NULL DEFAULT '-infinity', -- of status and claim
    event_id text NOT NULL DEFAULT '',      -- that told of them
    told_at timestamptz NOT NULL DEFAULT '-infinity',    -- by our clock
    read_at timestamptz NOT NULL DEFAULT '-infinity',    -- Whop was asked then: it stands over what is older
    read_wanted_at timestamptz,             -- somebody is to ask
    access text NOT NULL DEFAULT 'no' CHECK (access IN ('yes', 'grace', 'no')), -- worked out with the student's
    grace_until timestamptz,
    first_seen_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, whop_membership_id)
);
CREATE INDEX memberships_user ON memberships (tenant_id, whop_user_id);
CREATE INDEX memberships_grace ON memberships (grace_until) WHERE access = 'grace';

CREATE TABLE membership_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_membership_id text NOT NULL,
    from_status text,
    to_status text,
    version_at timestamptz NOT NULL,
    event_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT whopline_now()
);
CREATE INDEX membership_history_membership ON membership_history (tenant_id, whop_membership_id, id);

-- Payments of memberships, as far as they decide on grace. A payment is tried, and paid at last, once.
CREATE TABLE member_bills (
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_payment_id text NOT NULL,
    whop_membership_id text NOT NULL,
    failed_at timestamptz,                  -- the first time
    paid_at timestamptz,
    PRIMARY KEY (tenant_id, whop_payment_id)
);
CREATE INDEX member_bills_membership ON member_bills (tenant_id, whop_membership_id);

-- A person in a tenant, worked out from the memberships.
CREATE TABLE students (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_user_id text NOT NULL,
    access text NOT NULL DEFAULT 'none'     -- none: has never had any
        CHECK (access IN ('none', 'active', 'grace', 'revoked', 'archived')),
    access_until timestamptz,               -- when it ends as things stand; NULL: nobody knows of an end
    tier text NOT NULL REFERENCES tier_limits,
    tier_source text NOT NULL,              -- plan:..., product:..., default, override
    tier_override text REFERENCES tier_limits,
    version bigint NOT NULL DEFAULT 0,      -- rises with every change
    first_access_at timestamptz,
    revoked_at timestamptz,
    archived_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    updated_at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, whop_user_id),
    CHECK ((access IN ('revoked', 'archived')) = (revoked_at IS NOT NULL)),
    CHECK ((access = 'archived') = (archived_at IS NOT NULL))
);
CREATE INDEX students_revoked ON students (revoked_at) WHERE access = 'revoked';
CREATE INDEX students_tier ON students (tenant_id, tier) WHERE access IN ('active', 'grace');

-- What has become of a student, once each: whoever acts on it (mail, CRM, chat) begins from such a row.
CREATE TABLE member_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_user_id text NOT NULL,
    version bigint NOT NULL,                -- the student's
    change text NOT NULL CHECK (change IN ('gained', 'returned', 'lost', 'archived', 'changed')),
    from_access text NOT NULL,
    access text NOT NULL,
    from_tier text,
    tier text NOT NULL,
    whop_membership_id text,                -- the one that was told of, if there was one
    event_id text,
    backfill boolean NOT NULL,              -- found by a look through the books: nobody is written to
    actor text NOT NULL,
    at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, whop_user_id, version)
);
CREATE INDEX member_changes_at ON member_changes (tenant_id, at);

-- ---- what memberships give

-- By Whop's statuses; completed is paid for good, not ended. What the sender says of access beside
-- the status (a flag of older generations, or the event's own name) goes before it, but for a
-- payment that is late.
CREATE FUNCTION membership_gives(status text, claim text) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN claim = 'no' THEN 'no'
                WHEN status = 'past_due' THEN 'grace'
                WHEN claim = 'yes' OR status IN ('trialing', 'active', 'completed', 'canceling') THEN 'yes'
                ELSE 'no' END;

-- Whether status and claim belong together. An unknown status says nothing by itself.
CREATE FUNCTION membership_is_odd(status text, claim text) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN COALESCE(status, '') NOT IN ('trialing', 'active', 'past_due', 'completed', 'canceling', 'canceled',
                                        'expired', 'unresolved', 'drafted', 'deleted')
        OR COALESCE(claim = 'no', false) <> (membership_gives(status, NULL) = 'no')
            AND claim IS NOT NULL;

-- Since when a payment is owing: the first failure after which neither a payment came in nor Whop said
-- that all is well; where Whop only says past_due, when the period ended.
CREATE FUNCTION membership_owes_since(m memberships) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN gives = 'grace' THEN COALESCE(failed, CASE WHEN m.period_end < m.version_at THEN m.period_end END,
                                                   m.version_at)
                WHEN gives = 'yes' THEN failed END
    FROM (SELECT membership_gives(m.status, m.claim) AS gives,
                 (SELECT min(b.failed_at) FROM member_bills b
                  WHERE b.tenant_id = m.tenant_id AND b.whop_membership_id = m.whop_membership_id
                      AND b.paid_at IS NULL
                      AND b.failed_at > COALESCE((SELECT max(p.paid_at) FROM member_bills p
                                                  WHERE p.tenant_id = m.tenant_id
                                                      AND p.whop_membership_id = m.whop_membership_id), '-infinity')
                      AND (m.status = 'past_due' OR b.failed_at > greatest(m.version_at, m.read_at))) AS failed) known
$$;

CREATE FUNCTION member_setting(p_tenant bigint) RETURNS member_settings LANGUAGE sql STABLE AS $$
    SELECT p_tenant, COALESCE(own.default_tier, env.default_tier), COALESCE(own.grace, env.grace),
           COALESCE(own.archive_after, env.archive_after), COALESCE(own.updated_at, env.updated_at)
    FROM member_settings env LEFT JOIN member_settings own ON own.tenant_id = p_tenant
    WHERE env.tenant_id IS NULL
$$;

-- ---- what is told

-- A telling of a membership. kind: event; read (Whop was asked at asked_ms) or gone (Whop knows of none).
-- Texts are NULL where nothing was said; times Unix ms.
CREATE TYPE member_news AS (
    tenant bigint, membership text, kind text, whop_user text, plan text, product text,
    status text, claim text, cancels boolean, period_start_ms bigint, period_end_ms bigint,
    version_ms bigint, asked_ms bigint, uncertain boolean, event text,
    username text, name text, email text);

-- The students these are about, made if need be; their rows are locked. Likewise those of users whom
-- the memberships have been told of before.
CREATE FUNCTION members_lock(p_tenants bigint[], p_users text[], p_memberships text[]) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO students (tenant_id, whop_user_id, tier, tier_source)
        SELECT w.tenant, w.whop_user, (member_setting(w.tenant)).default_tier, 'default' FROM (
            SELECT DISTINCT u.tenant, u.whop_user FROM unnest(p_tenants, p_users) AS u(tenant, whop_user)
            WHERE u.whop_user <> '') w
        WHERE NOT EXISTS (SELECT FROM students s WHERE s.tenant_id = w.tenant AND s.whop_user_id = w.whop_user)
        ORDER BY w.tenant, w.whop_user COLLATE "C"
        ON CONFLICT DO NOTHING;
    PERFORM FROM students s WHERE (s.tenant_id, s.whop_user_id) IN (
            SELECT u.tenant, u.whop_user FROM unnest(p_tenants, p_users) AS u(tenant, whop_user)
            UNION SELECT m.tenant_id, m.whop_user_id FROM unnest(p_tenants, p_memberships) AS w(tenant, membership)
                JOIN memberships m ON m.tenant_id = w.tenant AND m.whop_membership_id = w.membership)
        ORDER BY s.tenant_id, s.whop_user_id COLLATE "C" FOR NO KEY UPDATE;
END $$;

CREATE FUNCTION members_note_user(n member_news) RETURNS void LANGUAGE sql
    BEGIN ATOMIC
    INSERT INTO whop_users AS old (tenant_id, whop_user_id, username, username_at, name, name_at, email, email_at)
        SELECT n.tenant, n.whop_user, n.username, CASE WHEN n.username IS NULL THEN '-infinity' ELSE v.at END,
               n.name, CASE WHEN n.name IS NULL THEN '-infinity' ELSE v.at END,
               n.email, CASE WHEN n.email IS NULL THEN '-infinity' ELSE v.at END
        FROM (SELECT whopline_from_ms(n.version_ms) AS at) v
        WHERE n.whop_user IS NOT NULL
        ON CONFLICT (tenant_id, whop_user_id) DO UPDATE SET
            (username, username_at) = (SELECT w.x, w.at FROM (VALUES (old.username, old.username_at),
                (EXCLUDED.username, EXCLUDED.username_at)) AS w(x, at) ORDER BY w.at DESC, w.x DESC NULLS LAST LIMIT 1),
            (name, name_at) = (SELECT w.x, w.at FROM (VALUES (old.name, old.name_at),
                (EXCLUDED.name, EXCLUDED.name_at)) AS w(x, at) ORDER BY w.at DESC, w.x DESC NULLS LAST LIMIT 1),
            (email, email_at) = (SELECT w.x, w.at FROM (VALUES (old.email, old.email_at),
                (EXCLUDED.email, EXCLUDED.email_at)) AS w(x, at) ORDER BY w.at DESC, w.x DESC NULLS LAST LIMIT 1),
            updated_at = whopline_now()
            WHERE (EXCLUDED.username_at, EXCLUDED.username) > (old.username_at, COALESCE(old.username, ''))
                OR (EXCLUDED.name_at, EXCLUDED.name) > (old.name_at, COALESCE(old.name, ''))
                OR (EXCLUDED.email_at, EXCLUDED.email) > (old.email_at, COALESCE(old.email, ''));
    END;

-- One telling. The student's row is locked. wants_read: Whop is to be asked; asked for before and not
-- answered yet, it is asked again only after ten minutes.
CREATE FUNCTION members_note_one(n member_news, OUT whop_user text, OUT was_user text, OUT is_changed boolean,
                                 OUT wants_read boolean)
    LANGUAGE plpgsql AS $$
DECLARE
    -- Our clock and Whop's may differ by so much: near a reading the order is anybody's guess.
    c_skew CONSTANT interval := '5 minutes';
    v_at timestamptz := whopline_from_ms(n.version_ms);
    v_asked timestamptz := whopline_from_ms(n.asked_ms);
    v_status text := CASE WHEN n.kind = 'gone' THEN 'deleted' ELSE n.status END;
    v_wins boolean;
    v_differs boolean;
    old memberships;
    m memberships;
BEGIN
    PERFORM members_note_user(n);
    INSERT INTO memberships (tenant_id, whop_membership_id) VALUES (n.tenant, n.membership) ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT old FROM memberships WHERE tenant_id = n.tenant AND whop_membership_id = n.membership
        FOR NO KEY UPDATE;
    m := old;
    IF n.kind = 'event' THEN
        v_wins := (v_at, membership_gives(v_status, n.claim) = 'no', COALESCE(v_status, ''), n.event COLLATE "C")
            > (m.version_at, membership_gives(m.status, m.claim) = 'no', COALESCE(m.status, ''), m.event_id COLLATE "C")
            AND v_at > m.read_at - c_skew AND (v_status IS NOT NULL OR n.claim IS NOT NULL);
    ELSE
        -- What was told after we asked need not be in the answer.
        v_wins := v_asked >= m.read_at AND v_asked >= m.told_at;
    END IF;
    v_differs := membership_gives(v_status, n.claim) <> membership_gives(m.status, m.claim)
        AND m.version_at > '-infinity';
    wants_read := n.kind = 'event' AND (n.uncertain OR membership_is_odd(v_status, n.claim)
        OR v_differs AND (v_at = m.version_at OR v_at BETWEEN m.read_at - c_skew AND m.read_at + c_skew)
        OR n.whop_user IS NULL AND m.whop_user_id IS NULL)
        OR n.kind <> 'event' AND NOT v_wins AND v_differs AND v_asked >= m.read_at;

    IF v_wins THEN
        m.status := v_status;
        m.claim := n.claim;
        m.event_id := n.event;
        IF n.kind = 'event' THEN
            m.version_at := v_at;
            m.told_at := whopline_now();
        ELSE -- what was told of that very moment has its answer now; nothing may lie in the future
            m.version_at := greatest(v_at, least(m.version_at, v_asked)) + interval '1 microsecond';
        END IF;
    END IF;
    IF n.kind <> 'event' AND v_asked > m.read_at THEN
        m.read_at := v_asked;
        m.read_wanted_at := NULL;
    END IF;
    IF n.whop_user IS NOT NULL AND (v_at, n.whop_user COLLATE "C") > (m.user_at, COALESCE(m.whop_user_id, '') COLLATE "C") THEN
        m.whop_user_id := n.whop_user;
        m.user_at := v_at;
    END IF;
    IF n.plan IS NOT NULL AND (v_at, n.plan COLLATE "C") > (m.plan_at, COALESCE(m.whop_plan_id, '') COLLATE "C") THEN
        m.whop_plan_id := n.plan;
        m.plan_at := v_at;
    END IF;
    IF n.product IS NOT NULL AND (v_at, n.product COLLATE "C") > (m.product_at, COALESCE(m.whop_product_id, '') COLLATE "C") THEN
        m.whop_product_id := n.product;
        m.product_at := v_at;
    END IF;
    IF n.period_end_ms IS NOT NULL AND (v_at, n.period_end_ms) > (m.period_at, COALESCE(extract(epoch FROM m.period_end) * 1000, 0)) THEN
        m.period_start := whopline_from_ms(n.period_start_ms);
        m.period_end := whopline_from_ms(n.period_end_ms);
        m.period_at := v_at;
    END IF;
    IF n.cancels IS NOT NULL AND (v_at, n.cancels) > (m.cancel_at, m.cancel_at_period_end) THEN
        m.cancel_at_period_end := n.cancels;
        m.cancel_at := v_at;
    END IF;
    wants_read := COALESCE(wants_read, false)
        AND COALESCE(m.read_wanted_at < whopline_now() - interval '10 minutes', true);
    IF wants_read THEN
        m.read_wanted_at := whopline_now();
    END IF;
    -- That Whop's answer has no claim beside the status, as events have, is no news.
    is_changed := (m.status, membership_gives(m.status, m.claim), m.whop_user_id, m.whop_plan_id, m.whop_product_id,
                   m.period_end, m.cancel_at_period_end) IS DISTINCT FROM
        (old.status, membership_gives(old.status, old.claim), old.whop_user_id, old.whop_plan_id, old.whop_product_id,
         old.period_end, old.cancel_at_period_end);
    IF m IS DISTINCT FROM old THEN
        UPDATE memberships SET whop_user_id = m.whop_user_id, user_at = m.user_at, whop_plan_id = m.whop_plan_id,
            plan_at = m.plan_at, whop_product_id = m.whop_product_id, product_at = m.product_at, status = m.status,
            claim = m.claim, period_start = m.period_start, period_end = m.period_end, period_at = m.period_at,
            cancel_at_period_end = m.cancel_at_period_end, cancel_at = m.cancel_at, version_at = m.version_at,
            event_id = m.event_id, told_at = m.told_at, read_at = m.read_at, read_wanted_at = m.read_wanted_at,
            updated_at = whopline_now()
            WHERE id = m.id;
    END IF;
    IF m.status IS DISTINCT FROM old.status THEN
        INSERT INTO membership_history (tenant_id, whop_membership_id, from_status, to_status, version_at, event_id)
            VALUES (n.tenant, n.membership, old.status, m.status, m.version_at, n.event);
    END IF;
    whop_user := m.whop_user_id;
    was_user := old.whop_user_id;
END $$;

-- Takes down what memberships are told to be; students and memberships are locked from then on. place:
-- of the telling in p_news, from 0. An answer for each, in any order.
CREATE FUNCTION members_note(p_news jsonb)
    RETURNS TABLE (place integer, whop_user text, was_user text, is_changed boolean, wants_read boolean)
    LANGUAGE plpgsql AS $$
DECLARE
    told record;
BEGIN
    PERFORM members_lock(array_agg((e->>'tenant')::bigint), array_agg(e->>'whop_user'), array_agg(e->>'membership'))
        FROM jsonb_array_elements(p_news) e;
    FOR told IN
        SELECT t.at - 1 AS place, jsonb_populate_record(NULL::member_news, t.news) AS news
        FROM jsonb_array_elements(p_news) WITH ORDINALITY AS t(news, at)
        ORDER BY (t.news->>'tenant')::bigint, t.news->>'membership' COLLATE "C", (t.news->>'version_ms')::bigint, t.at
    LOOP
        place := told.place;
        SELECT o.* INTO whop_user, was_user, is_changed, wants_read FROM members_note_one(told.news) o;
        RETURN NEXT;
    END LOOP;
END $$;

-- Payments tried or paid, of memberships: [{tenant, payment, membership, whop_user, failed_ms, paid_ms}].
-- Answers with the students whom they concern.
CREATE FUNCTION members_note_bills(p_bills jsonb) RETURNS TABLE (tenant_id bigint, whop_user_id text)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- A bill makes nobody a student: only those who are there are locked.
    PERFORM members_lock(array_agg((e->>'tenant')::bigint), array_agg(NULL::text), array_agg(e->>'membership'))
        FROM jsonb_array_elements(p_bills) e;
    -- Who tells of the membership at the same time waits for this row, or this for his.
    INSERT INTO memberships (tenant_id, whop_membership_id)
        SELECT tenant, membership FROM jsonb_to_recordset(p_bills) AS b(tenant bigint, membership text)
        GROUP BY 1, 2 ORDER BY tenant, membership COLLATE "C" ON CONFLICT DO NOTHING;
    INSERT INTO member_bills AS old (tenant_id, whop_payment_id, whop_membership_id, failed_at, paid_at)
        SELECT tenant, payment, min(membership), whopline_from_ms(min(failed_ms)), whopline_from_ms(min(paid_ms))
        FROM jsonb_to_recordset(p_bills) AS b(tenant bigint, payment text, membership text, failed_ms bigint,
                                              paid_ms bigint)
        GROUP BY tenant, payment ORDER BY tenant, payment COLLATE "C"
        ON CONFLICT (tenant_id, whop_payment_id) DO UPDATE SET
            failed_at = least(old.failed_at, EXCLUDED.failed_at), paid_at = least(old.paid_at, EXCLUDED.paid_at);
    RETURN QUERY SELECT DISTINCT m.tenant_id, m.whop_user_id
        FROM jsonb_to_recordset(p_bills) AS b(tenant bigint, membership text)
        JOIN memberships m ON m.tenant_id = b.tenant AND m.whop_membership_id = b.membership
        WHERE m.whop_user_id IS NOT NULL;
END $$;

-- ---- what follows from it

-- What a student's memberships come to, now. His row is locked; theirs are brought up to date.
CREATE FUNCTION members_work_out(s students, OUT access text, OUT access_until timestamptz, OUT tier text,
                                 OUT tier_source text, OUT recheck_at timestamptz)
    LANGUAGE plpgsql AS $$
DECLARE
    v_setting member_settings := member_setting(s.tenant_id);
    v_now timestamptz := whopline_now();
BEGIN
    UPDATE memberships m SET access = w.access, grace_until = w.until, updated_at = v_now
    FROM (SELECT k.id, k.until, CASE WHEN k.gives = 'no' THEN 'no' WHEN k.until IS NULL THEN 'yes'
                                     WHEN k.until > v_now THEN 'grace' ELSE 'no' END AS access
          FROM (SELECT q.id, membership_gives(q.status, q.claim) AS gives,
                       membership_owes_since(q) + v_setting.grace AS until
                FROM memberships q WHERE q.tenant_id = s.tenant_id AND q.whop_user_id = s.whop_user_id) k) w
    WHERE m.id = w.id AND (m.access, m.grace_until) IS DISTINCT FROM (w.access, w.until);

    SELECT CASE WHEN bool_or(m.access = 'yes') THEN 'active' WHEN bool_or(m.access = 'grace') THEN 'grace'
                WHEN s.access = 'archived' THEN 'archived'
                -- Whatever has ended had begun, whether that was told before or not.
                WHEN s.first_access_at IS NOT NULL OR bool_or(m.status <> 'drafted') THEN 'revoked'
                ELSE 'none' END,
           NULLIF(max(CASE WHEN m.access = 'grace' THEN m.grace_until
                           WHEN m.cancel_at_period_end OR m.status IN ('canceling', 'canceled')
                               THEN COALESCE(m.period_end, 'infinity')
                           ELSE 'infinity' END) FILTER (WHERE m.access <> 'no'), 'infinity'),
           min(m.grace_until) FILTER (WHERE m.access = 'grace')
        INTO access, access_until, recheck_at
        FROM memberships m WHERE m.tenant_id = s.tenant_id AND m.whop_user_id = s.whop_user_id;

    SELECT l.tier, mapped.source INTO tier, tier_source FROM (
            SELECT CASE WHEN p.tier IS NOT NULL THEN p.tier ELSE o.tier END AS tier,
                   CASE WHEN p.tier IS NOT NULL THEN 'plan:' || p.whop_id ELSE 'product:' || o.whop_id END AS source
            FROM memberships m
            LEFT JOIN tier_map p ON p.tenant_id = m.tenant_id AND p.match_kind = 'plan' AND p.whop_id = m.whop_plan_id
            LEFT JOIN tier_map o ON o.tenant_id = m.tenant_id AND o.match_kind = 'product'
                AND o.whop_id = m.whop_product_id
            WHERE m.tenant_id = s.tenant_id AND m.whop_user_id = s.whop_user_id AND m.access <> 'no') mapped
        JOIN tier_limits l ON l.tier = mapped.tier
        ORDER BY l.rank DESC, mapped.source LIMIT 1;
    IF s.tier_override IS NOT NULL THEN
        tier := s.tier_override;
        tier_source := 'override';
    ELSIF tier IS NULL THEN
        tier := v_setting.default_tier;
        tier_source := 'default';
    END IF;
END $$;

-- Brings students in line with their memberships, and tells what has become of them: a row for each
-- student who changed or whose membership did, or who is to be looked at again at recheck_at.
-- p_about: [{tenant, whop_user, membership, event, is_changed, backfill}], several of one user at will.
CREATE FUNCTION members_settle(p_about jsonb, p_actor text)
    RETURNS TABLE (tenant_id bigint, whop_user_id text, change_id bigint, change text, from_access text, access text,
                   from_tier text, tier text, tier_source text, version bigint, whop_membership_id text, event_id text,
                   backfill boolean, recheck_at timestamptz)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    a record;
    w record;
    s students;
    v_change text;
    v_had boolean;
    v_has boolean;
BEGIN
    PERFORM members_lock(array_agg((e->>'tenant')::bigint), array_agg(e->>'whop_user'), array_agg(NULL::text))
        FROM jsonb_array_elements(p_about) e;
    FOR a IN
        SELECT b.tenant, b.whop_user, bool_or(b.is_changed) AS is_changed, bool_and(b.backfill) AS backfill,
               max(b.membership) FILTER (WHERE b.is_changed) AS membership, max(b.event) FILTER (WHERE b.is_changed) AS event
        FROM jsonb_to_recordset(p_about) AS b(tenant bigint, whop_user text, membership text, event text,
                                              is_changed boolean, backfill boolean)
        WHERE b.whop_user <> ''
        GROUP BY b.tenant, b.whop_user ORDER BY b.tenant, b.whop_user COLLATE "C"
    LOOP
        SELECT q.* INTO STRICT s FROM students q WHERE q.tenant_id = a.tenant AND q.whop_user_id = a.whop_user
            FOR NO KEY UPDATE;
        SELECT o.* INTO w FROM members_work_out(s) o;
        v_had := s.access IN ('active', 'grace');
        v_has := w.access IN ('active', 'grace');
        v_change := CASE WHEN v_has AND NOT v_had AND s.first_access_at IS NULL THEN 'gained'
                         WHEN v_has AND NOT v_had THEN 'returned'
                         WHEN v_had AND NOT v_has THEN 'lost'
                         WHEN a.is_changed OR (s.access, s.access_until, s.tier, s.tier_source)
                            IS DISTINCT FROM (w.access, w.access_until, w.tier, w.tier_source) THEN 'changed' END;
        IF v_change IS NOT NULL THEN
            UPDATE students q SET access = w.access, access_until = w.access_until, tier = w.tier,
                tier_source = w.tier_source, version = q.version + 1,
                first_access_at = CASE WHEN v_has THEN COALESCE(q.first_access_at, whopline_now())
                                       ELSE q.first_access_at END,
                revoked_at = CASE WHEN w.access IN ('revoked', 'archived') THEN COALESCE(q.revoked_at, whopline_now()) END,
                archived_at = CASE WHEN w.access = 'archived' THEN q.archived_at END,
                updated_at = whopline_now()
                WHERE q.id = s.id;
            INSERT INTO member_changes AS c (tenant_id, whop_user_id, version, change, from_access, access, from_tier,
                                             tier, whop_membership_id, event_id, backfill, actor)
                VALUES (s.tenant_id, s.whop_user_id, s.version + 1, v_change, s.access, w.access, s.tier, w.tier,
                        a.membership, a.event, a.backfill, p_actor)
                RETURNING c.id INTO change_id;
        ELSE
            change_id := NULL;
        END IF;
        CONTINUE WHEN v_change IS NULL AND w.recheck_at IS NULL;
        RETURN QUERY SELECT s.tenant_id, s.whop_user_id, change_id, v_change, s.access, w.access, s.tier, w.tier,
            w.tier_source, s.version + (v_change IS NOT NULL)::integer, a.membership, a.event, a.backfill, w.recheck_at;
    END LOOP;
END $$;

-- Students whose access has been gone for long; a portion at a time, how many.
CREATE FUNCTION members_archive(p_max integer, p_actor text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    s students;
    v_count integer := 0;
BEGIN
    FOR s IN SELECT q.* FROM students q
        WHERE q.access = 'revoked' AND q.revoked_at <= whopline_now() - (member_setting(q.tenant_id)).archive_after
        ORDER BY q.tenant_id, q.whop_user_id COLLATE "C" LIMIT p_max FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        UPDATE students SET access = 'archived', archived_at = whopline_now(), version = s.version + 1,
            updated_at = whopline_now() WHERE id = s.id;
        INSERT INTO member_changes (tenant_id, whop_user_id, version, change, from_access, access, from_tier, tier,
                                    backfill, actor)
            VALUES (s.tenant_id, s.whop_user_id, s.version + 1, 'archived', 'revoked', 'archived', s.tier, s.tier,
                    false, p_actor);
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'member%'
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
