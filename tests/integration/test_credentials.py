"""Tokens and permissions, against the simulator: one refresh whoever asks, the new refresh token
stored before its access token is used, and what happens when that goes wrong."""
import json
import time
import uuid

import pytest

import harness
import whop
from test_probe import put_one
from test_tenants import BLUE, KEY, SECRETS, audit, status_of

LOCK_MS = 700


@pytest.fixture
def blue(stack, sim):
    """A tenant with OAuth tokens that Whop knows; the access token can be made to be refused."""
    stack.env.update(sim.env, WHOP_TOKEN_ENCRYPTION_KEY=KEY, WHOP_CLIENT_ID="app_Sim", TENANT_STATUS_MS="50",
                     TOKEN_REFRESH_LOCK_MS=str(int(LOCK_MS * harness.PACE)), HTTP_TIMEOUT_MS="5000",
                     WHOP_RATE_PER_MIN="60000", WHOP_FEATURES="products,plans,memberships,payments")
    sim.settings(per_minute=0)
    sim.grant(SECRETS["refresh"], "blue", client_id="app_Sim", company=BLUE)
    return stack


def add(stack, sim, known=True, expires_in=86400):
    if known:
        sim.key(SECRETS["access"], "blue", company=BLUE)
    path = stack.folder / "tokens.json"
    path.write_text(json.dumps({"access_token": SECRETS["access"], "refresh_token": SECRETS["refresh"],
                                "expires_in": expires_in, "scope": "member:basic:read plan:basic:read"}))
    stack.cli("tenants", "add", "blue", "--company", BLUE, "--token-file", path)


def put(stack, kind, tenant="blue"):
    job = str(uuid.uuid4())
    stack.sql("INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at)"
              " SELECT %s, id, 'sync', %s, '', '\\x80', 1, 'test', now() FROM tenants WHERE slug = %s", (job, kind, tenant))
    return job


def state(stack, job):
    return stack.sql("SELECT state, reason, error FROM jobs WHERE id = %s", (job,))[0]


def refreshes(sim):
    return [call["status"] for call in sim.calls(operation="oauth.token")]


def version(stack):
    return stack.sql("SELECT version FROM tenant_credentials WHERE revoked_at IS NULL")[0][0]


def test_a_token_is_refreshed_before_it_expires_by_the_schedule(blue, sim):
    add(blue, sim, expires_in=300)  # within TOKEN_REFRESH_AHEAD_SECONDS
    blue.start("scheduler")
    blue.start("sync")
    blue.eventually(lambda: blue.sql("SELECT count(*) FROM schedules WHERE name = 'tenants.refresh'") == [(1,)])
    blue.cli("schedules", "fire", "tenants.refresh", "--reason", "test")
    blue.eventually(lambda: version(blue) == 2)
    assert refreshes(sim) == [200]
    assert status_of(blue) == "active"
    (left,) = blue.sql("SELECT extract(epoch FROM access_expires_at - now()) FROM tenant_credentials")[0]
    assert left > 3000
    # Nobody needs it now; the new tokens work.
    blue.cli("schedules", "fire", "tenants.refresh", "--reason", "test")
    assert "all it needs" in blue.cli("tenants", "check", "blue").stdout
    assert refreshes(sim) == [200]


def test_two_workers_at_a_401_make_one_refresh(blue, sim):
    add(blue, sim, known=False)
    sim.rule(operation="oauth.token", latency_ms=int(500 * harness.SLOW), times=0)  # until both have met it
    blue.start("scheduler")
    workers = [blue.start("sync", env={"SLOTS": 1}) for _ in range(2)]
    jobs = [put(blue, "sync.check_tenant") for _ in range(2)]
    blue.eventually(lambda: [state(blue, job)[0] for job in jobs] == ["done", "done"], 20)
    refused = [call for call in sim.calls(status=401)]
    assert len(refused) == 2 and len({call["connection"] for call in refused}) == 2  # both met it
    assert refreshes(sim) == [200]
    assert version(blue) == 2
    assert sum(worker.log().count("token refreshed") for worker in workers) == 1


def test_a_401_after_a_refresh_concerns_that_tenant_only(blue, sim):
    add(blue, sim, known=False)
    blue.env["WHOP_API_KEY"] = "apik_sim"  # the other tenant's
    sim.rule(path="/api/v1/products*", credential="blue", status=401, times=0)
    blue.start("scheduler")
    blue.start("sync")
    mine = put(blue, "sync.check_tenant")
    other = put(blue, "sync.check_tenant", tenant=whop.COMPANY)
    blue.eventually(lambda: state(blue, mine)[:2] == ("skipped", "reauth_required"))
    blue.eventually(lambda: state(blue, other)[0] == "done")
    assert status_of(blue) == "reauth_required" and status_of(blue, whop.COMPANY) == "active"
    assert refreshes(sim) == [200]
    said = blue.cli("status", check=False).stdout
    assert "tenant blue is reauth_required" in said and "whopline tenants reauth blue" in said
    # What was parked for it goes on when it has another credential.
    blue.sql("INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at, state, reason, error,"
             " finished_at) SELECT gen_random_uuid(), id, 'sync', 'sync.check_tenant', '', '\\x80', 1, 'parked', now(),"
             " 'parked', 'reauth_required', 'TENANT_REAUTH', now() FROM tenants WHERE slug = 'blue'")
    sim.clear_rules()
    sim.key(SECRETS["key"], "bluekey", company=BLUE)
    path = blue.folder / "key"
    path.write_text(SECRETS["key"])
    assert "1 parked job" in blue.cli("tenants", "reauth", "blue", "--api-key-file", path).stdout
    assert status_of(blue) == "active"
    blue.eventually(lambda: blue.sql("SELECT state FROM jobs WHERE trace = 'parked'") == [("done",)])
    assert "tenants.reauth_required" in audit(blue)


# ---- calls with effect

def refund(stack, sim, reads=0):
    """A job that refunds a payment of the tenant's; the payment and the job."""
    payment = sim.make("payments", company=BLUE)[0]
    tenant = stack.sql("SELECT id FROM tenants WHERE slug = 'blue'")[0][0]
    stack.start("scheduler")
    stack.start("probe")
    return payment, put_one(stack, "refund", payment, reads, tenant=tenant)


def posts(sim):
    return [(call["status"], call["idempotency_key"]) for call in sim.calls(operation="payments.refund")]


@pytest.mark.parametrize("reads", [0, 1])
def test_a_401_of_a_call_with_effect_is_refreshed_once(blue, sim, reads):
    """Also if a reading call has done so since the other was built."""
    add(blue, sim, known=False)
    payment, job = refund(blue, sim, reads)
    blue.eventually(lambda: state(blue, job)[0] == "done", 20)
    assert refreshes(sim) == [200] and len(sim.effects("refund.created")) == 1
    assert [status for status, _ in posts(sim)] == [401, 200]
    assert len({key for _, key in posts(sim)}) == 1, "it is the same call"
    assert blue.sql("SELECT state, attempts FROM outbound") == [("done", 2)]
    assert blue.sql("SELECT attempts FROM jobs WHERE id = %s", (job,)) == [(0,)], "not the job's fault"
    secrets = [*SECRETS.values(), *sim.secrets()]
    kept = "".join(str(row) for row in blue.sql("SELECT * FROM outbound")) + str(state(blue, job))
    assert not [secret for secret in secrets if secret in kept]


def test_a_401_of_a_call_with_effect_after_a_refresh(blue, sim):
    """Nothing was refunded; the tenant is connected anew, and its refund goes on."""
    add(blue, sim, known=False)
    sim.rule(operation="payments.refund", status=401, times=0)
    payment, job = refund(blue, sim)
    blue.eventually(lambda: state(blue, job)[0] == "parked", 20)
    assert state(blue, job)[2] == "TENANT_REAUTH" and status_of(blue) == "reauth_required"
    assert [status for status, _ in posts(sim)] == [401, 401] and refreshes(sim) == [200]
    assert blue.sql("SELECT state, parked FROM outbound") == [("pending", None)]
    sim.clear_rules()
    sim.key(SECRETS["key"], "bluekey", company=BLUE)
    path = blue.folder / "key"
    path.write_text(SECRETS["key"])
    blue.cli("tenants", "reauth", "blue", "--api-key-file", path)
    blue.eventually(lambda: state(blue, job)[0] == "done", 20)
    assert len(sim.effects("refund.created")) == 1


def test_a_403_of_a_call_with_effect_goes_on_with_the_permission(blue, sim):
    add(blue, sim)
    sim.rule(operation="payments.refund", status=403, permission="payment:manage")
    payment, job = refund(blue, sim)
    blue.eventually(lambda: state(blue, job)[0] == "parked", 20)
    assert state(blue, job)[2] == "FORBIDDEN"
    # However the tenant lacked it, when it is active again its jobs go on.
    blue.sql("UPDATE tenants SET status = 'permission_missing' WHERE slug = 'blue'")
    assert blue.cli("tenants", "check", "blue").returncode == 0
    blue.eventually(lambda: state(blue, job)[0] == "done", 20)
    assert len(sim.effects("refund.created")) == 1


def test_a_key_that_was_replaced_since_the_call_was_built(blue, sim):
    """The new one works: nobody needs to be asked for another."""
    sim.key(SECRETS["key"], "bluekey", company=BLUE)
    path = blue.folder / "key"
    path.write_text("apik_blue_that_whop_does_not_know")
    blue.cli("tenants", "add", "blue", "--company", BLUE, "--api-key-file", path)
    sim.rule(operation="payments.get", status=401, latency_ms=min(int(1500 * harness.SLOW), 4000))  # not HTTP_TIMEOUT_MS
    payment, job = refund(blue, sim, 1)
    blue.eventually(lambda: sim.rules()[0]["acted"])
    path.write_text(SECRETS["key"])
    blue.cli("tenants", "reauth", "blue", "--api-key-file", path)
    blue.eventually(lambda: state(blue, job)[0] in ("done", "parked"), 20)
    assert (state(blue, job)[0], status_of(blue)) == ("done", "active"), state(blue, job)
    assert [status for status, _ in posts(sim)] == [401, 200]


FAULTS = {  # what the one who dies there leaves
    "before_refresh": ("active", [200], 2),
    "refresh_reply_before_commit": ("reauth_required", [200, 400], 1),
    "before_pg_commit": ("reauth_required", [200, 400], 1),
    "pg_commit_reply_lost": ("active", [200], 2),
    "after_pg_commit": ("active", [200], 2),
}


@pytest.mark.parametrize("point", FAULTS)
def test_a_refresh_that_dies(blue, sim, point):
    status, calls, last = FAULTS[point]
    add(blue, sim, known=False)
    blue.start("scheduler")
    job = put(blue, "sync.check_tenant")
    second = "@2" if "pg_commit" in point else ""  # the first is the lock's
    dead = blue.start("sync", fault=f"{point}:kill{second}", ready=False)
    dead.wait_exit()
    blue.start("sync")
    blue.eventually(lambda: state(blue, job)[0] in ("done", "skipped"), 20)
    assert (status_of(blue), refreshes(sim), version(blue)) == (status, calls, last)
    if status == "reauth_required":
        assert "whopline tenants reauth blue" in blue.cli("status", check=False).stdout


def test_a_lost_answer_is_found_out_by_asking_again(blue, sim):
    """The refresh token may be used up or not: the next one who offers it learns which."""
    add(blue, sim, known=False)
    blue.start("scheduler")
    blue.start("sync")
    sim.rule(operation="oauth.token", fault="close")  # no effect
    job = put(blue, "sync.check_tenant")
    blue.eventually(lambda: state(blue, job)[0] == "done", 20)
    assert status_of(blue) == "active" and version(blue) == 2
    sim.revoke("blue")
    sim.rule(operation="oauth.token", fault="drop")  # used up, and the new one never came
    job = put(blue, "sync.check_tenant")
    blue.eventually(lambda: state(blue, job)[:2] == ("skipped", "reauth_required"), 20)
    assert status_of(blue) == "reauth_required"


def test_a_client_that_whop_does_not_know_is_nobodys_reauth(blue, sim):
    blue.env["WHOP_CLIENT_ID"] = "app_Wrong"
    add(blue, sim, known=False)
    done = blue.cli("tenants", "check", "blue", check=False)
    assert done.returncode == 1 and "WHOP_CLIENT_ID" in done.stderr
    assert status_of(blue) == "active"


def test_missing_permissions_are_named_and_noticed_when_granted(blue, sim):
    sim.key(SECRETS["key"], "bluekey", company=BLUE, without=["payment:basic:read", "member:email:read"])
    path = blue.folder / "key"
    path.write_text(SECRETS["key"])
    blue.cli("tenants", "add", "blue", "--company", BLUE, "--api-key-file", path)
    done = blue.cli("tenants", "check", "blue", check=False)
    assert done.returncode == 1
    assert "payment:basic:read" in done.stdout and "member:email:read" in done.stdout
    assert "plan:basic:read" not in done.stdout
    (row,) = [it for it in blue.cli_json("tenants", "list") if it["slug"] == "blue"]
    assert row["status"] == "permission_missing"
    assert sorted(row["missing_permissions"]) == ["member:email:read", "payment:basic:read"]
    assert "permission_missing" in blue.cli("status", check=False).stdout
    # Granted: the schedule's next look finds out.
    sim.key(SECRETS["key"], "bluekey", company=BLUE)
    blue.start("scheduler")
    blue.start("sync")
    blue.eventually(lambda: blue.sql("SELECT count(*) FROM schedules WHERE name = 'tenants.check'") == [(1,)])
    blue.cli("schedules", "fire", "tenants.check", "--reason", "test")
    blue.eventually(lambda: status_of(blue) == "active")
    assert blue.sql("SELECT missing_permissions FROM tenants WHERE slug = 'blue'") == [([],)]


def test_a_single_tenant_from_the_seeds_variables(blue, sim):
    """No `tenants add`: the company of the settings, with the key of the settings."""
    done = blue.cli("tenants", "check", whop.COMPANY, check=False)
    assert done.returncode == 1 and "WHOP_API_KEY" in done.stderr
    blue.env["WHOP_API_KEY"] = "apik_sim"
    assert "all it needs" in blue.cli("tenants", "check").stdout
    assert {row["credential"] for row in blue.cli_json("limits")} == {"app"}


# ---- one tenant's trouble is not the others'

def sweep(stack):
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM schedules WHERE name = 'tenants.refresh'") == [(1,)])
    job = stack.cli_json("schedules", "fire", "tenants.refresh", "--reason", "test")["job"]
    stack.eventually(lambda: state(stack, job)[0] in ("done", "skipped"))


def of_blue(stack):
    return stack.sql("SELECT state, reason FROM jobs j JOIN tenants t ON t.id = j.tenant_id"
                     " WHERE slug = 'blue' AND kind = 'sync.refresh_token'")


def test_a_token_that_does_not_open_leaves_no_pile_of_parked_jobs(blue, sim):
    """They are never deleted, and the schedule brings one each minute."""
    add(blue, sim, expires_in=300)
    blue.start("scheduler")
    blue.start("sync", env={"WHOP_TOKEN_ENCRYPTION_KEY": "c3" * 32})
    sweep(blue)
    blue.eventually(lambda: of_blue(blue) == [("skipped", "SEALED")])
    assert status_of(blue) == "active"


def test_a_tenant_whose_row_is_locked_keeps_no_token_waiting(blue, sim):
    add(blue, sim, expires_in=300)
    blue.cli("tenants", "add", "green", "--company", "biz_Green")
    blue.sql("INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at, state, reason, error,"
             " finished_at) SELECT gen_random_uuid(), id, 'sync', 'sync.check_tenant', '', '\\x80', 1, 'x', now(),"
             " 'parked', 'tenant_paused', 'TENANT_PAUSED', now() FROM tenants WHERE slug = 'green'")
    other = harness.connect(blue.pg_sockets, blue.database)
    other.cursor().execute("BEGIN; SELECT 1 FROM tenants WHERE slug = 'green' FOR UPDATE")
    blue.start("scheduler")
    blue.start("sync", env={"DATABASE_LOCK_TIMEOUT_MS": 200})
    sweep(blue)
    blue.eventually(lambda: version(blue) == 2)
    other.close()
    sweep(blue)
    blue.eventually(lambda: blue.sql("SELECT state FROM jobs WHERE trace = 'x'") != [("parked",)])


def test_a_slow_refresh_is_asked_for_once(blue, sim):
    blue.env["TOKEN_REFRESH_LOCK_MS"] = "20000"
    add(blue, sim, expires_in=300)
    sim.rule(operation="oauth.token", latency_ms=3000)
    blue.start("scheduler")
    blue.start("sync")
    for _ in range(3):
        sweep(blue)
    blue.eventually(lambda: version(blue) == 2)
    assert len(of_blue(blue)) == 1


# ---- leaving

LEAVE = ("tenants", "disconnect", "blue", "--reason", "left", "--yes")


def test_a_tenant_who_leaves_takes_its_tokens_along(blue, sim):
    add(blue, sim)
    said = blue.cli(*LEAVE).stdout
    assert "revoked at Whop" in said and "NOT" not in said
    assert [(call["status"], call["body"]["client_id"]) for call in sim.calls(operation="oauth.revoke")] == [
        (200, "app_Sim")] * 2
    assert len(sim.effects("token.revoked")) == 2  # the refresh token, and the access token
    assert blue.sql("SELECT ciphertext IS NULL FROM tenant_credentials") == [(True,)]
    assert blue.sql("SELECT detail ->> 'revoked' FROM audit_log WHERE action = 'tenants.erase'") == [("true",)]
    assert "already" in blue.cli(*LEAVE).stdout
    assert len(sim.calls(operation="oauth.revoke")) == 2


@pytest.mark.parametrize("trouble", ["whop", "client", "key", "redis"])
def test_tokens_that_cannot_be_revoked_are_told_and_erased_all_the_same(blue, sim, trouble):
    add(blue, sim)
    env = {"client": {"WHOP_CLIENT_ID": ""}, "key": {"WHOP_TOKEN_ENCRYPTION_KEY": "c3" * 32},
           "redis": {"REDIS_URL": "redis://127.0.0.1:1"}}.get(trouble, {})
    sim.rule(operation="oauth.revoke", status=500, times=0)
    said = blue.cli(*LEAVE, env=env).stdout
    assert "could NOT be revoked" in said and "uninstall" in said
    assert SECRETS["refresh"] not in said
    assert status_of(blue) == "disconnected"
    assert blue.sql("SELECT ciphertext IS NULL FROM tenant_credentials") == [(True,)]
    assert blue.sql("SELECT detail ->> 'revoked' FROM audit_log WHERE action = 'tenants.erase'") == [("false",)]


def test_leaving_waits_for_a_refresh_that_is_under_way(blue, sim):
    """Else the tokens it brings would be nobody's, and valid."""
    blue.env["TOKEN_REFRESH_LOCK_MS"] = "20000"
    add(blue, sim, known=False)
    blue.start("scheduler")
    blue.start("sync")
    sim.rule(operation="oauth.token", latency_ms=1000)
    put(blue, "sync.check_tenant")
    blue.eventually(lambda: blue.sql("SELECT refresh_lock_until IS NOT NULL FROM tenant_credentials") == [(True,)])
    assert "revoked at Whop" in blue.cli(*LEAVE).stdout
    assert refreshes(sim) == [200] and len(sim.effects("token.revoked")) == 2
    revoked = sim.calls(operation="oauth.revoke")
    assert revoked[0]["mono_ms"] > sim.calls(operation="oauth.token")[0]["mono_ms"] + 900
