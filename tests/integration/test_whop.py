"""service/whop against the simulator, by a program that makes one call (tests/probe/whop_probe.c):
each reading call for everything that can come of it, lists over pages, renewed credentials, calls
with an effect, tokens, and that no secret is said."""
import json
import subprocess

import pytest

import harness
import sim as simulator
import whop

NEW_KEY = "apik_renewed"


class Caller:
    def __init__(self, stack, sim):
        self.stack, self.sim, self.said = stack, sim, ""
        self.env = {**stack.env, **sim.env, "PROBE_TOKEN": simulator.KEY, "WHOP_RATE_PER_MIN": "100000",
                    "HTTP_TIMEOUT_MS": "2000"}

    def __call__(self, *args, env=None):
        """What was read, as dicts; the last one may be {"error": ..} or {"page": ..}."""
        done = subprocess.run([*harness.DIES_WITH_US, harness.BIN / "whopline-whop-probe", *args],
                              env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=30 * harness.SLOW, check=False)
        assert done.returncode == 0 and not harness.SANITIZER.search(done.stderr), done.stderr
        self.said += done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def error(self, *args, **how):
        *_, last = self(*args, **how)
        assert "error" in last, last
        return last


@pytest.fixture
def call(stack, sim):
    return Caller(stack, sim)


class World:
    """One object of each kind."""

    def __init__(self, sim):
        self.payment, = sim.make("payments")
        payment = sim.state()["payments"][self.payment]
        self.user, self.member, self.membership = (payment[n] for n in ("user", "member", "membership"))
        self.product, self.plan = payment["product"], payment["plan"]
        self.refund = sim.put("refunds", {"payment": self.payment, "amount": "4.50"})[0]["id"]
        self.dispute = sim.put("disputes", {"payment": self.payment, "amount": "49.99"})[0]["id"]
        self.checkout = sim.put("checkout_configurations", {"plan": self.plan})[0]["id"]
        self.company = whop.COMPANY


# operation: (what it is asked for, a member of the answer, and the attribute of World that it is)
GETS = {
    "companies.get": (["company"], "id", "company"), "products.get": (["product"], "id", "product"),
    "plans.get": (["plan"], "product", "product"), "users.get": (["user"], "id", "user"),
    "members.get": (["member"], "user", "user"), "memberships.get": (["membership"], "user", "user"),
    "payments.get": (["payment"], "membership", "membership"), "refunds.get": (["refund"], "payment", "payment"),
    "disputes.get": (["dispute"], "payment", "payment"),
    "checkout_configurations.get": (["checkout"], "plan", "plan"), "users.access": (["user", "product"], None, None),
}
LISTS = {"products.list": "products", "plans.list": "plans", "memberships.list": "memberships",
         "members.list": "members", "payments.list": "payments", "refunds.list": "refunds",
         "disputes.list": "disputes", "checkout_configurations.list": "checkout_configurations"}
# fault: (rule, error, class)
FAULTS = {
    "401": ({"status": 401}, "UNAUTHORISED", "auth"),
    "403": ({"status": 403, "permission": "member:basic:read"}, "FORBIDDEN", "park"),
    "404": ({"status": 404}, "WHOP_NOT_FOUND", "not_yet"),
    "400": ({"status": 400, "body": {"message": "no such filter"}}, "WHOP_API", "permanent"),
    "408": ({"status": 408}, "WHOP_DOWN", "transient"),
    "500": ({"status": 500}, "WHOP_DOWN", "transient"),
    "503 of a proxy": ({"status": 503, "body": "<html>busy</html>"}, "WHOP_DOWN", "transient"),
    "302": ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, "WHOP_DOWN", "transient"),
    "cut": ({"fault": "cut"}, "WHOP_DOWN", "transient"),
    "dropped": ({"fault": "drop"}, "WHOP_DOWN", "transient"),
    "not JSON": ({"status": 200, "body": "<html>hello</html>"}, "WHOP_ANSWER", "transient"),
    "another object": ({"status": 200, "body": {"object": "list"}}, "WHOP_ANSWER", "transient"),
}


def check_faults(call, sim, operation, args):
    for name, (rule, error, kind) in FAULTS.items():
        sim.rule(operation=operation, **rule)
        got = call.error(operation, *args)
        assert (got["error"], got["class"]) == (error, kind), name
        assert got["text"].startswith(operation), name
        if name[:3].isdigit():
            assert f"{operation}: {name[:3]}" in got["text"], name
    assert "member:basic:read" in call.said and "no such filter" in call.said
    assert "<html>" not in call.said


def check_limit(call, sim, operation, args):
    """The wait is in the text; nobody asks again before it is over."""
    sim.rule(operation=operation, status=429, seconds=12, times=0)
    got = call.error(operation, *args)
    assert (got["error"], got["class"], got["after_ms"]) == ("WHOP_LIMITED", "limited", 12000)
    asked = len(sim.calls(operation=operation))
    got = call.error(operation, *args)
    assert got["error"] == "LIMITED" and 10000 <= got["after_ms"] <= 14000
    assert len(sim.calls(operation=operation)) == asked


@pytest.mark.parametrize("operation", GETS)
def test_reading_one(call, sim, operation):
    world = World(sim)
    names, member, wanted = GETS[operation]
    args = [getattr(world, name) for name in names]
    it, = call(operation, *args)
    if member:
        assert it[member] == getattr(world, wanted)
    else:
        assert it == {"level": "customer", "has_access": True}
    seen = sim.calls(operation=operation)[-1]
    assert seen["headers"]["api-version-date"] == "2026-07-20" and seen["credential"] == "sim"
    assert call.error(operation, *args, env={"PROBE_TOKEN": "apik_wrong"})["error"] == "UNAUTHORISED"
    check_faults(call, sim, operation, args)
    check_limit(call, sim, operation, args)
    for secret in (*sim.secrets(), "apik_wrong"):
        assert secret not in call.said


@pytest.mark.parametrize("operation", LISTS)
def test_reading_three_pages(call, sim, operation):
    kind = LISTS[operation]
    World(sim)
    sim.make(kind, 7 - len(sim.state()[kind]))
    rows = call(operation, env={"WHOP_PAGE_SIZE": "3"})
    assert sorted(row["id"] for row in rows if "id" in row) == sorted(sim.state()[kind])
    assert ["page" in row for row in rows] == [False] * 3 + [True] + [False] * 3 + [True, False, True]
    calls = sim.calls(operation=operation)
    assert [c["query"].get("after") for c in calls[1:]] == [[row["page"]] for row in rows if "page" in row][:2]
    check_faults(call, sim, operation, ["company_id=x"] if operation == "refunds.list" else [])
    check_limit(call, sim, operation, [])


def test_a_page_can_be_a_job_of_its_own(call, sim):
    sim.make("memberships", 5)
    whole = [row["id"] for row in call("memberships.list") if "id" in row]
    first = call("memberships.list", "pages=1", env={"WHOP_PAGE_SIZE": "2"})
    assert [row["id"] for row in first[:-1]] == whole[:2]
    rest = call("memberships.list", f"after={first[-1]['page']}", env={"WHOP_PAGE_SIZE": "2"})
    assert [row["id"] for row in rest if "id" in row] == whole[2:]


def test_a_list_that_never_ends_is_ended(call, sim):
    sim.make("payments", 6)
    sim.settings(repeat_cursor=True)
    got = call.error("payments.list", env={"WHOP_PAGE_SIZE": "2"})
    assert got["error"] == "WHOP_ANSWER" and "was there before" in got["text"]
    assert len(sim.calls(operation="payments.list")) == 2


def test_filters_reach_whop(call, sim):
    World(sim)
    open_one, = sim.make("payments", status="open")
    assert [row["id"] for row in call("payments.list", "statuses[]=open") if "id" in row] == [open_one]
    payment = sim.make("payments")[0]
    assert call("refunds.list", f"payment_id={payment}") == [{"page": ""}]
    assert "company_id" not in sim.calls(operation="refunds.list")[-1]["query"]


@pytest.mark.parametrize("date, owner", [("2026-07-01", "company_id"), ("2026-07-20", "company_id"),
                                         ("2026-09-23", "account_id")])
def test_both_shapes(call, sim, date, owner):
    world = World(sim)
    env = {"WHOP_API_VERSION_DATE": date}
    membership, _ = call("memberships.list", env=env)
    assert (membership["id"], membership["user"]) == (world.membership, world.user)
    assert (membership["plan"], membership["company"]) == (world.plan, whop.COMPANY)
    assert owner in sim.calls(operation="memberships.list")[-1]["query"]
    payment, = call("payments.get", world.payment, env=env)
    assert (payment["total"], payment["currency"], payment["refunded"]) == ("49.99", "usd", "0")
    assert (payment["user"], payment["membership"]) == (world.user, world.membership)


def test_a_401_renews_once(call, sim):
    world = World(sim)
    sim.key(NEW_KEY, "renewed")
    env = {"PROBE_TOKEN": "apik_old", "PROBE_NEW_TOKEN": NEW_KEY}
    assert call("users.get", world.user, env=env)[0]["id"] == world.user
    assert [c["status"] for c in sim.calls()] == [401, 200]
    assert call.error("users.get", world.user, env={**env, "PROBE_NEW_TOKEN": "apik_older"})["error"] == "UNAUTHORISED"
    assert [c["status"] for c in sim.calls()] == [401, 200, 401, 401]
    # A call that is refused for another reason is not repeated.
    assert call.error("users.get", "user_none", env={**env, "PROBE_TOKEN": NEW_KEY})["error"] == "WHOP_NOT_FOUND"
    assert len(sim.calls()) == 5


def test_a_wait_in_the_header_goes_before_the_text(call, sim):
    sim.rule(status=429, headers={"Retry-After": "5"})
    assert call.error("users.get", "user_1")["after_ms"] == 5000


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}])
def test_a_wait_that_is_not_said(call, sim, headers):
    sim.rule(status=429, headers=headers, body={"message": "You are being rate limited"})
    got = call.error("users.get", "user_1", env={"WHOP_UNSAID_WAIT_MS": "2500"})
    assert got["after_ms"] == 2500 and "You are being rate limited" in got["text"]


def test_nobody_is_there(call):
    got = call.error("users.get", "user_1", env={"WHOP_API_URL": "http://127.0.0.1:9/api/v1"})
    assert got["error"] == "HTTP_NOT_SENT"
    got = call.error("users.get", "user_1", env={"WHOP_API_URL": "api.whop.com"})
    assert got["error"] == "CONFIG" and "WHOP_API_URL" in got["text"]


def test_an_error_says_no_secret(call, sim):
    sim.rule(status=400, body={"error": {"message": f"bad key {simulator.KEY} of ada@example.test"}})
    got = call.error("users.get", "user_1")
    assert got["text"] == "users.get: 400 bad key (hidden) of (hidden)"


EFFECTS = {
    "plans.create": (["product={product}", "plan_type=one_time", "initial_price=12.50"], "plan.created"),
    "plans.update": (["{plan}", "title=Better"], "plan.updated"),
    "payments.refund": (["{payment}", "amount=4.50"], "refund.created"),
    "checkout_configurations.create": (["plan={plan}", 'metadata={{"order":"7"}}'], "checkout_configuration.created"),
}


@pytest.mark.parametrize("operation", EFFECTS)
def test_calls_with_an_effect(call, sim, operation):
    words, kind = EFFECTS[operation]
    args = [word.format(**vars(World(sim))) for word in words]
    sent, = call(operation, *args, "idempotency=k1")
    assert (sent["status"], sent["replayed"]) == (200, False) and sent["id"] in sim.calls()[-1]["path"] + json.dumps(
        sim.state())
    again, = call(operation, *args, "idempotency=k1")
    patched = operation == "plans.update"  # keys are for POST
    assert again == {**sent, "replayed": not patched}
    assert len(sim.effects(kind)) == 1 + patched
    sim.rule(operation=operation, fault="drop")
    lost, = call(operation, *args, "idempotency=k2")
    assert lost["outcome"] == 1 and len(sim.effects(kind)) == 2 + patched  # HTTP_LOST, and done
    again, = call(operation, *args, "idempotency=k2")
    assert again["replayed"] != patched and len(sim.effects(kind)) == 2 + 2 * patched
    for status, wait in ((401, -1), (403, -1), (404, -1), (429, 12000), (500, -1)):
        sim.rule(operation=operation, status=status)
        got, = call(operation, *args, "idempotency=k3")
        assert (got["status"], got["wait_ms"], got["id"]) == (status, wait, "")
    sim.rule(operation=operation, fault="cut")
    assert call(operation, *args, "idempotency=k4")[0]["outcome"] == 1
    assert "apik" not in call.said


def test_what_is_wrong_is_told_before_it_is_sent(call, sim):
    for args in (["plans.create", "initial_price=1e3"], ["payments.refund", "pay_1", "amount=0"],
                 ["plans.create", "metadata=[]"], ["payments.refund", ".."]):
        assert call.error(*args)["error"] == "MALFORMED"
    assert sim.calls() == []


def test_an_inline_plan(call, sim):
    sent, = call("checkout_configurations.create", "plan_type=one_time", "initial_price=3.00")
    assert sent["status"] == 200
    assert sim.calls()[-1]["body"]["plan"] == {"account_id": whop.COMPANY, "plan_type": "one_time", "initial_price": 3.0}


def test_tokens(call, sim):
    sim.grant("rt_one", "grant", client_id="app_1", client_secret="s3cret_s3cret")
    args = ["oauth.token", "rt_one", "client_id=app_1"]
    assert call.error(*args)["error"] == "UNAUTHORISED"
    args.append("client_secret=s3cret_s3cret")
    for rule, error in (({"status": 500}, "WHOP_DOWN"), ({"fault": "close"}, "HTTP_LOST")):
        sim.rule(operation="oauth.token", **rule)
        assert call.error(*args)["error"] == error
    quiet = call.said  # what the probe prints of a success are the tokens themselves
    tokens, = call(*args)
    assert tokens["token_type"] == "Bearer" and tokens["expires_in_s"] == 3600
    assert call("users.get", sim.make("members") and next(iter(sim.state()["users"])),
                env={"PROBE_TOKEN": tokens["access_token"]})[0]["id"]
    call.said = ""
    got = call.error(*args)
    assert (got["error"], got["class"]) == ("UNAUTHORISED", "auth") and "invalid_grant" in got["text"]
    # An answer that was lost has used the token up all the same.
    sim.rule(operation="oauth.token", fault="drop")
    args[1] = tokens["refresh_token"]
    assert call.error(*args)["error"] == "HTTP_LOST"
    assert call.error(*args)["error"] == "UNAUTHORISED"
    assert len(sim.effects("token.refreshed")) == 2
    sim.rule(operation="oauth.token", status=200, body={"access_token": "at_x", "expires_in": 1})
    assert call.error(*args)["error"] == "WHOP_ANSWER"
    sim.rule(operation="oauth.token", status=429, seconds=7)
    assert call.error(*args)["after_ms"] == 7000
    for secret in sim.secrets():
        assert secret not in quiet + call.said
