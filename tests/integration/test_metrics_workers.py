"""What a worker says of itself: its counters after known work, its health, its entry, its consumer."""
import re
import signal
import socket

import psycopg2

import harness
import test_metrics
import test_probe
from test_metrics import get, metrics, registry

STREAM = test_probe.STREAM


def kind(name, result):
    return f'type="probe.{name}",result="{result}"'


def consumers(stack):
    return {found["name"].decode(): found["pending"] for found in stack.redis.client().xinfo_consumers(STREAM, "g")}


def test_counters_after_known_work(stack):
    stack.expect_errors("msg=dead")
    probe = test_probe.start(stack)
    stack.eventually(lambda: get(probe, "/readyz") == (200, "ok\n"))
    found = metrics(probe)
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in found} <= test_metrics.documented()
    assert found["jobs_total"][kind("effect", "done")] == 0 and found["slots"][""] == 4
    test_probe.put(stack, "effect", [f"n{i}" for i in range(40)])
    test_probe.put_one(stack, "fail", "SYSTEM", 2)
    test_probe.put_one(stack, "fail", "SKIPPED", 99)
    test_probe.put_one(stack, "fail", "PG_DATA", 99)
    test_probe.put_one(stack, "fail", "EXPIRED", 99)
    test_probe.put(stack, "batch", ["n1", "n2", "skip", "park"])
    test_probe.put_one(stack, "query", "slow", 60_000)
    stack.eventually(lambda: not stack.sql("SELECT 1 FROM jobs WHERE state = 'queued'"), timeout=30)
    stack.eventually(lambda: metrics(probe)["jobs_total"][kind("query", "dead")] == 1)
    found = metrics(probe)
    jobs = found["jobs_total"]
    assert jobs[kind("effect", "done")] == 40
    assert (jobs[kind("fail", "retried")], jobs[kind("fail", "done")], jobs[kind("fail", "skipped")],
            jobs[kind("fail", "dead")], jobs[kind("fail", "parked")]) == (2, 1, 1, 1, 1)
    assert (jobs[kind("batch", "done")], jobs[kind("batch", "skipped")], jobs[kind("batch", "parked")]) == (2, 1, 1)
    assert jobs[kind("query", "retried")] == 2  # of its three attempts
    assert found["retries_total"] == {'type="probe.fail",class="transient"': 2, 'type="probe.query",class="transient"': 2}
    assert found["cancelled_total"] == {'reason="overrun"': 3, 'reason="lease_lost"': 0}
    assert found["job_seconds_count"]['type="probe.effect"'] == 40
    assert 1.5 <= found["job_seconds_sum"]['type="probe.query"'] < 30
    # They were made an hour ago.
    assert found["job_age_seconds_bucket"]['type="probe.effect",le="900"'] == 0
    assert found["job_age_seconds_count"]['type="probe.effect"'] == 40
    assert found["promoted_total"][""] >= 4
    stack.eventually(lambda: [metrics(probe)[name][""] for name in ("slots_busy", "jobs_ready", "jobs_unsettled")] == [0] * 3)
    found = metrics(probe)
    assert found["read_age_seconds"][""] < 5 and found["healthy"][""] == 1


def test_a_full_worker_is_healthy_while_it_prolongs(stack):
    probe = test_probe.start(stack, SLOTS=1, DATABASE_LOCK_TIMEOUT_MS=60000)
    with psycopg2.connect(stack.env["DATABASE_URL"]) as link, link.cursor() as cursor:
        cursor.execute("LOCK TABLE probe_effects IN ACCESS EXCLUSIVE MODE")
        test_probe.put_one(stack, "effect", "waits")
        stack.eventually(lambda: metrics(probe)["slots_busy"][""] == 1)
        # Longer than 3 x READ_BLOCK_MS, and than a second, without a read.
        stack.eventually(lambda: metrics(probe)["read_age_seconds"][""] > 2 * harness.PACE)
        assert get(probe, "/livez") == (200, "ok\n")
        assert metrics(probe)["beat_age_seconds"][""] <= 2 * harness.PACE
        link.rollback()
    link.close()
    stack.eventually(lambda: metrics(probe)["slots_busy"][""] == 0)


def test_a_held_worker_is_healthy(stack):
    probe = test_probe.start(stack)
    stack.sql("INSERT INTO queue_controls (queue, mode, reason, actor) VALUES ('probe', 'paused', 'test', 'me')")
    probe.wait_log("the queue is paused")
    stack.eventually(lambda: metrics(probe)["read_age_seconds"][""] > 2)
    assert get(probe, "/livez") == (200, "ok\n") and get(probe, "/readyz")[0] == 200
    stack.eventually(lambda: [entry["state"] for entry in registry(stack).values() if entry["queue"] == "probe"] == ["paused"])


def test_a_worker_without_redis_is_not_healthy_for_long(stack):
    probe = test_probe.start(stack)
    assert get(probe, "/livez") == (200, "ok\n")
    stack.redis.kill9()
    status, why = stack.eventually(lambda: (lambda said: said if said[0] == 503 else None)(get(probe, "/livez")))
    assert why.startswith("no read of jobs has succeeded for")
    assert get(probe, "/readyz") == (503, "waiting for Redis\n")
    stack.redis.start()
    stack.eventually(lambda: get(probe, "/livez") == (200, "ok\n"))
    stack.eventually(lambda: metrics(probe)["redis_reconnects_total"][""] >= 1)


def test_a_redis_that_stands_still_is_noticed(stack):
    probe = test_probe.start(stack)
    stack.redis.process.send_signal(signal.SIGSTOP)
    try:
        stack.eventually(lambda: get(probe, "/livez")[0] == 503)
    finally:
        stack.redis.process.send_signal(signal.SIGCONT)
    stack.eventually(lambda: get(probe, "/livez")[0] == 200, timeout=20)


def test_a_group_that_is_gone_is_counted(stack):
    probe = test_probe.start(stack)
    stack.redis.client().delete(STREAM)
    stack.eventually(lambda: metrics(probe)["group_recreated_total"][""] >= 1)


def test_entry_and_consumer_go_with_the_worker(stack):
    probe = test_probe.start(stack)
    test_probe.put(stack, "effect", ["one", "two"])
    entry = stack.eventually(lambda: next((e for e in registry(stack).values() if e["done"] == "2"), None))
    assert entry["program"] == "whopline-probe" and entry["queue"] == "probe" and entry["slots"] == "4"
    assert entry["state"] == "working" and entry["failed"] == "0" and int(entry["last_read_ms"]) > 0
    assert len(consumers(stack)) == 1
    stack.eventually(lambda: len(registry(stack)) == 2)
    assert probe.sigterm() == 0
    assert [e["program"] for e in registry(stack).values()] == ["whopline-scheduler"]
    assert not consumers(stack)


def test_a_port_that_is_taken_is_refused(stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stack.expect_errors("cannot start")
        probe = stack.start("probe", env={"WORKER_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}"}, ready=False)
        probe.allowed.add(2)
        assert probe.wait_exit() == 2
    assert "WORKER_LISTEN" in probe.log()
