"""The job runtime by a worker that does what a test wants (tests/probe): what becomes of jobs that
fail, hang, crash, overrun, come in batches, follow each other or have no row."""
import os
import re
import signal
import time
import uuid

import psycopg2
import pytest

import harness
import whop
import wire

STREAM = "wl:{0}:q:probe"
CONTROL = "wl:{0}:ctl:probe"


def put(stack, kind, labels, number=0, bulk=False, tenant=1, age="1 hour"):
    """Queued jobs of probe.<kind>, one for each label, for the scheduler to relay; their ids."""
    ids = [str(uuid.uuid4()) for _ in labels]
    payloads = [wire.pack({"label": label, "number": number}) for label in labels]
    stack.sql("""INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at,
                                   created_at, bulk)
                 SELECT id::uuid, %s, 'probe', %s, '1/probe', payload, 1, id, now(), now() - %s::interval, %s
                 FROM unnest(%s, %s) AS new(id, payload)""",
              (tenant, f"probe.{kind}", age, bulk, ids, payloads))
    return ids


def put_one(stack, kind, label="", number=0, **more):
    return put(stack, kind, [label], number, **more)[0]


def state(stack, job):
    return stack.sql("SELECT state, reason, error, attempts FROM jobs WHERE id = %s", (job,))[0]


def in_state(stack, wanted, ids):
    return stack.sql("SELECT count(*) FROM jobs WHERE state = %s AND id = ANY (%s::uuid[])",
                     (wanted, ids))[0][0]


def effects(stack, job):
    return stack.sql("SELECT count(*) FROM probe_effects WHERE job LIKE %s", (job + "%",))[0][0]


def is_clean(stack):
    redis = stack.redis.client()
    return not redis.xlen(STREAM) and not redis.exists(STREAM + ":z", STREAM + ":d") and \
        not list(redis.scan_iter("wl:{0}:seen:*-*"))


def start(stack, **env):
    probe = stack.start("probe", env=env)
    probe.wait_log("msg=working")
    stack.start("scheduler")
    return probe


def test_one_effect_each(stack):
    start(stack)
    jobs = put(stack, "effect", [f"n{i}" for i in range(300)])
    stack.eventually(lambda: in_state(stack, "done", jobs) == 300)
    assert stack.sql("SELECT count(*), count(DISTINCT job) FROM probe_effects") == [(300, 300)]
    stack.eventually(lambda: is_clean(stack))


def test_a_chain_and_what_lives_in_redis_only(stack):
    start(stack)
    put_one(stack, "chain", "ticks", 20)
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM probe_effects") == [(42,)])
    assert stack.sql("SELECT kind, state, count(*) FROM jobs GROUP BY 1, 2") == [("probe.chain", "done", 21)]
    stack.eventually(lambda: is_clean(stack))


def test_a_volatile_job_that_fails_is_dropped(stack):
    stack.expect_errors("msg=dead")
    start(stack)
    redis = stack.redis.client()
    tick = wire.envelope(kind="probe.tick", payload=wire.pack({"label": "fail"}),
                         enqueued_ms=int(time.time() * 1000))
    redis.xadd(STREAM, {"id": f"{uuid.uuid4()}.0", "job": tick})
    stack.eventually(lambda: is_clean(stack))
    assert not redis.exists("wl:{0}:events:dead")


def test_every_class_of_error(stack):
    stack.expect_errors("msg=dead")
    start(stack)
    twice = {code: put_one(stack, "fail", code, 2)
             for code in ("SYSTEM", "PG_CONFLICT", "PG_FAILED", "REDIS_DOWN", "CANCELLED")}
    dead = {code: put_one(stack, "fail", code, 99) for code in ("PG_DATA", "MALFORMED", "REFUSED")}
    parked = put_one(stack, "fail", "EXPIRED", 99)
    skipped = put_one(stack, "fail", "SKIPPED", 99)
    nonsense = put_one(stack, "fail", "no such error", 1)
    for code in ("SYSTEM", "PG_FAILED"):
        stack.eventually(lambda code=code: state(stack, twice[code])[0] == "done")
        assert state(stack, twice[code])[3] == 2 and effects(stack, twice[code]) == 1
    for code, job in dead.items():
        stack.eventually(lambda job=job: state(stack, job)[0] == "dead")
        assert state(stack, job)[2] == code and effects(stack, job) == 0
    stack.eventually(lambda: state(stack, parked)[0] == "parked")
    assert state(stack, parked)[2] == "EXPIRED"
    stack.eventually(lambda: state(stack, skipped)[0] == "skipped")
    stack.eventually(lambda: state(stack, nonsense)[2] == "MALFORMED")
    # What is not the job's fault is not counted, so these go on failing at attempt 0.
    for code in ("PG_CONFLICT", "REDIS_DOWN", "CANCELLED"):
        assert state(stack, twice[code])[::3] == ("queued", 0)


def test_a_batch_answers_for_each(stack):
    stack.expect_errors("msg=dead")
    probe = start(stack)
    labels = [f"n{i}" for i in range(120)]
    labels[7], labels[50], labels[51], labels[52], labels[119] = "bad", "skip", "park", "bad", "bad"
    jobs = put(stack, "batch", labels)
    stack.eventually(lambda: in_state(stack, "queued", jobs) == 0)
    for label, job in zip(labels, jobs):
        wanted = {"bad": ("dead", 0), "skip": ("skipped", 0), "park": ("parked", 0)}.get(label, ("done", 1))
        assert (state(stack, job)[0], effects(stack, job)) == wanted, label
    assert state(stack, jobs[7])[2] == "PG_DATA"
    assert re.search(f"msg=dead job={jobs[7]}", probe.log())
    stack.eventually(lambda: is_clean(stack))


def test_a_batch_does_not_repeat_what_is_done(stack):
    jobs = put(stack, "batch", ["a", "b", "c"])
    stack.sql("UPDATE jobs SET relayed_at = now() WHERE id = ANY (%s::uuid[])", (jobs,))
    redis = stack.redis.client()
    for job in jobs:
        redis.xadd(STREAM, {"id": f"{job}.0", "job": wire.envelope(
            kind="probe.batch", payload=wire.pack({"label": "x"}), enqueued_ms=int(time.time() * 1000))})
    stack.sql("UPDATE jobs SET state = 'done', finished_at = now() WHERE id = %s", (jobs[1],))
    start(stack)
    stack.eventually(lambda: is_clean(stack))
    assert [effects(stack, job) for job in jobs] == [1, 0, 1]


def test_a_statement_that_takes_too_long_is_cancelled_and_counts(stack):
    stack.expect_errors("msg=dead")
    start(stack)
    slow = put_one(stack, "query", "slow", 60000)
    quick = put_one(stack, "query", "quick", 1)
    stack.eventually(lambda: state(stack, quick)[0] == "done")
    stack.eventually(lambda: state(stack, slow)[0] == "dead", 20)
    assert state(stack, slow)[2:] == ("OVERRUN", 3)
    running = stack.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%'"
                        " AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()")
    assert running == [(0,)]


def test_a_handler_that_hangs_ends_its_process(stack):
    stack.expect_errors("does not end and cannot be cancelled")
    first = start(stack, CANCEL_GRACE_MS=300)
    hang = put_one(stack, "hang", "hang", 1)
    beside = put_one(stack, "sleep", "beside", 100)
    first.allowed = {-signal.SIGABRT}
    first.wait_exit()
    stack.start("probe", env={"CANCEL_GRACE_MS": 300})
    stack.eventually(lambda: state(stack, hang)[0] == "done")
    stack.eventually(lambda: state(stack, beside)[0] == "done")
    assert effects(stack, hang) == effects(stack, beside) == 1


def test_poison_alone_is_dead_and_its_neighbours_are_done(stack):
    stack.expect_errors("msg=dead")
    poison = put_one(stack, "crash", "", 99)
    neighbours = put(stack, "effect", [f"n{i}" for i in range(40)])
    stack.start("scheduler")
    deaths = 0
    while state(stack, poison)[0] != "dead":
        probe = stack.start("probe")
        stack.eventually(lambda: not probe.running() or state(stack, poison)[0] == "dead", 20)
        if probe.running():
            break
        probe.allowed = {-signal.SIGKILL}
        deaths += 1
        assert deaths <= 6
    stack.eventually(lambda: state(stack, poison)[0] == "dead")
    assert state(stack, poison)[2] == "POISON" and effects(stack, poison) == 0
    stack.eventually(lambda: in_state(stack, "done", neighbours) == 40)
    assert all(effects(stack, job) == 1 for job in neighbours)
    stack.eventually(lambda: is_clean(stack))


def test_a_lost_lease_stops_the_run(stack):
    """Somebody else takes the entry over: what runs here ends, and has had no effect."""
    probe = start(stack, LEASE_MS=600, MAX_RUN_MS=60000, DATABASE_LOCK_TIMEOUT_MS=60000)
    redis = stack.redis.client()
    with psycopg2.connect(stack.env["DATABASE_URL"]) as link, link.cursor() as cursor:
        cursor.execute("LOCK TABLE probe_effects IN ACCESS EXCLUSIVE MODE")  # it runs until it is stopped
        job = put_one(stack, "effect", "theirs")
        pending = stack.eventually(lambda: redis.xpending_range(STREAM, "g", "-", "+", 10))
        redis.xclaim(STREAM, "g", "somebody:1:else", 0, [pending[0]["message_id"]], justid=True)
        probe.wait_log("lease lost")
        link.rollback()
    link.close()
    stack.eventually(lambda: effects(stack, job) == 1)  # once the other's lease has run out
    stack.eventually(lambda: is_clean(stack))
    assert effects(stack, job) == 1


def test_frozen_postgresql_ends_no_process_and_burns_no_attempt(stack):
    """Backends that say nothing any more, not even to a cancel: they are hung up on."""
    probe = start(stack, MAX_RUN_MS=700, CANCEL_GRACE_MS=800)
    jobs = put(stack, "effect", [f"n{i}" for i in range(200)], number=5)
    stack.eventually(lambda: in_state(stack, "done", jobs) > 3)
    frozen = set()
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        for pid, in stack.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'whopline'"
                              " AND datname = current_database()"):
            if pid not in frozen:
                os.kill(pid, signal.SIGSTOP)
                frozen.add(pid)
        time.sleep(0.02)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    stack.eventually(lambda: in_state(stack, "done", jobs) == 200, 30)
    assert probe.running() and "did not react to a cancel" in probe.log()
    assert stack.sql("SELECT max(attempts) FROM jobs") == [(0,)]
    assert stack.sql("SELECT count(*), count(DISTINCT job) FROM probe_effects") == [(200, 200)]


def test_a_paused_queue_begins_nothing_and_survives_redis(stack):
    redis = stack.redis.client()
    probe = start(stack)
    stack.sql("INSERT INTO queue_controls (queue, mode, reason, actor) VALUES ('probe', 'paused', 'test', 'me')")
    probe.wait_log("the queue is paused")
    jobs = put(stack, "effect", ["a", "b", "c"])
    stack.eventually(lambda: redis.xlen(STREAM) == 3)
    redis.flushall()
    stack.eventually(lambda: redis.get(CONTROL) == b"paused")
    stack.eventually(lambda: redis.xlen(STREAM) == 3)
    late = stack.start("probe")
    late.wait_log("the queue is paused")
    time.sleep(1)
    assert in_state(stack, "queued", jobs) == 3
    stack.sql("DELETE FROM queue_controls")
    stack.eventually(lambda: in_state(stack, "done", jobs) == 3)
    assert all(effects(stack, job) == 1 for job in jobs)


def test_a_draining_queue_empties_and_takes_nothing(stack):
    redis = stack.redis.client()
    start(stack)
    first = put_one(stack, "chain", "c", 3)
    stack.eventually(lambda: state(stack, first)[0] == "done")
    stack.sql("INSERT INTO queue_controls (queue, mode, reason, actor) VALUES ('probe', 'draining', 'test', 'me')")
    stack.eventually(lambda: redis.get(CONTROL) == b"draining")
    stack.eventually(lambda: redis.xlen(STREAM) == 0)
    late = put_one(stack, "effect", "late")
    time.sleep(1)
    assert redis.xlen(STREAM) == 0 and state(stack, late)[0] == "queued"
    stack.sql("DELETE FROM queue_controls")
    stack.eventually(lambda: state(stack, late)[0] == "done")


def test_bulk_waits_for_its_turn(stack):
    """No more of a tenant's bulk rows in Redis than it may have; another's and events pass by."""
    stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('other', 'biz_other')")
    other = stack.sql("SELECT id FROM tenants WHERE slug = 'other'")[0][0]
    redis = stack.redis.client()
    stack.start("scheduler", env={"TENANT_MAX_INFLIGHT": 30})
    flood = put(stack, "effect", [f"n{i}" for i in range(400)], number=2, bulk=True)
    stack.eventually(lambda: redis.xlen(STREAM) == 30)
    some = put(stack, "effect", ["x"] * 10, bulk=True, tenant=other)
    event = put_one(stack, "effect", "event")
    stack.eventually(lambda: redis.xlen(STREAM) == 41)
    most = 0
    probe = stack.start("probe", env={"SLOTS": 2})
    probe.wait_log("msg=working")
    stack.eventually(lambda: in_state(stack, "done", [event, *some]) == 11)
    while in_state(stack, "queued", flood):
        most = max(most, stack.sql("SELECT count(*) FROM jobs WHERE state = 'queued' AND bulk"
                                   " AND relayed_at IS NOT NULL")[0][0])
        assert probe.running()
    assert 0 < most <= 30
    assert stack.sql("SELECT count(*), count(DISTINCT job) FROM probe_effects") == [(411, 411)]


def test_fifty_restarts_of_redis_leave_no_deaf_worker(stack):
    probe = start(stack)
    for i in range(50 if os.environ.get("WHOPLINE_TEST_LONG") else 6):
        stack.redis.kill9()
        stack.redis.start()
        if i % 5 == 0:
            job = put_one(stack, "effect", f"after {i}")
            stack.eventually(lambda job=job: state(stack, job)[0] == "done")
    jobs = put(stack, "effect", [f"n{i}" for i in range(100)])
    stack.eventually(lambda: in_state(stack, "done", jobs) == 100)
    assert probe.running()
    assert all(effects(stack, job) == 1 for job in jobs)


def test_a_slow_mark_does_not_hide_what_redis_has_lost(stack):
    """Redis is told of a new row, loses its data and is filled anew, without the row, which is too
    young to be swept; then the mark arrives. With RELAY_STALE_MS at an hour a row that is marked
    would not come back."""
    redis = stack.redis.client()
    first = put_one(stack, "chain", "c", 1)
    stack.start("scheduler", env={"RELAY_STALE_MS": 3600000})
    # Young until the end: a sweep is as late as the machine is slow.
    stack.sql("""CREATE FUNCTION stay_young() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   NEW.created_at := NEW.created_at + interval '1 hour'; RETURN NEW; END $$;
                 CREATE TRIGGER stay_young BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION stay_young()""")
    # One slot, so that it does not read the new job while it is busy with the first.
    probe = stack.start("probe", env={"SLOTS": 1}, fault="after_enqueue_before_mark:stop@1")
    stack.eventually(lambda: state(stack, first)[0] == "done")
    stack.eventually(lambda: stopped(probe.pid))
    stack.sql("DROP TRIGGER stay_young ON jobs")
    before = stack.sql("SELECT rebuilds FROM relay_state")[0][0]
    redis.flushall()
    stack.eventually(lambda: stack.sql("SELECT rebuilds FROM relay_state")[0][0] > before)
    assert stack.sql("SELECT count(*) FROM jobs WHERE state = 'queued' AND relayed_at IS NULL") == [(1,)]
    probe.send(signal.SIGCONT)
    after = put_one(stack, "effect", "after the mark")
    stack.eventually(lambda: state(stack, after)[0] == "done")
    stack.sql("UPDATE jobs SET created_at = created_at - interval '2 hours'")
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM probe_effects") == [(3,)])


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


def lease(stack):
    return int(stack.env["LEASE_MS"]) / 1000


def test_a_killed_workers_full_batch_runs_elsewhere(stack):
    """128 events in one transaction that was never committed: elsewhere within a lease and 10 s."""
    redis = stack.redis.client()
    stack.start("ingest")
    with whop.Sender(stack) as sender:
        for _ in range(128):
            headers, raw = whop.request(whop.payment("v1"))
            assert sender.post(headers, raw) == 200
    first = stack.start("journal", env={"SLOTS": 1}, fault="before_pg_commit:kill")
    first.wait_exit()
    assert redis.xpending("wl:{0}:events", "g")["pending"] == 128
    stack.start("journal")
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM webhook_events") == [(128,)], lease(stack) + 10)
    stack.eventually(lambda: redis.xlen("wl:{0}:events") == 0)


def test_redis_away_for_two_leases_steals_no_live_job(stack):
    """Each worker says first what it still runs, and takes nothing over before a lease has passed."""
    workers = [start(stack), stack.start("probe"), stack.start("probe")]
    jobs = put(stack, "sleep", [f"n{i}" for i in range(6)], number=int(4000 * lease(stack)))
    redis = stack.redis.client()
    stack.eventually(lambda: redis.xpending(STREAM, "g")["pending"] == 6)
    stack.redis.kill9()
    time.sleep(2 * lease(stack))
    stack.redis.start()
    stack.eventually(lambda: in_state(stack, "done", jobs) == 6, 4 * lease(stack) + 10)
    assert all(effects(stack, job) == 1 for job in jobs)
    for worker in workers:
        assert "took over" not in worker.log() and "lease lost" not in worker.log()


def test_first_job_after_a_restart_of_redis(stack):
    start(stack)
    for i in range(3):
        stack.redis.kill9()
        stack.redis.start()
        job = put_one(stack, "effect", f"n{i}")
        stack.eventually(lambda job=job: state(stack, job)[0] == "done", 3)


def test_a_deleted_stream_comes_back(stack):
    """By hand, without a word to anybody: the dedupe keys are still there, the entries are not."""
    redis = stack.redis.client()
    stack.start("scheduler", env={"RELAY_STALE_MS": 1000})
    jobs = put(stack, "effect", [f"n{i}" for i in range(20)])
    late = put_one(stack, "fail", "PG_FAILED", 3)
    stack.eventually(lambda: redis.xlen(STREAM) == 21)
    redis.delete(STREAM)
    stack.start("probe", env={"BACKOFF_BASE_MS": 1500, "BACKOFF_MAX_MS": 1500})
    stack.eventually(lambda: in_state(stack, "done", [*jobs, late]) == 21, 20)
    assert stack.sql("SELECT count(*), count(DISTINCT job) FROM probe_effects") == [(21, 21)]
    stack.eventually(lambda: is_clean(stack))


def test_a_job_offered_again_while_it_is_tried_again_comes_in_once(stack):
    """Each retry gives it another entry; the dedupe key follows."""
    redis = stack.redis.client()
    stack.start("scheduler", env={"RELAY_STALE_MS": 300})
    stack.start("probe", env={"BACKOFF_BASE_MS": 200, "BACKOFF_MAX_MS": 200})
    job = put_one(stack, "fail", "PG_CONFLICT", 1)
    most = 0
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        most = max(most, sum(redis.pipeline(transaction=True).xlen(STREAM).zcard(STREAM + ":z").execute()))
    assert most == 1 and state(stack, job)[0] == "queued"


@pytest.mark.parametrize("fault", [
    f"{point}:{action}"
    for point in ("before_enqueue", "enqueue_reply_lost", "before_retry", "retry_reply_lost",
                  "before_promote")
    for action in (("kill@1", "fail@1") if point.endswith("lost") else ("kill@1",))])
def test_dying_while_jobs_follow_or_are_put_off(stack, fault):
    """The work of a process that dies there, or does not hear Redis' answer, is done once."""
    stack.start("scheduler")
    chain, retried = put_one(stack, "chain", "c", 3), put_one(stack, "fail", "PG_FAILED", 2)
    first = stack.start("probe", fault=fault, ready=False)
    stack.eventually(lambda: ":kill" not in fault or not first.running())
    stack.eventually(lambda: "FAULT: forced" in first.log())
    stack.start("probe")
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM jobs WHERE state = 'done'") == [(5,)], 20)
    assert stack.sql("SELECT count(*), count(DISTINCT job) FROM probe_effects") == [(5, 5)]
    assert state(stack, chain)[0] == state(stack, retried)[0] == "done"
    stack.eventually(lambda: is_clean(stack))


def test_dying_with_a_lease_just_taken_over(stack):
    """Claimed, not yet started: not counted, and the next worker finds it as it was."""
    job = put_one(stack, "crash", "", 1)
    stack.start("scheduler")
    stack.start("probe", ready=False).allowed = {-signal.SIGKILL}
    stack.eventually(lambda: not stack.proc("probe").running())
    second = stack.start("probe", fault="before_start:kill@1")
    stack.eventually(lambda: not second.running())
    assert [entry["times_delivered"] for entry in
            stack.redis.client().xpending_range(STREAM, "g", "-", "+", 10)] == [1]
    stack.start("probe")
    stack.eventually(lambda: state(stack, job)[0] == "done")
    assert effects(stack, job) == 1
