"""Resend's POST /emails: who may send, what a mail has to have, and that a key makes it once.

Taken from https://resend.com/docs/api-reference/emails/send-email, .../errors, .../rate-limit and
https://resend.com/docs/dashboard/emails/idempotency-keys. Each mail that is taken is an effect
"emails.send" whose subject is its first recipient, and is in the state as `emails`, whole.
"""
import time
import uuid

from server import Reply

PATH = "/emails"
IDEMPOTENCY_S = 24 * 3600
FIELDS = ("from", "to", "subject", "html", "text", "cc", "bcc", "reply_to", "headers", "tags")


class Refusal(Exception):
    def __init__(self, status, name, message, headers=None):
        super().__init__(message)
        self.reply = Reply(status, {"statusCode": status, "name": name, "message": message}, headers)


def address_of(text):
    """What stands between < and >, or all of it."""
    return text[text.index("<") + 1:-1] if text.endswith(">") and "<" in text else text


def is_address(text):
    if not isinstance(text, str) or any(ord(c) < 32 for c in text):
        return False
    name, _, host = address_of(text).partition("@")
    return bool(name) and "." in host and "@" not in host and not any(c in address_of(text) for c in " ,;<>")


class Mail:
    NAME = "mail"

    def __init__(self, record):
        self.record = record
        self.reset()

    def reset(self):
        self.emails, self.known, self.keys, self.spent = [], {}, {}, {}
        self.settings = {"per_second": 2}
        self.add_key("re_sim_0123456789", "resend")

    # ---- for tests

    def state(self):
        return {"emails": self.emails}

    def put(self, _collections):
        return {}

    def add_key(self, key, name):
        self.keys[key] = name
        self.record.name_secret(key, name)
        return {"name": name}

    def revoke(self, name):
        gone = [key for key, it in self.keys.items() if it == name]
        for key in gone:
            del self.keys[key]
        return len(gone)

    def change_settings(self, **wanted):
        strange = set(wanted) - set(self.settings)
        if strange:
            raise ValueError(f"no setting {', '.join(sorted(strange))}; there are {', '.join(self.settings)}")
        self.settings.update(wanted)
        return self.settings

    def forget_keys(self):
        count = len(self.known)
        self.known.clear()
        return count

    # ---- the API

    @staticmethod
    def owns(request):
        return request.path == PATH

    @staticmethod
    def operation(request):
        return "emails.send" if request.method == "POST" else ""

    def settle(self, call):
        known = self.known.get(call["idempotency_key"])
        if known and not known["stuck"]:
            known["running"] = False

    def answer(self, request, call, stuck):
        try:
            if request.method != "POST":
                raise Refusal(405, "method_not_allowed", "This endpoint is for POST.")
            self.admit(request)
            return self.send(request, call, stuck)
        except Refusal as refusal:
            return refusal.reply

    def admit(self, request):
        key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not key:
            raise Refusal(401, "missing_api_key", "Missing API Key")
        if key not in self.keys:
            raise Refusal(403, "invalid_api_key", "API key is invalid")
        if not request.headers.get("user-agent"):
            raise Refusal(403, "1010", "A User-Agent is needed.")
        second = int(time.monotonic())
        self.spent = {second: self.spent.get(second, 0) + 1}
        if 0 < self.settings["per_second"] < self.spent[second]:
            raise Refusal(429, "rate_limit_exceeded", "Too many requests.", {"retry-after": "1"})

    def send(self, request, call, stuck):
        key = request.headers.get("idempotency-key")
        if key is not None and not 1 <= len(key) <= 256:
            raise Refusal(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
        known = self.known.get(key) if key else None
        if known and time.monotonic() - known["at"] < IDEMPOTENCY_S:
            if known["body"] != request.body:
                raise Refusal(409, "invalid_idempotent_request", "Same idempotency key used with a different payload.")
            if known["running"]:
                raise Refusal(409, "concurrent_idempotent_requests", "The request is in progress.")
            call["replayed"] = True
            return known["reply"]
        reply = Reply(200, {"id": self.take(request.json(), call)})
        if key:
            self.known[key] = {"body": request.body, "reply": reply, "running": True, "stuck": stuck,
                               "at": time.monotonic()}
        return reply

    def take(self, mail, call):
        if not isinstance(mail, dict):
            raise Refusal(422, "validation_error", "The body must be a JSON object.")
        missing = [name for name in ("from", "to", "subject") if not mail.get(name)]
        if missing or not (mail.get("html") or mail.get("text")):
            raise Refusal(422, "missing_required_field", f"Missing `{(missing or ['html'])[0]}` field.")
        strange = set(mail) - set(FIELDS)
        if strange:
            raise Refusal(422, "validation_error", f"Unknown field `{sorted(strange)[0]}`.")
        to = mail["to"] if isinstance(mail["to"], list) else [mail["to"]]
        if not is_address(mail["from"]):
            raise Refusal(422, "invalid_from_address", "Invalid `from` field.")
        if len(to) > 50 or not all(is_address(one) for one in to):
            raise Refusal(422, "validation_error", "Invalid `to` field.")
        if any(c in mail["subject"] for c in "\r\n"):
            raise Refusal(422, "validation_error", "The `subject` must not contain line ends.")
        made = {"id": str(uuid.uuid4()), **mail, "to": to}
        self.emails.append(made)
        self.record.effect(call, "emails.send", to[0])
        return made["id"]
