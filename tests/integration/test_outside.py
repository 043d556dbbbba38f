"""Calls to the outside by slots: what becomes of them, how they end when their job is to stop, and
budgets, freezes and breakers that all processes keep."""
import http.server
import re
import threading
import time

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
