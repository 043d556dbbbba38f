"""What would hold a worker or the scheduler up although everything around them is well again: verdicts
that cannot be written, queues paused at a bad moment, stores that say no for a while."""
import base64
import os
import signal
import socket
import threading
import time

import psycopg2

import wire
from test_metrics import metrics
from test_probe import STREAM, in_state, put, put_one, start, state, stopped

EVENTS = "wl:{0}:events"


def hold_row(stack, job):
    """Somebody's open transaction on the job's row."""
    link = psycopg2.connect(stack.env["DATABASE_URL"])
    link.cursor().execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", (job,))
    return link


def suspects(stack, deliveries, labels):
    """Queued jobs whose worker is gone, that many deliveries ago."""
    redis = stack.redis.client()
    jobs = put(stack, "effect", labels)
    stack.sql("UPDATE jobs SET relayed_at = now() WHERE id = ANY (%s::uuid[])", (jobs,))
    redis.xgroup_create(STREAM, "g", "0", mkstream=True)
    for job in jobs:
        redis.set(f"wl:{{0}}:seen:{job}.0", "")
        redis.xadd(STREAM, {"id": f"{job}.0", "job": wire.envelope(
            kind="probe.effect", payload=wire.pack({"label": "suspect"}),
            enqueued_ms=int(time.time() * 1000))})
    for entry, _ in redis.xreadgroup("g", "gone:1:x", {STREAM: ">"})[0][1]:
        redis.xclaim(STREAM, "g", "gone:1:x", 0, [entry], idle=3600000, retrycount=deliveries)
    return jobs


def test_a_verdict_that_cannot_be_written_does_not_keep_its_slot(stack):
    stack.expect_errors("msg=dead")
    bad = put_one(stack, "fail", "REFUSED", 99)
    link = hold_row(stack, bad)
    probe = start(stack, SLOTS=1, MAX_RUN_MS=300, CANCEL_GRACE_MS=600)
    probe.wait_log("msg=dead")
    after = put_one(stack, "effect", "after")
    stack.eventually(lambda: state(stack, after)[0] == "done")
    assert probe.running()
    link.rollback()
    link.close()
    stack.eventually(lambda: state(stack, bad)[0] == "dead")


def test_a_job_whose_row_is_locked_waits_uncounted(stack):
    """By the backend of a worker that is gone, say: it comes back and back, and is not at fault."""
    locked = put_one(stack, "effect", "locked")
    link = hold_row(stack, locked)
    probe = start(stack, MAX_RUN_MS=3000, DATABASE_LOCK_TIMEOUT_MS=200)
    stack.eventually(lambda: sum(metrics(probe).get("retries_total", {}).values()) >= 3, timeout=20)
    assert metrics(probe)["cancelled_total"]['reason="overrun"'] == 0
    link.rollback()
    link.close()
    stack.eventually(lambda: state(stack, locked)[0] == "done")
    assert state(stack, locked)[3] == 0


def test_a_locked_row_does_not_stop_the_scheduler(stack):
    locked = put_one(stack, "effect", "locked")
    link = hold_row(stack, locked)
    start(stack)
    after = put_one(stack, "effect", "after")
    stack.eventually(lambda: state(stack, after)[0] == "done")
    link.rollback()
    link.close()
    stack.eventually(lambda: state(stack, locked)[0] == "done")


def test_a_pause_does_not_count_suspects_nor_stop_reading(stack):
    jobs = suspects(stack, 2, ["a", "b"])
    probe = start(stack, LEASE_MS=3000)
    slow = put_one(stack, "sleep", "slow", 6500)
    probe.wait_log("run alone")
    assert state(stack, slow)[0] == "queued"
    stack.sql("INSERT INTO queue_controls (queue, mode, reason, actor) VALUES ('probe', 'paused', 'test', 'me')")
    probe.wait_log("the queue is paused")
    stack.eventually(lambda: state(stack, slow)[0] == "done")
    time.sleep(0.5)
    counts = [entry["times_delivered"] for entry in stack.redis.client().xpending_range(STREAM, "g", "-", "+", 10)]
    assert counts == [2, 2]
    stack.sql("DELETE FROM queue_controls")
    probe.wait_log("the queue goes on")
    late = put_one(stack, "effect", "late")
    stack.eventually(lambda: state(stack, late)[0] == "done", 3)
    stack.eventually(lambda: in_state(stack, "done", jobs) == 2, 20)


def test_a_read_only_redis_is_not_stormed(stack):
    """A failover that takes a while: connections succeed, and every write is refused."""
    redis = stack.redis.client()
    probe = start(stack, LEASE_MS=20000)  # a quarter of it is the longest wait between attempts
    redis.replicaof("127.0.0.1", 1)
    before = redis.info("stats")["total_connections_received"]
    time.sleep(5)
    connections = redis.info("stats")["total_connections_received"] - before
    redis.replicaof("NO", "ONE")
    job = put_one(stack, "effect", "after")
    stack.eventually(lambda: state(stack, job)[0] == "done", 20)
    assert probe.running() and connections < 40


def test_a_scheduler_with_an_old_count_of_rebuilds_does_not_spin(stack):
    """Another scheduler began a rebuild while this one was sweeping, and died."""
    put(stack, "effect", [f"n{i}" for i in range(50)])
    scheduler = stack.start("scheduler", fault="after_enqueue_before_mark:stop@1")
    stack.eventually(lambda: stopped(scheduler.pid))
    stack.sql("UPDATE relay_state SET rebuilds = rebuilds + 1")
    scheduler.send(signal.SIGCONT)
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM jobs WHERE relayed_at IS NULL") == [(0,)], 3)


def test_lost_data_is_noticed_while_bulk_work_goes_on(stack):
    """Redis loses its data in the middle of a flood: nothing of it waits for RELAY_STALE_MS."""
    redis = stack.redis.client()
    stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('other', 'biz_other')")
    other = stack.sql("SELECT id FROM tenants WHERE slug = 'other'")[0][0]
    put(stack, "effect", [f"n{i}" for i in range(40000)], bulk=True)
    put(stack, "effect", [f"o{i}" for i in range(20000)], bulk=True, tenant=other)
    stack.sql("ANALYZE jobs")
    probe = stack.start("probe")
    scheduler = stack.start("scheduler", env={"RELAY_STALE_MS": 3600000, "RELAY_SWEEP_MS": 1000})
    stack.eventually(lambda: stack.sql("SELECT count(*) > 300 FROM probe_effects") == [(True,)], 20)
    before = stack.sql("SELECT rebuilds FROM relay_state")[0][0]
    redis.flushall()
    stack.eventually(lambda: stack.sql("SELECT rebuilds FROM relay_state")[0][0] > before, 5)
    assert stack.sql("SELECT count(*) FROM jobs WHERE state = 'queued'")[0][0] > 1000
    probe.kill9()
    scheduler.kill9()


def test_an_overrun_is_written_down(stack):
    """The cancel of a statement does not hit the next one, which writes the verdict."""
    stack.expect_errors("msg=dead")
    probe = start(stack, LOG_LEVEL="debug", SLOTS=8)
    jobs = put(stack, "query", [f"n{i}" for i in range(32)], number=60000)
    stack.eventually(lambda: in_state(stack, "dead", jobs) == 32, 40)
    text = probe.log()
    assert "could not be written" not in text and "attempts not noted" not in text


class DeafPostgresql:
    """A road to the real server that lets everything through until a statement with `word` comes: of
    that connection it reads no further. hear() ends those, and from then on lets all through."""

    def __init__(self, folder, sockets, word):
        self.folder, self.sockets, self.word, self.unheard = folder, sockets, word, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/.s.PGSQL.5432")
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self.sockets}/.s.PGSQL.5432")
            threading.Thread(target=self.carry, args=(client, server, self.word), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, None), daemon=True).start()

    def carry(self, source, target, word):
        try:
            while data := source.recv(4096):
                if word and self.word and word in data:
                    self.unheard.append(target)
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def hear(self):
        self.word = None
        for server in self.unheard:
            server.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_a_deaf_postgresql_is_hung_up_on_in_the_middle_of_a_large_statement(stack):
    """What it does not read fills the socket's buffer; sending must not wait there, deaf to the cancel,
    until the process is ended with all its other jobs."""
    road = DeafPostgresql(stack.folder, stack.pg_sockets, b"INSERT INTO probe_effects")
    big = base64.b64encode(os.urandom(40000)).decode()
    jobs = put(stack, "batch", [big] * 40)
    stack.start("scheduler")
    stack.eventually(lambda: stack.redis.client().xlen(STREAM) == 40)
    probe = stack.start("probe", env={
        "MAX_RUN_MS": 700, "CANCEL_GRACE_MS": 800, "SLOTS": 1,
        "DATABASE_URL": f"host={stack.folder} user=app dbname={stack.database}"})
    probe.wait_log("did not react to a cancel")
    road.hear()
    stack.eventually(lambda: in_state(stack, "done", jobs) == 40, 20)
    assert probe.running()
    road.close()


def event(identity, payment):
    return {"id": identity, "job": wire.envelope(kind="journal.event", key="", tenant=0, payload=wire.pack(
        {"id": identity, "endpoint": "default", "webhook_id": identity, "kind": "payment.pending",
         "type_raw": "payment.pending", "generation": "v1", "company": "biz_none", "payment": payment,
         "received_ms": 1, "occurred_ms": 1}), enqueued_ms=1), "body": b"{}"}


def test_an_event_that_no_index_takes_holds_up_no_other(stack):
    stack.expect_errors("msg=dead")
    redis = stack.redis.client()
    for i in range(20):
        redis.xadd(EVENTS, event(f"default/n{i}", f"pay_{i}"))
    redis.xadd(EVENTS, event("default/huge", base64.b64encode(os.urandom(9000)).decode()))
    stack.start("journal")
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM webhook_events") == [(20,)], 5)
    stack.eventually(lambda: redis.xlen("wl:{0}:events:dead") == 1, 5)


def test_a_pause_ends_a_run_between_two_jobs(stack):
    probe = start(stack, SLOTS=1)
    jobs = put(stack, "effect", [f"n{i}" for i in range(16)], number=400)
    stack.eventually(lambda: in_state(stack, "done", jobs) > 0)
    stack.sql("INSERT INTO queue_controls (queue, mode, reason, actor) VALUES ('probe', 'paused', 'test', 'me')")
    probe.wait_log("the queue is paused")
    stack.eventually(lambda: metrics(probe)["slots_busy"][""] == 0)
    done = in_state(stack, "done", jobs)
    time.sleep(1)
    assert in_state(stack, "done", jobs) == done < 16
    stack.sql("DELETE FROM queue_controls")
    stack.eventually(lambda: in_state(stack, "done", jobs) == 16, 20)


def test_an_entry_of_a_batch_whose_id_is_not_ours_dies_alone(stack):
    stack.expect_errors("msg=dead")
    redis = stack.redis.client()
    jobs = put(stack, "batch", ["a", "b", "c"])
    stack.start("scheduler")
    stack.eventually(lambda: redis.xlen(STREAM) == 3)
    redis.xadd(STREAM, {"id": "nonsense", "job": wire.envelope(
        kind="probe.batch", payload=wire.pack({"label": "x"}), enqueued_ms=int(time.time() * 1000))})
    stack.start("probe")
    stack.eventually(lambda: in_state(stack, "done", jobs) == 3)
    stack.eventually(lambda: redis.xlen("wl:{0}:events:dead") == 1)
