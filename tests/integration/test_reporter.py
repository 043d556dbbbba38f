"""Error reports: what is sent to SENTRY_DSN, what is not, and that nobody is held up by it.

The server is a real one, here; whopline-report-probe has the dead jobs and crashes happen. What a
report must not hold is looked for in everything that has come over the wire.
"""
import http.server
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import threading
import time

import pytest

import harness
import test_probe
import whop

KEY = "0123456789abcdef0123456789abcdef"
# For the last reports, after the program's end: LINGER_MS in report/main.c, and some air.
LINGERS = 6
# Until the test has found the reporter and done something to it.
BRIEFLY = f"sleep {int(500 + 500 * harness.PACE)}"


class Server:
    """Records envelopes. answer(handler) may do other than say 200."""

    def __init__(self, tls=None):
        outer = self
        self.requests, self.connections, self.status, self.headers, self.delay = [], 0, 200, {}, 0
        self.times, self.released = [], threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def setup(self):
                outer.connections += 1
                super().setup()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.times.append(time.monotonic())
                outer.requests.append((self.path, dict(self.headers), body.decode()))
                outer.released.wait(outer.delay)
                self.send_response(outer.status)
                for name, value in {"Content-Length": "0", **outer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        class Http(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that has given up

        self.http = Http(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self.scheme = "https"
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()

    def dsn(self):
        return f"{self.scheme}://{KEY}@127.0.0.1:{self.port}/sub/42"

    def events(self):
        return [json.loads(body.split("\n")[2]) for _, _, body in self.requests]

    def close(self):
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    it = Server()
    yield it
    it.close()


def reporters(parent=None):
    """Pids of whopline-report, of one parent or all of this test's binaries."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "exe") != str((harness.BIN / "whopline-report").resolve()):
                continue
            stat = (folder / "stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if stat[0] != "Z" and (parent is None or int(stat[1]) == parent):
            found.append(int(folder.name))
    return found


def group(pid):
    """Who is left of a process' group."""
    return harness.group_alive(pid)


def gone(stack, proc):
    """Its whopline-report has ended too, in time."""
    stack.eventually(lambda: not group(proc.pid), timeout=LINGERS)


def probe(stack, server, *lines, ready=True, **env):
    return stack.start("report-probe", ready=ready,
                       env={"SENTRY_DSN": server.dsn(), "PROBE": "\n".join(lines), **env})


def value(event):
    return event["exception"]["values"][0]["value"]


def kind(event):
    return event["exception"]["values"][0]["type"]


# ---- what is sent


def test_a_real_workers_dead_job_and_its_hang(stack, server):
    """The runtime's own calls: a job that dies of its error, one whose hang ends the process."""
    stack.expect_errors("msg=dead", "does not end and cannot be cancelled")
    stack.start("scheduler")
    worker = stack.start("probe", env={"SENTRY_DSN": server.dsn(), "CANCEL_GRACE_MS": 300})
    secret = test_probe.put_one(stack, "fail", "PG_DATA", 99)
    stack.eventually(lambda: [kind(event) for event in server.events()] == ["PG_DATA"])
    assert server.events()[0]["extra"]["job"] == secret + ".0"
    test_probe.put_one(stack, "hang", "hang", 1)
    worker.allowed = {-signal.SIGABRT}
    worker.wait_exit()
    stack.eventually(lambda: len(server.events()) == 2)
    assert "SIGABRT" in json.dumps(server.events()[1])
    gone(stack, worker)


def test_a_dead_job(stack, server):
    proc = probe(stack, server, "dead 1 credits.payment_succeeded PG_DATA no plan for it",
                 SENTRY_ENVIRONMENT="staging")
    stack.eventually(lambda: server.events())
    path, headers, body = server.requests[0]
    assert path == "/sub/api/42/envelope/"
    assert headers["Content-Type"] == "application/x-sentry-envelope"
    assert f"sentry_key={KEY}" in headers["X-Sentry-Auth"] and "sentry_version=7" in headers["X-Sentry-Auth"]
    head, item, payload = (json.loads(line) for line in body.rstrip("\n").split("\n"))
    assert item["type"] == "event" and item["length"] == len(body.split("\n")[2].encode())
    assert head["event_id"] == payload["event_id"] and len(head["event_id"]) == 32
    assert payload["level"] == "error" and payload["environment"] == "staging"
    assert payload["release"].startswith("whopline@")
    assert payload["tags"] == {"program": "whopline-report-probe", "kind": "credits.payment_succeeded",
                               "queue": "probe", "error": "PG_DATA", "tenant": 7}
    assert payload["extra"] == {"job": "job-0.0", "event": "default/msg_probe",
                                "reason": "no plan for it", "attempts": 3, "deliveries": 1,
                                "pid": proc.pid, "uptime_s": payload["extra"]["uptime_s"],
                                "left_out": 0, "dropped": 0}
    assert proc.sigterm() == 0
    assert not group(proc.pid)
    assert len(server.requests) == 1


@pytest.mark.parametrize("act, number, words", [
    ("abort", signal.SIGABRT, ""),
    ("require", signal.SIGABRT, "report_probe.c:"),
    ("segv", signal.SIGSEGV, ""),
    ("fpe", signal.SIGFPE, ""),
])
def test_a_crash_says_what_ran(stack, server, act, number, words):
    if "san" in harness.BIN.parts[-2] and number != signal.SIGABRT:
        pytest.skip("sanitizers end these signals in their own way")
    proc = probe(stack, server, act, ready=False)
    proc.allowed.add(-number)
    assert proc.wait_exit() == -number
    stack.eventually(lambda: server.events())
    gone(stack, proc)
    (event,) = server.events()
    assert kind(event) == signal.Signals(number).name and event["level"] == "fatal"
    assert f"ended by signal {int(number)}" in value(event) and words in value(event)
    assert event["tags"] == {"program": "whopline-report-probe", "signal": kind(event)}
    assert event["extra"]["job"] == "job-on-thread.0"
    assert event["extra"]["event"] == "default/msg_thread"
    assert event["extra"]["pid"] == proc.pid


@pytest.mark.parametrize("name", ["ingest", "journal", "scheduler"])
def test_a_killed_program_is_reported_by_name(stack, server, name):
    proc = stack.start(name, env={"SENTRY_DSN": server.dsn()})
    assert len(reporters(proc.pid)) == 1
    proc.kill9()
    stack.eventually(lambda: server.events())
    gone(stack, proc)
    (event,) = server.events()
    assert kind(event) == "vanished" and event["tags"] == {"program": f"whopline-{name}"}
    assert "was killed" in value(event)
    assert "job" not in event["extra"]


def test_a_real_program_that_aborts(stack, server):
    proc = stack.start("journal", env={"SENTRY_DSN": server.dsn()})
    proc.send(signal.SIGABRT, -signal.SIGABRT)
    assert proc.wait_exit() == -signal.SIGABRT
    stack.eventually(lambda: server.events())
    gone(stack, proc)
    assert [kind(event) for event in server.events()] == ["SIGABRT"]


def test_an_end_without_a_goodbye_is_a_crash_and_one_with_is_not(stack, server):
    left = probe(stack, server, "leave", ready=False)
    left.allowed.add(0)
    left.wait_exit()
    gone(stack, left)
    vanished = probe(stack, server, "vanish", ready=False)
    vanished.allowed.add(0)
    vanished.wait_exit()
    stack.eventually(lambda: server.events())
    gone(stack, vanished)
    assert [(kind(event), event["extra"]["pid"]) for event in server.events()] == [("vanished", vanished.pid)]


def test_the_signals_of_an_orderly_end_do_not_end_the_reporter(stack, server):
    """Ctrl-C goes to the whole group; and a second signal, which ends a program at once, is meant."""
    proc = probe(stack, server, "dead 1 a.b MALFORMED first")
    (child,) = reporters(proc.pid)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(child, number)
    proc.kill9()
    stack.eventually(lambda: len(server.events()) == 2)
    gone(stack, proc)
    assert [kind(event) for event in server.events()] == ["MALFORMED", "vanished"]


def test_a_second_signal_is_no_crash(stack, server):
    """The probe stops only when its thread has: a second signal does not wait for that."""
    proc = stack.start("report-probe", ready=False,
                       env={"SENTRY_DSN": server.dsn(), "PROBE": "sleep 60000"})
    proc.wait_log("dead jobs and crashes are reported")
    proc.send(signal.SIGTERM)
    proc.wait_log("msg=stopping")
    proc.send(signal.SIGTERM, 1)
    assert proc.wait_exit() == 1
    gone(stack, proc)
    assert server.requests == []


# ---- what is not sent


def test_without_a_dsn_there_is_nothing(stack, server):
    for name in ("ingest", "journal", "scheduler"):
        proc = stack.start(name)
        assert reporters(proc.pid) == []
        children = pathlib.Path(f"/proc/{proc.pid}/task/{proc.pid}/children").read_text(encoding="ascii")
        assert children.split() == []
    proc = stack.start("report-probe", env={"PROBE": "dead 5 a.b MALFORMED x"})
    assert reporters(proc.pid) == []
    proc.kill9()
    assert server.connections == 0


def test_no_secret_leaves(stack, server):
    stack.env["WHOP_WEBHOOK_SECRET"] = whop.SECRET
    url = "postgresql://app:hunter2@db/shop"
    proc = probe(stack, server,
                 f"dead 1 a.b PG_DATA cannot reach {url} for ann@example.com",
                 f"dead 1 a.c PG_DATA no password=hunter3 nor {whop.SECRET} nor Bearer hunter4",
                 'dead 1 a.d PG_DATA invalid input syntax for type uuid: "Ann Example"',
                 "abort", ready=False)
    proc.allowed.add(-signal.SIGABRT)
    proc.wait_exit()
    stack.eventually(lambda: len(server.events()) == 4)
    gone(stack, proc)
    wire = "".join(body for _, _, body in server.requests)
    for secret in ("hunter", "ann@", "Ann Example", whop.SECRET, KEY, stack.redis.url):
        assert secret not in wire
    assert wire.count("[scrubbed]") >= 6
    assert KEY not in proc.log() and whop.SECRET not in proc.log()


def test_the_reporter_holds_no_settings(stack, server):
    """Neither in its arguments nor in its environment, and no descriptor of its program's."""
    proc = stack.start("journal", env={"SENTRY_DSN": server.dsn()})
    (child,) = reporters(proc.pid)
    folder = pathlib.Path(f"/proc/{child}")
    assert (folder / "cmdline").read_bytes() == b"whopline-report\0whopline-journal\0"
    names = {line.split(b"=")[0].decode() for line in (folder / "environ").read_bytes().split(b"\0") if line}
    assert not names & {"SENTRY_DSN", "DATABASE_URL", "REDIS_URL", "WHOP_WEBHOOK_SECRET", "WHOP_COMPANY_ID"}
    assert KEY.encode() not in (folder / "environ").read_bytes()
    links = {int(link.name): os.readlink(link) for link in (folder / "fd").iterdir()}
    assert links[0] == links[1] == "/dev/null"
    ours = {os.readlink(link) for link in pathlib.Path(f"/proc/{proc.pid}/fd").iterdir()}
    shared = {n: to for n, to in links.items() if to.startswith("socket:") and to in ours}
    assert shared == {}


# ---- how much is sent


def test_the_same_error_is_sent_once_in_a_while_with_its_number(stack, server):
    proc = probe(stack, server, "dead 1 a.b MALFORMED x", "sleep 300", "dead 40 a.b MALFORMED x",
                 "dead 1 a.b PG_DATA x", SENTRY_REPEAT_SECONDS=int(1 + harness.PACE))
    stack.eventually(lambda: len(server.events()) == 3)
    first, other, repeated = server.events()
    assert [kind(event) for event in server.events()] == ["MALFORMED", "PG_DATA", "MALFORMED"]
    assert first["extra"]["left_out"] == other["extra"]["left_out"] == 0
    assert repeated["extra"]["left_out"] == 39
    proc.sigterm()
    assert len(server.events()) == 3


def test_no_more_than_so_many_a_minute(stack, server):
    proc = probe(stack, server, "dead 20 k# MALFORMED x", SENTRY_MAX_PER_MINUTE=4)
    stack.eventually(lambda: len(server.events()) == 4)
    proc.kill9()  # the crash is told all the same
    stack.eventually(lambda: len(server.events()) == 5)
    gone(stack, proc)
    assert [kind(event) for event in server.events()] == ["MALFORMED"] * 4 + ["vanished"]


def test_what_waits_is_sent_at_the_end(stack, server):
    proc = probe(stack, server, "dead 1 a.b MALFORMED x", "sleep 300", "dead 7 a.b MALFORMED x")
    stack.eventually(lambda: len(server.events()) == 1)
    proc.sigterm()
    assert not group(proc.pid)
    assert [event["extra"]["left_out"] for event in server.events()] == [0, 6]


# ---- servers that are not well


def test_429_is_honoured(stack, server):
    server.status, server.headers = 429, {"Retry-After": "2"}
    proc = probe(stack, server, "dead 1 a.b MALFORMED x", "sleep 500", "dead 1 a.c MALFORMED x")
    stack.eventually(lambda: len(server.requests) == 1)
    proc.wait_log("the server answered 429")
    server.status, server.headers = 200, {}
    stack.eventually(lambda: len(server.requests) == 2)
    assert server.times[1] - server.times[0] > 1.9
    assert server.events()[1]["tags"]["kind"] == "a.c"
    proc.wait_log("sending error reports again")
    proc.sigterm()
    # The refused one is not repeated.
    assert len(server.requests) == 2


def test_a_crash_while_the_server_asks_for_silence(stack, server):
    server.status, server.headers = 429, {"Retry-After": "600"}
    proc = probe(stack, server, "dead 1 a.b MALFORMED x")
    proc.wait_log("the server answered 429")
    proc.kill9()
    gone(stack, proc)
    assert len(server.requests) == 1
    assert "a crash is not reported" in proc.log()


def test_a_server_that_errs_is_named_once(stack, server):
    server.status = 500
    proc = probe(stack, server, "dead 5 k# MALFORMED x")
    stack.eventually(lambda: len(server.requests) == 5)
    proc.sigterm()
    assert proc.log().count("cannot send error reports") == 1
    assert len(server.requests) == 5


def test_a_redirect_is_not_followed(stack, server):
    server.status, server.headers = 307, {"Location": f"http://127.0.0.1:{server.port}/elsewhere"}
    proc = probe(stack, server, "dead 1 a.b MALFORMED x")
    proc.wait_log("the server answered 307")
    proc.sigterm()
    assert [path for path, _, _ in server.requests] == ["/sub/api/42/envelope/"]


def test_a_refusing_server_is_in_nobodys_way(stack):
    proc = stack.start("report-probe", env={
        "SENTRY_DSN": f"http://{KEY}@127.0.0.1:{harness.free_port()}/1", "PROBE": "dead 500 k# MALFORMED x"})
    proc.wait_log("cannot send error reports")
    assert proc.sigterm() == 0
    gone(stack, proc)
    assert proc.log().count("cannot send error reports") == 1
    assert re.search(r"errors that nobody was told of.* count=500\b", proc.log())
    assert KEY not in proc.log()


def test_a_slow_server_holds_up_neither_jobs_nor_the_end(stack, server):
    server.delay = 60
    proc = probe(stack, server, "dead 1 a.b MALFORMED x", "sleep 300", "dead 20000 k# MALFORMED x")
    took = int(proc.wait_log(r"took_ms=(\d+)").group(1))
    assert took < 300 + 2000 * harness.SLOW
    begun = time.monotonic()
    assert proc.sigterm() == 0
    assert time.monotonic() - begun < 3 * harness.SLOW
    gone(stack, proc)


def test_a_slow_server_still_hears_of_the_crash(stack, server):
    server.delay = 60
    proc = probe(stack, server, "dead 1 a.b MALFORMED x")
    stack.eventually(lambda: len(server.requests) == 1)
    proc.kill9()
    stack.eventually(lambda: len(server.requests) == 2)
    assert kind(server.events()[1]) == "vanished"
    gone(stack, proc)


def test_what_the_reporter_had_no_room_for_is_counted(stack, server):
    """A reporter that does not read fills the socket."""
    proc = probe(stack, server, BRIEFLY, "dead 3000 a.b MALFORMED x", "sleep 2000",
                 "dead 1 a.c MALFORMED x", ready=False)
    proc.wait_log("dead jobs and crashes are reported")
    (child,) = reporters(proc.pid)
    os.kill(child, signal.SIGSTOP)
    proc.wait_log("msg=did .*line=2")
    os.kill(child, signal.SIGCONT)
    stack.eventually(lambda: len(server.events()) == 2)
    proc.sigterm()
    first, second = (event["extra"] for event in server.events())
    assert first["left_out"] > 10 and second["dropped"] > 1000
    assert 2 + first["left_out"] + second["left_out"] + first["dropped"] + second["dropped"] == 3001


def test_a_certificate_that_nobody_vouches_for(stack, tmp_path):
    both = tmp_path / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    both.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "cert.pem").read_text())
    server = Server(tls=both)
    try:
        proc = probe(stack, server, "dead 1 a.b MALFORMED x")
        proc.wait_log("cannot send error reports.*(certificate|SSL)")
        proc.sigterm()
        assert server.requests == []
    finally:
        server.close()


# ---- the reporter itself


def test_a_reporter_that_dies_harms_nobody(stack, server):
    proc = probe(stack, server, BRIEFLY, "dead 3 a.b MALFORMED x", ready=False)
    proc.wait_log("dead jobs and crashes are reported")
    (child,) = reporters(proc.pid)
    os.kill(child, signal.SIGKILL)
    proc.wait_log("whopline-report is gone")
    proc.wait_log("msg=working")
    assert proc.sigterm() == 0
    assert proc.log().count("whopline-report is gone") == 1
    assert server.requests == []


def test_a_missing_reporter_is_said_and_no_reason_not_to_start(stack, server, tmp_path):
    alone = tmp_path / "whopline-report-probe"
    alone.write_bytes((harness.BIN / alone.name).read_bytes())
    alone.chmod(0o755)
    stack.bin = tmp_path
    proc = probe(stack, server, "dead 1 a.b MALFORMED x")
    assert "cannot start whopline-report" in proc.log() and "No such file" in proc.log()
    proc.sigterm()


def test_a_wrong_dsn_is_refused_at_start_and_not_shown(stack):
    proc = stack.start("journal", env={"SENTRY_DSN": f"https://{KEY}@host/"})
    proc.allowed.add(2)
    assert proc.wait_exit() == 2
    assert "SENTRY_DSN: has no project at its end" in proc.log() and KEY not in proc.log()


def test_the_reporter_by_hand():
    done = subprocess.run([harness.BIN / "whopline-report"], capture_output=True, text=True, check=False,
                          env=harness.clean_environment(), timeout=30)
    assert done.returncode == 2 and "SENTRY_DSN" in done.stderr


def test_nobody_waits_for_the_output_of_a_program_that_has_ended(server):
    """The reporter shares standard error only, and not for longer than it takes to tell."""
    env = {**harness.clean_environment(), "REDIS_URL": "redis://127.0.0.1:1", "SENTRY_DSN": server.dsn(),
           "WHOP_WEBHOOK_SECRET": whop.SECRET, "PROBE": "vanish"}
    server.delay = 60
    begun = time.monotonic()
    done = subprocess.run([*harness.DIES_WITH_US, harness.BIN / "whopline-report-probe"], env=env,
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert time.monotonic() - begun < LINGERS * harness.SLOW
    assert len(server.requests) == 1
