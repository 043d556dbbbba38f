"""whopline-ingest on its own, with a real Redis: what it accepts, what it refuses and how it ends.

Requests go over raw sockets, so that they can be as wrong, slow or cut up as a case needs.
"""
import json
import os
import resource
import signal
import socket
import threading
import time

import pytest

import harness
import whop
import wire

STREAM = "wl:{0}:events"
ALIASES = ("/webhooks/whop", "/webhooks/whop/default", "/api/webhooks", "/api/whop/webhook",
           "/api/webhooks/whop")
# Redis syncs its disk before it answers: on a busy one it takes its time.
SHORT = {"HTTP_HEADER_TIMEOUT_MS": 300, "HTTP_BODY_TIMEOUT_MS": 600, "HTTP_IDLE_TIMEOUT_MS": 900,
         "ACCEPT_TIMEOUT_MS": 400}
SHORT = {name: int(ms * (1 + harness.PACE)) for name, ms in SHORT.items()}


@pytest.fixture
def stack():
    """As everywhere, but without a database: ingest has none."""
    it = harness.Stack(None)
    yield it
    for proc in it.procs:  # one signal each: a second one means "at once"
        if proc.running():
            proc.sigterm()
    problems = it.close()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


# ---- requests and answers -------------------------------------------------------------------------

def head(method="POST", path=whop.PATH, version="HTTP/1.1", headers=(), host="Host: x\r\n"):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {path} {version}\r\n{host}{lines}\r\n".encode()


def post(body, path=whop.PATH, extra=(), without=(), length=True, **how):
    """The bytes of a signed delivery. without: names of headers to leave out."""
    headers, raw = whop.request(body, **how)
    pairs = [(name, value) for name, value in headers.items() if name not in without]
    if length:
        pairs.append(("Content-Length", len(raw)))
    return head(path=path, headers=pairs + list(extra)) + raw


def chunked(body, size=7):
    headers, raw = whop.request(body)
    out = head(headers=[*headers.items(), ("Transfer-Encoding", "chunked")])
    for at in range(0, len(raw), size):
        part = raw[at:at + size]
        out += b"%x\r\n%s\r\n" % (len(part), part)
    return out + b"0\r\n\r\n"


class Link:
    """A connection that is kept, and its answers one by one."""

    def __init__(self, stack, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", stack.http_port), timeout * harness.SLOW)
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        """(status, headers) of the next answer, or None if the other side has closed."""
        while b"\r\n\r\n" not in self.seen:
            more = self.socket.recv(65536)
            if not more:
                assert self.seen == b"", self.seen
                return None
            self.seen += more
        text, self.seen = self.seen.split(b"\r\n\r\n", 1)
        lines = text.decode("ascii").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        status = int(lines[0].split()[1])
        assert status == 100 or headers["content-length"] == "0"
        return status, headers

    def ask(self, data):
        self.send(data)
        return self.answer()[0]


def status_of(stack, data):
    """Status of the only answer to these bytes, on a connection of their own."""
    with Link(stack) as link:
        link.send(data)
        return link.answer()[0]


def refusal(stack, data):
    """Status of an answer after which the connection must be closed in an orderly way."""
    with Link(stack) as link:
        link.send(data)
        status, headers = link.answer()
        assert headers["connection"] == "close"
        assert link.answer() is None
        return status


def entries(stack):
    found = stack.redis.client().xrange(STREAM)
    return [{name.decode(): value for name, value in fields.items()} for _, fields in found]


def metric(stack, name):
    text = whop_get(stack, "/metrics")[1]
    for line in text.splitlines():
        if line.startswith(f"whopline_ingest_{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no {name} in\n{text}")


def whop_get(stack, path, method="GET"):
    link = socket.create_connection(("127.0.0.1", stack.private_port), 5)
    with link:
        link.sendall(head(method, path))
        answer = b""
        while more := link.recv(65536):
            answer += more
    text, body = answer.split(b"\r\n\r\n", 1)
    return int(text.split()[1]), body.decode()


# ---- what is accepted -----------------------------------------------------------------------------

@pytest.mark.parametrize("shape", whop.SHAPES)
def test_valid_event_is_in_redis_before_200(stack, shape):
    stack.start("ingest")
    body = whop.payment(shape)
    headers, raw = whop.request(body)
    before = int(time.time() * 1000)
    with whop.Sender(stack) as sender:
        assert sender.post(headers, raw) == 200
        assert sender.post(headers, raw) == 200
    (entry,) = entries(stack)
    assert entry["body"] == raw
    job = wire.read_envelope(entry["job"])
    assert job["kind"] == "journal.event" and job["version"] == 1 and job["payload"]
    assert before <= job["enqueued_ms"] <= time.time() * 1000
    if "webhook-id" in headers:
        assert entry["id"].decode() == "default/" + headers["webhook-id"]
    else:
        mac = headers["x-whop-signature"].split("v1=")[1]
        assert entry["id"].decode() == "default/mac:" + mac
    assert metric(stack, 'accepts_total{verdict="new"}') == 1
    assert metric(stack, 'accepts_total{verdict="duplicate"}') == 1
    assert metric(stack, 'verifications_total{result="ok"}') == 2


def test_paths_secrets_and_odd_bodies_that_are_accepted(stack):
    other = "ws_other"
    stack.start("ingest", env={"WHOP_WEBHOOK_SECRET": f"{other}, {whop.SECRET}"})
    with Link(stack) as link:
        for path in ALIASES:
            assert link.ask(post(whop.payment(), path=path)) == 200
        assert link.ask(post(whop.payment(), path=whop.PATH + "?a=b")) == 200
        assert link.ask(post(whop.payment(), secret=other)) == 200
        assert link.ask(post(whop.payment(), without=["content-type"],
                             extra=[("Content-Type", "Application/JSON; charset=utf-8"),
                                    ("Content-Encoding", "identity")])) == 200
        for odd in (b"", b"not json", b"[1]", b'{"type":"no.such.kind","data":{}}'):
            assert link.ask(post(odd)) == 200, odd
    assert len(entries(stack)) == len(ALIASES) + 3 + 4
    assert metric(stack, "quarantined_total") >= 2


def test_any_cut_of_the_input(stack):
    stack.start("ingest")
    first, second = whop.payment(), whop.payment("v5")
    with Link(stack) as link:
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(first) + post(second):
            link.send(bytes([byte]))
        assert link.answer()[0] == 200 and link.answer()[0] == 200
        assert link.ask(chunked(whop.payment())) == 200
        assert link.ask(chunked(whop.payment(), size=1000)) == 200
    bodies = [entry["body"] for entry in entries(stack)]
    assert len(bodies) == 4 and bodies[0] == json.dumps(first, ensure_ascii=False).encode()


def test_pipelined_requests_are_answered_in_order(stack):
    stack.start("ingest")
    with Link(stack) as link:
        link.send(post(whop.payment()) + head("GET") + post(whop.payment(), secret="ws_x") +
                  post(whop.payment("v2")) + head("GET", "/nowhere"))
        assert [link.answer()[0] for _ in range(5)] == [200, 405, 401, 200, 404]
        many = [whop.payment() for _ in range(200)]
        link.send(b"".join(map(post, many)))  # more than one read of the server's
        assert [link.answer()[0] for _ in many] == [200] * 200
    assert len(entries(stack)) == 202


def test_half_closed_connection_gets_its_answers(stack):
    stack.start("ingest")
    with Link(stack) as link:
        link.send(post(whop.payment()) * 2)
        link.socket.shutdown(socket.SHUT_WR)
        assert link.answer()[0] == 200 and link.answer()[0] == 200
        assert link.answer() is None


def test_connection_close_and_http_1_0(stack):
    stack.start("ingest")
    assert refusal(stack, post(whop.payment(), extra=[("Connection", "close")])) == 200
    old = post(whop.payment()).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert refusal(stack, old) == 200


def test_100_continue_comes_after_the_cheap_checks(stack):
    stack.start("ingest")
    expect = [("Expect", "100-continue")]
    whole = post(whop.payment(), extra=expect)
    cut = whole.index(b"\r\n\r\n") + 4
    with Link(stack) as link:
        assert link.ask(whole[:cut]) == 100
        assert link.ask(whole[cut:]) == 200
    assert refusal(stack, post(b"x", without=["webhook-id"], extra=expect)[:-1]) == 401
    assert refusal(stack, post(b"x", extra=[("Expect", "a-miracle")])) == 417


# ---- what is refused ------------------------------------------------------------------------------

def test_signatures_that_are_refused(stack):
    proc = stack.start("ingest", env={"LOG_LEVEL": "debug"})
    body = whop.payment()
    now = int(time.time())
    unauthorised = {
        "wrong secret": post(body, secret="ws_x"),
        "changed body": post(body).replace(b'"currency"', b'"Currency"'),
        "too old": post(body, timestamp=now - 301 - 5),
        "too new": post(body, timestamp=now + 301 + 5),
        "no signature": post(body, without=["webhook-signature"]),
        "no id": post(body, without=["webhook-id"]),
        "no timestamp": post(body, without=["webhook-timestamp"]),
        "nothing": post(body, scheme="none"),
        "no time": post(body, timestamp="yesterday"),
        "legacy, wrong": post(body, scheme="legacy", secret="ws_x"),
        "legacy, old": post(body, scheme="legacy", timestamp=now - 1000),
        "bare": post(body, scheme="none", extra=[("x-whop-signature", "ab" * 32)]),
        "unknown endpoint": post(body, path=whop.PATH + "/other"),
    }
    for name, data in unauthorised.items():
        with Link(stack) as link:
            link.send(data)
            status, headers = link.answer()
            assert status == 401, name
            assert not set(headers) - {"date", "content-length", "connection"}, name
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature", "x-whop-signature",
                 "content-type"):
        twice = [(name, "v1,AAAA")] * 2
        assert refusal(stack, post(body, without=[name], extra=twice)) == 400, name
    assert entries(stack) == []
    log = proc.log()
    assert "signature refused" in log and "suppressed=" in log
    for secret in (whop.SECRET, "marisol@example.com", "v1,", body["data"]["id"]):
        assert secret not in log
    # A wrong MAC leaves nothing unread: the connection may go on.
    with Link(stack) as link:
        assert link.ask(post(body, secret="ws_x")) == 401
        assert link.ask(post(body)) == 200


def test_requests_that_are_refused(stack):
    stack.start("ingest", env={"HTTP_MAX_BODY": 4096, "HTTP_MAX_HEADER_BYTES": 2048,
                               "HTTP_MAX_HEADERS": 20})
    body = whop.payment()
    good = post(body)
    cases = [
        (404, post(body, path="/")), (404, post(body, path="/webhooks")),
        (404, post(body, path="/webhooks/whopp")), (404, post(body, path="/metrics")),
        (405, head("GET")), (405, head("DELETE")), (405, head("GET", whop.PATH + "/other")),
        (411, post(b"", length=False)),
        (413, post(b"x" * 4097)), (413, post(b"", length=False, extra=[("Content-Length", 10**12)])),
        (414, head(path="/" + "a" * 4000)),
        (415, post(body, without=["content-type"])),
        (415, post(body, without=["content-type"], extra=[("Content-Type", "text/json")])),
        (415, post(body, without=["content-type"], extra=[("Content-Type", "application/jsonx")])),
        (415, post(body, extra=[("Content-Encoding", "gzip")])),
        (431, post(body, extra=[("X", "a" * 4000)])),
        (431, post(body, extra=[(f"X-{i}", "a") for i in range(20)])),
        (501, post(body, length=False, extra=[("Transfer-Encoding", "gzip, chunked")])),
        (505, good.replace(b"HTTP/1.1", b"HTTP/2.0", 1)),
        (400, b"nonsense\r\n\r\n"), (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, good.replace(b"Host: x\r\n", b"", 1)),
        (400, good.replace(b"Host: x\r\n", b"Host: x\r\nHost: y\r\n", 1)),
        (400, post(body, extra=[("Transfer-Encoding", "chunked")])),
        (400, post(body, extra=[("Content-Length", 5)])),
        (400, post(body, length=False, extra=[("Content-Length", "+5")])),
        (400, good.replace(b"\r\n", b"\n")),
        (400, chunked(body).replace(b"\r\n7\r\n", b"\r\n0x7\r\n", 1)),
    ]
    for expected, data in cases:
        with Link(stack) as link:
            link.send(data)
            status, headers = link.answer()
            assert status == expected, data[:300]
            assert ("allow" in headers) == (status == 405)
            if status not in (405, 411, 404):
                assert headers["connection"] == "close"
                assert link.answer() is None
    assert status_of(stack, good) == 200
    assert metric(stack, 'responses_total{code="505"}') == 1


def test_a_refusal_is_seen_although_the_body_is_still_coming(stack):
    stack.start("ingest")
    big = post(b"x" * 900_000, secret="ws_x", without=["webhook-id"])
    for _ in range(20):
        assert refusal(stack, big) == 401


def test_slow_senders(stack):
    stack.start("ingest", env=SHORT)
    whole = post(whop.payment())
    cut = whole.index(b"\r\n\r\n") + 4
    for begun in (b"P", whole[:cut - 1], whole[:cut], whole[:-1]):
        began = time.monotonic()
        assert refusal(stack, begun) == 408
        assert time.monotonic() - began < SHORT["HTTP_BODY_TIMEOUT_MS"] / 1000 + 1.5 * harness.SLOW
    with Link(stack) as link:  # idle: closed without a word
        assert link.ask(whole) == 200
        assert link.answer() is None
    assert len(entries(stack)) == 1


@pytest.mark.limit(30)
def test_a_body_that_trickles_in(stack):
    stack.start("ingest", env={"HTTP_BODY_TIMEOUT_MS": 60000, "HTTP_BODY_MIN_RATE": 1000})
    with Link(stack) as link:
        link.send(post(b"x" * 100_000)[:-96_000])  # 4 kB at once, then nothing: too slow after 4 s
        began = time.monotonic()
        assert link.answer()[0] == 408
        assert 3.5 < time.monotonic() - began < 8 * harness.SLOW


def test_limits_on_what_is_held(stack):
    stack.start("ingest", env={"HTTP_MAX_CONNECTIONS": 3, "HTTP_MAX_BODY_IN_FLIGHT": 1572864})
    links = [Link(stack) for _ in range(3)]
    for link in links:
        assert link.ask(post(whop.payment())) == 200
    with Link(stack, timeout=10) as waiting:  # in the kernel's backlog
        waiting.send(post(whop.payment()))
        waiting.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            waiting.answer()
        links.pop().socket.close()
        waiting.socket.settimeout(10 * harness.SLOW)
        assert waiting.answer()[0] == 200
    # A body of 0.7 MB takes a buffer of 1 MiB, so there is no room for two: one is put off.
    half = post(b"x" * 700_000)
    links[0].send(half[:-10])
    stack.eventually(lambda: metric(stack, "body_bytes") >= 700_000)
    links[1].send(half)
    status, headers = links[1].answer()
    assert status == 503 and headers["retry-after"]
    links[0].send(half[-10:])
    assert links[0].answer()[0] == 200
    for link in links:
        link.socket.close()
    stack.eventually(lambda: metric(stack, "connections") == 0 and metric(stack, "body_bytes") == 0)


# ---- Redis ----------------------------------------------------------------------------------------

def test_redis_down_and_back(stack):
    proc = stack.start("ingest", env=SHORT)
    assert whop.send(stack, whop.payment()) == 200
    stack.redis.stop()
    stack.eventually(lambda: whop_get(stack, "/readyz")[0] == 503)
    assert whop_get(stack, "/livez")[0] == 200
    with Link(stack) as link:
        began = time.monotonic()
        link.send(post(whop.payment()))
        status, headers = link.answer()
        assert status == 503 and int(headers["retry-after"]) > 0
        assert time.monotonic() - began < SHORT["ACCEPT_TIMEOUT_MS"] / 1000 + 0.6 * harness.SLOW
    stack.redis.start()
    stack.eventually(lambda: whop_get(stack, "/readyz")[0] == 200)
    assert whop.send(stack, whop.payment()) == 200
    assert len(entries(stack)) == 2
    assert proc.running()


def test_redis_that_does_not_answer(stack):
    stack.start("ingest", env=SHORT)
    body = whop.payment()
    stack.redis.process.send_signal(signal.SIGSTOP)
    try:
        with Link(stack) as link, Link(stack) as gone:
            gone.send(post(whop.payment()))
            began = time.monotonic()
            link.send(post(body))
            status, headers = link.answer()
            assert status == 503 and headers["retry-after"]
            assert 0.3 < time.monotonic() - began < SHORT["ACCEPT_TIMEOUT_MS"] / 1000 + 1.6 * harness.SLOW
    finally:
        stack.redis.process.send_signal(signal.SIGCONT)
    stack.eventually(lambda: whop_get(stack, "/readyz")[0] == 200)
    assert whop.send(stack, body) == 200  # the repetition, whether or not the first one got in
    ids = [entry["id"] for entry in entries(stack)]
    assert len(ids) == len(set(ids)) and b"default/" + body["id"].encode() in ids
    stack.eventually(lambda: metric(stack, "unanswered") == 0 and metric(stack, "connections") == 0)


def test_redis_refuses_the_event(stack):
    stack.start("ingest")
    client = stack.redis.client()
    client.config_set("maxmemory", 1)
    assert whop.send(stack, whop.payment()) == 503
    client.config_set("maxmemory", 0)
    assert whop.send(stack, whop.payment()) == 200
    assert metric(stack, 'accepts_total{verdict="failed"}') == 1
    client.script_flush()
    assert whop.send(stack, whop.payment()) == 200


def test_unanswered_events_are_bounded(stack):
    stack.start("ingest", env={"HTTP_MAX_UNANSWERED": 2, "ACCEPT_TIMEOUT_MS": 5000})
    stack.redis.process.send_signal(signal.SIGSTOP)
    links = [Link(stack) for _ in range(3)]
    try:
        for link in links[:2]:
            link.send(post(whop.payment()))
        stack.eventually(lambda: metric(stack, "unanswered") == 2)
        assert links[2].ask(post(whop.payment())) == 503
    finally:
        stack.redis.process.send_signal(signal.SIGCONT)
    assert [link.answer()[0] for link in links[:2]] == [200, 200]
    for link in links:
        link.socket.close()


def test_peer_gone_before_the_answer(stack):
    proc = stack.start("ingest")
    stack.redis.process.send_signal(signal.SIGSTOP)
    linger_zero = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # close sends RST
    for reset in (False, True):
        link = Link(stack)
        link.send(post(whop.payment()))
        stack.eventually(lambda: metric(stack, "unanswered") == 1 + reset)
        if reset:
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        link.socket.close()
    stack.redis.process.send_signal(signal.SIGCONT)
    stack.eventually(lambda: metric(stack, "unanswered") == 0 and metric(stack, "connections") == 0)
    assert len(entries(stack)) == 2
    assert proc.running() and whop.send(stack, whop.payment()) == 200


def test_killed_after_accept_before_200(stack):
    body = whop.payment()
    proc = stack.start("ingest", fault="after_accept_before_200:kill")
    with Link(stack) as link:
        link.send(post(body))
        with pytest.raises((ConnectionResetError, AssertionError, TypeError)):
            link.answer()[0]
    assert proc.wait_exit() == -signal.SIGKILL
    assert len(entries(stack)) == 1
    stack.start("ingest")
    assert whop.send(stack, body) == 200
    assert len(entries(stack)) == 1
    assert metric(stack, 'accepts_total{verdict="duplicate"}') == 1


def test_fault_before_accept(stack):
    stack.start("ingest", fault="before_accept:fail@1")
    body = whop.payment()
    with Link(stack) as link:
        assert link.ask(post(body)) == 503
        assert link.ask(post(body)) == 200
    assert len(entries(stack)) == 1


# ---- start and end --------------------------------------------------------------------------------

@pytest.mark.parametrize("setting, value, said", [
    ("appendonly", "no", "appendonly yes"), ("appendfsync", "everysec", "appendfsync always"),
    ("maxmemory-policy", "allkeys-lru", "noeviction")])
def test_unsafe_redis_is_refused(stack, setting, value, said):
    stack.redis.client().config_set(setting, value)
    stack.expect_errors("must not be given events")
    proc = stack.start("ingest", ready=False)
    proc.allowed.add(1)
    assert proc.wait_exit() == 1
    assert said in proc.log()
    stack.start("ingest", env={"ALLOW_VOLATILE_REDIS": "true"})
    assert whop.send(stack, whop.payment()) == 200


def test_redis_that_comes_back_unsafe_is_not_used(stack):
    stack.start("ingest")
    stack.expect_errors("must not be given events")
    stack.redis.client().config_set("appendfsync", "everysec")
    stack.redis.client().client_kill_filter(skipme=True)
    stack.eventually(lambda: whop_get(stack, "/readyz")[0] == 503)
    assert whop.send(stack, whop.payment()) == 503


def test_all_problems_at_once(stack):
    proc = stack.start("ingest", ready=False, env={
        "WHOP_WEBHOOK_SECRET": "", "HTTP_MAX_BODY": "lots", "LOG_LEVEL": "loud"})
    proc.allowed.add(2)
    assert proc.wait_exit() == 2
    for name in ("WHOP_WEBHOOK_SECRET", "HTTP_MAX_BODY", "LOG_LEVEL"):
        assert name in proc.log()
    proc = stack.start("ingest", ready=False, env={
        "WHOP_WEBHOOK_SECRET": "a,b,c,d,e", "HTTP_LISTEN": "nowhere", "PRIVATE_LISTEN": "x:y",
        "WEBHOOK_SCHEMES": "rot13", "REDIS_URL": "http://x", "STREAM_PREFIX": "p" * 33})
    proc.allowed.add(2)
    assert proc.wait_exit() == 2
    for name in ("WHOP_WEBHOOK_SECRET", "HTTP_LISTEN", "PRIVATE_LISTEN", "WEBHOOK_SCHEMES",
                 "REDIS_URL", "STREAM_PREFIX"):
        assert f"\n{name}" in proc.log(), name


def test_limit_of_open_files(stack):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The tests' own process may have many open: it is what is lowered, for ingest to inherit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 64, hard))
    try:
        stack.start("ingest", env={"HTTP_MAX_CONNECTIONS": min(hard, 4096) - 200})  # raises it
        assert whop.send(stack, whop.payment()) == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if hard < 65536:
        proc = stack.start("ingest", ready=False, env={"HTTP_MAX_CONNECTIONS": 65536})
        proc.allowed.add(2)
        assert proc.wait_exit() == 2
        assert "ulimit -n" in proc.log()


def test_port_in_use(stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stack.expect_errors("cannot start")
        port = taken.getsockname()[1]
        proc = stack.start("ingest", ready=False, env={"HTTP_LISTEN": f"127.0.0.1:{port}"})
        proc.allowed.add(1)
        assert proc.wait_exit() == 1
        assert str(port) in proc.log()


def test_private_listener(stack):
    stack.start("ingest")
    assert whop_get(stack, "/livez") == (200, "ok\n")
    assert whop_get(stack, "/readyz") == (200, "ok\n")
    assert whop_get(stack, "/nothing")[0] == 404
    assert whop_get(stack, "/livez", "POST")[0] == 405
    for bad in (b"nonsense\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", stack.private_port), 5) as link:
            link.sendall(bad)
            link.shutdown(socket.SHUT_WR)
            assert link.recv(100).startswith(b"HTTP/1.1 400" if bad else b"")
    status, text = whop_get(stack, "/metrics")
    assert status == 200
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    for line in text.splitlines():
        assert line.startswith("#") or line.split("{")[0].split()[0] in names, line


def test_drain_ends_what_is_in_flight(stack):
    proc = stack.start("ingest", env={"HTTP_DRAIN_MS": 5000, "ACCEPT_TIMEOUT_MS": 5000})
    whole = post(whop.payment())
    with Link(stack) as idle, Link(stack) as waiting, Link(stack) as reading, Link(stack) as begun:
        assert idle.ask(post(whop.payment())) == 200
        stack.redis.process.send_signal(signal.SIGSTOP)
        waiting.send(post(whop.payment()) * 2)
        reading.send(whole[:-1])
        begun.send(whole[:10])
        stack.eventually(lambda: metric(stack, "unanswered") == 1)
        proc.sigterm(wait=False)
        stack.eventually(lambda: whop_get(stack, "/readyz")[0] == 503)
        assert idle.answer() is None
        with pytest.raises(ConnectionRefusedError):
            Link(stack)
        begun.send(whole[10:])
        status, headers = begun.answer()
        assert status == 503 and headers["retry-after"] and headers["connection"] == "close"
        stack.redis.process.send_signal(signal.SIGCONT)
        reading.send(whole[-1:])
        for link in (reading, waiting):
            status, headers = link.answer()
            assert status == 200 and headers["connection"] == "close"
    assert proc.wait_exit() == 0
    assert len(entries(stack)) == 3


def test_drain_is_bounded(stack):
    proc = stack.start("ingest", env={"HTTP_DRAIN_MS": 300, "ACCEPT_TIMEOUT_MS": 20000})
    with Link(stack) as slow, Link(stack) as waiting:
        slow.send(post(whop.payment())[:-1])
        stack.redis.process.send_signal(signal.SIGSTOP)
        waiting.send(post(whop.payment()))
        stack.eventually(lambda: metric(stack, "unanswered") == 1)
        began = time.monotonic()
        assert proc.sigterm() == 0
        assert time.monotonic() - began < 3 * harness.SLOW
    stack.redis.process.send_signal(signal.SIGCONT)


def test_a_second_signal_ends_it_at_once(stack):
    proc = stack.start("ingest", env={"HTTP_DRAIN_MS": 60000})
    with Link(stack) as link:
        link.send(post(whop.payment())[:-1])
        stack.eventually(lambda: metric(stack, "connections") == 1)
        proc.send(signal.SIGTERM)
        proc.wait_log("stopping")
        proc.send(signal.SIGTERM, 1)
        assert proc.wait_exit() == 1


@pytest.mark.limit(120)
def test_sigterm_under_load_loses_nothing_acknowledged(stack):
    acknowledged, lock, over = [], threading.Lock(), threading.Event()

    def sender():
        while not over.is_set():
            try:
                with Link(stack, timeout=5) as link:
                    while not over.is_set():
                        body = whop.payment()
                        link.send(post(body))
                        answer = link.answer()
                        if answer is None:
                            break
                        if answer[0] == 200:
                            with lock:
                                acknowledged.append("default/" + body["id"])
            except OSError:
                time.sleep(0.01)

    proc = stack.start("ingest")
    threads = [threading.Thread(target=sender) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            time.sleep(0.7)
            assert proc.sigterm() == 0
            proc = stack.start("ingest")
        # And once with two at the port, as a rolling restart has it.
        new = stack.start("ingest", env={"PRIVATE_LISTEN": ""}, ready=False)
        new.wait_log("accepting events")
        assert proc.sigterm() == 0
        time.sleep(0.3)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    kept = {entry["id"].decode() for entry in entries(stack)}
    assert len(acknowledged) > 100
    assert set(acknowledged) <= kept
