"""What workers and scheduler say of themselves: pages, figures of the installation, the registry."""
import re
import socket
import subprocess
import time
import uuid

import pytest

import harness

NAME = "whopline_"
STREAM = "wl:{0}:q:credits"
FAST = {"METRICS_COLLECT_MS": 100}


def start(stack, name="scheduler", **settings):
    return stack.start(name, env={**FAST, **settings})


def address(proc):
    host, port = proc.wait_log(r"msg=listening address=(\S+):(\d+)").groups()
    return host, int(port)


def get(proc, path):
    """Status and body."""
    with socket.create_connection(address(proc), 5 * harness.SLOW) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = b""
        while more := link.recv(65536):
            answer += more
    head, body = answer.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), body.decode()


def parse(text):
    """{name: {labels as written: value}}. Fails for what Prometheus would refuse."""
    samples, types, current = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert name.startswith(NAME), line
            if word == "TYPE":
                assert name not in types, f"{name} comes twice"
                types[name], current = rest, name
            continue
        match = re.fullmatch(r'(\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (-?\d+(?:\.\d+)?)', line)
        assert match, line
        name, labels, value = match.groups()
        assert re.fullmatch(current + (r"(_bucket|_sum|_count)" if types[current] == "histogram" else ""), name), line
        samples.setdefault(name.removeprefix(NAME), {})[labels or ""] = float(value)
    return samples


def metrics(proc):
    status, text = get(proc, "/metrics")
    assert status == 200
    return parse(text)


def documented():
    page = (harness.ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `whopline_(\w+)`", page, re.MULTILINE))


def put(stack, state="queued", kind="credits.payment_succeeded", error=None, bulk=False, due="-1 hour"):
    stack.sql("""INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at,
                                   state, reason, error, finished_at, bulk, due_at)
                 SELECT %s, id, 'credits', %s, 'k', '', 1, 't', now(), %s, %s, %s, %s, %s, now() + %s::interval
                 FROM tenants LIMIT 1""",
              (str(uuid.uuid4()), kind, state, None if state == "queued" else "because", error,
               None if state == "queued" else "now", bulk, due))


# ---- pages -----------------------------------------------------------------------------------------

def test_pages_of_the_scheduler(stack):
    proc = start(stack)
    stack.eventually(lambda: get(proc, "/readyz") == (200, "ok\n"))
    assert get(proc, "/livez") == (200, "ok\n")
    assert get(proc, "/nothing")[0] == 404
    stack.eventually(lambda: "stream_depth" in metrics(proc) and "dlq_size" in metrics(proc))
    found = metrics(proc)
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in found} <= documented()
    assert found["healthy"][""] == 1 and found["ready"][""] == 1
    assert found["sweeps_total"]['result="done"'] > 0 and found["sweeps_total"]['result="failed"'] == 0
    assert found["redis_reconnects_total"][""] == 0
    assert "last_event_seconds" not in found


def test_figures_of_the_installation(stack):
    redis, began = stack.redis.client(), time.time()
    old_ms = int(began * 1000) - 100_000
    for number in range(5):
        redis.xadd(STREAM, {"id": "x"}, id=f"{old_ms + 10_000 * number}-0")
    redis.xgroup_create(STREAM, "g", "0")
    redis.xreadgroup("g", "somebody", {STREAM: ">"}, count=2)
    redis.zadd(STREAM + ":z", {"a": 1, "b": 2, "c": 3})
    redis.xadd("wl:{0}:events:dead", {"id": "x"})
    put(stack, "dead")
    put(stack, "dead")
    put(stack, "dead", kind="of.tomorrow")
    put(stack, "parked", error="EXPIRED")
    put(stack, "parked")
    put(stack, "done")
    put(stack, kind="of.tomorrow")
    put(stack, kind="of.tomorrow", due="1 hour")
    put(stack, kind="of.tomorrow", bulk=True)
    stack.sql("UPDATE tenants SET status = 'reauth_required'")
    stack.sql("INSERT INTO queue_controls (queue, mode, reason, actor) VALUES ('credits', 'paused', 'r', 'a')")
    stack.sql("""INSERT INTO webhook_events (id, endpoint, kind, type_raw, generation, status, reason, occurred_at,
                                             occurred_known, received_at, payload, payload_version, body)
                 VALUES ('e', 'default', 'k', 'k', 'v1', 'ignored', 'r', now(), true, now() - interval '90 s', '', 1, '')""")
    stack.sql("""INSERT INTO credit_review (tenant_id, whop_payment_id, reason, event_id, state)
                 SELECT 1, 'pay_' || n, 'r', 'e', CASE WHEN n < 3 THEN 'open' ELSE 'dismissed' END FROM generate_series(1, 5) n""")
    stack.cli("orders", "create", "--manual", "--user", "u", "--name", "n", "--credits", "1", "--price", "1", "--currency", "usd")
    proc = start(stack)
    found = stack.eventually(lambda: (lambda now: now if "dlq_size" in now and "stream_depth" in now else None)(metrics(proc)))
    credits = 'stream="credits"'
    assert (found["stream_depth"][credits], found["pending_entries"][credits], found["delayed_entries"][credits],
            found["stream_consumers"][credits]) == (3, 2, 3, 1)
    # The two that somebody has were older: 100 and 90 s.
    assert 80 <= found["stream_oldest_seconds"][credits] < 81 + time.time() - began
    assert 0 <= found["stream_read_age_seconds"][credits] < 30
    assert found["stream_depth"]['stream="events"'] == 0
    assert found["stream_oldest_seconds"]['stream="events"'] == 0
    assert found["events_dead"][""] == 1
    assert found["dlq_size"]['type="credits.payment_succeeded"'] == 2
    assert found["dlq_size"]['type="unknown"'] == 1
    assert found["parked"] == {'error="EXPIRED"': 1, 'error="unknown"': 1}
    assert found["jobs_unrelayed"][""] == 1
    assert found["jobs_bulk_waiting"][""] == 1
    assert found["tenant_paused"] == {'reason="reauth_required"': 1}
    assert found["queue_paused"][ 'queue="credits"'] == 1
    assert found["queue_paused"]['queue="events"'] == 0
    assert (found["credit_review_open"][""], found["credit_orders_requested"][""]) == (2, 1)
    assert 90 <= found["last_event_seconds"][""] < 91 + time.time() - began
    # Who has it prolongs it no more.
    stack.eventually(lambda: metrics(proc)["stream_read_age_seconds"][credits] >= 1)
    redis.xreadgroup("g", "somebody", {STREAM: ">"})
    stack.eventually(lambda: metrics(proc)["stream_oldest_seconds"][credits] == 0)
    assert metrics(proc)["pending_entries"][credits] == 5


def test_without_a_group_all_of_a_stream_waits(stack):
    stack.redis.client().xadd(STREAM, {"id": "x"})
    proc = start(stack)
    stack.eventually(lambda: metrics(proc).get("stream_depth", {}).get('stream="credits"') == 1)
    assert metrics(proc)["pending_entries"]['stream="credits"'] == 0


def test_a_store_that_is_away_shows_no_old_figures(stack):
    proc = start(stack)
    stack.eventually(lambda: "stream_depth" in metrics(proc))
    stack.redis.kill9()
    stack.eventually(lambda: get(proc, "/readyz") == (503, "waiting for Redis\n"))
    stack.eventually(lambda: "stream_depth" not in metrics(proc), timeout=20)
    status, why = stack.eventually(lambda: (lambda said: said if said[0] == 503 else None)(get(proc, "/livez")), timeout=20)
    assert "no sweep has succeeded for" in why
    assert metrics(proc)["healthy"][""] == 0
    stack.redis.start()
    stack.eventually(lambda: get(proc, "/livez")[0] == 200, timeout=20)
    stack.eventually(lambda: "stream_depth" in metrics(proc))
    found = metrics(proc)
    assert found["redis_reconnects_total"][""] >= 1
    assert found["sweeps_total"]['result="failed"'] > 0


def test_a_scheduler_without_a_schema_is_not_ready(stack):
    name = stack.database + "_empty"
    harness.execute(stack.pg_sockets, f'CREATE DATABASE "{name}"')
    try:
        url = harness.database_url(stack.pg_sockets, name)
        stack.expect_errors("cannot start")
        proc = stack.start("scheduler", env={"DATABASE_URL": url}, ready=False)
        proc.allowed.add(1)
        assert proc.wait_exit() == 1
        assert stack.redis.client().zcard("wl:{0}:workers") == 0
    finally:
        harness.execute(stack.pg_sockets, f'DROP DATABASE "{name}" WITH (FORCE)')


# ---- the listener ----------------------------------------------------------------------------------

def test_no_listener_where_none_is_wanted(stack):
    proc = start(stack, WORKER_LISTEN="")
    assert "listening" not in proc.log()
    entry = stack.eventually(lambda: registry(stack))
    assert list(entry.values())[0]["listen"] == ""


@pytest.mark.parametrize("value, why", [("nowhere", "is not ADDRESS:PORT"), ("taken", "Address already in use")])
def test_an_address_that_cannot_be_used_is_refused(stack, value, why):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}" if value == "taken" else value
        stack.expect_errors("cannot start")
        proc = stack.start("scheduler", env={"WORKER_LISTEN": listen}, ready=False)
        proc.allowed.add(2)
        assert proc.wait_exit() == 2
    assert "WORKER_LISTEN" in proc.log() and why in proc.log()


def test_two_schedulers_have_a_port_each(stack):
    first, second = start(stack), start(stack)
    assert address(first) != address(second)
    stack.eventually(lambda: len(registry(stack)) == 2)


def test_clients_that_say_nothing_hold_nobody_up(stack):
    proc = start(stack)
    silent = [socket.create_connection(address(proc), 5) for _ in range(64)]
    try:
        before = time.monotonic()
        swept = None

        def answered():
            nonlocal swept
            try:
                swept = metrics(proc)["sweeps_total"]['result="done"']
            except (OSError, ValueError, IndexError):  # hung up on: too many are there
                return False
            return True

        # They have 5 s each; afterwards there is room.
        stack.eventually(answered, timeout=15)
        assert time.monotonic() - before < 15 * harness.SLOW
        # The scheduler did its work meanwhile: 100 ms between sweeps.
        assert swept > 5
        for link in silent:
            link.settimeout(10 * harness.SLOW)
            assert link.recv(1) == b""
    finally:
        for link in silent:
            link.close()


# ---- the registry ----------------------------------------------------------------------------------

def registry(stack):
    redis = stack.redis.client()
    found = {}
    for name, score in redis.zrange("wl:{0}:workers", 0, -1, withscores=True):
        fields = redis.hgetall(b"wl:{0}:worker:" + name)
        if fields:
            found[name.decode()] = {key.decode(): value.decode() for key, value in fields.items()} | {"score": score}
    return found


def test_a_process_is_in_the_registry_while_it_lives(stack):
    proc = start(stack)
    (name, entry), = stack.eventually(lambda: registry(stack)).items()
    host, pid, _ = name.split(":")
    assert (entry["program"], entry["host"], entry["pid"]) == ("whopline-scheduler", host, str(proc.pid)) == (
        "whopline-scheduler", socket.gethostname()[:63], pid)
    assert entry["queue"] == "" and entry["version"] and entry["listen"] == "%s:%d" % address(proc)
    assert abs(int(entry["started_ms"]) - time.time() * 1000) < 60_000
    # Written again and again, by Redis' clock.
    stack.eventually(lambda: registry(stack)[name]["score"] > entry["score"])
    stack.eventually(lambda: registry(stack)[name]["state"] == "working")
    stack.eventually(lambda: int(registry(stack)[name]["done"]) > 0)
    assert 0 < stack.redis.client().pttl(f"wl:{{0}}:worker:{name}") <= stack_lease(stack)
    proc.sigterm()
    assert not registry(stack) and stack.redis.client().zcard("wl:{0}:workers") == 0
    assert not stack.redis.client().keys("wl:{0}:worker:*")


def stack_lease(stack):
    """3 x LEASE_MS/3."""
    return int(stack.env["LEASE_MS"])


def test_a_killed_process_leaves_its_name_for_a_while(stack):
    proc = start(stack)
    stack.eventually(lambda: registry(stack))
    proc.kill9()
    stack.eventually(lambda: not registry(stack))
    assert stack.redis.client().zcard("wl:{0}:workers") == 1


def test_names_of_an_hour_ago_are_dropped(stack):
    redis = stack.redis.client()
    now = redis.time()[0] * 1000
    redis.zadd("wl:{0}:workers", {"old": now - 3_601_000, "missed": now - 3_500_000})
    start(stack)
    stack.eventually(lambda: registry(stack))
    names = redis.zrange("wl:{0}:workers", 0, -1)
    assert b"old" not in names and b"missed" in names


# ---- consumers that are gone -----------------------------------------------------------------------

def consumers(stack):
    return {found["name"].decode(): found["pending"] for found in stack.redis.client().xinfo_consumers(STREAM, "g")}


def make_consumers(stack):
    """Two with nothing pending, one with something."""
    redis = stack.redis.client()
    redis.xgroup_create(STREAM, "g", "0", mkstream=True)
    redis.xadd(STREAM, {"id": "x"})
    redis.xreadgroup("g", "holds", {STREAM: ">"})
    for name in ("idle", "own"):
        redis.xgroup_createconsumer(STREAM, "g", name)
    assert consumers(stack) == {"holds": 1, "idle": 0, "own": 0}


def test_idle_consumers_are_forgotten_unless_something_is_pending(stack):
    make_consumers(stack)
    proc = start(stack, CONSUMER_IDLE_MS=1000)
    stack.eventually(lambda: consumers(stack) == {"holds": 1})
    proc.wait_log("consumers that are long gone were forgotten")
    # For several of its looks, the one that holds something stays; and so does what it holds.
    done = metrics(proc)["sweeps_total"]['result="done"']
    stack.eventually(lambda: metrics(proc)["sweeps_total"]['result="done"'] > done + 25)
    assert consumers(stack) == {"holds": 1}


@pytest.mark.parametrize("idle, name, left", [
    (60_000, None, {"holds", "idle", "own"}),
    (0, None, {"holds"}),
    (0, "own", {"holds", "idle"}),
    (0, "holds", {"holds", "idle", "own"}),
    (60_000, "own", {"holds", "idle", "own"}),
    (0, "nobody", {"holds", "idle", "own"}),
])
def test_reap(stack, idle, name, left):
    make_consumers(stack)
    script = (harness.ROOT / "schema/redis/reap.lua").read_text(encoding="utf-8")
    args = [idle] + ([name] if name else [])
    gone = stack.redis.client().eval(script, 1, STREAM, "g", *args)
    assert set(consumers(stack)) == left and gone == 3 - len(left)
    assert stack.redis.client().xpending(STREAM, "g")["pending"] == 1


def test_reap_without_a_group_or_stream(stack):
    script = (harness.ROOT / "schema/redis/reap.lua").read_text(encoding="utf-8")
    redis = stack.redis.client()
    assert redis.eval(script, 1, STREAM, "g", 0) == 0
    redis.xadd(STREAM, {"id": "x"})
    assert redis.eval(script, 1, STREAM, "g", 0) == 0


# ---- settings --------------------------------------------------------------------------------------

def test_check_looks_at_the_address(stack):
    done = subprocess.run([str(stack.bin / "whopline-scheduler"), "--check"], capture_output=True, text=True,
                          env={**stack.env, "WORKER_LISTEN": "1.2.3.4"}, timeout=20, check=False)
    assert done.returncode == 2 and "WORKER_LISTEN" in done.stderr
