"""What applications are told of members: by the function member_access, and by the copies in Redis."""
import json
import os
import signal
import threading
import time

import psycopg2
import pytest

import harness
import whop
from ledger import put_jobs
from test_members_access import School, now_ms

KEY = f"wl:{{0}}:access:{whop.COMPANY}:user_1"
WRITES = ("before_access_hide", "after_access_hide", "before_pg_commit", "pg_commit_reply_lost", "after_pg_commit",
          "before_access_show", "before_access_put", "before_done")


@pytest.fixture
def school(stack, sim):
    return School(stack, sim)


@pytest.fixture
def closed_school(stack, sim):
    """Its workers are for the test to start."""
    return School(stack, sim, start=("scheduler",))


def ask(stack, who="user_1", link=None):
    """What an application is told, as a dict."""
    with (link or stack.db()).cursor() as cursor:
        cursor.execute("SELECT * FROM member_access(%s, %s)", (whop.COMPANY, who))
        return dict(zip([column.name for column in cursor.description], cursor.fetchone()))


def shown(stack, key=KEY):
    """What Redis has: None, or the answer."""
    text = stack.redis.client().get(key)
    return text and json.loads(text)


def answer(stack):
    """The answer in Redis, as soon as there is one: it follows COMMIT."""
    return stack.eventually(lambda: shown(stack) if "has_access" in (shown(stack) or {}) else None)


def shows_access(stack):
    value = shown(stack)
    return bool(value and value.get("has_access"))


def grow_old(stack, by="1 hour"):
    """Nothing has been heard of anybody for so long."""
    stack.sql("UPDATE memberships SET told_at = told_at - %s::interval, read_at = read_at - %s::interval", (by, by))
    stack.sql("UPDATE access_asks SET asked_at = asked_at - %s::interval, since = since - %s::interval,"
              " answered_at = answered_at - %s::interval", (by, by, by))


def put_member(school, status="active", **more):
    school.sim.put("memberships", {"id": "mem_1", "user": "user_1", "status": status, "product": "prod_1",
                                   "plan": "plan_basic", **more})


# ---- what is told

def test_what_an_application_is_told(school):
    school.tell("membership.activated", "active")
    told = ask(school.stack)
    assert (told["has_access"], told["access"], told["tier"], told["state"]) == (True, "active", "basic", "fresh")
    assert told["features"] == ["basic", "analytics", "course_builder"] and told["over_limit"] == [] and told["version"] == 1
    assert told["limits"] == {"videos": 50, "storage_bytes": 10 << 30, "ai_credits_month": 1000, "students": 100}
    assert told["until"] is None and told["whop_user_id"] == "user_1"
    assert ask(school.stack, "mem_1") == told
    copy = answer(school.stack)
    same = ("has_access", "access", "tier", "features", "limits", "until", "over_limit", "state", "version")
    assert {name: copy[name] for name in same} == {name: told[name] for name in same}
    assert 290_000 < school.stack.redis.client().pttl(KEY) <= 300_000
    school.tell("membership.deactivated", "expired")
    assert not ask(school.stack)["has_access"] and answer(school.stack)["has_access"] is False
    assert 20_000 < school.stack.redis.client().pttl(KEY) <= 30_000


def test_a_membership_that_has_ended_beside_one_that_has_not(school):
    school.tell("membership.activated", "active", membership="mem_1")
    school.tell("membership.activated", "active", membership="mem_2", plan="plan_pro")
    school.tell("membership.deactivated", "expired", membership="mem_1")
    assert (ask(school.stack, "mem_1")["has_access"], ask(school.stack, "mem_1")["access"]) == (False, "revoked")
    assert ask(school.stack, "mem_2")["has_access"] and ask(school.stack)["tier"] == "pro"


def test_grace_is_shown_no_longer_than_it_lasts(school):
    school.stack.sql("UPDATE member_settings SET grace = '60 seconds'")
    school.tell("membership.activated", "active")
    school.tell("payment.failed", payment="pay_1", at_ms=now_ms())
    assert answer(school.stack)["access"] == "grace" and ask(school.stack)["until"] is not None
    assert school.stack.redis.client().pttl(KEY) <= 60_000


def test_S8_an_upgrade_is_seen_at_once(school):
    school.tell("membership.activated", "active")
    began = time.monotonic()
    school.tell("membership.metadata_updated", "active", plan="plan_pro")
    school.stack.eventually(lambda: (shown(school.stack) or {}).get("tier") == "pro" and ask(school.stack)["tier"] == "pro")
    assert time.monotonic() - began < 5 * harness.SLOW
    assert ask(school.stack)["limits"]["videos"] == 500


def test_a_tenant_nobody_knows_is_an_error(stack):
    with pytest.raises(psycopg2.errors.InvalidParameterValue, match="whopline tenants ls"):
        stack.sql("SELECT * FROM member_access('biz_none', 'user_1')")


# ---- strangers

@pytest.mark.parametrize("who", ["user_1", "mem_1"])
def test_a_member_unknown_here_is_admitted_within_two_seconds(stack, sim, who):
    """With the scheduler's own pace, and a Whop that takes its time."""
    stack.env["RELAY_SWEEP_MS"] = "1000"
    school = School(stack, sim)
    put_member(school)
    sim.rule(operation="memberships.*", reply_ms=250, times=0)
    took = []
    for _ in range(3):
        stack.sql("TRUNCATE access_asks, memberships, students, member_changes, whop_users, membership_history")
        began = time.monotonic()
        assert ask(stack, who)["state"] == "pending"
        stack.eventually(lambda: ask(stack, who)["has_access"], every=0.02)
        took.append(time.monotonic() - began)
    assert max(took) < 2 * harness.SLOW, took
    assert ask(stack, who)["state"] == "fresh" and ask(stack)["tier"] == "basic"
    assert answer(stack)["has_access"]


@pytest.mark.parametrize("who", ["user_1", "mem_1"])
def test_fifty_who_ask_at_once_are_one_call(school, who):
    put_member(school)
    school.sim.rule(operation="memberships.*", reply_ms=300)
    links = [harness.connect(school.stack.pg_sockets, school.stack.database) for _ in range(50)]
    start = threading.Barrier(len(links))

    def one(link):
        start.wait()
        ask(school.stack, who, link)
    threads = [threading.Thread(target=one, args=(link,)) for link in links]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    [link.close() for link in links]
    school.stack.eventually(lambda: ask(school.stack, who)["has_access"])
    assert school.stack.sql("SELECT count(*) FROM jobs WHERE kind = 'members.ask'") == [(1,)]
    assert len(school.sim.calls(path="/api/v1/memberships*")) == 1


def test_one_who_asks_waits_for_no_other_transaction(school):
    """An application that asks in a long transaction of its own holds nobody up."""
    link = harness.connect(school.stack.pg_sockets, school.stack.database)
    link.autocommit = False
    assert ask(school.stack, "user_1", link)["state"] == "pending"
    school.stack.sql("SET lock_timeout = '500ms'")
    assert ask(school.stack)["state"] == "pending"
    link.rollback()
    link.close()
    assert ask(school.stack)["state"] == "pending"
    school.stack.eventually(lambda: ask(school.stack)["state"] == "unknown")


def test_whom_whop_does_not_know_either(school):
    assert ask(school.stack, "user_2")["state"] == "pending"
    school.stack.eventually(lambda: ask(school.stack, "user_2")["state"] == "unknown")
    for _ in range(5):
        assert not ask(school.stack, "user_2")["has_access"]
    assert len(school.sim.calls(operation="memberships.list")) == 1
    assert school.student("user_2") is None  # nobody becomes a student by being asked about
    grow_old(school.stack, "31 seconds")
    school.sim.put("users", {"id": "user_2"})
    school.sim.put("memberships", {"id": "mem_2", "user": "user_2", "status": "active", "product": "prod_1"})
    assert ask(school.stack, "user_2")["state"] == "pending"
    school.stack.eventually(lambda: ask(school.stack, "user_2")["has_access"])


def test_a_membership_of_another_company_admits_nobody(school):
    put_member(school, company="biz_other")
    assert ask(school.stack, "mem_1")["state"] == "pending"
    school.stack.eventually(lambda: ask(school.stack, "mem_1")["state"] == "unknown")
    assert school.student() is None


@pytest.mark.parametrize("who", ["", "nonsense", "user_", "user_1'; --", "user_" + "x" * 100, "mem_\u00e9"])
def test_what_is_no_id_is_not_asked_about(school, who):
    assert not ask(school.stack, who)["has_access"]
    assert school.stack.sql("SELECT count(*) FROM jobs") == [(0,)]


def test_strangers_do_not_use_up_the_budget(stack, sim):
    stack.env["MEMBERSHIP_STRANGERS_MAX"] = "3"
    school = School(stack, sim)
    stack.eventually(lambda: stack.sql("SELECT strangers_max FROM access_settings") == [(3,)])
    school.tell("membership.activated", "active")
    stack.proc("members").sigterm()
    for n in range(10):
        assert ask(stack, f"user_s{n}")["state"] == "pending"
    grow_old(stack, "9 minutes")
    assert ask(stack)["state"] == "stale"  # a member is asked about whatever strangers do
    assert stack.sql("SELECT count(*) FROM jobs WHERE kind = 'members.ask'") == [(4,)]


# ---- what is old

def test_what_is_old_is_asked_about_and_shown_again(school):
    put_member(school, status="expired")
    school.tell("membership.activated", "active")
    grow_old(school.stack, "6 minutes")
    school.stack.redis.client().delete(KEY)  # as after its time
    told = ask(school.stack)
    assert (told["state"], told["has_access"]) == ("stale", True)
    school.stack.eventually(lambda: ask(school.stack)["access"] == "revoked")
    assert ask(school.stack)["state"] == "fresh" and answer(school.stack)["has_access"] is False


def test_a_membership_that_is_gone_from_whops_list_is_asked_about(school):
    school.tell("membership.activated", "active")
    grow_old(school.stack)
    assert ask(school.stack)["state"] == "stale"
    school.stack.eventually(lambda: school.sim.calls(operation="memberships.get", status=404))
    assert school.stack.sql("SELECT count(*) FROM jobs WHERE kind = 'members.read'") == [(1,)]


def test_S12_whop_away_keeps_who_is_known_and_nobody_else(school):
    put_member(school)
    school.tell("membership.activated", "active")
    school.sim.rule(path="/api/v1/*", status=503, times=0)
    grow_old(school.stack)
    for who, has in (("user_1", True), ("user_2", False), ("mem_2", False)):
        assert ask(school.stack, who)["has_access"] is has
    school.stack.eventually(lambda: school.sim.calls(status=503))
    assert (ask(school.stack)["state"], ask(school.stack)["has_access"]) == ("stale", True)
    grow_old(school.stack, "23 hours 58 minutes")
    assert ask(school.stack)["has_access"]
    grow_old(school.stack, "3 minutes")
    told = ask(school.stack)
    assert (told["state"], told["has_access"], told["access"]) == ("stale", False, "active")
    school.sim.clear_rules()
    school.tell("membership.metadata_updated", "active")  # an event is as good as an answer
    assert ask(school.stack)["has_access"] and ask(school.stack)["state"] == "fresh"


def test_a_permission_that_is_missing_locks_nobody_out(school):
    school.tell("membership.activated", "active")
    school.sim.rule(operation="memberships.list", status=403, permission="member:basic:read", times=0)
    for _ in range(3):
        grow_old(school.stack, "25 hours")
        assert ask(school.stack)["has_access"]
        school.rest()
    assert school.stack.sql("SELECT DISTINCT state, reason FROM jobs WHERE kind = 'members.ask'") == \
        [("skipped", "no_permission")]


def test_a_reader_may_ask_in_a_read_only_transaction(school):
    link = harness.connect(school.stack.pg_sockets, school.stack.database)
    link.set_session(readonly=True)
    assert ask(school.stack, "user_1", link)["state"] == "pending"
    link.close()


# ---- S11: nobody is shown who has lost his access

class Watch:
    """Looks all the time: once the register says that access is gone, Redis may not show it."""

    def __init__(self, stack):
        self.stack, self.over, self.wrong, self.looks = stack, False, [], 0
        self.link = harness.connect(stack.pg_sockets, stack.database)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over:
            with self.link.cursor() as cursor:
                cursor.execute("SELECT access FROM students WHERE whop_user_id = 'user_1'")
                gone = cursor.fetchall() == [("revoked",)]
            try:
                if gone and shows_access(self.stack):
                    self.wrong.append(time.monotonic())
            except Exception:  # pylint: disable=broad-except
                continue  # Redis is away: it shows nothing
            self.looks += gone
            time.sleep(0.005)

    def end(self):
        try:
            self.stack.eventually(lambda: self.looks > 20)
        finally:
            self.over = True
            self.thread.join()
            self.link.close()
        assert self.wrong == []


@pytest.fixture
def watched(closed_school):
    """A school with a member, whom Redis shows; no worker."""
    first = closed_school.stack.start("members")
    closed_school.tell("membership.activated", "active")
    closed_school.stack.eventually(lambda: shows_access(closed_school.stack))
    first.sigterm()
    watch = Watch(closed_school.stack)
    yield closed_school
    watch.end()


def revoke(school):
    put_jobs(school.stack, [school.event("membership.deactivated", "expired")], school.tenant)


def is_revoked(school):
    return school.student()[0] == "revoked" and not shows_access(school.stack)


@pytest.mark.parametrize("point", WRITES)
def test_S11_whoever_dies_wherever(watched, point):
    doomed = watched.stack.start("members", fault=f"{point}:" + ("fail" if point.endswith("lost") else "kill"))
    revoke(watched)
    if not point.endswith("lost"):
        doomed.wait_exit()
    watched.stack.start("members")
    watched.rest()
    watched.stack.eventually(lambda: (shown(watched.stack) or {}).get("has_access") is False)
    assert is_revoked(watched) and watched.changes() == ["gained", "lost"]


def test_S11_an_older_answer_that_comes_last_is_not_shown(watched):
    """The slow one has read that there is access, and is stopped before it says so."""
    stack = watched.stack
    slow = stack.start("members", fault="before_access_put:stop@1")
    put_jobs(stack, [watched.event("membership.activated", "active", membership="mem_2", plan="plan_pro")], watched.tenant)
    stack.eventually(lambda: watched.student() == ("active", "pro"))
    stack.eventually(lambda: open(f"/proc/{slow.pid}/stat", encoding="ascii").read().split()[2] == "T")
    stack.start("members")
    put_jobs(stack, [watched.event("membership.deactivated", "expired", membership=f"mem_{n}") for n in (1, 2)],
             watched.tenant)
    stack.eventually(lambda: watched.student()[0] == "revoked", 20)
    stack.eventually(lambda: (shown(stack) or {}).get("has_access") is False)
    stack.eventually(stack.at_rest)  # also what the slow one had: nobody shows it again from now on
    for is_there in (True, False):
        if not is_there:  # as after its time
            stack.redis.client().delete(KEY)
        else:
            slow.send(signal.SIGCONT)
            slow.sigterm()
        assert not shows_access(stack)
    assert shown(stack) is None


def test_S11_an_older_answer_finds_nothing_to_replace(watched):
    """All that was shown since has gone by its time when the slow one goes on."""
    stack = watched.stack
    slow = stack.start("members", fault="before_access_put:stop@1")
    put_jobs(stack, [watched.event("membership.metadata_updated", "active", plan="plan_pro")], watched.tenant)
    stack.eventually(lambda: watched.student() == ("active", "pro"))
    stack.eventually(lambda: open(f"/proc/{slow.pid}/stat", encoding="ascii").read().split()[2] == "T")
    stack.start("members")
    revoke(watched)
    stack.eventually(lambda: watched.student()[0] == "revoked", 20)
    stack.eventually(lambda: (shown(stack) or {}).get("has_access") is False)
    stack.eventually(stack.at_rest)  # also what the slow one had: nobody shows it again from now on
    stack.redis.client().delete(KEY)
    slow.send(signal.SIGCONT)
    slow.sigterm()
    assert shown(stack) is None


def test_S11_without_a_tombstone_nothing_is_committed(watched):
    """Redis goes away before it can be told; it comes back with what it showed before."""
    stack = watched.stack
    worker = stack.start("members", fault="before_access_hide:stop@1")
    revoke(watched)
    stack.eventually(lambda: open(f"/proc/{worker.pid}/stat", encoding="ascii").read().split()[2] == "T")
    stack.redis.kill9()
    worker.send(signal.SIGCONT)
    worker.wait_log("Redis")
    assert watched.student()[0] == "active"
    stack.redis.start()
    stack.eventually(lambda: is_revoked(watched), 30)
    watched.rest()


# ---- who may ask

@pytest.fixture
def role(stack):
    name = 'app "' + os.urandom(6).hex()
    quoted = '"' + name.replace('"', '""') + '"'
    stack.sql(f"CREATE ROLE {quoted} LOGIN")
    yield name
    stack.sql(f"DROP OWNED BY {quoted}")
    stack.sql(f"DROP ROLE {quoted}")


ALLOWED = {"member_access", "usage_reserve", "usage_commit", "usage_release", "usage_add", "usage_show"}


def test_an_application_may_ask_and_nothing_else(school, role):
    stack = school.stack
    school.tell("membership.activated", "active")
    link = psycopg2.connect(host=stack.pg_sockets, user=role, dbname=stack.database)
    link.autocommit = True
    cursor = link.cursor()
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        ask(stack, "user_1", link)
    assert "no role" in stack.cli("members", "allow", role + "x", check=False).stderr
    assert "may do everything" in stack.cli("members", "allow", "app", check=False).stderr
    assert "member_access" in stack.cli("members", "allow", role).stdout
    assert ask(stack, "user_1", link)["has_access"] and ask(stack, "user_9", link)["state"] == "pending"
    for call, result in (("usage_reserve(%s, 'user_1', 'videos', 1, 'r1')", "reserved"), ("usage_commit(%s, 'r1')", "committed"),
                         ("usage_release(%s, 'r1')", "committed"), ("usage_add(%s, 'user_1', 'videos', -1, 'e1')", "counted")):
        cursor.execute("SELECT result FROM " + call, (whop.COMPANY,))
        assert cursor.fetchall() == [(result,)]
    cursor.execute("SELECT count(*) FROM usage_show(%s, 'user_1')", (whop.COMPANY,))
    assert cursor.fetchall() == [(3,)]
    for name, args in stack.sql("""SELECT p.oid::regproc::text, coalesce((SELECT string_agg('NULL::' || t::regtype, ', ')
                                       FROM unnest(p.proargtypes) t), '')
                                   FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype
                                       AND proname ~ '^(access|usage|members?)_'"""):
        if name not in ALLOWED:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(f"SELECT {name}({args})")
                pytest.fail(f"it may call {name}")
    for table, in stack.sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(f"SELECT * FROM {table}")
            pytest.fail(f"it may read {table}")
    stack.cli("members", "allow", role, "--revoke")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        ask(stack, "user_1", link)
    link.close()
    assert [row[0] for row in stack.sql("SELECT action FROM audit_log ORDER BY id")] == ["members.allow", "members.disallow"]
