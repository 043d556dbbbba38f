"""Things that a worker made for tests has made (tests/probe): what happens once, and what does not.

POST /things/KIND with {"key": ..} makes one. `upserts` makes none where there is one of that key; the others make
one each time, whatever the Idempotency-Key, so that a call that is repeated is seen. GET /things/KIND?key=
says which there are, as a reader would be told.
"""
from server import Reply

BASE = "/things/"
KINDS = ("upserts", "messages", "refunds")


class Things:
    NAME = "things"

    def __init__(self, record):
        self.record = record
        self.reset()

    def reset(self):
        self.all = []  # {"id", "kind", "key"}

    def state(self):
        return {"things": self.all}

    def put(self, collections):
        self.all += collections.get("things", [])
        return {"things": self.all}

    @staticmethod
    def owns(request):
        return request.path.startswith(BASE)

    @staticmethod
    def operation(request):
        return f"{request.path.removeprefix(BASE)}.{'make' if request.method == 'POST' else 'list'}"

    def settle(self, call):
        """An answer that was lost changes nothing."""

    def answer(self, request, call, stuck):
        kind = request.path.removeprefix(BASE)
        if kind not in KINDS:
            return Reply(404, {"error": {"type": "not_found", "message": f"There are {', '.join(KINDS)}."}})
        if request.method == "GET":
            key = request.one("key")
            return Reply(200, {"things": [it for it in self.all if it["kind"] == kind and it["key"] == key]})
        key = (request.json() or {}).get("key")
        if not key:
            return Reply(422, {"error": {"type": "unprocessable_entity", "message": "A thing needs a key."}})
        found = next((it for it in self.all if (it["kind"], it["key"]) == (kind, key)), None)
        if kind != "upserts" or found is None:
            found = {"id": f"thing_{len(self.all) + 1}", "kind": kind, "key": key}
            self.all.append(found)
            self.record.effect(call, f"{kind}.make", key)
        return Reply(201, found)
