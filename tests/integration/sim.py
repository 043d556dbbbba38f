"""The outside world's simulator (tests/sim) for one test: started, told what to do, and asked."""
import http.client
import json
import pathlib
import re
import subprocess
import tempfile
import urllib.parse

import whop

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEY = "apik_sim"  # a key with every permission, that is there from the start

MAIL_KEY = "re_sim_0123456789"  # likewise, of Resend


class Sim:
    """sim.url: where it listens; sim.env: the settings that lead a program of ours there."""

    def __init__(self, dies_with_us, company=whop.COMPANY, *more):
        self.company, self.log = company, tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*dies_with_us, "/usr/bin/python3", "-B", str(ROOT / "tests/sim/main.py"), "--company", company, *more],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        said = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        if not found:
            raise AssertionError(f"the simulator has not started: {said}{self.said()}")
        self.port = int(found.group(1))
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {"WHOP_API_URL": f"{self.url}/api/v1", "WHOP_OAUTH_URL": f"{self.url}/oauth",
                    "HTTP_ALLOW_PRIVATE": "true"}
        # For those whose test is about mails: without a key none is sent.
        self.mail_env = {"MAIL_API_URL": self.url, "RESEND_API_KEY": MAIL_KEY, "EMAIL_FROM": "School <school@example.com>",
                         "MAIL_RATE_PER_SECOND": "1000"}

    def said(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")

    def close(self):
        """Ends it; what was wrong with its life, as texts."""
        self.process.terminate()
        code = self.process.wait(10)
        said = self.said()
        self.process.stdout.close()
        self.log.close()
        return [f"the simulator ended with {code}\n{said}"] if code != 0 or said else []

    # ---- a plain call, as anybody could make it

    def request(self, method, path, body=None, key=None, headers=None):
        """(status, headers, body)"""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            named = {"Authorization": f"Bearer {key}"} if key else {}
            text = None if body is None else json.dumps(body)
            link.request(method, path, text, {**named, **(headers or {})})
            answer = link.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            link.close()

    def tell(self, method, what, body=None, /, **query):
        words = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        status, _, text = self.request(method, f"/_sim/{what}" + (f"?{words}" if words else ""), body)
        assert status == 200, text.decode()
        return json.loads(text)

    # ---- the world

    def reset(self):
        self.tell("POST", "reset")

    def put(self, kind, *objects):
        """Makes or changes objects of Whop's; returns them whole."""
        return self.tell("POST", "state", {"whop": {kind: objects}})["whop"][kind]

    def make(self, kind, count=1, **like):
        """Ids of so many new ones, with the users and members they need."""
        return self.tell("POST", "many", {"kind": kind, "count": count, "like": like})["ids"]

    def state(self):
        return self.tell("GET", "state")["whop"]

    def key(self, key, name, **what):
        self.tell("POST", "keys", {"key": key, "name": name, **what})

    def revoke(self, name):
        self.tell("DELETE", "keys", name=name)

    def grant(self, refresh_token, name, **what):
        self.tell("POST", "grants", {"refresh_token": refresh_token, "name": name, **what})

    def settings(self, **what):
        self.tell("POST", "settings", what)

    def emails(self):
        """The mails that Resend has taken."""
        return self.tell("GET", "state")["mail"]["emails"]

    # ---- what goes wrong, and what was received

    def rule(self, **rule):
        """tests/sim/README.md says what a rule can do; the first one that fits acts."""
        return self.tell("POST", "rules", rule)

    def rules(self):
        return self.tell("GET", "rules")["rules"]

    def clear_rules(self):
        self.tell("DELETE", "rules")

    def calls(self, **which):
        """which: method, path (a pattern), operation, credential, key, status, since"""
        return self.tell("GET", "calls", **which)["calls"]

    def effects(self, kind=None, **which):
        return self.tell("GET", "effects", kind=kind, **which)["effects"]

    def secrets(self):
        """Every secret there is or was: none of them may be found anywhere."""
        return list(self.tell("GET", "secrets"))
