-- Whop's list of memberships beside ours: what no event has told of is found by reading it.
--
-- A run reads the list a page a job; its page's number is taken by compare-and-set, in the
-- transaction with all that the page causes, so that a page has its effects once, whoever dies.
-- recent reads what was made since the last good run, open what may still change, full all of it.
--
-- The list moves while it is read: it is newest first, so that who joins shifts the others towards
-- later pages; filtered by status it loses rows behind the cursor, which may pull others over it. So
-- that a membership was not on any page says nothing. Only at the end of a complete list, and for none
-- but those that were here before it was begun, each of them that still has access is asked about
-- alone; and it is that answer which takes something away. A run that failed, or is left behind, never
-- gets there.

CREATE TABLE member_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    kind text NOT NULL CHECK (kind IN ('recent', 'open', 'full')),
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'success', 'failed')),
    is_first boolean NOT NULL,              -- nothing has been read to its end before: nobody is written to
    created_after timestamptz,              -- of recent: what it reads
    next_page bigint NOT NULL DEFAULT 0,    -- pages of the list, then portions of what was not in it
    cursor text NOT NULL DEFAULT '',        -- behind it the next page begins
    kept_cursor text NOT NULL DEFAULT '',   -- one that was there before (Brent): none may come again
    sweep_after bigint,                     -- memberships.id; NULL: the list is not at its end
    fetched bigint NOT NULL DEFAULT 0,
    added bigint NOT NULL DEFAULT 0,        -- memberships nobody had told of
    changed bigint NOT NULL DEFAULT 0,
    unchanged bigint NOT NULL DEFAULT 0,
    absent bigint NOT NULL DEFAULT 0,       -- asked about alone
    gone bigint NOT NULL DEFAULT 0,         -- of these: Whop knows of none
    started_by text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT date_trunc('milliseconds', whopline_now()), -- as read_at is
    touched_at timestamptz NOT NULL DEFAULT whopline_now(),
    finished_at timestamptz,
    error text,
    CHECK ((status = 'running') = (finished_at IS NULL))
);
CREATE UNIQUE INDEX member_runs_running ON member_runs (tenant_id, kind) WHERE status = 'running';
CREATE INDEX member_runs_latest ON member_runs (tenant_id, kind, started_at DESC);

-- What all runs have found, for metrics; one row, so that nobody waits for another in a circle.
CREATE TABLE member_drift (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    added bigint NOT NULL DEFAULT 0,
    changed bigint NOT NULL DEFAULT 0,
    gone bigint NOT NULL DEFAULT 0
);
INSERT INTO member_drift DEFAULT VALUES;

CREATE INDEX memberships_giving ON memberships (tenant_id, id) WHERE access <> 'no';

-- A list may be so much behind what it lists. What was told within that time stands, and where the
-- two differ Whop is asked about that membership alone: so a page counts as asked for so much earlier.
CREATE FUNCTION member_list_lag() RETURNS interval LANGUAGE sql IMMUTABLE RETURN interval '1 minute';

-- Begins a run, unless one of its kind is under way (no row then). Who has never had a complete one
-- begins with it, whatever was asked for.
CREATE FUNCTION member_run_begin(p_tenant bigint, p_kind text, p_by text) RETURNS TABLE (run bigint, run_kind text)
    LANGUAGE plpgsql AS $$
DECLARE
    v_after timestamptz;
BEGIN
    UPDATE member_runs SET status = 'failed', error = 'left behind', finished_at = whopline_now()
        WHERE tenant_id = p_tenant AND status = 'running' AND touched_at < whopline_now() - interval '1 hour';
    -- There are two hundred a day.
    DELETE FROM member_runs r WHERE r.id IN (
        SELECT o.id FROM member_runs o WHERE o.tenant_id = p_tenant AND o.kind = p_kind AND o.kind <> 'full'
            AND o.finished_at < whopline_now() - interval '7 days'
        ORDER BY o.id LIMIT 100 FOR UPDATE SKIP LOCKED);
    IF NOT EXISTS (SELECT FROM member_runs r WHERE r.tenant_id = p_tenant AND r.kind = 'full') THEN
        p_kind := 'full';
    END IF;
    IF p_kind = 'recent' THEN
        SELECT max(r.started_at) - interval '10 minutes' INTO v_after FROM member_runs r
            WHERE r.tenant_id = p_tenant AND r.kind IN ('recent', 'full') AND r.status = 'success';
        v_after := COALESCE(v_after, whopline_now() - interval '72 hours');
    END IF;
    RETURN QUERY INSERT INTO member_runs (tenant_id, kind, is_first, created_after, started_by)
        VALUES (p_tenant, p_kind, NOT EXISTS (SELECT FROM member_runs r WHERE r.tenant_id = p_tenant
                                              AND r.kind = 'full' AND r.status = 'success'), v_after, p_by)
        ON CONFLICT (tenant_id, kind) WHERE status = 'running' DO NOTHING RETURNING id, kind;
END $$;

-- Takes a page that has been read; its row is locked from then on. taken: somebody else was there
-- before; circles: the cursor was there before, and the list would never end.
CREATE FUNCTION member_run_take(p_run bigint, p_page bigint, p_next text, OUT taken boolean, OUT circles boolean)
    LANGUAGE plpgsql AS $$
DECLARE
    r member_runs;
BEGIN
    SELECT * INTO r FROM member_runs WHERE id = p_run AND status = 'running' AND next_page = p_page
        AND sweep_after IS NULL FOR NO KEY UPDATE;
    taken := NOT FOUND;
    circles := NOT taken AND p_next <> '' AND p_next IN (r.cursor, r.kept_cursor);
    IF NOT taken AND NOT circles THEN
        UPDATE member_runs SET next_page = p_page + 1, cursor = p_next, touched_at = whopline_now(),
            -- kept for twice as long each time: a circle is found within three times its length
            kept_cursor = CASE WHEN p_page & (p_page - 1) = 0 THEN p_next ELSE kept_cursor END
            WHERE id = p_run;
    END IF;
END $$;

-- What a page has come to; at the list's end the run is over, or goes on to what was not in it.
CREATE FUNCTION member_run_count(p_run bigint, p_more boolean, p_fetched bigint, p_added bigint, p_changed bigint)
    RETURNS boolean LANGUAGE sql AS $$
    UPDATE member_drift SET added = added + p_added, changed = changed + p_changed WHERE p_added + p_changed > 0;
    UPDATE member_runs SET fetched = fetched + p_fetched, added = added + p_added, changed = changed + p_changed,
        unchanged = unchanged + p_fetched - p_added - p_changed,
        sweep_after = CASE WHEN NOT p_more AND kind = 'full' THEN 0 END,
        status = CASE WHEN p_more OR kind = 'full' THEN 'running' ELSE 'success' END,
        finished_at = CASE WHEN p_more OR kind = 'full' THEN NULL ELSE whopline_now() END
        WHERE id = p_run RETURNING sweep_after IS NOT NULL
$$;

-- The next portion of those with access that the complete list did not show, and who were not read
-- otherwise since; none: the run has ended, or it was not this portion's turn.
CREATE FUNCTION member_run_sweep(p_run bigint, p_page bigint, p_max integer)
    RETURNS TABLE (membership text, whop_user text) LANGUAGE plpgsql AS $$
DECLARE
    r member_runs;
    v_ids bigint[];
BEGIN
    SELECT * INTO r FROM member_runs WHERE id = p_run AND status = 'running' AND next_page = p_page
        AND sweep_after IS NOT NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(found.id ORDER BY found.id) INTO v_ids FROM (
        SELECT m.id FROM memberships m WHERE m.tenant_id = r.tenant_id AND m.access <> 'no' AND m.id > r.sweep_after
            AND m.read_at < r.started_at - member_list_lag() AND m.first_seen_at < r.started_at
        ORDER BY m.id LIMIT p_max) found;
    UPDATE member_runs SET next_page = next_page + 1, touched_at = whopline_now(),
        absent = absent + COALESCE(cardinality(v_ids), 0),
        sweep_after = COALESCE(v_ids[cardinality(v_ids)], sweep_after),
        status = CASE WHEN v_ids IS NULL THEN 'success' ELSE 'running' END,
        finished_at = CASE WHEN v_ids IS NULL THEN whopline_now() END
        WHERE id = p_run;
    RETURN QUERY SELECT m.whop_membership_id, COALESCE(m.whop_user_id, '') FROM memberships m
        WHERE m.id = ANY (v_ids) ORDER BY m.id;
END $$;

-- One that was absent has been asked about, and Whop knows of none.
CREATE FUNCTION member_run_count_gone(p_run bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE member_runs SET gone = gone + 1 WHERE id = p_run;
    UPDATE member_drift SET gone = gone + 1;
$$;

-- Ends a run that cannot go on. news: whether the tenant's last look did not fail in the same way;
-- NULL: it was not this page's turn.
CREATE FUNCTION member_run_fail(p_run bigint, p_page bigint, p_error text) RETURNS boolean LANGUAGE sql AS $$
    UPDATE member_runs r SET status = 'failed', finished_at = whopline_now(), error = p_error
        WHERE r.id = p_run AND r.status = 'running' AND r.next_page = p_page
        RETURNING (SELECT p.error FROM member_runs p WHERE p.tenant_id = r.tenant_id AND p.id <> r.id
                       AND p.finished_at IS NOT NULL ORDER BY p.finished_at DESC, p.id DESC LIMIT 1)
                  IS DISTINCT FROM p_error
$$;

-- ---- products

-- Products of members, as Whop calls them. What cannot be read anew stays as it is.
CREATE TABLE products (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    whop_product_id text NOT NULL,
    title text,                             -- NULL: not read yet
    fetched_at timestamptz,
    wanted_until timestamptz,               -- somebody is to read it: nobody else before then
    UNIQUE (tenant_id, whop_product_id)
);

-- Those of them that nobody has read for so long, and nobody is reading: the caller is to.
CREATE FUNCTION products_want(p_tenant bigint, p_products text[], p_keep interval) RETURNS TABLE (product text)
    LANGUAGE sql AS $$
    INSERT INTO products AS p (tenant_id, whop_product_id, wanted_until)
        SELECT p_tenant, given, whopline_now() + interval '1 hour'
        FROM (SELECT DISTINCT given FROM unnest(p_products) given WHERE given <> '') d
        WHERE NOT EXISTS (SELECT FROM products k WHERE k.tenant_id = p_tenant AND k.whop_product_id = d.given
                          AND (k.fetched_at > whopline_now() - p_keep OR k.wanted_until > whopline_now()))
        ORDER BY given COLLATE "C"
        ON CONFLICT (tenant_id, whop_product_id) DO UPDATE SET wanted_until = EXCLUDED.wanted_until
            WHERE COALESCE(p.fetched_at < whopline_now() - p_keep, true)
                AND COALESCE(p.wanted_until < whopline_now(), true)
        RETURNING p.whop_product_id
$$;

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
            AND (proname LIKE 'member\_run\_%' OR proname IN ('member_list_lag', 'products_want'))
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;
