"""The operator's commands for jobs and queues, on real stores: what they show, what they change, and
that asking twice, by two at once, or dying half-way changes nothing more."""
import base64
import concurrent.futures
import json
import time
import uuid

import psycopg2
import pytest

import harness
import whop

KIND = "credits.payment_succeeded"
STREAM = "wl:{0}:q:credits"
DEAD = "wl:{0}:events:dead"
KILLED = -9


def tenant(stack):
    return stack.sql("SELECT id FROM tenants")[0][0]


def packed(**fields):
    """msgpack of a map of short texts and numbers below 2**63."""
    def text(value):
        raw = value.encode()
        return b"\xd9" + bytes([len(raw)]) + raw
    out = bytes([0x80 + len(fields)])
    for name, value in fields.items():
        out += text(name) + (text(value) if isinstance(value, str) else b"\xd3" + value.to_bytes(8, "big"))
    return out


def add_jobs(stack, count=1, state="dead", reason="no luck", error="PG_DATA", kind=KIND, queue="credits",
             age="1 hour", payload=b"", relayed=False, event=None, gen=0):
    """Ended so long ago as age says, or, if queued, created then. Their ids, in order."""
    rows = stack.sql(
        """INSERT INTO jobs (id, gen, event_id, tenant_id, queue, kind, key, payload, version, state, reason, error,
             attempts, trace, occurred_at, created_at, due_at, relayed_at, finished_at)
           SELECT gen_random_uuid(), %(gen)s, %(event)s, %(tenant)s, %(queue)s, %(kind)s, 'k', %(payload)s, 1,
             %(state)s, %(reason)s, %(error)s, 3, 'trace', now(), now() - interval %(age)s, now() - interval %(age)s,
             CASE WHEN %(relayed)s THEN now() END, CASE WHEN %(state)s <> 'queued' THEN now() - interval %(age)s END
           FROM generate_series(1, %(count)s) RETURNING id::text""",
        {"tenant": tenant(stack), "queue": queue, "kind": kind, "payload": psycopg2.Binary(payload), "state": state,
         "reason": reason if state not in ("queued", "done") else None,
         "error": error if state in ("dead", "parked") else None, "age": age, "relayed": relayed, "count": count,
         "event": event, "gen": gen})
    return sorted(row[0] for row in rows)


def states(stack):
    return sorted(stack.sql("SELECT state, gen, count(*) FROM jobs GROUP BY 1, 2"))


def audits(stack, action=None):
    """Plans are what a test begins with."""
    return stack.sql("""SELECT actor, action, target, reason FROM audit_log
                        WHERE action = %s OR %s IS NULL AND action <> 'plans.add' ORDER BY id""", (action, action))


def refused(stack, *args, code=1, says="", **how):
    done = stack.cli(*args, check=False, **how)
    assert done.returncode == code and says in done.stderr, done
    return done


NOWHERE = {"DATABASE_URL": "host=/nowhere dbname=x"}


# ---- jobs ls and show -----------------------------------------------------------------------------

@pytest.fixture
def mixed(stack):
    stack.ids = {
        "dead": add_jobs(stack)[0],
        "old": add_jobs(stack, reason="exhausted: no", error="PG_FAILED", age="5 days")[0],
        "parked": add_jobs(stack, state="parked", reason="EXPIRED: 100%", error="EXPIRED", age="2 hours")[0],
        "queued": add_jobs(stack, state="queued", relayed=True)[0],
        "done": add_jobs(stack, state="done")[0],
        "skipped": add_jobs(stack, state="skipped", reason="already_granted")[0],
        "other": add_jobs(stack, kind="other.kind", queue="other", age="10 minutes")[0],
    }
    return stack


FILTERS = (
    ([], ["other", "dead", "parked", "old"]),
    (["--state", "dead"], ["other", "dead", "old"]),
    (["--state", "parked"], ["parked"]),
    (["--state", "queued"], ["queued"]),
    (["--state", "done"], ["done"]),
    (["--state", "skipped"], ["skipped"]),
    (["--kind", KIND], ["dead", "parked", "old"]),
    (["--queue", "other"], ["other"]),
    (["--error", "pg_data"], ["other", "dead"]),
    (["--reason", "expired: 100%"], ["parked"]),
    (["--reason-has", "NO LUCK"], ["other", "dead"]),
    (["--tenant", whop.COMPANY, "--limit", "1"], ["other"]),
    (["--tenant", "biz_nobody"], []),
    (["--since", "90m"], ["other", "dead"]),
    (["--until", "1d"], ["old"]),
    (["--since", "3h", "--until", "90m"], ["parked"]),
    (["--until", "2020-01-01"], []),
    (["--since", "2020-01-01T00:00:00+02:00", "--state", "parked"], ["parked"]),
)


def test_jobs_are_listed_by_filter(mixed):
    for args, names in FILTERS:
        found = [job["id"] for job in mixed.cli_json("jobs", "ls", *args)]
        assert found == [mixed.ids[name] for name in names], args
    assert len(mixed.cli_json("jobs", "--state", "all")) == 7
    people = mixed.cli("jobs").stdout
    assert mixed.ids["dead"] in people and "no luck" in people and mixed.ids["done"] not in people
    by_id = mixed.cli_json("jobs", "ls", "--id", mixed.ids["dead"], mixed.ids["old"].upper() + ".3")
    assert {job["id"] for job in by_id} == {mixed.ids["dead"], mixed.ids["old"]}


def test_show_tells_all_of_a_job(stack):
    event = "default/msg_1"
    stack.sql("""INSERT INTO webhook_events (id, tenant_id, endpoint, kind, type_raw, generation, status, occurred_at,
                   occurred_known, received_at, payload, payload_version, body)
                 VALUES (%s, %s, 'default', 'payment.succeeded', 'payment.succeeded', 'v1', 'routed', now(), true,
                   now(), '', 1, '')""", (event, tenant(stack)))
    job, = add_jobs(stack, event=event, payload=packed(id=event, payment="pay_1", amount="7.50", paid_ms=1700000000123))
    stack.cli("jobs", "requeue", job, "--yes", "--actor", "anna", "--reason", "fixed the plan")
    shown = stack.cli("jobs", "show", job).stdout
    for text in ("pay_1", "7.50", "2023-11-14 22:13:20 UTC", event, "payment.succeeded, routed", "anna",
                 "fixed the plan", "dead in generation 0 PG_DATA no luck", "not there"):
        assert text in shown, (text, shown)
    found = stack.cli_json("jobs", "show", job + ".1")
    assert found["payload"]["payment"] == "pay_1" and found["payload"]["paid_ms"] == 1700000000123
    assert found["job"]["gen"] == 1 and found["job"]["event"]["id"] == event
    assert found["job"]["history"][0]["detail"]["was"]["state"] == "dead"
    assert found["redis"] == {"known": False, "in_stream": False, "delayed": False}
    refused(stack, "jobs", "show", str(uuid.uuid4()), says="there is no job")


def test_show_finds_the_job_in_redis(stack):
    redis = stack.redis.client()
    job, = add_jobs(stack, state="queued", relayed=True, payload=b"\x81\xff")
    entry = redis.xadd(STREAM, {"id": job + ".0", "kind": KIND}).decode()
    for _ in range(450):  # more than a page, before and behind
        redis.xadd(STREAM, {"id": "x"})
    redis.set(f"wl:{{0}}:seen:{job}.0", "")
    assert f"entry {entry}, ready" in stack.cli("jobs", "show", job).stdout
    redis.xgroup_create(STREAM, "g", 0)
    redis.xreadgroup("g", "host:1:boot", {STREAM: ">"}, count=1)
    found = stack.cli_json("jobs", "show", job)
    assert (found["redis"]["consumer"], found["redis"]["deliveries"]) == ("host:1:boot", 1)
    assert "payload_error" in found and base64.b64decode(found["payload_base64"]) == b"\x81\xff"
    assert "held by host:1:boot" in stack.cli("jobs", "show", job).stdout
    redis.delete(STREAM)
    assert "known, but nowhere" in stack.cli("jobs", "show", job).stdout
    redis.zadd(STREAM + ":z", {job + ".0": (time.time() + 100) * 1000})
    assert "put off, due in" in stack.cli("jobs", "show", job).stdout
    stack.redis.stop()
    assert "not known" in stack.cli("jobs", "show", job).stdout
    assert "error" in stack.cli_json("jobs", "show", job)["redis"]


EVIL = ("x' OR '1'='1", "../../etc", "\033[31m", "-", "", "0" * 300, "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.x",
        "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b'", "żółć")


def test_odd_ids_and_words_are_refused(mixed):
    for evil in EVIL:
        for args in (["jobs", "show", "--", evil], ["jobs", "ls", "--id", evil], ["jobs", "requeue", "--yes", "--id", evil],
                     ["jobs", "drop", "--reason", "r", "--yes", "--id", evil]):
            done = mixed.cli(*args, check=False)
            assert done.returncode == 2 and "\033" not in done.stderr, args
    for args in (["--state", "lost"], ["--since", "yesterday"], ["--since", "2026-13-45"], ["--until", "1y"], ["--limit", "0"]):
        refused(mixed, "jobs", "ls", *args, code=2)
    assert mixed.cli_json("jobs", "ls", "--kind", "x' OR '1'='1", "--reason", "%", "--tenant", "\\") == []
    assert audits(mixed) == []


def test_control_characters_never_reach_the_terminal(stack):
    job, = add_jobs(stack, reason="\033]0;owned\a\u009b31m")
    for args in (["jobs"], ["jobs", "show", job], ["jobs", "drop", job, "--yes", "--reason", "\033[31mred"],
                 ["audit"], ["jobs", "show", job], ["queue", "pause", "credits", "--reason", "\033[1mowned"],
                 ["queue", "ls"], ["status"]):
        shown = stack.cli(*args, check=False).stdout
        assert not any(ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160 for c in shown), args


# ---- jobs requeue ---------------------------------------------------------------------------------

def test_a_plan_changes_nothing(mixed):
    before = mixed.sql("SELECT * FROM jobs ORDER BY id")
    shown = mixed.cli("jobs", "requeue", "--error", "PG_DATA").stdout
    assert "would requeue 2 jobs" in shown and "--yes" in shown and mixed.ids["dead"] in shown
    assert mixed.cli_json("jobs", "requeue", "--error", "PG_DATA")["planned"] == 2
    assert "would drop 2 jobs" in mixed.cli("jobs", "drop", "--error", "PG_DATA", "--reason", "r").stdout
    assert mixed.sql("SELECT * FROM jobs ORDER BY id") == before and audits(mixed) == []


def test_requeue_puts_a_job_in_again_once(mixed):
    job = mixed.ids["dead"]
    done = mixed.cli_json("jobs", "requeue", job, "--yes", "--actor", "anna", "--reason", "mended")
    assert done == {"plan": [{"kind": KIND, "state": "dead", "error": "PG_DATA", "tenant": whop.COMPANY, "jobs": 1}],
                    "planned": 1, "done": True, "changed": 1}
    assert mixed.sql("""SELECT gen, state, relayed_at, finished_at, reason, error, attempts, due_at <= now(),
                          created_at < now() - interval '50 minutes', requeued_at > now() - interval '1 minute'
                        FROM jobs WHERE id = %s""", (job,)) == [
        (1, "queued", None, None, None, None, 0, True, True, True)]
    assert audits(mixed) == [("anna", "jobs.requeue", job, "mended")]
    refused(mixed, "jobs", "requeue", job, "--yes", says="it is queued, on its way")
    assert mixed.sql("SELECT gen FROM jobs WHERE id = %s", (job,)) == [(1,)] and len(audits(mixed)) == 1


def test_what_is_refused(mixed):
    ids = mixed.ids
    refused(mixed, "jobs", "requeue", "--yes", code=2, says="--all")
    refused(mixed, "jobs", "drop", "--yes", "--reason", "r", code=2, says="--all")
    refused(mixed, "jobs", "drop", "--yes", ids["dead"], code=2, says="--reason")
    refused(mixed, "jobs", "requeue", "--state", "queued", "--yes", code=2, says="on their way")
    refused(mixed, "jobs", "requeue", "--state", "all", "--yes", code=2)
    refused(mixed, "jobs", "requeue", "--state", "done", "--yes", code=2, says="had their effect")
    for verb in (["requeue"], ["drop", "--reason", "r"]):
        refused(mixed, "jobs", *verb, ids["done"], ids["dead"], "--yes", says="its effect has happened")
        refused(mixed, "jobs", *verb, ids["queued"], "--yes", says="on its way")
        refused(mixed, "jobs", *verb, ids["skipped"], "--yes", says="skipped")
        refused(mixed, "jobs", *verb, str(uuid.uuid4()), "--yes", says="there is no such job")
    refused(mixed, "jobs", "requeue", "--all", "--yes", env=NOWHERE, says="PostgreSQL")
    assert audits(mixed) == [] and [s for s in states(mixed) if s[1] > 0] == []


def test_requeue_takes_what_the_filters_take_and_no_more(mixed):
    mixed.redis.stop()  # it is not needed for this
    assert "requeued 1 of 1" in mixed.cli("jobs", "requeue", "--queue", "other", "--yes").stdout
    assert "requeued 1 of 1" in mixed.cli("jobs", "requeue", "--until", "1d", "--yes").stdout
    assert "requeued 2 of 2" in mixed.cli("jobs", "requeue", "--all", "--yes").stdout
    assert "nothing to do" in mixed.cli("jobs", "requeue", "--all", "--yes").stdout
    assert states(mixed) == [("done", 0, 1), ("queued", 0, 1), ("queued", 1, 4), ("skipped", 0, 1)]
    limited = add_jobs(mixed, 20)
    assert mixed.cli_json("jobs", "requeue", "--all", "--yes", "--limit", "7")["changed"] == 7
    assert mixed.sql("SELECT id::text FROM jobs WHERE state = 'dead' ORDER BY id") == [(i,) for i in limited[7:]]


def test_two_operators_at_once(stack):
    add_jobs(stack, 400)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        runs = list(threads.map(lambda n: stack.cli("jobs", "requeue", "--all", "--yes", "--rate", "100000",
                                                    "--actor", f"op{n}", "--json"), range(4)))
    assert sum(json.loads(run.stdout)["changed"] for run in runs) == 400
    assert states(stack) == [("queued", 1, 400)]
    assert stack.sql("SELECT count(*), count(DISTINCT target) FROM audit_log") == [(400, 400)]


def test_dying_half_way_is_made_good_by_asking_again(stack):
    add_jobs(stack, 50)
    again = ("jobs", "requeue", "--all", "--yes", "--rate", "100")
    assert stack.cli(*again, check=False, env={"FAULT": "before_pg_commit:kill"}).returncode == KILLED
    assert states(stack) == [("dead", 0, 50)] and audits(stack) == []
    assert stack.cli(*again, check=False, env={"FAULT": "after_pg_commit:kill@2"}).returncode == KILLED
    assert states(stack) == [("dead", 0, 10), ("queued", 1, 40)] and len(audits(stack)) == 40
    lost = refused(stack, *again, env={"FAULT": "pg_commit_reply_lost:fail"}, says="run it again for the rest")
    assert "0 of 10 were requeued" in lost.stderr
    stack.cli(*again)
    assert states(stack) == [("queued", 1, 50)] and len(audits(stack)) == 50


@pytest.mark.limit(120)
def test_a_hundred_thousand_at_a_pace(stack):
    add_jobs(stack, 100000)
    assert len(stack.cli_json("jobs", "ls")) == 50
    assert stack.cli_json("jobs", "requeue", "--all")["planned"] == 100000
    done = stack.cli("jobs", "requeue", "--all", "--yes", "--rate", "100000", "--json", timeout=100)
    assert json.loads(done.stdout)["changed"] == 100000
    assert states(stack) == [("queued", 1, 100000)]
    assert stack.sql("SELECT count(DISTINCT target) FROM audit_log") == [(100000,)]
    stack.sql("UPDATE jobs SET state = 'dead', reason = 'x', finished_at = now() WHERE id IN (SELECT id FROM jobs LIMIT 90)")
    began = time.monotonic()
    stack.cli("jobs", "requeue", "--all", "--yes", "--rate", "60")
    assert time.monotonic() - began > 1.1


def test_an_old_job_is_young_again(stack):
    """Requeued after longer than MAX_AGE, it is not parked for its age at its first failure."""
    stack.cli("credits", "plans", "add", "--plan", "plan_1", "--name", "P", "--credits", "5000")
    stack.up("ingest", "journal")
    assert whop.send(stack, whop.payment("v1", id="pay_1", user="user_1", plan="plan_1")) == 200
    job = stack.eventually(lambda: stack.sql("SELECT id::text FROM jobs WHERE queue = 'credits'"))[0][0]
    stack.redis.client().delete(STREAM)
    stack.sql("""UPDATE jobs SET state = 'dead', reason = 'x', created_at = now() - interval '100 hours',
                   due_at = now() - interval '100 hours', finished_at = now() - interval '90 hours' WHERE id = %s""", (job,))
    stack.cli("jobs", "requeue", job, "--yes")
    stack.start("credits", fault="before_pg_commit:fail@1")
    stack.start("scheduler")
    stack.eventually(lambda: stack.sql("SELECT state, attempts, gen FROM jobs WHERE id = %s", (job,)) == [("done", 1, 1)])
    assert stack.sql("SELECT credits_balance FROM credit_accounts") == [(5000,)]
    assert "PG_FAILED" not in stack.cli("jobs", "show", job).stdout


# ---- jobs drop ------------------------------------------------------------------------------------

def test_drop_sets_aside_and_can_be_undone(mixed):
    job = mixed.ids["dead"]
    assert "dropped 1 of 1" in mixed.cli("jobs", "drop", job, "--reason", "a test of ours", "--yes", "--actor", "ben").stdout
    assert mixed.sql("SELECT state, reason, error, gen FROM jobs WHERE id = %s", (job,)) == [
        ("skipped", "dropped: a test of ours", "PG_DATA", 0)]
    assert audits(mixed) == [("ben", "jobs.drop", job, "a test of ours")]
    refused(mixed, "jobs", "drop", job, "--reason", "again", "--yes", says="skipped already")
    assert len(audits(mixed)) == 1
    mixed.cli("jobs", "requeue", "--state", "skipped", "--reason-has", "dropped", "--id", job, "--yes")
    assert mixed.sql("SELECT state, gen FROM jobs WHERE id = %s", (job,)) == [("queued", 1)]


def test_drop_killed_and_asked_again(stack):
    add_jobs(stack, 30)
    again = ("jobs", "drop", "--all", "--yes", "--reason", "r", "--rate", "50")
    assert stack.cli(*again, check=False, env={"FAULT": "after_pg_commit:kill"}).returncode == KILLED
    assert states(stack) == [("dead", 0, 20), ("skipped", 0, 10)]
    stack.cli(*again)
    assert states(stack) == [("skipped", 0, 30)] and len(audits(stack, "jobs.drop")) == 30


# ---- queue ----------------------------------------------------------------------------------------

def control(stack):
    row = stack.sql("SELECT mode, reason, actor FROM queue_controls WHERE queue = 'credits'")
    return row[0] if row else None


def copy(stack):
    value = stack.redis.client().get("wl:{0}:ctl:credits")
    return value.decode() if value else None


def test_a_queue_is_paused_and_resumed_once(stack):
    assert "is paused" in stack.cli("queue", "pause", "credits", "--reason", "plan is wrong", "--actor", "anna").stdout
    assert control(stack) == ("paused", "plan is wrong", "anna") and copy(stack) == "paused"
    again = stack.cli("queue", "pause", "credits", "--reason", "other", "--actor", "ben").stdout
    assert "already" in again and "anna" in again
    assert control(stack) == ("paused", "plan is wrong", "anna")
    status = stack.cli("status", check=False)
    assert status.returncode == 1 and "queue credits is paused" in status.stdout and "plan is wrong" in status.stdout
    stack.cli("queue", "drain", "credits", "--reason", "upgrade", "--timeout", "0", "--actor", "ben")
    assert control(stack) == ("draining", "upgrade", "ben") and copy(stack) == "draining"
    assert "open again" in stack.cli("queue", "resume", "credits", "--reason", "done", "--actor", "ben").stdout
    assert control(stack) is None and copy(stack) == "open"
    assert "was not held" in stack.cli("queue", "resume", "credits").stdout
    assert audits(stack) == [("anna", "queue.pause", "credits", "plan is wrong"),
                             ("ben", "queue.drain", "credits", "upgrade"), ("ben", "queue.resume", "credits", "done")]


def test_queue_words(stack):
    refused(stack, "queue", "pause", "credits", code=2, says="--reason")
    refused(stack, "queue", "pause", "credits", "--reason", "", code=2, says="--reason")
    refused(stack, "queue", "pause", "creditz", "--reason", "r", code=2, says='did you mean "credits"')
    refused(stack, "queue", "resume", "x' OR '1", code=2, says="no queue")
    for args in (["queue", "pause"], ["queue", "halt", "credits"], ["queue", "ls", "credits"],
                 ["queue", "drain", "credits", "--reason", "r", "--timeout", "-1"]):
        refused(stack, *args, code=2)
    assert audits(stack) == []


def test_redis_away_or_death_in_between_leaves_the_truth(stack):
    stack.redis.stop()
    away = stack.cli("queue", "pause", "credits", "--reason", "r")
    assert "the scheduler brings it over" in away.stderr and control(stack)[0] == "paused"
    stack.redis.start()
    assert copy(stack) is None
    assert "Redis does not say so yet" in stack.cli("queue").stdout
    stack.cli("queue", "pause", "credits", "--reason", "r")  # the second asking mends the copy
    assert copy(stack) == "paused" and len(audits(stack)) == 1
    killed = stack.cli("queue", "resume", "credits", check=False, env={"FAULT": "after_pg_commit:kill"})
    assert killed.returncode == KILLED and control(stack) is None and copy(stack) == "paused"
    stack.cli("queue", "resume", "credits")
    assert copy(stack) == "open" and len(audits(stack)) == 2
    killed = stack.cli("queue", "pause", "credits", "--reason", "r", check=False, env={"FAULT": "before_pg_commit:kill"})
    assert killed.returncode == KILLED and control(stack) is None and copy(stack) == "open" and len(audits(stack)) == 2
    refused(stack, "queue", "pause", "credits", "--reason", "r", env=NOWHERE, says="PostgreSQL")
    assert copy(stack) == "open"


def test_two_operators_hold_and_resume_at_once(stack):
    verbs = [("pause", "--reason", "r"), ("resume",), ("drain", "--reason", "r", "--timeout", "0")] * 4
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda verb: stack.cli("queue", verb[0], "credits", *verb[1:]), verbs))
    assert copy(stack) == (control(stack) or ["open"])[0]


def test_drain_waits_for_the_end(stack):
    redis = stack.redis.client()
    redis.xgroup_create(STREAM, "g", 0, mkstream=True)
    redis.xadd(STREAM, {"id": "a.0", "kind": "nobody.knows"})
    redis.xadd(STREAM, {"id": "b.0", "kind": "nobody.knows"})
    redis.xreadgroup("g", "host:1:boot", {STREAM: ">"}, count=1)
    redis.zadd(STREAM + ":z", {"c.0": 1})
    late = refused(stack, "queue", "drain", "credits", "--reason", "r", "--timeout", "1", says="not empty after 1 s, 3 left")
    assert "left: 1 ready, 1 running, 1 put off" in late.stderr
    assert control(stack)[0] == "draining"
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(stack.cli, "queue", "drain", "credits", "--reason", "r", "--timeout", "20")
        stack.eventually(lambda: not waiting.done())
        redis.delete(STREAM, STREAM + ":z")
        assert "credits is empty" in waiting.result().stdout
    events = stack.cli("queue", "drain", "events", "--reason", "r").stdout
    assert "webhooks go on being accepted" in events and "events is empty" in events


def test_ls_shows_both_stores_or_what_it_can(stack):
    redis = stack.redis.client()
    now = int(time.time() * 1000)
    for number in range(4):
        redis.xadd(STREAM, {"id": f"x{number}.0"}, id=f"{now - 300000 + number}-0")
    redis.xgroup_create(STREAM, "g", 0)
    redis.xreadgroup("g", "host:1:boot", {STREAM: ">"}, count=1)
    redis.zadd(STREAM + ":z", {"y.0": now})
    redis.zadd("wl:{0}:workers", {"host:1:boot": now})
    redis.hset("wl:{0}:worker:host:1:boot", mapping={"queue": "credits"})
    add_jobs(stack, 2, state="queued")
    add_jobs(stack, 3, state="queued", relayed=True)
    stack.sql("UPDATE jobs SET bulk = true WHERE id = (SELECT id FROM jobs WHERE relayed_at IS NULL LIMIT 1)")
    add_jobs(stack, 4)
    add_jobs(stack, 5, state="parked")
    stack.cli("queue", "pause", "credits", "--reason", "why not", "--actor", "anna")

    def listed(**how):
        done = stack.cli("queue", "ls", "--json", check=False, **how)
        return done.returncode, next(q for q in json.loads(done.stdout) if q["queue"] == "credits")

    code, found = listed()
    ages = {name: found.pop(name) for name in ("ready_age_ms", "pending_idle_ms", "since_s")}
    assert code == 0 and found == {
        "queue": "credits", "mode": "paused", "reason": "why not", "actor": "anna", "queued": 5, "unrelayed": 1,
        "bulk_waiting": 1, "parked": 5, "dead": 4, "redis_mode": "paused", "ready": 3, "pending": 1, "delayed": 1,
        "workers": 1}
    assert 299000 < ages["ready_age_ms"] < 360000 and 0 <= ages["pending_idle_ms"] < 60000
    people = stack.cli("queue").stdout
    assert "credits is paused for" in people and "anna: why not" in people
    code, found = listed(env=NOWHERE)
    assert code == 1 and found["ready"] == 3 and "queued" not in found
    stack.redis.stop()
    code, found = listed()
    assert code == 1 and found["dead"] == 4 and "ready" not in found
    people = refused(stack, "queue", says="what is in Redis is not known")
    assert "?" in people.stdout and "anna: why not" in people.stdout


def test_a_drained_queue_takes_nothing_until_it_is_resumed(stack):
    stack.cli("credits", "plans", "add", "--plan", "plan_1", "--name", "P", "--credits", "5000")
    stack.up("ingest", "journal", "scheduler")

    def sent(payment):
        assert whop.send(stack, whop.payment("v1", id=payment, user="user_1", plan="plan_1")) == 200

    def jobs():
        return stack.sql("SELECT state, relayed_at IS NOT NULL FROM jobs WHERE queue = 'credits' ORDER BY created_at, id")

    sent("pay_1")
    stack.eventually(lambda: jobs() == [("queued", True)])
    stack.cli("queue", "drain", "credits", "--reason", "r", "--timeout", "0", check=False)
    sent("pay_2")
    stack.eventually(lambda: len(jobs()) == 2)
    stack.start("credits")
    assert "credits is empty" in stack.cli("queue", "drain", "credits", "--reason", "r").stdout
    assert jobs() == [("done", True), ("queued", False)]
    stack.sql("UPDATE jobs SET due_at = now() - interval '5 minutes' WHERE state = 'queued' AND queue = 'credits'")
    assert fsck(stack) == {} and stack.cli("status", check=False).stdout.count("attention:") == 1
    stack.cli("queue", "resume", "credits")
    stack.eventually(lambda: [state for state, _ in jobs()] == ["done", "done"])
    assert stack.sql("SELECT credits_balance FROM credit_accounts") == [(10000,)]


# ---- workers --------------------------------------------------------------------------------------

def test_workers_and_those_that_fell_silent(stack):
    redis = stack.redis.client()
    lease = harness.SETTINGS["LEASE_MS"]
    assert "no worker" in stack.cli("workers").stdout
    boots = [str(uuid.uuid4()) for _ in range(4)]
    alive, lost, gone, odd = names = [f"host-{n}:{100 + n}:{boot}" for n, boot in enumerate(boots)]
    now = int(time.time() * 1000)
    redis.xgroup_create(STREAM, "g", 0, mkstream=True)
    for name in (lost, alive):
        redis.xadd(STREAM, {"id": "x.0"})
        redis.xreadgroup("g", name, {STREAM: ">"}, count=1)
    for name, heard in ((alive, now), (lost, now - 60000), (gone, now - 600000), (odd, now)):
        redis.zadd("wl:{0}:workers", {name: heard})
    redis.hset(f"wl:{{0}}:worker:{alive}", mapping={
        "program": "whopline-credits", "host": "host-0", "pid": "100", "queue": "credits", "version": "0.1.0",
        "state": "working", "slots": "8", "busy": "3", "ready": "1", "unsettled": "0", "started_ms": str(now - 7200000),
        "done": "12345", "failed": "2", "last_read_ms": str(now), "last_beat_ms": str(now), "listen": "127.0.0.1:9"})
    redis.hset(f"wl:{{0}}:worker:{odd}", mapping={"state": "\033[31m", "slots": "many", "pid": "x", "new": "field"})
    kept = redis.xpending_range(STREAM, "g", "-", "+", 2)[1]["message_id"]

    def look():  # until a lease of silence is over for the one that keeps none
        redis.xclaim(STREAM, "g", alive, 0, [kept], justid=True)
        redis.zadd("wl:{0}:workers", {alive: time.time() * 1000, odd: time.time() * 1000})
        seen = {worker["name"]: worker for worker in stack.cli_json("workers")}
        assert set(seen) == set(names) and not seen[alive]["lost"]
        return seen if seen[lost]["lost"] else None

    found = stack.eventually(look)
    assert [found[name]["lost"] for name in names] == [False, True, False, False]
    assert [found[name]["pending"] for name in names] == [1, 1, 0, 0]
    assert [found[name]["state"] for name in names][:3] == ["working", "lost", "gone"]
    assert (found[alive]["done"], found[alive]["slots"], found[alive]["program"]) == (12345, 8, "whopline-credits")
    assert found[lost]["queue"] == "credits" and found[lost]["silent_ms"] > lease
    people = stack.cli("workers").stdout
    assert "host-0:100 " in people and "3 of 8" in people and boots[0] not in people.splitlines()[1] and "\033" not in people
    assert f"{lost} holds 1 of queue credits" in people and "another worker takes them over within" in people
    redis.delete("wl:{0}:workers", f"wl:{{0}}:worker:{alive}")
    redis.xgroup_delconsumer(STREAM, "g", alive)
    assert "start one" in stack.cli("workers").stdout
    stack.redis.stop()
    refused(stack, "workers", says="Redis")


def test_real_processes_are_listed(stack):
    stack.up()
    assert whop.send(stack, whop.payment("v1", id="pay_1", user="user_1", plan="plan_1")) == 200

    def seen():
        found = stack.cli_json("workers")
        return (any(worker.get("program") == "whopline-scheduler" and worker["state"] == "working" for worker in found)
                and any(worker["queue"] == "credits" and not worker["lost"] for worker in found))

    stack.eventually(seen)
    people = stack.cli("workers").stdout
    assert "whopline-scheduler" in people and "credits" in people


# ---- events dead ----------------------------------------------------------------------------------

def bury(stack, payment):
    """A real event, set aside as the journal sets it aside."""
    redis = stack.redis.client()
    assert whop.send(stack, whop.payment("v1", id=payment, user="user_1", plan="plan_1")) == 200
    (entry, fields), = redis.xrange("wl:{0}:events")
    redis.xdel("wl:{0}:events", entry)
    return redis.xadd(DEAD, {**fields, b"reason": b"poison: brought its worker down"}).decode(), fields[b"id"].decode()


def test_dead_events_are_seen_and_live_again(stack):
    stack.cli("credits", "plans", "add", "--plan", "plan_1", "--name", "P", "--credits", "5000")
    stack.start("ingest")
    assert "no event is dead" in stack.cli("events", "dead").stdout
    entry, event = bury(stack, "pay_1")
    other, _ = bury(stack, "pay_2")
    for words in (["events", "dead"], ["events", "--dead"], ["events", "dead", "list"]):
        shown = stack.cli(*words).stdout
        assert entry in shown and "poison" in shown
    assert [row["id"] for row in stack.cli_json("events", "dead")][0] == event
    one, = stack.cli_json("events", "dead", "show", event)
    assert one["payload"]["payment"] == "pay_1" and b"pay_1" in base64.b64decode(one["body_base64"])
    assert "pay_1" in stack.cli("events", "dead", "show", entry).stdout
    status = stack.cli("status", check=False)
    assert status.returncode == 2 and "whopline events dead" in status.stdout

    assert "would requeue 1" in stack.cli("events", "dead", "requeue", entry).stdout
    refused(stack, "events", "dead", "requeue", "--yes", code=2, says="--all")
    refused(stack, "events", "dead", "requeue", "1-1", "--yes", says="no dead event 1-1")
    refused(stack, "events", "dead", "drop", entry, "--yes", code=2, says="--reason")
    assert stack.redis.client().xlen(DEAD) == 2 and audits(stack) == []
    killed = stack.cli("events", "dead", "requeue", entry, "--yes", check=False, env={"FAULT": "after_pg_commit:kill"})
    assert killed.returncode == KILLED and stack.redis.client().xlen(DEAD) == 2 and len(audits(stack)) == 1
    assert "requeued 1 of 1" in stack.cli("events", "dead", "requeue", entry, "--yes").stdout
    refused(stack, "events", "dead", "requeue", entry, "--yes", says="no dead event")
    assert "requeued 1 of 1" in stack.cli("events", "dead", "requeue", "--all", "--yes").stdout
    assert "nothing to do" in stack.cli("events", "dead", "requeue", "--all", "--yes").stdout
    assert [row[1] for row in audits(stack)] == ["events.requeue"] * 3
    stack.up("journal", "credits", "scheduler")
    stack.eventually(lambda: stack.sql("SELECT credits_balance FROM credit_accounts") == [(10000,)])
    assert other not in stack.cli("events", "dead").stdout


def test_dropped_dead_events_are_kept_in_the_log(stack):
    stack.start("ingest")
    entry, event = bury(stack, "pay_1")
    drop = ("events", "dead", "drop", "--all", "--yes", "--reason", "a forgery of ours", "--actor", "anna")
    refused(stack, *drop, env=NOWHERE, says="PostgreSQL")
    assert stack.redis.client().xlen(DEAD) == 1
    assert "dropped 1 of 1" in stack.cli(*drop).stdout
    assert "nothing to do" in stack.cli(*drop).stdout
    assert stack.redis.client().xlen(DEAD) == 0 and stack.redis.client().xlen("wl:{0}:events") == 0
    row, = stack.cli_json("audit")
    assert (row["action"], row["target"], row["actor"]) == ("events.drop", event, "anna")
    assert row["detail"]["entry"] == entry and b"pay_1" in base64.b64decode(row["detail"]["body_base64"])
    stack.redis.stop()
    refused(stack, "events", "dead", says="Redis")


def test_two_operators_revive_once(stack):
    redis = stack.redis.client()
    for number in range(40):
        redis.xadd(DEAD, {"id": f"default/msg_{number}", "kind": "journal.event", "reason": "x"})
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: stack.cli("events", "dead", "requeue", "--all", "--yes"), range(3)))
    ids = [fields[b"id"] for _, fields in redis.xrange("wl:{0}:events")]
    assert len(ids) == 40 and len(set(ids)) == 40 and redis.xlen(DEAD) == 0


# ---- fsck and rebuild -----------------------------------------------------------------------------

def fsck(stack, *args):
    done = stack.cli("fsck", *args, "--json", check=False)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["clean"] else 1), done
    return {finding["code"]: finding for finding in found["findings"]}


def put_in_redis(stack, job, gen=0, entry=True):
    redis = stack.redis.client()
    redis.set(f"wl:{{0}}:seen:{job}.{gen}", "")
    return redis.xadd(STREAM, {"id": f"{job}.{gen}", "kind": KIND}) if entry else None


def test_fsck_finds_and_names(stack):
    redis = stack.redis.client()
    assert fsck(stack) == {} and "clean" in stack.cli("fsck").stdout
    fine, lost, nowhere = add_jobs(stack, 3, state="queued", relayed=True)
    put_in_redis(stack, fine)
    put_in_redis(stack, nowhere, entry=False)
    late, = add_jobs(stack, state="queued", age="5 minutes")
    ended, left = add_jobs(stack, 2, state="done")
    put_in_redis(stack, ended)
    put_in_redis(stack, left, entry=False)
    redis.zadd(STREAM + ":z", {"timed.0": 1, "both.0": 1})
    redis.hset(STREAM + ":d", mapping={"packed.0": "x", "both.0": "x"})
    redis.xgroup_create(STREAM, "g", 0)
    redis.xreadgroup("g", "host:1:boot", {STREAM: ">"}, count=1)
    gone = redis.xadd(STREAM, {"id": "volatile", "kind": "x"})
    redis.xreadgroup("g", "host:2:boot", {STREAM: ">"})
    redis.xdel(STREAM, gone)
    stack.sql("UPDATE relay_state SET redis_run_id = 'another', redis_epoch = 'e'")
    stack.sql("""INSERT INTO webhook_events (id, tenant_id, endpoint, kind, type_raw, generation, status, occurred_at,
                   occurred_known, received_at, payload, payload_version, body)
                 VALUES ('default/bare', %s, 'default', 'payment.succeeded', 'x', 'v1', 'routed', now(), true, now(),
                   '', 1, '')""", (tenant(stack),))
    expected = {
        "other_redis": "its epoch is another: its data was lost", "late": f"{late} {KIND}",
        "unknown_to_redis": f"{lost}.0", "nowhere": f"{nowhere}.0", "ended_entry": f"{ended}.0",
        "ended_seen": f"{left}.0", "delayed_without_fields": "timed.0", "fields_without_delay": "packed.0",
        "pending_without_entry": f"{gone.decode()} of {STREAM}, by host:2:boot", "event_without_jobs": "default/bare",
    }

    def found():
        seen = fsck(stack)
        return seen if seen.get("pending_gone", {}).get("count") == 2 else None

    findings = stack.eventually(found)  # a lease of silence later, of each
    findings.pop("pending_gone")
    assert {code: finding["samples"] for code, finding in findings.items()} == {c: [s] for c, s in expected.items()}
    assert {code for code, finding in findings.items() if finding["repairable"]} == {
        "unknown_to_redis", "nowhere", "delayed_without_fields", "fields_without_delay"}
    people = stack.cli("fsck", check=False).stdout
    assert all(text in people for text in expected.values()) and "mends: " in people


def test_fsck_repairs_what_is_safe(stack):
    redis = stack.redis.client()
    lost, nowhere, torn, untimed = ids = add_jobs(stack, 4, state="queued", relayed=True)
    for job in (nowhere, torn, untimed):
        put_in_redis(stack, job, entry=False)
    redis.zadd(STREAM + ":z", {torn + ".0": 1})
    redis.hset(STREAM + ":d", untimed + ".0", "packed")
    before = (stack.sql("SELECT * FROM jobs ORDER BY id"), sorted(redis.keys()))
    assert "would mend" in stack.cli("fsck", "--repair", check=False).stdout
    refused(stack, "fsck", "--yes", code=2, says="--repair")
    assert (stack.sql("SELECT * FROM jobs ORDER BY id"), sorted(redis.keys())) == before and audits(stack) == []
    killed = stack.cli("fsck", "--repair", "--yes", check=False, env={"FAULT": "after_pg_commit:kill"})
    assert killed.returncode == KILLED and stack.sql("SELECT * FROM jobs ORDER BY id") == before[0]
    assert set(fsck(stack, "--repair", "--yes", "--actor", "anna")) == {
        "unknown_to_redis", "nowhere", "delayed_without_fields", "fields_without_delay"}
    assert stack.sql("SELECT id::text FROM jobs WHERE relayed_at IS NULL ORDER BY 1") == sorted(
        (job,) for job in ids if job != untimed)
    assert [key for key in redis.keys() if b"seen" in key] == [f"wl:{{0}}:seen:{untimed}.0".encode()]
    assert redis.zrange(STREAM + ":z", 0, -1) == [(untimed + ".0").encode()]
    assert set(fsck(stack, "--repair", "--yes")) == {"late"}, "now the scheduler's"
    assert [row[1] for row in audits(stack)] == ["fsck.repair"] * 2 and audits(stack)[1][0] == "anna"


def test_fsck_is_quiet_while_all_works(stack):
    stack.cli("credits", "plans", "add", "--plan", "plan_1", "--name", "P", "--credits", "1")
    stack.up()
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        def load():
            for number in range(300):
                assert whop.send(stack, whop.payment("v1", id=f"pay_{number}", user="user_1", plan="plan_1")) == 200
        sending = threads.submit(load)
        runs = 0
        while not sending.done():
            assert fsck(stack) == {}
            runs += 1
        sending.result()
    assert runs > 0
    stack.eventually(lambda: stack.sql("SELECT credits_balance FROM credit_accounts") == [(300,)])
    stack.eventually(lambda: fsck(stack) == {})


def test_fsck_needs_both_stores(stack):
    refused(stack, "fsck", env=NOWHERE, says="PostgreSQL")
    stack.redis.stop()
    refused(stack, "fsck", says="Redis")


def test_a_lost_job_is_repaired_for_good(stack):
    """Redis calls it known and has it nowhere: no offer would ever bring it back."""
    stack.cli("credits", "plans", "add", "--plan", "plan_1", "--name", "P", "--credits", "5000")
    stack.up("ingest", "journal")
    assert whop.send(stack, whop.payment("v1", id="pay_1", user="user_1", plan="plan_1")) == 200
    stack.eventually(lambda: stack.sql("SELECT relayed_at IS NOT NULL FROM jobs WHERE queue = 'credits'") == [(True,)])
    redis = stack.redis.client()
    redis.delete(STREAM)
    assert set(fsck(stack, "--repair", "--yes")) == {"nowhere"}
    stack.up("credits", "scheduler")
    stack.eventually(lambda: stack.sql("SELECT state FROM jobs WHERE queue = 'credits'") == [("done",)])
    assert stack.sql("SELECT credits_balance FROM credit_accounts") == [(5000,)]


def test_rebuild_offers_all_again(stack):
    add_jobs(stack, 30, state="queued", relayed=True)
    add_jobs(stack, 2, state="queued")
    add_jobs(stack, 2)
    assert "would offer these 30" in stack.cli("rebuild").stdout and audits(stack) == []

    def unrelayed():
        return stack.sql("SELECT count(*) FROM jobs WHERE state = 'queued' AND relayed_at IS NULL")[0][0]

    assert unrelayed() == 2
    assert stack.cli("rebuild", "--yes", check=False, env={"FAULT": "before_pg_commit:kill"}).returncode == KILLED
    assert audits(stack) == [] and unrelayed() == 2
    assert "marked 30 of 30" in stack.cli("rebuild", "--yes", "--reason", "new disk", "--actor", "anna").stdout
    assert unrelayed() == 32 and audits(stack) == [("anna", "jobs.rebuild", "all", "new disk")]
    assert "nothing to do" in stack.cli("rebuild", "--yes").stdout
    assert len(audits(stack)) == 1
    refused(stack, "rebuild", "--yes", env=NOWHERE, says="PostgreSQL")
    stack.start("scheduler")
    stack.eventually(lambda: stack.redis.client().xlen(STREAM) == 32)


# ---- audit ----------------------------------------------------------------------------------------

def test_audit_names_who_did_what(stack):
    job, = add_jobs(stack)
    stack.cli("queue", "pause", "credits", "--reason", "one")
    stack.cli("queue", "resume", "credits", env={"SUDO_USER": "sue"})
    stack.cli("queue", "pause", "credits", "--reason", "two", env={"SUDO_USER": "sue", "WHOPLINE_ACTOR": "wanda"})
    stack.cli("jobs", "drop", job, "--reason", "three", "--yes", "--actor", "anna", env={"WHOPLINE_ACTOR": "wanda"})
    rows = stack.cli_json("audit")
    assert [row["actor"] for row in rows[:3]] == ["anna", "wanda", "sue"] and rows[3]["actor"] != ""
    assert [row["reason"] for row in stack.cli_json("audit", "--target", "credits")] == ["two", "", "one"]
    assert [row["target"] for row in stack.cli_json("audit", "--action", "jobs")] == [job]
    assert [row["action"] for row in stack.cli_json("audit", "--actor", "wanda")] == ["queue.pause"]
    assert len(stack.cli_json("audit", "--since", "1h", "--limit", "2")) == 2
    assert stack.cli_json("audit", "--until", "1h") == []
    assert "nothing has been done" in stack.cli("audit", "--target", "x' OR '1'='1").stdout
    refused(stack, "audit", "--since", "noon", code=2)
    assert "jobs.drop" in stack.cli("audit").stdout
