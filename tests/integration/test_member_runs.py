"""Whop's list of memberships beside ours: what no event told of, what it knows no more, and that nothing
happens twice, or to anybody who was there before."""
import datetime
import os
import re
import time
import urllib.request

import pytest

import sim as simulator
from ledger import put_jobs
from test_members_access import School, now_ms

LONG = os.environ.get("WHOPLINE_TEST_LONG") == "1"
READ = "member:basic:read"


def ago(**how):
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(**how)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Register(School):
    """A school whose register is laid beside Whop's."""

    def __init__(self, stack, sim):
        super().__init__(stack, sim, start=("members", "sync", "scheduler"))
        stack.sql("UPDATE tenants SET created_at = now() - interval '90 days'")

    def member(self, membership="mem_1", user="user_1", status="active", made=None, **more):
        """At Whop, whose webhooks say nothing."""
        if not any(user == known for known in self.sim.state()["users"]):
            self.sim.put("users", {"id": user})
        made = made or ago(days=30)
        known = self.sim.state()["memberships"].get(membership)
        begin = {} if known else {"user": user, "product": "prod_1", "created_at": made, "joined_at": made}
        self.sim.put("memberships", {"id": membership, "status": status, "updated_at": ago(), **begin, **more})

    def runs(self, columns="status", where="true"):
        return self.stack.sql(f"SELECT {columns} FROM member_runs WHERE {where} ORDER BY id")

    def fire(self, kind):
        self.stack.cli("schedules", "fire", f"members.{kind}", "--reason", "test")

    def look(self, kind="full", status="success"):
        """One whole run, with all that follows from it."""
        before = self.count(status)
        self.fire(kind)
        self.stack.eventually(lambda: self.count(status) > before, 30)
        self.rest()

    def count(self, status):
        return len(self.runs(where=f"status = '{status}'"))

    def a_day_later(self):
        self.stack.sql("UPDATE member_runs SET started_at = started_at - interval '1 day'")

    def listed(self, **which):
        return self.sim.calls(operation="memberships.list", **which)

    def gone(self, membership):
        """Deleted at Whop."""
        self.sim.put("memberships", {"id": membership, "company": "biz_elsewhere"})

    def told(self, user="user_1"):
        """(change, whether it is backfill)"""
        return self.stack.sql("SELECT change, backfill FROM member_changes WHERE whop_user_id = %s ORDER BY version", (user,))


@pytest.fixture
def register(stack, sim):
    return Register(stack, sim)


# ---- what events did not tell

def test_a_tenants_first_look_is_at_all_and_a_backfill(register):
    register.member()
    register.member("mem_2", "user_2", made=ago())
    register.look("recent")
    assert register.runs("kind, is_first, status, fetched, added") == [("full", True, "success", 2, 2)]
    assert register.told() == [("gained", True)] and register.told("user_2") == [("gained", True)]
    assert register.student() == ("active", "basic")


def test_missed_activated(register):
    """Who joined a moment ago is greeted, who joined long ago is not."""
    register.look()
    register.member(made=ago(minutes=5))
    register.member("mem_2", "user_2", made=ago(minutes=70))
    register.look("recent")
    assert register.told() == [("gained", False)] and register.told("user_2") == []
    register.look("open")
    assert register.told("user_2") == [("gained", True)]
    assert register.runs("kind, fetched, added, changed, unchanged") == [
        ("full", 0, 0, 0, 0), ("recent", 1, 1, 0, 0), ("open", 2, 1, 0, 1)]
    sought = register.listed()[-1]["query"]
    assert set(sought["statuses[]"]) == {"trialing", "active", "past_due", "canceling", "unresolved", "drafted"}


def test_what_events_have_told_is_no_news(register):
    register.look()
    register.member(made=ago(minutes=5))
    register.tell("membership.activated", "active", at_ms=now_ms() - 1000, plan="plan_T3stMonthly01")
    register.look("recent")
    assert register.runs("added, changed, unchanged")[-1] == (0, 0, 1) and register.told() == [("gained", False)]


def test_who_was_there_before_us_is_not_greeted(register):
    register.look()
    register.stack.sql("UPDATE tenants SET created_at = now()")
    register.member(made=ago(minutes=5))
    register.look("recent")
    assert register.told() == [("gained", True)]


def test_missed_deactivated_and_changed_plan(register):
    register.member()
    register.member("mem_2", "user_2")
    register.look()
    register.member(status="expired")
    register.sim.put("plans", {"id": "plan_pro", "product": "prod_1"})
    register.member("mem_2", plan="plan_pro")
    register.look("open")  # which cannot show what has ended
    assert register.student() == ("active", "basic") and register.student("user_2") == ("active", "pro")
    register.a_day_later()
    register.look()
    assert register.told() == [("gained", True), ("lost", True)]
    assert register.told("user_2") == [("gained", True), ("changed", True)]
    assert register.reads() == []
    register.a_day_later()
    register.look()  # and nothing is new
    assert register.runs("fetched, added, changed, unchanged, absent, gone")[-1] == (2, 0, 0, 2, 0, 0)
    assert len(register.told()) == len(register.told("user_2")) == 2


def test_deleted_at_whop(register):
    """It is asked about alone, twice, before anything is taken away; the others are not."""
    register.member()
    register.member("mem_2", "user_2")
    register.look()
    register.gone("mem_1")
    for kind in ("recent", "open"):
        register.look(kind)
    assert register.reads() == [] and register.student() == ("active", "basic")
    register.a_day_later()
    register.fire("full")
    register.stack.eventually(lambda: len(register.reads()) == 1, 20)
    assert register.student() == ("active", "basic")
    register.stack.eventually(lambda: register.student()[0] == "revoked", 20)
    register.rest()
    assert [call["status"] for call in register.reads()] == [404, 404]
    assert register.runs("kind, status, absent, gone")[-1] == ("full", "success", 1, 1)
    assert register.student("user_2")[0] == "active" and register.told()[-1] == ("lost", True)


def test_an_event_that_comes_while_a_lost_one_is_asked_about(register):
    """Whop says 404 for the second time, slowly; the event that came meanwhile is not undone by it."""
    register.member()
    register.look()
    register.gone("mem_1")
    register.a_day_later()
    register.sim.rule(operation="memberships.get", reply_ms=1500, skip=1)
    register.fire("full")
    register.stack.eventually(lambda: len(register.reads()) == 2, 20)
    put_jobs(register.stack, [register.event("membership.activated", "active", at_ms=now_ms(), plan="plan_T3stMonthly01")],
             register.tenant)
    ended = "SELECT state FROM jobs WHERE kind = 'sync.member'"
    register.stack.eventually(lambda: register.stack.sql(ended) == [("done",)], 20)
    assert register.student()[0] == "active" and register.runs("gone")[-1] == (0,)


def test_what_a_list_leaves_out_is_there_all_the_same(register):
    """A page that loses a row: asked about, it says that all is well."""
    register.member()
    register.look()
    register.a_day_later()
    register.sim.rule(operation="memberships.list", status=200, body={"data": [], "page_info": {"has_next_page": False}})
    register.look()
    assert register.runs("fetched, absent, gone")[-1] == (0, 1, 0)
    assert register.told() == [("gained", True)] and len(register.reads()) == 1


def test_a_run_that_fails_takes_nothing_away(register):
    register.stack.env["WHOP_PAGE_SIZE"] = "2"
    register.stack.proc("sync").sigterm()
    register.stack.start("sync")
    for n in range(5):
        register.member(f"mem_{n}", f"user_{n}")
    register.look()
    register.gone("mem_0")
    register.a_day_later()
    register.sim.rule(operation="memberships.list", status=400, skip=1)
    register.look(status="failed")
    assert register.runs("status, fetched, sweep_after")[-1] == ("failed", 2, None)
    assert register.reads() == [] and register.student("user_0")[0] == "active"


# ---- pages

def fill(register, count):
    register.sim.make("memberships", count, product="prod_1", created_at=ago(days=2), joined_at=ago(days=2))


@pytest.mark.parametrize("version", ["2026-07-20", "2026-07-23"])
def test_three_pages_nested_and_flat(register, version):
    register.stack.proc("sync").sigterm()
    register.stack.start("sync", env={"WHOP_API_VERSION_DATE": version})
    fill(register, 130)
    register.look()
    assert register.runs("status, fetched, added, next_page") == [("success", 130, 130, 4)]  # the last: nobody was absent
    assert len(register.listed()) == 3 and register.reads() == []
    assert register.stack.sql("SELECT access, count(*) FROM students GROUP BY 1") == [("active", 130)]
    assert register.stack.sql("SELECT DISTINCT change, backfill FROM member_changes") == [("gained", True)]


def test_who_joins_while_the_list_is_read(register):
    """Newest first: the others move to later pages, and nobody is taken for absent."""
    fill(register, 130)
    register.look()
    register.a_day_later()
    register.sim.rule(operation="memberships.list", reply_ms=600, times=0)
    register.fire("full")
    for n in range(1, 4):
        register.stack.eventually(lambda: len(register.listed()) == 3 + n, 20)
        register.sim.make("memberships", 20, product="prod_1", created_at=ago(), joined_at=ago())
    register.stack.eventually(lambda: register.runs()[-1] == ("success",), 20)
    assert register.runs("absent")[-1] == (0,)
    assert register.stack.sql("SELECT count(*) FROM member_changes WHERE change = 'lost'") == [(0,)]


def test_a_cursor_that_comes_back(register):
    """Of its own page, or of an earlier one: the run ends, takes nothing away, and the next one begins anew."""
    register.member()
    row = {"id": "mem_1", "status": "active", "user_id": "user_1", "product_id": "prod_1"}
    for cursors in (["a"] * 8, ["a", "b", "c", "b", "c", "b", "c", "b", "c", "b", "c", "b"]):
        for cursor in cursors:
            register.sim.rule(operation="memberships.list", status=200, body={
                "data": [row], "page_info": {"has_next_page": True, "end_cursor": cursor}})
        register.look(status="failed")
        register.sim.clear_rules()
    assert [row[0] for row in register.runs("error LIKE '%was there before'")] == [True, True]
    register.look()
    assert register.student() == ("active", "basic") and register.reads() == []


# ---- who may not read

def test_a_credential_that_may_not_read_members(register):
    """It is said once; what else is asked of Whop goes on; and it ends with the grant."""
    register.member()
    register.sim.key(simulator.KEY, "sim", without=[READ])
    for kind in ("full", "recent", "open", "full"):
        register.look(kind, status="failed")
    register.fire("recent")
    assert register.stack.sql("SELECT count(*) FROM jobs WHERE state IN ('parked', 'dead')") == [(0,)]
    assert READ in register.runs("error")[0][0]
    assert register.stack.proc("sync").log().count("memberships cannot be read at Whop") == 1
    register.sim.key(simulator.KEY, "sim")
    register.look()
    assert register.student() == ("active", "basic")


# ---- several at once, and deaths

def test_two_schedulers_and_two_runs_at_once(register):
    register.stack.start("scheduler")
    register.stack.start("sync")
    fill(register, 130)
    register.sim.rule(operation="memberships.list", reply_ms=300, times=0)
    register.look()
    assert len(register.listed()) == 3 and register.runs("fetched, added") == [(130, 130)]
    register.a_day_later()
    for kind in ("full", "full", "recent", "open"):
        register.fire(kind)
    register.stack.eventually(lambda: register.count("success") == 4, 30)
    register.rest()
    assert register.stack.sql("SELECT change, count(*) FROM member_changes GROUP BY 1") == [("gained", 130)]
    assert len(register.runs()) == 4


@pytest.mark.parametrize("point", ["before_pg_commit", "pg_commit_reply_lost", "after_pg_commit"])
def test_killed_between_page_and_commit(register, point):
    fill(register, 130)
    register.stack.proc("sync").sigterm()
    victim = register.stack.start("sync", fault=f"{point}:kill@3", ready=False)
    register.fire("full")
    victim.wait_exit(30)
    register.stack.start("sync")
    register.stack.eventually(lambda: register.runs("status, fetched, added") == [("success", 130, 130)], 40)
    register.rest()
    assert register.stack.sql("SELECT change, count(*) FROM member_changes GROUP BY 1") == [("gained", 130)]


def test_an_event_newer_than_the_page_wins(register):
    """The page is slow; the membership ends meanwhile, and its event is quick."""
    register.member()
    register.look()
    register.a_day_later()
    before = len(register.listed())
    register.sim.rule(operation="memberships.list", reply_ms=1000)
    register.fire("full")
    register.stack.eventually(lambda: len(register.listed()) > before)
    register.member(status="expired")
    put_jobs(register.stack, [register.event("membership.deactivated", "expired", at_ms=now_ms(), plan="plan_T3stMonthly01")], register.tenant)
    register.stack.eventually(lambda: register.student()[0] == "revoked")
    register.stack.eventually(lambda: register.runs()[-1] == ("success",), 20)
    register.rest()
    assert register.student()[0] == "revoked" and register.told() == [("gained", True), ("lost", False)]


def test_a_list_that_lags_behind(register):
    """It shows what an event ended a moment ago: asked about alone, Whop says that it has ended."""
    register.member()
    register.look()
    page = {"data": [{"id": "mem_1", "status": "active", "user_id": "user_1", "product_id": "prod_1"}],
            "page_info": {"has_next_page": False}}
    register.member(status="expired")
    register.tell("membership.deactivated", "expired", at_ms=now_ms(), plan="plan_T3stMonthly01")
    register.sim.rule(operation="memberships.list", status=200, body=page)
    register.look("open")
    assert register.student()[0] == "revoked" and register.told() == [("gained", True), ("lost", False)]
    assert len(register.reads()) == 1


def test_a_run_left_behind_does_not_stand_in_the_way(register):
    register.member()
    register.stack.sql("INSERT INTO member_runs (tenant_id, kind, is_first, started_by, touched_at)"
                       " SELECT id, 'full', true, 'test', now() - interval '61 minutes' FROM tenants")
    register.look()
    assert register.runs("status, error") == [("failed", "left behind"), ("success", None)]


def test_not_by_the_clock_where_it_is_switched_off(register):
    register.stack.proc("sync").sigterm()
    register.stack.start("sync", env={"WHOP_SYNC_ENABLED": "false"})
    register.fire("full")
    register.rest()
    assert register.runs() == []
    register.stack.cli("members", "sync", "--reason", "by hand")
    register.stack.eventually(lambda: register.count("success") == 1, 20)


def test_not_before_it_is_due(register):
    for kind in ("full", "open"):
        register.look(kind)
    for kind in ("full", "open"):
        register.fire(kind)
        register.rest()
    assert len(register.runs()) == 2
    register.stack.sql("UPDATE member_runs SET started_at = started_at - interval '56 minutes'")
    for kind in ("full", "open"):
        register.fire(kind)
        register.rest()
    assert register.runs("kind") == [("full",), ("open",), ("open",)]


# ---- products

def test_products_are_known_by_name(register):
    register.sim.put("products", {"id": "prod_1", "title": "The Club"})
    for n in range(3):
        register.member(f"mem_{n}", f"user_{n}")
    register.look()
    titles = lambda: register.stack.sql("SELECT title, wanted_until FROM products WHERE whop_product_id = 'prod_1'")
    assert titles() == [("The Club", None)] and len(register.sim.calls(operation="products.get")) == 1
    register.sim.put("products", {"id": "prod_1", "title": "The Salon"})
    register.look("recent")
    assert titles() == [("The Club", None)]
    register.stack.sql("UPDATE products SET fetched_at = now() - interval '25 hours'")
    register.sim.rule(operation="products.get", status=404)
    register.look("open")
    assert titles()[0][0] == "The Club"  # stale rather than nothing
    register.stack.sql("UPDATE products SET wanted_until = now() - interval '1 second'")
    register.a_day_later()
    register.look("open")
    assert titles() == [("The Salon", None)] and len(register.sim.calls(operation="products.get")) == 3


# ---- by hand

def test_by_hand(register):
    register.member()
    said = register.stack.cli("members", "sync", "--kind", "open", "--reason", "a look", "--actor", "ann").stdout
    assert "run 1 has begun: full (the first one is of all)" in said
    register.stack.eventually(lambda: register.count("success") == 1, 20)
    register.rest()
    begun = register.stack.cli_json("members", "sync", "--kind", "recent", "--reason", "another", "--actor", "ann")
    assert begun == {"run": 2, "kind": "recent"}
    register.stack.eventually(lambda: register.count("success") == 2, 20)
    runs = register.stack.cli_json("members", "runs")
    assert [(run["kind"], run["new"], run["started_by"]) for run in runs] == [("recent", 0, "ann"), ("full", 1, "ann")]
    assert "success" in register.stack.cli("members", "runs", "--limit", "1").stdout
    assert register.stack.sql("SELECT actor, target, reason, detail->>'kind' FROM audit_log WHERE action = 'members.sync' ORDER BY id") == [
        ("ann", "run 1", "a look", "full"), ("ann", "run 2", "another", "recent")]


def test_by_hand_what_cannot_be(register):
    for words in (("--kind", "some", "--reason", "x"), ()):
        assert register.stack.cli("members", "sync", *words, check=False).returncode == 2
    register.stack.proc("sync").sigterm()
    register.stack.cli("members", "sync", "--reason", "x")
    refused = register.stack.cli("members", "sync", "--reason", "x", check=False)
    assert refused.returncode == 1 and "under way" in refused.stderr
    assert "running" in register.stack.cli("members", "runs").stdout
    assert register.stack.sql("SELECT count(*) FROM audit_log WHERE action = 'members.sync'") == [(1,)]
    register.stack.start("sync")
    register.stack.eventually(lambda: register.count("success") == 1, 20)


def test_what_runs_find_is_measured(register):
    register.member()
    register.member("mem_2", "user_2")
    register.look()
    register.member(status="past_due")
    register.look("open")
    link = re.search(r"address=127.0.0.1:(\d+)", register.stack.proc("scheduler").log()).group(1)

    def drift():
        page = urllib.request.urlopen(f"http://127.0.0.1:{link}/metrics", timeout=5).read().decode()
        return dict(re.findall(r'whopline_reconcile_drift_total{kind="(\w+)"} (\d+)', page))
    register.stack.eventually(lambda: drift() == {"new": "2", "changed": "1", "gone": "0"})


# ---- many (Show B)

@pytest.mark.limit(600 if LONG else 60)
def test_many_members_killed_at_half_and_resumed(register):
    """X13: nobody gains twice, nobody is written to, and the calls stay within the share of bulk work."""
    count, size, rate = (10_000, 50, 600) if LONG else (200, 10, 300)
    register.stack.env.update(WHOP_PAGE_SIZE=str(size), WHOP_RATE_PER_MIN=str(rate))
    register.stack.proc("sync").sigterm()
    register.stack.start("sync")
    fill(register, count)
    began = time.monotonic()
    register.stack.cli("members", "sync", "--reason", "the first time")
    fetched = lambda: register.runs("fetched")[0][0]
    register.stack.eventually(lambda: fetched() >= count // 2, 300)
    register.stack.proc("sync").kill9()
    assert fetched() < count
    register.stack.start("sync")
    register.stack.eventually(lambda: register.count("success") == 1, 300)
    register.rest()
    took = time.monotonic() - began
    calls = [call["mono_ms"] for call in register.listed()]
    print(f"{count} members, {len(calls)} calls of memberships.list, {took:.1f} s, killed at half")
    assert register.runs("fetched, added, changed, absent, gone") == [(count, count, 0, 0, 0)]
    assert register.stack.sql("SELECT change, backfill, access, count(*) FROM member_changes GROUP BY 1, 2, 3") == [
        ("gained", True, "active", count)]
    assert register.stack.sql("SELECT access, version, count(*) FROM students GROUP BY 1, 2") == [("active", 1, count)]
    assert {row[0] for row in register.stack.sql("SELECT DISTINCT kind FROM jobs")} <= {
        "sync.members_page", "sync.members_absent", "sync.product"}
    assert register.sim.effects() == [] and register.stack.sql("SELECT count(*) FROM outbound") == [(0,)]
    assert count // size <= len(calls) <= count // size + 2  # the page that was under way, and may be a 429
    assert register.sim.calls(status=429) == []
    window = 60_000 if LONG else 3_000
    most = max(sum(1 for other in calls if call <= other < call + window) for call in calls)
    # Bulk work may make up for a second in which it had nothing to call, and a call may be late.
    assert most <= rate * 0.7 * (window + 1000) / 60_000 + 2
