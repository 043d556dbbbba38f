"""Calls to the outside by slots: what becomes of them, how they end when their job is to stop, and
budgets, freezes and breakers that all processes keep."""
import http.server
import os
import re
import threading
import time
import urllib.request

import pytest

import harness
from test_probe import effects, put, put_one, state


class Outside:
    """A server that answers as told and notes when each request arrived."""

    def __init__(self):
        self.calls, self.answer = [], lambda path: (200, {}, b"{}")
        outside = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                outside.calls.append((time.monotonic(), self.path))
                status, headers, body = outside.answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass  # a caller that has been stopped does not wait for its answer

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def outside():
    it = Outside()
    yield it
    it.close()


def start(stack, outside, count=1, scheduler=True, **env):
    env = {"PROBE_URL": outside.url, "HTTP_ALLOW_PRIVATE": "true", **env}
    probes = [stack.start("probe", env=env) for _ in range(count)]
    if scheduler:
        stack.start("scheduler")
    return probes


def test_calls_of_many_slots(stack, outside):
    start(stack, outside, SLOTS=16)
    jobs = put(stack, "get", [f"/n{i}" for i in range(200)], 60000)
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM probe_effects") == [(200,)], 20)
    assert len(outside.calls) == 200 and len({path for _, path in outside.calls}) == 200
    assert {state(stack, job)[0] for job in jobs} == {"done"}


def test_a_private_address_is_refused(stack, outside):
    start(stack, outside, HTTP_ALLOW_PRIVATE="false")
    job = put_one(stack, "get", "/secret?token=abc", 60000)
    stack.eventually(lambda: state(stack, job)[3] > 1)
    log = stack.proc("probe").log()
    assert "HTTP_ALLOW_PRIVATE" in log and "abc" not in log
    assert not outside.calls


def limits(stack):
    found = stack.cli_json("limits")
    return {(it["credential"], it["operation"]): it for it in found}


# ---- budgets


def fullest(times, seconds):
    """The most calls in any such span."""
    times, first, most = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def run_load(stack, outside, rate, seconds, processes=8, events_share=0.4):
    """Saturates a budget of `rate` a minute by bulk, events beside it; (bulk, events that arrived)."""
    start(stack, outside, processes, SLOTS=4, RELAY_STALE_MS=600000)
    bulk = int(rate / 60 * seconds * 1.2)
    put(stack, "get", [f"/bulk/{i}" for i in range(bulk)], -rate)
    stack.eventually(lambda: len(outside.calls) > 10, 20)
    began = time.monotonic()
    sent, events = {}, rate / 60 * events_share
    while (now := time.monotonic()) < began + seconds:
        due = int((now - began) * events) - len(sent)
        labels = [f"/event/{len(sent) + i}" for i in range(due)]
        if labels:
            put(stack, "get", labels, rate, age="0 seconds")
            sent.update(dict.fromkeys(labels, time.monotonic()))
        time.sleep(0.1)
    return began, sent


def check_load(outside, rate, window, seconds, began, sent):
    calls = [(at, path) for at, path in outside.calls if began <= at < began + seconds]
    allowed = rate / 60 * seconds
    most = fullest([at for at, _ in outside.calls], window)
    arrived = {path: at for at, path in outside.calls}
    waits = sorted(arrived[path] - at for path, at in sent.items() if at < began + seconds - 2)
    said = (f"{len(calls)} of {allowed:.0f} used, at most {most} in {window} s, events waited "
            f"{waits[len(waits) // 2]:.3f} s (half of them), {waits[-1]:.3f} s at worst")
    print(said)
    assert most <= rate / 60 * window, said
    assert len(calls) >= 0.95 * allowed, said
    assert waits[-1] < 2, said


@pytest.mark.limit(300)
def test_a_budget_is_kept_and_used_by_eight_processes(stack, outside):
    """3,000 a minute in any 10 s; with WHOPLINE_TEST_LONG=1 600 a minute in any 60 s, for two minutes."""
    rate, window, seconds = (600, 60, 120) if os.environ.get("WHOPLINE_TEST_LONG") else (3000, 10, 10)
    began, sent = run_load(stack, outside, rate, seconds)
    stack.eventually(lambda: set(sent) <= {path for _, path in outside.calls}, 20)
    check_load(outside, rate, window, seconds, began, sent)
    arrived, it = len(outside.calls), limits(stack)["probe", "probe.get"]
    assert it["calls"] >= arrived and it["interval_us"] == 60000000 // rate * 103 // 100
    assert "probe.get" in stack.cli("limits").stdout


def test_bulk_alone_has_its_share(stack, outside):
    start(stack, outside, 2, SLOTS=8)
    put(stack, "get", [f"/bulk/{i}" for i in range(800)], -3000)
    stack.eventually(lambda: len(outside.calls) > 170, 20)  # at first it makes up for a second
    began = time.monotonic()
    time.sleep(6)
    calls = sum(began <= at < began + 6 for at, _ in outside.calls)
    assert 0.9 * 210 <= calls <= 1.02 * 210, f"{calls} in 6 s, of 300 that all together may make"


def test_nobody_calls_while_it_is_frozen(stack, outside):
    """A 429 of one process stops all eight: what was on the wire may arrive, nothing else does."""
    wait_s, frozen = 4, []

    def answer(path):
        if path == "/n40" and not frozen:
            frozen.append(time.monotonic())
            return 429, {"Retry-After": str(wait_s)}, b""
        return 200, {}, b"{}"

    outside.answer = answer
    start(stack, outside, 8, SLOTS=4)
    jobs = put(stack, "get", [f"/n{i}" for i in range(200)], 3000)
    stack.eventually(lambda: frozen, 20, every=0.01)
    stack.eventually(lambda: stack.redis.client().hget("wl:{b:probe}:probe.get", "f"), every=0.01)
    known = time.monotonic() - frozen[0]  # its answer has to be on its way first
    assert known < wait_s / 2
    stack.eventually(lambda: limits(stack)["probe", "probe.get"]["frozen_ms"] > 2000)
    stack.eventually(lambda: len({path for _, path in outside.calls}) == 200, 40)
    calls = sorted(at - frozen[0] for at, _ in outside.calls)
    meanwhile = [at for at in calls if known + 0.3 < at < wait_s]
    assert not meanwhile, f"{len(meanwhile)} calls while frozen, the last {meanwhile[-1]:.2f} s after the 429"
    assert sum(0 < at <= known + 0.3 for at in calls) <= 20 + known * 3000 / 60
    stack.eventually(lambda: {state(stack, job)[0] for job in jobs} == {"done"}, 20)
    assert {state(stack, job)[3] for job in jobs} == {0}  # a 429 is no attempt
    assert 'whopline_limited_total{op="probe.get",why="frozen"}' in metrics(stack)


def test_a_later_freeze_does_not_shorten_an_earlier_one(stack, outside):
    answers = {"/long": "30", "/short": "1"}
    outside.answer = lambda path: (time.sleep(0.3), (429, {"Retry-After": answers[path]}, b""))[1]
    start(stack, outside)
    put(stack, "get", ["/long", "/short"], 60000)
    stack.eventually(lambda: len(outside.calls) == 2)
    stack.eventually(lambda: limits(stack)["probe", "probe.get"]["frozen_ms"] > 20000)
    time.sleep(1.5)  # the shorter one would be over
    assert limits(stack)["probe", "probe.get"]["frozen_ms"] > 20000 and len(outside.calls) == 2


def metrics(stack):
    probe = stack.proc("probe")
    address = re.search(r'msg=listening.*address="?([\d.:]+)', probe.log()).group(1)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return answer.read().decode()


# ---- breakers


def test_a_host_that_fails_is_left_alone_and_tried_again(stack, outside):
    healthy = []
    outside.answer = lambda path: (200 if healthy else 503, {}, b"")
    open_ms = int(1500 * harness.PACE)
    start(stack, outside, SLOTS=1, BREAKER_OPEN_MS=open_ms)
    jobs = put(stack, "get", [f"/n{i}" for i in range(8)], 60000)
    stack.proc("probe").wait_log("the host is left alone")
    assert len(outside.calls) == 5
    stack.eventually(lambda: len(outside.calls) == 6)  # one tries, and fails
    assert outside.calls[5][0] - outside.calls[4][0] > open_ms / 1000 - 0.1
    # The server knows of the call before its caller has the answer.
    stack.eventually(lambda: 'whopline_http_requests_total{op="probe.get",code="503"} 6' in metrics(stack))
    stack.eventually(lambda: "whopline_breakers_open 1" in metrics(stack))
    healthy.append(True)
    stack.eventually(lambda: {state(stack, job)[0] for job in jobs} == {"done"})
    assert sum(state(stack, job)[3] for job in jobs) == 6  # what was not called is no attempt
    assert "whopline_breakers_open 0" in metrics(stack)
    assert 'whopline_http_seconds_count{op="probe.get"} 14' in metrics(stack)


# ---- calls end when their job is to stop


class Hang:
    """An answer that does not come until release()."""

    def __init__(self, outside, only=1):
        self.released, self.left = threading.Event(), only
        outside.answer = self.answer

    def answer(self, _):
        if self.left > 0:
            self.left -= 1
            self.released.wait(30)
        return 200, {}, b"{}"


@pytest.fixture
def hang(outside):
    it = Hang(outside)
    yield it
    it.released.set()


def test_a_call_that_takes_too_long_is_cancelled(stack, outside, hang):
    probe, = start(stack, outside, MAX_RUN_MS=int(600 * harness.SLOW), CANCEL_GRACE_MS=5000)
    job = put_one(stack, "get", "/slow", 60000)
    probe.wait_log("takes too long and is cancelled")
    stack.eventually(lambda: state(stack, job)[0] == "done")
    assert state(stack, job)[3] == 1 and len(outside.calls) == 2 and probe.running()
    assert "longer than a probe.get may run" in probe.log()
    assert 'code="lost"} 1' in metrics(stack) and 'code="200"} 1' in metrics(stack)


def test_waiting_for_its_moment_ends_with_the_job(stack, outside):
    """The second call has to wait a second for its moment, longer than it may run."""
    probe, = start(stack, outside, MAX_RUN_MS=300, CANCEL_GRACE_MS=5000)
    put(stack, "get", ["/a", "/b"], 66)
    probe.wait_log("takes too long and is cancelled")
    stack.eventually(lambda: "longer than a probe.get may run" in probe.log(), 5)


def test_a_lost_lease_ends_the_call(stack, outside, hang):
    probe, = start(stack, outside, LEASE_MS=600)
    job = put_one(stack, "get", "/slow", 60000)
    stack.eventually(lambda: len(outside.calls) == 1)
    redis = stack.redis.client()
    entry = redis.xpending_range("wl:{0}:q:probe", "g", "-", "+", 1)[0]
    redis.xclaim("wl:{0}:q:probe", "g", "somebody", 0, [entry["message_id"]])
    probe.wait_log("stopped: another worker has it")
    stack.eventually(lambda: state(stack, job)[0] == "done", 20)
    assert len(outside.calls) == 2


def test_a_shutdown_ends_calls_when_the_grace_is_over(stack, outside, hang):
    probe, = start(stack, outside, SHUTDOWN_GRACE_MS=500)
    job = put_one(stack, "get", "/slow", 60000)
    stack.eventually(lambda: len(outside.calls) == 1)
    began = time.monotonic()
    probe.sigterm()
    assert time.monotonic() - began < 5 * harness.SLOW
    assert "the call was sent and no answer came: it was cancelled" in probe.log()
    start(stack, outside, scheduler=False)
    stack.eventually(lambda: state(stack, job)[0] == "done")
    assert len(outside.calls) == 2 and effects(stack, job) == 1


def test_redis_away_is_no_attempt(stack, outside):
    probe, = start(stack, outside)
    stack.sql("SELECT 1")
    stack.redis.kill9()
    probe.wait_log("Redis is away")
    stack.redis.start()
    job = put_one(stack, "get", "/n", 60000)
    stack.eventually(lambda: state(stack, job)[0] == "done", 20)
    assert state(stack, job)[3] == 0
