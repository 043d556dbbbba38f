-- What applications ask: has this person access, to what tier, how much of it is used. Each question
-- is one call of a function that a role may be granted (whopline members allow ROLE).

-- As the environment says; whopline-members writes it down when it starts.
CREATE TABLE access_settings (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    cache interval NOT NULL,                -- how long what is known of a member is good as it is
    negative interval NOT NULL,             -- the same of one without access
    stale_max interval NOT NULL,            -- how long a member keeps access while Whop does not answer
    strangers_max integer NOT NULL,         -- of a tenant, asked about at once
    updated_at timestamptz NOT NULL DEFAULT whopline_now()
);
INSERT INTO access_settings (cache, negative, stale_max, strangers_max) VALUES ('300 s', '30 s', '24 h', 100);

-- Whom Whop is, or was, asked about because an application wanted to know.
CREATE TABLE access_asks (
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_id text NOT NULL,                  -- user_... or mem_...
    job_id uuid,                            -- NULL: the tenant was held
    is_open boolean NOT NULL,
    since timestamptz NOT NULL,             -- the first time that nobody has answered yet
    asked_at timestamptz NOT NULL,          -- the last time
    answered_at timestamptz,                -- as of then is what Whop has said last
    PRIMARY KEY (tenant_id, whop_id)
);
CREATE INDEX access_asks_open ON access_asks (tenant_id) WHERE is_open;
CREATE INDEX access_asks_asked ON access_asks (asked_at);

-- ---- usage

CREATE TABLE usage_settings (
    tenant_id bigint PRIMARY KEY REFERENCES tenants,
    zone text NOT NULL DEFAULT 'UTC',       -- in which its days and months begin
    updated_at timestamptz NOT NULL DEFAULT whopline_now()
);

-- What is used and reserved, of a student or ('') of the tenant's creator. A row is locked first by
-- whatever touches its figures. period: the month's first day, for what is counted by the month.
CREATE TABLE usage_totals (
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_user_id text NOT NULL,
    metric text NOT NULL CHECK (metric IN ('videos', 'storage_bytes', 'ai_credits', 'students')),
    period date NOT NULL,                   -- -infinity: of what is not counted by the month
    used bigint NOT NULL DEFAULT 0,         -- below 0: a deletion was told of before its upload
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    PRIMARY KEY (tenant_id, whop_user_id, metric, period)
);

CREATE TABLE usage_reservations (
    tenant_id bigint NOT NULL REFERENCES tenants,
    request_id text NOT NULL,
    whop_user_id text NOT NULL,
    metric text NOT NULL,
    period date NOT NULL,                   -- of the reservation: a commit after the month's end counts there
    amount bigint NOT NULL CHECK (amount > 0),
    state text NOT NULL DEFAULT 'reserved' CHECK (state IN ('reserved', 'committed', 'released', 'expired')),
    committed bigint,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT whopline_now(),
    ended_at timestamptz,
    PRIMARY KEY (tenant_id, request_id),
    CHECK ((state = 'reserved') = (ended_at IS NULL))
);
CREATE INDEX usage_reservations_open ON usage_reservations (tenant_id, whop_user_id, metric, period, expires_at)
    WHERE state = 'reserved';

-- How much a day has added: for statistics; the sum of a metric's days is its total.
CREATE TABLE usage_metrics (
    tenant_id bigint NOT NULL REFERENCES tenants,
    day date NOT NULL,                      -- in the tenant's zone
    metric text NOT NULL,
    whop_user_id text NOT NULL DEFAULT '',
    value bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, metric, whop_user_id)
);

-- What was counted without a reservation, once each.
CREATE TABLE usage_events (
    tenant_id bigint NOT NULL REFERENCES tenants,
    event_key text NOT NULL,
    whop_user_id text NOT NULL,
    metric text NOT NULL,
    amount bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT whopline_now(),
    PRIMARY KEY (tenant_id, event_key)
);

-- Thresholds that were passed, each once a month. Who tells the user begins from such a row.
CREATE TABLE usage_warnings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_user_id text NOT NULL,             -- '': the creator
    metric text NOT NULL,
    period date NOT NULL,                   -- the month, in the tenant's zone
    percent integer NOT NULL CHECK (percent IN (80, 95, 100)),
    is_highest boolean NOT NULL,            -- false: passed together with a higher one, which is the one to tell of
    used bigint NOT NULL,
    most bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT whopline_now(),
    UNIQUE (tenant_id, whop_user_id, metric, period, percent)
);

CREATE TYPE usage_answer AS (
    result text,
    used bigint,
    reserved bigint,
    most bigint,                            -- -1: without limit
    free bigint                             -- NULL: without limit
);

CREATE FUNCTION usage_today(p_tenant bigint) RETURNS date LANGUAGE sql STABLE
    RETURN (whopline_now() AT TIME ZONE COALESCE((SELECT zone FROM usage_settings WHERE tenant_id = p_tenant), 'UTC'))::date;

CREATE FUNCTION usage_month(p_tenant bigint) RETURNS date LANGUAGE sql STABLE
    RETURN date_trunc('month', usage_today(p_tenant)::timestamp)::date;

-- Credits are so many a month; what is kept counts as long as it is there.
CREATE FUNCTION usage_period(p_tenant bigint, p_metric text) RETURNS date LANGUAGE sql STABLE
    RETURN CASE WHEN p_metric = 'ai_credits' THEN usage_month(p_tenant) ELSE '-infinity'::date END;

-- The creator's own limits.
CREATE FUNCTION usage_creator_limits(p_tenant bigint) RETURNS tier_limits LANGUAGE sql STABLE AS $$
    SELECT l FROM tier_limits l WHERE l.tier = (member_setting(p_tenant)).default_tier
$$;

CREATE FUNCTION usage_limits(p_tenant bigint, p_user text) RETURNS tier_limits LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE WHEN p_user = '' THEN usage_creator_limits(p_tenant)
        ELSE (SELECT l FROM students s JOIN tier_limits l ON l.tier = s.tier
              WHERE s.tenant_id = p_tenant AND s.whop_user_id = p_user) END;
END $$;

CREATE FUNCTION usage_most(l tier_limits, p_metric text) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN CASE p_metric WHEN 'videos' THEN l.videos WHEN 'storage_bytes' THEN l.storage_bytes
                         WHEN 'ai_credits' THEN l.ai_credits_month WHEN 'students' THEN l.students END;

-- Students are counted where they are kept: in the register.
CREATE FUNCTION usage_used(t usage_totals) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE WHEN t.metric = 'students'
        THEN (SELECT count(*) FROM students s WHERE s.tenant_id = t.tenant_id AND s.access IN ('active', 'grace'))
        ELSE t.used END;
END $$;

CREATE FUNCTION usage_answer_of(p_result text, t usage_totals) RETURNS usage_answer LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_most bigint := usage_most(usage_limits(t.tenant_id, t.whop_user_id), t.metric);
    v_used bigint := usage_used(t);
BEGIN
    RETURN (p_result, v_used, t.reserved, v_most,
            CASE WHEN v_most <> -1 THEN greatest(v_most - greatest(v_used, 0) - t.reserved, 0) END)::usage_answer;
END $$;

-- The figures, locked; what was reserved for too long is free again.
CREATE FUNCTION usage_lock(p_tenant bigint, p_user text, p_metric text, p_period date) RETURNS usage_totals
    LANGUAGE plpgsql AS $$
DECLARE
    t usage_totals;
    v_expired bigint;
BEGIN
    INSERT INTO usage_totals (tenant_id, whop_user_id, metric, period) VALUES (p_tenant, p_user, p_metric, p_period)
        ON CONFLICT DO NOTHING;
    PERFORM FROM usage_totals WHERE tenant_id = p_tenant AND whop_user_id = p_user AND metric = p_metric
        AND period = p_period FOR NO KEY UPDATE;
    WITH gone AS (
        UPDATE usage_reservations SET state = 'expired', ended_at = whopline_now()
        WHERE tenant_id = p_tenant AND whop_user_id = p_user AND metric = p_metric AND period = p_period
            AND state = 'reserved' AND expires_at <= whopline_now()
        RETURNING amount)
    SELECT sum(amount) INTO v_expired FROM gone;
    UPDATE usage_totals SET reserved = reserved - COALESCE(v_expired, 0)
        WHERE tenant_id = p_tenant AND whop_user_id = p_user AND metric = p_metric AND period = p_period
        RETURNING * INTO t;
    RETURN t;
END $$;

CREATE FUNCTION usage_warn(t usage_totals) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_most bigint := usage_most(usage_limits(t.tenant_id, t.whop_user_id), t.metric);
    v_used bigint := usage_used(t);
BEGIN
    INSERT INTO usage_warnings (tenant_id, whop_user_id, metric, period, percent, is_highest, used, most)
        SELECT t.tenant_id, t.whop_user_id, t.metric, usage_month(t.tenant_id), p.percent,
               p.percent = max(p.percent) OVER (), v_used, v_most
        FROM (VALUES (80), (95), (100)) p(percent)
        -- As numeric: 100 times the bytes of a large disc are no bigint.
        WHERE v_most > 0 AND v_used::numeric * 100 >= v_most::numeric * p.percent
        ON CONFLICT DO NOTHING;
END $$;

-- Adds to the figures, which are locked.
CREATE FUNCTION usage_move(t usage_totals, p_delta bigint) RETURNS usage_totals LANGUAGE plpgsql AS $$
BEGIN
    UPDATE usage_totals u SET used = u.used + p_delta
        WHERE u.tenant_id = t.tenant_id AND u.whop_user_id = t.whop_user_id AND u.metric = t.metric AND u.period = t.period
        RETURNING u.* INTO t;
    IF p_delta <> 0 THEN
        INSERT INTO usage_metrics AS d (tenant_id, day, metric, whop_user_id, value)
            VALUES (t.tenant_id, usage_today(t.tenant_id), t.metric, t.whop_user_id, p_delta)
            ON CONFLICT (tenant_id, day, metric, whop_user_id) DO UPDATE SET value = d.value + EXCLUDED.value;
    END IF;
    IF p_delta > 0 THEN
        PERFORM usage_warn(t);
    END IF;
    RETURN t;
END $$;

CREATE FUNCTION access_tenant(p_company text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_tenant bigint := (SELECT id FROM tenants WHERE whop_company_id = p_company OR slug = p_company);
BEGIN
    IF v_tenant IS NULL THEN
        RAISE EXCEPTION 'no tenant is called "%": give the company''s id or the slug that whopline tenants ls shows', p_company
            USING ERRCODE = '22023';
    END IF;
    RETURN v_tenant;
END $$;

-- What an application may say of an amount; large enough for bytes, small enough to be added up.
CREATE FUNCTION usage_is_sound(p_user text, p_metric text, p_amount bigint, p_key text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN COALESCE(p_metric IN ('videos', 'storage_bytes', 'ai_credits') OR p_metric = 'students' AND p_user = '', false)
        AND COALESCE(p_amount BETWEEN -1000000000000000 AND 1000000000000000, false)
        AND COALESCE(length(p_key) BETWEEN 1 AND 200, false);

-- Takes a place of so much beforehand. p_user NULL: of the creator. reserved, repeated (this request has
-- been made), conflict (another one has, with this id), over_limit, no_access or invalid.
CREATE FUNCTION usage_reserve(p_company text, p_user text, p_metric text, p_amount bigint, p_request_id text,
                              p_for interval DEFAULT '15 minutes') RETURNS usage_answer
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_tenant bigint := access_tenant(p_company);
    v_user text := COALESCE(p_user, '');
    t usage_totals;
    r usage_reservations;
    a usage_answer;
BEGIN
    IF NOT usage_is_sound(v_user, p_metric, p_amount, p_request_id) OR p_amount <= 0 OR COALESCE(p_for, '0') <= '0' THEN
        a.result := 'invalid';
        RETURN a;
    END IF;
    IF v_user <> '' AND NOT EXISTS (SELECT FROM students WHERE tenant_id = v_tenant AND whop_user_id = v_user) THEN
        a.result := 'no_access';
        RETURN a;
    END IF;
    t := usage_lock(v_tenant, v_user, p_metric, usage_period(v_tenant, p_metric));
    SELECT * INTO r FROM usage_reservations WHERE tenant_id = v_tenant AND request_id = p_request_id;
    IF FOUND THEN
        RETURN usage_answer_of(CASE WHEN (r.whop_user_id, r.metric, r.amount) = (v_user, p_metric, p_amount)
                               THEN 'repeated' ELSE 'conflict' END, t);
    END IF;
    a := usage_answer_of('reserved', t);
    IF v_user <> '' AND NOT EXISTS (SELECT FROM students WHERE tenant_id = v_tenant AND whop_user_id = v_user
                                    AND access IN ('active', 'grace')) THEN
        a.result := 'no_access';
        RETURN a;
    END IF;
    IF a.free < p_amount THEN
        a.result := 'over_limit';
        RETURN a;
    END IF;
    INSERT INTO usage_reservations (tenant_id, request_id, whop_user_id, metric, period, amount, expires_at)
        VALUES (v_tenant, p_request_id, v_user, p_metric, t.period, p_amount, whopline_now() + p_for)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        a.result := 'conflict'; -- another user's, just now
        RETURN a;
    END IF;
    UPDATE usage_totals u SET reserved = u.reserved + p_amount
        WHERE u.tenant_id = v_tenant AND u.whop_user_id = v_user AND u.metric = p_metric AND u.period = t.period
        RETURNING u.* INTO t;
    RETURN usage_answer_of('reserved', t);
END $$;

-- Ends a reservation. It holds what it has promised, whatever has become of the limits since.
CREATE FUNCTION usage_end(p_tenant bigint, p_request_id text, p_amount bigint, p_state text) RETURNS usage_answer
    LANGUAGE plpgsql AS $$
DECLARE
    r usage_reservations;
    t usage_totals;
    a usage_answer;
    v_amount bigint;
BEGIN
    SELECT * INTO r FROM usage_reservations WHERE tenant_id = p_tenant AND request_id = p_request_id;
    IF NOT FOUND THEN
        a.result := 'unknown';
        RETURN a;
    END IF;
    t := usage_lock(r.tenant_id, r.whop_user_id, r.metric, r.period);
    SELECT * INTO STRICT r FROM usage_reservations WHERE tenant_id = p_tenant AND request_id = p_request_id;
    v_amount := COALESCE(p_amount, r.amount);
    IF r.state <> 'reserved' THEN
        RETURN usage_answer_of(CASE WHEN r.state = p_state AND COALESCE(r.committed, 0) = v_amount THEN 'repeated'
                               ELSE r.state END, t);
    END IF;
    IF v_amount NOT BETWEEN 0 AND r.amount THEN
        RETURN usage_answer_of('invalid', t);
    END IF;
    UPDATE usage_reservations SET state = p_state, committed = v_amount, ended_at = whopline_now()
        WHERE tenant_id = p_tenant AND request_id = p_request_id;
    UPDATE usage_totals u SET reserved = u.reserved - r.amount
        WHERE u.tenant_id = t.tenant_id AND u.whop_user_id = t.whop_user_id AND u.metric = t.metric AND u.period = t.period;
    t := usage_move(t, CASE WHEN r.metric = 'students' THEN 0 ELSE v_amount END);
    RETURN usage_answer_of(p_state, t);
END $$;

-- p_amount: at most what was reserved; NULL: all of it. committed, repeated, released, expired (its
-- place has been given away), unknown or invalid.
CREATE FUNCTION usage_commit(p_company text, p_request_id text, p_amount bigint DEFAULT NULL) RETURNS usage_answer
    LANGUAGE sql SECURITY DEFINER
    RETURN usage_end(access_tenant(p_company), p_request_id, p_amount, 'committed');

CREATE FUNCTION usage_release(p_company text, p_request_id text) RETURNS usage_answer
    LANGUAGE sql SECURITY DEFINER
    RETURN usage_end(access_tenant(p_company), p_request_id, 0, 'released');

-- What has happened anyway, a deletion say, once for each event key: counted, repeated, conflict,
-- no_access (nobody knows this user) or invalid.
CREATE FUNCTION usage_add(p_company text, p_user text, p_metric text, p_amount bigint, p_event_key text)
    RETURNS usage_answer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_tenant bigint := access_tenant(p_company);
    v_user text := COALESCE(p_user, '');
    t usage_totals;
    e usage_events;
    a usage_answer;
BEGIN
    IF NOT usage_is_sound(v_user, p_metric, p_amount, p_event_key) OR p_amount = 0 OR p_metric = 'students' THEN
        a.result := 'invalid';
        RETURN a;
    END IF;
    IF v_user <> '' AND NOT EXISTS (SELECT FROM students WHERE tenant_id = v_tenant AND whop_user_id = v_user) THEN
        a.result := 'no_access';
        RETURN a;
    END IF;
    t := usage_lock(v_tenant, v_user, p_metric, usage_period(v_tenant, p_metric));
    INSERT INTO usage_events (tenant_id, event_key, whop_user_id, metric, amount)
        VALUES (v_tenant, p_event_key, v_user, p_metric, p_amount) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO e FROM usage_events WHERE tenant_id = v_tenant AND event_key = p_event_key;
        RETURN usage_answer_of(CASE WHEN (e.whop_user_id, e.metric, e.amount) = (v_user, p_metric, p_amount)
                               THEN 'repeated' ELSE 'conflict' END, t);
    END IF;
    RETURN usage_answer_of('counted', usage_move(t, p_amount));
END $$;

CREATE FUNCTION usage_now(p_tenant bigint, p_user text)
    RETURNS TABLE (metric text, used bigint, reserved bigint, most bigint, free bigint, period date)
    LANGUAGE sql STABLE AS $$
    SELECT w.metric, a.used, a.reserved, a.most, a.free, NULLIF(w.period, '-infinity')
    FROM (SELECT k.metric, usage_period(p_tenant, k.metric) AS period
          FROM (VALUES ('videos'), ('storage_bytes'), ('ai_credits'), ('students')) k(metric)
          WHERE k.metric <> 'students' OR p_user = '') w
    LEFT JOIN LATERAL (SELECT COALESCE(sum(r.amount), 0)::bigint AS amount FROM usage_reservations r
                       WHERE r.tenant_id = p_tenant AND r.whop_user_id = p_user AND r.metric = w.metric
                           AND r.period = w.period AND r.state = 'reserved' AND r.expires_at > whopline_now()) held ON true
    LEFT JOIN usage_totals t ON t.tenant_id = p_tenant AND t.whop_user_id = p_user AND t.metric = w.metric
        AND t.period = w.period
    CROSS JOIN LATERAL usage_answer_of('', (p_tenant, p_user, w.metric, w.period, COALESCE(t.used, 0),
                                            held.amount)::usage_totals) a
$$;

-- How things stand: of a student, or (p_user NULL) of the creator. period: the month, where it counts.
CREATE FUNCTION usage_show(p_company text, p_user text)
    RETURNS TABLE (metric text, used bigint, reserved bigint, most bigint, free bigint, period date)
    LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT n.* FROM usage_now(access_tenant(p_company), COALESCE(p_user, '')) n
$$;

-- Of what there is more than the tier allows: after a downgrade. Nothing is taken away; new uploads are refused.
CREATE FUNCTION usage_over(p_tenant bigint, p_user text) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT COALESCE(array_agg(n.metric ORDER BY n.metric), '{}') FROM usage_now(p_tenant, p_user) n
    WHERE n.most <> -1 AND n.used > n.most
$$;

-- What must never differ; empty when all is well.
CREATE VIEW usage_mismatches AS
SELECT t.*, d.value AS days, h.amount AS held
FROM (SELECT tenant_id, whop_user_id, metric, sum(used) AS used, sum(reserved) AS reserved
      FROM usage_totals GROUP BY 1, 2, 3) t
LEFT JOIN LATERAL (SELECT COALESCE(sum(m.value), 0) AS value FROM usage_metrics m WHERE m.tenant_id = t.tenant_id
                   AND m.whop_user_id = t.whop_user_id AND m.metric = t.metric) d ON true
LEFT JOIN LATERAL (SELECT COALESCE(sum(r.amount), 0) AS amount FROM usage_reservations r
                   WHERE r.tenant_id = t.tenant_id AND r.whop_user_id = t.whop_user_id AND r.metric = t.metric
                       AND r.state = 'reserved') h ON true
WHERE t.used <> d.value OR t.reserved <> h.amount;

-- ---- who has access

CREATE TYPE member_answer AS (
    has_access boolean,
    access text,                            -- none, active, grace, revoked, archived; NULL: unknown
    tier text,
    features text[],
    limits jsonb,                           -- -1: without limit
    until timestamptz,                      -- when it ends as things stand; NULL: nobody knows of an end
    over_limit text[],                      -- metrics of which there is more than the tier allows
    state text,                             -- fresh, stale, pending or unknown
    version bigint,                         -- rises with every change of the student; 0: nobody knows him
    whop_user_id text
);

-- What is known here, and as of when. p_membership NULL: of the user, by all his memberships; else by this
-- one alone, with the user's tier.
CREATE FUNCTION access_known(p_tenant bigint, p_user text, p_membership text, OUT answer member_answer,
                             OUT is_known boolean, OUT known_at timestamptz)
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    m memberships;
    s students;
    l tier_limits;
BEGIN
    IF p_membership IS NOT NULL THEN
        SELECT * INTO m FROM memberships WHERE tenant_id = p_tenant AND whop_membership_id = p_membership;
        p_user := m.whop_user_id;
    END IF;
    SELECT * INTO s FROM students WHERE tenant_id = p_tenant AND whop_user_id = p_user;
    SELECT max(a.answered_at) INTO known_at FROM access_asks a
        WHERE a.tenant_id = p_tenant AND a.whop_id IN (p_user, p_membership);
    is_known := s.id IS NOT NULL AND (p_membership IS NULL OR m.status IS NOT NULL OR m.claim IS NOT NULL);
    answer.has_access := false;
    answer.version := 0;
    answer.over_limit := '{}';
    answer.features := '{}';
    answer.whop_user_id := p_user;
    IF NOT is_known THEN
        RETURN;
    END IF;
    l := usage_limits(p_tenant, p_user);
    answer.access := CASE WHEN p_membership IS NULL THEN s.access WHEN m.access = 'yes' THEN 'active'
                          WHEN m.access = 'grace' THEN 'grace' WHEN m.status = 'drafted' THEN 'none' ELSE 'revoked' END;
    answer.has_access := answer.access IN ('active', 'grace');
    answer.tier := s.tier;
    answer.features := l.features;
    answer.limits := jsonb_build_object('videos', l.videos, 'storage_bytes', l.storage_bytes,
                                        'ai_credits_month', l.ai_credits_month, 'students', l.students);
    answer.until := CASE WHEN p_membership IS NULL THEN s.access_until WHEN m.access = 'grace' THEN m.grace_until
                         WHEN m.cancel_at_period_end OR m.status IN ('canceling', 'canceled') THEN m.period_end END;
    answer.over_limit := usage_over(p_tenant, p_user);
    answer.version := s.version;
    -- Who has access has it by one membership that is good; who has none, by no word of any.
    SELECT greatest(known_at, max(greatest(q.told_at, q.read_at))) INTO known_at FROM memberships q
        WHERE q.tenant_id = p_tenant AND q.whop_user_id = p_user
            AND (p_membership IS NULL AND (q.access <> 'no' OR NOT answer.has_access) OR q.id = m.id);
END $$;

-- Whop is asked, unless it is being asked: once, however many want to know. Never waits for another's
-- transaction. Answers since when nobody has got an answer; NULL: nobody was asked.
CREATE FUNCTION access_ask(p_tenant bigint, p_id text, p_is_known boolean) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    -- Who was not answered for so long may be asked about again.
    c_patience CONSTANT interval := (SELECT least(negative, interval '30 s') FROM access_settings);
    -- The sweep leaves rows younger than RELAY_SWEEP_MS to whoever put them in, if he relays them himself.
    c_sweep CONSTANT interval := '2 seconds';
    a access_asks;
    v_job uuid := gen_random_uuid();
    v_now timestamptz := whopline_now();
    v_member text;
BEGIN
    SELECT * INTO a FROM access_asks WHERE tenant_id = p_tenant AND whop_id = p_id;
    IF a.asked_at > v_now - c_patience
            OR a.is_open AND EXISTS (SELECT FROM jobs WHERE id = a.job_id AND state = 'queued') THEN
        RETURN CASE WHEN a.is_open THEN a.since END;
    END IF;
    IF p_id !~ '^(user|mem)_[A-Za-z0-9_]{1,60}$' OR current_setting('transaction_read_only') = 'on'
            OR NOT p_is_known AND (SELECT count(*) FROM (
                   SELECT FROM access_asks WHERE tenant_id = p_tenant AND is_open
                       AND asked_at > v_now - interval '10 minutes'
                   LIMIT (SELECT strangers_max FROM access_settings)) o) >= (SELECT strangers_max FROM access_settings)
            OR NOT pg_try_advisory_xact_lock(hashtextextended('access_ask/' || p_tenant || '/' || p_id, 0)) THEN
        RETURN CASE WHEN a.is_open THEN a.since END;
    END IF;
    IF NOT EXISTS (SELECT FROM tenants WHERE id = p_tenant AND status = 'active') THEN
        v_job := NULL;
    END IF;
    INSERT INTO access_asks AS old (tenant_id, whop_id, job_id, is_open, since, asked_at)
        VALUES (p_tenant, p_id, v_job, true, v_now, v_now)
        ON CONFLICT (tenant_id, whop_id) DO UPDATE SET job_id = v_job, is_open = true, asked_at = v_now,
            since = CASE WHEN old.is_open THEN old.since ELSE v_now END
            -- Somebody may have asked since we looked.
            WHERE old.asked_at <= v_now - c_patience
        RETURNING * INTO a;
    IF FOUND AND v_job IS NOT NULL THEN
        v_member := CASE WHEN p_id LIKE 'mem\_%' THEN 'membership' ELSE 'user' END;
        INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at, created_at)
            VALUES (v_job, p_tenant, 'members', 'members.ask', p_tenant || '/' || p_id,
                    -- {member: id} in msgpack; ids are ASCII
                    '\x81'::bytea || set_byte('\x00', 0, 160 + length(v_member)) || convert_to(v_member, 'UTF8')
                        || '\xd9' || set_byte('\x00', 0, length(p_id)) || convert_to(p_id, 'UTF8'),
                    1, p_id, v_now, v_now - c_sweep);
    END IF;
    RETURN a.since;
END $$;

-- Whop has answered what it was asked at that moment.
CREATE FUNCTION access_answered(p_tenant bigint, p_id text, p_asked_ms bigint) RETURNS void LANGUAGE sql
    BEGIN ATOMIC
    UPDATE access_asks SET is_open = false, answered_at = greatest(answered_at, whopline_from_ms(p_asked_ms))
        WHERE tenant_id = p_tenant AND whop_id = p_id;
    END;

-- The application's question: a company's id or a tenant's slug; a user or a membership. One round trip.
--   fresh    known within MEMBERSHIP_CACHE_SECONDS (without access: MEMBERSHIP_NEGATIVE_SECONDS)
--   stale    known, but older: Whop is being asked; while it does not answer, has_access stays for
--            MEMBERSHIP_STALE_MAX_HOURS
--   pending  not known here: Whop is being asked; has_access is false; ask again in a second
--   unknown  Whop does not know it either
CREATE FUNCTION member_access(p_company text, p_id text) RETURNS member_answer
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_tenant bigint := access_tenant(p_company);
    v_is_membership boolean := p_id LIKE 'mem\_%';
    v_setting access_settings;
    v_since timestamptz;
    k record;
    a member_answer;
BEGIN
    SELECT * INTO STRICT v_setting FROM access_settings;
    SELECT o.* INTO k FROM access_known(v_tenant, CASE WHEN NOT v_is_membership THEN p_id END,
                                        CASE WHEN v_is_membership THEN p_id END) o;
    a := k.answer;
    IF k.known_at > whopline_now() - (CASE WHEN a.has_access THEN v_setting.cache ELSE v_setting.negative END) THEN
        a.state := CASE WHEN k.is_known THEN 'fresh' ELSE 'unknown' END;
        RETURN a;
    END IF;
    v_since := access_ask(v_tenant, COALESCE(p_id, ''), k.is_known);
    a.state := CASE WHEN k.is_known THEN 'stale' ELSE 'pending' END;
    a.has_access := a.has_access AND COALESCE(v_since > whopline_now() - v_setting.stale_max, true);
    RETURN a;
END $$;

-- What Redis is to hold of students: nothing of those who are not known well enough. Grace ends by the
-- clock, and so does what was said of it.
CREATE FUNCTION access_values(p_tenants bigint[], p_users text[])
    RETURNS TABLE (place integer, value text, ttl_ms bigint) LANGUAGE sql STABLE AS $$
    SELECT k.place, json_build_object(
            'has_access', (k.answer).has_access, 'access', (k.answer).access, 'tier', (k.answer).tier,
            'features', (k.answer).features, 'limits', (k.answer).limits,
            'until', to_char((k.answer).until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'over_limit', (k.answer).over_limit, 'state', 'fresh', 'version', (k.answer).version,
            'expires_at', to_char(k.ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text,
        (extract(epoch FROM k.ends - whopline_now()) * 1000)::bigint
    FROM (SELECT (w.at - 1)::integer AS place, o.answer,
                 least(o.known_at + CASE WHEN (o.answer).has_access THEN c.cache ELSE c.negative END,
                       CASE WHEN (o.answer).access = 'grace' THEN (o.answer).until END) AS ends
          FROM unnest(p_tenants, p_users) WITH ORDINALITY AS w(tenant, whop_user, at)
          CROSS JOIN access_settings c
          CROSS JOIN LATERAL access_known(w.tenant, w.whop_user, NULL) o
          WHERE o.is_known) k
    WHERE k.ends > whopline_now() + interval '1 ms'
$$;

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
            AND (proname LIKE 'access\_%' OR proname LIKE 'usage\_%' OR proname = 'member_access')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        IF (SELECT prosecdef FROM pg_proc WHERE oid = f) THEN
            EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', f, current_schema());
        END IF;
    END LOOP;
END $$;
