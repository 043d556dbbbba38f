"""HTTP/1.1 on asyncio, as little of it as is needed: keep-alive, bodies with a length or in chunks.

One request at a time on a connection, as clients of HTTP/1.1 have it. What a request means is said by
a world (whop.py); what goes wrong on the way is said by the script (script.py).
"""
import asyncio
import json
import time
from urllib.parse import parse_qsl, unquote

REASONS = {200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 401: "Unauthorized",
           402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
           408: "Request Timeout", 409: "Conflict", 422: "Unprocessable Entity", 425: "Too Early",
           429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
           503: "Service Unavailable", 504: "Gateway Timeout"}
HEAD_MAX, BODY_MAX = 65536, 16 << 20


class Bad(Exception):
    """What is no request; ends the connection."""


class Request:
    __slots__ = ("method", "path", "query", "headers", "body", "turn", "connection")

    def __init__(self, method, target, headers, body, turn, connection):
        path, _, query = target.partition("?")
        self.method, self.headers, self.body = method, headers, body
        self.path = unquote(path)
        # name -> values, in the order sent
        self.query = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            self.query.setdefault(name, []).append(value)
        self.turn, self.connection = turn, connection

    def one(self, name, fallback=None):
        values = self.query.get(name)
        return values[0] if values else fallback

    def json(self):
        """None: no body, or not JSON."""
        try:
            return json.loads(self.body) if self.body else None
        except ValueError:
            return None


class Reply:
    """body: bytes, or what JSON is made of."""

    __slots__ = ("status", "body", "headers")

    def __init__(self, status, body=None, headers=None):
        self.status, self.headers = status, headers or {}
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()

    def wire(self):
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Odd')}", "Content-Type: application/json",
                 f"Content-Length: {len(self.body)}", *(f"{k}: {v}" for k, v in self.headers.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


def parse_head(head):
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Bad(lines[0])
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise Bad(line)
        headers[name.strip().lower()] = value.strip()
    return words[0], words[1], headers


def take_chunks(data, at):
    """(body, where it ends), or None as long as some of it is missing."""
    parts = []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at:end].split(b";")[0], 16)
        if size == 0:
            end = data.find(b"\r\n", end + 2)  # no trailers
            return (b"".join(parts), end + 2) if end >= 0 else None
        if len(data) < end + 2 + size + 2:
            return None
        parts.append(bytes(data[end + 2:end + 2 + size]))
        at = end + 2 + size + 2


class Connection(asyncio.Protocol):
    def __init__(self, server, number):
        self.server, self.number = server, number
        self.data, self.turn, self.busy, self.continued = bytearray(), 0, False, False
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.server.open.add(self)

    def connection_lost(self, exc):
        self.server.open.discard(self)

    def data_received(self, data):
        self.data += data
        self.work()

    def work(self):
        try:
            while not self.busy and not self.transport.is_closing():
                request = self.take()
                if request is None:
                    return
                self.busy = True
                self.server.serve(self, request)
        except (Bad, ValueError):
            self.transport.write(Reply(400, {"error": {"type": "bad_request", "message": "not HTTP"}}).wire())
            self.transport.close()

    def take(self):
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            if len(self.data) > HEAD_MAX:
                raise Bad("head")
            return None
        method, target, headers = parse_head(bytes(self.data[:end]))
        at = end + 4
        if headers.get("expect", "").lower() == "100-continue" and not self.continued:
            self.continued = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            whole = take_chunks(self.data, at)
            if whole is None:
                return None
            body, at = whole
        else:
            length = int(headers.get("content-length") or 0)
            if length > BODY_MAX:
                raise Bad("body")
            if len(self.data) < at + length:
                return None
            body, at = bytes(self.data[at:at + length]), at + length
        del self.data[:at]
        self.turn, self.continued = self.turn + 1, False
        return Request(method, target, headers, body, self.turn, self.number)

    def answer(self, reply, close=False):
        if not self.transport.is_closing():
            self.transport.write(reply.wire())
            if close:
                self.transport.close()
        self.over()

    def cut(self, reply):
        """The head and half of the body, which its length has promised."""
        wire = reply.wire()
        self.transport.write(wire[:len(wire) - max(1, len(reply.body) // 2)])
        self.transport.close()

    def hang_up(self):
        self.transport.close()

    def over(self):
        self.busy = False
        if self.data:
            self.work()


class Server:
    def __init__(self, record, script, worlds, control):
        self.record, self.script, self.worlds, self.control = record, script, worlds, control
        self.open, self.count = set(), 0

    def connection(self):
        self.count += 1
        return Connection(self, self.count)

    def close(self):
        for connection in list(self.open):
            connection.transport.abort()

    def serve(self, connection, request):
        if request.path.startswith("/_sim/"):
            connection.answer(self.control.handle(request), self.wants_close(request))
            return
        world = next((world for world in self.worlds if world.owns(request)), None)
        call = self.record.begin(request, world)
        rule = self.script.match(request, call)
        if rule:
            call["rule"] = rule["id"]
            if rule["latency_ms"]:
                later = asyncio.get_running_loop().call_later
                later(rule["latency_ms"] / 1000, self.act, connection, request, call, world, rule)
                return
        self.act(connection, request, call, world, rule)

    def act(self, connection, request, call, world, rule):
        """The fault before the effect, the effect, and then the fault after it."""
        fault = rule["fault"] if rule else None
        if fault == "close":
            self.end(call, 0, connection.hang_up)
            return
        if fault == "answer":
            reply = self.script.reply(rule)
        elif world is None:
            reply = Reply(404, {"error": {"type": "not_found", "message": f"Nothing lives at {request.path}."}})
        else:
            reply = world.answer(request, call, stuck=bool(rule and rule["stuck"]))
        if rule and rule["reply_ms"]:
            later = asyncio.get_running_loop().call_later
            later(rule["reply_ms"] / 1000, self.finish, connection, request, call, world, reply, fault)
        else:
            self.finish(connection, request, call, world, reply, fault)

    def finish(self, connection, request, call, world, reply, fault):
        if world:
            world.settle(call)
        if fault == "drop":
            self.end(call, 0, connection.hang_up)
        elif fault == "cut":
            self.end(call, 0, lambda: connection.cut(reply))
        else:
            self.end(call, reply.status, lambda: connection.answer(reply, self.wants_close(request)))

    @staticmethod
    def wants_close(request):
        return request.headers.get("connection", "").lower() == "close"

    @staticmethod
    def end(call, status, how):
        call["status"] = status
        call["took_ms"] = int(time.monotonic() * 1000) - call["mono_ms"]
        how()
