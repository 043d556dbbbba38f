"""io/http_client against servers that misbehave: what an outcome means, that nothing is sent twice,
what is refused, and that a call can be cancelled at any moment. By whopline-http-probe."""
import email.utils
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

import harness

PROBE = harness.BIN / "whopline-http-probe"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
           b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")


class Connection:
    def __init__(self, server, sock):
        self.server, self.sock, self.buffer, self.count = server, sock, b"", 0

    def read_request(self, body=True):
        """(method, path, headers, body), or None when the peer is gone."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0)) if body else 0
        while len(self.buffer) < length:
            if not self.more():
                return None
        content, self.buffer = self.buffer[:length], self.buffer[length:]
        method, path, _ = first.split(" ")
        self.count += 1
        return method, path, headers, content

    def more(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return data

    def send(self, data):
        self.sock.sendall(data)


class Server:
    """answer(connection, request) writes what it likes; False closes the connection. Before it reads a
    request's body where whole is False."""

    def __init__(self, answer, context=None, whole=True):
        self.answer, self.context, self.whole, self.requests, self.open = answer, context, whole, [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(sock)
            self.threads.append(threading.Thread(target=self.serve, args=(sock,)))
            self.threads[-1].start()

    def serve(self, sock):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wrapped = self.context.wrap_socket(sock, server_side=True) if self.context else sock
            self.open.append(wrapped)
            connection = Connection(self, wrapped)
            while (request := connection.read_request(self.whole)) is not None:
                self.requests.append(request)
                if self.answer(connection, request) is False:
                    break
            wrapped.close()
        except OSError:
            pass
        sock.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        for sock in self.open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join()
        self.listener.close()


@pytest.fixture
def serve():
    servers = []

    def start(answer, **how):
        servers.append(Server(answer, **how))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def probe(*lines, private=True, options=(), env=None, timeout=30, meanwhile=None):
    """What came of each line. meanwhile(process): while they are on their way."""
    with subprocess.Popen([*harness.DIES_WITH_US, PROBE, *(["--private"] if private else []), *options],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**harness.clean_environment(), **(env or {})}) as process:
        try:
            if meanwhile:
                process.stdin.write("".join(f"{line}\n" for line in lines))
                process.stdin.close()
                process.stdin = None
                meanwhile(process)
                lines = ()
            said, errors = process.communicate("".join(f"{line}\n" for line in lines) or None, timeout * harness.SLOW)
        finally:
            process.kill()
    assert process.returncode in (0, 2) and not errors, f"{process.returncode} {errors}"
    return [json.loads(line) for line in said.splitlines()]


def respond(data):
    def answer(connection, _):
        connection.send(data)
    return answer


def close_after_reading(connection, request):
    """The first request of a connection is answered; after the second one it is closed."""
    if connection.count == 1:
        connection.send(OK)
        return None
    return False


# ---- what an answer is


def test_an_answer(serve):
    server = serve(respond(OK))
    got, = probe(f"POST {server.url}/a?b=c body=content header=Content-Type:+application/json header=X-A:+1")
    assert (got["outcome"], got["status"], got["body"], got["retry_after_ms"]) == ("answered", 200, "hello", -1)
    (method, path, headers, body), = server.requests
    assert (method, path, body) == ("POST", "/a?b=c", b"content")
    assert headers["content-type"] == "application/json" and headers["x-a"] == "1"
    assert headers["user-agent"].startswith("whopline/") and "expect" not in headers


@pytest.mark.parametrize("line, seen", [
    ("GET", ("GET", b"", None)), ("DELETE", ("DELETE", b"", None)), ("POST body=", ("POST", b"", "0")),
    ("PUT body=xy", ("PUT", b"xy", "2")), ("PATCH body=xy", ("PATCH", b"xy", "2")),
    ("POST zeros=300000", ("POST", b"0" * 300000, "300000"))])
def test_methods(serve, line, seen):
    server = serve(respond(OK))
    method, _, rest = line.partition(" ")
    got, = probe(f"{method} {server.url}/ {rest}")
    (method, _, headers, body), = server.requests
    assert got["outcome"] == "answered" and (method, body, headers.get("content-length")) == seen
    assert "content-type" not in headers and "transfer-encoding" not in headers


def test_nothing_of_a_call_stays_for_the_next(serve):
    """Handles of calls that went well are used again."""
    server = serve(respond(OK.replace(b"Content", b"Retry-After: 7\r\nIdempotent-Replayed: true\r\nContent")))
    plain = serve(respond(OK))
    lines = [f"POST {server.url}/a body=secret header=X-Key:+secret", "wait", f"GET {plain.url}/b", "wait",
             f"PUT {plain.url}/c zeros=100000", "wait", f"DELETE {plain.url}/d", "wait", f"POST {plain.url}/e body="]
    got = probe(*lines)
    assert [it["outcome"] for it in got] == ["answered"] * 5
    assert [(it["retry_after_ms"], it["replayed"]) for it in got] == [(7000, True)] + [(-1, False)] * 4
    assert [(it[0], it[1], len(it[3])) for it in server.requests + plain.requests] == [
        ("POST", "/a", 6), ("GET", "/b", 0), ("PUT", "/c", 100000), ("DELETE", "/d", 0), ("POST", "/e", 0)]
    assert [headers.get("content-length") for _, _, headers, _ in plain.requests] == [None, "100000", None, "0"]
    assert not any("x-key" in headers for _, _, headers, _ in plain.requests)


@pytest.mark.parametrize("data, body", [
    (CHUNKED, "hello"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
    (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, "hello"),
    (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", "{}")])
def test_forms_of_answers(serve, data, body):
    server = serve(respond(data))
    got, = probe(f"GET {server.url}/")
    assert (got["outcome"], got["body"]) == ("answered", body)


def test_an_answer_that_ends_with_its_connection(serve):
    server = serve(lambda connection, _: connection.send(b"HTTP/1.1 200 OK\r\n\r\nhello") or False)
    got, = probe(f"GET {server.url}/")
    assert (got["outcome"], got["body"]) == ("answered", "hello")


def test_redirects_are_answers(serve):
    server = serve(respond(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"))
    got, = probe(f"GET {server.url}/")
    assert (got["outcome"], got["status"], len(server.requests)) == ("answered", 302, 1)


def in_a_minute():
    return email.utils.formatdate(time.time() + 60, usegmt=True)


@pytest.mark.parametrize("value, least, most", [
    ("7", 7000, 7000), ("0", 0, 0), (in_a_minute, 50000, 60000), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ("soon", -1, -1), ("", -1, -1), ("-5", -1, 0), ("9" * 30, 604800000, 604800000)])
def test_retry_after(serve, value, least, most):
    value = value() if callable(value) else value
    server = serve(respond(f"HTTP/1.1 429 Slow\r\nretry-after: {value}\r\nContent-Length: 0\r\n\r\n".encode()))
    got, = probe(f"GET {server.url}/")
    assert got["status"] == 429 and least <= got["retry_after_ms"] <= most


def test_replayed(serve):
    server = serve(respond(OK.replace(b"Content", b"Idempotent-Replayed: true\r\nContent")))
    assert probe(f"POST {server.url}/ body=x")[0]["replayed"] is True


def test_the_environments_proxy_is_not_used(serve):
    server = serve(respond(OK))
    dead = "http://127.0.0.1:1"
    got, = probe(f"GET {server.url}/", env={"http_proxy": dead, "HTTP_PROXY": dead, "ALL_PROXY": dead})
    assert got["outcome"] == "answered"


# ---- sent once


@pytest.mark.parametrize("line", ["POST {} body=payment", "POST {} body=", "GET {}", "DELETE {}",
                                  "PATCH {} zeros=200000", "PUT {} body=x"])
def test_a_kept_connection_closed_after_reading(serve, line):
    server = serve(close_after_reading)
    first, second = probe(f"GET {server.url}/first", "wait 50", line.format(server.url + "/second"))
    assert first["outcome"] == "answered" and second["outcome"] == "lost"
    assert [path for _, path, _, _ in server.requests] == ["/first", "/second"]


def test_a_kept_connection_closed_before(serve):
    """Nothing was sent on it, so a new one is made."""
    server = serve(lambda connection, _: connection.send(OK) or False)
    both = probe(f"GET {server.url}/first", "wait 200", f"POST {server.url}/second body=x")
    assert [it["outcome"] for it in both] == ["answered", "answered"]
    assert [path for _, path, _, _ in server.requests] == ["/first", "/second"]


@pytest.mark.parametrize("whole, last", [(OK, len(OK) - 1), (CHUNKED, len(CHUNKED) - 2)])
@pytest.mark.parametrize("line", ["GET {}", "POST {} body=x"])
def test_answers_cut_at_every_byte(serve, whole, last, line):
    """last: the longest cut that is one. Of the last chunk libcurl does not need the very last byte."""
    def answer(connection, request):
        connection.send(whole[:int(request[1][1:])])
        return False

    server = serve(answer)
    got = probe(*(line.format(f"{server.url}/{cut}") for cut in [*range(last + 1), len(whole)]))
    assert [it["outcome"] for it in got] == ["lost"] * (last + 1) + ["answered"]
    assert {it["body"] for it in got[:-1]} == {""} and len(server.requests) == last + 2


def test_an_announced_answer_that_does_not_come(serve):
    server = serve(lambda connection, _: connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n") or False)
    assert probe(f"POST {server.url}/ body=x")[0]["outcome"] == "lost"


def test_a_reset_is_lost(serve):
    def answer(connection, _):
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return False

    server = serve(answer)
    got = probe(f"POST {server.url}/ body=x", f"GET {server.url}/")
    assert [it["outcome"] for it in got] == ["lost", "lost"] and len(server.requests) == 2


@pytest.mark.parametrize("data", [b"nonsense\r\n\r\n", b"HTTP/1.1 999999\r\n\r\n", b"\0" * 100, b"HTTP/0.9"])
def test_nonsense_is_no_answer(serve, data):
    server = serve(lambda connection, _: connection.send(data) or False)
    assert probe(f"POST {server.url}/ body=x")[0]["outcome"] == "lost"


def test_sizes_are_bounded(serve):
    def answer(connection, request):
        size = int(request[1][1:])
        if size < 0:
            connection.send(b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * -size + b"Content-Length: 0\r\n\r\n")
        else:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

    server = serve(answer)
    got = probe(f"GET {server.url}/1000 max=1000", f"GET {server.url}/1001 max=1000",
                f"GET {server.url}/-100", f"GET {server.url}/-10000")
    assert [it["outcome"] for it in got] == ["answered", "lost", "answered", "lost"]
    assert "larger" in got[1]["why"] and not got[1]["body"]


# ---- not begun


@pytest.mark.parametrize("then", ["POST http://127.0.0.1:1/ body=x", "GET http://127.0.0.1:1/",
                                  "GET http://no-such-host.invalid/", "DELETE {}/ cancel=0"])
def test_after_a_call_that_went_well(serve, then):
    """What that one has sent is not taken for this one's; and a handle that failed is not used again."""
    server, mute = serve(respond(OK)), socket.create_server(("127.0.0.1", 0), backlog=0)
    with mute, socket.create_connection(mute.getsockname()):  # nobody else gets a connection
        line = then.format(f"http://127.0.0.1:{mute.getsockname()[1]}")
        went = f"POST {server.url}/ body=x"
        got = probe(went, "wait", line, "wait", went, "wait", line, "wait", went)
    assert [it["outcome"] for it in got] == ["answered", "not begun", "answered", "not begun", "answered"]
    assert len(server.requests) == 3


def test_what_cannot_be_reached(serve):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        got = probe(f"POST http://127.0.0.1:{port}/?key=secret body=x",
                    "POST http://no-such-host.invalid/?key=secret body=x",
                    "POST ftp://127.0.0.1/?key=secret body=x", "GET file:///etc/passwd", "GET http://",
                    "POST http://[::1/?key=secret body=x")
    assert {it["outcome"] for it in got} == {"not begun"} and {it["code"] for it in got} == {"HTTP_NOT_SENT"}
    assert "secret" not in json.dumps(got) and all(it["why"] for it in got)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]",
                                  "2130706433", "10.1.2.3", "169.254.169.254", "[fd00::1]"])
def test_private_addresses_are_refused(serve, host):
    server = serve(respond(OK))
    got, = probe(f"POST http://{host}:{server.port}/ body=x timeout=3000", private=False)
    assert got["outcome"] == "not begun" and not server.requests
    assert "HTTP_ALLOW_PRIVATE" in got["why"] or "[" in host, got  # a machine may have no IPv6


def test_a_port_that_does_not_answer():
    """Its queue is full, so that the kernel drops what comes."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        time.sleep(0.1)
        got = probe(f"POST {url}/ body=x", f"POST {url}/ body=x cancel=100", f"POST {url}/ body=x timeout=150",
                    options=["--connect", "400"])
        for filler in fillers:
            filler.close()
    assert [it["outcome"] for it in got] == ["not begun"] * 3
    assert [it["cancelled"] for it in got] == [False, True, False] and 300 < got[0]["took_ms"] < 2000


# ---- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")

    def run(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
        "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA")
    for name, subject, days in (("good", "IP:127.0.0.1", 2), ("other", "DNS:example.org", 2)):
        (folder / f"{name}.ext").write_text(f"subjectAltName={subject}\n")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", str(days), "-extfile", f"{name}.ext")
    return folder


def server_context(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


@pytest.mark.parametrize("name, trusted, outcome", [
    ("good", True, "answered"), ("good", False, "not begun"), ("other", True, "not begun")])
def test_certificates_are_verified(serve, certificates, name, trusted, outcome):
    server = serve(respond(OK), context=server_context(certificates, name))
    options = ["--ca", str(certificates / "ca.pem")] if trusted else []
    got, = probe(f"POST {server.url}/ body=x", options=options)
    assert got["outcome"] == outcome and bool(server.requests) == (outcome == "answered")
    assert outcome == "answered" or "certificate" in got["why"]


def test_a_kept_tls_connection_closed_after_reading(serve, certificates):
    server = serve(close_after_reading, context=server_context(certificates, "good"))
    first, second = probe(f"GET {server.url}/first", "wait 50", f"POST {server.url}/second body=x",
                          options=["--ca", str(certificates / "ca.pem")])
    assert (first["outcome"], second["outcome"], len(server.requests)) == ("answered", "lost", 2)


def test_a_tls_answer_without_its_end(serve, certificates):
    """Cut without close_notify: anybody on the way could do that."""
    def answer(connection, _):
        connection.send(OK[:-2])
        os.close(connection.sock.detach())
        return False

    server = serve(answer, context=server_context(certificates, "good"))
    got, = probe(f"GET {server.url}/", options=["--ca", str(certificates / "ca.pem")])
    assert got["outcome"] == "lost"


def test_a_server_that_does_not_greet(serve):
    """It takes the connection and says nothing: TLS never begins."""
    server = serve(lambda *_: time.sleep(3))
    got, = probe(f"POST https://127.0.0.1:{server.port}/ body=x", options=["--connect", "300"])
    assert got["outcome"] == "not begun" and got["took_ms"] < 2000


def test_a_ca_file_that_is_not_there():
    got, = probe("GET http://127.0.0.1/", options=["--ca", "/no/such/file"])
    assert got["code"] == "CONFIG" and "/no/such/file" in got["why"]


# ---- time and cancelling


def test_a_slow_answer(serve):
    server = serve(lambda *_: time.sleep(1.5))
    got = probe(f"POST {server.url}/ body=x timeout=200", f"GET {server.url}/ timeout=200")
    assert [it["outcome"] for it in got] == ["lost", "lost"] and all(it["took_ms"] < 1000 for it in got)
    assert "timed out" in got[0]["why"].lower()


def test_cancelled_while_waiting_sending_and_reading(serve):
    stuck, begun, cancelled = threading.Event(), [], []

    def answer(connection, request):
        # A call with a body has begun when the first byte of that is here.
        if request[0] == "POST" and not connection.buffer and not connection.more():
            return False
        if request[1] == "/reading":
            connection.send(OK[:-2])
        if request[1] != "/at-once":
            begun.append(request[:2])
        stuck.wait(30 * harness.SLOW)
        return False

    def cancel(process):
        harness.eventually(lambda: len(begun) == 4, 20)
        process.send_signal(signal.SIGUSR1)
        cancelled.append(time.monotonic())

    server = serve(answer, whole=False)
    late = "timeout=60000 cancel=signal"
    got = probe(f"POST {server.url}/waiting body=x {late}", f"POST {server.url}/sending zeros=20000000 {late}",
                f"POST {server.url}/reading body=x {late}", f"GET {server.url}/waiting {late}",
                f"GET {server.url}/at-once cancel=0", meanwhile=cancel)
    assert time.monotonic() - cancelled[0] < 2 * harness.SLOW
    stuck.set()
    assert [it["outcome"] for it in got[:4]] == ["lost"] * 4 and all(it["cancelled"] for it in got)
    assert got[4]["outcome"] in ("lost", "not begun")  # whichever was first


def test_closed_with_calls_in_flight(serve):
    server = serve(lambda *_: time.sleep(1))
    got = probe(*[f"POST {server.url}/ body=x"] * 20, "POST http://no-such-host.invalid/ body=x", "close")
    assert len(got) == 21 and all(it["cancelled"] for it in got[:20])
    assert got[20]["outcome"] == "not begun"  # whichever was first


def test_two_hundred_at_once(serve):
    def answer(connection, request):
        time.sleep(0.05)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(request[1]), request[1].encode()))

    server = serve(answer)
    paths = [f"/n{i}" for i in range(200)]
    got = probe(*(f"POST {server.url}{path} body=x" for path in paths), "wait",
                *(f"GET {server.url}{path}" for path in paths))
    assert [it["body"] for it in got] == paths + paths
    assert sorted(path for method, path, _, _ in server.requests if method == "POST") == sorted(paths)
    assert len(server.requests) == 400


@pytest.mark.parametrize("line", ["X-A:+1^X-B:+2", "X-A:+1~X-B:+2", "X-A:+1~^", "X-A:+1^^body", "Authorization:+Bearer+hidden^"])
def test_no_header_begins_another(serve, line):
    server = serve(lambda connection, request: connection.send(OK))
    got = probe(f"POST {server.url}/ body=x header={line}", "wait", f"GET {server.url}/", f"GET {server.url}/ header={line}", "close")
    assert [it["outcome"] for it in got][::2] == ["not begun", "not begun"] and "line end" in got[0]["why"], got
    assert [method for method, *_ in server.requests] in (["GET"], []) and "hidden" not in json.dumps(got)


def test_no_texts_with_secrets(serve):
    server = serve(lambda *_: False)
    got = probe(f"POST {server.url}/?token=hidden body=hidden header=Authorization:+Bearer+hidden")
    assert got[0]["outcome"] == "lost" and not re.search("hidden", json.dumps(got))
