"""What was received and what it did: every call, every effect, and every secret ever handed out.

Secrets are in secrets() only, for tests that look for them where they must not be; a call names its
credential instead, and a body's secret members are replaced.
"""
import collections
import fnmatch
import time

CALLS_MAX = 500_000
SECRET_MEMBERS = ("refresh_token", "access_token", "client_secret", "token", "code", "code_verifier")
HIDDEN_HEADERS = ("authorization", "cookie")


class Record:
    def __init__(self):
        self.names = {}  # secret -> what it is called
        self.number = 0
        self.clear()

    def clear(self):
        self.calls, self.effects = collections.deque(maxlen=CALLS_MAX), []

    def name_secret(self, secret, name):
        self.names[secret] = name

    def begin(self, request, world):
        self.number += 1
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        body = request.json()
        call = {
            "number": self.number, "mono_ms": int(time.monotonic() * 1000), "wall_ms": int(time.time() * 1000),
            "method": request.method, "path": request.path, "query": request.query,
            "headers": {k: v for k, v in request.headers.items() if k not in HIDDEN_HEADERS},
            "credential": self.names.get(bearer, "unknown" if bearer else ""),
            "body": self.masked(body) if body is not None else request.body.decode("utf-8", "replace"),
            "idempotency_key": request.headers.get("idempotency-key", ""),
            "connection": request.connection, "turn": request.turn,
            "operation": world.operation(request) if world else "", "effects": [], "replayed": False,
            "rule": None, "status": None, "took_ms": None,
        }
        self.calls.append(call)
        return call

    def masked(self, body):
        if not isinstance(body, dict):
            return body
        return {name: f"({self.names.get(value, 'unknown')})"
                if name in SECRET_MEMBERS and isinstance(value, str) else value for name, value in body.items()}

    def effect(self, call, kind, subject):
        call["effects"].append(kind)
        self.effects.append({"kind": kind, "subject": subject, "call": call["number"],
                             "credential": call["credential"], "mono_ms": int(time.monotonic() * 1000)})

    def find_calls(self, method=None, path=None, operation=None, credential=None, key=None, status=None, since=0):
        """path is a pattern; since: only calls with a greater number."""
        return [call for call in self.calls
                if call["number"] > since and method in (None, call["method"])
                and operation in (None, call["operation"]) and credential in (None, call["credential"])
                and key in (None, call["idempotency_key"]) and status in (None, call["status"])
                and (path is None or fnmatch.fnmatchcase(call["path"], path))]

    def find_effects(self, kind=None, subject=None):
        return [effect for effect in self.effects
                if kind in (None, effect["kind"]) and subject in (None, effect["subject"])]
