"""Calls that happen once: whatever comes of a call, and wherever a process dies around it, the simulator
saw the effect once, or the row is parked with its reason."""
import threading

import pytest

import harness
import sim as simulator
from test_metrics import metrics
from test_probe import effects, put, put_one, state

# policy -> (kind of job, kind of thing)
POLICIES = {"resend": ("post_resend", "upserts"), "verify": ("post_verify", "messages"),
            "park": ("post_park", "refunds")}
SETTINGS = {"HTTP_TIMEOUT_MS": 600, "OUTBOUND_BEGIN_MS": 1200, "OUTBOUND_GRACE_MS": 300, "OUTBOUND_VERIFY_MS": 100, "OUTBOUND_VERIFICATIONS": 2,
            "OUTBOUND_FREEZE_MS": 300, "BREAKER_FAILURES": 32, "LEASE_MS": 800, "BACKOFF_BASE_MS": 20}
COMMIT_CLAIM, COMMIT_RECORD, COMMIT_HANDLER = 2, 3, 4  # of a probe with one job; the first is its start's


@pytest.fixture
def sim():
    it = simulator.Sim(harness.DIES_WITH_US)
    yield it
    problems = it.close()
    assert not problems, problems


@pytest.fixture
def world(stack, sim):
    return World(stack, sim)


class World:
    """A probe, a scheduler and the simulator, and questions to them."""

    def __init__(self, stack, sim):
        self.stack, self.sim = stack, sim
        self.env = {"PROBE_URL": sim.url, "HTTP_ALLOW_PRIVATE": "true",
                    **{name: value if name in ("OUTBOUND_VERIFICATIONS", "BREAKER_FAILURES") else int(value * harness.PACE)
                       for name, value in SETTINGS.items()}}

    def start(self, fault=None, scheduler=True, hasty=False, **env):
        """hasty: the calls of a process that dies or stands still are given up by others after their
        time-out, which is what the test waits for; else it is long enough for any machine."""
        hasty = hasty or (fault is not None and ":fail" not in fault)
        patient = {} if hasty else {"HTTP_TIMEOUT_MS": 5000}
        probe = self.stack.start("probe", env={**self.env, **patient, **env}, fault=fault)
        if scheduler:
            self.stack.start("scheduler")
        return probe

    def put(self, policy, key="k1"):
        return put_one(self.stack, POLICIES[policy][0], key)

    def row(self, key="k1"):
        """(state, parked, attempts, remote id)"""
        rows = self.stack.sql("SELECT state, parked, attempts, remote_id FROM outbound WHERE business_key = %s", (key,))
        return rows[0] if rows else None

    def made(self, policy, key="k1"):
        return len(self.sim.effects(f"{POLICIES[policy][1]}.make", subject=key))

    def posts(self, policy):
        return self.sim.calls(method="POST", operation=f"{POLICIES[policy][1]}.make")

    def rule(self, policy, **rule):
        self.sim.rule(operation=f"{POLICIES[policy][1]}.make", **rule)

    def wait(self, job, wanted):
        self.stack.eventually(lambda: state(self.stack, job)[0] == wanted, 20)

    def is_done(self, policy, job, key="k1"):
        """Once there, once here, and the row knows."""
        self.wait(job, "done")
        row = self.row(key)
        assert (row[0], row[1]) == ("done", None) and row[3].startswith("thing_")
        assert self.made(policy, key) == 1 and effects(self.stack, job) == 1

    def is_parked(self, policy, job, made, key="k1", why=None):
        self.wait(job, "parked")
        row = self.row(key)
        assert row[0] == "unknown" and row[1] and (why is None or why in row[1]), row
        assert state(self.stack, job)[2] == "UNDECIDED" and "outbound" in state(self.stack, job)[1]
        assert self.made(policy, key) == made and effects(self.stack, job) == 0


# ---- outcomes

# What the simulator does to the first POST -> for each policy: done, or parked with so many effects.
DONE = "done"
OUTCOMES = {
    "answered": ({}, (DONE, DONE, DONE)),
    "effect, connection closed": ({"fault": "drop"}, (DONE, DONE, 1)),
    "effect, answer cut": ({"fault": "cut"}, (DONE, DONE, 1)),
    "effect, answer too late": ({"reply_ms": 2000 * harness.PACE}, (DONE, DONE, 1)),
    "read and closed": ({"fault": "close"}, (DONE, DONE, 0)),
    "500": ({"status": 500}, (DONE, DONE, 0)),
    "503": ({"status": 503}, (DONE, DONE, 0)),
    "408": ({"status": 408}, (DONE, DONE, 0)),
    "425": ({"status": 425}, (DONE, DONE, 0)),
    "302": ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, (DONE, DONE, 0)),
    "409": ({"status": 409}, (0, 0, 0)),
    "429": ({"status": 429, "headers": {"Retry-After": "1"}}, (DONE, DONE, DONE)),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome(world, outcome):
    """All three policies at once: each has its own kind of thing."""
    rule, wanted = OUTCOMES[outcome]
    world.start(hasty="reply_ms" in rule)
    for policy in POLICIES if rule else ():
        world.rule(policy, method="POST", **rule)
    jobs = {policy: world.put(policy, policy) for policy in POLICIES}
    for policy, end in zip(POLICIES, wanted):
        if end == DONE:
            world.is_done(policy, jobs[policy], policy)
        else:
            world.is_parked(policy, jobs[policy], end, policy)
    keys = {call["idempotency_key"] for call in world.sim.calls(method="POST")}
    assert len(keys) == 3 and all(key.endswith("/0") for key in keys), "a resend keeps its key"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_definite_refusal(world, policy):
    world.stack.expect_errors("msg=dead")
    world.start()
    world.rule(policy, method="POST", status=422)
    job = world.put(policy)
    world.wait(job, "dead")
    assert state(world.stack, job)[2] == "CALL_REFUSED" and "422" in state(world.stack, job)[1]
    assert world.row()[:3] == ("refused", None, 1) and world.made(policy) == 0
    # Asked again, the answer is the stored one.
    world.stack.cli("jobs", "requeue", job, "--yes")
    world.stack.eventually(lambda: world.stack.sql("SELECT state, gen FROM jobs") == [("dead", 1)], 20)
    assert len(world.posts(policy)) == 1
    # On purpose it is another call.
    call = world.stack.sql("SELECT id FROM outbound")[0][0]
    world.stack.cli("outbound", "resolve", call, "--resend", "--reason", "mended", "--yes")
    world.is_done(policy, job)
    assert [one["idempotency_key"][-2:] for one in world.posts(policy)] == ["/0", "/1"]


@pytest.mark.parametrize("status,error,parked", [(401, "UNAUTHORISED", False), (403, "FORBIDDEN", True)])
def test_credentials_that_are_not_taken(world, status, error, parked):
    world.start()
    world.rule("park", method="POST", status=status)
    job = world.put("park")
    world.wait(job, "parked")
    row = world.row()
    assert state(world.stack, job)[2] == error and row[0] == "pending" and bool(row[1]) == parked
    assert world.made("park") == 0
    world.stack.cli("jobs", "requeue", job, "--yes")
    world.is_done("park", job)
    # A stored 403 would be given again for the same key, though the permission is there by now.
    assert [one["idempotency_key"][-2:] for one in world.posts("park")] == ["/0", "/1" if status == 403 else "/0"]


def test_nothing_is_called_while_frozen(world):
    world.start()
    world.rule("park", method="POST", status=429, headers={"Retry-After": "2"})
    job = world.put("park")
    world.is_done("park", job)
    first, second = world.posts("park")
    assert second["mono_ms"] - first["mono_ms"] >= 2000
    assert state(world.stack, job)[3] == 0, "waiting is not counted"


def test_a_server_that_is_not_there(world):
    port = harness.free_port()
    world.start(PROBE_URL=f"http://127.0.0.1:{port}")
    job = world.put("park")
    world.stack.eventually(lambda: world.row() and world.row()[2] > 1)
    assert world.row()[0] in ("pending", "sending") and state(world.stack, job)[0] == "queued"
    world.stack.proc("probe").sigterm()
    world.start(scheduler=False)
    world.is_done("park", job)


@pytest.mark.parametrize("policy,made", [("resend", DONE), ("verify", DONE), ("park", 1)])
def test_a_post_on_a_kept_connection_closed_after_reading(world, policy, made):
    world.start(SLOTS=1)
    world.is_done(policy, world.put(policy, "warm"), "warm")
    world.rule(policy, method="POST", fault="drop", reused=True)
    job = world.put(policy)
    if made == DONE:
        world.is_done(policy, job)
    else:
        world.is_parked(policy, job, made)
    assert world.sim.rules()[0]["acted"] == 1
    assert len(world.posts(policy)) == (3 if policy == "resend" else 2)


@pytest.mark.parametrize("after", [{"Retry-After": "0"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, {}])
def test_a_429_without_a_wait(world, after):
    """None, nothing at all, or a time that has passed: one must not follow the other."""
    wait_ms = int(2000 * harness.PACE)
    world.start(OUTBOUND_FREEZE_MS=wait_ms)
    world.rule("park", method="POST", status=429, headers=after, times=2)
    job = world.put("park")
    world.is_done("park", job)
    at = [post["mono_ms"] for post in world.posts("park")]
    assert len(at) == 3 and min(b - a for a, b in zip(at, at[1:])) >= wait_ms, at


def test_the_answer_of_a_failure_is_not_that_of_what_was_found(world):
    world.start()
    world.rule("verify", method="POST", status=503)
    world.sim.rule(operation="messages.list", status=200, body={"things": [{"id": "thing_9"}]})
    job = world.put("verify")
    world.wait(job, "done")  # else the probe says MALFORMED of it
    assert world.row()[:4] == ("done", None, 1, "thing_9")


def test_looking_that_cannot_tell(world):
    world.start()
    world.rule("verify", method="POST", fault="drop")
    world.sim.rule(operation="messages.list", status=404, times=0)
    job = world.put("verify")
    world.is_parked("verify", job, 1, why="cannot tell")
    world.sim.clear_rules()
    call = world.stack.sql("SELECT id FROM outbound")[0][0]
    world.stack.cli("outbound", "resolve", call, "--verify", "--reason", "it can now", "--yes")
    world.is_done("verify", job)
    assert len(world.posts("verify")) == 1


def test_looking_that_does_not_work_now(world):
    """An error of the question is not an answer."""
    world.start()
    world.rule("verify", method="POST", fault="drop")
    world.sim.rule(operation="messages.list", status=500, times=3)
    world.sim.rule(operation="messages.list", fault="close", times=1)
    world.is_done("verify", world.put("verify"))
    assert len(world.posts("verify")) == 1 and len(world.sim.calls(operation="messages.list")) == 5


def test_never_found(world):
    """Once more with the same key after the grace, then looks only."""
    world.start()
    world.rule("verify", method="POST", fault="close", times=0)
    job = world.put("verify")
    world.is_parked("verify", job, 0, why="never found")
    first, second = world.posts("verify")
    assert first["idempotency_key"] == second["idempotency_key"]
    assert second["mono_ms"] - first["mono_ms"] >= SETTINGS["OUTBOUND_GRACE_MS"]
    assert state(world.stack, job)[3] == 0


def test_refused_when_sent_again(world):
    """The first one may have worked: a person has to look."""
    world.start()
    world.rule("verify", method="POST", status=500)
    world.rule("verify", method="POST", status=422)
    world.is_parked("verify", world.put("verify"), 0, why="first time may have worked")


def test_a_thing_of_somebody_else_is_not_adopted(world):
    world.start()
    world.is_done("verify", world.put("verify", "other"), "other")
    thing = world.row("other")[3]
    world.rule("verify", method="POST", fault="close", times=0)
    # The list answers with a thing that belongs to another call.
    world.sim.rule(operation="messages.list", times=0, status=200, body={"things": [{"id": thing}]})
    world.is_parked("verify", world.put("verify"), 0, why="another call")


# ---- fault points around a call

NO_EFFECT_YET, EFFECT = 0, 1
FAULTS = {
    # nothing had been committed, or what came of it was
    f"before_pg_commit:kill@{COMMIT_CLAIM}": None,
    f"before_pg_commit:kill@{COMMIT_HANDLER}": None,
    f"before_pg_commit:fail@{COMMIT_CLAIM}": None,
    f"before_pg_commit:fail@{COMMIT_RECORD}": None,
    f"pg_commit_reply_lost:fail@{COMMIT_CLAIM}": None,
    f"pg_commit_reply_lost:fail@{COMMIT_RECORD}": None,
    f"pg_commit_reply_lost:fail@{COMMIT_HANDLER}": None,
    f"after_pg_commit:kill@{COMMIT_RECORD}": None,
    "before_call:fail@1": None,
    "after_call:kill@1": None,
    # sending, and nobody there to say what came of it: effects where it is parked
    "before_call:kill@1": NO_EFFECT_YET,
    "call_first_byte:kill@1": NO_EFFECT_YET,
    "call_reply_lost:fail@1": EFFECT,
    "call_reply_lost:kill@1": EFFECT,
    f"before_pg_commit:kill@{COMMIT_RECORD}": EFFECT,
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_point(world, fault, policy):
    probe = world.start(fault=fault)
    job = world.put(policy)
    if ":kill" in fault:
        assert probe.wait_exit() == -9
        world.start(scheduler=False)
    if policy == "park" and FAULTS[fault] is not None:
        world.is_parked(policy, job, FAULTS[fault])
    else:
        world.is_done(policy, job)
    point = fault.partition(":")[0]
    assert f"FAULT: forced {point}" in probe.log()


# ---- two at once

@pytest.mark.parametrize("policy", POLICIES)
def test_two_runners_on_one_row(world, policy):
    """Two jobs of one business key, in two processes: one call, both go on from its answer."""
    world.start()
    world.start(scheduler=False)
    world.rule(policy, method="POST", reply_ms=int(400 * harness.PACE))
    jobs = put(world.stack, POLICIES[policy][0], ["k1", "k1", "k1", "k1"])
    for job in jobs:
        world.is_done(policy, job)
    assert len(world.posts(policy)) == 1 and world.row()[2] == 1
    assert all(state(world.stack, job)[3] == 0 for job in jobs), "waiting is not counted"


@pytest.mark.parametrize("point", ["before_call", "call_first_byte"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_runner_that_stood_still_before_the_first_byte(world, policy, point):
    """Others have given it up; when it goes on it does not send."""
    first = world.start(fault=f"{point}:stop@1", SLOTS=1)
    job = world.put(policy)
    first.wait_log("forced " + point)
    world.start(scheduler=False)
    if policy == "park":
        world.is_parked(policy, job, 0)
    else:
        world.is_done(policy, job)
    sent, row = len(world.posts(policy)), world.row()
    first.send(18)  # SIGCONT
    first.wait_log("put off|stopped: another worker has it")
    assert world.row() == row and len(world.posts(policy)) == sent
    assert world.made(policy) == (0 if policy == "park" else 1)


@pytest.mark.parametrize("policy,end", [("verify", DONE), ("park", 1)])
def test_a_runner_that_stood_still(world, policy, end):
    """Given up by the others, it must not overwrite what they found out; nor need they be wrong."""
    first = world.start(SLOTS=1, hasty=True)
    world.rule(policy, method="POST", reply_ms=int(300 * harness.PACE))
    job = world.put(policy)
    world.stack.eventually(lambda: world.posts(policy))
    first.send(19)  # SIGSTOP
    world.start(scheduler=False)
    if end == DONE:
        world.is_done(policy, job)
    else:
        world.is_parked(policy, job, end)
    row = world.row()
    first.send(18)  # SIGCONT
    first.sigterm()  # whatever it made of its answer, it has
    assert world.row() in (row, ("done", None, 1, "thing_1")), "its answer, if it has one, is the truth"
    assert world.made(policy) == 1 and len(world.posts(policy)) == 1


def test_found_while_another_run_parks_it(world):
    """What is found is the truth, whatever the other made of it."""
    world.start()
    world.rule("verify", method="POST", fault="drop")
    world.sim.rule(operation="messages.list", latency_ms=int(400 * harness.PACE))
    job = world.put("verify")
    world.stack.eventually(lambda: world.sim.calls(operation="messages.list"))
    world.stack.sql("UPDATE outbound SET parked = 'by another run'")
    world.is_done("verify", job)


# ---- clocks

@pytest.mark.parametrize("policy,made", [("resend", DONE), ("verify", DONE), ("park", 0)])
def test_a_clock_that_was_put_back(world, policy, made):
    """A run that died at what was next year then must not be waited for until then."""
    probe = world.start(fault="before_call:kill@1")
    job = world.put(policy)
    assert probe.wait_exit() == -9
    world.stack.sql("UPDATE outbound SET sending_since = now() + interval '1 year',"
                    " sending_until = now() + interval '1 year'")
    world.start(scheduler=False, hasty=True)
    if made == DONE:
        world.is_done(policy, job)
    else:
        world.is_parked(policy, job, made)


def test_looks_of_a_clock_that_was_put_back(world):
    world.start(hasty=True)
    world.rule("verify", method="POST", fault="close")
    world.sim.rule(operation="messages.list", status=500, times=1)
    world.sim.rule(operation="messages.list", latency_ms=int(200 * harness.PACE))
    job = world.put("verify")
    world.stack.eventually(lambda: world.row() and world.row()[0] == "unknown")
    world.stack.sql("UPDATE outbound SET look_at = now() + interval '1 year', sending_until = now() + interval '1 year'"
                    " WHERE state = 'unknown'")
    world.is_done("verify", job)


@pytest.mark.parametrize("hours,posts", [(25, 0), (23, 1)])
def test_a_key_that_is_too_old(world, hours, posts):
    """What the receiver has forgotten is another call to it."""
    probe = world.start(fault="before_call:kill@1")
    job = world.put("resend")
    assert probe.wait_exit() == -9
    world.stack.sql("UPDATE outbound SET sending_since = now() - %s * interval '1 hour', sending_until = now()", (hours,))
    world.start(scheduler=False)
    if posts:
        world.is_done("resend", job)
    else:
        world.is_parked("resend", job, 0, why="OUTBOUND_KEY_HOURS")
        world.stack.cli("outbound", "resolve", world.stack.sql("SELECT id FROM outbound")[0][0], "--resend",
                        "--reason", "looked", "--yes")
        world.is_done("resend", job)
    assert len(world.posts("resend")) == 1


def test_a_key_ages_from_its_first_sending(world):
    """Sending it again does not make it young."""
    world.start()
    world.rule("resend", method="POST", status=503)
    world.rule("resend", method="POST", status=503, latency_ms=int(300 * harness.PACE))
    job = world.put("resend")
    world.stack.eventually(lambda: len(world.posts("resend")) == 2 and world.row()[0] == "sending")
    world.stack.sql("UPDATE outbound SET sending_since = sending_since - interval '25 hours'")
    world.is_parked("resend", job, 0, why="OUTBOUND_KEY_HOURS")


# ---- stores that go away

def test_postgresql_away_between_reply_and_commit(world):
    world.start()
    world.rule("park", method="POST", reply_ms=int(300 * harness.PACE))
    job = world.put("park")
    world.stack.eventually(lambda: world.posts("park"))
    name = world.stack.database
    harness.execute(world.stack.pg_sockets, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    world.stack.db().close()
    allow = threading.Timer(0.5 * harness.PACE, harness.execute,
                            (world.stack.pg_sockets, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
    allow.start()
    harness.execute(world.stack.pg_sockets,
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    allow.join()
    world.is_done("park", job)
    assert len(world.posts("park")) == 1


def test_redis_away_during_a_call(world):
    world.start()
    world.rule("park", method="POST", reply_ms=int(300 * harness.PACE))
    job = world.put("park")
    world.stack.eventually(lambda: world.posts("park"))
    world.stack.redis.kill9()
    world.is_done("park", job)
    world.stack.redis.start()
    world.is_done("park", job)
    assert len(world.posts("park")) == 1


# ---- who is told

def test_figures_of_calls(world):
    """By operation and what came of each, and what waits for whom."""
    world.stack.expect_errors("msg=dead")
    probe = world.start(scheduler=False)
    scheduler = world.stack.start("scheduler", env={"METRICS_COLLECT_MS": 100})
    world.stack.eventually(lambda: "outbound_parked" in metrics(scheduler))
    found = metrics(scheduler)
    assert (found["outbound_parked"][""], found["outbound_unknown"][""]) == (0, 0)
    assert "outbound_unknown_seconds" not in found and world.stack.cli("status").returncode == 0
    world.is_done("verify", world.put("verify", "plain"), "plain")
    world.rule("verify", method="POST", fault="drop")
    world.is_done("verify", world.put("verify", "looked"), "looked")
    world.rule("resend", method="POST", status=422)
    world.wait(world.put("resend", "no"), "dead")
    world.rule("resend", method="POST", status=401)
    world.wait(world.put("resend", "who"), "parked")
    world.rule("park", method="POST", fault="drop")
    world.is_parked("park", world.put("park", "gone"), 1, "gone")
    assert metrics(probe)["outbound_total"] == {
        'op="messages.make",result="done"': 1, 'op="messages.make",result="unknown"': 1,
        'op="messages.make",result="found"': 1, 'op="upserts.make",result="refused"': 1,
        'op="upserts.make",result="not_made"': 1, 'op="refunds.make",result="parked"': 1}
    # A run that died, and that nobody looks after: its time is over.
    world.stack.sql("UPDATE outbound SET state = 'sending', finished_at = NULL, sending_since = now() - interval '2 hours',"
                    " sending_until = now() - interval '1 hour' WHERE business_key = 'plain'")
    world.stack.eventually(lambda: metrics(scheduler)["outbound_unknown"][""] == 2)
    found = metrics(scheduler)
    assert found["outbound_parked"][""] == 1 and 7200 <= found["outbound_unknown_seconds"][""] < 7300
    said = world.stack.cli("status", check=False)
    assert said.returncode == 1 and "1 call unknown (messages.make): whopline outbound" in said.stdout
    assert "1 call parked (the call was sent" in said.stdout or "1 call parked (no answer" in said.stdout, said.stdout


# ---- operators

@pytest.mark.parametrize("verdict,ends,posts", [("--done", "done", 1), ("--refused", "dead", 1), ("--resend", "done", 2)])
def test_what_a_person_says_of_a_parked_call(world, verdict, ends, posts):
    world.stack.expect_errors("msg=dead")
    world.start()
    world.rule("park", method="POST", fault="drop")
    job = world.put("park")
    world.is_parked("park", job, 1)
    # Putting in the job alone decides nothing.
    world.stack.cli("jobs", "requeue", job, "--yes")
    world.stack.eventually(lambda: state(world.stack, job)[0] == "parked"
                           and world.stack.sql("SELECT gen FROM jobs WHERE id = %s", (job,)) == [(1,)])
    call = world.stack.cli_json("outbound", "ls")[0]["id"]
    remote = ["--remote-id", "thing_1"] if verdict == "--done" else []
    world.stack.cli("outbound", "resolve", call, verdict, *remote, "--reason", "looked", "--yes")
    world.wait(job, ends)
    assert len(world.posts("park")) == posts and effects(world.stack, job) == (1 if ends == "done" else 0)
    assert len({one["idempotency_key"] for one in world.posts("park")}) == 1


def test_all_jobs_that_wait_for_a_word_go_on(world):
    world.start()
    world.rule("park", method="POST", fault="drop")
    jobs = put(world.stack, "post_park", ["k1", "k1", "k1"])
    for job in jobs:
        world.is_parked("park", job, 1)
    call = world.stack.cli_json("outbound", "ls")[0]["id"]
    said = world.stack.cli("outbound", "resolve", call, "--done", "--remote-id", "thing_1", "--reason", "looked", "--yes")
    assert "3 jobs are put in again" in said.stdout
    for job in jobs:
        world.is_done("park", job)
    assert len(world.posts("park")) == 1


def test_an_answer_that_comes_after_a_person_has_spoken(world):
    """A clock that jumped lets an operator say "send it" of a call that is on its way; when that is done, it is."""
    world.start()
    world.rule("park", method="POST", reply_ms=int(2000 * harness.PACE))
    job = world.put("park")
    world.stack.eventually(lambda: world.posts("park"))
    world.stack.sql("UPDATE outbound SET sending_until = now()")
    call = world.stack.sql("SELECT id FROM outbound")[0][0]
    world.stack.cli("outbound", "resolve", call, "--resend", "--reason", "thought so", "--yes")
    world.is_done("park", job)
    assert len(world.posts("park")) == 1
